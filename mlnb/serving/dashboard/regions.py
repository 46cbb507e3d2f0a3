"""The parts of a dashboard beside its figure, as HTML: models, alerts, quality, drift, and what happened."""

from __future__ import annotations

from html import escape
from math import isfinite
from typing import TYPE_CHECKING

from mlnb.monitoring.figures_dashboard import ALONE, shortened
from mlnb.monitoring.metrics_html import last_error
from mlnb.monitoring.numerals import MEANINGS, NONE, duration, figure, milliseconds, percent, probability

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlnb.monitoring.alerts import AlertState
    from mlnb.monitoring.drift import ColumnDrift, DriftReport
    from mlnb.monitoring.metrics import Mark, MetricsSnapshot
    from mlnb.monitoring.prediction_log import LogState
    from mlnb.monitoring.quality import CalibrationBin, QualityReport
    from mlnb.monitoring.view import MonitorView

__all__ = ["REGIONS", "render_glance", "render_regions"]

REGIONS = ("glance", "status", "alerts", "figures", "quality", "drift", "history")
_SHOWN_COLUMNS, _SHOWN_MARKS, _SHOWN_CLASSES, _SHOWN_BINS = 8, 8, 8, 20
_LONGEST = 60  # characters of a name or a word of a person
_ALERTS = {"firing": "▲", "pending": "△", "ok": "✓", "no data": NONE}  # a sign for each, for those who see no colours
_VERDICTS = {"drifted": ("▲", "drifted"), "steady": ("✓", "steady"), "too few": (NONE, "too few rows")}


def render_glance(views: Sequence[MonitorView], chosen: MonitorView | None) -> dict[str, str]:
    """Return a row for each of several models; one alone needs none.

    Parameters
    ----------
    views : sequence of MonitorView
    chosen : MonitorView or None
        The one whose figure is open.
    """
    if not views:
        return {"glance": '<p class="mlnb-muted">Nothing is deployed.</p>'}
    if len(views) == 1 and chosen is not None:
        return {"glance": ""}
    head = "<th>model</th>" + _heads("requests/s", "p95", "errors") + "<th>drift</th><th>quality</th><th>alerts</th>"
    rows = "".join(_glance_row(view, open_=chosen is not None and view.name == chosen.name) for view in views)
    hint = "" if chosen else '<p class="mlnb-muted">Choose a model to see what it did.</p>'
    table = f'<table class="mlnb-rows mlnb-glance"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return {"glance": table + hint}


def render_regions(view: MonitorView | None, *, owner: bool) -> dict[str, str]:
    """Return the parts that speak of one deployment; all are empty without one.

    Parameters
    ----------
    view : MonitorView or None
    owner : bool
        Whether the person who runs the model reads it: with its own words, and with values of its inputs.
    """
    if view is None:
        return dict.fromkeys(REGIONS[1:], "")
    return {
        "status": _status(view),
        "alerts": _alerts(view),
        "figures": _figures(view, owner=owner),
        "quality": _quality(view.quality),
        "drift": _drift(view, owner=owner),
        "history": _history(view),
    }


# ---- all models ----


def _glance_row(view: MonitorView, *, open_: bool) -> str:
    metrics, name = view.metrics, escape(view.name, quote=True)
    share = metrics.window_errors / metrics.window_requests if metrics.window_requests else 0.0
    current = ' aria-current="true"' if open_ else ""
    stopped = " stopped" if view.state == "stopped" else ""
    cells = (
        f'<td><div class="mlnb-model"><span class="mlnb-dot" data-state="{view.state}" title="{view.state}"></span>'
        f'<button type="button" class="mlnb-link" data-model="{name}" data-keep="model {name}"{current}>'
        f'{_cut(view.name)}</button><span class="mlnb-muted">v{view.version}{stopped}</span></div></td>'
        f'<td class="mlnb-number">{_sparkline(metrics.recent)} {figure(metrics.rate)}</td>'
        f'<td class="mlnb-number">{milliseconds(metrics.p95)}</td><td class="mlnb-number">{_share(share)}</td>'
        f"<td>{_drift_cell(view.drift)}</td><td>{_quality_cell(view.quality)}</td><td>{_alert_cell(view.alerts)}</td>"
    )
    return f"<tr{current}>{cells}</tr>"


def _drift_cell(report: DriftReport | None) -> str:
    if report is None or report.share is None:
        return NONE
    count = len(report.drifted)
    return (
        _flag("▲", f'{count:,} <span class="mlnb-unit">column{"" if count == 1 else "s"}</span>', "bad")
        if count
        else _flag("✓", "steady", "good")
    )


