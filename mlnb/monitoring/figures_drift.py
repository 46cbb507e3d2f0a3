"""Plotly figures of drift: a column before and now, and all columns by how far they moved."""

from __future__ import annotations

from html import escape
from itertools import pairwise
from math import isfinite
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from mlnb.errors import MissingLibraryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plotly.graph_objects import Figure

    from mlnb.monitoring.drift.report import ColumnDrift, DriftReport

__all__ = ["drift_figure", "drift_overview"]

# Okabe and Ito's palette: told apart with any colour vision, on white and on dark (https://jfly.uni-koeln.de/color/).
# The blue is a little lighter than theirs, to be seen on dark as well.
_BEFORE, _NOW, _DRIFTED, _UNKNOWN = "#2584C6", "#E69F00", "#D55E00", "#8C8C8C"
_COLOURS = {"drifted": _DRIFTED, "steady": _BEFORE, "too few": _UNKNOWN}
_FILLED = {"drifted": 1.0, "steady": 0.3, "too few": 0.0}  # of a bar, for those who see no colours
_GRID = "rgba(128, 128, 128, 0.22)"
_MUTED = "#797979"  # text as clear on white as on dark, where no page sets its colour
_HEIGHT, _ROW = 300, 20  # pixels
_WIDE, _LINE = 84, 18  # characters of a line of a title that is read at 600 pixels, and its height
_LONGEST = 24  # characters of a name beside a bar
_SHOWN = 30  # columns of an overview


def drift_figure(column: ColumnDrift) -> Figure:
    """Draw the shares of a column's values in the example and now, with the verdict as the title.

    The background is transparent, so that the page's own theme shows.

    Raises
    ------
    MissingLibraryError
        If plotly is not installed.
    """
    go = _graph_objects()
    figure = go.Figure()
    (_draw_categories if column.kind == "categories" else _draw_numbers)(figure, column)
    figure.update_yaxes(ticksuffix=" %", rangemode="tozero", nticks=5, gridcolor=_GRID, zerolinecolor=_GRID)
    figure.update_xaxes(gridcolor=_GRID, zeroline=False)
    label = "length, characters" if column.kind == "texts" else ""
    _lay_out(figure, f"{column.name} — {column.words}", height=_HEIGHT, left=48)
    figure.update_xaxes(title={"text": label, "standoff": 6})
    return figure


def drift_overview(report: DriftReport) -> Figure:
    """Draw how far each column moved, in order of harm, with the verdict as the title.

    Raises
    ------
    MissingLibraryError
        If plotly is not installed.
    """
    go = _graph_objects()
    columns = [*([] if report.prediction is None else [report.prediction]), *report.columns[:_SHOWN]]
    places = {id(column): at for at, column in enumerate(columns)}
    figure = go.Figure()
    for verdict, colour in _COLOURS.items():
        some = [column for column in columns if column.verdict == verdict]
        figure.add_bar(
            y=[places[id(column)] for column in some], x=[_length(column.effect) for column in some], orientation="h",
            name=verdict, customdata=[_hover(column) for column in some],
            marker={"color": _pale(colour, _FILLED[verdict]), "line": {"color": colour, "width": 1.2}},
            hovertemplate="%{customdata}<extra></extra>",
        )  # fmt: skip
    figure.update_yaxes(
        tickmode="array", tickvals=list(range(len(columns))), ticktext=[_named(one) for one in columns],
        range=[max(1, len(columns)) - 0.5, -0.5], gridcolor=_GRID, visible=bool(columns),
    )  # fmt: skip
    largest = max([0.2, *(_length(column.effect) for column in columns)])
    figure.update_xaxes(
        range=[0, 1.05 * largest], gridcolor=_GRID, zerolinecolor=_GRID, visible=bool(columns),
        title={"text": "effect: Kolmogorov-Smirnov distance, or Cramér's V", "standoff": 6},
    )  # fmt: skip
    _lay_out(figure, report.words, height=110 + _ROW * len(columns), left=160)
    return figure


