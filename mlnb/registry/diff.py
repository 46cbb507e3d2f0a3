"""What differs between two versions of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, overload

from mlnb.registry.proofs.golden import disagreements
from mlnb.registry.tables import format_delta, format_size, format_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlnb.registry.proofs.golden import GoldenRows
    from mlnb.registry.proofs.proof import Proof
    from mlnb.registry.signature import Field, Signature
    from mlnb.registry.version import ModelVersion

__all__ = ["Change", "Subject", "VersionDiff", "compare"]

_NONE = "-"


@dataclass(frozen=True, slots=True)
class Subject:
    """A version with what else is known of it."""

    version: ModelVersion
    proof: Proof | None
    golden: GoldenRows | None


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs.

    Attributes
    ----------
    section : str
        ``model``, ``metrics``, ``parameters``, ``schema``, ``golden answers`` or ``requirements``.
    name : str
    old, new : str
        "-" where there is none.
    delta : str
        The difference of two numbers, signed; else "".
    """

    section: str
    name: str
    old: str
    new: str
    delta: str = ""


class VersionDiff(Sequence["Change"]):
    """The changes from one version to another; shows itself as a table.

    Parameters
    ----------
    old, new : ModelVersion
    changes : tuple of Change
    """

    def __init__(self, old: ModelVersion, new: ModelVersion, changes: tuple[Change, ...]) -> None:
        self.old = old
        self.new = new
        self._changes = changes

    def __len__(self) -> int:
        return len(self._changes)

    @overload
    def __getitem__(self, index: int) -> Change: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Change, ...]: ...
    def __getitem__(self, index: int | slice) -> Change | tuple[Change, ...]:
        return self._changes[index]

    def __repr__(self) -> str:
        head = f"{self.old} → {self.new}"
        if not self._changes:
            return f"{head}: no difference"
        rows = [(one.section, one.name, one.old, one.new, one.delta) for one in self._changes]
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([head, *lines])

    def _repr_html_(self) -> str:
        title = f"<strong>{escape(str(self.old))} → {escape(str(self.new))}</strong>"
        if not self._changes:
            return f"<p>{title}: no difference</p>"
        left, right = 'style="text-align: left"', 'style="text-align: right; font-variant-numeric: tabular-nums"'
        titles = "".join(f"<th {left}>{title}</th>" for title in ("", f"v{self.old.number}", f"v{self.new.number}"))
        head = f"{titles}<th {right}>change</th>"
        body = []
        for at, one in enumerate(self._changes):
            if at == 0 or self._changes[at - 1].section != one.section:
                body.append(f'<tr class="mlnb-section"><th colspan="4" {left}>{escape(one.section)}</th></tr>')
            cells = "".join(f"<td {left}>{escape(text)}</td>" for text in (one.name, one.old, one.new))
            body.append(f"<tr>{cells}<td {right}>{escape(one.delta)}</td></tr>")
        return f'{title}<table class="mlnb-diff"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'


def compare(old: Subject, new: Subject) -> VersionDiff:
    """Return what differs, section by section."""
    first, second = old.version, new.version
    changes = [
        *_texts("model", _facts(first), _facts(second)),
        *_sizes(first.size, second.size),
        *_metrics(first.metrics, second.metrics),
        *_parameters(first, second),
        *_texts("schema", _schema(first.signature), _schema(second.signature)),
        *_golden(old.golden, new.golden),
        *_requirements(old, new),
    ]
    return VersionDiff(first, second, tuple(changes))


def _texts(section: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Change]:
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) != new.get(name):
            yield Change(section, name, old.get(name, _NONE), new.get(name, _NONE))


def _facts(version: ModelVersion) -> dict[str, str]:
    return {
        "created": format_time(version.created),
        "description": version.description,
        "type": version.model_type,
        "format": version.format,
        "commit": version.lineage.get("commit", _NONE)[:12] + (" + changes" if version.lineage.get("dirty") else ""),
        "example data": version.lineage.get("example", _NONE)[:12],
    }


def _sizes(old: int, new: int) -> Iterator[Change]:
    if old != new:
        sign = "+" if new > old else "-"
        yield Change("model", "size", format_size(old), format_size(new), f"{sign}{format_size(abs(new - old))}")


def _metrics(old: Mapping[str, float], new: Mapping[str, float]) -> Iterator[Change]:
    for name in dict.fromkeys([*old, *new]):
        before, after = old.get(name), new.get(name)
        if before is None or after is None:
            shown = [_NONE if value is None else f"{value:.6g}" for value in (before, after)]
            yield Change("metrics", name, *shown)
        elif before != after:
            yield Change("metrics", name, f"{before:.6g}", f"{after:.6g}", format_delta(after - before))


def _parameters(old: ModelVersion, new: ModelVersion) -> Iterator[Change]:
    """Compare all parameters of two models of one type; of two types only those that both have."""
    before, after = old.parameters, new.parameters
    if old.model_type != new.model_type:
        counts = (f"{len(one)} in all" for one in (before, after))
        yield Change("parameters", "of other types, shared ones compared", *counts)
        shared = before.keys() & after.keys()
        before, after = ({name: value for name, value in one.items() if name in shared} for one in (before, after))
    yield from _texts("parameters", before, after)


def _schema(signature: Signature) -> dict[str, str]:
    described = {"rows": signature.container, "labels": ", ".join(map(str, signature.labels or ())) or _NONE}
    return described | {field.name: _described(field) for field in signature.fields}


def _described(field: Field) -> str:
    parts = [field.dtype or field.kind]
    if field.minimum is not None and field.maximum is not None:
        parts.append(f"{field.minimum:.4g} to {field.maximum:.4g}")
    if field.categories:
        parts.append(f"{len(field.categories)} categories")
    return ", ".join([*parts, "may be missing"] if field.nullable else parts)


def _golden(old: GoldenRows | None, new: GoldenRows | None) -> Iterator[Change]:
    if old is None and new is None:
        return
    if old is None or new is None or old.rows != new.rows:
        shown = [_NONE if one is None else f"{len(one.rows)} rows" for one in (old, new)]
        yield Change("golden answers", "other rows, so not compared", *shown)
        return
    wrong = disagreements(old, new)
    if wrong:
        yield Change("golden answers", f"of {len(old.rows)} rows", _NONE, f"{len(wrong)} answered differently")


def _requirements(old: Subject, new: Subject) -> Iterator[Change]:
    """Compare what the proofs traced, or where one has none, what the models were registered with."""
    subjects = (old, new)
    if all(one.proof is not None and one.proof.requirements for one in subjects):
        pinned = [
            dict(text.split("==") for text in one.proof.requirements) for one in subjects if one.proof is not None
        ]
    else:
        pinned = [dict(one.version.environment["packages"]) for one in subjects]
    first, second = ({"Python": one.version.python} | found for one, found in zip(subjects, pinned, strict=True))
    yield from _texts("requirements", first, second)
