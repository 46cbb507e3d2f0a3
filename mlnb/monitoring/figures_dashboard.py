"""The dashboard's figure: what a deployment did, pane above pane over one time axis."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from itertools import accumulate
from math import ceil
from typing import TYPE_CHECKING, Any
from zlib import crc32

from mlnb.errors import MissingLibraryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from plotly.graph_objects import Figure

    from mlnb.monitoring.metrics import Mark, Series
    from mlnb.monitoring.view import MonitorView

__all__ = [
    "ALONE",
    "AREAS",
    "OTHERS",
    "SIGNS",
    "dashboard_data",
    "dashboard_figure",
    "dashboard_key",
    "dashboard_spec",
    "drift_top",
    "shares_of",
    "shortened",
]

# Okabe and Ito's palette: told apart with any colour vision, on white and on dark (https://jfly.uni-koeln.de/color/).
# The blue is a little lighter than theirs, to be seen on dark as well.
_BLUE, _GREEN, _ORANGE, _RED, _SKY, _PINK = "#2584C6", "#009E73", "#E69F00", "#D55E00", "#56B4E9", "#CC79A7"
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
_LONGEST = 24  # characters of a label
_SMOOTH = 15  # seconds that the shares of the classes are over; without answers for longer than that is a gap
_GRID = "rgba(128, 128, 128, 0.22)"
_TITLE, _BOTTOM, _LEFT, _RIGHT = 27, 26, 46, 34  # pixels around the panes, and above each
_LEVELS, _LEVEL, _ABOVE = 4, 13, 18  # rows of labels above the panes at most; pixels of one, and below the first
_CHARACTER, _NARROW = 6.2, 522  # pixels of a label's character, and of the time axis where the page has 600
_LEGEND, _SWATCH = 460, 46  # pixels of a legend on such a page, and of what stands before a name
_HEADING = 64  # pixels of the title of the first pane
_MINUTE = 60
_MOST_TICKS = 6
# In the words of an alert: a figure before what it is about, and what stands between that and a figure behind.
_SHARE, _FIGURES = re.compile(r"^\S+ % of the "), re.compile(" is |: |, ")
SIGNS = {"alert": "▲", "all clear": "✓"}
_DASHES = {"deployed": "solid", "alert": "dot", "all clear": "dot"}
_COLOURS = {"alert": _RED, "all clear": _GREEN}
_RANKS = {
    "all clear": 3,
    "alert": 2,
    "deployed": 1,
}  # of what has a label where there is no room for all; 0: what was done to mend
_DRIFTED = (0.1, 0.2, 0.5, 1.0)  # ends of the axis of drift
ALONE = ("in kernel", "in this process")  # where there are no replicas to count


@dataclass(frozen=True, slots=True)
class _Pane:
    title: str
    height: int  # pixels
    axis: str
    ticks: int = 4


_PANES = (
    _Pane("requests/s", 84, "y"),
    _Pane("latency, ms", 118, "y2"),
    _Pane("errors/s", 72, "y3", ticks=3),
    _Pane("answers", 100, "y4"),
    _Pane("columns that drifted", 62, "y5"),
    _Pane("requests in flight", 72, "y6", ticks=3),
)
_INNER = sum(pane.height + _TITLE for pane in _PANES) - _TITLE


def dashboard_key(view: MonitorView) -> str:
    """Return what the figure's form depends on; while it is the same, only :func:`dashboard_data` changes."""
    series = view.series
    form = (series.step, len(series.ago), _kind(series), _classes(series), _failed(series), view.place in ALONE)
    return f"{crc32(repr(form).encode()):08x}"


def dashboard_spec(view: MonitorView) -> dict[str, Any]:
    """Return the figure without what changes each second, as plain values that plotly.js takes.

    The background is transparent, so that the page's own theme shows; the page sets the colour of the text.

    Returns
    -------
    dict
        ``data``: the traces, each with a ``uid`` by which :func:`dashboard_data` has its values; and ``layout``.
    """
    return {"data": _traces(view.series, alone=view.place in ALONE), "layout": _layout(view.series)}


