"""Lets the replicas of a deployment follow its load: samples, decides, applies, and keeps a record of it."""

from __future__ import annotations

import asyncio
import logging
import time
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from mlnb.scaling.backoff import Backoff
from mlnb.scaling.machine import Machine
from mlnb.scaling.meter import Meter
from mlnb.scaling.policies.bounded import BoundedController
from mlnb.scaling.scaling_record import ScalingRecord
from mlnb.scaling.scaling_snapshot import ScalingSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from mlnb.scaling.autoscale import Autoscale
    from mlnb.scaling.policies.decision import ScalingDecision, ScalingSample
    from mlnb.scaling.pool import PoolReading

__all__ = ["AutoScaler", "Scaled", "ScaledPool"]

_log = logging.getLogger(__name__)

_USUALLY, _SOON = 10.0, 1.0  # seconds between two looks at the memory: until replicas come or go, and then
_REPLAYED = 120  # samples of a predecessor that another policy is shown, in at most some 10 ms


class ScaledPool(Protocol):
    """The replicas of one version."""

    desired: int
    wake: Callable[[], None]

    def reading(self) -> PoolReading:
        """Return what they did so far."""
        ...

    def expect(self, *, more: bool) -> None:
        """Learn whether more of them may come."""


class Scaled(Protocol):
    """A deployment, as an autoscaler sees it."""

    @property
    def pools(self) -> Sequence[ScaledPool]:
        """Of the versions that answer; all are to have as many replicas."""
        ...

    async def scale(self, replicas: int) -> None:
        """Have as many replicas of each version; return when those that are new are ready.

        Raises
        ------
        MlnbError
            If they cannot be had.
        """

    def p95(self) -> float | None:
        """Return the seconds within which 95 % of the latest requests were answered; None if that is not known."""
        ...


def _ignore(_: ScalingDecision) -> None:
    """Tell nobody."""


def _sleep_on() -> None:
    """Do nothing for those who wait."""


