"""Tables of versions, as text and as HTML."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

from mlnb.registry import history
from mlnb.registry.proofs.proof import Proof

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from mlnb.registry.registry import ModelRegistry
    from mlnb.registry.version import ModelVersion

__all__ = [
    "SHOWN",
    "WIDTH",
    "Cell",
    "Column",
    "VersionTable",
    "format_delta",
    "format_metrics",
    "format_size",
    "format_time",
    "lay_out",
    "version_table",
]

SHOWN = 50  # rows of a table, unless all are asked for
WIDTH = 100  # characters of a line of text

_KILO = 1000
_FOUR_DIGITS, _UNREADABLE = 1e4, 1e9  # between them 48231 says more than 4.823e+04
_MOST_DECIMALS = 6
_DAY = len("2026-01-31")
_GAP = "  "
_MUTED = "color: var(--jp-content-font-color2, #767676)"
_GOOD = "color: var(--jp-success-color1, #388e3c)"
_NUMBER = "text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap"
_PORTABLE = {True: "yes", False: "no"}

Detail = Literal["deltas", "values", "days", "line"]  # less from one to the next; see VersionTable._text


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table.

    Attributes
    ----------
    text : str
    note : str
        Follows the text, small and muted.
    mark : str
        Comes before the text, in the colour of what is well.
    title : str
        Shown when the pointer rests on it.
    muted : bool
    """

    text: str
    note: str = ""
    mark: str = ""
    title: str = ""
    muted: bool = False


