"""The Scale tab as HTML: what answers, how many, what each does and takes, and what made it faster."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from mlnb.registry.tables import format_size
from mlnb.widgets.render_replicas import follows, in_kernel, render_count, render_reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlnb.scaling.acceleration.acceleration import Acceleration
    from mlnb.scaling.pool import ReplicaSnapshot
    from mlnb.widgets.scale_view import Ended, ScaleView
    from mlnb.workspace import DeploymentSnapshot

__all__ = ["render_scale", "what_came"]

_NONE = '<span class="mlnb-muted">\N{EN DASH}</span>'
_SHARED_SERVER = "This one needs none: other deployments have replicas, and they share a server."
_SHARED = "Proportional set size: memory that several processes share is counted in part in each"


def render_scale(snapshot: DeploymentSnapshot, view: ScaleView) -> dict[str, str]:
    """Return the HTML of each region of the tab.

    What changes every second under load has a region without buttons, so that none is replaced while it is pressed.

    Parameters
    ----------
    snapshot : DeploymentSnapshot
    view : ScaleView
    """
    return {
        "answering": f"<p>{_answers_from(snapshot, view)}</p>",
        "scale": render_count(snapshot, view),
        "reason": render_reason(snapshot, view),
        "replicas": f"{_table(snapshot.replicas, view)}{_trouble(snapshot, view.ended)}",
        "faster": _acceleration(snapshot.acceleration),
    }


def _answers_from(snapshot: DeploymentSnapshot, view: ScaleView) -> str:
    if snapshot.state == "stopped":
        return "It is stopped: nothing answers."
    if in_kernel(snapshot):
        return "Answers come from this kernel: a cell that computes slows them."
    by_load = follows(view)
    if by_load and not snapshot.replicas:
        return "No replica: the next request wakes one."
    ready = sum(replica.state == "ready" for replica in snapshot.replicas)
    if not ready:
        return "No replica is ready at the moment: requests wait for the next one."
    processes = "a process" if ready == 1 else f"{ready} processes"
    # With none wanted, nothing on its way: others keep the server beside the kernel.
    shared = "" if view.wanted or view.busy or by_load else f" {_SHARED_SERVER}"
    return f"Answers come from {processes} beside the kernel; a busy cell does not slow them.{shared}"


def _table(replicas: Sequence[ReplicaSnapshot], view: ScaleView) -> str:
    if not replicas:
        return ""
    head = (
        '<th scope="col">replica</th><th scope="col">state</th><th scope="col" class="mlnb-number">process</th>'
        '<th scope="col" class="mlnb-number">batches</th><th scope="col" class="mlnb-number">rows</th>'
        f'<th scope="col" class="mlnb-number" title="{_SHARED}">memory (PSS)</th>'
    )
    rows = "".join(_row(replica, view) for replica in replicas)
    return (
        f'<table class="mlnb-replicas" aria-label="Replicas"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody>{_total(replicas, view)}</table>"
    )


def _row(replica: ReplicaSnapshot, view: ScaleView) -> str:
    here = replica.state == "ready" and replica.pid is None
    process = "the kernel" if here else _NONE if replica.pid is None else str(replica.pid)
    size = view.memory.get(replica.pid or 0)
    note = f' title="{escape(replica.note, quote=True)}"' if replica.note else ""
    state = f'<span class="mlnb-dot" data-state="{replica.state}" aria-hidden="true"></span>{replica.state}'
    cells = (process, f"{replica.batches:,}", f"{replica.rows:,}", _NONE if size is None else format_size(size))
    numbers = "".join(f'<td class="mlnb-number">{cell}</td>' for cell in cells)
    return f"<tr><td>{replica.key}</td><td{note}>{state}</td>{numbers}</tr>"


def _total(replicas: Sequence[ReplicaSnapshot], view: ScaleView) -> str:
    if len(replicas) == 1:
        return ""
    sizes = [view.memory[pid] for replica in replicas if (pid := replica.pid or 0) in view.memory]
    cells = (
        f"{sum(replica.batches for replica in replicas):,}",
        f"{sum(replica.rows for replica in replicas):,}",
        format_size(sum(sizes)) if sizes else _NONE,
    )
    numbers = "".join(f'<td class="mlnb-number">{cell}</td>' for cell in cells)
    return f'<tfoot><tr><td colspan="3">together</td>{numbers}</tr></tfoot>'


def _trouble(snapshot: DeploymentSnapshot, ended: Ended | None) -> str:
    if not snapshot.trouble:
        return ""
    states: set[str] = {replica.state for replica in snapshot.replicas}
    well = states <= {"ready", "leaving"}
    reason = escape(snapshot.trouble.rstrip("."))
    return (
        f'<p class="{"mlnb-muted" if well else "mlnb-failure"}">{_who_ended(ended)}: {reason}. {what_came(states)}</p>'
    )


def _who_ended(ended: Ended | None) -> str:
    keys = [str(key) for key in ended.keys] if ended else []
    who = f"Replica {keys[0]}" if len(keys) == 1 else f"Replicas {', '.join(keys)}" if keys else "A replica"
    return f"{who} ended{f' at {ended.at.astimezone():%H:%M:%S}' if ended and ended.at else ''}"


def what_came(states: set[str]) -> str:
    """Say what came of replicas in ``states`` after one has ended."""
    if "waiting" in states:
        return "That happened again and again, so the next start waits a little."
    return "Another is starting." if "starting" in states else "Another took its place."


def _acceleration(acceleration: Acceleration | None) -> str:
    if acceleration is None:
        return ""
    found = acceleration.kind != "none"
    # The reason that there is none repeats what was tried, which is shown below.
    reason = acceleration.reason if found or not acceleration.tried else "No faster form of the model was found."
    tried = "".join(
        f'<tr><th scope="row">{escape(form)}</th><td>{escape(result)}</td></tr>' for form, result in acceleration.tried
    )
    details = (
        f'<details data-keep="tried"><summary>What was tried</summary><table class="mlnb-tried"><tbody>{tried}'
        "</tbody></table></details>"
    )
    return (
        f"<p><strong>{'Accelerated' if found else 'Not accelerated'}</strong> · "
        f"{escape(reason)}</p>{details if tried else ''}"
    )
