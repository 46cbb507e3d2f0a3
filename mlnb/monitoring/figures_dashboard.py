"""The dashboard's figure: what a deployment did, pane above pane over one time axis."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from math import ceil
from typing import TYPE_CHECKING, Any
from zlib import crc32

from mlnb.errors import MissingLibraryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from plotly.graph_objects import Figure

    from mlnb.monitoring.metrics import Series
    from mlnb.monitoring.view import MonitorView

__all__ = [
    "AREAS",
    "OTHERS",
    "dashboard_data",
    "dashboard_figure",
    "dashboard_key",
    "dashboard_spec",
    "shares_of",
    "shortened",
]

# Okabe and Ito's palette: told apart with any colour vision, on white and on dark (https://jfly.uni-koeln.de/color/).
_BLUE, _GREEN, _ORANGE, _RED, _SKY, _PINK = "#0072B2", "#009E73", "#E69F00", "#D55E00", "#56B4E9", "#CC79A7"
_GREY = "#8C8C8C"
# Each with a pattern or a dash of its own, for those who see no colours at all.
AREAS = ((_SKY, ""), (_ORANGE, "/"), (_GREEN, "."), (_PINK, "x"), (_GREY, "-"))
_ERRORS = {
    "invalid request": (_SKY, ""), "overloaded": (_ORANGE, "/"), "timed out": (_PINK, "."), "model failed": (_RED, "x"),
}  # fmt: skip
_QUANTILES = (("p99", _RED, "dot"), ("p95", _ORANGE, "dash"), ("p50", _GREEN, "solid"))
_SPREAD = (("p95", "dash"), ("p50", "solid"), ("p5", "dot"))
OTHERS = "others"
_MOST_CLASSES = 5  # areas, the last of which is all other classes
_LONGEST = 20  # characters of a label
_SMOOTH = 15  # seconds that the shares of the classes are over
_GRID = "rgba(128, 128, 128, 0.22)"
_TOP, _TITLE, _BOTTOM, _LEFT, _RIGHT = 66, 27, 26, 44, 34  # pixels around the panes, and above each
_LEVELS, _LEVEL, _ABOVE = 3, 13, 18  # rows of labels above the panes; pixels of one, and below the first
_CHARACTER, _NARROW = 6.2, 522  # pixels of a label's character, and of the time axis where the page has 600
_LEGEND, _SWATCH = 460, 46  # pixels of a legend on such a page, and of what stands before a name
_MINUTE = 60
_MOST_TICKS = 6
_DASHES = {"deployed": "solid", "alert": "dot"}


@dataclass(frozen=True, slots=True)
class _Pane:
    title: str
    height: int  # pixels
    axis: str


_PANES = (
    _Pane("requests/s", 84, "y"),
    _Pane("latency, ms", 118, "y2"),
    _Pane("errors/s", 72, "y3"),
    _Pane("answers", 100, "y4"),
    _Pane("columns that drifted", 62, "y5"),
    _Pane("requests in flight", 72, "y6"),
)
_INNER = sum(pane.height + _TITLE for pane in _PANES) - _TITLE
_HEIGHT = _TOP + _INNER + _BOTTOM


def dashboard_key(view: MonitorView) -> str:
    """Return what the figure's form depends on; while it is the same, only :func:`dashboard_data` changes."""
    series = view.series
    return f"{crc32(repr((series.step, len(series.ago), _kind(series), _classes(series))).encode()):08x}"


def dashboard_spec(view: MonitorView) -> dict[str, Any]:
    """Return the figure without what changes each second, as plain values that plotly.js takes.

    The background is transparent, so that the page's own theme shows; the page sets the colour of the text.

    Returns
    -------
    dict
        ``data``: the traces, each with a ``uid`` by which :func:`dashboard_data` has its values; and ``layout``.
    """
    return {"data": _traces(view.series), "layout": _layout(view.series)}


