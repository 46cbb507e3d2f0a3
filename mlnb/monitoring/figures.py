"""Plotly figures of what a deployment did."""

from __future__ import annotations

from html import escape
from itertools import cycle
from textwrap import wrap
from typing import TYPE_CHECKING

from mlnb.errors import MissingLibraryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plotly.graph_objects import Figure

    from mlnb.monitoring.experiment import Band, Experiment
    from mlnb.monitoring.load.result import BenchmarkResult
    from mlnb.monitoring.metrics import Series

__all__ = ["benchmark_figure", "experiment_figure", "plotly_javascript", "traffic_figure"]

# Okabe and Ito's palette: told apart with any colour vision, on white and on dark (https://jfly.uni-koeln.de/color/).
_RATE, _MEDIAN, _TAIL, _ERRORS = "#0072B2", "#009E73", "#E69F00", "#D55E00"
_ARMS = (_RATE, _TAIL, _MEDIAN, "#CC79A7", _ERRORS, "#56B4E9")
_GRID = "rgba(128, 128, 128, 0.22)"
_HEIGHT = 340  # pixels
_MINUTE = 60
_MUTED = "#767676"  # text that is read on white and on dark, where no page sets its colour
_MOST_TICKS = 12
_WIDE = 84  # characters of a line of a title that is read at 600 pixels
_LINE = 18  # pixels of a line of the title


