"""The Scale tab between two snapshots: what it remembers and measures, and what its controls do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from mlnb.errors import MlnbError
from mlnb.scaling.memory import MemoryGauge
from mlnb.widgets.render import counted
from mlnb.widgets.scale_view import ScaleView, follow

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlnb.scaling.autoscale import Autoscale
    from mlnb.widgets.scale_view import Ended
    from mlnb.workspace import Deployment, DeploymentSnapshot

__all__ = ["ScaleTab", "last_changes"]

_EVERY = 1.8  # seconds between two drawings of the chart: every other second, as the ticker is not exact
_SHOWN = "10m"
_CHANGES = 5
_LINE = 18  # pixels of a line of the chart's title


class ScaleTab:
    """What is looked at costs something: memory and the chart are read only then.

    Parameters
    ----------
    deployment : Deployment
    redraw : callable
        Called when something that was asked for is on its way.
    """

    def __init__(self, deployment: Deployment, *, redraw: Callable[[], None]) -> None:
        self._deployment = deployment
        self._redraw = redraw
        self._looked_at_until = 0.0
        self._gauge = MemoryGauge()
        self._last: DeploymentSnapshot | None = None
        self._ended: Ended | None = None
        self._memory: dict[int, int] = {}
        self._coming: int | None = None  # replicas that are on their way
        self._switching = False  # whether it is on its way to follow the load
        self._bounds: tuple[int, int] | None = None  # that were asked for
        self._drawn_at = 0.0

    def look(self, seconds: float) -> None:
        """Keep it up to date for as long."""
        if not self._looked_at:
            self._drawn_at = 0.0
        self._looked_at_until = time.monotonic() + seconds

    def view(self, snapshot: DeploymentSnapshot) -> ScaleView:
        """Return what is known beside a snapshot, the newest one."""
        self._ended, self._last = follow(self._ended, self._last, snapshot), snapshot
        if self._looked_at:
            self._memory = self._gauge.read(replica.pid for replica in snapshot.replicas if replica.pid is not None)
        scaling = snapshot.scaling
        if scaling is None and snapshot.state == "live" and not self._switching:
            self._bounds = None
        elif scaling is not None and not (self._looked_at and self._bounds):
            self._bounds = scaling.least, scaling.most  # by a schedule, perhaps; who looks is told what was asked for
        return ScaleView(
            wanted=self._deployment.replicas if scaling is None else scaling.desired,
            coming=self._coming, bounds=self._bounds, switching=self._switching, memory=self._memory, ended=self._ended,
        )  # fmt: skip

    def chart(self) -> bytes | None:
        """Return the chart of load and replicas as JSON; None if nobody looks or it was drawn a moment ago."""
        by_load = self._last is not None and self._last.scaling is not None
        if not (by_load and self._looked_at) or time.monotonic() < self._drawn_at + _EVERY:
            return None
        self._drawn_at = time.monotonic()
        try:
            history = self._deployment.scaling_history(since=_SHOWN)
        except MlnbError:  # it was stopped meanwhile
            return None
        self._bounds = history.autoscale.least, history.autoscale.most
        return _untitled(history.figure())

    def deed(self, action: str, payload: dict[str, Any]) -> Callable[[], str] | None:
        """Return what a control does, which says what it did; None if something is on its way already."""
        if self._switching or self._coming is not None:
            return None  # pressed before the page heard of it
        if action == "bounds":
            return lambda: self._bound(int(payload["least"]), int(payload["most"]))
        if action == "follow":
            self._switching = True
            return self._follow
        self._coming = to = int(payload["to"]) if action == "scale" else max(1, self._deployment.replicas)
        return lambda: self._scale(to)

    @property
    def _looked_at(self) -> bool:
        return time.monotonic() < self._looked_at_until

    def _scale(self, to: int) -> str:
        before, by_load = self._deployment.replicas, self._last is not None and self._last.scaling is not None
        try:
            self._redraw()
            self._deployment.scale(to)
        finally:
            self._coming = None
        replicas = counted(to, "replica")
        return f"Fixed at {replicas}." if by_load else f"Scaled from {before} to {replicas}."

    def _follow(self) -> str:
        """Follow the load as before; the first time between 1 and 2, or as many as there are."""
        before = self._autoscale()
        least, most = (1, max(2, self._deployment.replicas)) if before is None else (before.least, before.most)
        self._bounds = least, most
        try:
            self._redraw()
            return self._bound(least, most)
        finally:
            self._switching = False

    def _bound(self, least: int, most: int) -> str:
        """Follow the load between these bounds, by the rule that there is."""
        before = self._autoscale()
        if before is None:
            self._deployment.autoscale(least, most)
        else:
            self._deployment.autoscale(least, most, policy=before.policy, schedules=before.schedules, idle=before.idle)
        self._bounds = least, most
        self._drawn_at = 0.0
        return f"{least} to {counted(most, 'replica')} by load."

    def _autoscale(self) -> Autoscale | None:
        """Return how the replicas follow the load, or did last; None if they never have."""
        try:
            return self._deployment.scaling_history(since="0s").autoscale
        except MlnbError:
            return None


def _untitled(figure: Any) -> bytes:
    """Return a chart as JSON without its title, which the tab says itself."""
    title, *others = figure.layout.annotations
    lines = title.text.count("<br>") + 1
    figure.layout.annotations = others
    figure.layout.margin.t -= lines * _LINE
    figure.layout.height -= lines * _LINE
    return str(figure.to_json()).encode()


def last_changes(deployment: Deployment) -> tuple[tuple[float, int, str], ...]:
    """Return when the number of replicas changed lately, to which, and why; oldest first."""
    try:
        return deployment.scaling_history().picture().changes[-_CHANGES:]
    except MlnbError:
        return ()
