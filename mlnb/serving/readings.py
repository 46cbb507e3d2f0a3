"""What a server tells of its deployments to whoever asks: its routes, and the kernel that steers it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from mlnb.errors import NotDeployedError
from mlnb.monitoring.metrics import WINDOWS
from mlnb.monitoring.view import MonitorView
from mlnb.serving.prometheus import Exposed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlnb.events import PredictionEvent
    from mlnb.monitoring import MetricsSnapshot
    from mlnb.monitoring.comparison import Comparison
    from mlnb.monitoring.experiment import Experiment
    from mlnb.monitoring.metrics import Mark, Series, WindowMetrics
    from mlnb.monitoring.outcomes import Label
    from mlnb.monitoring.quality import QualityReport
    from mlnb.scaling.pool import ReplicaPool
    from mlnb.serving.observing import Remembered
    from mlnb.serving.predicting import Served

__all__ = ["PublicViews", "Readings", "exposed_of", "place_of", "public", "view_of"]

_PATIENCE = 5.0  # seconds
_EVERY = 0.9  # seconds: a page asks once a second


class Readings:
    """What is asked about deployments; coroutines, because they run on the server's loop.

    Attributes
    ----------
    served : dict of str to Served
        Read by the routes.
    """

    def __init__(self) -> None:
        self.served: dict[str, Served] = {}

    async def series(self, name: str) -> Series:
        """Return what happened second by second."""
        return self._find(name).observer.monitor.series(now=time.time())

    async def metrics(self, name: str) -> MetricsSnapshot:
        """Return what happened over each window."""
        return self._find(name).observer.monitor.snapshot(now=time.time(), windows=True)

    async def view(self, name: str, window: int) -> MonitorView:
        """Return all that a dashboard draws."""
        return view_of(name, self._find(name), window=window)

    async def quality(self, name: str, window: str) -> tuple[QualityReport, ...]:
        """Return how right each version was, by the labels that came in a window."""
        return self._find(name).observer.quality(window, now=time.time())

    async def flush_log(self, name: str) -> str:
        """Have written to the prediction log what waits; return why it is not, "" if it is."""
        log = self._find(name).observer.log
        if log is None or await asyncio.to_thread(partial(log.flush, timeout=_PATIENCE)):
            return ""
        return log.state().failure

    async def mark(self, name: str, mark: Mark) -> None:
        """Note what was done, for the time axis."""
        if name in self.served:
            self.served[name].observer.marks.append(mark)

    async def feedback(self, name: str, labels: Sequence[Label]) -> int:
        """Take what became of requests, all of it or nothing; return how many.

        Raises
        ------
        MlnbError
        """
        return await self._find(name).observer.label(labels)

    async def experiment(self, name: str) -> Experiment | None:
        """Return how the versions that share the requests compare, None if there is but one."""
        return self._find(name).observer.outcomes.experiment()

    async def comparison(self, name: str) -> Comparison | None:
        """Return how the shadow's answers differ, None without a shadow."""
        mirror = self._find(name).observer.mirror
        return None if mirror is None else mirror.comparison

    async def recent(self, name: str, since: float, until: float, most: int) -> list[PredictionEvent]:
        """Return the first requests answered between two times, seconds since the epoch, as far back as they are kept.

        There are at most as many as asked for, and those of the same moment as the last.
        """
        return self._find(name).observer.recent.between(since, until, most=most)

    async def remembered(self, name: str, at: int, count: int) -> Remembered | None:
        """Return some of the requests that are remembered, from the ``at``-th newest on; None where there are none."""
        return self._find(name).observer.remembered(at, count)

    async def remember(self, name: str, part: Remembered) -> None:
        """Remember requests of before those that are known here."""
        if name in self.served:
            self.served[name].observer.remember(part)

    def _find(self, name: str) -> Served:
        try:
            return self.served[name]
        except KeyError:
            raise NotDeployedError(f"{name!r} is not deployed here any more.") from None