class AutoScaler:
    """Steps the controller of one deployment every so often, on the event loop that it is started from.

    Nothing waits for it: a start of replicas that takes long goes on while the next samples are taken, and memory is
    measured on another thread. Requests that wait while there are no replicas have it decide at once.

    Parameters
    ----------
    target : Scaled
    autoscale : Autoscale
    name : str
        Of the deployment, for the log.
    machine : Machine, optional
        May be shared.
    changed : callable
        Given each decision that changed the number of replicas, after that is done. Default: nobody is told.
    clock : callable
        Seconds, of a clock that is never set back.
    wall : callable
        Seconds since the epoch.

    Attributes
    ----------
    autoscale : Autoscale
    """

    def __init__(
        self, target: Scaled, autoscale: Autoscale, *, name: str = "", machine: Machine | None = None,
        changed: Callable[[ScalingDecision], None] = _ignore, clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.autoscale = autoscale
        self._target = target
        self._name = name
        self._machine = machine or Machine()
        self._tell = changed
        self._clock = clock
        self._wall = wall
        self._controller = BoundedController(autoscale)
        self._meter = Meter(interval=autoscale.interval)
        self._record = ScalingRecord()
        self._backoff = Backoff()
        self._due: asyncio.TimerHandle | asyncio.Handle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._pools: Sequence[ScaledPool] = ()  # at the last step
        self._applying: list[ScalingDecision] = []  # each wants more than those before it
        self._woken_at = self._measured_at = self._retry_at = self._failed_at = -inf
        self._measured_pids: list[int] = []
        self._measuring = False
        self._trouble = self._failure = ""

    @property
    def running(self) -> bool:
        """Whether it decides."""
        return self._due is not None

    def start(self) -> None:
        """Decide from now on. Again is harmless."""
        if self._due is None:
            self._due = asyncio.get_running_loop().call_soon(self._tick)

    def pause(self) -> None:
        """Decide nothing more until :meth:`start`; what was decided is still done. Again is harmless."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        for pool in self._followed():
            pool.expect(more=False)

    async def stop(self) -> None:
        """Decide nothing more, and give up what is being done. Again is harmless."""
        self.pause()
        for pool in self._followed():
            pool.wake = _sleep_on
        self._pools = ()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._applying.clear()

    def wake(self) -> None:
        """Decide at once: requests wait, and there is no replica for them."""
        now = self._clock()
        if self._due is not None and now - self._woken_at >= self.autoscale.interval and now >= self._retry_at:
            self._woken_at = now
            self._due.cancel()
            self._due = asyncio.get_running_loop().call_soon(self._tick)

    def _tick(self) -> None:
        self._due = asyncio.get_running_loop().call_later(self.autoscale.interval, self._tick)
        try:
            self.step()
        except Exception as error:  # noqa: BLE001 - one step that fails must not be the last one
            self._trouble = f"Nothing could be decided: {type(error).__name__}: {error}"
            if self._failure != self._trouble:
                self._failure = self._trouble
                _log.exception("The replicas of %s did not follow their load", self._name)

    def step(self) -> ScalingDecision | None:
        """Take a sample, decide, and begin to apply that; None if nothing is served."""
        pools = self._target.pools
        if not pools:
            return None
        self._pools = pools
        for pool in pools:
            pool.wake = self.wake
        sample = self._meter.sample(
            pools, desired=self._wanted, at=self._clock(), wall=self._wall(), p95=self._target.p95()
        )
        self._measure(sample)
        decision = self._controller.step(sample)
        self._record.note(decision)
        more = self._may_grow(decision)
        for pool in pools:
            pool.expect(more=more)
        if self._wanted is None or decision.desired > self._wanted:
            self._apply(decision, pools)
        return decision

    @property
    def _wanted(self) -> int | None:
        """What is being applied, the newest of it."""
        return self._applying[-1].desired if self._applying else None

    def _followed(self) -> list[ScaledPool]:
        """Return the pools that no successor follows yet."""
        return [pool for pool in self._pools if pool.wake == self.wake]

    def _may_grow(self, decision: ScalingDecision) -> bool:
        sample, most = decision.sample, self._controller.bounds(decision.sample.wall)[1]
        limit = most if sample.limit is None else min(most, sample.limit)
        return decision.desired < limit or sample.ready < decision.desired

    def record(self, since: float = -inf) -> tuple[ScalingDecision, ...]:
        """Return the first decisions on samples after ``since``, of ``sample.at``, oldest first; at most 500.

        There are all of the last hour, 7,500 of them at most, and 700 before these that changed something.
        Their samples are the trace that another policy can be tried on.
        """
        return self._record.since(since)

    def take_over(self, before: AutoScaler) -> None:
        """Go on from what a predecessor on the same deployment decided, which decides no more; before this starts."""
        self._record.take_over(before._record)
        samples = (decision.sample for decision in self._record.newest(_REPLAYED))
        self._controller.take_over(before._controller, samples)
        if before.autoscale.interval == self.autoscale.interval:
            self._meter = before._meter  # so that nothing has to be learnt again

    def snapshot(self) -> ScalingSnapshot:
        """Return how the deployment follows its load now."""
        least, most = self._controller.bounds(self._wall())
        desired = [pool.desired for pool in self._target.pools]
        return ScalingSnapshot(
            least=least, most=most, policy=self.autoscale.policy.words,
            desired=self._wanted if self._wanted is not None else max(desired, default=0),
            last=self._record.last, changed=self._record.changed, trouble=self._trouble,
        )  # fmt: skip

    # ---- applying ----

    def _apply(self, decision: ScalingDecision, pools: Sequence[ScaledPool]) -> None:
        desired, now = decision.desired, decision.sample.at
        if all(pool.desired == desired for pool in pools):
            self._trouble = ""
            self._record.settle(decision, decision.sample.ready)
        elif now >= self._retry_at:
            self._applying.append(decision)
            self._spawn(self._scale(decision))

    async def _scale(self, decision: ScalingDecision) -> None:
        try:
            await self._target.scale(decision.desired)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again later, and shown
            self._failed(decision, error)
        else:
            self._succeeded(decision)
        finally:
            self._applying.remove(decision)

    def _succeeded(self, decision: ScalingDecision) -> None:
        if decision.sample.at >= self._failed_at:
            self._trouble = ""
        there = [pool.desired for pool in self._target.pools]
        if there and max(there) < decision.desired:
            return  # an earlier step failed meanwhile, and took its part of it away
        settled = self._record.settle(decision, decision.desired)
        if settled.desired != settled.sample.desired:
            self._tell(settled)

    def _failed(self, decision: ScalingDecision, error: Exception) -> None:
        now = self._clock()
        self._retry_at, self._failed_at = now + self._backoff.ended(now), decision.sample.at
        if not self._trouble:
            _log.warning("%s cannot have %s replicas: %s", self._name, decision.desired, error)
        self._trouble = f"{decision.desired} replicas cannot be had: {error}"

    # ---- the machine ----

    def _measure(self, sample: ScalingSample) -> None:
        pids = self._meter.pids
        soon = pids != self._measured_pids or (sample.ready > 0 and not self._meter.sized)
        every = _SOON if soon else _USUALLY
        if (soon or sample.requests != 0) and not self._measuring and not sample.at - self._measured_at < every:
            self._measuring, self._measured_at, self._measured_pids = True, sample.at, pids
            self._spawn(self._look(pids))

    async def _look(self, pids: list[int]) -> None:
        try:
            self._meter.measured(await asyncio.to_thread(self._machine.read, pids))
        except Exception:  # noqa: BLE001 - as it was measured last
            _log.exception("The machine could not be measured")
        finally:
            self._measuring = False

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
