"""When to start again what ended: at once, and ever later while it keeps ending."""

from __future__ import annotations

from collections import deque

__all__ = ["Backoff"]

_WINDOW = 60.0  # seconds after which an end is forgotten
_FREE = 3  # ends in the window that are followed by a start at once: somebody may have killed it
_FIRST, _LONGEST = 0.5, 30.0  # seconds
_DOUBLINGS = 6  # from the first to the longest


class Backoff:
    """Counts ends.

    Examples
    --------
    >>> backoff = Backoff()
    >>> [backoff.ended(now) for now in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)]
    [0.0, 0.0, 0.0, 0.5, 1.0, 2.0]
    >>> backoff.ended(100.0)
    0.0
    """

    def __init__(self) -> None:
        self._ends: deque[float] = deque()

    def ended(self, now: float) -> float:
        """Return the seconds to wait before starting again what ended at ``now``."""
        self._ends.append(now)
        while now - self._ends[0] > _WINDOW:
            self._ends.popleft()
        beyond = len(self._ends) - _FREE
        return 0.0 if beyond <= 0 else min(_LONGEST, _FIRST * 2.0 ** min(beyond - 1, _DOUBLINGS))