_NOT_PROVED = Cell("—", title="not proved", muted=True)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes
    ----------
    title : str
    cells : tuple of Cell
    kind : {'text', 'number', 'prose'}
        Numbers are aligned right; of all, only prose wraps in HTML.
    least : int or None
        How narrow it may become in text, where its cells are clipped then. None: as wide as its widest cell.
    """

    title: str
    cells: tuple[Cell, ...]
    kind: Literal["text", "number", "prose"] = "text"
    least: int | None = None


class VersionTable(Sequence["ModelVersion"]):
    """Versions, newest first, that show themselves as a table.

    Parameters
    ----------
    versions : iterable of ModelVersion
    live : mapping of str to int
        The version number that is live here, by model name.
    aliases : mapping of str to mapping of str to int, optional
        Aliases and the numbers they mean, by model name.
    proofs : mapping of str to mapping of int to Proof, optional
        The last proof of each version that has one, by model name and number.
    model : str, optional
        The one model whose versions these are: each metric gets a column then, with the difference from the live
        version. Without it there may be versions of several models.
    shown : int or None
        How many rows to show, None for all of them. The sequence holds all versions either way.
    """

    def __init__(
        self,
        versions: Iterable[ModelVersion],
        *,
        live: Mapping[str, int],
        aliases: Mapping[str, Mapping[str, int]] | None = None,
        proofs: Mapping[str, Mapping[int, Proof]] | None = None,
        model: str | None = None,
        shown: int | None = SHOWN,
    ) -> None:
        self._versions = tuple(versions)
        self._live = dict(live)
        self._aliases = {} if aliases is None else {name: dict(known) for name, known in aliases.items()}
        self._proofs = {} if proofs is None else {name: dict(known) for name, known in proofs.items()}
        self._model = model
        self._shown = self._versions[:shown]

    def __len__(self) -> int:
        return len(self._versions)

    @overload
    def __getitem__(self, index: int) -> ModelVersion: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ModelVersion, ...]: ...
    def __getitem__(self, index: int | slice) -> ModelVersion | tuple[ModelVersion, ...]:
        return self._versions[index]

    def __repr__(self) -> str:
        if not self._versions:
            return "No models yet. Deploy one: %deploy_model model --input X_train"
        return "\n".join(filter(None, [self._text(), self._more()]))

    def _repr_html_(self) -> str:
        if not self._versions:
            return "<p>No models yet. Deploy one: <code>%deploy_model model --input X_train</code></p>"
        columns = self._columns("deltas")
        head = "".join(f"<th {_style(column)}>{escape(column.title)}</th>" for column in columns)
        spaces = [max(len(cell.note) for cell in column.cells) for column in columns]
        body = "".join(
            f"<tr>{''.join(_html(*one) for one in zip(row, columns, spaces, strict=True))}</tr>"
            for row in zip(*(column.cells for column in columns), strict=True)
        )
        more = f'<td colspan="{len(columns)}" style="text-align: left; {_MUTED}">{escape(self._more())}</td>'
        foot = f"<tfoot><tr>{more}</tr></tfoot>" if self._more() else ""
        return f'<table class="mlnb-versions"><thead><tr>{head}</tr></thead><tbody>{body}</tbody>{foot}</table>'

    def to_json(self) -> list[dict[str, Any]]:
        """Return all versions with what is known of them, for other programs."""
        return [
            {
                "name": version.name, "number": version.number, "created": version.created.isoformat(),
                "live": self._is_live(version), "aliases": self._named(version), "metrics": version.metrics,
                "description": version.description, "model_type": version.model_type, "format": version.format,
                "size": version.size, "portable": None if (proof := self._proof(version)) is None else proof.portable,
            }
            for version in self._versions
        ]  # fmt: skip

    def _text(self) -> str:
        """Return the table in lines of 100 characters: without deltas, then times of day, then a column per metric."""
        for detail in get_args(Detail):
            text = lay_out(self._columns(detail))
            if max(map(_width, text.splitlines())) <= WIDTH:
                break
        return text

    def _more(self) -> str:
        left = len(self._versions) - len(self._shown)
        names = {version.name for version in self._versions}
        command = " ".join(["%model_versions", *(names if len(names) == 1 else ()), "--all"])
        return f"… and {left} more: {command}" if left else ""

    def _columns(self, detail: Detail) -> list[Column]:
        return self._of_several() if self._model is None else self._of_one(detail)

    def _of_several(self) -> list[Column]:
        shown = self._shown
        return [
            Column("model", tuple(Cell(version.name) for version in shown)),
            self._numbers(),
            Column("live", tuple(self._live_cell(version, *self._named(version, "@")) for version in shown)),
            self._created(),
            self._metrics_in_one(),
            self._descriptions(),
            self._sizes(),
        ]

    def _of_one(self, detail: Detail) -> list[Column]:
        shown = self._shown
        metrics = dict.fromkeys(name for version in shown for name in version.metrics)
        return [
            self._numbers(),
            Column("live", tuple(self._live_cell(version) for version in shown)),
            Column("aliases", tuple(Cell(" ".join(self._named(version, "@"))) for version in shown)),
            self._created(length=_DAY if detail in ("days", "line") else None),
            *([self._metrics_in_one()] if detail == "line" else [self._metric(name, detail) for name in metrics]),
            Column("portable", tuple(map(self._portable, shown))),
            self._sizes(),
            self._descriptions(),
        ]

    def _numbers(self) -> Column:
        return Column("version", tuple(Cell(str(version.number)) for version in self._shown), kind="number")

    def _created(self, length: int | None = None) -> Column:
        return Column("created", tuple(Cell(format_time(version.created)[:length]) for version in self._shown))

    def _sizes(self) -> Column:
        return Column("size", tuple(Cell(format_size(version.size)) for version in self._shown), kind="number")

    def _descriptions(self) -> Column:
        cells = tuple(Cell(version.description) for version in self._shown)
        return Column("description", cells, kind="prose", least=12)

    def _metrics_in_one(self) -> Column:
        cells = tuple(Cell(format_metrics(version.metrics)) for version in self._shown)
        return Column("metrics", cells, kind="prose", least=20)

    def _metric(self, name: str, detail: Detail) -> Column:
        """Return the column of one metric; what differs from the live version is noted beside it."""
        live = next((version for version in self._versions if self._is_live(version)), None)
        against = None if live is None or detail != "deltas" else live.metrics.get(name)
        values = [version.metrics.get(name) for version in self._shown]
        deltas = [
            "" if value is None or against is None or version is live else format_delta(value - against)
            for version, value in zip(self._shown, values, strict=True)
        ]
        cells = (Cell(text, note=delta) for text, delta in zip(_aligned(values), deltas, strict=True))
        return Column(name, tuple(cells), kind="number")

    def _live_cell(self, version: ModelVersion, *more: str) -> Cell:
        if not self._is_live(version):
            return Cell(" ".join(more))
        return Cell(" ".join(["live", *more]), mark="●")

    def _portable(self, version: ModelVersion) -> Cell:
        proof = self._proof(version)
        return _NOT_PROVED if proof is None else Cell(_PORTABLE[proof.portable], title=str(proof))

    def _is_live(self, version: ModelVersion) -> bool:
        return self._live.get(version.name) == version.number

    def _named(self, version: ModelVersion, prefix: str = "") -> list[str]:
        known = self._aliases.get(version.name, {})
        return sorted(f"{prefix}{alias}" for alias, number in known.items() if number == version.number)

    def _proof(self, version: ModelVersion) -> Proof | None:
        return self._proofs.get(version.name, {}).get(version.number)


def version_table(
    registry: ModelRegistry,
    name: str | None = None,
    *,
    live: Mapping[str, int] | None = None,
    shown: int | None = SHOWN,
) -> VersionTable:
    """Return the versions of a model, newest first; without a name, of each model the live version, else the newest.

    Parameters
    ----------
    registry : ModelRegistry
    name : str, optional
    live : mapping of str to int, optional
        What is live, by model name. Default: what is live by the history.
    shown : int or None
        How many rows to show, None for all of them.

    Raises
    ------
    ModelNotFoundError
    """
    chosen: list[ModelVersion] = []
    serving: dict[str, int] = {}
    aliases: dict[str, dict[str, int]] = {}
    proofs: dict[str, dict[int, Proof]] = {}
    for one in registry.names() if name is None else [name]:
        versions, events = {version.number: version for version in registry.versions(one)}, registry.history(one)
        number = history.live(events) if live is None else live.get(one)
        if number is not None and number in versions:
            serving[one] = number
        aliases[one] = {alias: meant for alias, meant in history.aliases(events).items() if meant in versions}
        proofs[one] = {proved: Proof.from_json(stored) for proved, stored in history.proofs(events).items()}
        newest_first = list(reversed(versions.values()))
        chosen += newest_first if name is not None else [versions.get(serving.get(one, 0), newest_first[0])]
    return VersionTable(chosen, live=serving, aliases=aliases, proofs=proofs, model=name, shown=shown)


def lay_out(columns: Sequence[Column], *, width: int = WIDTH) -> str:
    """Write a table in lines of text, at most ``width`` wide as far as its columns can be clipped.

    Examples
    --------
    >>> cells = (Cell("0.9712"), Cell("0.96", note="-0.0112"))
    >>> print(lay_out([Column("model", (Cell("iris"), Cell("digits"))), Column("accuracy", cells, kind="number")]))
    model         accuracy
    iris    0.9712
    digits    0.96 -0.0112
    """
    parts = [
        [_one_line(f"{cell.mark} {cell.text}" if cell.mark else cell.text) for cell in one.cells] for one in columns
    ]
    notes = [max((len(cell.note) + 1 for cell in one.cells if cell.note), default=0) for one in columns]
    titles = [_one_line(one.title) for one in columns]
    widths = [
        max(note + max(map(_width, texts), default=0), _width(title))
        for texts, note, title in zip(parts, notes, titles, strict=True)
    ]
    _narrow(widths, [one.least for one in columns], to=width - len(_GAP) * (len(widths) - 1))
    laid = []
    for one, texts, note, title, wide in zip(columns, parts, notes, titles, widths, strict=True):
        right = one.kind == "number"
        cells = [
            _pad(text, wide - note, right=right) + (f" {cell.note}".ljust(note) if note else "")
            for cell, text in zip(one.cells, texts, strict=True)
        ]
        laid.append([_pad(title, wide, right=right), *cells])
    return "\n".join(_GAP.join(line).rstrip() for line in zip(*laid, strict=True))


def format_delta(difference: float) -> str:
    """Write a difference with its sign.

    Examples
    --------
    >>> format_delta(0.0125), format_delta(-3.0)
    ('+0.0125', '-3')
    """
    return f"{'+' if difference >= 0 else '-'}{_figure(abs(difference))}"


def format_metrics(metrics: Mapping[str, float]) -> str:
    """Write metrics in one line.

    Examples
    --------
    >>> format_metrics({"accuracy": 0.9712345, "n": 5.0})
    'accuracy 0.9712, n 5'
    """
    return ", ".join(f"{name} {_figure(value)}" for name, value in metrics.items())


def format_size(size: int) -> str:
    """Write bytes with a decimal unit.

    Examples
    --------
    >>> format_size(812), format_size(78_681), format_size(104_857_600)
    ('812 B', '79 kB', '105 MB')
    """
    amount = float(size)
    for unit in ("B", "kB", "MB"):
        if amount < _KILO:
            return f"{amount:.0f} {unit}" if amount >= 10 or unit == "B" else f"{amount:.1f} {unit}"  # noqa: PLR2004
        amount /= _KILO
    return f"{amount:.1f} GB"


def format_time(moment: datetime) -> str:
    """Write a moment in this machine's time zone, to the second."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def _figure(value: float) -> str:
    """Write a number with four significant digits, and the whole part in full while one can read it."""
    return f"{value:.0f}" if _FOUR_DIGITS <= abs(value) < _UNREADABLE else f"{value:.4g}"


