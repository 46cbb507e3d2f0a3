"""What applying manifests would change in a cluster, field by field."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Literal, overload

from mlnb.packaging.cluster_objects import APPLIED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlnb.packaging.cluster_objects import Manifest

__all__ = ["FieldChange", "ManifestDiff", "ObjectChange", "compare"]

_NONE = "-"
_HIDDEN = "(hidden)"
_LONGEST = 60  # characters of a value that are shown
_LONGEST_PATH = 44  # characters of a path that are shown
_BEFORE = 20  # characters that are shown before what differs in long values
_FIRST = ("image", "replicas", "minReplicas", "maxReplicas", "metrics", "resources", "args", "command", "env", "ports")
_LABEL = re.compile(r"(^|\.)metadata\.(labels|annotations)\.")
_LEFT = 'style="text-align: left"'
_SERVER_METADATA = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid")
_SERVER_ANNOTATIONS = (APPLIED, "deployment.kubernetes.io/revision", "autoscaling.alpha.kubernetes.io/conditions",
                       "autoscaling.alpha.kubernetes.io/current-metrics")  # fmt: skip
_SECRET_FIELDS = ("data", "stringData")


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field that would be another one.

    Attributes
    ----------
    path : str
        For instance ``"spec.template.spec.containers[model].image"``.
    old, new : str
        "-" where there is none; secrets are hidden.
    """

    path: str
    old: str
    new: str

    @property
    def short_path(self) -> str:
        """The path with its middle left out where it is long.

        Examples
        --------
        >>> FieldChange("spec.template.spec.containers[model].resources.limits.memory", "1Gi", "2Gi").short_path
        'spec…resources.limits.memory'
        """
        if len(self.path) <= _LONGEST_PATH:
            return self.path
        first = self.path.partition(".")[0][:_BEFORE]
        last = self.path[len(first) + 1 - _LONGEST_PATH :]
        return f"{first}…{last[last.find('.') + 1 :]}"

    @property
    def short_values(self) -> tuple[str, str]:
        """Both values, of long ones the part where they differ.

        Examples
        --------
        >>> FieldChange("spec.replicas", "1", "2").short_values
        ('1', '2')
        """
        if max(len(self.old), len(self.new)) <= _LONGEST:
            return self.old, self.new
        pairs = enumerate(zip(self.old, self.new, strict=False))
        start = next((at for at, (one, other) in pairs if one != other), 0) - _BEFORE
        old, new = (text if start <= 0 else f"…{text[start:]}" for text in (self.old, self.new))
        return _short(old), _short(new)


@dataclass(frozen=True, slots=True)
class ObjectChange:
    """What would happen to one object.

    Attributes
    ----------
    kind, name : str
    action : str
        ``"create"``, ``"change"``, ``"delete"`` or ``"keep"``.
    fields : tuple of FieldChange
    """

    kind: str
    name: str
    action: Literal["create", "change", "delete", "keep"]
    fields: tuple[FieldChange, ...] = ()

    @property
    def main(self) -> tuple[FieldChange, ...]:
        """The fields but for labels and annotations, those that matter most first."""
        return tuple(sorted((row for row in self.fields if not _LABEL.search(row.path)), key=_rank))

    @property
    def labels(self) -> tuple[FieldChange, ...]:
        """Labels and annotations."""
        return tuple(row for row in self.fields if _LABEL.search(row.path))

    @property
    def labels_said(self) -> str:
        """How many labels and annotations there are, in words; "" if there is none."""
        count, begun = len(self.labels), "and " if self.main else ""
        return f"{begun}{count} {'label or annotation' if count == 1 else 'labels and annotations'}" if count else ""


class ManifestDiff(Sequence["ObjectChange"]):
    """The changes to each object; shows itself as a list of them, with their fields.

    Parameters
    ----------
    context, namespace : str
        Where.
    changes : tuple of ObjectChange
    """

    def __init__(self, context: str, namespace: str, changes: tuple[ObjectChange, ...]) -> None:
        self.context = context
        self.namespace = namespace
        self._changes = changes

    def __len__(self) -> int:
        return len(self._changes)

    @overload
    def __getitem__(self, index: int) -> ObjectChange: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ObjectChange, ...]: ...
    def __getitem__(self, index: int | slice) -> ObjectChange | tuple[ObjectChange, ...]:
        return self._changes[index]

    @property
    def changed(self) -> bool:
        """Whether anything would be."""
        return any(one.action != "keep" for one in self._changes)

    @property
    def _head(self) -> str:
        counted = [(word, sum(one.action == word for one in self)) for word in ("create", "change", "delete", "keep")]
        said = ", ".join(f"{count} to {word}" for word, count in counted if count)
        return f"context {self.context}, namespace {self.namespace}: {said or 'nothing'}"

    def __repr__(self) -> str:
        lines = [self._head]
        for one in self._changes:
            lines.append(f"  {one.action:6}  {one.kind} {one.name}")
            if one.action == "change":
                lines += [f"            {line}" for line in _lines(one)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<strong>{escape(self._head)}</strong>{''.join(map(_object, self._changes))}"


def _rank(row: FieldChange) -> int:
    parts = re.split(r"[.\[]", row.path)
    return min((place for place, name in enumerate(_FIRST) if name in parts), default=len(_FIRST))


def _short(text: str) -> str:
    """Leave out the middle of a long text: the end of an image's name is its version."""
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[: half - 1]}…{text[-half:]}"


