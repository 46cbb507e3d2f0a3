"""What came of a package, as HTML: what runs, what deploying it would change, and what went wrong."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from mlnb.registry.tables import format_size
from mlnb.widgets.render import copy_button, counted

if TYPE_CHECKING:
    from mlnb.packaging.cluster_status import ClusterStatus, PodStatus
    from mlnb.packaging.difference import FieldChange, ManifestDiff, ObjectChange
    from mlnb.packaging.parity import Parity
    from mlnb.widgets.package_view import ContainerView, PackageView, Trouble

__all__ = ["button", "command", "free", "render_result"]

_ACTIONS = {"create": "is made", "change": "changes", "delete": "goes", "keep": "stays as it is"}
_DOTS = dict.fromkeys(("Pending", "Running", "ContainerCreating", "PodInitializing"), "starting") | {
    "Stopping": "leaving",
    "Succeeded": "leaving",
}
_DISABLED = ' aria-disabled="true"'


def render_result(view: PackageView) -> str:
    """Return what runs, what would change and what went wrong; "" if there is nothing of it.

    Parameters
    ----------
    view : PackageView
    """
    return (
        f"{'' if view.trouble is None else _trouble(view.trouble)}"
        f"{'' if view.difference is None else _difference(view.difference)}"
        f"{'' if view.container is None else _container(view.container, view)}"
        f"{'' if view.cluster is None else _cluster(view.cluster, view)}"
    )


def button(action: str, label: str, view: PackageView, *, keep: str = "") -> str:
    """Return a button, disabled while something is on its way; ``keep`` is that of the one whose place it takes."""
    return f'<button type="button" data-action="{action}" data-keep="{keep or action}"{free(view)}>{label}</button>'


def command(does: str, line: str) -> str:
    """Return a command as an item of a list, with what it does and a button that copies it."""
    about = escape(does, quote=True)
    return (
        f'<li><span class="mlnb-muted">{about}</span>'
        f'<code tabindex="0" role="region" aria-label="The command to {about}">{escape(line)}</code>'
        f"{copy_button('copy', line, f'Copy the command to {does}')}</li>"
    )


def free(view: PackageView) -> str:
    """Return what disables a control while something is on its way: for who uses it, and it can keep the focus."""
    return _DISABLED if view.busy else ""


def _trouble(trouble: Trouble) -> str:
    return (
        f'<div class="mlnb-trouble" role="alert"><strong>{escape(trouble.title)}</strong>'
        f"<p>{escape(trouble.message)}</p></div>"
    )


def _difference(difference: ManifestDiff) -> str:
    where = _where(difference.namespace, difference.context)
    said = "Deploying changes this" if difference.changed else "Deploying changes nothing"
    objects = "".join(map(_object, difference))
    return f'<div class="mlnb-outcome"><p>{said} in {where}:</p><div class="mlnb-files">{objects}</div></div>'


def _object(change: ObjectChange) -> str:
    """Return an object; of one that is new or goes, its name says enough."""
    sign = f'<span class="mlnb-muted">{_ACTIONS[change.action]}</span>'
    line = f'<span class="mlnb-path">{escape(f"{change.kind} {change.name}")}</span>{sign}'
    if change.action != "change":
        return f'<div class="mlnb-file">{line}</div>'
    said = f'<li class="mlnb-muted">{change.labels_said}</li>' if change.labels else ""
    fields = "".join(map(_field, change.main)) + said
    keep = escape(f"package-change {change.kind} {change.name}", quote=True)
    return (
        f'<details data-keep="{keep}" open><summary class="mlnb-file">{line}</summary>'
        f'<ul class="mlnb-fields">{fields}</ul></details>'
    )


def _field(field: FieldChange) -> str:
    old, new = field.short_values
    return (
        f'<li><span class="mlnb-muted" title="{escape(field.path, quote=True)}">{escape(field.short_path)}</span>'
        f"<span><code>{escape(old)}</code> → <code>{escape(new)}</code></span></li>"
    )


def _where(namespace: str, context: str) -> str:
    return f"namespace <code>{escape(namespace)}</code> on context <code>{escape(context)}</code>"


def _container(container: ContainerView, view: PackageView) -> str:
    url = escape(container.url, quote=True)
    ask = f'<ul class="mlnb-commands">{command("ask it", container.ask)}</ul>' if container.ask else ""
    memory = "" if container.memory is None else f"<span>{format_size(container.memory)}</span>"
    return (
        f'<div class="mlnb-outcome"><div class="mlnb-runs"><span class="mlnb-dot" aria-hidden="true"></span>'
        f'<strong>{escape(container.name)}</strong><code class="mlnb-url">{url}</code>'
        f"{copy_button('copy', container.url, 'Copy the URL')}{memory}"
        f'<span class="mlnb-buttons">{button("package_stop", "Stop", view)}</span></div>'
        f"{ask}{_parity(container.parity)}</div>"
    )


def _cluster(cluster: ClusterStatus, view: PackageView) -> str:
    where = _where(cluster.namespace, cluster.context)
    if view.deleting:
        said = f"<span>Delete <strong>{escape(cluster.name)}</strong> from {where}?</span>"
        buttons = button("package_delete", "Delete it", view) + button(
            "package_keep", "Keep it", view, keep="package_ask"
        )
    else:
        said = f"<strong>{escape(cluster.name)}</strong><span>in {where}</span>"
        deeds = (("package_look", "Look again"), ("package_rollback", "Roll back"), ("package_ask", "Delete"))
        buttons = "".join(button(action, label, view) for action, label in deeds)
    state = "ready" if cluster.complete else "starting"
    scaled = "" if cluster.autoscaler is None else f" · {escape(str(cluster.autoscaler))}"
    facts = f"{cluster.ready} of {counted(cluster.wanted, 'pod')} ready{scaled} · <code>{escape(cluster.image)}</code>"
    pods = "".join(map(_pod, cluster.pods))
    notes = "".join(f"<li>{escape(note)}</li>" for note in cluster.notes)
    return (
        f'<div class="mlnb-outcome"><div class="mlnb-runs"><span class="mlnb-dot" data-state="{state}" '
        f'aria-hidden="true"></span>{said}<span class="mlnb-buttons">{buttons}</span></div><p>{facts}</p>'
        f'<ul class="mlnb-pods" aria-label="Pods">{pods}</ul>{_parity(cluster.parity)}'
        f"{f'<ul class=mlnb-notes>{notes}</ul>' if notes else ''}</div>"
    )


def _pod(pod: PodStatus) -> str:
    state = "ready" if pod.ready else _DOTS.get(pod.state, "failed")
    again = f", {counted(pod.restarts, 'restart')}" if pod.restarts else ""
    reason = f'<span class="mlnb-muted">{escape(pod.reason)}</span>' if pod.reason else ""
    return (
        f'<li><span class="mlnb-dot" data-state="{state}" aria-hidden="true"></span><code>{escape(pod.name)}</code>'
        f"<span>{'ready' if pod.ready else escape(pod.state)}{again}</span>{reason}</li>"
    )


def _parity(parity: Parity | None) -> str:
    if parity is None:
        return ""
    if not parity.rows:
        return f'<p class="mlnb-muted">No answers compared: {escape(parity.reason)}</p>'
    alike = parity.rows - len(parity.wrong)
    said = f"{alike} of {counted(parity.rows, 'golden row')} answered as in the notebook"
    if parity.good:
        return f'<p><span class="mlnb-live">✓</span> {said}</p>'
    wrong = "".join(f"<li>{escape(row)}</li>" for row in parity.wrong)
    return (
        f'<details data-keep="package-wrong"><summary class="mlnb-failure">{said}, {len(parity.wrong)} otherwise'
        f'</summary><ul class="mlnb-notes">{wrong}</ul></details>'
    )
