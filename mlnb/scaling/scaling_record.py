"""What was decided on the replicas of a deployment: all of the last hour, and before that what changed something."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import replace
from itertools import islice
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
        """Take a decision; one that is not newer than all others is not kept."""
        now = decision.sample.at
        if self._lately and now <= self._lately[-1].sample.at:
            return
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

    def take_over(self, before: ScalingRecord) -> None:
        """Let the decisions of a predecessor come before those that are known; it stays as it is."""
        own = [*self._changes, *self._lately]
        self._changes, self._lately, self.changed = before._changes.copy(), before._lately.copy(), before.changed
        for decision in own:
            self.note(decision)

    def newest(self, count: int) -> list[ScalingDecision]:
        """Return so many of the last hour, in order."""
        return list(islice(reversed(self._lately), count))[::-1]

    def since(self, at: float = -inf, *, most: int = _PART) -> tuple[ScalingDecision, ...]:
        """Return the first ones on samples after ``at``, in order."""
        found: list[ScalingDecision] = []
        for part in (self._changes, self._lately):
            begin = bisect_right(part, at, key=_at)
            found += islice(part, begin, begin + most - len(found))
        return tuple(found)


def _changed(decision: ScalingDecision) -> bool:
    return decision.applied is not None and decision.desired != decision.sample.desired


def _at(decision: ScalingDecision) -> float:
    return decision.sample.at
