"""How a deployment stands in a cluster: its pods, and what scales them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Any

from mlnb.durations import span_text
from mlnb.packaging.rollout import Watched, judge, owned, replica_sets_of

if TYPE_CHECKING:
    from mlnb.packaging.cluster_objects import Manifest
    from mlnb.packaging.parity import Parity

__all__ = ["ClusterStatus", "HorizontalStatus", "PodStatus", "status_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PodStatus:
    """One pod.

    Attributes
    ----------
    name : str
    state : str
        For instance ``"Running"``, ``"Pending"``, ``"Stopping"``, or why its container does not run.
    ready : bool
    restarts : int
    age : float
        Seconds.
    node, image : str
        "" if it has no node yet.
    current : bool
        Whether it is of the newest template.
    reason : str
        What the cluster says about its state, "" if nothing.
    """

    name: str
    state: str
    ready: bool
    restarts: int
    age: float
    node: str
    image: str
    current: bool
    reason: str = ""

    @property
    def note(self) -> str:
        """What a person should know of it, "" if all is well."""
        restarts = f"{self.restarts} restart{'s' * (self.restarts != 1)}" if self.restarts else ""
        return "; ".join(filter(None, (restarts, self.reason)))


@dataclass(frozen=True, slots=True, kw_only=True)
class HorizontalStatus:
    """What scales the pods.

    Attributes
    ----------
    least, most : int
    current, desired : int
        Pods there are, and pods it wants.
    cpu, target : int or None
        Percent of the CPU that a pod asks for: as measured, and as wanted; None if unknown.
    """

    least: int
    most: int
    current: int
    desired: int
    cpu: int | None = None
    target: int | None = None

    def __str__(self) -> str:
        cpu = "unknown" if self.cpu is None else f"{self.cpu} %"
        target = "" if self.target is None else f", CPU {cpu} of {self.target} %"
        return f"{self.least} to {self.most} pods, {self.current} there, {self.desired} wanted{target}"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ClusterStatus:
    """A deployment at one moment.

    Attributes
    ----------
    context, namespace, name : str
    wanted, ready, updated : int
        Pods: all that there are to be, those that are ready, and those of the newest template.
    revision : int
        How many templates there have been.
    image : str
    pods : tuple of PodStatus
    autoscaler : HorizontalStatus or None
    notes : tuple of str
        What was done otherwise than asked, and why.
    parity : Parity or None
        Whether it predicts what the notebook predicted; None if it was not asked.
    """

    context: str
    namespace: str
    name: str
    wanted: int
    ready: int
    updated: int
    revision: int
    image: str
    pods: tuple[PodStatus, ...]
    autoscaler: HorizontalStatus | None = None
    notes: tuple[str, ...] = ()
    parity: Parity | None = None

    @property
    def complete(self) -> bool:
        """Whether all pods that are wanted are ready and of the newest template."""
        return sum(pod.ready and pod.current for pod in self.pods) >= self.wanted

    def __repr__(self) -> str:
        rows = [_cells(pod) for pod in self.pods]
        widths = [max((len(row[at]) for row in rows), default=0) for at in range(len(_TITLES))]
        table = ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([*self._lines, *table])

    @property
    def _lines(self) -> list[str]:
        head = (
            f"{self.name}: {self.ready} of {self.wanted} pods ready, {self.image}, revision {self.revision} "
            f"(context {self.context}, namespace {self.namespace})"
        )
        scaled = [] if self.autoscaler is None else [f"autoscaler: {self.autoscaler}"]
        return [head, *scaled, *([] if self.parity is None else [str(self.parity)]), *self.notes]

    def _repr_html_(self) -> str:
        left = 'style="text-align: left"'
        head = "".join(f"<th {left}>{title}</th>" for title in _TITLES)
        rows = (
            "<tr>" + "".join(f"<td {left}>{escape(cell)}</td>" for cell in _cells(pod)) + "</tr>" for pod in self.pods
        )
        first, *others = map(escape, self._lines)
        said = "".join(f"<div>{line}</div>" for line in others)
        return (
            f"<div><strong>{first}</strong></div>{said}"
            f'<table class="mlnb-pods"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
        )


_TITLES = ("pod", "state", "restarts", "age", "node", "image", "")


def _cells(pod: PodStatus) -> tuple[str, ...]:
    state = "ready" if pod.ready else pod.state
    restarts = f"{pod.restarts} restart{'s' * (pod.restarts != 1)}"
    return (pod.name, state, restarts, span_text(pod.age), pod.node, pod.image, pod.reason)


def status_of(
    watched: Watched, *, context: str, namespace: str, autoscaler: Manifest | None, now: datetime,
    notes: tuple[str, ...] = (),
) -> ClusterStatus:  # fmt: skip
    """Return how a deployment stands.

    Parameters
    ----------
    watched : Watched
    context, namespace : str
    autoscaler : dict or None
        A HorizontalPodAutoscaler of ``autoscaling/v1``.
    now : datetime
    notes : tuple of str
    """
    deployment, sets = watched.deployment, replica_sets_of(watched)
    rollout, status = judge(watched), deployment.get("status") or {}
    pods = [
        _pod(pod, current=at == 0, now=now)
        for at, replica_set in enumerate(sets)
        for pod in owned(replica_set, watched.pods)
    ]
    annotations = deployment["metadata"].get("annotations") or {}
    return ClusterStatus(
        context=context, namespace=namespace, name=str(deployment["metadata"]["name"]), wanted=rollout.wanted,
        ready=int(status.get("readyReplicas", 0)), updated=rollout.updated, notes=notes,
        revision=int(annotations.get("deployment.kubernetes.io/revision", 0)), pods=tuple(pods),
        image=str(deployment["spec"]["template"]["spec"]["containers"][0]["image"]),
        autoscaler=None if autoscaler is None else _horizontal(autoscaler),
    )  # fmt: skip


def _pod(pod: Manifest, *, current: bool, now: datetime) -> PodStatus:
    containers = (pod.get("status") or {}).get("containerStatuses") or ()
    state, reason = _state(pod)
    ready = state == "Running" and bool(containers) and all(one.get("ready") for one in containers)
    made = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
    return PodStatus(
        name=str(pod["metadata"]["name"]), state=state, ready=ready, current=current, reason=reason,
        restarts=sum(int(one.get("restartCount", 0)) for one in containers),
        age=max(0.0, (now - made).total_seconds()), node=str(pod["spec"].get("nodeName", "")),
        image=str(pod["spec"]["containers"][0]["image"]),
    )  # fmt: skip


def _state(pod: Manifest) -> tuple[str, str]:
    """Return the state in a word, and what the cluster says of it."""
    status = pod.get("status") or {}
    if pod["metadata"].get("deletionTimestamp"):
        return "Stopping", ""
    details: list[dict[str, Any]] = [
        one.get("state", {}).get("waiting") or one.get("state", {}).get("terminated") or {}
        for one in status.get("containerStatuses") or ()
    ]
    details += [one for one in status.get("conditions") or () if one.get("reason") == "Unschedulable"]
    for one in details:
        if one.get("reason"):
            return str(one["reason"]), " ".join(str(one.get("message", "")).split())
    return str(status.get("phase", "Pending")), ""


def _horizontal(autoscaler: Manifest) -> HorizontalStatus:
    spec, status = autoscaler["spec"], autoscaler.get("status") or {}
    return HorizontalStatus(
        least=int(spec.get("minReplicas", 1)), most=int(spec["maxReplicas"]),
        current=int(status.get("currentReplicas", 0)), desired=int(status.get("desiredReplicas", 0)),
        cpu=status.get("currentCPUUtilizationPercentage"), target=spec.get("targetCPUUtilizationPercentage"),
    )  # fmt: skip
