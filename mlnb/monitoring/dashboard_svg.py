"""The dashboard as a picture that stays: small multiples as SVG, for a saved notebook and for GitHub."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from html import escape
from math import floor, log10
from typing import TYPE_CHECKING, Any

from mlnb.monitoring.figures_dashboard import ALONE, AREAS, SIGNS, drift_top, shares_of, shortened
from mlnb.monitoring.numerals import duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlnb.monitoring.metrics import MetricsSnapshot, Series
    from mlnb.monitoring.quality import QualityReport
    from mlnb.monitoring.view import MonitorView

__all__ = ["dashboard_svg", "figures_of", "overview_svg"]

_WIDTH, _COLUMN, _LEFT, _RIGHT, _GAP = 720, 360, 40, 12, 30  # pixels
_TALL, _TITLE, _HEAD = 84, 33, 56
_BLUE, _GREEN, _ORANGE, _RED, _PINK, _SKY = "#2584C6", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#56B4E9"
_INK, _FAINT = "#797979", "rgba(128,128,128,0.3)"  # as clear on white as on dark
_DASHES = {"solid": "", "dash": ' stroke-dasharray="5 3"', "dot": ' stroke-dasharray="1.5 2.5"'}
_PATTERNS = {"/": "M-1 7L7 -1", "\\": "M-1 -1L7 7", "x": "M-1 7L7 -1M-1 -1L7 7", ".": "M2 3h2", "-": "M0 3h6"}
_MOST_MODELS, _ROW = 40, 28
_LONGEST = 30  # characters of a name
_CHARACTER, _APART = 5.6, 20  # pixels of a character, and between the labels of two marks
_LONGEST_CLASS = 12  # characters
_MOST_POINTS = 100  # of a curve
_SHORT = {"invalid request": "invalid", "model failed": "failed"}
_LINE, _MOST_LINES = 124, 8  # characters of a line below the plots, and lines
_FEWEST = 20  # steps that are shown of a deployment that was first asked a moment ago
_MINUTE = 60


@dataclass(frozen=True, slots=True)
class _Curve:
    name: str
    values: Sequence[float | None]
    colour: str
    dash: str = "solid"


@dataclass(frozen=True, slots=True)
class _Plot:
    title: str
    curves: tuple[_Curve, ...]
    unit: str = ""
    top: float | None = None  # of the y axis
    stacked: bool = False


def dashboard_svg(view: MonitorView) -> str:
    """Return the picture of one deployment: its figures, six small plots, and what was found.

    The plots begin with the first request.
    """
    view = replace(view, series=_begun(view.series))
    plots = [
        replace(plot, curves=tuple(replace(curve, values=_thinned(curve.values)) for curve in plot.curves))
        for plot in _plots(view)
    ]
    rows = (len(plots) + 1) // 2
    found = _found(view)
    height = _HEAD + rows * (_TITLE + _TALL + _GAP) + 16 * len(found) + 8
    body = _heading(view)
    for at, plot in enumerate(plots):
        x, y = at % 2 * _COLUMN, _HEAD + at // 2 * (_TITLE + _TALL + _GAP)
        body += f'<g transform="translate({x} {y})">{_drawn(plot, view)}</g>'
    below = _HEAD + rows * (_TITLE + _TALL + _GAP) + 12
    body += "".join(_text(8, below + 16 * at, line) for at, line in enumerate(found))
    return _svg(body, height, f"{view.name} v{view.version}: {figures_of(view)}")


def overview_svg(views: Sequence[MonitorView]) -> str:
    """Return the picture of several deployments, a row for each."""
    body, shown = "", views[:_MOST_MODELS]
    for at, view in enumerate(shown):
        y = _ROW * at + 22
        metrics = view.metrics
        p95 = "" if metrics.p95 is None else f"p95 {_number(metrics.p95)} ms · "
        figures = f"{_number(metrics.rate)} req/s · {p95}{_errors(metrics)}" if view.state == "live" else "stopped"
        body += _dot(view, 14, y - 4) + _text(26, y, f"{shortened(view.name, _LONGEST)} v{view.version}", bold=True)
        body += _text(272, y, figures) + _polyline(view.metrics.recent, _WIDTH - 112, y - 12, 100, 14)
    if len(views) > len(shown):
        body += _text(26, _ROW * len(shown) + 22, f"and {len(views) - len(shown)} more")
    if not views:
        body = _text(8, 22, "Nothing is deployed.")
    rows = max(1, len(shown) + (len(views) > len(shown)))
    return _svg(body, _ROW * rows + 10, ", ".join(view.name for view in shown) or "nothing is deployed")


def figures_of(view: MonitorView) -> str:
    """Return the figures of the last minute in one line, such as ``12 req/s · p50 1.2 ms · p95 3 ms · 0 errors``."""
    metrics = view.metrics
    quantiles = (("p50", metrics.p50), ("p95", metrics.p95), ("p99", metrics.p99))
    known = [f"{name} {_number(value)} ms" for name, value in quantiles if value is not None]
    return " · ".join([f"{_number(metrics.rate)} req/s", *known, _errors(metrics)])


def _errors(metrics: MetricsSnapshot) -> str:
    return f"{metrics.window_errors:,} error{'' if metrics.window_errors == 1 else 's'}"


def _plots(view: MonitorView) -> list[_Plot]:
    series = view.series
    load = [_Curve("in flight", series.in_flight, _SKY)]
    load += [] if view.place in ALONE else [_Curve("replicas", series.replicas, _ORANGE, "dash")]
    errors = [name for name, counts in series.kinds.items() if any(counts)]
    kinds = tuple(
        _Curve(_SHORT.get(name, name), [count / series.step for count in series.kinds[name]], colour)
        for name, (colour, _) in zip(errors, AREAS, strict=False)
    )
    return [
        _Plot("requests/s", (_Curve("", [count / series.step for count in series.requests], _BLUE),)),
        _Plot("latency, ms", (
            _Curve("p50", series.p50, _GREEN), _Curve("p95", series.p95, _ORANGE, "dash"),
            _Curve("p99", series.p99, _RED, "dot"),
        )),
        _Plot("errors/s", kinds or (_Curve("", [0.0] * len(series.ago), _RED),), stacked=bool(kinds)),
        _answers(series),
        _Plot(
            "columns that drifted", (_Curve("", [_times(value, 100) for value in series.drift], _PINK),), " %",
            drift_top(series),
        ),
        _Plot("load", tuple(load)),
    ]  # fmt: skip


def _answers(series: Series) -> _Plot:
    if series.numbers:
        dashes = {"p5": "dot", "p50": "solid", "p95": "dash"}
        return _Plot("answers", tuple(_Curve(name, series.numbers[name], _BLUE, dash) for name, dash in dashes.items()))
    shares = [
        _Curve(label, [_times(share, 100) for share in values], colour)
        for (label, values), (colour, _) in zip(shares_of(series).items(), AREAS, strict=False)
    ]
    return _Plot("answers", tuple(shares), " %", 100, stacked=True)


def _heading(view: MonitorView) -> str:
    taken = datetime.fromtimestamp(view.at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return (
        _dot(view, 14, 16)
        + _text(26, 20, f"{shortened(view.name, _LONGEST)} v{view.version}", bold=True, size=14)
        + _text(_WIDTH - _RIGHT, 20, f"{view.state} · {view.place} · {taken}", anchor="end")
        + _text(26, 38, f"{figures_of(view)} in the last minute")
    )


def _found(view: MonitorView) -> list[str]:
    lines = [f"▲ {state.words}" for state in view.alerts if state.state == "firing"]
    if view.drift is not None:
        lines.append(f"Drift: {view.drift.words}")
    lines += [_quality(report) for report in view.quality if report.window == "all time" and report.labels]
    if view.marks:
        done = [f"{mark.words} {duration(view.at - mark.at)} ago" for mark in reversed(view.marks[-3:])]
        lines.append(f"Done: {', '.join(done)}")
    return [line if len(line) < _LINE else f"{line[: _LINE - 2]}…" for line in lines[:_MOST_LINES]]


def _quality(report: QualityReport) -> str:
    if all(one.value is None for one in report.measures):
        return f"Quality of {report.words}"
    figures = ", ".join(f"{one.name} {one.words}" for one in report.measures[:2])
    return f"Quality of v{report.version}, {report.window}: {figures}"


def _drawn(plot: _Plot, view: MonitorView) -> str:
    """Draw one plot with its axes; the point (0, 0) is the corner of its title."""
    left, width, bottom = _LEFT, _COLUMN - _LEFT - _RIGHT, _TITLE + _TALL
    known = [value for curve in plot.curves for value in curve.values if value is not None]
    lows = [0.0] if plot.stacked or plot.top else [0.0, *known]
    if plot.stacked and not plot.top:
        known = [sum(value or 0 for value in values) for values in zip(*(c.values for c in plot.curves), strict=True)]
    top, low = plot.top or _above(max(known, default=0.0)), -_above(-min(lows)) if min(lows) < 0 else 0.0
    ago = view.series.ago
    span = view.series.step - ago[0]
    words = f"{span} s ago" if span < 2 * _MINUTE else f"{span / _MINUTE:.2g} min ago"
    out = _text(left, 14, plot.title, bold=True) + _legend(plot)
    for share in (0.0, 0.5, 1.0):
        y = bottom - _TALL * share
        out += f'<path d="M{left} {y:.0f}h{width}" stroke="{_FAINT}"/>'
        out += _text(left - 5, y + 3.5, f"{_number(low + share * (top - low))}{plot.unit}", anchor="end", size=10)
    out += _text(left, bottom + 13, words, size=10) + _text(left + width, bottom + 13, "now", anchor="end", size=10)
    out += _uprights(view, left, width)
    if not known:
        out += _text(left + width / 2, _TITLE + _TALL / 2, "nothing yet", anchor="middle")
    elif plot.stacked:
        out += _stack(plot, left, width, bottom, top)
    else:
        for curve in plot.curves:
            out += "".join(_line(curve, run, (left, width), (bottom, low, top)) for run in _runs(curve.values))
    return out


def _uprights(view: MonitorView, left: float, width: float) -> str:
    """Draw a line for each mark, with the version or the sign of an alert above, as far as there is room."""
    ago, out = view.series.ago, ""
    taken: list[float] = []
    for mark in sorted(view.marks, key=lambda mark: (mark.kind in SIGNS, -mark.at)):
        at = mark.at - view.series.end
        if not ago[0] <= at <= view.series.step:
            continue
        x = left + width * min(1.0, (at - ago[0]) / (ago[-1] - ago[0]))
        colour = {"alert": _RED, "all clear": _GREEN}.get(mark.kind, _INK)
        out += f'<path d="M{x:.1f} {_TITLE}v{_TALL}" {_stroke(colour, "dash")}/>'
        words = SIGNS.get(mark.kind, f"v{mark.version}")
        if all(abs(x - other) >= _APART for other in taken):
            out += _text(round(x, 1), _TITLE - 3, words, anchor="middle", size=9)
            taken.append(x)
    return out


def _begun(series: Series) -> Series:
    """Return a series without the steps before the first request."""
    count = len(series.ago)
    first = min(next((at for at, requests in enumerate(series.requests) if requests), 0), max(0, count - _FEWEST))

    def cut(values: Any) -> Any:
        if isinstance(values, dict):
            return {name: some[first:] for name, some in values.items()}
        return values[first:] if isinstance(values, tuple) else values

    return replace(series, **{name: cut(getattr(series, name)) for name in series.__dataclass_fields__})


def _stack(plot: _Plot, left: float, width: float, bottom: float, top: float) -> str:
    last, out = max(1, len(plot.curves[0].values) - 1), ""
    for run in _runs(plot.curves[0].values):
        places = run if run[-1] == last else [*run, run[-1] + 1]  # the last one goes on to the gap
        below = [0.0] * len(places)
        for curve, (_, pattern) in zip(plot.curves, AREAS, strict=False):
            above = [low + (curve.values[min(at, run[-1])] or 0.0) for low, at in zip(below, places, strict=True)]
            edge = [(at, above[at]) for at in _corners(above)] + [(at, below[at]) for at in reversed(_corners(below))]
            points = " ".join(
                f"{left + width * places[at] / last:.0f},{bottom - _TALL * min(value / top, 1):.1f}"
                for at, value in edge
            )
            out += _filled(points, curve.colour, pattern)
            below = above
    return out


def _filled(points: str, colour: str, pattern: str) -> str:
    out = f'<polygon points="{points}" fill="{colour}" fill-opacity="0.5"/>'
    return out + (f'<polygon points="{points}" fill="url(#mlnb-{ord(pattern)})"/>' if pattern else "")


def _corners(values: Sequence[float]) -> list[int]:
    """Return the places that a line needs: those between two equal values are left out."""
    last = len(values) - 1
    return [at for at in range(last + 1) if at in (0, last) or not values[at - 1] == values[at] == values[at + 1]]


def _line(curve: _Curve, run: list[int], across: tuple[float, float], up: tuple[float, float, float]) -> str:
    (left, width), (bottom, low, top) = across, up
    last = max(1, len(curve.values) - 1)
    points = [
        f"{left + width * at / last:.0f},{bottom - _TALL * (value - low) / (top - low):.1f}"
        for at in run
        if (value := curve.values[at]) is not None
    ]
    if len(points) == 1:
        x, y = points[0].split(",")
        return f'<circle cx="{x}" cy="{y}" r="1.2" fill="{curve.colour}"/>'
    return f'<polyline points="{" ".join(points)}" {_stroke(curve.colour, curve.dash)}/>'


def _runs(values: Sequence[float | None]) -> Iterable[list[int]]:
    """Split the places of values at those that are missing."""
    run: list[int] = []
    for at, value in enumerate(values):
        if value is not None:
            run.append(at)
        elif run:
            yield run
            run = []
    if run:
        yield run


def _legend(plot: _Plot) -> str:
    out, x = "", float(_COLUMN - _RIGHT)
    room = _LEFT + 6.4 * len(plot.title)
    looks = dict(zip((curve.name for curve in plot.curves), AREAS, strict=False))
    for curve in reversed(plot.curves):
        name = shortened(curve.name, _LONGEST_CLASS)
        start = x - _CHARACTER * len(name) - 12
        if not name or start < room:
            continue
        out += _text(start + 12, 14, name, size=9.5)
        if plot.stacked:
            pattern = looks[curve.name][1]
            square = f'<rect x="{start:.0f}" y="6" width="9" height="9" fill='
            out += f'{square}"{curve.colour}" fill-opacity="0.5"/>'
            out += f'{square}"url(#mlnb-{ord(pattern)})"/>' if pattern else ""
        else:
            out += f'<path d="M{start - 7:.0f} 10.5h16" {_stroke(curve.colour, curve.dash)}/>'
        x = start - (6 if plot.stacked else 14)
    return out


def _polyline(values: Sequence[float], left: float, top: float, width: float, height: float) -> str:
    most, last = max(*values, 1), max(1, len(values) - 1)
    points = " ".join(
        f"{left + width * at / last:.0f},{top + height * (1 - value / most):.1f}" for at, value in enumerate(values)
    )
    return f'<polyline points="{points}" {_stroke(_BLUE)}/>'


def _thinned(values: Sequence[float | None]) -> list[float | None]:
    """Return the means of neighbours, as many as the picture shows."""
    width = -(-len(values) // _MOST_POINTS)
    groups = [[one for one in values[at : at + width] if one is not None] for at in range(0, len(values), width)]
    return [sum(group) / len(group) if group else None for group in groups]


def _above(value: float) -> float:
    """Return the next of 1, 2, 4, 5, 6, 8 and 10 times a power of ten, for the end of an axis."""
    if value <= 0:
        return 1.0
    power = 10.0 ** floor(log10(value))
    return next((step * power for step in (1, 2, 4, 5, 6, 8) if step * power >= value), 10 * power)


def _number(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004 - three digits


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else factor * value


def _stroke(colour: str, dash: str = "solid") -> str:
    return f'fill="none" stroke="{colour}" stroke-width="1.4" stroke-linejoin="round"{_DASHES[dash]}'


def _dot(view: MonitorView, x: float, y: float) -> str:
    if view.state == "live":
        return f'<circle cx="{x}" cy="{y}" r="4.5" fill="{_GREEN}"/>'
    return f'<circle cx="{x}" cy="{y}" r="4" fill="none" stroke="{_INK}"/>'


def _text(x: float, y: float, words: str, *, anchor: str = "", bold: bool = False, size: float = 11) -> str:
    more = f' text-anchor="{anchor}"' if anchor else ""
    more += ' font-weight="600"' if bold else ""
    more += f' font-size="{size}"' if size != 11 else ""  # noqa: PLR2004 - what the picture's text has
    return f'<text x="{x:g}" y="{y:g}"{more}>{escape(_printable(words))}</text>'


def _printable(words: str) -> str:
    """Return text that XML may hold."""
    return "".join(character if character.isprintable() else " " for character in words)


def _svg(body: str, height: int, label: str) -> str:
    patterns = "".join(
        f'<pattern id="mlnb-{ord(name)}" width="6" height="6" patternUnits="userSpaceOnUse">'
        f'<path d="{path}" stroke="{_INK}" stroke-width="1"/></pattern>'
        for name, path in _PATTERNS.items()
    )
    used = f"<defs>{patterns}</defs>" if "url(#mlnb-" in body else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" aria-label="{escape(_printable(label), quote=True)}" font-family="system-ui, sans-serif" '
        f'font-size="11" fill="{_INK}">{used}{body}</svg>'
    )