def _aligned(values: Sequence[float | None]) -> list[str]:
    """Write numbers with as many decimals as the one that needs most, so that their points stand in one line."""
    figures = ["" if value is None else _figure(value) for value in values]
    decimals = max(len(figure.partition(".")[2]) for figure in figures)
    if decimals > _MOST_DECIMALS or any("e" in figure for figure in figures):
        return figures
    return ["" if value is None else f"{value:.{decimals}f}" for value in values]


def _style(column: Column) -> str:
    wrap = "" if column.kind == "prose" else "; white-space: nowrap"
    return f'style="{_NUMBER}"' if column.kind == "number" else f'style="text-align: left{wrap}"'


def _html(cell: Cell, column: Column, space: int) -> str:
    """Return a cell; if one of its column has a note, all leave space for one, so that numbers line up."""
    mark = f'<span style="{_GOOD}">{cell.mark}</span> ' if cell.mark else ""
    text = f'<span style="{_MUTED}">{escape(cell.text)}</span>' if cell.muted else escape(cell.text)
    box = f"display: inline-block; min-width: {space + 1}ch; text-align: left; {_MUTED}"  # a + is wider than a digit
    note = f' <small style="{box}">{escape(cell.note)}</small>' if space else ""
    title = f' title="{escape(cell.title)}"' if cell.title else ""
    return f"<td {_style(column)}{title}>{mark}{text}{note}</td>"


def _narrow(widths: list[int], least: Sequence[int | None], *, to: int) -> None:
    """Take what is too much from the columns that may give some, always from the widest of them."""
    free = [at for at, bound in enumerate(least) if bound is not None]
    for at in free:
        widths[at] = min(widths[at], max(to, least[at] or 0))
    while sum(widths) > to and (giving := [at for at in free if widths[at] > (least[at] or 0)]):
        widths[max(giving, key=widths.__getitem__)] -= 1


def _pad(text: str, width: int, *, right: bool) -> str:
    shown = text
    if _width(text) > width:
        shown = text[:width]
        while _width(shown) >= width:
            shown = shown[:-1]
        shown = f"{shown.rstrip()}…"
    space = " " * (width - _width(shown))
    return space + shown if right else shown + space


def _one_line(text: str) -> str:
    """Return text without line breaks and other controls: in a terminal they would act."""
    flat = " ".join(text.split())
    return flat if flat.isprintable() else "".join("�" if unicodedata.category(one) == "Cc" else one for one in flat)


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return len(text) if text.isascii() else sum(map(_character_width, text))


def _character_width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
