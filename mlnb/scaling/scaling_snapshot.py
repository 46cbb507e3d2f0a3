"""How a deployment follows its load, at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlnb.scaling.policies.decision import ScalingDecision

__all__ = ["ScalingSnapshot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingSnapshot:
    """How a deployment follows its load, at one moment.

    Attributes
    ----------
    least, most : int
        Bounds that hold now, by the schedule too.
    policy : str
        In words.
    desired : int
        Replicas that there are to be.
    last : ScalingDecision or None
        The newest decision; None before there was one.
    changed : ScalingDecision or None
        The newest one that changed the number of replicas.
    trouble : str
        Why the number that is wanted cannot be had, "" if it can.
    """

    least: int
    most: int
    policy: str
    desired: int
    last: ScalingDecision | None = None
    changed: ScalingDecision | None = None
    trouble: str = ""
