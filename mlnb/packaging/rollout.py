"""How far a rollout has come, and why it cannot go on, from what the cluster says of its objects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlnb.packaging.cluster_objects import Manifest

__all__ = ["Rollout", "Trouble", "Watched", "judge", "newest", "owned", "replica_sets_of", "stalled"]

_REVISION = "deployment.kubernetes.io/revision"
_HARMLESS = frozenset({"DNSConfigForming", "MissingClusterDNS"})  # warnings that keep no pod from running
_RESTARTS = 2  # after which a container that ends is not waited for
_PASSING = frozenset({"ErrImagePull", "RegistryUnavailable", "ProgressDeadlineExceeded"})  # may go by themselves
_PULL = (
    "Push the image to where the nodes find it (package.push()), check its tag, and for a private registry give the "
    "ServiceAccount an imagePullSecret."
)
_LOADED = (
    "The image must be on the node and is not: load it there (for instance `kind load docker-image`), or package "
    "it again with a repository, and push it there."
)
_CONFIG = "It names a Secret, ConfigMap or user that is not there; `kubectl describe pod` names it."
_COMMAND = "The image's command cannot be started there: run the image with Docker first (package.run())."
_ENDED = "The last log lines say why; package.run() runs the same image here."
_MEMORY = "It needs more memory than its limit: package again with a larger limit, or with fewer processes in a pod."
_ROOM = "No node has room for it: ask for less CPU or memory, scale down something else, or add a node."
_QUOTA = "A quota or an admission rule of the namespace refuses the pods: ask for less, or have it raised."
_SLOW = "It did not become ready in time: look at the logs, and at the readiness probe in the events."

_NEXT = {  # what a container waits for, and what helps
    "ErrImagePull": _PULL, "ImagePullBackOff": _PULL, "InvalidImageName": _PULL, "RegistryUnavailable": _PULL,
    "ErrImageNeverPull": _LOADED, "CreateContainerConfigError": _CONFIG, "CreateContainerError": _COMMAND,
    "RunContainerError": _COMMAND, "CrashLoopBackOff": _ENDED,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why a rollout does not go on.

    Attributes
    ----------
    reason : str
        In the cluster's own word, for instance ``"ImagePullBackOff"``.
    message : str
        What the cluster says of it.
    next_step : str
    pod, container : str
        "" if it is not about one.
    event : str
        The last warning about the pod, "" if there is none.
    restarted : bool
        Whether the container ran before, so that its previous logs say why it ended.
    final : bool
        Whether waiting is of no use; a node, on the other hand, may become free, a pull be tried again, and what was
        said of the rollout before be still there.
    """

    reason: str
    message: str
    next_step: str
    pod: str = ""
    container: str = ""
    event: str = ""
    restarted: bool = False
    final: bool = True

    def __str__(self) -> str:
        where = f"pod {self.pod}" + (f", container {self.container}" if self.container else "") if self.pod else ""
        event = f" Event: {self.event}" if self.event and self.message not in self.event else ""
        said = f"{where}{': ' * bool(where)}{self.reason}{': ' * bool(self.message)}{self.message}".rstrip(".")
        return f"{said}.{event}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How far it has come.

    Attributes
    ----------
    state : str
        ``"running"``, ``"done"`` or ``"failed"``.
    wanted, updated, ready, old : int
        Pods: all that there are to be, those of the new template, those of them that are ready, and those of others.
    trouble : Trouble or None
        Why it failed or, while it runs, what is in its way.
    """

    state: Literal["running", "done", "failed"]
    wanted: int
    updated: int
    ready: int
    old: int
    trouble: Trouble | None = None

    @property
    def share(self) -> float:
        """Of the way, from 0 to 1."""
        return 1.0 if not self.wanted else min(1.0, (self.updated + 2 * self.ready) / (3 * self.wanted))

    @property
    def text(self) -> str:
        """One line for a person."""
        line = f"{self.ready} of {self.wanted} pod{'s' * (self.wanted != 1)} ready"
        old = f", {self.old} of before still there" if self.old else ""
        return f"{line}{old}" + (f"; {self.trouble}" if self.trouble is not None else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What the cluster says of a deployment at one moment, as plain dicts.

    Attributes
    ----------
    deployment : dict
    replica_sets, pods, events : tuple of dict
        Those of the namespace; of others than the deployment's too.
    """

    deployment: Manifest
    replica_sets: tuple[Manifest, ...] = ()
    pods: tuple[Manifest, ...] = ()
    events: tuple[Manifest, ...] = ()


def owned(owner: Manifest, others: Sequence[Manifest]) -> tuple[Manifest, ...]:
    """Return those of the others that the cluster made for the owner; labels alone prove nothing."""
    uid = owner["metadata"].get("uid")
    return tuple(
        one for one in others if any(ref.get("uid") == uid for ref in one["metadata"].get("ownerReferences") or ())
    )


def replica_sets_of(watched: Watched) -> tuple[Manifest, ...]:
    """Return the deployment's own ReplicaSets, the newest first."""
    return tuple(sorted(owned(watched.deployment, watched.replica_sets), key=_revision, reverse=True))


def _revision(replica_set: Manifest) -> int:
    return int((replica_set["metadata"].get("annotations") or {}).get(_REVISION, 0))


def newest(watched: Watched) -> tuple[Manifest, ...]:
    """Return the pods of the newest template."""
    return owned(found[0], watched.pods) if (found := replica_sets_of(watched)) else ()


