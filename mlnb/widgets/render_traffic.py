"""The Traffic tab as HTML: which versions answer, how they compare, and what one can do about it."""

from __future__ import annotations

from datetime import datetime
from html import escape
from math import floor
from typing import TYPE_CHECKING

from mlnb.registry.tables import format_metrics
from mlnb.widgets.render_scale import what_came
from mlnb.widgets.traffic_view import percent, points, shadow_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlnb.monitoring.comparison import ComparisonSummary
    from mlnb.monitoring.experiment import Arm, Experiment
    from mlnb.monitoring.guards import GuardReading
    from mlnb.registry import ModelVersion
    from mlnb.serving.rollout import CanarySnapshot, Change
    from mlnb.serving.snapshots import ShadowSnapshot, TrafficSnapshot
    from mlnb.widgets.traffic_view import TrafficView
    from mlnb.workspace import DeploymentSnapshot

__all__ = ["render_counts", "render_traffic"]

_OFFERED = 8  # versions to choose from
_LONGEST = 70  # characters of what is said of one
_ALL = 100  # percent
_MINUTES = 100  # seconds from which a time is shown in minutes
_NONE = "\N{EN DASH}"
_MANNERS = (
    ("split", "Split", "an A/B test: it answers 10 % of the requests, and you see how they compare"),
    ("canary", "Canary", "it takes over at 1, 5, 25, 100 % while its guards hold; else it is taken back by itself"),
    ("shadow", "Shadow", "it sees a copy of the requests; nobody gets its answers"),
)


def render_traffic(snapshot: DeploymentSnapshot, view: TrafficView) -> dict[str, str]:
    """Return the HTML of each region of the tab.

    What changes every second under load has a region without buttons, so that none is replaced while it is pressed;
    the counts of a split are traits of their own (:func:`render_counts`).

    Parameters
    ----------
    snapshot : DeploymentSnapshot
    view : TrafficView
    """
    traffic, trial = snapshot.traffic, view.experiment
    shadow = shadow_of(snapshot)
    regions = dict.fromkeys(("traffic", "rollout", "verdict", "choices", "shadow", "compared"), "")
    if traffic is None:
        return regions | {"traffic": "<p>It is stopped: nothing answers.</p>"}
    if shadow is not None:
        regions |= {"shadow": _shadow(shadow, busy=view.busy), "compared": _compared(shadow)}
    if traffic.canary is not None:
        canary = traffic.canary.plan.version
        rest = f"; v{traffic.live} answers the other requests" if traffic.shares.get(traffic.live) else ""
        says = f"<p>v{canary} is a canary{rest or ' and answers all requests'}.</p>"
        buttons = _choices([_promote(canary, "Promote now", busy=view.busy)], snapshot, view)
        return regions | {"traffic": says, "rollout": _canary(traffic.canary), "choices": buttons}
    if trial is not None:
        buttons = _choices([_promotion(arm, trial, busy=view.busy) for arm in _best_first(trial)], snapshot, view)
        split = {"traffic": _split(traffic, trial), "verdict": _verdict(trial, snapshot.url), "choices": buttons}
        return regions | split
    return regions | {"traffic": _alone(snapshot, view), "rollout": _last(traffic.last, snapshot.at)}


def render_counts(snapshot: DeploymentSnapshot, view: TrafficView) -> dict[str, str]:
    """Return what each version of a split answered, by the data-value that shows it."""
    if snapshot.traffic is None or view.experiment is None:
        return {}
    counts, shown = snapshot.traffic.counts, {}
    for arm in view.experiment.arms:
        count = counts.get(arm.version)
        shown[f"requests-{arm.version}"] = f"{count.requests:,}" if count else "0"
        shown[f"errors-{arm.version}"] = f"{count.errors:,}" if count else "0"
    return shown


# ---- alone ----


def _alone(snapshot: DeploymentSnapshot, view: TrafficView) -> str:
    assert snapshot.traffic is not None  # noqa: S101 - for the type checker
    live = snapshot.traffic.live
    says = f"<p>v{live} answers all requests.</p>"
    others = [version for version in snapshot.versions if version.number != live][:_OFFERED]
    if not others:
        return f'{says}<p class="mlnb-muted">Deploy another model under this name, and it can be tried out here.</p>'
    options = "".join(f'<option value="{one.number}">{escape(_described(one))}</option>' for one in others)
    return (
        f'{says}<div class="mlnb-add"><label>Try out <select data-keep="candidate">{options}</select> as</label>'
        f"<ul>{''.join(_manners(snapshot, busy=view.busy))}</ul></div>"
    )


