"""What became of each column since the example: the figures, the verdicts, and how a notebook shows them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Literal

from mlnb.errors import InvalidInputError, MissingLibraryError, nearest
from mlnb.monitoring.numerals import MEANINGS, figure, percent, probability

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlnb.registry.tables import Cell, Column

__all__ = ["ColumnDrift", "DriftReport", "Kind", "Verdict"]

Kind = Literal["numbers", "categories", "texts"]
Verdict = Literal["drifted", "steady", "too few"]

_SHOWN, _FIRST = 30, 8  # columns of a table as text; that did not drift and are not folded, as HTML
_LEFT = "text-align: left"
_NUMBER = "text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap"
_BAD, _MUTED = "color: var(--jp-error-color1, #d32f2f)", "color: var(--jp-content-font-color2, #767676)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDrift:
    """One column, now and in the example.

    Figures that too few values say nothing of are NaN.

    Attributes
    ----------
    name : str
    kind : {'numbers', 'categories', 'texts'}
        Of texts, which nearly all differ, the lengths are compared.
    verdict : {'drifted', 'steady', 'too few'}
    test : {'Kolmogorov-Smirnov', 'chi-square'}
    statistic : float
        Of the test: the largest distance of the two cumulative shares, or chi-square.
    p_value : float
        Of the test, as scipy has it.
    adjusted : float
        What the verdict goes by: the p-value for the rows that are different, joined with that of the missing
        values, after Benjamini and Hochberg over all columns.
    effect : float
        How far apart, from 0 to 1: the Kolmogorov-Smirnov distance, or Cramér's V of the shares.
    psi : float
        Population stability index over the tenths of the example, or its categories; see ``distances.psi``.
    wasserstein : float or None
        Of numbers: how far the values moved, in standard deviations of the example. None where it has none.
    jensen_shannon : float
        Distance of the shares below, to base 2: from 0 to 1.
    missing, missing_before : float
        Share of the rows.
    unknown : float
        Share of the known values that are no category of the example. 0 where the example has more than 200.
    out_of_range : float
        Share of the known numbers below the example's least or above its largest.
    rows : int
        That were looked at.
    words : str
        The verdict in one line.
    edges : tuple
        Of the bins, one more than there are bins; or the names of the categories.
    before, now : tuple of float
        Share of the known values in each bin.
    """

    name: str
    kind: Kind
    verdict: Verdict
    test: Literal["Kolmogorov-Smirnov", "chi-square"]
    statistic: float
    p_value: float
    adjusted: float
    effect: float
    psi: float
    wasserstein: float | None
    jensen_shannon: float
    missing: float
    missing_before: float
    unknown: float
    out_of_range: float
    rows: int
    words: str
    edges: tuple[Any, ...]
    before: tuple[float, ...]
    now: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DriftReport:
    """Whether the rows of a version's requests still look like its example.

    Attributes
    ----------
    name : str
    version : int
    rows : int
        That were looked at.
    at : float or None
        When the newest of them was answered, seconds since the epoch.
    columns : tuple of ColumnDrift
        In order of harm: those that drifted first, the largest effect first.
    prediction : ColumnDrift or None
        The model's answers; None where the example's are not known.
    words : str
        The verdict in one line.
    """

    name: str
    version: int
    rows: int
    at: float | None
    columns: tuple[ColumnDrift, ...]
    prediction: ColumnDrift | None
    words: str

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the columns that drifted, in order of harm."""
        return tuple(column.name for column in self.columns if column.verdict == "drifted")

    @property
    def share(self) -> float | None:
        """Of the columns that could be judged, the share that drifted, 0 to 1; None where none could."""
        judged = [column.verdict for column in self.columns if column.verdict != "too few"]
        return judged.count("drifted") / len(judged) if judged else None

    def frame(self) -> Any:
        """Return the figures as a pandas DataFrame, one row for each column, in order of harm.

        Raises
        ------
        MissingLibraryError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise MissingLibraryError("frame() makes a pandas DataFrame. Run: pip install pandas") from None
        left_out = ("edges", "before", "now")
        rows = [{key: value for key, value in asdict(one).items() if key not in left_out} for one in self.columns]
        names = [name for name in ColumnDrift.__dataclass_fields__ if name not in left_out]
        return pd.DataFrame(rows, columns=names).set_index("name")

    def figure(self, column: str | None = None) -> Any:
        """Draw a column before and now, or an overview of all.

        Parameters
        ----------
        column : str, optional
            Its name; ``"prediction"`` for the model's answers.

        Returns
        -------
        plotly.graph_objects.Figure

        Raises
        ------
        InvalidInputError
            If there is no such column.
        MissingLibraryError
            If plotly is not installed.
        """
        from mlnb.monitoring.figures_drift import drift_figure, drift_overview

        return drift_overview(self) if column is None else drift_figure(self._column(column))

    def _column(self, name: str) -> ColumnDrift:
        known = {} if self.prediction is None else {self.prediction.name: self.prediction}
        known |= {column.name: column for column in self.columns}
        if name not in known:
            raise InvalidInputError(f"The report has no column {name!r}; {nearest(name, known)}.")
        return known[name]

    def __repr__(self) -> str:
        from mlnb.registry.tables import lay_out

        shown = self._judged()[: _SHOWN + (self.prediction is not None)]
        left = len(self._judged()) - len(shown)
        more = f"… and {left} more columns: .frame()" if left else ""
        return "\n".join(filter(None, [self.words, lay_out(_table(shown)) if shown else "", more]))

    def _repr_html_(self) -> str:
        columns = self._judged()
        count = len(self.drifted) + _FIRST + (self.prediction is not None)
        first, rest = columns[:count], columns[count:]
        more = f"<details><summary>{len(rest)} more</summary>{_html_table(rest)}</details>" if rest else ""
        return f"<p>{escape(self.words)}</p>{_html_table(first) if first else ''}{more}"

    def _judged(self) -> list[ColumnDrift]:
        return [*([] if self.prediction is None else [self.prediction]), *self.columns]


def _table(shown: Sequence[ColumnDrift]) -> list[Column]:
    from mlnb.registry.tables import Cell, Column

    figures = {
        "effect": [figure(one.effect) for one in shown],
        "p, adjusted": [probability(one.adjusted) for one in shown],
        "PSI": [figure(one.psi) for one in shown],
        "Wasserstein": [figure(one.wasserstein) for one in shown],
        "missing": [percent(one.missing) for one in shown],
        "outside": [percent(one.out_of_range if one.kind == "numbers" else one.unknown) for one in shown],
    }
    return [
        Column("column", tuple(map(_name, shown))),
        Column("verdict", tuple(Cell(one.words, muted=one.verdict != "drifted") for one in shown), kind="prose"),
        *(Column(title, tuple(map(Cell, texts)), kind="number") for title, texts in figures.items()),
    ]


def _html_table(shown: Sequence[ColumnDrift]) -> str:
    columns = _table(shown)
    styles = [_NUMBER if one.kind == "number" else _LEFT for one in columns]
    titles = zip(columns, styles, strict=True)
    head = "".join(
        f'<th style="{style}"{_title(MEANINGS.get(one.title, ""))}>{escape(one.title)}</th>' for one, style in titles
    )
    rows = zip(*(one.cells for one in columns), strict=True)
    body = "".join(f"<tr>{''.join(map(_html, row, styles))}</tr>" for row in rows)
    return f'<table class="mlnb-drift"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _title(words: str) -> str:
    return f' title="{escape(words, quote=True)}"' if words else ""


def _name(column: ColumnDrift) -> Cell:
    from mlnb.registry.tables import Cell

    return Cell(column.name, mark="▲" if column.verdict == "drifted" else "")


def _html(cell: Cell, style: str) -> str:
    mark = f'<span style="{_BAD}">{cell.mark}</span> ' if cell.mark else ""
    look = f"{style}; {_MUTED}" if cell.muted else style
    return f'<td style="{look}">{mark}{escape(cell.text)}</td>'