def dashboard_data(view: MonitorView) -> dict[str, Any]:
    """Return what changes each second, as plain values.

    Returns
    -------
    dict
        ``x``: seconds ago; ``y``: the values by the trace's ``uid``, each as many as ``x``; ``points``: the
        ``uid`` of traces that need points, as a line alone would not show a value between two gaps; and of the layout
        what marks what was done.
    """
    series, step = view.series, view.series.step
    quantiles = {name: _rounded(getattr(series, name)) for name, _, _ in _QUANTILES}
    if _kind(series) == "numbers":
        quantiles |= {f"answer-{name}": _rounded(series.numbers[name]) for name, _ in _SPREAD}
    y: dict[str, list[Any]] = {
        "requests": [round(count / step, 3) for count in series.requests],
        **quantiles,
        **{_uid(kind): [round(count / step, 3) for count in series.kinds[kind]] for kind in _ERRORS},
        **{f"class-{at}": values for at, values in enumerate(shares_of(series).values())},
        **({"none": [None] * len(series.ago)} if _none(series) else {}),
        "drift": _rounded(series.drift),
        "in-flight": list(series.in_flight),
        "replicas": list(series.replicas),
    }
    marks = _marks(view)
    return {
        "x": [-ago for ago in series.ago], "y": y,
        "points": [uid for uid, values in quantiles.items() if _lonely(values)],
        "layout": marks | {
            "annotations": _titles(series) + marks["annotations"], "yaxis7": _replicas_axis(series),
        },
    }  # fmt: skip