def judge(watched: Watched) -> Rollout:
    """Say how far a rollout has come.

    Parameters
    ----------
    watched : Watched

    Examples
    --------
    >>> status = {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "readyReplicas": 2}
    >>> iris = {"metadata": {"generation": 2, "uid": "1"}, "spec": {"replicas": 2}, "status": status}
    >>> judge(Watched(deployment=iris)).text
    '1 of 2 pods ready, 1 of before still there'
    """
    deployment = watched.deployment
    status, wanted = deployment.get("status") or {}, int(deployment["spec"].get("replicas", 1))
    if int(status.get("observedGeneration", 0)) < int(deployment["metadata"].get("generation", 1)):
        return Rollout(state="running", wanted=wanted, updated=0, ready=0, old=0)
    total, updated = int(status.get("replicas", 0)), int(status.get("updatedReplicas", 0))
    old = max(0, total - updated)
    ready = min(updated, max(0, int(status.get("readyReplicas", 0)) - old))
    available = int(status.get("availableReplicas", 0))
    if updated == wanted == total and available >= wanted:
        return Rollout(state="done", wanted=wanted, updated=updated, ready=wanted, old=0)
    found = list(_troubles(watched))
    trouble = next((one for one in found if one.final), found[0] if found else None)
    state: Literal["running", "failed"] = "failed" if trouble is not None and trouble.final else "running"
    return Rollout(state=state, wanted=wanted, updated=updated, ready=ready, old=old, trouble=trouble)


def stalled(watched: Watched | None, seconds: float) -> Rollout:
    """Return a rollout that was waited for long enough.

    Parameters
    ----------
    watched : Watched or None
        None: the Deployment is gone.
    seconds : float
        How long it was waited for.
    """
    if watched is None:
        gone = Trouble(reason="NotFound", message="the Deployment was deleted meanwhile", next_step="Deploy it again.")
        return Rollout(state="failed", wanted=0, updated=0, ready=0, old=0, trouble=gone)
    rollout = judge(watched)
    waiting = next((pod for pod in newest(watched) if not _is_ready(pod)), None)
    name = "" if waiting is None else str(waiting["metadata"]["name"])
    late = Trouble(
        reason="NotReady", message=f"not ready after {seconds:.0f} s", next_step=_SLOW, pod=name,
        event=_last_warning(name, watched.events),
    )  # fmt: skip
    return replace(rollout, state="failed", trouble=rollout.trouble or late)


def _is_ready(pod: Manifest) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def _troubles(watched: Watched) -> Iterator[Trouble]:
    """Yield what is in the way of a rollout that is not done, the most exact first."""
    for pod in newest(watched):
        yield from _of_pod(pod, watched.events)
    for condition in (watched.deployment.get("status") or {}).get("conditions") or ():
        kind, value = condition.get("type"), condition.get("status")
        reason, message = str(condition.get("reason", "")), str(condition.get("message", ""))
        if kind == "ReplicaFailure" and value == "True":
            yield Trouble(reason=reason, message=message, next_step=_QUOTA)
        if kind == "Progressing" and value == "False":
            yield Trouble(reason=reason, message=message, next_step=_SLOW, final=reason not in _PASSING)


def _of_pod(pod: Manifest, events: Sequence[Manifest]) -> Iterator[Trouble]:
    status, name = pod.get("status") or {}, str(pod["metadata"]["name"])
    event = _last_warning(name, events)
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        found = _of_container(container)
        if found is not None:
            reason, message, next_step = found
            yield Trouble(
                reason=reason, message=message, next_step=next_step, pod=name, container=str(container["name"]),
                event=event, restarted=bool(container.get("restartCount")), final=reason not in _PASSING,
            )  # fmt: skip
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            yield Trouble(
                reason="Unschedulable", message=str(condition.get("message", "")), next_step=_ROOM, pod=name,
                event=event, final=False,
            )  # fmt: skip


def _of_container(container: dict[str, Any]) -> tuple[str, str, str] | None:
    """Return the reason, the message and the next step of a container that will not run by waiting."""
    if container.get("ready"):
        return None
    state, last = container.get("state") or {}, container.get("lastState") or {}
    ended = state.get("terminated") or last.get("terminated") or {}
    if ended.get("reason") == "OOMKilled":
        return "OOMKilled", "it used more memory than its limit", _MEMORY
    waiting = state.get("waiting") or {}
    reason, code = str(waiting.get("reason", "")), ended.get("exitCode")
    if reason == "CrashLoopBackOff" or (ended and int(container.get("restartCount", 0)) >= _RESTARTS):
        times = int(container.get("restartCount", 0)) + ("running" not in state)
        return "CrashLoopBackOff", f"it ended {times} time{'s' * (times != 1)}, with exit code {code} at last", _ENDED
    if reason in _NEXT:
        return reason, " ".join(str(waiting.get("message", "")).split()), _NEXT[reason]
    return None


def _last_warning(pod: str, events: Sequence[Manifest]) -> str:
    warnings = [
        one
        for one in events
        if one.get("type") == "Warning" and one.get("reason") not in _HARMLESS
        and (one.get("involvedObject") or {}).get("name") == pod
    ]  # fmt: skip
    if not warnings:
        return ""
    last = max(warnings, key=_when)
    return f"{last.get('reason', '')}: {' '.join(str(last.get('message', '')).split())}"


def _when(event: Manifest) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or "")
