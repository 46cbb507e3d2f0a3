"""When a canary steps up, waits, or is taken back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

from mlnb.durations import seconds_of
from mlnb.errors import InvalidInputError
from mlnb.monitoring.guards import Guard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlnb.monitoring.guards import GuardReading

__all__ = ["CanaryDecision", "CanaryPlan", "CanaryProgress", "decide"]

_ALL = 100  # percent


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryPlan:
    """How a version becomes live step by step.

    Attributes
    ----------
    id : str
        Tells this canary from all others.
    version : int
    steps : tuple of float
        Its share of the requests at each step, in percent, rising. After 100 it becomes live; where the last is
        less, it stays there until it is promoted.
    hold : float
        Seconds that each step lasts at least.
    guard : Guard
        What must hold, and how many requests each step must see.
    """

    id: str
    version: int
    steps: tuple[float, ...]
    hold: float
    guard: Guard

    @classmethod
    def of(
        cls, id: str, version: int, *, steps: Sequence[float], hold: float | str,  # noqa: A002 - the attribute's name
        guard: Guard | Mapping[str, Any] | None,
    ) -> CanaryPlan:  # fmt: skip
        """Return a plan of what a person gave.

        Raises
        ------
        InvalidInputError
            If the steps do not rise within (0, 100], or a duration or a guard is none.
        """
        try:
            given = tuple(steps)
        except TypeError:
            given = ()
        numbers = bool(given) and all(isinstance(step, Real) and not isinstance(step, bool) for step in given)
        if not numbers or not all(step < after for step, after in pairwise((0, *given))) or given[-1] > _ALL:
            raise InvalidInputError(
                f"steps={steps!r:.80}: shares in percent that rise up to 100 are needed, for instance (1, 5, 25, 100)."
            )
        return cls(
            id=id, version=version, steps=tuple(map(float, given)), hold=seconds_of(hold, what="hold"),
            guard=Guard.of(guard),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class CanaryProgress:
    """How far a canary is.

    Attributes
    ----------
    step : int
        From 0.
    since : float
        When the step began, in seconds of the same clock as ``now`` of :func:`decide`.
    requests : int
        That the canary answered in this step.
    """

    step: int
    since: float
    requests: int = 0


@dataclass(frozen=True, slots=True)
class CanaryDecision:
    """What is to be done with a canary now.

    Attributes
    ----------
    kind : {'hold', 'advance', 'promote', 'take back'}
    reason : str
    """

    kind: Literal["hold", "advance", "promote", "take back"]
    reason: str


def decide(
    plan: CanaryPlan, progress: CanaryProgress, readings: Sequence[GuardReading], *, now: float
) -> CanaryDecision:
    """Return what to do: any guard that is violated takes the canary back, and all must hold for a step up."""
    violated = [reading.words for reading in readings if reading.state == "violated"]
    if violated:
        return CanaryDecision("take back", "; ".join(dict.fromkeys(violated)))
    waits = _waits(plan, progress, readings, now=now)
    share = plan.steps[progress.step]
    if waits:
        return CanaryDecision("hold", waits)
    if share == _ALL:
        return CanaryDecision("promote", f"all guards held at every step up to {share:g} %")
    return CanaryDecision("advance", f"the guards held at {share:g} %")


def _waits(plan: CanaryPlan, progress: CanaryProgress, readings: Sequence[GuardReading], *, now: float) -> str:
    """Say what a canary waits for, "" if it is for nothing."""
    rest = progress.since + plan.hold - now
    if rest > 0:
        return f"{_duration(rest)} to go"
    if progress.requests < plan.guard.minimum:
        return f"{progress.requests} of {plan.guard.minimum} requests seen"
    unsure = [reading.words for reading in readings if reading.state in ("doubtful", "waiting")]
    if unsure:
        return f"not sure yet: {'; '.join(unsure)}"
    share = plan.steps[progress.step]
    return f"stays at {share:g} % until it is promoted" if share < _ALL and share == plan.steps[-1] else ""


def _duration(seconds: float) -> str:
    if seconds < 100:  # noqa: PLR2004 - shown in seconds
        return f"{math.ceil(seconds)} s"
    return f"{math.ceil(seconds / 60)} min"
