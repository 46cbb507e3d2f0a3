"""How waiting rows become batches: what joins, how many, and when there are too many waiting."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

from mlnb.scaling.service_time import ServiceTime

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Sequence

    import numpy as np

__all__ = ["Admission", "Batch", "Job", "PredictTimes", "Prediction", "Refusal", "answer_each", "take_batch"]

_ENOUGH = 5  # batches, from which it is known how long they take
_DECAY = 0.98  # weight of what was measured before, at each new measurement
_AIM = 0.025  # seconds that a batch may take, so that nobody waits long behind one ..
_FIXED_COSTS = 4  # .. unless the model's fixed cost is that large: then as many times that cost
_FEWEST, _FEW, _FEW_TAKE = 2, 4, 0.1  # rows that may always be together: 4, fewer where 4 take longer than that
_COSTLY, _LINGER = 0.001, 0.2  # seconds of fixed cost from which those who come back are awaited; what part of it
_UNKNOWN, _MOST = 64, 4096  # rows, before anything was measured, and ever
_HICCUP = 4  # times what was expected: as much counts of one slow batch, since the machine may have had else to do

_MOST_WAITING = 200_000  # rows: what one queue may hold in memory
_BURST = 1.0  # seconds that a burst may wait
_STANDING = 0.1  # seconds since the queue was last empty, after which it is no burst; CoDel's interval
_PATIENCE = 5.0  # seconds that what waited for the first replica may take, with those who come behind it
_BATCHES, _PATIENT = 2, 0.1  # batch times that a standing queue may wait, and seconds that any may


class Prediction(NamedTuple):
    """What a model said of a batch, or of the part of it that is one job's.

    Attributes
    ----------
    values : ndarray
        ``(n, ...)``
    probabilities : ndarray or None
        ``(n, classes)``, where asked for.
    missing : tuple of str
        The members of an ensemble that failed for this batch; the others answered.
    """

    values: np.ndarray[Any, Any]
    probabilities: np.ndarray[Any, Any] | None = None
    missing: tuple[str, ...] = ()


class Batch(NamedTuple):
    """Where jobs were answered together.

    Attributes
    ----------
    replica : int
        Its number.
    rows : int
    started : float
        When the replica got it, by ``time.perf_counter``.
    """

    replica: int
    rows: int
    started: float


@dataclass(slots=True, eq=False)
class Job:
    """The rows of one request, waiting.

    Attributes
    ----------
    rows : object
        What :meth:`Signature.check` takes; a plain list joins others, anything else is a batch of its own.
    count : int
        Rows.
    probabilities : bool
    deadline : float
        Loop time after which nobody waits for the answer.
    done : callable
        Given the prediction or the error, once.
    gone : callable
        Says whether the client has left.
    asker : object
        Whoever asked, as the pool's ``answered`` knows it.
    told : bool
        Whether the outcome, or that it comes too late, was given.
    crashes : int
        Replicas that ended while they worked on it; from the first one on it is a batch of its own.
    """

    rows: Any
    count: int
    probabilities: bool
    deadline: float
    done: Callable[[Prediction | BaseException], None]
    gone: Callable[[], bool]
    asker: Any = None
    crashes: int = 0
    alone: bool = False
    told: bool = False

    def tell(self, outcome: Prediction | BaseException) -> None:
        """Give the outcome to whoever asked, unless they were told already."""
        if not self.told:
            self.told = True
            self.done(outcome)

    @property
    def joins(self) -> bool:
        """Whether its rows may be in one list with those of others."""
        return not self.alone and type(self.rows) is list


def take_batch(waiting: deque[Job], *, most: int) -> list[Job]:
    """Take the jobs that make the next batch from the head of the queue, in order: at least one.

    Those that join are all asked the same, and have no more than ``most`` rows together.
    """
    first = waiting.popleft()
    batch, rows = [first], first.count
    if not first.joins:
        return batch
    while waiting:
        job = waiting[0]
        rows += job.count
        if rows > most or not job.joins or job.probabilities is not first.probabilities:
            break
        batch.append(waiting.popleft())
    return batch


class PredictTimes:
    """What predicting takes: a fixed cost and a cost per row, by least squares over the latest batches.

    Attributes
    ----------
    count : int
        Batches measured.
    most_rows : int
        How many rows a batch may have.
    alike : bool
        Whether all batches had as many rows: how their time is made up cannot be known.

    Examples
    --------
    >>> times = PredictTimes()
    >>> for rows in (1, 10, 100):
    ...     times.observe(rows, 0.004 + 0.0001 * rows)
    >>> round(times.estimate(50), 6), times.most_rows
    (0.009, 210)
    """

    def __init__(self) -> None:
        self._weight = self._rows = self._seconds = 0.0
        self._rows_rows = self._rows_seconds = self._seconds_seconds = 0.0
        self._fixed = self._per_row = 0.0
        self._slow = False
        self.alike = True
        self.count = 0
        self.most_rows = _UNKNOWN

    def observe(self, rows: int, seconds: float) -> None:
        """Learn that a batch of ``rows`` rows took ``seconds``.

        One that took many times what was expected is a pause of the machine; a second one behind it is news.
        """
        expected = _HICCUP * self.estimate(rows)
        slow = self.count >= _ENOUGH and seconds > expected
        if slow and not self._slow:
            seconds = expected
        self._slow = slow
        self.count += 1
        self._weight = self._weight * _DECAY + 1
        self._rows = self._rows * _DECAY + rows
        self._seconds = self._seconds * _DECAY + seconds
        self._rows_rows = self._rows_rows * _DECAY + rows * rows
        self._rows_seconds = self._rows_seconds * _DECAY + rows * seconds
        self._seconds_seconds = self._seconds_seconds * _DECAY + seconds * seconds
        self._fixed, self._per_row = fixed, per_row = self._line()
        aim = max(_AIM, _FIXED_COSTS * fixed)
        most = _MOST if per_row <= 0 else int(min(_MOST, (aim - fixed) / per_row + 1e-6))
        most = max(most, _least(self._seconds / self._rows))
        if self.alike:  # a few rows more or less will tell how the time is made up
            usual = self._rows / self._weight
            most = min(_MOST, max(most, int(usual / 2), min(_UNKNOWN, int(usual * 2))))
        self.most_rows = most

    def estimate(self, rows: int) -> float:
        """Return the seconds that a batch of ``rows`` rows will take; infinity before anything was measured."""
        return self._fixed + self._per_row * rows if self.count else inf

    def wait(self, rows: int, *, replicas: int) -> float:
        """Return the seconds that ``replicas`` take for as many rows; infinity before anything was measured."""
        if not rows:
            return 0.0
        return rows / self.most_rows * self.estimate(self.most_rows) / max(1, replicas)

    def share(self, rows: int, *, replicas: int) -> int:
        """Return how many of the ``rows`` that wait one of several idle replicas is to take.

        Its part of them, where that spares more time than each batch costs; else as many as a batch may have.
        """
        part = ceil(rows / replicas)
        spared = self._per_row * (min(rows, self.most_rows) - part)
        return part if spared > max(_COSTLY, self._fixed) else self.most_rows

    def service(self, *, cores: float = 1.0) -> ServiceTime | None:
        """Return what a batch takes, with how much that varies; None before some were measured.

        Parameters
        ----------
        cores : float
            That a replica keeps busy while it works.
        """
        if self.count < _ENOUGH:
            return None
        # While all batches had as many rows, nothing shows that more of them together would take less.
        fixed, per_row = (0.0, self._seconds / self._rows) if self.alike else (self._fixed, self._per_row)
        if fixed + per_row <= 0:
            return None
        estimates = fixed**2 * self._weight + 2 * fixed * per_row * self._rows + per_row**2 * self._rows_rows
        both = fixed * self._seconds + per_row * self._rows_seconds
        spread = sqrt(max(0.0, self._seconds_seconds - 2 * both + estimates) / estimates) if estimates else 0.0
        return ServiceTime(fixed=fixed, per_row=per_row, spread=spread, most_rows=self.most_rows, cores=cores)

    @property
    def linger(self) -> float:
        """Seconds that a busy model may wait for those who were just answered to ask again.

        A batch costs its fixed part however few rows it has, and clients come back together: without this they fall
        into two groups, each of which waits while the other is answered. 0 where the fixed part is small.
        """
        return self._fixed * _LINGER if self._fixed >= _COSTLY else 0.0

    def _line(self) -> tuple[float, float]:
        mean_rows, mean_seconds = self._rows / self._weight, self._seconds / self._weight
        spread = self._rows_rows / self._weight - mean_rows**2
        self.alike = spread <= 1e-6 * mean_rows**2
        if self.alike:
            return (mean_seconds, 0.0) if mean_rows <= 1 else (0.0, mean_seconds / mean_rows)
        slope = (self._rows_seconds / self._weight - mean_rows * mean_seconds) / spread
        slope = min(max(slope, 0.0), mean_seconds / mean_rows)  # neither cost is below nothing
        return mean_seconds - slope * mean_rows, slope


def _least(per_row: float) -> int:
    """Return how many rows may always be in a batch, of which each takes so many seconds if there is no fixed cost.

    Batches of one row would never show that two of them take no longer: a few noisy ones must not lead there.
    """
    return max(_FEWEST, int(min(_FEW, _FEW_TAKE / per_row))) if per_row > 0 else _FEW


@dataclass(frozen=True, slots=True)
class Refusal:
    """No room: why, and when to come again.

    Attributes
    ----------
    reason : str
    retry_after : int
        Seconds.
    """

    reason: str
    retry_after: int


class Admission:
    """Whether one more job may wait.

    A burst may wait for a second. A queue that has not been empty for a while is no burst, and waiting in it gains
    nobody anything: then a job may wait for two batches at most, so that those who are let in are answered as quickly
    as at capacity (Nichols and Jacobson, "Controlling queue delay", ACM Queue 2012; the bound at admission is that of
    Maurer, "Fail at scale", ACM Queue 2015).
    """

    def __init__(self) -> None:
        self._empty_at = -inf
        self._burst = _BURST

    def emptied(self, now: float) -> None:
        """Learn that nothing waits at ``now``."""
        self._empty_at = now

    def woken(self, now: float, *, wait: float) -> None:
        """Learn that the first replica is there, for a queue that will take it ``wait`` seconds.

        It had no chance to be short: until it is empty, or should be, it and what comes behind it are a burst.
        """
        patience = min(_PATIENCE, 2 * wait)
        self._empty_at = now + patience
        self._burst = max(_BURST, patience)

    def refusal(
        self, *, now: float, waiting: int, rows: int, times: PredictTimes, replicas: int, more: bool = False
    ) -> Refusal | None:
        """Return why a job of ``rows`` rows cannot wait behind ``waiting`` rows, None if it can.

        With no replicas, all wait for the first one: there must be room for them, no more. Where ``more`` replicas may
        come, they wait for those, up to 5 s.
        """
        if not waiting:
            return None  # whatever is asked first is tried
        if waiting + rows > _MOST_WAITING:
            return Refusal(f"{waiting:,} rows wait already; at most {_MOST_WAITING:,} may", 1)
        if not times.count or not replicas:
            return None
        batch = times.estimate(times.most_rows)
        wait = times.wait(waiting, replicas=replicas)
        # A new queue's first batches tell nothing yet.
        burst = times.alike or times.count < _ENOUGH or now - self._empty_at <= _STANDING
        most = self._burst if now < self._empty_at else _BURST
        allowed = _PATIENCE if more else most if burst else min(_BURST, max(_PATIENT, _BATCHES * batch))
        if wait <= allowed:
            return None
        return Refusal(f"{waiting:,} rows wait already, for about {wait:.2g} s", max(1, ceil(wait)))


def answer_each(jobs: Sequence[Job], prediction: Prediction, _: Batch | None = None) -> None:
    """Give each job its part of what a batch was answered."""
    if len(jobs) == 1:  # whose count is what it said; the model knows better
        jobs[0].tell(prediction)
        return
    start = 0
    values, probabilities, missing = prediction
    for job in jobs:
        end = start + job.count
        part = None if probabilities is None else probabilities[start:end]
        job.tell(Prediction(values[start:end], part, missing))
        start = end