def view_of(name: str, one: Served, *, window: int) -> MonitorView:
    """Return all that a dashboard draws of a deployment.

    Parameters
    ----------
    name : str
    one : Served
    window : int
        Seconds of the series: 300 or 3600.
    """
    observer, service, now = one.observer, one.service, time.time()
    pools = [line.pool for line in service.lines.values()]
    in_flight = sum(pool.in_flight for pool in pools)
    return MonitorView(
        name=name, version=service.version.number, state="live", at=now, place=_place(pools),
        metrics=replace(observer.monitor.snapshot(now=now, windows=True), in_flight=in_flight),
        series=observer.monitor.series(now=now, window=window), marks=tuple(observer.marks), drift=observer.drift,
        quality=tuple(report for each in WINDOWS for report in observer.quality(each, now=now, age=5.0)),
        alerts=observer.alerts.states(), log=None if observer.log is None else observer.log.state(),
        in_flight=in_flight, replicas=sum(len(pool.replicas) for pool in pools),
    )  # fmt: skip


def exposed_of(name: str, one: Served) -> Exposed:
    """Return what is told to Prometheus of a deployment."""
    observer, service = one.observer, one.service
    pools = [line.pool for line in service.lines.values()]
    cells, by_version = observer.monitor.totals(), observer.monitor.by_version()
    answers = {one.version: one for one in observer.monitor.answers()}
    reports = [report for each in WINDOWS for report in observer.quality(each, now=time.time(), age=5.0)]
    drift, log = observer.drift, None if observer.log is None else observer.log.state()
    return Exposed(
        model=name, version=service.version.number, model_type=service.version.model_type.rpartition(".")[2],
        requests={
            (version, replica, status): count
            for (version, replica), cell in cells.items()
            for status, count in cell.statuses.items()
        },
        rows={number: cell.rows for number, cell in by_version.items()},
        latency={number: cell.latency for number, cell in by_version.items()},
        waited={number: cell.waited for number, cell in by_version.items()},
        batch={number: cell.batch for number, cell in by_version.items()},
        predictions={
            (number, label): count
            for number, found in answers.items()
            if found.named
            for label, count in found.classes.items()
        },
        missing={number: one.missing for number, one in answers.items()},
        labels=dict(observer.outcomes.noted),
        refused=observer.outcomes.refused,
        quality={
            (report.version, measure.name, report.window): measure.value
            for report in reports
            for measure in report.measures
        },
        drift={} if drift is None else {column.name: column.effect for column in drift.columns},
        drifted=None if drift is None else len(drift.drifted),
        alerts={state.rule.name: state.state == "firing" for state in observer.alerts.states()},
        in_flight=sum(pool.in_flight for pool in pools),
        replicas=Counter(replica.state for pool in pools for replica in pool.snapshot()),
        desired=sum(pool.desired for pool in pools),
        log_written=None if log is None else log.written, log_dropped=None if log is None else log.dropped,
    )  # fmt: skip


def _place(pools: Sequence[ReplicaPool]) -> str:
    processes = sum(replica.pid is not None for pool in pools for replica in pool.replicas)
    return "asleep" if not processes and all(pool.asleep for pool in pools) else place_of(processes)


def place_of(processes: int) -> str:
    """Say where a model answers that has as many replica processes."""
    return "in this process" if not processes else "1 process" if processes == 1 else f"{processes} processes"


class PublicViews:
    """What a dashboard draws of all deployments for anybody who asks over HTTP; worked out once a second at most.

    Answers that are free text are not told.

    Parameters
    ----------
    served : mapping of str to Served
        A live view.
    """

    def __init__(self, served: Mapping[str, Served]) -> None:
        self._served = served
        self._known: dict[int, tuple[float, list[MonitorView]]] = {}  # by window: when, and what

    def __call__(self, window: int) -> list[MonitorView]:
        """Return a view of each deployment, by name."""
        now = time.monotonic()
        known = self._known.get(window)
        if known is None or now - known[0] >= _EVERY:
            views = [
                _public(view_of(name, one, window=window), one) for name, one in sorted(dict(self._served).items())
            ]
            known = self._known[window] = (now, views)
        return known[1]


def public(metrics: MetricsSnapshot) -> MetricsSnapshot:
    """Return metrics without what only the person who runs the model may read: its own words, and free text."""
    return replace(metrics, last_error=None, windows=tuple(_without_classes(window) for window in metrics.windows))


def _public(view: MonitorView, one: Served) -> MonitorView:
    series = replace(view.series, classes={}) if one.observer.speaks_freely else view.series
    return replace(view, metrics=public(view.metrics), series=series)


def _without_classes(window: WindowMetrics) -> WindowMetrics:
    return replace(window, answers=tuple(one if one.named else replace(one, classes={}) for one in window.answers))