def _quality_cell(reports: Sequence[QualityReport]) -> str:
    last = _all_time(reports)
    if last is None or not last.measures or last.measures[0].value is None:
        return NONE
    return f'<span class="mlnb-unit">{escape(last.measures[0].name)}</span> {figure(last.measures[0].value)}'


def _alert_cell(alerts: Sequence[AlertState]) -> str:
    firing = sum(one.state == "firing" for one in alerts)
    if firing:
        return _flag("▲", f'{firing:,} <span class="mlnb-unit">firing</span>', "bad")
    return _flag("✓", "ok", "good") if alerts else NONE


# ---- one model ----


def _status(view: MonitorView) -> str:
    place = escape(view.place) if view.state == "live" else ""
    return (
        f'<span class="mlnb-dot" data-state="{view.state}" aria-hidden="true"></span>'
        f'<strong class="mlnb-name">{_cut(view.name)}</strong> '
        f'<span class="mlnb-status">v{view.version} {view.state}{" · " if place else ""}{place}</span>'
    )


def _figures(view: MonitorView, *, owner: bool) -> str:
    metrics = view.metrics
    share = metrics.window_errors / metrics.window_requests if metrics.window_requests else 0.0
    pairs = [
        ("requests/s", figure(metrics.rate)), ("p50", milliseconds(metrics.p50)), ("p95", milliseconds(metrics.p95)),
        ("p99", milliseconds(metrics.p99)), ("errors", _share(share)), ("in flight", f"{view.in_flight:,}"),
    ]  # fmt: skip
    pairs += [] if view.place in ALONE or not view.replicas else [("replicas", f"{view.replicas:,}")]
    cells = "".join(f"<div><small>{name}</small><span>{value}</span></div>" for name, value in pairs)
    lines = [_totals(metrics), _logged(view.log, owner=owner), last_error(metrics, now=view.at) if owner else ""]
    told = "".join(f"<small>{line}</small>" for line in lines if line)
    return f'<div class="mlnb-tiles">{cells}</div><div class="mlnb-told">{told}</div>'


def _totals(metrics: MetricsSnapshot) -> str:
    counts = (("request", metrics.requests), ("row", metrics.rows), ("error", metrics.errors))
    totals = " · ".join(_counted(count, noun) for noun, count in counts)
    return f'<span class="mlnb-muted">Figures of the last minute. {totals} since it was deployed.</span>'


def _logged(log: LogState | None, *, owner: bool) -> str:
    if log is None:
        return ""
    if log.failure:
        why = f": {escape(log.failure)}" if owner else ""
        return f'<span class="mlnb-failure">▲ The prediction log cannot be written{why}. Serving goes on.</span>'
    lost = f", {log.dropped:,} lost" if log.dropped else ""
    return f'<span class="mlnb-muted">Prediction log: {_counted(log.written, "request")} written{lost}.</span>'


def _alerts(view: MonitorView) -> str:
    if not view.alerts:
        return ""
    order = list(_ALERTS)
    ranked = sorted(view.alerts, key=lambda one: order.index(one.state))
    rows = "".join(_alert_row(one, view.at) for one in ranked)
    return f'<h4>Alerts</h4><table class="mlnb-rows mlnb-alerts"><tbody>{rows}</tbody></table>'


def _alert_row(one: AlertState, now: float) -> str:
    look = {"firing": "bad", "pending": "warn", "ok": "good"}.get(one.state, "")
    lasted = f"for {duration(now - one.since)}" if one.since and one.state in ("firing", "pending") else ""
    return (
        f'<tr data-state="{one.state}"><td>{_flag(_ALERTS[one.state], one.state, look)}</td>'
        f"<td>{escape(one.rule.name)}</td><td>{escape(one.words)}</td>"
        f'<td class="mlnb-number mlnb-muted">{lasted}</td></tr>'
    )


def _quality(reports: Sequence[QualityReport]) -> str:
    if not reports:
        return ""
    shown = [report for report in reports if report.window in ("1 hour", "all time")] or list(reports)
    shown = sorted(shown, key=lambda report: (-report.version, report.window))[:4]
    if all(measure.value is None for report in shown for measure in report.measures):
        return f"<h4>Quality</h4><p>{escape(shown[-1].words)}</p>"
    heads = _heads(*(f"v{report.version}, {report.window}" for report in shown))
    names = [measure.name for measure in shown[0].measures]
    rows = "".join(
        f"<tr><td>{escape(name)}</td>{''.join(_measured(one, name) for one in shown)}</tr>" for name in names
    )
    labels = "".join(f'<td class="mlnb-number">{report.labels:,}</td>' for report in shown)
    table = (
        f'<div class="mlnb-wide"><table class="mlnb-rows"><thead><tr><th></th>{heads}</tr></thead>'
        f'<tbody>{rows}<tr class="mlnb-muted"><td>labels</td>{labels}</tr></tbody></table></div>'
    )
    return f"<h4>Quality</h4>{table}{_more_quality(_all_time(shown))}"


