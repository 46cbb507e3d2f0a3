"""The simplest rule: one replica more above a percentage of CPU, one fewer below half of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlnb.durations import span_text
from mlnb.scaling.policies.decision import ScalingDecision
from mlnb.scaling.policies.stabilising import Decider, hold, in_range, known

if TYPE_CHECKING:
    from mlnb.scaling.policies.decision import ScalingSample

__all__ = ["CpuThreshold"]

_METRIC = "CPU percent per replica"


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuThreshold:
    """One replica more above so many percent of a core each, one fewer below half of it, with a pause between.

    Attributes
    ----------
    threshold : float
        Percent of a core.
    pause : float
        Seconds after a change in which there is no other.

    Raises
    ------
    InvalidInputError
        If the threshold is not above 0, or the pause is below 0.
    """

    threshold: float = 70.0
    pause: float = 60.0

    def __post_init__(self) -> None:
        in_range(self.threshold, what="threshold", least=1, unit="percent")
        in_range(self.pause, what="pause", least=0, unit="seconds")

    @property
    def words(self) -> str:
        """The rule in a few words."""
        return f"CPU under {self.threshold:g} %"

    def controller(self) -> _Controller:
        """Return it at work, with nothing seen yet."""
        return _Controller(self)


class _Controller(Decider):
    def __init__(self, policy: CpuThreshold) -> None:
        super().__init__()
        self._policy = policy
        self._changed: float | None = None

    def _decide(self, sample: ScalingSample) -> ScalingDecision:
        cpu, policy = sample.cpu, self._policy
        if cpu is None or not known(cpu):
            return hold(
                sample, metric=_METRIC, target=policy.threshold, reason="CPU was not measured, so nothing changes"
            )
        change, words = self._change(cpu)
        wanted = max(1, sample.desired + change)
        desired, rule, reason = wanted, "threshold", f"CPU of {cpu:.0f} % {words}"
        if wanted != sample.desired:
            if self._changed is not None and sample.at < self._changed + policy.pause:
                desired, rule = sample.desired, "pause"
                reason = f"{reason}, but the last change was less than {span_text(policy.pause)} ago"
            else:
                self._changed = sample.at
        return ScalingDecision(
            sample=sample, metric=_METRIC, value=cpu, target=policy.threshold, wanted=wanted, desired=desired,
            rule=rule, window=policy.pause, reason=reason,
        )  # fmt: skip

    def _change(self, cpu: float) -> tuple[int, str]:
        threshold = self._policy.threshold
        if cpu > threshold:
            return 1, f"is above {threshold:g} %: one more"
        if cpu < threshold / 2:
            return -1, f"is below {threshold / 2:g} %: one fewer"
        return 0, f"lies between {threshold / 2:g} % and {threshold:g} %"
