"""Plotly figures of scaling: load, capacity and replicas with the reason of each change, and policies side by side."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from itertools import cycle, pairwise
from math import isfinite, isnan
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.errors import MissingLibraryError
from mlnb.monitoring.figures_dashboard import shortened
from mlnb.monitoring.numerals import duration, milliseconds, percent
from mlnb.monitoring.numerals import figure as figure_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from plotly.graph_objects import Figure

    from mlnb.monitoring.scaling_picture import ScalingFigures, ScalingPicture

__all__ = ["comparison_figure", "scaling_figure"]

# Okabe and Ito's palette: told apart with any colour vision, on white and on dark (https://jfly.uni-koeln.de/color/).
# The blue is a little lighter than theirs, to be seen on dark as well.
_BLUE, _GREEN, _ORANGE, _RED, _SKY, _PINK = "#2584C6", "#009E73", "#E69F00", "#D55E00", "#56B4E9", "#CC79A7"
_GREY = "#8C8C8C"
_POLICIES = (_BLUE, _ORANGE, _GREEN, _PINK, _RED, _SKY)
_GRID = "rgba(128, 128, 128, 0.22)"
_MUTED = "#797979"  # text as clear on white as on dark, where no page sets its colour
_CLEAR = "rgba(0,0,0,0)"
_TITLE, _BOTTOM, _LEFT, _RIGHT = 27, 38, 46, 22  # pixels above each pane, and around them
_HEAD, _LINE = 30, 18  # pixels above the panes without the title, and of a line of the title
_WIDE, _REASON = 84, 56  # characters of a line of the title that is read at 600 pixels, and of a reason
_PLAIN, _STEPS = 720, 600  # samples up to which each one is drawn, and steps that more of them are drawn in
_MOST_STEPS = 2000  # more, where the number of replicas changes
_MOST_MARKS = 1000  # changes with a mark; those before them show in the line
_STEEP = 20  # times the middle, from where on latencies have an axis in powers of ten
_DAY = 86_400
_HOURS = 36_000  # replica-seconds that are told in hours
_ROW, _BAR = 48, 19  # pixels of a policy's replicas over time, and of its bars
_NAME, _NAMES, _MIDDLE = 22, 0.27, 0.66  # characters of a policy's name beside its bars, and where these begin


@dataclass(frozen=True, slots=True)
class _Columns:
    """A picture in as many steps as one can see; a change of the number of replicas always begins a step."""

    x: list[str]
    load: list[float | None]
    peak: list[float | None]  # nothing where each sample has its own step
    capacity: list[float | None]
    needed: list[float | None]
    ready: list[int]
    desired: list[int]
    p95: list[float | None]


@dataclass(frozen=True, slots=True)
class _Side:
    """Bars of one figure, one for each policy."""

    title: str
    values: list[float]
    texts: list[str]


def scaling_figure(picture: ScalingPicture) -> Figure:
    """Draw load and capacity, replicas and the reasons why they changed, and p95 over one time axis.

    Of more than 720 samples, load is drawn as the mean and the peak, and p95 as the highest of about 600 steps;
    the number of replicas stays exact. The background is transparent, so that the page's own theme shows.

    Raises
    ------
    MissingLibraryError
        If plotly is not installed.
    """
    go = _graph_objects()
    columns, tops = _columns(picture), (120, 84, 96)
    words = _words(picture)
    domains = _domains([(_TITLE, height) for height in tops])
    traces = [*_load(columns), *_replicas(columns), *_marks(picture), *_latency(picture, columns)]
    titles, missing = ("requests/s", "replicas", "latency, ms"), _missing(picture, columns)
    layout = _layout(words, height=sum(tops) + _TITLE * (len(tops) - 1)) | {
        "xaxis": _time_axis(picture, anchor="y3"),
        "yaxis": _axis(domains[0], "x"),
        "yaxis2": _axis(domains[1], "x") | _counts(max([1, *picture.ready, *picture.desired])),
        "yaxis3": _axis(domains[2], "x") | _room(picture.objective) | _steep(columns.p95, picture.objective),
        **{f"legend{at}": _legend(domain) for at, domain in zip(("", "2", "3"), domains, strict=True)},
    }
    for at, pane in enumerate(zip(titles, missing, domains, strict=True)):
        layout["annotations"] += _pane(*pane)
        layout[f"yaxis{at + 1 if at else ''}"]["showticklabels"] = not missing[at]
    return go.Figure(data=traces, layout=layout)


def comparison_figure(pictures: Sequence[ScalingPicture], figures: Sequence[ScalingFigures]) -> Figure:
    """Draw what policies made of the same load: replicas over time, requests over the objective and replica-seconds.

    Parameters
    ----------
    pictures : sequence of ScalingPicture
        One for each policy, named as it is.
    figures : sequence of ScalingFigures
        In the same order.

    Raises
    ------
    MissingLibraryError
        If plotly is not installed.
    """
    go = _graph_objects()
    count = len(pictures)
    sizes = [(_TITLE, _ROW)] * count + [(_TITLE + 18, _BAR * count + 6)]
    domains = _domains(sizes)
    most = max([1, *(max(picture.ready, default=0) for picture in pictures)])
    colours = [colour for colour, _ in zip(cycle(_POLICIES), pictures, strict=False)]
    layout = _layout("", height=sum(map(sum, sizes)) - sizes[0][0])
    traces: list[dict[str, Any]] = []
    for at, (picture, one, domain) in enumerate(zip(pictures, figures, domains, strict=False), start=1):
        traces += _policy(_columns(picture), picture.name, f"y{at}", colours[at - 1], first=at == 1)
        layout[f"yaxis{at}"] = _axis(domain, "x") | _counts(most, ticks=2)
        layout["annotations"] += [*_pane(shortened(picture.name, 44), "", domain), _turns(one, domain)]
    if pictures:
        layout["xaxis"] = _time_axis(pictures[0], anchor=f"y{count}")
    sides = _sides(figures)
    traces += [_bars(side, colours, at=at, row=count + at + 1) for at, side in enumerate(sides)]
    layout |= _bar_axes(sides, [one.name for one in figures], domains[-1])
    for side, left in zip(sides, (_NAMES, _MIDDLE), strict=True):
        layout["annotations"] += [title | {"x": left} for title in _pane(side.title, "", domains[-1])]
    layout["legend"] = _legend(domains[0]) | {"yref": "container", "y": 1, "yanchor": "top"}
    return go.Figure(data=traces, layout=layout)


def _graph_objects() -> Any:
    try:
        import plotly.graph_objects as go
    except ImportError:
        raise MissingLibraryError("The figure needs plotly. Run: pip install 'mlnb[lab]'") from None
    return go


def _columns(picture: ScalingPicture) -> _Columns:
    ready, desired = np.asarray(picture.ready, dtype=int), np.asarray(picture.desired, dtype=int)
    even, starts = _steps(ready, desired)
    part = np.searchsorted(even, starts, side="right") - 1  # of the even ones, where each begins
    rate, capacity = _numbers(picture.rate), _numbers(picture.capacity)
    p95 = _numbers(picture.p95 or (None,) * len(picture.at))
    load = _by_step(np.add, rate, even) / _by_step(np.add, np.where(np.isnan(rate), np.nan, 1.0), even)
    of_one = capacity[ready > 0] / ready[ready > 0]
    per_replica = float(np.nanmedian(of_one)) if np.isfinite(of_one).any() else 0.0
    return _Columns(
        x=[_moment(picture.at[at], epoch=picture.epoch) for at in starts], load=_listed(load[part]),
        peak=[] if len(even) == len(rate) else _listed(_by_step(np.maximum, rate, even)[part]),
        capacity=_listed(capacity[starts]), needed=_listed(load[part] / (per_replica or np.nan)),
        ready=ready[starts].tolist(), desired=desired[starts].tolist(),
        p95=_listed(_by_step(np.maximum, p95, even)[part]),
    )  # fmt: skip


def _steps(ready: NDArray[np.int_], desired: NDArray[np.int_]) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Return where even steps begin, and these with the end and each change of the number of replicas."""
    count = len(ready)
    if count <= _PLAIN:
        return np.arange(count), np.arange(count)
    changed = 1 + np.flatnonzero((np.diff(ready) != 0) | (np.diff(desired) != 0))
    changed = changed[:: 1 + len(changed) // _MOST_STEPS]
    even = np.linspace(0, count, _STEPS, endpoint=False).astype(int)
    return even, np.unique(np.concatenate([even, changed, [count - 1]]))


def _numbers(values: Sequence[float | None]) -> NDArray[np.float64]:
    numbers = np.array([np.nan if value is None else value for value in values], dtype=float)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _by_step(operation: np.ufunc, values: NDArray[np.float64], starts: NDArray[np.int_]) -> NDArray[np.float64]:
    """Return the sum or the highest of what is known in each step, NaN where nothing is."""
    known = ~np.isnan(values)
    if not len(values):
        return values
    taken: NDArray[np.float64] = operation.reduceat(np.where(known, values, 0.0), starts)
    return np.where(np.logical_or.reduceat(known, starts), taken, np.nan)


def _listed(values: NDArray[np.float64]) -> list[float | None]:
    return [None if isnan(value) else float(f"{value:.4g}") for value in values.tolist()]


def _moment(at: float, *, epoch: bool) -> str:
    """Return a moment as plotly.js reads it: in this machine's time zone, or since the beginning."""
    moment = datetime.fromtimestamp(at, UTC)
    return (moment.astimezone() if epoch else moment).replace(tzinfo=None).isoformat(timespec="milliseconds")


def _load(columns: _Columns) -> list[dict[str, Any]]:
    look = {"color": _BLUE, "width": 1.6}
    peak = {"color": _BLUE, "width": 1, "dash": "dot"}
    capacity = {"color": _ORANGE, "width": 1.6, "dash": "dash", "shape": "hv"}
    return [
        _trace("load", "y", columns.x, columns.load, look, "%{y:.4~g}/s", fill="tozeroy"),
        *([_trace("peak", "y", columns.x, columns.peak, peak, "%{y:.4~g}/s")] if columns.peak else []),
        _trace("capacity", "y", columns.x, columns.capacity, capacity, "%{y:.4~g}/s"),
    ]


def _replicas(columns: _Columns) -> list[dict[str, Any]]:
    ready = {"color": _SKY, "width": 1.6, "shape": "hv"}
    desired = {"color": _GREY, "width": 1.6, "dash": "dot", "shape": "hv"}
    return [
        _trace("ready", "y2", columns.x, columns.ready, ready, "%{y}", fill="tozeroy"),
        _trace("desired", "y2", columns.x, columns.desired, desired, "%{y}"),
    ]


def _marks(picture: ScalingPicture) -> list[dict[str, Any]]:
    """Return a trace of the changes up and one of those down, whose hover says why."""
    before = dict(zip(picture.at, (picture.ready[:1] + picture.desired)[:-1], strict=False))
    steps = [before.get(at, picture.ready[0] if picture.ready else 0) for at, _, _ in picture.changes[:1]]
    steps += [count for _, count, _ in picture.changes]
    changes = list(zip(pairwise(steps), picture.changes, strict=True))[-_MOST_MARKS:]
    return [
        _marked(name, sign, picture, [(old, change) for (old, new), change in changes if (new > old) == up])
        for name, sign, up in (("more", "triangle-up", True), ("fewer", "triangle-down", False))
    ]


def _marked(
    name: str, sign: str, picture: ScalingPicture, changes: list[tuple[int, tuple[float, int, str]]]
) -> dict[str, Any]:
    x = [_moment(at, epoch=picture.epoch) for _, (at, _, _) in changes]
    colour = _RED if name == "more" else _GREEN
    return {
        "type": "scatter", "mode": "markers", "name": name, "xaxis": "x", "yaxis": "y2", "legend": "legend2", "x": x,
        "y": [count for _, (_, count, _) in changes], "showlegend": bool(changes),
        "text": [f"{old} → {new}: {_wrapped(reason, _REASON)}" for old, (_, new, reason) in changes],
        "marker": {"symbol": sign, "size": 9, "color": colour, "line": {"width": 0}},
        "hovertemplate": "%{x|%H:%M:%S}, %{text}<extra></extra>",
    }  # fmt: skip


def _latency(picture: ScalingPicture, columns: _Columns) -> list[dict[str, Any]]:
    traces = [_trace("p95", "y3", columns.x, columns.p95, {"color": _GREEN, "width": 1.6}, "%{y:.4~g} ms")]
    if picture.objective is not None and columns.x:
        ends, look = [columns.x[0], columns.x[-1]], {"color": _RED, "width": 1.4, "dash": "dash"}
        name = f"objective {milliseconds(picture.objective)}"
        line = _trace(name, "y3", ends, [picture.objective] * 2, look, "")
        traces.append(line | {"hoverinfo": "skip", "hovertemplate": None})
    return traces


def _trace(
    name: str, axis: str, x: list[str], y: Sequence[float | None], line: dict[str, Any], hover: str,
    *, fill: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    filled = {} if fill is None else {"fill": fill, "fillcolor": _pale(line["color"])}
    return filled | {
        "type": "scatter", "mode": "lines+markers" if _lonely(y) else "lines", "name": name, "xaxis": "x",
        "yaxis": axis, "legend": f"legend{axis.removeprefix('y')}", "showlegend": True, "x": x, "y": list(y),
        "line": line, "marker": {"size": 4}, "hovertemplate": f"{hover}<extra>{name}</extra>",
    }  # fmt: skip


def _lonely(values: Sequence[float | None]) -> bool:
    """Say whether there is a value between two gaps, which no line shows."""
    around = zip([None, *values], values, [*values[1:], None], strict=False)
    return any(before is None and one is not None and after is None for before, one, after in around)


def _policy(columns: _Columns, name: str, axis: str, colour: str, *, first: bool) -> list[dict[str, Any]]:
    """Return the replicas that the load needs as an area, and those that there were as a line above it."""
    needed = _trace("the load needs", axis, columns.x, columns.needed, {"color": _GREY, "width": 0}, "%{y:.2~f}")
    ready = {"color": colour, "width": 1.8, "shape": "hv"}
    there = _trace(_plain(shortened(name, _NAME)), axis, columns.x, columns.ready, ready, "%{y} ready")
    return [
        needed | {"fill": "tozeroy", "fillcolor": _pale(_GREY, 0.32), "legend": "legend", "showlegend": first},
        there | {"showlegend": False, "legend": "legend"},
    ]


def _turns(one: ScalingFigures, domain: list[float]) -> dict[str, Any]:
    words = f"{one.turns:,} change{'' if one.turns == 1 else 's'} of direction"
    return _pane(words, "", domain)[0] | {"x": 1, "xanchor": "right", "font": {"size": 10.5}}


def _sides(figures: Sequence[ScalingFigures]) -> tuple[_Side, _Side]:
    over, seconds = [one.over for one in figures], [one.replica_seconds for one in figures]
    long = max(map(_known, seconds), default=0) >= _HOURS
    shown = [second / 3600 for second in seconds] if long else seconds
    return (
        _Side("requests over the objective", list(map(_known, over)), list(map(percent, over))),
        _Side(f"replica-{'hours' if long else 'seconds'}", list(map(_known, shown)), list(map(figure_text, shown))),
    )


def _bars(side: _Side, colours: list[str], *, at: int, row: int) -> dict[str, Any]:
    return {
        "type": "bar", "orientation": "h", "xaxis": f"x{at + 2}", "yaxis": f"y{row}", "showlegend": False,
        "x": side.values, "y": list(range(len(side.values))), "text": side.texts, "textposition": "outside",
        "cliponaxis": False, "textfont": {"color": _MUTED}, "hoverinfo": "skip",
        "marker": {"color": [_pale(colour, 0.55) for colour in colours], "line": {"color": colours, "width": 1.2}},
    }  # fmt: skip


def _bar_axes(sides: tuple[_Side, _Side], names: list[str], domain: list[float]) -> dict[str, Any]:
    count = len(names)
    hidden = {"showgrid": False, "zeroline": False, "showticklabels": False, "fixedrange": True}
    rows = hidden | {"domain": domain, "range": [max(1, count) - 0.5, -0.5]}
    named = {"tickvals": list(range(count)), "ticktext": [_plain(shortened(name, _NAME)) for name in names]}
    left, right = ({"range": [0, 1.35 * (max(side.values, default=0) or 1)]} for side in sides)
    return {
        "xaxis2": hidden | left | {"domain": [_NAMES, _MIDDLE - 0.03], "anchor": f"y{count + 1}"},
        "xaxis3": hidden | right | {"domain": [_MIDDLE, 1], "anchor": f"y{count + 2}"},
        f"yaxis{count + 1}": rows | named | {"anchor": "x2", "showticklabels": True, "ticklabelstandoff": 4},
        f"yaxis{count + 2}": rows | {"anchor": "x3"},
        "bargap": 0.35,
    }


def _known(value: float) -> float:
    return value if isfinite(value) else 0.0


def _words(picture: ScalingPicture) -> str:
    """Return the title: what happened, in a line."""
    if not picture.at:
        return f"{picture.name}: nothing decided yet"
    least, most, count = min(picture.ready), max(picture.ready), len(picture.changes)
    replicas = f"{most} replica{'' if most == 1 else 's'}" if least == most else f"{least} to {most} replicas"
    if picture.at[0] == picture.at[-1] and not count:
        return f"{picture.name}: {replicas}"
    changes = f"{count:,} change{'' if count == 1 else 's'}" if count else "no change"
    marked = f" (the last {_MOST_MARKS:,} are marked)" if count > _MOST_MARKS else ""
    return f"{picture.name}: {replicas}, {changes} in {duration(round(picture.at[-1] - picture.at[0]))}{marked}"


def _missing(picture: ScalingPicture, columns: _Columns) -> tuple[str, str, str]:
    """Return for each pane what to say where it has nothing to show."""
    if not picture.at:
        return ("nothing yet",) * 3
    return (
        "" if {*columns.load, *columns.capacity} - {None} else "not measured",
        "",
        "" if {*columns.p95} - {None} else "no answers yet",
    )


def _layout(words: str, *, height: int) -> dict[str, Any]:
    lines = wrap(words, _WIDE)
    top = _HEAD + _LINE * len(lines)
    title = {
        "text": "<br>".join(map(_plain, lines)), "font": {"size": 13, "color": _MUTED}, "showarrow": False,
        "align": "left", "xref": "paper", "x": 0, "xanchor": "left", "xshift": 8 - _LEFT, "yref": "paper", "y": 1,
        "yanchor": "bottom", "yshift": 24,
    }  # fmt: skip
    return {
        "autosize": True, "height": top + height + _BOTTOM, "paper_bgcolor": _CLEAR, "plot_bgcolor": _CLEAR,
        "margin": {"l": _LEFT, "r": _RIGHT, "t": top, "b": _BOTTOM}, "font": {"size": 11, "color": _MUTED},
        "hovermode": "x unified", "hoversubplots": "axis", "uirevision": "keep", "dragmode": "zoom",
        "hoverlabel": {"align": "left"}, "annotations": [title] if lines else [],
    }  # fmt: skip


def _domains(sizes: Sequence[tuple[int, int]]) -> list[list[float]]:
    """Return the bottom and the top of panes, from the uppermost, of which each has its title's height above it."""
    whole = top = sum(map(sum, sizes)) - sizes[0][0]
    domains: list[list[float]] = []
    for title, height in sizes:
        top -= title if domains else 0
        domains.append([max(0.0, (top - height) / whole), top / whole])
        top -= height
    return domains


def _pane(title: str, missing: str, domain: list[float]) -> list[dict[str, Any]]:
    place = {"xref": "paper", "yref": "paper", "showarrow": False}
    titles = [
        place | {
            "text": _plain(title), "x": 0, "xanchor": "left", "y": domain[1], "yanchor": "bottom", "yshift": 3,
            "font": {"size": 12},
        }
    ]  # fmt: skip
    if missing:
        titles.append(place | {"text": missing, "x": 0.5, "y": sum(domain) / 2})
    return titles


def _legend(domain: list[float]) -> dict[str, Any]:
    return {
        "x": 1, "xanchor": "right", "y": domain[1], "yanchor": "bottom", "orientation": "h", "bgcolor": _CLEAR,
        "font": {"size": 10.5}, "itemwidth": 30, "traceorder": "normal",
    }  # fmt: skip


def _axis(domain: list[float], anchor: str) -> dict[str, Any]:
    return {
        "domain": domain, "anchor": anchor, "rangemode": "tozero", "nticks": 4, "gridcolor": _GRID,
        "zerolinecolor": _GRID, "fixedrange": True,
    }  # fmt: skip


def _counts(most: int, *, ticks: int = 4) -> dict[str, Any]:
    """Return an axis of whole numbers, with at most so many ticks above 0."""
    step = next(digit * 10**power for power in range(9) for digit in (1, 2, 5) if most / (digit * 10**power) <= ticks)
    return {"range": [0, 1.12 * most], "tickvals": list(range(0, most + 1, step)), "tickformat": ",d"}


def _room(objective: float | None) -> dict[str, Any]:
    """Return what leaves some room above the objective's line."""
    return {} if objective is None else {"autorangeoptions": {"include": 1.15 * objective}}


def _steep(values: Sequence[float | None], objective: float | None) -> dict[str, Any]:
    """Return an axis of powers of ten where the highest latencies would press all others to the ground."""
    known = sorted(value for value in values if value is not None and value > 0)
    if not known or known[-1] <= _STEEP * max(objective or 0, known[len(known) // 2]):
        return {}
    return {"type": "log", "dtick": 1, "tickformat": ",~g", "rangemode": "normal"}


def _time_axis(picture: ScalingPicture, *, anchor: str) -> dict[str, Any]:
    axis = {
        "type": "date", "anchor": anchor, "gridcolor": _GRID, "zeroline": False, "nticks": 7,
        "hoverformat": "%H:%M:%S", "showspikes": True, "spikemode": "across", "spikethickness": 1,
        "spikecolor": _GREY, "spikedash": "solid", "spikesnap": "cursor", "visible": bool(picture.at),
    }  # fmt: skip
    if picture.at:
        begin, end = picture.at[0], picture.at[-1]
        aside = 0 if begin < end else 10  # seconds on both sides of one moment
        axis["range"] = [_moment(at, epoch=picture.epoch) for at in (begin - aside, end + aside)]
    if not picture.epoch and picture.at:  # plotly.js would name the year 1970
        axis["tickformat"] = "day %-j, %H:%M" if picture.at[-1] > _DAY else "%H:%M:%S"
    return axis


def _wrapped(words: str, width: int) -> str:
    return "<br>".join(map(_plain, wrap(words, width)))


def _plain(words: str) -> str:
    """Return text that plotly.js takes for no markup and no template."""
    return escape(words, quote=False).replace("%{", "% {")


def _pale(colour: str, opacity: float = 0.22) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity})"