def _lines(one: ObjectChange) -> Iterator[str]:
    """Write the fields of an object that changes, a line each."""
    for row in one.main:
        old, new = row.short_values
        yield f"{row.short_path}: {old} → {new}"
    if one.labels:
        yield one.labels_said


def _object(one: ObjectChange) -> str:
    """Return an object as HTML; only what changes is unfolded."""
    title = f"{one.action} {escape(f'{one.kind} {one.name}')}"
    if one.action in ("keep", "delete"):
        return f"<div>{title}</div>"
    labels = f"<details><summary>{one.labels_said}</summary>{_table(one, one.labels)}</details>" if one.labels else ""
    unfolded = " open" * (one.action == "change")
    return f"<details{unfolded}><summary>{title}</summary>{_table(one, one.main)}{labels}</details>"


def _table(one: ObjectChange, fields: Sequence[FieldChange]) -> str:
    """Return fields as rows; what is new has no column of what it was."""
    if not fields:
        return ""
    titles = ("", "then") if one.action == "create" else ("", "now", "then")
    head = "".join(f"<th {_LEFT}>{title}</th>" for title in titles)
    body = "".join(f"<tr>{_cells(row, new=one.action == 'create')}</tr>" for row in fields)
    return f'<table class="mlnb-diff"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _cells(row: FieldChange, *, new: bool) -> str:
    old, then = row.short_values
    pairs = [(row.short_path, row.path), (old, row.old), (then, row.new)]
    return "".join(
        f'<td {_LEFT} title="{escape(whole)}">{escape(text)}</td>'
        if text != whole
        else f"<td {_LEFT}>{escape(text)}</td>"
        for text, whole in (pairs[::2] if new else pairs)
    )


def compare(live: Mapping[str, Any] | None, planned: Mapping[str, Any] | None) -> ObjectChange:
    """Return what becomes of an object.

    Parameters
    ----------
    live : dict or None
        As it is in the cluster; None: it is not there.
    planned : dict or None
        As the server says it would be after a dry run, or its manifest where it is new; None: it goes.

    Examples
    --------
    >>> iris = {"kind": "Deployment", "metadata": {"name": "iris"}, "spec": {"replicas": 1}}
    >>> compare(iris, iris | {"spec": {"replicas": 2}}).fields
    (FieldChange(path='spec.replicas', old='1', new='2'),)
    """
    one = planned or live or {}
    kind, name = str(one["kind"]), str(one["metadata"]["name"])
    if planned is None:
        return ObjectChange(kind, name, "delete")
    old, new = ({} if side is None else dict(_leaves(_settings(side))) for side in (live, planned))
    fields = tuple(
        FieldChange(path, *_texts(path, old, new, secret=kind == "Secret"))
        for path in dict.fromkeys([*old, *new])
        if old.get(path) != new.get(path)
    )
    if live is None:
        return ObjectChange(kind, name, "create", fields)
    return ObjectChange(kind, name, "change" if fields else "keep", fields)


def _texts(path: str, old: Mapping[str, str], new: Mapping[str, str], *, secret: bool) -> tuple[str, str]:
    hidden = secret and path.partition(".")[0] in _SECRET_FIELDS
    before, after = (_HIDDEN if hidden and path in side else side.get(path, _NONE) for side in (old, new))
    return before, after


def _settings(live: Mapping[str, Any]) -> Manifest:
    """Leave out what the server keeps for itself."""
    kept = {key: value for key, value in live.items() if key not in ("apiVersion", "kind", "status")}
    metadata = {key: value for key, value in live["metadata"].items() if key not in _SERVER_METADATA}
    annotations = metadata.get("annotations") or {}
    metadata["annotations"] = {key: value for key, value in annotations.items() if key not in _SERVER_ANNOTATIONS}
    return kept | {"metadata": metadata}


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{inner.get('name', index)}]")
    elif value not in ({}, [], None):
        yield path, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
