"""How the replicas of a deployment follow its load, as its user asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlnb.scaling.policies.decision import ScalingPolicy
    from mlnb.scaling.policies.schedule import Schedule

__all__ = ["Autoscale"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscale:
    """Bounds, and the rule between them.

    Attributes
    ----------
    least, most : int
        Replicas. With ``least`` 0 a deployment that nobody asks has none; the next request waits for one.
    policy : ScalingPolicy
    schedules : tuple of Schedule
        Other bounds at certain times; of several that hold, the last one.
    interval : float
        Seconds between two samples.
    idle : float
        Seconds without a request after which the last replica goes, where ``least`` is 0.
    """

    least: int
    most: int
    policy: ScalingPolicy
    schedules: tuple[Schedule, ...] = ()
    interval: float = 0.5
    idle: float = 300.0