def dashboard_figure(view: MonitorView) -> Figure:
    """Draw rate, latency, errors, answers, drift and load of a deployment over one time axis.

    Deployments, roll backs and alerts are upright lines through all of them.

    Raises
    ------
    MissingLibraryError
        If plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
    except ImportError:
        raise MissingLibraryError("The figure needs plotly. Run: pip install 'mlnb[lab]'") from None

    spec, data = dashboard_spec(view), dashboard_data(view)
    traces = [
        trace | {"x": data["x"], "y": data["y"][trace["uid"]]}
        | ({"mode": "lines+markers"} if trace["uid"] in data["points"] else {})
        for trace in spec["data"]
    ]  # fmt: skip
    return go.Figure(data=traces, layout=spec["layout"] | data["layout"])


def shares_of(series: Series) -> dict[str, list[float]]:
    """Return the share of each class among the answers of the last 15 seconds, at each step; 0 where there were none.

    The most frequent classes have their own, in the order of their names; all further ones are "others".
    """
    shown = _classes(series)
    counts = {label: list(series.classes[label]) for label in shown if label in series.classes}
    if OTHERS in shown:
        rest = [values for label, values in series.classes.items() if label not in shown or label == OTHERS]
        counts[OTHERS] = [sum(values) for values in zip(*rest, strict=True)]
    width = max(1, _SMOOTH // series.step)
    sums = {label: _trailing(counts[label], width) for label in shown}
    totals = [sum(values) for values in zip(*sums.values(), strict=True)]
    return {
        label: [round(one / total, 4) if total else 0.0 for one, total in zip(values, totals, strict=True)]
        for label, values in sums.items()
    }


def _trailing(values: Sequence[int], width: int) -> list[int]:
    """Return the sum of each value and those before it, ``width`` in all."""
    sums, total = [], 0
    for at, value in enumerate(values):
        total += value - (values[at - width] if at >= width else 0)
        sums.append(total)
    return sums


def _rounded(values: Iterable[float | None]) -> list[float | None]:
    return [None if value is None else float(f"{value:.4g}") for value in values]


def _lonely(values: Sequence[float | None]) -> bool:
    """Say whether there is a value between two gaps."""
    around = zip([None, *values[:-1]], values, [*values[1:], None], strict=True)
    return any(before is None and one is not None and after is None for before, one, after in around)


def _uid(name: str) -> str:
    """Return a name of a trace that may be part of an id in the page."""
    return name.replace(" ", "-")


def _kind(series: Series) -> str:
    return "numbers" if series.numbers else "classes"


def _none(series: Series) -> bool:
    return not (series.classes or series.numbers)


def _classes(series: Series) -> tuple[str, ...]:
    if _kind(series) == "numbers":
        return ()
    named = [label for label in series.classes if label != OTHERS]
    if len(series.classes) <= _MOST_CLASSES:
        most = named
    else:
        most = sorted(named, key=lambda label: -sum(series.classes[label]))[: _MOST_CLASSES - 1]
    return (*sorted(most), *((OTHERS,) if len(most) < len(series.classes) else ()))


def _traces(series: Series) -> list[dict[str, Any]]:
    lines = [_line("requests", "y", _BLUE, legend=None, fill="tozeroy", unit="/s")]
    lines += [_line(name, "y2", colour, dash=dash, unit=" ms") for name, colour, dash in _QUANTILES]
    lines += [_area(_uid(kind), kind, "y3", look, hover="%{y:.3~g}/s") for kind, look in _ERRORS.items()]
    if _kind(series) == "numbers":
        lines += [_line(name, "y4", _BLUE, dash=dash, uid=f"answer-{name}") for name, dash in _SPREAD]
    else:
        shown = _classes(series)
        looks = [*AREAS[: len(shown) - 1], AREAS[-1]] if OTHERS in shown else AREAS
        longest = min(_LONGEST, int((_LEGEND / max(1, len(shown)) - _SWATCH) / _CHARACTER))
        lines += [
            _area(f"class-{at}", shortened(label, longest), "y4", look, hover="%{y:.1%}")
            for at, (label, look) in enumerate(zip(shown, looks, strict=False))
        ]
    return [
        *lines,
        *([_line("none", "y4", _BLUE, legend=None)] if _none(series) else []),  # so that the pane is there
        _line("drift", "y5", _PINK, legend=None, fill="tozeroy", shape="hv", hover="%{y:.0%}"),
        _line("in flight", "y6", _SKY, fill="tozeroy"),
        _line("replicas", "y7", _ORANGE, dash="dash", shape="hv", legend="legend6"),
    ]


def _line(
    name: str, axis: str, colour: str, *, uid: str = "", dash: str = "solid", fill: str | None = None, unit: str = "",
    hover: str = "", shape: str = "linear", legend: str | None = "",
) -> dict[str, Any]:  # fmt: skip
    filled = {} if fill is None else {"fill": fill, "fillcolor": _pale(colour)}
    hover = hover or f"%{{y:.4~g}}{unit}"
    return _trace(uid or _uid(name), name, axis, legend=legend, hover=hover) | filled | {
        "mode": "lines", "line": {"color": colour, "width": 1.6, "dash": dash, "shape": shape}, "marker": {"size": 4},
    }  # fmt: skip


def _area(uid: str, name: str, axis: str, look: tuple[str, str], *, hover: str) -> dict[str, Any]:
    colour, pattern = look
    return _trace(uid, name, axis, legend="", hover=hover) | {
        "mode": "lines", "stackgroup": axis, "fillcolor": _pale(colour, 0.5),
        "line": {"color": colour, "width": 0.8, "shape": "hv" if axis == "y3" else "linear"},
        "fillpattern": {
            "shape": pattern, "size": 6, "solidity": 0.35, "fgcolor": colour, "bgcolor": _pale(colour, 0.3),
        },
    }  # fmt: skip


def _trace(uid: str, name: str, axis: str, *, legend: str | None, hover: str) -> dict[str, Any]:
    written = escape(name, quote=False).replace("%{", "% {")  # plotly.js reads markup and templates
    return {
        "type": "scatter", "uid": uid, "name": written, "xaxis": "x", "yaxis": axis, "showlegend": legend is not None,
        "legend": legend or f"legend{axis.removeprefix('y')}", "hovertemplate": f"{hover}<extra>{written}</extra>",
    }  # fmt: skip


def _pale(colour: str, opacity: float = 0.22) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity})"


def shortened(text: str, longest: int) -> str:
    """Return text that has at most so many characters; where it has more, its middle is left out.

    Examples
    --------
    >>> shortened("customer of group A", 11)
    'custo…oup A'
    """
    whole = " ".join(text.split())
    half = (longest - 1) // 2
    return whole if len(whole) <= longest else f"{whole[: longest - 1 - half]}…{whole[len(whole) - half :]}"


def _layout(series: Series) -> dict[str, Any]:
    oldest = -series.ago[0]
    minutes = ceil(oldest / _MINUTE)
    spacing = ceil(minutes / _MOST_TICKS)
    ticks = range(minutes - minutes % spacing, 0, -spacing)
    layout: dict[str, Any] = {
        "autosize": True, "height": _HEIGHT, "margin": {"l": _LEFT, "r": _RIGHT, "t": _TOP, "b": _BOTTOM},
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "font": {"size": 11},
        "hovermode": "x unified", "hoversubplots": "axis", "uirevision": "keep", "dragmode": "zoom",
        "xaxis": {
            "range": [oldest if oldest % _MINUTE == 0 else oldest + series.step, 0], "anchor": "y6", "gridcolor": _GRID,
            "zeroline": False, "tickmode": "array", "tickvals": [_MINUTE * minute for minute in ticks] + [0],
            "ticktext": [f"{minute} min ago" for minute in ticks] + ["now"],
            "unifiedhovertitle": {"text": "%{x} s ago"}, "showspikes": True, "spikemode": "across", "spikethickness": 1,
            "spikecolor": _GREY, "spikedash": "solid", "spikesnap": "cursor",
        },
    }  # fmt: skip
    for pane, domain in zip(_PANES, _domains(), strict=True):
        number = pane.axis.removeprefix("y")
        layout[f"yaxis{number}"] = {
            "domain": domain, "anchor": "x", "rangemode": "tozero", "nticks": 4, "gridcolor": _GRID,
            "zerolinecolor": _GRID, "fixedrange": True,
        }  # fmt: skip
        layout[f"legend{number}"] = {
            "x": 1, "xanchor": "right", "y": domain[1], "yanchor": "bottom", "orientation": "h",
            "bgcolor": "rgba(0,0,0,0)", "font": {"size": 10.5}, "itemwidth": 30, "traceorder": "normal",
        }  # fmt: skip
    layout["yaxis3"]["nticks"] = layout["yaxis6"]["nticks"] = 3
    layout["yaxis4"] |= {"rangemode": "normal"} if _kind(series) == "numbers" else {
        "range": [0, 1], "tickvals": [0, 0.5, 1], "tickformat": ".0%",
    }  # fmt: skip
    layout["yaxis5"] |= {"range": [0, 1], "tickvals": [0, 0.5, 1], "tickformat": ".0%"}
    return layout


def _replicas_axis(series: Series) -> dict[str, Any]:
    """Return the axis at the right of the last pane, which has whole numbers only."""
    most = max((count for count in series.replicas if count is not None), default=0) or 1
    return {
        "overlaying": "y6", "side": "right", "anchor": "x", "range": [0, 1.15 * most], "tickvals": [0, most],
        "showgrid": False, "zeroline": False, "fixedrange": True,
    }  # fmt: skip


def _domains() -> list[list[float]]:
    """Return where each pane is, from 0 at the bottom to 1 at the top."""
    domains, top = [], _INNER
    for pane in _PANES:
        domains.append([max(0.0, (top - pane.height) / _INNER), top / _INNER])
        top -= pane.height + _TITLE
    return domains


def _titles(series: Series) -> list[dict[str, Any]]:
    nothing = {
        "y4": "no answers yet" if _none(series) else "",
        "y5": "" if any(value is not None for value in series.drift) else "not judged yet: too few rows",
    }
    titles = []
    for pane, (low, high) in zip(_PANES, _domains(), strict=True):
        place = {"xref": "paper", "yref": "paper", "showarrow": False}
        titles.append(place | {
            "text": pane.title, "x": 0, "xanchor": "left", "y": high, "yanchor": "bottom", "yshift": 3,
            "font": {"size": 12},
        })  # fmt: skip
        if nothing.get(pane.axis):
            titles.append(place | {"text": nothing[pane.axis], "x": 0.5, "y": (low + high) / 2, "opacity": 0.7})
    return titles


def _marks(view: MonitorView) -> dict[str, list[dict[str, Any]]]:
    """Return an upright line for each mark, and a label where there is room for one."""
    oldest = -view.series.ago[0]
    free = [float("-inf")] * _LEVELS  # up to where the labels of a row go, pixels
    shapes, labels = [], []
    for mark in view.marks:
        x = max(view.series.end - mark.at, 0.0)
        if not mark.at - view.series.step <= view.series.end <= mark.at + oldest:
            continue
        words = shortened(mark.words, _LONGEST)
        at, width = (1 - x / oldest) * _NARROW, _CHARACTER * len(words)
        anchor = "left" if at < width / 2 else "right" if at > _NARROW - width / 2 else "center"
        begin = at - {"left": 0, "center": width / 2, "right": width}[anchor]
        level = next((level for level in range(_LEVELS) if free[level] <= begin), None)
        height = 0 if level is None else _ABOVE + _LEVEL * level
        shapes.append({
            "type": "line", "xref": "x", "yref": "paper", "x0": x, "x1": x, "y0": 0, "y1": 1 + height / _INNER,
            "layer": "below", "line": {
                "color": _RED if mark.kind == "alert" else _GREY, "width": 1.4, "dash": _DASHES.get(mark.kind, "dash"),
            },
        })  # fmt: skip
        if level is not None:
            free[level] = begin + width + _CHARACTER
            labels.append({
                "text": escape(words, quote=False), "x": x, "xref": "x", "xanchor": anchor, "y": 1, "yref": "paper",
                "yanchor": "bottom", "yshift": height, "showarrow": False, "font": {"size": 10.5},
            })  # fmt: skip
    return {"shapes": shapes, "annotations": labels}
