"""Waits until a rollout is done or cannot be."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mlnb.errors import ClusterError
from mlnb.packaging.progress import Progress
from mlnb.packaging.rollout import Rollout, judge, stalled

if TYPE_CHECKING:
    from mlnb.packaging.cluster import Cluster
    from mlnb.packaging.progress import Watcher
    from mlnb.packaging.rollout import Watched

__all__ = ["wait_for_rollout"]

_LOOK = 0.5  # seconds between two looks
_PATIENCE = 10.0  # seconds in which what is in the way may go by itself, for instance a full node


def wait_for_rollout(cluster: Cluster, name: str, *, timeout: float, watch: Watcher) -> Rollout:
    """Return what became of a rollout: done, or failed with its trouble.

    Parameters
    ----------
    cluster : Cluster
    name : str
    timeout : float
        Seconds.
    watch : Watcher
    """
    started, hindered, told = time.monotonic(), 0.0, ""
    while True:
        watched = _look(cluster, name)
        now = time.monotonic()
        if watched is None:
            return stalled(None, now - started)
        rollout = judge(watched)
        if rollout.text != told and rollout.state == "running":
            told = rollout.text
            watch(Progress(step="rollout", text=f"{name}: {told} ({_where(cluster)})", share=rollout.share))
        hindered = (hindered or now) if rollout.trouble is not None else 0.0
        if rollout.state == "running" and (now - started > timeout or (hindered and now - hindered > _PATIENCE)):
            rollout = stalled(watched, now - started)
        if rollout.state != "running":
            state = rollout.state
            watch(Progress(step="rollout", text=f"{name}: {rollout.text} ({_where(cluster)})", share=1.0, state=state))
            return rollout
        time.sleep(_LOOK)


def _look(cluster: Cluster, name: str) -> Watched | None:
    """Look, and once more where the connection broke: a rollout goes on without us."""
    try:
        return cluster.look(name)
    except ClusterError as error:
        if "code" in error.details:
            raise
        time.sleep(_LOOK)
        return cluster.look(name)


def _where(cluster: Cluster) -> str:
    return f"namespace {cluster.namespace}, context {cluster.context}"