def _manners(snapshot: DeploymentSnapshot, *, busy: bool) -> list[str]:
    shadowed = shadow_of(snapshot) is not None
    return [
        f'<li><button type="button" data-action="add" data-manner="{manner}" data-keep="{manner}"{_disabled(busy)}>'
        f'{title}</button><span class="mlnb-muted">{words}</span></li>'
        for manner, title, words in _MANNERS
        if not (shadowed and manner == "shadow")
    ]


def _described(version: ModelVersion) -> str:
    facts = (f"v{version.number}", format_metrics(version.metrics), version.description)
    words = " · ".join(fact for fact in facts if fact)
    return words if len(words) <= _LONGEST else f"{words[: _LONGEST - 1]}…"


# ---- split ----


def _split(traffic: TrafficSnapshot, trial: Experiment) -> str:
    shares = [traffic.shares.get(arm.version, 0.0) for arm in trial.arms]
    rows = "".join(map(_row, trial.arms, shares, points(shares)))
    head = "".join(f'<th scope="col" class="mlnb-number">{title}</th>' for title in ("share", "requests", "errors"))
    sticky = (
        f'<p class="mlnb-muted">Requests with the same {escape(traffic.key)} always meet the same version.</p>'
        if traffic.key
        else ""
    )
    return (
        '<table class="mlnb-rows mlnb-split" aria-label="Split"><thead><tr><th scope="col">version</th>'
        f'<th scope="col"></th>{head}</tr></thead><tbody>{rows}</tbody></table>{sticky}'
    )


def _row(arm: Arm, share: float, slider: int) -> str:
    number, name = arm.version, escape(_named(arm), quote=True)
    named = name if name == f"v{number}" else f'{name} <span class="mlnb-muted">v{number}</span>'
    label = "".join(dict.fromkeys([name, f" v{number}"])) if name != f"v{number}" else name
    control = (
        f'<input type="range" min="0" max="100" step="1" value="{slider}" data-version="{number}" '
        f'data-keep="share-{number}" aria-label="Share of {label}" aria-valuetext="{slider} %">'
    )
    numbers = "".join(f'<td class="mlnb-number" data-value="{what}-{number}"></td>' for what in ("requests", "errors"))
    return (
        f'<tr><th scope="row">{named}</th><td>{control}</td>'
        f'<td class="mlnb-number" data-share="{number}">{percent(share)}</td>{numbers}</tr>'
    )


def _named(arm: Arm) -> str:
    """Return the label that a version was split by, unless it says no more than its number."""
    plain = arm.name in (str(arm.version), f"v{arm.version}") or arm.name.endswith(f":{arm.version}")
    return f"v{arm.version}" if plain else arm.name


def _verdict(trial: Experiment, url: str) -> str:
    words = f"<p>{escape(trial.verdict.words)}</p>"
    if trial.outcomes:
        return words
    return (
        f'{words}<p class="mlnb-muted">Say what was right, and the versions are compared by it: '
        f"<code>deployment.feedback(request_id, label)</code>, or <code>POST {escape(url)}/feedback</code>.</p>"
    )


def _best_first(trial: Experiment) -> list[Arm]:
    others = [arm for arm in trial.arms if arm is not trial.baseline]
    return sorted([*others, trial.baseline], key=lambda arm: arm.name != trial.verdict.winner)


def _promotion(arm: Arm, trial: Experiment, *, busy: bool) -> str:
    return _promote(arm.version, f"Promote v{arm.version}", primary=arm.name == trial.verdict.winner, busy=busy)


# ---- canary ----


def _canary(canary: CanarySnapshot) -> str:
    guards = "".join(map(_guard, canary.readings))
    note = f'<p class="mlnb-note">{escape(_sentence(canary.note))}</p>' if canary.note else ""
    table = f'<table class="mlnb-rows mlnb-guards" aria-label="Guards"><tbody>{guards}</tbody></table>'
    return f'<ol class="mlnb-stages" aria-label="Steps">{_stages(canary)}</ol>{note}{table if guards else ""}'


def _stages(canary: CanarySnapshot) -> str:
    stages = []
    for at, share in enumerate(canary.plan.steps):
        state = "done" if at < canary.step else "now" if at == canary.step else "next"
        mark = '<span aria-hidden="true">✓ </span>' if state == "done" else ""
        now = f' <span class="mlnb-muted">{_in_step(canary)}</span>' if state == "now" else ""
        current = ' aria-current="step"' if state == "now" else ""
        stages.append(f'<li data-state="{state}"{current}>{mark}{share:g} %{now}</li>')
    return "".join(stages)