def _measured(report: QualityReport, name: str) -> str:
    words = next((one.words for one in report.measures if one.name == name), NONE)
    return f'<td class="mlnb-number">{escape(words)}</td>'


def _more_quality(report: QualityReport | None) -> str:
    if report is None or not (report.calibration or report.confusion):
        return ""
    parts = (_reliability(report.calibration) if report.calibration else "") + _confusion(report)
    of = f"v{report.version}, {escape(report.window)}"
    return (
        f'<details data-keep="quality"><summary>Calibration and confusion of {of}</summary>'
        f'<div class="mlnb-side-by-side">{parts}</div></details>'
    )


def _reliability(bins: Iterable[CalibrationBin]) -> str:
    """Draw how often it was so, with its interval, over how sure the model was; right on the diagonal is calibrated."""
    size, left, top = 130, 34, 8
    wide, tall = size + left + 8, size + 30
    marks = "".join(
        f'<path d="M{left + size * one.predicted:.1f} {top + size * (1 - one.low):.1f}'
        f'V{top + size * (1 - one.high):.1f}" class="mlnb-faint"/>'
        f'<circle cx="{left + size * one.predicted:.1f}" cy="{top + size * (1 - one.observed):.1f}" r="3" '
        f'class="mlnb-now"><title>{_share(one.predicted)} sure: so in {_share(one.observed)} of {one.count:,}</title>'
        "</circle>"
        for one in bins
    )
    return (
        f'<figure><svg viewBox="0 0 {wide} {tall}" width="{wide}" height="{tall}" role="img" '
        f'aria-label="calibration curve"><rect x="{left}" y="{top}" width="{size}" height="{size}" class="mlnb-frame"/>'
        f'<path d="M{left} {top + size}L{left + size} {top}" class="mlnb-diagonal"/>{marks}'
        f'<text x="{left - 4}" y="{top + 8}" text-anchor="end">100 %</text>'
        f'<text x="{left - 4}" y="{top + size}" text-anchor="end">0</text>'
        f'<text x="{left}" y="{top + size + 14}">0</text>'
        f'<text x="{left + size}" y="{top + size + 14}" text-anchor="end">100 %</text></svg>'
        "<figcaption>How often it was so (up), over how sure the model was (across)</figcaption></figure>"
    )