def dashboard_data(view: MonitorView) -> dict[str, Any]:
    """Return what changes each second, as plain values.

    Returns
    -------
    dict
        ``x``: seconds ago; ``y``: the values by the trace's ``uid``, each as many as ``x``; ``points``: the
        ``uid`` of traces that need points, as a line alone would not show a value between two gaps; and of the layout
        what marks what was done, the height, and two axes.
    """
    series, step = view.series, view.series.step
    quantiles = {name: _rounded(getattr(series, name)) for name, _, _ in _QUANTILES}
    if _kind(series) == "numbers":
        quantiles |= {f"answer-{name}": _rounded(series.numbers[name]) for name, _ in _SPREAD}
    y: dict[str, list[Any]] = {
        "requests": [round(count / step, 3) for count in series.requests],
        **quantiles,
        **{_uid(kind): [round(count / step, 3) for count in series.kinds[kind]] for kind in _failed(series)},
        **({} if _failed(series) else {"errors": [0] * len(series.ago)}),
        **{f"class-{at}": _percents(values) for at, values in enumerate(shares_of(series).values())},
        **({"none": [None] * len(series.ago)} if _none(series) else {}),
        "drift": _percents(series.drift),
        "in-flight": list(series.in_flight),
        **({} if view.place in ALONE else {"replicas": list(series.replicas)}),
    }
    marks = _marks(view)
    return {
        "x": [-ago for ago in series.ago], "y": y,
        "points": [uid for uid, values in quantiles.items() if _lonely(values)],
        "layout": marks | {
            "annotations": _titles(series) + marks["annotations"], "yaxis5": _drift_axis(series),
            "yaxis7": _replicas_axis(series),
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
        trace | {"x": data["x"], "y": data["y"][trace["uid"]]} | _hover(trace, data["y"][trace["uid"]])
        | ({"mode": "lines+markers"} if trace["uid"] in data["points"] else {})
        for trace in spec["data"]
    ]  # fmt: skip
    return go.Figure(data=traces, layout=spec["layout"] | data["layout"])


def _hover(trace: dict[str, Any], values: Sequence[Any]) -> dict[str, Any]:
    """Return what the pointer shows: in a stack, plotly.js takes what is missing for 0, and would say so."""
    if "stackgroup" not in trace or None not in values:
        return {}
    template = trace["hovertemplate"]
    none = f"—{template[template.index('<extra>') :]}"
    return {"hovertemplate": [none if value is None else template for value in values]}


def drift_top(series: Series) -> float:
    """Return where an axis of the columns that drifted ends, percent: short enough to show one of thirty."""
    most = max((share for share in series.drift if share is not None), default=0.0)
    return 100 * next(end for end in _DRIFTED if most <= end)


def shares_of(series: Series) -> dict[str, list[float | None]]:
    """Return the share of each class among the answers of 15 seconds, at each step.

    They are those up to the step; of the first 15 seconds after a gap, all of them. None where there were no answers
    for more than 15 seconds. The most frequent classes have their own share, in the order of their names; all further
    ones are "others".
    """
    shown = _classes(series)
    counts = {label: list(series.classes[label]) for label in shown if label in series.classes}
    if OTHERS in shown:
        rest = [values for label, values in series.classes.items() if label not in shown or label == OTHERS]
        counts[OTHERS] = [sum(values) for values in zip(*rest, strict=True)]
    totals = [sum(values) for values in zip(*counts.values(), strict=True)]
    width = max(1, _SMOOTH // series.step)
    spans = [
        (at, max(first, at - width + 1), max(at + 1, min(first + width, last + 1)))
        for first, last in _busy(totals, width)
        for at in range(first, last + 1)
    ]
    sums, below = {label: [0, *accumulate(counts[label])] for label in shown}, [0, *accumulate(totals)]
    shares: dict[str, list[float | None]] = {label: [None] * len(totals) for label in shown}
    for label, above in sums.items():
        for at, begin, end in spans:
            shares[label][at] = round((above[end] - above[begin]) / (below[end] - below[begin]), 4)
    return shares


def _busy(totals: Sequence[int], width: int) -> list[list[int]]:
    """Return the first and the last step of each run of answers; less than ``width`` steps without any are no gap."""
    runs: list[list[int]] = []
    for at in (at for at, total in enumerate(totals) if total):
        if runs and at - runs[-1][1] <= width:
            runs[-1][1] = at
        else:
            runs.append([at, at])
    return runs


def _percents(shares: Iterable[float | None]) -> list[float | None]:
    return [None if share is None else round(100 * share, 2) for share in shares]


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


def _failed(series: Series) -> list[str]:
    """Return the kinds of errors that there were."""
    return [kind for kind in _ERRORS if any(series.kinds[kind])]


def _classes(series: Series) -> tuple[str, ...]:
    if _kind(series) == "numbers":
        return ()
    named = [label for label in series.classes if label != OTHERS]
    if len(series.classes) <= _MOST_CLASSES:
        most = named
    else:
        most = sorted(named, key=lambda label: -sum(series.classes[label]))[: _MOST_CLASSES - 1]
    return (*sorted(most), *((OTHERS,) if len(most) < len(series.classes) else ()))


def _traces(series: Series, *, alone: bool) -> list[dict[str, Any]]:
    lines = [_line("requests", "y", _BLUE, legend=None, fill="tozeroy", unit="/s")]
    lines += [_line(name, "y2", colour, dash=dash, unit=" ms") for name, colour, dash in _QUANTILES]
    failed = _failed(series)
    lines += [_area(_uid(kind), kind, "y3", _ERRORS[kind], hover="%{y:.3~g}/s") for kind in failed]
    lines += [] if failed else [_line("errors", "y3", _RED, legend=None, unit="/s")]
    if _kind(series) == "numbers":
        lines += [_line(name, "y4", _BLUE, dash=dash, uid=f"answer-{name}") for name, dash in _SPREAD]
    else:
        shown = _classes(series)
        looks = [*AREAS[: len(shown) - 1], AREAS[-1]] if OTHERS in shown else AREAS
        longest = min(_LONGEST, int((_LEGEND / max(1, len(shown)) - _SWATCH) / _CHARACTER))
        lines += [
            _area(f"class-{at}", shortened(label, longest), "y4", look, hover="%{y:.3~g} %")
            for at, (label, look) in enumerate(zip(shown, looks, strict=False))
        ]
    return [
        *lines,
        *([_line("none", "y4", _BLUE, legend=None)] if _none(series) else []),  # so that the pane is there
        _line("drift", "y5", _PINK, legend=None, fill="tozeroy", shape="hv", unit=" %"),
        _line("in flight", "y6", _SKY, fill="tozeroy", legend=None if alone else ""),
        *([] if alone else [_line("replicas", "y7", _ORANGE, dash="dash", shape="hv", legend="legend6")]),
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
        "line": {"color": colour, "width": 0, "shape": "hv"},  # with a width, it would be drawn where there is nothing
        "fillpattern": {
            "shape": pattern, "size": 6, "solidity": 0.35, "fgcolor": colour, "bgcolor": _pale(colour, 0.4),
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
        "autosize": True,
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
        layout[f"yaxis{number}"] = _axis(pane, domain)
        layout[f"legend{number}"] = {
            "x": 1, "xanchor": "right", "y": domain[1], "yanchor": "bottom", "orientation": "h",
            "bgcolor": "rgba(0,0,0,0)", "font": {"size": 10.5}, "itemwidth": 30, "traceorder": "normal",
        }  # fmt: skip
    layout["yaxis4"] |= {"rangemode": "normal"} if _kind(series) == "numbers" else {
        "range": [0, 100], "tickvals": [0, 50, 100], "ticktext": ["0 %", "50 %", "100 %"],
    }  # fmt: skip
    return layout


def _axis(pane: _Pane, domain: list[float]) -> dict[str, Any]:
    return {
        "domain": domain, "anchor": "x", "rangemode": "tozero", "nticks": pane.ticks, "gridcolor": _GRID,
        "zerolinecolor": _GRID, "fixedrange": True,
    }  # fmt: skip


def _drift_axis(series: Series) -> dict[str, Any]:
    top = drift_top(series)
    pane, domain = next(one for one in zip(_PANES, _domains(), strict=True) if one[0].axis == "y5")
    ticks = [0, top / 2, top]
    return _axis(pane, domain) | {
        "range": [0, top], "tickvals": ticks, "ticktext": [f"{tick:g} %" for tick in ticks],
    }  # fmt: skip


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


@dataclass(frozen=True, slots=True)
class _Label:
    """Where a mark's label is, in pixels of the time axis."""

    words: str
    anchor: str
    begin: float
    end: float


def _marks(view: MonitorView) -> dict[str, Any]:
    """Return an upright line for each mark, a label where there is room for one, and the height that they need."""
    oldest = -view.series.ago[0]
    seen = [mark for mark in view.marks if mark.at - view.series.step <= view.series.end <= mark.at + oldest]
    since = [max(view.series.end - mark.at, 0.0) for mark in seen]
    marks = [(mark, x, (1 - x / oldest) * _NARROW) for mark, x in zip(seen, since, strict=True)]
    labels = [_label(mark, at) for mark, _, at in marks]
    levels = _levels(labels, [_RANKS.get(mark.kind, 0) for mark in seen])
    heights = [0 if level is None else _ABOVE + _LEVEL * level for level in levels]
    top = _ABOVE + _LEVEL * max((level + 1 for level in levels if level is not None), default=1) + 4
    placed = [one for one in zip(marks, labels, heights, strict=True) if one[2]]
    return {
        "height": top + _INNER + _BOTTOM, "margin": {"l": _LEFT, "r": _RIGHT, "t": top, "b": _BOTTOM},
        "shapes": [_upright(mark, x, at) for mark, x, at in marks],
        "annotations": [
            {
                "text": escape(label.words, quote=False), "x": x, "xref": "x", "xanchor": label.anchor, "y": 1,
                "yref": "paper", "yanchor": "bottom", "yshift": height, "showarrow": False, "font": {"size": 10.5},
            }
            for (_, x, _), label, height in placed
        ],
    }  # fmt: skip


def _upright(mark: Mark, x: float, at: float) -> dict[str, Any]:
    """Return a line through the panes, but not through what stands between them, and up to the labels."""
    above = _ABOVE / _INNER if at > _HEADING else 0.0
    spans = [(low, high + above if high == 1 else high) for low, high in _domains()]
    return {
        "type": "path", "xref": "x", "yref": "paper", "layer": "below",
        "path": " ".join(f"M{x:.2f},{low:.4f}L{x:.2f},{high:.4f}" for low, high in spans), "line": {
            "color": _COLOURS.get(mark.kind, _GREY), "width": 1.4, "dash": _DASHES.get(mark.kind, "dash"),
        },
    }  # fmt: skip


def _label(mark: Mark, at: float) -> _Label:
    words = _named(mark)
    width = _CHARACTER * len(words)
    anchor = "left" if at < width / 2 else "right" if at > _NARROW - width / 2 else "center"
    begin = at - {"left": 0, "center": width / 2, "right": width}[anchor]
    return _Label(words, anchor, begin, begin + width)


def _named(mark: Mark) -> str:
    """Return a mark in a few words: of an alert what it is about, whose figures are told below."""
    words = " ".join(mark.words.split())
    if mark.kind in SIGNS:
        about = _FIGURES.split(_SHARE.sub("", words))[0].replace("refused again", "refused")
        words = f"{SIGNS[mark.kind]} {about}"
    return words if len(words) <= _LONGEST else f"{words[: _LONGEST - 1].rstrip()}…"


def _levels(labels: Sequence[_Label], ranks: Sequence[int]) -> list[int | None]:
    """Return the row of each label, from below, None where it has no room; the first ranks choose first."""
    levels: list[int | None] = [None] * len(labels)
    rows: list[list[_Label]] = [[] for _ in range(_LEVELS)]
    for at in sorted(range(len(labels)), key=lambda at: (ranks[at], -at)):
        one = labels[at]
        for level, row in enumerate(rows):
            if all(one.end + _CHARACTER <= other.begin or other.end + _CHARACTER <= one.begin for other in row):
                row.append(one)
                levels[at] = level
                break
    return levels
