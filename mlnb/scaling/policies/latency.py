"""A latency objective, such as p95 under 50 ms: as many replicas as keep it, by what was measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from mlnb.scaling.policies.decision import ScalingDecision
from mlnb.scaling.policies.queueing import latency_quantile, most_rate, replicas_for
from mlnb.scaling.policies.stabilising import MOST, Decider, Stabiliser, hold, in_range, known, whole
from mlnb.scaling.service_time import ServiceTime

if TYPE_CHECKING:
    from mlnb.scaling.policies.decision import ScalingSample
    from mlnb.scaling.policies.forecast import Forecast, Holt
    from mlnb.scaling.policies.stabilising import Settled

__all__ = ["LatencyObjective"]

_METRIC = "requests/s per replica"
_SURE = 3.0  # standard errors by which a sudden rise must be more than chance
_STEPS = 50  # of a rate, between two powers of e: what is computed once serves all that is as good as equal
_SERVICE_STEPS = 20  # the same, of a service time
_ROOM = 1.1  # times what one row alone takes: the least that is planned for
_LARGE = 2000  # replicas, from which formulas are not worth their time
_LARGE_ROOM = 1.05  # replicas for each that is always busy, then
_CALM = 10.0  # seconds without a change or a queue, after which the measured latency is that of this number
_GAP = 10.0  # seconds: what passed beyond that since the last sample tells nothing of how calm it was
_CORRECTED_IN, _FORGOTTEN_IN = 100.0, 100.0  # seconds in which a correction grows, or shrinks, by e
_MOST_CORRECTION = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyObjective:
    """As many replicas as answer the part ``quantile`` of the requests within so many seconds.

    What replicas can take follows from the measured service time by queueing theory
    (:func:`~mlnb.scaling.policies.queueing.fraction_over`), and is corrected where the measured latency is worse. More
    come at once, as soon as a rise is more than chance; fewer when they were enough for ``down_window``.

    Attributes
    ----------
    seconds : float
        The objective.
    quantile : float
        Part of the requests for which it is to hold.
    aim : float
        Part of ``seconds`` that is planned for: what is left is for what cannot be foreseen.
    drain : float
        Seconds within which requests that wait too long are to be worked off.
    fast, slow : float
        Seconds over which a sudden load and a steady one are averaged.
    spare : float
        Part of the load by which it may rise again without more replicas after some have gone.
    down_window, burst_window : float
        Seconds that fewer must have been enough; and the same after a burst, when many more were needed, for less than
        half of that in all.
    forecast : Forecast, optional
        Act on the load to be expected.

    Raises
    ------
    InvalidInputError
        If a number is out of its range.
    """

    seconds: float
    quantile: float = 0.95
    aim: float = 0.8
    drain: float = 2.0
    fast: float = 0.5
    slow: float = 15.0
    spare: float = 0.1
    down_window: float = 600.0
    burst_window: float = 40.0
    forecast: Forecast | None = None

    def __post_init__(self) -> None:
        in_range(self.seconds, what="seconds", least=1e-6, unit="seconds")
        in_range(self.aim, what="aim", least=0.01, most=1)
        in_range(self.drain, what="drain", least=0.001, unit="seconds")
        in_range(self.fast, what="fast", least=0.001, unit="seconds")
        in_range(self.slow, what="slow", least=0.001, unit="seconds")
        in_range(self.spare, what="spare", least=0)
        in_range(self.down_window, what="down_window", least=0, unit="seconds")
        in_range(self.burst_window, what="burst_window", least=0, unit="seconds")
        in_range(self.quantile, what="quantile", least=0.001, most=0.9999)

    @property
    def words(self) -> str:
        """The rule in a few words, such as "p95 under 50 ms"."""
        ahead = f", {self.forecast.words}" if self.forecast else ""
        return f"p{100 * self.quantile:g} under {_ms(self.seconds)}{ahead}"

    def controller(self) -> _Controller:
        """Return it at work, with nothing seen yet."""
        return _Controller(self)


class _Arrivals:
    """The arrival rate: a steady mean, which follows a recent one as soon as they differ by more than chance."""

    def __init__(self, policy: LatencyObjective) -> None:
        self._fast_over, self._slow_over = policy.fast, policy.slow
        self._holt: Holt | None = policy.forecast.start() if policy.forecast else None
        self._seen = 0.0  # seconds
        self._fast = self._slow = 0.0

    def add(self, at: float, rate: float, passed: float) -> float:
        """Take in the rate of the last interval, and return the one to be ready for; both in requests per second."""
        chance = self._chance()
        self._seen += passed
        first = passed / self._seen  # a plain mean at first
        self._fast += max(first, -math.expm1(-passed / self._fast_over)) * (rate - self._fast)
        slow = self._slow + max(first, -math.expm1(-passed / self._slow_over)) * (rate - self._slow)
        self._slow = min(max(slow, self._fast - chance), self._fast + chance)
        return self._slow + (self._holt.rise(at, rate) if self._holt is not None else 0.0)

    def _chance(self) -> float:
        """Return how far the recent mean of a Poisson process may be from the steady one, by Bernstein's inequality."""
        over = 2 * self._fast_over  # a mean over as many seconds is as sure as this one
        return _SURE * math.sqrt(self._slow / over) + _SURE**2 / (3 * over)