def _confusion(report: QualityReport) -> str:
    if not 0 < len(report.classes) <= _SHOWN_CLASSES:
        return ""
    rows = "".join(
        f"<tr><td>{_cut(name)}</td>"
        + "".join(
            f'<td class="mlnb-number"{" data-right" if at == place else ""}>{count:,}</td>'
            for at, count in enumerate(counts)
        )
        + "</tr>"
        for place, (name, counts) in enumerate(zip(report.classes, report.confusion, strict=True))
    )
    heads = _heads(*(shortened(name, _LONGEST) for name in report.classes))
    return (
        '<div class="mlnb-wide"><table class="mlnb-rows mlnb-confusion"><thead><tr><th>true ↓ answered →</th>'
        f"{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _drift(view: MonitorView, *, owner: bool) -> str:
    report = view.drift
    if report is None:
        return ""
    judged = [*([report.prediction] if report.prediction is not None else []), *report.columns]
    head = (
        f'<th>column</th><th></th><th class="mlnb-number" title="{_meaning("effect")}">effect</th>'
        + _heads("p, adjusted", "PSI", "missing")
        + f'<th class="mlnb-number" title="{_meaning("outside")}">outside</th>'
        + ("<th>before and now</th>" if owner else "")
    )
    rows = [_drift_row(one, owner=owner) for one in judged]
    first, rest = rows[: _SHOWN_COLUMNS + 1], rows[_SHOWN_COLUMNS + 1 :]
    more = (
        f'<details data-keep="drift"><summary>{len(rest)} more</summary>{_drift_table(head, rest)}</details>'
        if rest
        else ""
    )
    since = "" if report.at is None else f", {duration(view.at - report.at)} ago"
    of = f"Of the last {report.rows:,} rows{since}, against the example of v{report.version}."
    words = escape(report.words if owner else _counts_of(report))
    said = f'<p>{words} <small class="mlnb-muted">{of}</small></p>'
    known = any(one.verdict != "too few" for one in judged)
    return f"<h4>Drift</h4>{said}{_drift_table(head, first) + more if known else ''}"


def _counts_of(report: DriftReport) -> str:
    if report.share is None:
        return "Too few rows to tell."
    judged = sum(one.verdict != "too few" for one in report.columns)
    return f"{len(report.drifted) or 'None'} of {_counted(judged, 'column')} drifted."


def _drift_table(head: str, rows: Iterable[str]) -> str:
    return (
        f'<div class="mlnb-wide"><table class="mlnb-rows mlnb-columns"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _drift_row(one: ColumnDrift, *, owner: bool) -> str:
    sign, word = _VERDICTS[one.verdict]
    outside = one.out_of_range if one.kind == "numbers" else one.unknown
    title = f' title="{escape(one.words, quote=True)}"' if owner else ""
    missing = " → ".join(dict.fromkeys(map(_share, (one.missing_before, one.missing))))
    look = {"drifted": "bad", "steady": "good"}.get(one.verdict, "")
    cells = (
        f"<td{title}>{_cut(one.name)}</td><td>{_flag(sign, word, look)}</td>"
        f'<td class="mlnb-number">{figure(one.effect)}</td>'
        f'<td class="mlnb-number">{escape(probability(one.adjusted))}</td>'
        f'<td class="mlnb-number">{figure(one.psi)}</td><td class="mlnb-number">{missing}</td>'
        f'<td class="mlnb-number">{_share(outside)}</td>'
    )
    return f"<tr>{cells}{f'<td>{_before_and_now(one)}</td>' if owner else ''}</tr>"


def _before_and_now(one: ColumnDrift) -> str:
    """Draw the shares of the bins: those of the example as a line, those of now as bars."""
    before, now = one.before[:_SHOWN_BINS], one.now[:_SHOWN_BINS]
    if not before or len(before) != len(now):
        return ""
    width, height = 96, 26
    top, step = max(*before, *now, 1e-9), width / len(before)
    bars = "".join(
        f'<rect x="{step * at + 0.5:.1f}" y="{height * (1 - share / top):.1f}" width="{step - 1:.1f}" '
        f'height="{height * share / top:.1f}" class="mlnb-now"/>'
        for at, share in enumerate(now)
    )
    steps = " ".join(
        f"{step * place:.1f},{height * (1 - share / top):.1f}"
        for at, share in enumerate(before)
        for place in (at, at + 1)
    )
    edges = _edges(one)
    return (
        f'<svg class="mlnb-bins" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="shares before and now"><title>{escape(edges)}: the line is before, the bars are now</title>'
        f'{bars}<polyline points="{steps}" class="mlnb-before"/></svg>'
    )


def _edges(one: ColumnDrift) -> str:
    if one.kind == "categories":
        return ", ".join(str(name)[:_LONGEST] for name in one.edges[:_SHOWN_BINS])
    numbers = [edge for edge in one.edges if isinstance(edge, (int, float)) and isfinite(edge)]
    return f"{numbers[0]:.4g} to {numbers[-1]:.4g}" if numbers else one.kind


def _history(view: MonitorView) -> str:
    if not view.marks:
        return ""
    rows = "".join(_mark_row(mark, view.at) for mark in reversed(view.marks[-_SHOWN_MARKS:]))
    return f'<h4>What happened</h4><table class="mlnb-rows mlnb-history"><tbody>{rows}</tbody></table>'


def _mark_row(mark: Mark, now: float) -> str:
    return f'<tr><td class="mlnb-muted">{duration(now - mark.at)} ago</td><td>{escape(mark.words)}</td></tr>'


# ---- words and figures ----


def _all_time(reports: Sequence[QualityReport]) -> QualityReport | None:
    """Return the live version's report over all time, else another one."""
    ranked = sorted(reports, key=lambda report: (report.window == "all time", report.version))
    return ranked[-1] if ranked else None


def _heads(*names: str) -> str:
    return "".join(f'<th class="mlnb-number">{escape(name)}</th>' for name in names)


def _flag(sign: str, word: str, look: str) -> str:
    return f'<span class="mlnb-flag" data-look="{look}"><span aria-hidden="true">{sign}</span> {word}</span>'


def _cut(name: str) -> str:
    return escape(shortened(name, _LONGEST), quote=True)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _meaning(title: str) -> str:
    return escape(MEANINGS[title], quote=True)


def _share(share: float) -> str:
    return escape(percent(share))


def _sparkline(counts: Sequence[int]) -> str:
    top, last = max(*counts, 1), max(1, len(counts) - 1)
    points = " ".join(f"{60 * at / last:.0f},{18 - 16 * count / top:.1f}" for at, count in enumerate(counts))
    return (
        '<svg class="mlnb-spark" viewBox="0 0 60 20" width="60" height="20" role="img" '
        f'aria-label="requests per second over the last minute"><polyline points="{points}"/></svg>'
    )