def _graph_objects() -> Any:
    try:
        import plotly.graph_objects as go
    except ImportError:
        raise MissingLibraryError("The figure needs plotly. Run: pip install 'mlnb[lab]'") from None
    return go


def _draw_numbers(figure: Figure, column: ColumnDrift) -> None:
    edges = _drawn_edges(column.edges)
    middles, widths = [(low + high) / 2 for low, high in pairwise(edges)], [high - low for low, high in pairwise(edges)]
    texts = [f"{low:.4g} to {high:.4g}" for low, high in pairwise(column.edges)]
    figure.add_bar(
        x=middles, y=_percents(column.before), width=widths, name="example", customdata=texts,
        marker={"color": _BEFORE, "opacity": 0.45, "line": {"width": 0}},
        hovertemplate="%{customdata}: %{y:.3~g} %<extra>example</extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=edges, y=_percents([*column.now, *column.now[-1:]]), customdata=[*texts, *texts[-1:]], name="now",
        mode="lines", line={"color": _NOW, "width": 2.4, "shape": "hv"},
        hovertemplate="%{customdata}: %{y:.3~g} %<extra>now</extra>",
    )  # fmt: skip
    figure.update_layout(bargap=0, barmode="overlay")


def _drawn_edges(edges: Sequence[float]) -> list[float]:
    """Return the edges with the first and the last bin, which take in all beyond, no wider than their neighbours."""
    if len(edges) < 4:  # noqa: PLR2004 - none is inside
        return list(edges)
    first, last = edges[2] - edges[1], edges[-2] - edges[-3]
    return [max(edges[0], edges[1] - first), *edges[1:-1], min(edges[-1], edges[-2] + last)]


def _draw_categories(figure: Figure, column: ColumnDrift) -> None:
    places = list(range(len(column.edges)))
    sides = (("example", column.before, _BEFORE, 0.3), ("now", column.now, _NOW, 1.0))
    for name, shares, colour, filled in sides:
        figure.add_bar(
            x=places, y=_percents(shares), name=name, hovertemplate=f"%{{x}}: %{{y:.3~g}} %<extra>{name}</extra>",
            marker={"color": _pale(colour, filled), "line": {"color": colour, "width": 1.2}},
        )  # fmt: skip
    figure.update_xaxes(tickmode="array", tickvals=places, ticktext=[_short(str(one)) for one in column.edges])


def _lay_out(figure: Figure, title: str, *, height: int, left: int) -> None:
    lines = [escape(line, quote=False) for line in wrap(title, _WIDE)]
    space = _LINE * len(lines)
    figure.add_annotation(
        text="<br>".join(lines), font={"size": 13, "color": _MUTED}, showarrow=False, align="left",
        xref="paper", x=0, xanchor="left", xshift=8 - left, yref="paper", y=1, yanchor="bottom", yshift=22,
    )  # fmt: skip
    figure.update_xaxes(fixedrange=True)
    figure.update_yaxes(fixedrange=True)
    figure.update_layout(
        template="none", height=height + space, margin={"l": left, "r": 16, "t": 34 + space, "b": 44},
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", font={"size": 11, "color": _MUTED},
        uirevision="keep",
        legend={
            "x": 1, "y": 1, "xanchor": "right", "yanchor": "bottom", "orientation": "h", "bgcolor": "rgba(0,0,0,0)",
        },
    )  # fmt: skip


def _percents(shares: Sequence[float]) -> list[float]:
    return [round(100 * share, 2) for share in shares]


def _pale(colour: str, opacity: float) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity})"


def _length(effect: float) -> float:
    return effect if isfinite(effect) else 0.0


def _hover(column: ColumnDrift) -> str:
    return f"{escape(column.name, quote=False)}: {escape(column.words, quote=False)}"


def _named(column: ColumnDrift) -> str:
    return f"▲ {_short(column.name)}" if column.verdict == "drifted" else _short(column.name)


def _short(name: str) -> str:
    return escape(name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…", quote=False)
