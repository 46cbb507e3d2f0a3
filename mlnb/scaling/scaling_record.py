"""What was decided on the replicas of a deployment: all of the last hour, and before that what changed something."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlnb.scaling.policies.decision import ScalingDecision

__all__ = ["ScalingRecord"]

_HOUR, _MOST = 3600.0, 7500  # seconds and decisions that are kept, all of them, so that they can be replayed ..
_MOST_CHANGES = 700  # .. and those before that changed something
_PART = 500  # decisions; so many are pickled in some milliseconds


class ScalingRecord:
    """The decisions of the last hour, and those before that changed something.

    Attributes
    ----------
    changed : ScalingDecision or None
        The newest one that changed the number of replicas.
    """

    def __init__(self) -> None:
        self.changed: ScalingDecision | None = None
        self._lately: deque[ScalingDecision] = deque()
        self._changes: deque[ScalingDecision] = deque(maxlen=_MOST_CHANGES)

    def __len__(self) -> int:
        return len(self._lately) + len(self._changes)

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
        while now - self._lately[0].sample.at > _HOUR or len(self._lately) > _MOST:
            oldest = self._lately.popleft()
            if _changed(oldest):
                self._changes.append(oldest)

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
        self._lately.clear()
        self._changes.clear()
        for at in sorted(known):
            self.note(known[at])

    def since(self, at: float = -inf, *, most: int = _PART) -> tuple[ScalingDecision, ...]:
        """Return the first ones on samples after ``at``, in order."""
        found = [decision for decision in self._all() if decision.sample.at > at]
        return tuple(sorted(found, key=_at)[:most])

    def _all(self) -> list[ScalingDecision]:
        return [*self._changes, *self._lately]


def _changed(decision: ScalingDecision) -> bool:
    return decision.applied is not None and decision.desired != decision.sample.desired


def _at(decision: ScalingDecision) -> float:
    return decision.sample.at