def _in_step(canary: CanarySnapshot) -> str:
    hold = canary.plan.hold
    return _time(canary.seconds) if canary.seconds >= hold else f"{_time(canary.seconds)} of {_time(hold)}"


def _time(seconds: float) -> str:
    return f"{floor(seconds)} s" if seconds < _MINUTES else f"{floor(seconds / 60)} min"


def _guard(reading: GuardReading) -> str:
    words = reading.words.removeprefix(f"{reading.name}: ").removeprefix(f"{reading.name} ")
    state = f'<span class="mlnb-dot" data-state="{reading.state}" aria-hidden="true"></span>{reading.state}'
    return f'<tr><th scope="row">{escape(reading.name)}</th><td>{escape(words)}</td><td>{state}</td></tr>'


def _last(change: Change | None, now: datetime) -> str:
    """Say what the last canary came to, where it came to something by itself."""
    if change is None or change.kind == "advanced":
        return ""
    at = datetime.fromtimestamp(change.at, tz=now.tzinfo).astimezone()
    when = f"at {at:%H:%M}" if at.date() == now.astimezone().date() else f"on {at:%Y-%m-%d} at {at:%H:%M}"
    taken = change.kind == "taken back"
    share = f" at {change.share:g} %" if taken else ""
    reason = escape(change.reason.rstrip("."))
    kind = "mlnb-failure" if taken else "mlnb-muted"
    return f'<p class="{kind}">v{change.version} was {change.kind} {when}{share}: {reason}.</p>'


# ---- shadow ----


def _shadow(shadow: ShadowSnapshot, *, busy: bool) -> str:
    what = "all requests" if shadow.share == _ALL else f"{shadow.share:g} % of the requests"
    return (
        f'<div class="mlnb-shadow"><p>v{shadow.version} is a shadow: it sees a copy of {what}.</p>'
        f'<button type="button" data-action="end_shadow"{_disabled(busy)}>End shadow</button></div>'
    )


def _compared(shadow: ShadowSnapshot) -> str:
    found = shadow.summary
    cells = {
        "rows compared": f"{found.compared:,}",
        "differing": _differing(found),
        "left out": f"{found.dropped:,}",
        "failed": f"{found.failed:,}",
        "mean distance": _NONE if found.mean_distance is None else f"{found.mean_distance:.3g}",
    }
    head = "".join(f'<th scope="col" class="mlnb-number">{title}</th>' for title in cells)
    body = "".join(f'<td class="mlnb-number">{cell}</td>' for cell in cells.values())
    return (
        f'<table class="mlnb-rows" aria-label="Comparison"><thead><tr>{head}</tr></thead><tbody><tr>{body}</tr></tbody>'
        f"</table>{''.join(_remarks(shadow))}"
    )


def _differing(found: ComparisonSummary) -> str:
    return f"{found.differing:,}" if not found.share else f"{found.differing:,} ({percent(found.share)})"


def _remarks(shadow: ShadowSnapshot) -> list[str]:
    found, remarks = shadow.summary, []
    if found.differing:
        remarks.append('<p class="mlnb-muted"><code>deployment.disagreements()</code> shows where they differ.</p>')
    if found.failure:
        remarks.append(f'<p class="mlnb-failure">It failed last with: {escape(found.failure)}</p>')
    if shadow.trouble:
        came = what_came({replica.state for replica in shadow.replicas})
        remarks.append(f'<p class="mlnb-failure">Its process ended: {escape(shadow.trouble.rstrip("."))}. {came}</p>')
    return remarks


# ---- buttons ----


def _choices(promotions: Sequence[str], snapshot: DeploymentSnapshot, view: TrafficView) -> str:
    back = snapshot.previous
    button = (
        f'<button type="button" data-action="rollback" data-to="{back}"{_disabled(view.busy)}>Roll back to v{back}'
        "</button>"
        if back
        else ""
    )
    return f'<div class="mlnb-choices">{"".join(promotions)}{button}</div>'


def _promote(number: int, title: str, *, busy: bool, primary: bool = False) -> str:
    look = ' class="mlnb-primary"' if primary else ""
    return (
        f'<button type="button"{look} data-action="promote" data-to="{number}" data-keep="promote-{number}"'
        f"{_disabled(busy)}>{title}</button>"
    )


def _disabled(busy: bool) -> str:  # noqa: FBT001 - the one thing that it is about
    return ' aria-disabled="true"' if busy else ""


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:].rstrip('.')}."
