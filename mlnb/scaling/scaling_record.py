"""What was decided on the replicas of a deployment, thinned out as it gets older."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlnb.scaling.policies.decision import ScalingDecision

__all__ = ["ScalingRecord"]

_LATELY, _MOST_LATELY = 600.0, 1500  # seconds and decisions that are kept, all of them ..
_HOUR, _STEP, _MOST_BEFORE = 3600.0, 10.0, 300  # .. and before that for an hour, one in so many seconds ..
_MOST_CHANGES = 700  # .. and those that changed something, however old
_PART = 500  # decisions; so many are pickled in some milliseconds


class ScalingRecord:
    """The decisions of the last ten minutes, one per ten seconds of the last hour, and all that changed something.

    Attributes
    ----------
    changed : ScalingDecision or None
        The newest one that changed the number of replicas.
    """

    def __init__(self) -> None:
        self.changed: ScalingDecision | None = None
        self._lately: deque[ScalingDecision] = deque()
        self._before: deque[ScalingDecision] = deque(maxlen=_MOST_BEFORE)
        self._changes: deque[ScalingDecision] = deque(maxlen=_MOST_CHANGES)

    def __len__(self) -> int:
        return len(self._lately) + len(self._before) + len(self._changes)

    @property
    def last(self) -> ScalingDecision | None:
        """The newest one."""
        return self._lately[-1] if self._lately else None

    def note(self, decision: ScalingDecision) -> None:
        """Take a decision, which is newer than all others."""
        now = decision.sample.at
        self._lately.append(decision)
        if _changed(decision):
            self.changed = decision
        while now - self._lately[0].sample.at > _LATELY or len(self._lately) > _MOST_LATELY:
            self._thin(self._lately.popleft())
        while self._before and now - self._before[0].sample.at > _HOUR:
            self._before.popleft()

    def settle(self, decision: ScalingDecision, applied: int) -> ScalingDecision:
        """Learn how many replicas there were after a decision was applied, and return it with that."""
        settled = replace(decision, applied=applied)
        for index in range(len(self._lately) - 1, -1, -1):
            if self._lately[index] is decision:
                self._lately[index] = settled
                break
        if _changed(settled):
            self.changed = settled
        return settled

    def absorb(self, decisions: Iterable[ScalingDecision]) -> None:
        """Take the decisions of a predecessor, which may be older than those that are known."""
        known = {decision.sample.at: decision for decision in [*decisions, *self._all()]}
        for kept in (self._lately, self._before, self._changes):
            kept.clear()
        for at in sorted(known):
            self.note(known[at])

    def since(self, at: float = -inf, *, most: int = _PART) -> tuple[ScalingDecision, ...]:
        """Return the first ones on samples after ``at``, in order."""
        found = [decision for decision in self._all() if decision.sample.at > at]
        return tuple(sorted(found, key=_at)[:most])

    def _all(self) -> list[ScalingDecision]:
        return [*self._changes, *self._before, *self._lately]

    def _thin(self, decision: ScalingDecision) -> None:
        if _changed(decision):
            self._changes.append(decision)
        elif not self._before or decision.sample.at - self._before[-1].sample.at >= _STEP:
            self._before.append(decision)


def _changed(decision: ScalingDecision) -> bool:
    return decision.applied is not None and decision.desired != decision.sample.desired


def _at(decision: ScalingDecision) -> float:
    return decision.sample.at
