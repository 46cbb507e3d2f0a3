"""Plotly figures of how right a model is: its calibration curve and its confusion matrix."""

from __future__ import annotations

from html import escape
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from mlnb.errors import MissingLibraryError

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from mlnb.monitoring.quality import QualityReport

__all__ = ["quality_figure"]

# Okabe and Ito's blue: told apart with any colour vision, on white and on dark (https://jfly.uni-koeln.de/color/).
_BLUE = "#0072B2"
_HALF = 0.5  # of a row: from here on a cell is dark and its count white, so that both can be read on any page
_SHADES = [[0, "rgba(0, 114, 178, 0.04)"], [_HALF, "#2F86BA"], [1, "#005B8E"]]
_STEPPED = [_SHADES[0], [_HALF, "rgba(0, 114, 178, 0.22)"], *_SHADES[1:]]
_GRID = "rgba(128, 128, 128, 0.22)"
_MUTED = "#767676"  # text that is read on white and on dark, where no page sets its colour
_HEIGHT = 340  # pixels
_WIDE = 84  # characters of a line of a title that is read at 600 pixels
_LINE = 18  # pixels of a line of the title
_WRITTEN = 8  # classes, with more of them the counts show under the pointer only
_LONGEST = 14  # characters of the name of a class on an axis
_CLEAR = {"paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)"}


def quality_figure(report: QualityReport) -> Figure:
    """Draw the calibration curve and the confusion matrix, side by side; what a report has not is left away.

    Each cell of the matrix is coloured by its share of its row, the true class. The words of the report are the title.
    The background is transparent, so that the page's own theme shows.

    Raises
    ------
    MissingLibraryError
        If plotly is not installed.
    """
    try:
        from plotly.subplots import make_subplots
    except ImportError:
        raise MissingLibraryError("The figure needs plotly. Run: pip install 'mlnb[lab]'") from None

    panes = [draw for draw, some in ((_calibration, report.calibration), (_confusion, report.confusion)) if some]
    figure = make_subplots(rows=1, cols=max(1, len(panes)), horizontal_spacing=0.2)
    for column, draw in enumerate(panes, start=1):
        draw(figure, report, column)
    lines = [escape(line, quote=False) for line in wrap(report.words, _WIDE)]
    _write(figure, "<br>".join(lines), 12, yshift=26, xref="paper", x=0)
    figure.update_xaxes(fixedrange=True, zeroline=False, visible=bool(panes), automargin=True)
    figure.update_yaxes(fixedrange=True, zeroline=False, visible=bool(panes), automargin=True)
    space = _LINE * len(lines)
    figure.update_layout(
        template="none", height=_HEIGHT + space, margin={"l": 52, "r": 22, "t": 36 + space, "b": 52}, showlegend=False,
        font={"size": 11, "color": _MUTED}, **_CLEAR,
    )  # fmt: skip
    return figure


def _calibration(figure: Any, report: QualityReport, column: int) -> None:
    bins = report.calibration
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"color": _MUTED, "width": 1, "dash": "dot"}, hoverinfo="skip",
        name="as good as its word", row=1, col=column,
    )  # fmt: skip
    figure.add_scatter(
        x=[one.predicted for one in bins], y=[one.observed for one in bins], mode="lines+markers", name="calibration",
        line={"color": _BLUE, "width": 2}, marker={"size": 7},
        error_y={
            "type": "data", "symmetric": False, "thickness": 1, "width": 3, "color": _BLUE,
            "array": [max(0.0, one.high - one.observed) for one in bins],
            "arrayminus": [max(0.0, one.observed - one.low) for one in bins],
        },
        customdata=[one.count for one in bins],
        hovertemplate="predicted %{x:.3f}, observed %{y:.3f}<br>%{customdata:,} rows<extra></extra>",
        row=1, col=column,
    )  # fmt: skip
    look = {"range": [-0.02, 1.02], "gridcolor": _GRID, "nticks": 6, "row": 1, "col": column}
    figure.update_xaxes(title={"text": "predicted, in bins of as many rows", "standoff": 8}, **look)
    figure.update_yaxes(**look)
    _head(figure, "share observed", column)


def _confusion(figure: Any, report: QualityReport, column: int) -> None:
    names = [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for name in report.classes]
    places = list(range(len(names)))
    shares = [[count / max(1, sum(row)) for count in row] for row in report.confusion]
    figure.add_heatmap(
        x=places, y=places, z=shares, zmin=0, zmax=1, showscale=False,
        colorscale=_STEPPED if len(names) <= _WRITTEN else _SHADES,
        xgap=1, ygap=1, name="confusion", text=[[f"{count:,}" for count in row] for row in report.confusion],
        customdata=[[[escape(true), escape(said)] for said in report.classes] for true in report.classes],
        hovertemplate="true: %{customdata[0]}<br>answered: %{customdata[1]}<br>%{text} rows, %{z:.1%}<extra></extra>",
        row=1, col=column,
    )  # fmt: skip
    if len(names) <= _WRITTEN:
        cells = [(across, down) for down in places for across in places]
        figure.add_scatter(
            x=[across for across, _ in cells], y=[down for _, down in cells], mode="text", hoverinfo="skip",
            text=[f"{report.confusion[down][across]:,}" for across, down in cells], name="counts",
            textfont={"color": ["white" if shares[down][across] >= _HALF else _MUTED for across, down in cells]},
            row=1, col=column,
        )  # fmt: skip
    few = places[:: len(places) // (2 * _WRITTEN) + 1]
    ticks = {"tickmode": "array", "tickvals": few, "ticktext": [escape(names[at], quote=False) for at in few]}
    look = {**ticks, "showgrid": False, "row": 1, "col": column}
    figure.update_xaxes(title={"text": "answered", "standoff": 8}, **look)
    figure.update_yaxes(autorange="reversed", **look)
    _head(figure, "true class", column)


def _head(figure: Any, text: str, column: int) -> None:
    """Write the title of the upright axis above it."""
    axis = "x" if column == 1 else f"x{column}"
    _write(figure, text, 12, yshift=4, xref=f"{axis} domain", x=0)


def _write(figure: Any, text: str, size: int, *, yshift: int, xref: str, x: float) -> None:
    figure.add_annotation(
        text=text, font={"size": size, "color": _MUTED}, showarrow=False, align="left", xref=xref, x=x, xanchor="left",
        yref="paper", y=1, yanchor="bottom", yshift=yshift,
    )  # fmt: skip
