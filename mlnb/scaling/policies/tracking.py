"""Target tracking: as many replicas as bring a metric to its target, by the rule of the Kubernetes HPA."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from mlnb.errors import InvalidInputError
from mlnb.scaling.policies.decision import ScalingDecision
from mlnb.scaling.policies.stabilising import Decider, Stabiliser, hold, in_range, known, whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlnb.scaling.policies.decision import ScalingSample
    from mlnb.scaling.policies.forecast import Forecast
    from mlnb.scaling.policies.stabilising import Rate

__all__ = ["Metric", "TargetTracking"]

Metric = Literal["utilisation", "in-flight", "queue wait", "cpu"]
_WORDS = {"utilisation": "utilisation", "in-flight": "in-flight per replica", "queue wait": "queue wait",
          "cpu": "CPU percent per replica"}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetTracking:
    """As many replicas as bring a metric to its target.

    The rule of the Kubernetes HPA, ``ceil(replicas * metric / target)``
    (https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details), on the metric's
    running mean. Replicas that start count as though they took their share already.

    Attributes
    ----------
    metric : {'utilisation', 'in-flight', 'queue wait', 'cpu'}
        Part of their time that replicas work, from 0 to 1; requests that each has or that wait for it; seconds that a
        request waits; percent of a core that each uses.
    target : float
        In the metric's unit.
    tolerance : float
        Part of the target by which the metric may differ from it without a change.
    smoothing : float
        Seconds over which the metric is averaged.
    up_window, down_window : float
        Seconds that more, or fewer, must have been wanted.
    up, down : Rate, optional
        How fast the number may change.
    forecast : Forecast, optional
        Act on the load to be expected.

    Raises
    ------
    InvalidInputError
        If there is no such metric, or a number is out of its range.
    """

    metric: Metric = "utilisation"
    target: float = 0.7
    tolerance: float = 0.1
    smoothing: float = 1.0
    up_window: float = 0.5
    down_window: float = 120.0
    up: Rate | None = None
    down: Rate | None = None
    forecast: Forecast | None = None

    def __post_init__(self) -> None:
        if self.metric not in get_args(Metric):
            raise InvalidInputError(f"metric={self.metric!r:.40}: there are {', '.join(get_args(Metric))}.")
        most = 1.0 if self.metric == "utilisation" else math.inf
        in_range(self.target, what="target", least=1e-6, most=most)
        in_range(self.tolerance, what="tolerance", least=0, most=1)
        in_range(self.smoothing, what="smoothing", least=0, unit="seconds")
        in_range(self.up_window, what="up_window", least=0, unit="seconds")
        in_range(self.down_window, what="down_window", least=0, unit="seconds")

    @property
    def words(self) -> str:
        """The rule in a few words, such as "in-flight per replica at 2"."""
        ahead = f", {self.forecast.words}" if self.forecast else ""
        return f"{_WORDS[self.metric]} at {_shown(self.metric, self.target)}{ahead}"

    def controller(self) -> _Controller:
        """Return it at work, with nothing seen yet."""
        return _Controller(self)


class _Controller(Decider):
    def __init__(self, policy: TargetTracking) -> None:
        super().__init__()
        self._policy = policy
        self._read = _READ[policy.metric]
        self._metric = _WORDS[policy.metric]
        self._stabiliser = Stabiliser(
            up_window=policy.up_window, down_window=policy.down_window, up=policy.up, down=policy.down
        )
        self._holt = policy.forecast.start() if policy.forecast else None
        self._mean: float | None = None

    def _decide(self, sample: ScalingSample) -> ScalingDecision:
        policy = self._policy
        total = self._read(sample)
        if total is None or not known(total):
            reason = f"{self._metric} was not measured, so nothing changes"
            return hold(sample, metric=self._metric, target=policy.target, reason=reason)
        total = self._smooth(sample, total) * self._growth(sample)
        value = total / max(1, sample.desired)
        wanted = sample.desired
        if abs(value / policy.target - 1) > policy.tolerance + 1e-9 or not wanted:
            wanted = whole(round(total / policy.target, 9))
        settled = self._stabiliser.settle(sample, wanted)
        shown = f"{self._metric} {_shown(policy.metric, value)} of {_shown(policy.metric, policy.target)}"
        tail = f", {settled.words}" if settled.words else ""
        return ScalingDecision(
            sample=sample, metric=self._metric, value=value, target=policy.target, wanted=wanted,
            desired=settled.desired, rule=settled.rule or "target tracking", window=settled.window,
            reason=f"{shown}: {wanted} wanted{tail}",
        )  # fmt: skip

    def _smooth(self, sample: ScalingSample, total: float) -> float:
        mean, over, last = self._mean, self._policy.smoothing, self._last
        if mean is None or last is None or not over:
            self._mean = total
        else:
            self._mean = mean - math.expm1((last.sample.at - sample.at) / over) * (total - mean)
        return self._mean

    def _growth(self, sample: ScalingSample) -> float:
        """Return how many times the load of now is to be expected."""
        if self._holt is None or sample.requests is None or not known(sample.requests) or not sample.interval > 0:
            return 1.0
        rate = sample.requests / sample.interval
        rise = self._holt.rise(sample.at, rate)
        return 1 + rise / self._holt.level if self._holt.level > 0 else 1.0


def _of_ready(value: float | None, sample: ScalingSample) -> float | None:
    """Return what all replicas have together, of what each has that is ready."""
    return None if value is None or not sample.ready else value * sample.ready


_READ: dict[str, Callable[[ScalingSample], float | None]] = {
    "utilisation": lambda sample: _of_ready(sample.utilisation, sample),
    "in-flight": lambda sample: sample.in_flight,
    "queue wait": lambda sample: None if sample.queue_wait is None else sample.queue_wait * max(1, sample.desired),
    "cpu": lambda sample: _of_ready(sample.cpu, sample),
}


def _shown(metric: str, value: float) -> str:
    if metric == "utilisation":
        return f"{value:.0%}"
    return f"{value * 1e3:.3g} ms" if metric == "queue wait" else f"{value:.3g}"
