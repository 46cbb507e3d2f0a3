"""How many replicas there are to be, as HTML: a fixed number or bounds between which they follow the load, and why."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING

from mlnb.registry.tables import format_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlnb.scaling.scaling_snapshot import ScalingSnapshot
    from mlnb.widgets.scale_view import ScaleView
    from mlnb.workspace import DeploymentSnapshot

__all__ = ["follows", "in_kernel", "render_changes", "render_count", "render_reason"]

_MINUS = "\N{MINUS SIGN}"
_STOPPED = "when it is live again"
_DISABLED = 'aria-disabled="true"'


def render_count(snapshot: DeploymentSnapshot, view: ScaleView) -> str:
    """Return the choice between a fixed number and the load, with the steppers of what is chosen."""
    by_load = follows(view)
    free = not view.busy and snapshot.state == "live"
    steppers = _between(snapshot, view, free=free) if by_load else _fixed(snapshot, view, free=free)
    return f'<div class="mlnb-scaling"><span>Replicas</span>{_choice(by_load=by_load, free=free)}{steppers}</div>'


def render_reason(snapshot: DeploymentSnapshot, view: ScaleView) -> str:
    """Return in a line or two why there are as many replicas as there are; "" where their number is fixed."""
    scaling = snapshot.scaling
    if scaling is None or not follows(view):
        return ""
    if scaling.trouble:
        return _line(f"△ {scaling.trouble}", look="warn")
    return _line("Nothing was decided yet." if scaling.last is None else scaling.last.reason)


def render_changes(scaling: ScalingSnapshot, changes: Sequence[tuple[float, int, str]]) -> str:
    """Return as plain HTML how the replicas follow the load, for readers without a kernel.

    Parameters
    ----------
    scaling : ScalingSnapshot
    changes : sequence of (float, int, str)
        When the number of replicas changed, in seconds since the epoch, to which, and why; oldest first.
    """
    rows = "".join(
        f"<tr><td>{format_time(datetime.fromtimestamp(at, UTC))}</td><td>{count}</td><td>{escape(reason)}</td></tr>"
        for at, count, reason in reversed(changes)
    )
    head = "<tr><th>time</th><th>replicas</th><th>why</th></tr>"
    table = f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>" if rows else ""
    words = f"{scaling.least} to {scaling.most} replicas by load, {escape(scaling.policy)}; now {scaling.desired}"
    return f"<p>{words}{f'<br>{escape(scaling.trouble)}' if scaling.trouble else ''}</p>{table}"


def follows(view: ScaleView) -> bool:
    """Say whether the replicas follow the load, or are about to."""
    return view.coming is None and view.bounds is not None


def in_kernel(snapshot: DeploymentSnapshot) -> bool:
    """Say whether the kernel itself answers."""
    return any(replica.state == "ready" and replica.pid is None for replica in snapshot.replicas)


def _choice(*, by_load: bool, free: bool) -> str:
    fixed = _radio("Fixed", "fix", chosen=not by_load, free=free)
    load = _radio("By load", "follow", chosen=by_load, free=free)
    return f'<span class="mlnb-choice" role="radiogroup" aria-label="How many replicas">{fixed}{load}</span>'


def _radio(label: str, action: str, *, chosen: bool, free: bool) -> str:
    # What is chosen has nothing to do. One tab stop for both; arrows go between them.
    deed = "" if chosen else f' data-action="{action}"' if free else f" {_DISABLED}"
    return (
        f'<button type="button" role="radio" aria-checked="{str(chosen).lower()}" tabindex="{0 if chosen else -1}" '
        f'data-keep="{action}"{deed}>{label}</button>'
    )


def _fixed(snapshot: DeploymentSnapshot, view: ScaleView, *, free: bool) -> str:
    shown = view.wanted if view.coming is None else view.coming
    hint = _hint(snapshot, view)
    fewer = f'data-action="scale" data-to="{shown - 1}"' if free and shown else ""
    more = f'data-action="scale" data-to="{shown + 1}"' if free else ""
    stepper = _stepper("Replicas", shown, words=hint, least=0, fewer=fewer, more=more)
    return f'{stepper}<span class="mlnb-muted">{hint}</span>'


def _between(snapshot: DeploymentSnapshot, view: ScaleView, *, free: bool) -> str:
    least, most = view.bounds or (1, 1)
    lower = _stepper(
        "Replicas at least", least, words="at least", least=0, keep="least-",
        fewer=_to(least - 1, most) if free and least else "",
        more=_to(least + 1, most) if free and least < most else "",
    )  # fmt: skip
    upper = _stepper(
        "Replicas at most", most, words="at most", least=max(1, least), keep="most-",
        fewer=_to(least, most - 1) if free and most > max(1, least) else "",
        more=_to(least, most + 1) if free else "",
    )  # fmt: skip
    return (
        f'<span class="mlnb-bounds">from {lower} to {upper}</span>'
        f'<span class="mlnb-muted">{_rule(snapshot, view)}</span>'
    )


def _to(least: int, most: int) -> str:
    return f'data-action="bounds" data-least="{least}" data-most="{most}"'


def _rule(snapshot: DeploymentSnapshot, view: ScaleView) -> str:
    scaling = snapshot.scaling
    if snapshot.state == "stopped":
        return _STOPPED
    if view.switching or scaling is None:
        return "starting…"
    held = (scaling.least, scaling.most)
    scheduled = "" if held == view.bounds else f"; {held[0]} to {held[1]} by schedule"
    return f"{escape(scaling.policy)}{scheduled}"


def _stepper(name: str, shown: int, *, words: str, least: int, fewer: str, more: str, keep: str = "") -> str:
    # Disabled for who uses it, yet able to keep the focus while a replica starts.
    disabled = "" if fewer or more else f" {_DISABLED}"
    value = (
        f'<span class="mlnb-count" role="spinbutton" tabindex="0" data-keep="{keep}replicas" aria-label="{name}" '
        f'aria-valuenow="{shown}" aria-valuemin="{least}" aria-valuetext="{shown} {words}"{disabled}>{shown}</span>'
    )
    what = {"": "One replica", "least-": "At least one", "most-": "At most one"}[keep]
    down = _step(f"{what} fewer", _MINUS, f"{keep}fewer", fewer)
    return f'<span class="mlnb-stepper">{down}{value}{_step(f"{what} more", "+", f"{keep}more", more)}</span>'


def _step(name: str, sign: str, keep: str, deed: str) -> str:
    step = keep.rpartition("-")[2]
    return (
        f'<button type="button" tabindex="-1" data-step="{step}" data-keep="{keep}" '
        f'{deed or _DISABLED} aria-label="{name}" title="{name}">{sign}</button>'
    )


def _hint(snapshot: DeploymentSnapshot, view: ScaleView) -> str:
    if view.coming is not None:
        return _on_its_way(view.coming, view.wanted)
    if snapshot.state == "stopped":
        return _STOPPED
    if view.wanted == 0:
        return "the kernel itself answers" if in_kernel(snapshot) else ""
    return f"process{'' if view.wanted == 1 else 'es'} beside the kernel"


def _on_its_way(coming: int, wanted: int) -> str:
    more = coming - wanted
    if coming == 0:
        return "moving into the kernel…"
    if more == 0:
        return "no longer by load…"
    if abs(more) == 1:
        return f"{'starting' if more > 0 else 'stopping'} a replica…"
    return f"starting {more} replicas…" if more > 0 else f"stopping {-more} replicas…"


def _line(text: str, *, look: str = "") -> str:
    shown = escape(text, quote=True)
    return f'<p class="mlnb-reason" data-look="{look}" title="{shown}">{shown}</p>'