def traffic_figure(series: Series) -> Figure:
    """Draw requests per second, latency quantiles and errors per second, one above the other.

    The background is transparent, so that the page's own theme shows; the page sets the colour of the text.
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(
        rows=3, cols=1, shared_xaxes=True, row_heights=[0.4, 0.4, 0.2], vertical_spacing=0.12,
        subplot_titles=("requests per second", "latency, ms", "errors per second"),
    )  # fmt: skip
    figure.update_annotations(x=0, xanchor="left", font={"size": 12}, yshift=2)
    panes = [
        (1, "requests", series.requests, _RATE, "tozeroy"),
        (2, "p99", series.p99, _TAIL, None),
        (2, "p50", series.p50, _MEDIAN, None),
        (3, "errors", series.errors, _ERRORS, "tozeroy"),
    ]
    for row, name, values, colour, fill in panes:
        latency = row == 2  # noqa: PLR2004 - the second pane
        look = (
            {"mode": "lines+markers", "marker": {"size": 4}} if latency else {"mode": "lines"}
        )  # a lonely point shows
        trace = go.Scatter(
            x=series.ago, y=values, name=name, fill=fill, line={"color": colour, "width": 1.6}, showlegend=latency,
            hovertemplate=f"%{{y:.3~g}}{' ms' if latency else '/s'}<extra>{name}</extra>", **look,
        )  # fmt: skip
        figure.add_trace(trace, row=row, col=1)
    minutes = range(-series.ago[0] // _MINUTE, 0, -1)
    figure.update_yaxes(rangemode="tozero", nticks=4, gridcolor=_GRID, zerolinecolor=_GRID, fixedrange=True)
    figure.update_yaxes(row=3, col=1, nticks=2)
    figure.update_xaxes(
        range=[series.ago[0], 0], gridcolor=_GRID, zeroline=False, fixedrange=True, showticklabels=False,
        tickmode="array", tickvals=[-_MINUTE * minute for minute in minutes] + [0],
        ticktext=[f"{minute} min ago" for minute in minutes] + ["now"],
    )  # fmt: skip
    figure.update_xaxes(row=3, col=1, showticklabels=True)
    figure.update_layout(
        template="none", height=_HEIGHT, margin={"l": 40, "r": 22, "t": 20, "b": 24}, hovermode="x unified",
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", font={"size": 11}, uirevision="keep",
        legend={
            "x": 1, "y": figure.layout.yaxis2.domain[1], "xanchor": "right", "yanchor": "bottom", "orientation": "h",
            "bgcolor": "rgba(0,0,0,0)",
        },
    )  # fmt: skip
    return figure


def plotly_javascript() -> str:
    """Return the plotly.js that the plotly package carries (about 5 MB of text)."""
    from plotly.offline import get_plotlyjs

    source: str = get_plotlyjs()
    return source


def benchmark_figure(result: BenchmarkResult) -> Figure:
    """Draw good requests per second, and latency quantiles below, over the connections that asked.

    The verdict is the title; a dotted line marks the saturation point. The background is transparent, so that the
    page's own theme shows.
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    steps, knee = result.steps, result.saturation
    connections = [step.connections for step in steps]
    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, row_heights=[0.5, 0.5], vertical_spacing=0.16,
        subplot_titles=("good requests per second", "latency, ms"),
    )  # fmt: skip
    figure.update_annotations(x=0, xanchor="left", font={"size": 12, "color": _MUTED}, yshift=2)
    panes = [
        (1, "requests", [step.throughput for step in steps], _RATE, "%{y:,.0f} requests/s"),
        (2, "p99", [step.p99 for step in steps], _TAIL, "%{y:.3~g} ms"),
        (2, "p50", [step.p50 for step in steps], _MEDIAN, "%{y:.3~g} ms"),
    ]
    for row, name, values, colour, hover in panes:
        trace = go.Scatter(
            x=connections, y=values, name=name, mode="lines+markers", showlegend=row > 1, marker={"size": 6},
            line={"color": colour, "width": 1.6}, hovertemplate=f"{hover}<extra>{name}</extra>",
        )  # fmt: skip
        figure.add_trace(trace, row=row, col=1)
    if knee is not None:
        figure.add_vline(x=knee.connections, line={"color": _MUTED, "width": 1, "dash": "dot"})
    figure.update_yaxes(rangemode="tozero", nticks=5, gridcolor=_GRID, zerolinecolor=_GRID, fixedrange=True)
    figure.update_yaxes(row=1, col=1, tickformat=",~g")
    figure.update_xaxes(
        type="log", gridcolor=_GRID, zeroline=False, fixedrange=True,
        tickmode="array", tickvals=connections[:: len(connections) // _MOST_TICKS + 1],
    )  # fmt: skip
    figure.update_xaxes(row=2, col=1, title={"text": "connections", "standoff": 8})
    lines = [escape(sentence, quote=False) for sentence in result.verdict.splitlines()]
    figure.add_annotation(
        text="<br>".join(lines), font={"size": 13, "color": _MUTED}, showarrow=False, align="left",
        xref="paper", x=0, xanchor="left", yref="paper", y=1, yanchor="bottom", yshift=26,
    )  # fmt: skip
    space = _LINE * len(lines)
    figure.update_layout(
        template="none", height=_HEIGHT + space, margin={"l": 52, "r": 22, "t": 34 + space, "b": 44},
        hovermode="x unified",
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", font={"size": 11, "color": _MUTED},
        legend={
            "x": 1, "y": figure.layout.yaxis2.domain[1], "xanchor": "right", "yanchor": "bottom", "orientation": "h",
            "bgcolor": "rgba(0,0,0,0)",
        },
    )  # fmt: skip
    return figure


def experiment_figure(experiment: Experiment) -> Figure:
    """Draw each arm's mean score with its confidence sequence over the number of outcomes.

    The verdict is the title. The background is transparent, so that the page's own theme shows.

    Raises
    ------
    MissingLibraryError
        If plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
    except ImportError:
        raise MissingLibraryError("The figure needs plotly. Run: pip install 'mlnb[lab]'") from None

    bands = experiment.bands()
    factor, unit = (100.0, " %") if experiment.proportion else (1.0, "")
    figure = go.Figure()
    for band, colour in zip(bands, cycle(_ARMS)):
        figure.add_scatter(
            x=[*band.outcomes, *reversed(band.outcomes)],
            y=[factor * value for value in (*band.high, *reversed(band.low))],
            fill="toself", mode="lines", line={"width": 0}, fillcolor=colour, opacity=0.18, hoverinfo="skip",
            showlegend=False, legendgroup=band.name, name=f"{escape(band.name, quote=False)}, interval",
        )  # fmt: skip
    for band, colour in zip(bands, cycle(_ARMS)):
        low, mean, high = ([factor * value for value in line] for line in (band.low, band.mean, band.high))
        figure.add_scatter(
            x=band.outcomes, y=mean, name=escape(band.name, quote=False), legendgroup=band.name,
            mode="lines" if len(mean) > 1 else "markers", line={"color": colour, "width": 2},
            marker={"color": colour, "size": 7}, customdata=list(zip(low, high, strict=True)),
            hovertemplate=f"%{{y:.4~g}}{unit} (%{{customdata[0]:.4~g}} to %{{customdata[1]:.4~g}})",
        )  # fmt: skip
    lines = [escape(line, quote=False) for line in wrap(experiment.verdict.words, _WIDE)]
    title = {"font": {"color": _MUTED}, "showarrow": False, "xref": "paper", "x": 0, "xanchor": "left"} | {
        "yref": "paper", "y": 1, "yanchor": "bottom", "align": "left",
    }  # fmt: skip
    label = f"{escape(experiment.metric, quote=False)}{', %' if experiment.proportion else ''}"
    figure.add_annotation(title, text=label, font_size=12, yshift=4)
    figure.add_annotation(title, text="<br>".join(lines), font_size=13, yshift=28)
    shown = _shown(bands, factor)
    figure.update_yaxes(
        range=shown, visible=shown is not None, nticks=6, gridcolor=_GRID, zerolinecolor=_GRID, fixedrange=True
    )
    ticks = [digit * 10**power for power in range(1, 10) for digit in (1, 2, 5)]
    figure.update_xaxes(
        type="log", tickmode="array", tickvals=ticks, ticktext=[f"{tick:,}" for tick in ticks], gridcolor=_GRID,
        zeroline=False, fixedrange=True, visible=shown is not None, title={"text": "outcomes", "standoff": 8},
    )  # fmt: skip
    space = _LINE * len(lines)
    figure.update_layout(
        template="none", height=_HEIGHT + space, margin={"l": 52, "r": 22, "t": 40 + space, "b": 44},
        hovermode="x unified", uirevision="keep",
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", font={"size": 11, "color": _MUTED},
        legend={
            "x": 1, "y": 1, "xanchor": "right", "yanchor": "bottom", "orientation": "h", "bgcolor": "rgba(0,0,0,0)",
        },
    )  # fmt: skip
    return figure


def _shown(bands: Sequence[Band], factor: float) -> list[float] | None:
    """Return the range of scores that shows the last nine tenths of the outcomes, where the intervals are narrow."""
    last = max((band.outcomes[-1] for band in bands if band.outcomes), default=0)
    shown = [
        factor * value
        for band in bands
        for at, low, high in zip(band.outcomes, band.low, band.high, strict=True)
        if at >= last / 10
        for value in (low, high)
    ]
    room = 0.04 * (max(shown) - min(shown)) if shown else 0.0
    return [min(shown) - room, max(shown) + room] if shown else None
