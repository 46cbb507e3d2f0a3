"""The Scale tab between two snapshots: what it remembers and measures, and what its controls do."""

from __future__ import annotations

import time
from dataclasses import replace
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
    from mlnb.workspace.scaling_history import ScalingHistory

__all__ = ["ScaleTab", "last_changes"]

_EVERY = 2.0  # seconds between two drawings of the chart, a little less as the ticker is not exact
_SHOWN = 600.0  # seconds that it shows
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
        self._history: ScalingHistory | None = None
        self._drawn_at = 0.0

    def look(self, seconds: float) -> None:
        """Keep it up to date for as long."""
        self._looked_at_until = time.monotonic() + seconds
        self._drawn_at = 0.0

    def view(self, snapshot: DeploymentSnapshot) -> ScaleView:
        """Return what is known beside a snapshot, the newest one."""
        self._ended, self._last = follow(self._ended, self._last, snapshot), snapshot
        if self._looked_at:
            self._memory = self._gauge.read(replica.pid for replica in snapshot.replicas if replica.pid is not None)
        if snapshot.scaling is None and not self._switching:
            self._bounds = None
        return ScaleView(
            wanted=self._deployment.replicas if snapshot.scaling is None else snapshot.scaling.desired,
            coming=self._coming, bounds=self._bounds, switching=self._switching, memory=self._memory, ended=self._ended,
        )  # fmt: skip

    def chart(self) -> bytes | None:
        """Return the chart of load and replicas as JSON; None if nobody looks or it was drawn a moment ago."""
        if self._last is None or self._last.scaling is None or not self._looked_at:
            self._history = None
        elif time.monotonic() >= self._drawn_at + 0.9 * _EVERY:
            self._drawn_at = time.monotonic()
            try:
                self._history = history = self._read()
            except MlnbError:  # it was stopped meanwhile
                return None
            self._bounds = history.autoscale.least, history.autoscale.most
            return _untitled(history.figure())
        return None

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

    def _read(self) -> ScalingHistory:
        """Return the latest decisions; those that are known already are not asked for again."""
        known = self._history.decisions if self._history else ()
        new = self._deployment.scaling_history(since=known[-1].sample.wall if known else f"{_SHOWN:g}s")
        decisions = (*known, *new.decisions)
        begin = decisions[-1].sample.wall - _SHOWN if decisions else 0.0
        return replace(new, decisions=tuple(one for one in decisions if one.sample.wall > begin))

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
