"""Plotly figures of what a deployment did."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from mlnb.monitoring.monitor import Series

__all__ = ["plotly_javascript", "traffic_figure"]

# Okabe and Ito's palette: told apart with any colour vision, on white and on dark (https://jfly.uni-koeln.de/color/).
_RATE, _MEDIAN, _TAIL, _ERRORS = "#0072B2", "#009E73", "#E69F00", "#D55E00"
_GRID = "rgba(128, 128, 128, 0.22)"
_HEIGHT = 330


def traffic_figure(series: Series) -> Figure:
    """Draw requests per second, latency quantiles and errors per second, one above the other.

    The background is transparent, so that the page's own theme shows; the page sets the colour of the text.
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, row_heights=[0.4, 0.4, 0.2], vertical_spacing=0.07)
    panes = [
        (1, "requests", series.requests, _RATE, "tozeroy"),
        (2, "p99", series.p99, _TAIL, None),
        (2, "p50", series.p50, _MEDIAN, None),
        (3, "errors", series.errors, _ERRORS, "tozeroy"),
    ]
    for row, name, values, colour, fill in panes:
        lonely = {"mode": "lines+markers", "marker": {"size": 4}} if row == 2 else {"mode": "lines"}  # noqa: PLR2004
        unit = " ms" if row == 2 else "/s"  # noqa: PLR2004 - the latency pane
        trace = go.Scatter(
            x=series.ago, y=values, name=name, fill=fill, line={"color": colour, "width": 1.6},
            showlegend=row == 2, hovertemplate=f"%{{y:.3~g}}{unit}<extra>{name}</extra>", **lonely,  # noqa: PLR2004
        )  # fmt: skip
        figure.add_trace(trace, row=row, col=1)
    for row, title in enumerate(("requests/s", "latency, ms", "errors/s"), start=1):
        figure.update_yaxes(
            row=row, col=1, title={"text": title, "standoff": 8}, rangemode="tozero", nticks=4 if row < 3 else 2,  # noqa: PLR2004
            gridcolor=_GRID, zerolinecolor=_GRID, fixedrange=True, minallowed=0, automargin=False,
        )  # fmt: skip
    start = series.ago[0]
    figure.update_xaxes(range=[start, 0], gridcolor=_GRID, zeroline=False, fixedrange=True, showticklabels=False)
    figure.update_xaxes(
        row=3, col=1, showticklabels=True, tickmode="array",
        tickvals=list(range(-300, 1, 60)), ticktext=["5 min ago", "4 min", "3 min", "2 min", "1 min", "now"],
    )  # fmt: skip
    figure.update_layout(
        template="none", height=_HEIGHT, margin={"l": 62, "r": 14, "t": 6, "b": 26}, hovermode="x unified",
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", font={"size": 11},
        legend={"x": 1, "y": 0.62, "xanchor": "right", "yanchor": "top", "orientation": "h", "bgcolor": "rgba(0,0,0,0)"},
        uirevision="keep",
    )  # fmt: skip
    return figure


def plotly_javascript() -> str:
    """Return the plotly.js that the plotly package carries (about 5 MB of text)."""
    from plotly.offline import get_plotlyjs

    source: str = get_plotlyjs()
    return source
