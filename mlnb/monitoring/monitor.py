"""Counts, latencies and answers of one deployment, by version and replica, in fixed memory."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from mlnb.monitoring.metrics import KINDS, WINDOWS, MetricsSnapshot, Series
from mlnb.monitoring.sketch import Sketch
from mlnb.monitoring.windows import Cells, Known, Tick, cell_of, combined, merged, tick_of, together, window_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mlnb.events import PredictionEvent
    from mlnb.monitoring.metrics import Answers, WindowMetrics
    from mlnb.monitoring.windows import Cell

__all__ = ["ModelMonitor"]

_MINUTE, _HOUR = 60, 3600  # seconds
_FULL = 10  # seconds that the rate is over
_BACK = 5  # seconds by which an event may come late; from there on the clock was set back
_BLOCK = 8  # seconds or minutes of which the sum is kept
_MOST_BLOCKS = _MINUTE // _BLOCK + 1
_NOTHING = Tick()
_OWN = {"_lock", "_versions", "_blocks"}  # what does not go to another process
T = TypeVar("T")


@dataclass(slots=True)
class _Step:
    """A second or a minute: all of it for a while, then what a chart shows of it.

    Only the newest one of its kind counts on; those before do not change and are shared.
    """

    at: int
    cells: Cells = field(default_factory=dict)
    tick: Tick | None = None

    def ticked(self) -> Tick:
        if self.tick is None:
            self.tick = tick_of(self.cells)
        return self.tick

    def join(self, cells: Cells) -> None:
        merged(self.cells, cells)
        self.tick = None

    def close(self) -> None:
        """Have the sums over many steps at hand."""
        for cell in self.cells.values():
            for sketch in (cell.latency, cell.waited, cell.batch, cell.answers.numbers):
                sketch.packed()

    def copy(self, *, deep: bool) -> _Step:
        return _Step(self.at, _copied(self.cells) if deep else self.cells, self.tick)


class _Sample(NamedTuple):
    at: int
    replicas: int
    in_flight: int
    drift: float | None


class ModelMonitor:
    """Observes predictions; read it with :meth:`snapshot` and :meth:`series`.

    A second is counted by itself for a minute, and remembered in a few numbers for some more; a minute is counted by
    itself for an hour; and there is one count of all time. Each is by version and replica.

    Parameters
    ----------
    seconds : int
        How far back it remembers second by second.
    numbers : bool, optional
        Whether answers are numbers, of which quantiles are kept, or classes, which are counted. Default: the answers'
        dtype says it.

    Attributes
    ----------
    labels : tuple or None
        The classes that the versions that answer have, all together: others are counted as "others". None: not known,
        classes with names of up to 64 characters are counted by name.

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

    def __init__(self, *, seconds: int = 300, numbers: bool | None = None) -> None:
        self.numbers = numbers
        self._labels: tuple[Any, ...] | None = None
        self._known: Known = None
        self._lock = threading.Lock()
        self._at = 0  # the second that is counted now
        self._now: Cells = {}
        self._seconds: deque[_Step] = deque(maxlen=min(seconds, _MINUTE + 1))
        self._ticks: deque[tuple[int, Tick]] = deque(maxlen=max(0, seconds - _MINUTE))  # of seconds before those
        self._minutes: deque[_Step] = deque(maxlen=_HOUR // _MINUTE + 1)
        self._total: Cells = {}
        self._versions: dict[int, Cell] | None = None  # the total by version, until there is more
        self._blocks: dict[tuple[int, int], Cells] = {}  # sums of steps that are over, by unit and place
        self._began: float | None = None
        self._samples: deque[_Sample] = deque(maxlen=seconds)
        self._slow_samples: deque[_Sample] = deque(maxlen=_HOUR // _MINUTE + 1)
        self._last_error: str | None = None
        self._last_error_at: float | None = None

    @property
    def labels(self) -> tuple[Any, ...] | None:  # noqa: D102 - said above
        return self._labels

    @labels.setter
    def labels(self, labels: tuple[Any, ...] | None) -> None:
        self._labels = labels
        self._known = None if labels is None else frozenset(one for label in labels for one in (label, str(label)))

    # ---- writing ----

    def observe(self, events: Sequence[PredictionEvent]) -> None:
        """Count requests, in the order of their answers."""
        if not events:
            return
        with self._lock:
            at = int(events[0].at)
            versions, replicas = {event.version for event in events}, {event.replica for event in events}
            if len(versions) == len(replicas) == 1 and at == int(events[-1].at):  # nearly always: one batch
                self._count(at, versions.pop(), replicas.pop(), events)
                return
            groups: dict[tuple[int, int, int], list[PredictionEvent]] = {}
            for event in events:
                groups.setdefault((int(event.at), event.version, event.replica), []).append(event)
            for key in sorted(groups):
                self._count(*key, groups[key])

    def sample(self, now: float, *, replicas: int, in_flight: int, drift: float | None) -> None:
        """Note what is looked at once a second.

        Parameters
        ----------
        now : float
            Seconds since the epoch.
        replicas : int
            That are ready.
        in_flight : int
            Requests that wait or are being answered.
        drift : float or None
            Share of the columns that drifted.
        """
        sample = _Sample(int(now), replicas, in_flight, drift)
        with self._lock:
            self._set_back(int(now))
            _put(self._samples, sample)
            _put(self._slow_samples, sample._replace(at=sample.at // _MINUTE))

    def absorb(self, other: ModelMonitor) -> None:
        """Add what another one observed of the same deployment, elsewhere or before; that one is none the worse."""
        theirs = other.__getstate__()
        with self._lock:
            self._settle()
            self._seconds = _joined(self._seconds, theirs["_seconds"])
            self._minutes = _joined(self._minutes, theirs["_minutes"])
            ticks = dict([*theirs["_ticks"], *self._ticks])
            self._ticks = deque(sorted(ticks.items()), maxlen=self._ticks.maxlen)
            self._samples = _newest(self._samples, theirs["_samples"])
            self._slow_samples = _newest(self._slow_samples, theirs["_slow_samples"])
            self._at = max(self._at, theirs["_at"])
            self._blocks.clear()
            self._add(theirs["_total"])
            if theirs["_last_error_at"] is not None and theirs["_last_error_at"] >= (self._last_error_at or 0.0):
                self._last_error_at, self._last_error = theirs["_last_error_at"], theirs["_last_error"]
            if theirs["_began"] is not None:
                self._began = min(self._began or theirs["_began"], theirs["_began"])

    def __getstate__(self) -> dict[str, Any]:
        """Return a state that nobody changes, while this one goes on."""
        with self._lock:
            self._settle()
            state = {key: value for key, value in vars(self).items() if key not in _OWN}
            for key in ("_ticks", "_samples", "_slow_samples"):
                state[key] = state[key].copy()
            for key in ("_seconds", "_minutes"):
                state[key] = _shared(state[key])
            return state | {"_now": {}, "_total": _copied(self._total)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock(), _versions=None, _blocks={})

    # ---- reading ----

    def snapshot(self, *, now: float, window: int = 60, windows: bool = False) -> MetricsSnapshot:
        """Return the totals, and the last ``window`` seconds up to ``now`` (seconds since the epoch).

        Parameters
        ----------
        now : float
        window : int
            At most 60.
        windows : bool
            Whether to work out all of it over each window too, which takes some milliseconds.
        """
        with self._lock:
            self._settle()
            last = [step for step in self._seconds if int(now) - window < step.at <= int(now)]
            latency = Sketch.sum(cell.latency for step in last for cell in step.cells.values())
            p50, p95, p99 = (None if value is None else value * 1e3 for value in latency.quantiles(0.5, 0.95, 0.99))
            requests = {step.at: _sum(step.cells, "requests") for step in self._seconds}
            recent = tuple(requests.get(at, 0) for at in range(int(now) - window + 1, int(now) + 1))
            full = [requests.get(int(now) - ago, 0) for ago in range(1, _FULL + 1)]
            return MetricsSnapshot(
                requests=_sum(self._total, "requests"), errors=_sum(self._total, "errors"),
                rows=_sum(self._total, "rows"), window=window, rate=sum(full) / _FULL, window_requests=sum(recent),
                window_errors=sum(_sum(step.cells, "errors") for step in last), p50=p50, p95=p95, p99=p99,
                last_error=self._last_error, last_error_at=self._last_error_at, recent=recent,
                windows=self._windows(now) if windows else (),
            )  # fmt: skip

    def totals(self) -> Cells:
        """Return what was counted of all time, by version and replica; not to be changed.

        The cells count on: read them at once, on the thread that observes.
        """
        with self._lock:
            self._settle()
            return dict(self._total)

    def by_version(self) -> dict[int, Cell]:
        """Return what was counted of all time, by version; not to be changed, as it is kept until there is more."""
        with self._lock:
            return dict(self._by_version())

    def answers(self) -> tuple[Answers, ...]:
        """Return what each version answered, of all time."""
        with self._lock:
            whole = self._by_version()
            return tuple(whole[version].answers.value(version, known=self._known) for version in sorted(whole))

    def counts(self) -> dict[int, tuple[int, int]]:
        """Return by version how many requests there were, and how many failed by the server's fault (status 500 on)."""
        with self._lock:
            self._settle()
            counts: dict[int, tuple[int, int]] = {}
            for (version, _), cell in self._total.items():
                requests, errors = counts.get(version, (0, 0))
                failed = sum(count for status, count in cell.statuses.items() if status >= 500)  # noqa: PLR2004 - of the server
                counts[version] = (requests + cell.requests, errors + failed)
            return counts

    def series(self, *, now: float, window: int = 300) -> Series:
        """Return the last ``window`` seconds before ``now``: 300 of them one by one, or 3,600 in minutes."""
        with self._lock:
            self._settle()
            if window > _HOUR // 2:
                return self._slow(now, window // _MINUTE)
            ticks = dict(self._ticks) | {step.at: step.ticked() for step in self._seconds}
            samples = {sample.at: sample for sample in self._samples}
            return _series(ticks, samples, end=int(now) - 1, count=window, step=1)

    # ---- counting ----

    def _count(self, at: int, version: int, replica: int, events: Sequence[PredictionEvent]) -> None:
        """Count what one replica of one version answered in one second; what comes late joins the newest one."""
        if self._now and at > self._at:
            self._settle()
        self._set_back(at)
        self._at = max(at, self._at)
        if self._began is None:
            self._began = float(at)
        failed = cell_of(self._now, (version, replica)).count(events, numbers=self.numbers, known=self._known)
        if failed:
            self._last_error, self._last_error_at = failed[-1].error, failed[-1].at

    def _settle(self) -> None:
        """Add what is counted of the running second to the seconds, the minutes and all time."""
        if not self._now:
            return
        cells, self._now = self._now, {}
        minute = self._at // _MINUTE
        if not self._minutes or self._minutes[-1].at < minute:
            _close(self._minutes)
            self._minutes.append(_Step(minute))
        self._minutes[-1].join(cells)
        self._add(cells)
        if self._seconds and self._seconds[-1].at == self._at:
            self._seconds[-1].join(cells)
            return
        if len(self._seconds) == self._seconds.maxlen and self._ticks.maxlen:
            oldest = self._seconds[0]
            self._ticks.append((oldest.at, oldest.ticked()))
        _close(self._seconds)
        self._seconds.append(_Step(self._at, cells))

    def _add(self, cells: Cells) -> None:
        merged(self._total, cells)
        self._versions = None

    def _by_version(self) -> dict[int, Cell]:
        self._settle()
        if self._versions is None:
            numbers = {version for version, _ in self._total}
            self._versions = {
                number: together(cell for (version, _), cell in self._total.items() if version == number)
                for number in numbers
            }
        return self._versions

    def _set_back(self, at: int) -> None:
        """Find out whether the clock was set back, to a second."""
        if at < self._at - _BACK:
            self._settle()
            self._shift(at - self._at - 1)

    def _shift(self, seconds: int) -> None:
        """Let what was before be as long ago as it was, after the clock was set back."""
        self._at += seconds
        self._blocks.clear()
        for step in self._seconds:
            step.at += seconds
        for step in self._minutes:
            step.at += seconds // _MINUTE
        self._ticks = deque(((at + seconds, tick) for at, tick in self._ticks), maxlen=self._ticks.maxlen)
        self._samples.clear()
        self._slow_samples.clear()
        if self._began is not None:
            self._began += seconds

    def _windows(self, now: float) -> tuple[WindowMetrics, ...]:
        found = []
        for name, seconds in WINDOWS.items():
            since, steps = self._steps(now, seconds)
            lasted = max(max(now, self._at) - max(since, self._began or now), 1.0)
            found.append(window_of(steps, name=name, seconds=seconds, lasted=lasted, known=self._known))
        return tuple(found)

    def _steps(self, now: float, seconds: int | None) -> tuple[float, list[Cells]]:
        """Return what a window has, and when the first step of it began."""
        if seconds is None:
            return 0.0, [self._total]
        steps, unit = (self._seconds, 1) if seconds <= _MINUTE else (self._minutes, _MINUTE)
        end = int(now) // unit
        first = end - seconds // unit + 1
        return float(first * unit), list(self._sums([step for step in steps if first <= step.at <= end], steps, unit))

    def _sums(self, chosen: Iterable[_Step], steps: deque[_Step], unit: int) -> Iterator[Cells]:
        """Yield the cells of steps; those of eight together that are over, as far as all of them are chosen."""
        built = False  # one at a time: the first look is not to take long
        for block, group in groupby(chosen, lambda step: step.at // _BLOCK):
            members, key = list(group), (unit, block)
            whole = members[0].at == block * _BLOCK and members[-1].at + 1 == (block + 1) * _BLOCK
            if whole and not built and key not in self._blocks and members[-1] is not steps[-1]:
                built = True
                self._keep(key, combined(step.cells for step in members))
            if whole and key in self._blocks:
                yield self._blocks[key]
            else:
                yield from (step.cells for step in members)

    def _keep(self, key: tuple[int, int], cells: Cells) -> None:
        """Keep a sum, and of each unit only as many as the longest window has."""
        own = [one for one in self._blocks if one[0] == key[0]]
        if len(own) >= _MOST_BLOCKS:
            del self._blocks[min(own)]
        self._blocks[key] = cells

    def _slow(self, now: float, minutes: int) -> Series:
        ticks = {step.at: step.ticked() for step in self._minutes}
        samples = {sample.at: sample for sample in self._slow_samples}
        return _series(ticks, samples, end=int(now) // _MINUTE, count=minutes, step=_MINUTE)


def _series(ticks: dict[int, Tick], samples: dict[int, _Sample], *, end: int, count: int, step: int) -> Series:
    """Return as many steps up to ``end``, which is in steps since the epoch."""
    places = range(end - count + 1, end + 1)
    row = [ticks.get(at, _NOTHING) for at in places]
    seen = [samples.get(at) for at in places]
    classes = sorted({label for tick in row for label, _ in tick.classes})
    by_class = [dict(tick.classes) for tick in row]
    numbers = any(tick.numbers[0] is not None for tick in row)

    def each(read: Callable[[Tick], T]) -> tuple[T, ...]:
        return tuple(read(tick) for tick in row)

    return Series(
        step=step, ago=tuple(step * (at - end) for at in places), end=float(end * step),
        requests=each(lambda tick: tick.requests), errors=each(lambda tick: tick.errors),
        kinds={kind: each(lambda tick, at=at: tick.kinds[at]) for at, kind in enumerate(KINDS)},  # type: ignore[misc]  # a default
        p50=each(lambda tick: tick.latency[0]), p95=each(lambda tick: tick.latency[1]),
        p99=each(lambda tick: tick.latency[2]),
        classes={label: tuple(counts.get(label, 0) for counts in by_class) for label in classes},
        numbers={
            name: each(lambda tick, at=at: tick.numbers[at])  # type: ignore[misc]  # a default
            for at, name in enumerate(("p5", "p50", "p95"))
        } if numbers else {},
        replicas=tuple(None if one is None else one.replicas for one in seen),
        in_flight=tuple(None if one is None else one.in_flight for one in seen),
        drift=tuple(None if one is None else one.drift for one in seen),
    )  # fmt: skip


def _put(samples: deque[_Sample], sample: _Sample) -> None:
    """Add a sample in the place of the one of its own time."""
    if samples and samples[-1].at >= sample.at:
        samples.pop()
    samples.append(sample)


def _joined(ours: deque[_Step], theirs: Iterable[_Step]) -> deque[_Step]:
    steps = {step.at: step for step in ours}
    for step in theirs:
        if step.at in steps:
            both = steps[step.at].copy(deep=True)
            both.join(step.cells)
            steps[step.at] = both
        else:
            steps[step.at] = step
    return deque((steps[at] for at in sorted(steps)), maxlen=ours.maxlen)


def _close(steps: deque[_Step]) -> None:
    if steps:
        steps[-1].close()


def _shared(steps: deque[_Step]) -> deque[_Step]:
    """Return steps that are none the worse if the others count on, or are set to another time."""
    last = len(steps) - 1
    return deque((step.copy(deep=at == last) for at, step in enumerate(steps)), maxlen=steps.maxlen)


def _copied(cells: Cells) -> Cells:
    return {key: together([cell]) for key, cell in cells.items()}


def _newest(ours: deque[_Sample], theirs: deque[_Sample]) -> deque[_Sample]:
    by_time = {sample.at: sample for sample in (*theirs, *ours)}
    return deque((by_time[at] for at in sorted(by_time)), maxlen=ours.maxlen)


def _sum(cells: Cells, name: str) -> int:
    return sum(getattr(cell, name) for cell in cells.values())
