"""The last requests with their rows and answers, to be looked at and replayed."""

from __future__ import annotations

from collections import deque
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlnb.events import PredictionEvent

__all__ = ["RecentRequests", "values_in"]


class RecentRequests:
    """Keeps answered requests in bounded memory; used on one thread only.

    Parameters
    ----------
    cells : int
        Values of rows and answers that are kept at most.
    requests : int
        Requests that are kept at most.
    """

    def __init__(self, cells: int = 2_000_000, *, requests: int = 100_000) -> None:
        self._most_cells, self._most_requests = cells, requests
        self._kept: deque[PredictionEvent] = deque()
        self._sizes: deque[int] = deque()  # of each that is kept
        self._cells = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def cells(self) -> int:
        """Values of rows and answers that are kept."""
        return self._cells

    def extend(self, events: Sequence[PredictionEvent]) -> None:
        """Keep those of one loop turn that were answered, and forget the oldest."""
        kept, sizes, cells = self._kept, self._sizes, self._cells
        for event in events:
            if event.error is None and event.inputs is not None:
                size = values_in(event.inputs) + (0 if event.prediction is None else event.prediction.size)
                cells += size
                kept.append(event)
                sizes.append(size)
        self._cells = cells
        while len(kept) > self._most_requests or self._cells > self._most_cells:
            kept.popleft()
            self._cells -= sizes.popleft()

    def prepend(self, earlier: RecentRequests) -> None:
        """Keep what another one kept before, as far as there is room."""
        kept, sizes = list(self._kept), list(self._sizes)
        self._kept, self._sizes, self._cells = deque(earlier._kept), deque(earlier._sizes), earlier._cells
        self._kept.extend(kept)
        self._sizes.extend(sizes)
        self._cells += sum(sizes)
        self.extend([])

    def between(self, since: float, until: float) -> list[PredictionEvent]:
        """Return the requests answered from ``since`` to ``until``, seconds since the epoch, oldest first."""
        return [event for event in self._kept if since <= event.at <= until]


def values_in(rows: Any) -> int:
    """Return about how many values there are: a list's rows are taken to be alike.

    Examples
    --------
    >>> values_in([[1.0, 2.0], [3.0, 4.0]]), values_in([{"a": 1, "b": 2}]), values_in(["text"])
    (4, 2, 4)
    """
    size = 1
    while isinstance(rows, (list, tuple)) and rows:
        size, rows = size * len(rows), rows[0]
    if isinstance(rows, (str, dict)):
        return size * len(rows)
    shape = getattr(rows, "shape", None)
    return size * prod(shape) if shape else size
