"""Replicas that follow the load, on the server's loop: an autoscaler for each deployment that wants one."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

from mlnb.monitoring.metrics import Mark

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mlnb.scaling.autoscale import Autoscale
    from mlnb.scaling.autoscaler import AutoScaler
    from mlnb.scaling.machine import Machine
    from mlnb.scaling.policies.decision import ScalingDecision
    from mlnb.scaling.pool import ReplicaPool
    from mlnb.scaling.scaling_snapshot import ScalingSnapshot
    from mlnb.serving.predicting import Served

__all__ = ["LoadFollowing"]

_LATELY = 5  # seconds that the latency is of
_MS = 1000.0


class LoadFollowing:
    """The autoscalers of one gateway.

    Parameters
    ----------
    served : mapping of str to Served
        A live view.
    resize : callable
        Given a name and a number of replicas, awaited until they are ready.
    """

    def __init__(self, served: Mapping[str, Served], *, resize: Callable[[str, int], Awaitable[None]]) -> None:
        self._served = served
        self._resize = resize
        self._machine: Machine | None = None
        self._scalers: dict[str, AutoScaler] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def follow(self, name: str, autoscale: Autoscale | None, *, paused: bool = False) -> None:
        """Let the replicas of a deployment follow its load from now on; None: no more.

        Parameters
        ----------
        name : str
        autoscale : Autoscale or None
        paused : bool
            Whether to wait for :meth:`resume_all`.
        """
        before = self._scalers.get(name)
        if before is not None and before.autoscale == autoscale:
            return
        if before is not None:
            before.pause()
            del self._scalers[name]
            task = asyncio.get_running_loop().create_task(before.stop())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
        if autoscale is None:
            return
        from mlnb.scaling.autoscaler import AutoScaler
        from mlnb.scaling.machine import Machine

        self._machine = self._machine or Machine()
        target = _Target(name, self._served, self._resize)
        scaler = self._scalers[name] = AutoScaler(
            target, autoscale, name=name, machine=self._machine, changed=partial(self._changed, name)
        )
        if before is not None:
            scaler.take_over(before)
        if not paused:
            scaler.start()

    def pause(self, name: str) -> None:
        """Decide nothing about a deployment: another server goes on with it."""
        if name in self._scalers:
            self._scalers[name].pause()

    def resume(self, name: str) -> None:
        """Decide from now on."""
        if name in self._scalers:
            self._scalers[name].start()

    def resume_all(self) -> None:
        """Decide from now on, about all that was handed over."""
        for name in self._scalers:
            self.resume(name)

    async def forget(self, name: str) -> None:
        """End what there is for a deployment. Again is harmless."""
        scaler = self._scalers.pop(name, None)
        if scaler is not None:
            await scaler.stop()

    async def close(self) -> None:
        """End all. Again is harmless."""
        for name in list(self._scalers):
            await self.forget(name)
        await asyncio.gather(*self._ending, return_exceptions=True)

    def snapshot(self, name: str) -> ScalingSnapshot | None:
        """Return how a deployment follows its load; None if its number of replicas is fixed."""
        scaler = self._scalers.get(name)
        return None if scaler is None else scaler.snapshot()

    def record(self, name: str, since: float) -> tuple[ScalingDecision, ...]:
        """Return the first decisions on samples after ``since``, of ``at``; empty when there are no more."""
        scaler = self._scalers.get(name)
        return () if scaler is None else scaler.record(since)

    def _changed(self, name: str, decision: ScalingDecision) -> None:
        one = self._served.get(name)
        if one is not None:
            words = f"scaled to {decision.desired}: {decision.reason}"
            one.observer.marks.append(
                Mark(at=time.time(), kind="scaled", version=one.service.version.number, words=words)
            )


class _Target:
    """What an autoscaler sees of a deployment, and does to it."""

    def __init__(self, name: str, served: Mapping[str, Served], resize: Callable[[str, int], Awaitable[None]]) -> None:
        self._name = name
        self._served = served
        self._resize = resize

    @property
    def pools(self) -> list[ReplicaPool]:
        """Of the versions that answer."""
        one = self._served.get(self._name)
        return [] if one is None else [line.pool for line in one.service.lines.values()]

    async def scale(self, replicas: int) -> None:
        """Have as many replicas of each version."""
        await self._resize(self._name, replicas)

    def p95(self) -> float | None:
        """Return the seconds within which 95 % of the requests were answered lately."""
        one = self._served.get(self._name)
        found = None if one is None else one.observer.monitor.snapshot(now=time.time(), window=_LATELY).p95
        return None if found is None else found / _MS
