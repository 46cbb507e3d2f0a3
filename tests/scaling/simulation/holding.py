"""A policy that never changes anything, and one that does as a list says."""

from __future__ import annotations

from dataclasses import dataclass

from mlnb.scaling.autoscale import Autoscale
from mlnb.scaling.policies.decision import ScalingDecision, ScalingSample
from mlnb.scaling.service_time import ServiceTime
from mlnb.scaling.simulation.engine import Trace, run
from mlnb.scaling.simulation.load import Load


@dataclass(frozen=True, slots=True)
class Listed:
    """Wants as many replicas as a list says, one number for each sample; the last one from then on."""

    counts: tuple[int, ...] = (1,)

    @property
    def words(self) -> str:
        return "as listed"

    def controller(self) -> _Listed:
        return _Listed(list(self.counts))


class _Listed:
    def __init__(self, counts: list[int]) -> None:
        self._counts = counts

    def step(self, sample: ScalingSample) -> ScalingDecision:
        count = self._counts.pop(0) if len(self._counts) > 1 else self._counts[0]
        return ScalingDecision(
            sample=sample, metric="", value=None, target=None, wanted=count, desired=count, rule="listed", window=0.0,
            reason="as listed",
        )  # fmt: skip


def held(load: Load, replicas: int, service: ServiceTime, *, seed: int = 0, overhead: float = 0.0) -> Trace:
    """Simulate replicas whose number never changes."""
    autoscale = Autoscale(least=replicas, most=replicas, policy=Listed((replicas,)))
    return run(load, autoscale, service=service, overhead=overhead, seed=seed)


def listed(load: Load, counts: tuple[int, ...], service: ServiceTime, *, least: int = 1, startup: float = 1.0) -> Trace:
    """Simulate replicas whose number follows a list."""
    return run(load, Autoscale(least=least, most=9, policy=Listed(counts)), service=service, startup=startup)
