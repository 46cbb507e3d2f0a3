"""Counts and latencies of one deployment, second by second, in fixed memory."""

from __future__ import annotations

import copy
import threading
from collections import deque
from dataclasses import dataclass, field
from itertools import groupby
from math import ceil, log
from typing import TYPE_CHECKING, Any, TypeVar

from ddsketch import DDSketch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlnb.events import PredictionEvent

__all__ = ["MetricsSnapshot", "ModelMonitor", "Series"]

RELATIVE_ACCURACY = 0.01
_PER_E = 1 / log((1 + RELATIVE_ACCURACY) / (1 - RELATIVE_ACCURACY))  # buckets of a sketch per factor of e
_FEW = 8
T = TypeVar("T")


@dataclass(slots=True)
class _Second:
    at: int
    requests: int = 0
    errors: int = 0
    latency: DDSketch = field(default_factory=lambda: DDSketch(RELATIVE_ACCURACY))
    quantiles: tuple[float | None, float | None] | None = None

    def join(self, other: _Second) -> None:
        """Add what happened elsewhere in the same second."""
        self.requests += other.requests
        self.errors += other.errors
        self.latency.merge(other.latency)
        self.quantiles = None

    def p50_and_p99(self) -> tuple[float | None, float | None]:
        """Return the quantiles of a second that is over, worked out once."""
        if self.quantiles is None:
            self.quantiles = (_quantile(self.latency, 0.5), _quantile(self.latency, 0.99))
        return self.quantiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The last seconds, oldest first, all of one length.

    Attributes
    ----------
    ago : tuple of int
        Seconds before now, ending with 0.
    requests, errors : tuple of int
        Per second.
    p50, p99 : tuple of float or None
        Latency in milliseconds; None in a second without a good answer.
    """

    ago: tuple[int, ...]
    requests: tuple[int, ...]
    errors: tuple[int, ...]
    p50: tuple[float | None, ...]
    p99: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSnapshot:
    """What one deployment did.

    Attributes
    ----------
    requests, errors, rows : int
        Since it was deployed.
    window : int
        Seconds that the other numbers speak of.
    rate : float
        Requests per second over the last ten full seconds.
    window_requests, window_errors : int
    p50, p99 : float or None
        Latency in milliseconds, within 1 % (DDSketch, Masson et al. 2019); None without a good answer.
    last_error : str or None
        Of the last request that failed, for the person who runs the model.
    last_error_at : float or None
        Seconds since the epoch.
    recent : tuple of int
        Requests in each of the last 60 seconds, oldest first.
    """

    requests: int
    errors: int
    rows: int
    window: int
    rate: float
    window_requests: int
    window_errors: int
    p50: float | None
    p99: float | None
    last_error: str | None
    last_error_at: float | None
    recent: tuple[int, ...]


class ModelMonitor:
    """Observes predictions; read it with :meth:`snapshot` and :meth:`series`.

    Parameters
    ----------
    seconds : int
        How far back it remembers second by second.

    Examples
    --------
    >>> from mlnb.events import PredictionEvent
    >>> event = PredictionEvent(model="iris", version=1, request_id="a", at=100.2, seconds=0.002, rows=1, status=200)
    >>> monitor = ModelMonitor()
    >>> monitor.observe([event])
    >>> snapshot = monitor.snapshot(now=101.0)
    >>> snapshot.requests, snapshot.errors, round(snapshot.p50, 1)
    (1, 0, 2.0)
    """

    def __init__(self, *, seconds: int = 300) -> None:
        self._lock = threading.Lock()
        self._seconds: deque[_Second] = deque(maxlen=seconds)
        self._requests = self._errors = self._rows = 0
        self._last_error: str | None = None
        self._last_error_at: float | None = None

    def observe(self, events: Sequence[PredictionEvent]) -> None:
        """Count requests, in the order of their answers."""
        with self._lock:
            for at, group in groupby(events, key=_second_of):
                self._count(self._second(at), list(group))

    def absorb(self, other: ModelMonitor) -> None:
        """Add what another one observed of the same deployment, elsewhere or before."""
        with other._lock:
            totals = (other._requests, other._errors, other._rows)
            last, seconds = (other._last_error_at, other._last_error), copy.deepcopy(list(other._seconds))
        with self._lock:
            self._requests += totals[0]
            self._errors += totals[1]
            self._rows += totals[2]
            if last[0] is not None and last[0] >= (self._last_error_at or 0.0):
                self._last_error_at, self._last_error = last
            known = {second.at: second for second in self._seconds}
            for second in seconds:
                if second.at in known:
                    known[second.at].join(second)
                else:
                    known[second.at] = second
            self._seconds = deque((known[at] for at in sorted(known)), maxlen=self._seconds.maxlen)

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            return {key: copy.deepcopy(value) for key, value in vars(self).items() if key != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())

    def snapshot(self, *, now: float, window: int = 60) -> MetricsSnapshot:
        """Return the totals, and the last ``window`` seconds up to ``now`` (seconds since the epoch)."""
        with self._lock:
            recent = self._per_second(int(now), window, lambda second: second.requests, 0)
            last = [second for second in self._seconds if int(now) - window < second.at <= int(now)]
            latency = DDSketch(RELATIVE_ACCURACY)
            for second in last:
                latency.merge(second.latency)
            full = self._per_second(int(now) - 1, 10, lambda second: second.requests, 0)
            return MetricsSnapshot(
                requests=self._requests, errors=self._errors, rows=self._rows, window=window,
                rate=sum(full) / len(full), window_requests=sum(recent),
                window_errors=sum(second.errors for second in last),
                p50=_quantile(latency, 0.5), p99=_quantile(latency, 0.99),
                last_error=self._last_error, last_error_at=self._last_error_at, recent=recent,
            )  # fmt: skip

    def series(self, *, now: float, window: int = 300) -> Series:
        """Return the last ``window`` full seconds before ``now``."""
        end = int(now) - 1
        with self._lock:
            return Series(
                ago=tuple(range(-window + 1, 1)),
                requests=self._per_second(end, window, lambda second: second.requests, 0),
                errors=self._per_second(end, window, lambda second: second.errors, 0),
                p50=self._per_second(end, window, lambda second: second.p50_and_p99()[0], None),
                p99=self._per_second(end, window, lambda second: second.p50_and_p99()[1], None),
            )

    def _count(self, second: _Second, events: list[PredictionEvent]) -> None:
        """Count what was answered in one second."""
        self._requests += len(events)
        second.requests += len(events)
        second.quantiles = None
        failed = [event for event in events if event.error is not None]
        if failed:
            self._errors += len(failed)
            second.errors += len(failed)
            self._last_error, self._last_error_at = failed[-1].error, failed[-1].at
            events = [event for event in events if event.error is None]
        self._rows += sum([event.rows for event in events])
        _add(second.latency, [event.seconds for event in events])

    def _second(self, at: int) -> _Second:
        """Return the bucket of second ``at``; an event that comes late joins the newest."""
        if not self._seconds or self._seconds[-1].at < at:
            self._seconds.append(_Second(at))
        return self._seconds[-1]

    def _per_second(self, end: int, count: int, read: Callable[[_Second], T], empty: T) -> tuple[T, ...]:
        values = [empty] * count
        for second in self._seconds:
            position = second.at - end + count - 1
            if 0 <= position < count:
                values[position] = read(second)
        return tuple(values)


def _second_of(event: PredictionEvent) -> int:
    return int(event.at)


def _add(sketch: DDSketch, seconds: list[float]) -> None:
    """Add latencies; those of one bucket of the sketch together, because each addition costs as much as a request."""
    latencies = [value * 1e3 for value in seconds]
    if len(latencies) < _FEW:
        for latency in latencies:
            sketch.add(latency)
        return
    buckets: dict[int, list[float]] = {}
    for latency in latencies:
        buckets.setdefault(ceil(log(latency) * _PER_E), []).append(latency)
    for same in buckets.values():
        sketch.add(same[0], weight=len(same))


def _quantile(sketch: DDSketch, quantile: float) -> float | None:
    """Return a quantile by the nearest rank: the p99 of few requests is the slowest. DDSketch itself rounds down."""
    count = int(sketch.count)
    rank = ceil(quantile * count) - 1
    value: float | None = sketch.get_quantile_value(min(1.0, (rank + 0.5) / max(count - 1, 1)) if count else quantile)
    return value
