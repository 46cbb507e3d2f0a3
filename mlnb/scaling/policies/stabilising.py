"""Keeps a number of replicas from swinging: windows that a recommendation must last, and rates of change."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, NamedTuple

from mlnb.durations import span_text
from mlnb.errors import InvalidInputError
from mlnb.scaling.policies.decision import ScalingDecision

if TYPE_CHECKING:
    from mlnb.scaling.policies.decision import ScalingSample

__all__ = ["MOST", "Decider", "Rate", "Settled", "Stabiliser", "hold", "in_range", "known", "whole"]

_BURST = 1.5  # times what is usual
_NOTHING = 1e-6  # seconds
_EDGE = 0.25  # of the time between two samples: as exact a window is, since timers are not
MOST = 1_000_000  # replicas that a rule may want; what there may be is for the bounds


def in_range(given: float, *, what: str, least: float, most: float = math.inf, unit: str = "") -> None:
    """Refuse what is no number from ``least`` to ``most``, infinity and NaN too.

    Raises
    ------
    InvalidInputError
    """
    number = isinstance(given, Real) and not isinstance(given, bool)
    if not (number and least <= given <= most and given < math.inf):
        upper = "" if most == math.inf else f" to {most:g}"
        raise InvalidInputError(
            f"{what}={given!r:.40}: a number{unit and ' of '}{unit} from {least:g}{upper} is needed."
        )


def known(value: float | None) -> bool:
    """Say whether a figure of a sample was measured."""
    return value is not None and 0 <= value < math.inf


def whole(replicas: float) -> int:
    """Return as many replicas as are enough: from 1 on, since whether there are none is for the bounds to say."""
    return max(1, math.ceil(min(replicas, MOST)))


def hold(sample: ScalingSample, *, metric: str, target: float | None, reason: str) -> ScalingDecision:
    """Return the decision to leave all as it is."""
    return ScalingDecision(
        sample=sample, metric=metric, value=None, target=target, wanted=sample.desired, desired=sample.desired,
        rule="hold", window=0.0, reason=reason,
    )  # fmt: skip


class Decider(ABC):
    """A controller that takes each sample once, in its order."""

    def __init__(self) -> None:
        self._last: ScalingDecision | None = None

    def step(self, sample: ScalingSample) -> ScalingDecision:
        """Decide; for a sample that is no newer than the last one, the same again."""
        last = self._last
        if last is not None and sample.at <= last.sample.at:
            reason = "a sample that came late changes nothing"
            return replace(last, sample=sample, wanted=last.desired, rule="hold", window=0.0, reason=reason)
        decision = self._last = self._decide(sample)
        return decision

    @abstractmethod
    def _decide(self, sample: ScalingSample) -> ScalingDecision:
        """Decide on a sample that is newer than those before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How fast the number of replicas may change: by a number or a factor, whichever allows more, within some time.

    Attributes
    ----------
    seconds : float
    replicas : int
        That may come, or go, within these seconds.
    factor : float
        As how many times as many there may be at their end, or as few.

    Raises
    ------
    InvalidInputError
        If one is no such number, or nothing may ever change.
    """

    seconds: float
    replicas: int = 0
    factor: float = 1.0

    def __post_init__(self) -> None:
        in_range(self.seconds, what="seconds", least=0.001, unit="seconds")
        in_range(self.replicas, what="replicas", least=0)
        in_range(self.factor, what="factor", least=1)
        if not self.replicas and self.factor == 1:
            raise InvalidInputError("replicas=0, factor=1: with this rate nothing ever changes; give one of them more.")

    def highest(self, since: int) -> int:
        """Return how many there may be, of so many when the time began."""
        return max(since + int(self.replicas), int(since * self.factor))

    def lowest(self, since: int) -> int:
        """Return how few there may be, of so many when the time began."""
        return min(since - int(self.replicas), math.ceil(since / self.factor))


class Settled(NamedTuple):
    """How many replicas there are to be after windows and rates, and which of them settled it."""

    desired: int
    rule: str  # "" if what was wanted
    window: float
    words: str


class _Extreme:
    """The largest of what came within a window; the smallest with ``sign`` -1."""

    __slots__ = ("_kept", "_sign", "seconds")

    def __init__(self, seconds: float, sign: int) -> None:
        self.seconds = seconds
        self._sign = sign
        self._kept: deque[tuple[float, int]] = deque()  # ever smaller: the others can never be the largest again

    def add(self, at: float, count: int, edge: float) -> int:
        """Take one in, and return the extreme one."""
        kept, value = self._kept, count * self._sign
        while kept and kept[-1][1] <= value:
            kept.pop()
        kept.append((at, value))
        while kept[0][0] < at - self.seconds - edge:
            kept.popleft()
        return kept[0][1] * self._sign


class _Usual:
    """The most that was wanted within a window, bursts apart.

    A burst is what was wanted for less than half of a shorter window in all, and is more than one replica and half as
    much again above what was wanted for longer. It counts for the shorter window.
    """

    __slots__ = ("_at", "_lasted", "_longer", "_runs", "_short", "seconds")

    def __init__(self, seconds: float, burst: float) -> None:
        self.seconds = seconds  # of the window that settled it
        self._longer, self._short = _Extreme(seconds, 1), _Extreme(min(burst, seconds), 1)
        self._runs: deque[tuple[float, float, int]] = deque()  # until, seconds, count
        self._lasted: dict[int, float] = {}  # seconds, by what was wanted
        self._at: float | None = None

    def add(self, at: float, count: int, edge: float) -> int:
        """Take one in, and return the most."""
        self._tally(at, count, edge)
        most, short = self._longer.add(at, count, edge), self._short.add(at, count, edge)
        usual = self._without_burst(most)
        self.seconds = self._short.seconds if short > usual else self._longer.seconds
        return max(short, usual)

    def _tally(self, at: float, count: int, edge: float) -> None:
        runs, lasted = self._runs, self._lasted
        passed = 0.0 if self._at is None else at - self._at
        self._at = at
        runs.append((at, passed, count))
        lasted[count] = lasted.get(count, 0.0) + passed
        while runs[0][0] < at - self._longer.seconds - edge:
            _, passed, old = runs.popleft()
            left = lasted.pop(old, 0.0) - passed
            if left >= _NOTHING:
                lasted[old] = left

    def _without_burst(self, most: int) -> int:
        usual = self._usual()
        if most <= max(usual + 1, _BURST * usual):
            return most
        return max((count for count in self._lasted if count < _BURST * usual), default=0)

    def _usual(self) -> int:
        left = self._short.seconds / 2
        for count in sorted(self._lasted, reverse=True):
            left -= self._lasted[count]
            if left <= 0:
                return count
        return 0


class _Changes:
    """How many replicas came and went lately."""

    __slots__ = ("_current", "_kept", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._current: int | None = None
        self._kept: deque[tuple[float, int]] = deque()

    def add(self, at: float, current: int, edge: float) -> None:
        if self._current is not None and current != self._current:
            self._kept.append((at, current - self._current))
        self._current = current
        while self._kept and self._kept[0][0] <= at - self._seconds + edge:
            self._kept.popleft()

    def came(self, within: float) -> int:
        return sum(change for at, change in self._kept if change > 0 and at > within)

    def went(self, within: float) -> int:
        return -sum(change for at, change in self._kept if change < 0 and at > within)


class Stabiliser:
    """Turns what a rule wants at each moment into a number that does not swing.

    More than there are: the fewest that were wanted within ``up_window``. Fewer: the most within ``down_window``. So
    after a step up none is taken back within the ``down_window``, nor one added within the ``up_window`` after a step
    down. The Kubernetes HPA does the same:
    https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#stabilization-window.

    Parameters
    ----------
    up_window, down_window : float
        Seconds.
    burst_window : float, optional
        A shorter ``down_window`` for what was wanted only for a moment: less than half of the ``burst_window``
        in all, and is half as much again as what was wanted for longer.
    up, down : Rate, optional
        How fast it may change.
    """

    def __init__(
        self, *, up_window: float, down_window: float, burst_window: float | None = None, up: Rate | None = None,
        down: Rate | None = None,
    ) -> None:  # fmt: skip
        self._fewest = _Extreme(up_window, -1)
        self._most = _Extreme(down_window, 1) if burst_window is None else _Usual(down_window, burst_window)
        self._up, self._down = up, down
        self._changes = _Changes(max((rate.seconds for rate in (up, down) if rate is not None), default=0.0))
        self._began = False

    def settle(self, sample: ScalingSample, wanted: int, *, kept: int = 0) -> Settled:
        """Return what is to be done of what is wanted now.

        Parameters
        ----------
        sample : ScalingSample
            Newer than those before.
        wanted : int
            Replicas.
        kept : int
            Replicas that are not to go, if they are there, though they need not come.
        """
        at, current = sample.at, sample.desired
        edge = _EDGE * sample.interval if known(sample.interval) else 0.0
        if not self._began:  # as though what there is had been wanted so far
            self._began = True
            self._fewest.add(at - sample.interval, current, edge)
            self._most.add(at - sample.interval, current, edge)
        fewest, most = self._fewest.add(at, wanted, edge), self._most.add(at, max(wanted, kept), edge)
        if self._up is not None or self._down is not None:
            self._changes.add(at, current, edge)
        if fewest > current:
            return self._more(at + edge, current, wanted, fewest)
        if most < current:
            return self._fewer(at + edge, current, wanted, most)
        if wanted == current:
            return Settled(current, "", 0.0, "")
        if wanted < current <= kept:
            return Settled(current, "spare", 0.0, f"{current} stay, so that there is room for more")
        return self._waits(current, wanted)

    def _waits(self, current: int, wanted: int) -> Settled:
        up = wanted > current
        window = self._fewest.seconds if up else self._most.seconds
        last = "fewer were enough" if up else "more were needed"
        return Settled(current, "stabilised", window, f"{last} within the last {span_text(window)}")

    def _more(self, at: float, current: int, wanted: int, fewest: int) -> Settled:
        rate, window = self._up, self._fewest.seconds
        if rate is not None:
            limit = max(current, rate.highest(current - self._changes.came(at - rate.seconds)))
            if limit < fewest:
                return Settled(
                    limit, "rate", rate.seconds, f"no faster than the rate of {span_text(rate.seconds)} allows"
                )
        words = f"as few as were wanted within the last {span_text(window)}" if fewest < wanted else ""
        return Settled(fewest, words and "stabilised", window, words)

    def _fewer(self, at: float, current: int, wanted: int, most: int) -> Settled:
        rate, window = self._down, self._most.seconds
        if rate is not None:
            limit = min(current, rate.lowest(current + self._changes.went(at - rate.seconds)))
            if limit > most:
                return Settled(
                    limit, "rate", rate.seconds, f"no faster than the rate of {span_text(rate.seconds)} allows"
                )
        words = f"as many as were wanted within the last {span_text(window)}" if most > wanted else ""
        return Settled(most, words and "stabilised", window, words)
