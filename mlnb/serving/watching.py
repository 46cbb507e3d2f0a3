"""Looks at what is served, once a second on the server's loop: samples, drift and alerts."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from mlnb.monitoring.alerts import Reading
from mlnb.monitoring.drift import FEWEST
from mlnb.monitoring.drift.judging import Question
from mlnb.monitoring.metrics import KINDS, Mark
from mlnb.serving.drift_judge import DriftJudge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlnb.monitoring.drift import DriftReport
    from mlnb.monitoring.metrics import Series
    from mlnb.scaling.pool import ReplicaPool
    from mlnb.serving.observing import Observer
    from mlnb.serving.plan import Plan
    from mlnb.serving.predicting import Served

_log = logging.getLogger(__name__)

_KINDS = {"firing": "alert", "resolved": "all clear"}  # of marks
_EVERY = 1.0  # seconds
_DRIFT_EVERY = 10  # seconds between two looks at drift, while there are new rows
_ROWS = 1000  # of the newest, that drift is judged by
_SHARE = 10  # so many times as long as judging takes nothing is judged
_MINUTE = 60
_LATELY = 300.0  # seconds that crashes and dropped rows are counted over

__all__ = ["Watcher"]


@dataclass(slots=True)
class _Known:
    """What was seen of one deployment before."""

    crashes: WeakKeyDictionary[ReplicaPool, int] = field(default_factory=WeakKeyDictionary)
    crashed: deque[float] = field(default_factory=deque)  # when, by time.monotonic
    dropped: deque[tuple[float, int]] = field(default_factory=deque)  # when, and rows since it was deployed
    version: int = 0  # that was live at the last look at drift
    newest: float | None = None  # when the newest row came that it was judged by
    pause: float = _DRIFT_EVERY  # seconds until the next one
    looked: float = -inf
    looking: bool = False


class Watcher:
    """Looks at deployments until it is stopped.

    Parameters
    ----------
    served : mapping of str to Served
        A live view.
    plan_of : callable
        Returns the plan of a name.
    changed : callable
        Told the name of a deployment whose alerts have changed.
    resting : callable
        Says whether a name is not to be looked at now.
    """

    def __init__(
        self, served: Mapping[str, Served], *, plan_of: Callable[[str], Plan], changed: Callable[[str], None],
        resting: Callable[[str], bool],
    ) -> None:  # fmt: skip
        self._served = served
        self._plan_of = plan_of
        self._changed = changed
        self._resting = resting
        self._known: WeakKeyDictionary[Observer, _Known] = WeakKeyDictionary()
        self._judge = DriftJudge()
        self._task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[DriftReport | None]] = set()

    def start(self) -> None:
        """Begin; again is harmless."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End; again is harmless."""
        tasks = [*self._tasks, *([] if self._task is None else [self._task])]
        self._task = None
        for task in tasks:
            task.cancel()
        self._judge.close()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            self._judge.rest()
            for name in list(self._served):
                self.look(name)

    def look(self, name: str) -> None:
        """Look at one deployment now."""
        try:
            if not self._resting(name):
                self._look(name, self._served[name])
        except Exception:  # noqa: BLE001 - nothing of this may end it, or reach those who are served
            _log.exception("%s could not be looked at", name)

    def _look(self, name: str, one: Served) -> None:
        known = self._known.setdefault(one.observer, _Known())
        observer, service, now = one.observer, one.service, time.time()
        pools = [line.pool for line in service.lines.values()]
        if observer.drift is not None and observer.drift.version != service.version.number:
            observer.drift = known.newest = None  # another version is live
        report = observer.drift
        observer.monitor.sample(
            now, replicas=sum(len(pool.replicas) for pool in pools), in_flight=sum(pool.in_flight for pool in pools),
            drift=None if report is None else report.share,
        )  # fmt: skip
        changes = observer.alerts.step(self._reading(one, known, pools, now), now=time.monotonic())
        if changes:
            observer.changed(changes)
            for change in changes:
                observer.marks.append(
                    Mark(at=change.at, kind=_KINDS[change.state], version=change.version, words=change.words)
                )
            self._changed(name)
        self._judge_drift(name, one, known)

    def _reading(self, one: Served, known: _Known, pools: list[ReplicaPool], at: float) -> Reading:
        metrics = one.observer.monitor.snapshot(now=at)
        now = time.monotonic()
        for pool in pools:
            known.crashed.extend([now] * (pool.crashes - known.crashes.get(pool, 0)))
            known.crashes[pool] = pool.crashes
        log = one.observer.log
        dropped = 0 if log is None else log.state().dropped
        if known.dropped and dropped < known.dropped[-1][1]:  # another log
            known.dropped.clear()
        known.dropped.append((now, dropped))
        while known.crashed and known.crashed[0] < now - _LATELY:
            known.crashed.popleft()
        while known.dropped[0][0] < now - _LATELY:
            known.dropped.popleft()
        requests, report = metrics.window_requests, one.observer.drift
        lately = one.observer.monitor.series(now=at, window=_MINUTE)
        scored = any(rule.metric == "quality" for rule in one.observer.alerts.rules)  # else nobody asks
        return Reading(
            at=at, version=one.service.version.number, total=metrics.requests, rows=metrics.rows, requests=requests,
            error_rate=_share(lately, *KINDS[1:]), refused=_share(lately, KINDS[0]), p50=metrics.p50,
            p95=metrics.p95, p99=metrics.p99, rate=metrics.rate, drift=None if report is None else _harm(report),
            quality=one.observer.score(one.service.version.number, now=at) if scored else None,
            crashes=float(len(known.crashed)),
            dropped=None if log is None else float(known.dropped[-1][1] - known.dropped[0][1]),
        )  # fmt: skip

    # ---- drift ----

    def _judge_drift(self, name: str, one: Served, known: _Known) -> None:
        """Judge the newest rows, now and then, while there are new ones."""
        version = one.service.version.number
        newest, now = one.observer.rows.rows(version, most=FEWEST), time.monotonic()
        if version != known.version:  # what is known of another one says nothing of this
            known.version, known.newest, known.looked = version, None, -inf
            one.observer.drift = None
        if newest.rows < FEWEST or newest.until == known.newest or known.looking or now - known.looked < known.pause:
            return
        known.newest, known.looked, known.looking = newest.until, now, True
        task = asyncio.get_running_loop().create_task(self._keep(name, one, known))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self, name: str, one: Served, known: _Known) -> DriftReport | None:
        began = time.monotonic()
        try:
            report = await self.drift(name, one, rows=_ROWS)
        except Exception:  # noqa: BLE001 - rows may be anything
            _log.exception("The drift of %s could not be judged", name)
            return None
        else:
            if report.version == one.service.version.number:
                one.observer.drift = report
            return report
        finally:
            known.looking = False
            known.pause = max(_DRIFT_EVERY, _SHARE * (time.monotonic() - began))

    async def drift(self, name: str, one: Served, *, rows: int) -> DriftReport:
        """Judge the newest rows that the live version answered, in a process of its own."""
        spec = self._plan_of(name).live
        version = spec.version
        question = Question(
            registry=spec.registry, reference=spec.reference, digest=version.baseline_digest,
            signature=version.signature, sampled=one.observer.rows.rows(version.number, most=rows), name=name,
        )  # fmt: skip
        return await asyncio.to_thread(self._judge.judge, question)


def _share(series: Series, *kinds: str) -> float | None:
    """Return the share of the requests that failed in these ways; None without requests."""
    requests = sum(series.requests)
    return sum(sum(series.kinds[kind]) for kind in kinds) / requests if requests else None


def _harm(report: DriftReport) -> float | None:
    """Return the share of columns that drifted; 1 if the predictions did."""
    if report.prediction is not None and report.prediction.verdict == "drifted":
        return 1.0
    return report.share