class _Correction:
    """How many times as quick as asked for it must be planned, where reality is worse than the formulas."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._calm = 0.0  # seconds
        self.factor = 1.0

    def add(self, sample: ScalingSample, passed: float, *, behind: bool) -> float:
        """Take in a sample, and return the factor."""
        passed = min(passed, _GAP)
        busy = behind or sample.starting or sample.leaving or sample.ready != sample.desired
        self._calm = 0.0 if busy else self._calm + passed
        if self._calm > _CALM and sample.p95 is not None and known(sample.p95):
            if sample.p95 > self._seconds:
                self.factor = min(_MOST_CORRECTION, self.factor * math.exp(passed / _CORRECTED_IN))
            else:
                self.factor = max(1.0, self.factor * math.exp(-passed / _FORGOTTEN_IN))
        return self.factor


class _Controller(Decider):
    def __init__(self, policy: LatencyObjective) -> None:
        super().__init__()
        self._policy = policy
        self._stabiliser = Stabiliser(up_window=0.0, down_window=policy.down_window, burst_window=policy.burst_window)
        self._arrivals = _Arrivals(policy)
        self._correction = _Correction(policy.seconds)
        self._service: ServiceTime | None = None  # as it was measured
        self._rounded: ServiceTime | None = None
        self._row = self._alone = 0.0  # seconds of one row that finds a replica idle: on average, and at the quantile

    def _decide(self, sample: ScalingSample) -> ScalingDecision:
        requests = sample.requests
        if requests is None or not known(requests) or not 0 < sample.interval < math.inf:
            return hold(sample, metric=_METRIC, target=None, reason="requests were not counted, so nothing changes")
        service = self._measured(sample.service)
        passed = sample.interval if self._last is None else sample.at - self._last.sample.at
        rate = self._arrivals.add(sample.at, requests / sample.interval, passed)
        if service is None:
            reason = "how long a prediction takes was not measured yet, so nothing changes"
            return hold(sample, metric=_METRIC, target=None, reason=reason)
        return self._planned(sample, service, rate, passed)

    def _measured(self, service: ServiceTime | None) -> ServiceTime | None:
        if service is not None and service != self._service and _usable(service):
            self._service, self._rounded = service, _round_service(service)
            self._row = service.of(1)
            self._alone = latency_quantile(0.0, 1, service, self._policy.quantile)
        return self._rounded

    def _planned(self, sample: ScalingSample, service: ServiceTime, rate: float, passed: float) -> ScalingDecision:
        policy, current = self._policy, max(1, sample.desired)
        late_ones = 0.0
        if sample.waiting is not None and known(sample.waiting):
            late_ones = max(0.0, sample.waiting - current * service.capacity * policy.seconds * policy.aim)
        factor = self._correction.add(sample, passed, behind=late_ones > 0)
        seconds = _round(max(policy.seconds * policy.aim / factor, self._alone * _ROOM))
        wanted = _wanted(_round(rate), service, seconds, policy.quantile)
        kept = _wanted(_round(rate * (1 + policy.spare)), service, seconds, policy.quantile)
        if late_ones:
            wanted = max(wanted, whole((rate + late_ones / policy.drain) / service.capacity))
        settled = self._stabiliser.settle(sample, wanted, kept=kept)
        target = _most_rate(current, service, seconds, policy.quantile) / current
        return ScalingDecision(
            sample=sample, metric=_METRIC, value=rate / current, target=target, wanted=wanted, desired=settled.desired,
            rule=settled.rule or "latency objective", window=settled.window,
            reason=self._reason(rate, late_ones, target, wanted, settled),
        )  # fmt: skip

    def _reason(self, rate: float, late_ones: float, target: float, wanted: int, settled: Settled) -> str:
        asked = self._policy.seconds
        words = _load(rate)
        if late_ones:
            words += f" and {late_ones:.0f} that wait too long"
        words += f", one replica takes {target:.3g}: {wanted} wanted"
        if settled.words:
            words += f", {settled.words}"
        if self._alone > asked:
            at = "" if self._row > asked else f" at p{100 * self._policy.quantile:g}"
            takes = _ms(self._alone if at else self._row)
            words += f"; one row alone takes {takes}{at}; {_ms(asked)} cannot be met by any number of replicas"
        return words


def _usable(service: ServiceTime) -> bool:
    figures = (service.fixed, service.per_row, service.spread, service.of(1))
    return all(known(figure) for figure in figures) and service.of(1) > 0 and service.most_rows >= 1


def _round(value: float, steps: int = _STEPS) -> float:
    """Round up, so that few values are computed."""
    return math.exp(math.ceil(math.log(value) * steps - 1e-6) / steps) if value > 0 else 0.0


def _round_service(service: ServiceTime) -> ServiceTime:
    return ServiceTime(
        fixed=_round(service.fixed, _SERVICE_STEPS), per_row=_round(service.per_row, _SERVICE_STEPS),
        spread=min(10.0, math.ceil(service.spread * 10 - 1e-6) / 10), most_rows=service.most_rows,
    )  # fmt: skip


@lru_cache(maxsize=4096)
def _wanted(rate: float, service: ServiceTime, seconds: float, quantile: float) -> int:
    if rate <= 0:
        return 1
    if rate / service.capacity > _LARGE:
        return int(min(MOST, rate / service.capacity * _LARGE_ROOM))  # noise counts for little on so many
    return replicas_for(rate, service, seconds=seconds, quantile=quantile) or 1


@lru_cache(maxsize=4096)
def _most_rate(replicas: int, service: ServiceTime, seconds: float, quantile: float) -> float:
    if replicas > _LARGE:
        return replicas * service.capacity / _LARGE_ROOM
    return most_rate(replicas, service, seconds=seconds, quantile=quantile)


def _load(rate: float) -> str:
    return "no requests" if rate < 0.1 else f"{rate:.{0 if rate >= 10 else 1}f} requests/s on average"  # noqa: PLR2004 - digits


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"
