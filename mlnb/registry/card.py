"""A model card: what a version is, takes and gives, how well it does, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from mlnb.registry.tables import format_size, format_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mlnb.registry.history import HistoryEvent
    from mlnb.registry.proofs.golden import GoldenRows
    from mlnb.registry.proofs.proof import Proof
    from mlnb.registry.signature import Field
    from mlnb.registry.version import ModelVersion

__all__ = ["ModelCard"]

_SHOWN_FIELDS, _SHOWN_ROWS = 60, 5


@dataclass(frozen=True, slots=True)
class _Table:
    """A section of a card: a title, a line of text, and rows under a header."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, repr=False)
class ModelCard:
    """The card of one version; ``str(card)`` is Markdown, and a notebook shows it as HTML.

    After "Model Cards for Model Reporting", Mitchell et al. 2019, as far as a registry can know.

    Attributes
    ----------
    version : ModelVersion
    registry : str
        Where the version is stored.
    aliases : tuple of str
    proof : Proof or None
    golden : GoldenRows or None
    events : tuple of HistoryEvent
        What happened to this version.
    """

    version: ModelVersion
    registry: str
    aliases: tuple[str, ...]
    proof: Proof | None
    golden: GoldenRows | None
    events: tuple[HistoryEvent, ...]

    def __repr__(self) -> str:
        return f"<ModelCard {self.version}>"

    def __str__(self) -> str:
        return self.markdown

    @property
    def markdown(self) -> str:
        """The card in Markdown."""
        lines = [f"# {self._title()}", ""]
        lines += [self.version.description, ""] if self.version.description else []
        for table in self._tables():
            lines += [f"## {table.title}", "", _line(table.header), _line(["---"] * len(table.header))]
            lines += [*(_line(row) for row in table.rows), ""]
        return "\n".join([*lines, "## Use", "", "```python", self._code(), "```", ""])

    @property
    def html(self) -> str:
        """The card as HTML, without scripts and styles of its own but for alignment."""
        described = f"<p>{escape(self.version.description)}</p>" if self.version.description else ""
        tables = "".join(
            f"<h4>{escape(table.title)}</h4><table><thead><tr>{_cells(table.header, 'th')}</tr></thead><tbody>"
            + "".join(f"<tr>{_cells(row, 'td')}</tr>" for row in table.rows)
            + "</tbody></table>"
            for table in self._tables()
        )
        code = f"<h4>Use</h4><pre>{escape(self._code())}</pre>"
        return f'<div class="mlnb-model-card"><h3>{escape(self._title())}</h3>{described}{tables}{code}</div>'

    def _repr_html_(self) -> str:
        return self.html

    def _repr_markdown_(self) -> str:
        return self.markdown

    def _title(self) -> str:
        named = "".join(f" @{alias}" for alias in self.aliases)
        return f"{self.version.name} v{self.version.number}{named}"

    def _code(self) -> str:
        return f'import mlnb\n\nmodel = mlnb.ModelRegistry({self.registry!r}).load("{self.version}")'

    def _tables(self) -> Iterator[_Table]:
        version, signature = self.version, self.version.signature
        yield _Table("Model", ("", ""), tuple(self._facts()))
        if version.metrics:
            yield _Table("Metrics", ("metric", "value"), tuple((k, f"{v:.6g}") for k, v in version.metrics.items()))
        if signature.fields:
            shown = tuple(_field(field) for field in signature.fields[:_SHOWN_FIELDS])
            left = len(signature.fields) - len(shown)
            more = (((f"{left} more", "", "", ""),)) if left else ()
            yield _Table("Takes", ("field", "type", "in the example", "missing"), shown + more)
        if self.golden is not None:
            pairs = zip(self.golden.rows[:_SHOWN_ROWS], self.golden.answers, strict=False)
            yield _Table("Answers", ("row", "answer"), tuple((_clip(row), _clip(answer)) for row, answer in pairs))
        if version.parameters:
            yield _Table("Parameters", ("parameter", "value"), tuple(version.parameters.items()))
        if self.proof is not None and self.proof.requirements:
            pinned = (one.split("==") for one in self.proof.requirements)
            yield _Table("Requirements", ("package", "version"), tuple((name, at) for name, at in pinned))
        yield _Table("Comes from", ("", ""), tuple(_lineage(version.lineage.items())))
        yield _Table("History", ("when", "what", "by"), tuple(_event(event) for event in self.events))

    def _facts(self) -> Iterator[tuple[str, str]]:
        version, labels = self.version, self.version.signature.labels
        yield "type", version.model_type
        yield "created", format_time(version.created)
        yield "stored as", f"{version.format}, {format_size(version.size)}, SHA-256 {version.digest[:12]}…"
        if labels is not None:
            yield "answers with", ", ".join(str(label) for label in labels[:20])
        yield "Python", version.python
        yield "works without the notebook", "not proved yet" if self.proof is None else str(self.proof)


def _field(field: Field) -> tuple[str, ...]:
    if field.minimum is not None and field.maximum is not None:
        spread = f"{field.minimum:.4g} to {field.maximum:.4g}"
    else:
        spread = _clip(", ".join(str(one) for one in field.categories))
    return field.name, field.dtype or field.kind, spread, "yes" if field.nullable else "no"


def _lineage(items: Iterable[tuple[str, object]]) -> Iterator[tuple[str, str]]:
    for name, value in items:
        yield (
            name.replace("_", " "),
            {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value),
        )


def _event(event: HistoryEvent) -> tuple[str, ...]:
    what = f"{event.action} @{event.alias}" if event.alias is not None else event.action
    return format_time(event.at), what, event.by


def _clip(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004 - fits a cell


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _cells(cells: Iterable[str], tag: str) -> str:
    return "".join(f'<{tag} style="text-align: left">{escape(cell)}</{tag}>' for cell in cells)
