"""What applying manifests would change in a cluster, field by field."""

from __future__ import annotations

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
_LONGEST = 60  # characters of a value in the text
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


class ManifestDiff(Sequence["ObjectChange"]):
    """The changes to each object; shows itself as a table.

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
                lines += [f"            {row.path}: {_short(row.old)} → {_short(row.new)}" for row in one.fields]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        left = 'style="text-align: left"'
        head = "".join(f"<th {left}>{title}</th>" for title in ("", "now", "then"))
        body = "".join(_rows(one, left) for one in self._changes)
        return (
            f"<strong>{escape(self._head)}</strong>"
            f'<table class="mlnb-diff"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        )


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _rows(one: ObjectChange, left: str) -> str:
    title = f'<tr class="mlnb-section"><th colspan="3" {left}>{one.action} {escape(f"{one.kind} {one.name}")}</th></tr>'
    return title + "".join(
        "<tr>" + "".join(f"<td {left}>{escape(_short(text))}</td>" for text in (row.path, row.old, row.new)) + "</tr>"
        for row in one.fields
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
