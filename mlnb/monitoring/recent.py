"""The last requests with their rows and answers, to be looked at and replayed."""

from __future__ import annotations

from collections import deque
from itertools import islice
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from mlnb.events import PredictionEvent

_NESTED = (list, tuple, dict)
_PART = 10  # what part of the room one request may take
_CHARACTERS = 8  # of text, that take the room of a number
_WIDE = 4  # bytes of a character of numpy's

__all__ = ["RecentRequests", "answers_in", "values_in"]


class RecentRequests:
    """Keeps answered requests in bounded memory; used on one thread only.

    Parameters
    ----------
    cells : int
        Values of rows and answers that are kept at most.
    requests : int
        Requests that are kept at most.

    Attributes
    ----------
    width : int or None
        Values of a row, where none is text; None: each request is measured.
    """

    def __init__(self, cells: int = 2_000_000, *, requests: int = 100_000) -> None:
        self._most_cells, self._most_requests = cells, requests
        self.width: int | None = None
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
        """Keep those of one loop turn that were answered, and forget the oldest.

        One that would take more than a tenth of the room by itself is left out.
        """
        kept, sizes, cells, largest = self._kept, self._sizes, self._cells, self._most_cells // _PART
        for event in events:
            if event.error is None and event.inputs is not None:
                size = self._size(event)
                if size <= largest:
                    cells += size
                    kept.append(event)
                    sizes.append(size)
        self._cells = cells
        while len(kept) > self._most_requests or self._cells > self._most_cells:
            kept.popleft()
            self._cells -= sizes.popleft()

    def prepend(self, events: Sequence[PredictionEvent]) -> None:
        """Keep those of before, newest first, as far as there is room."""
        for event in events:
            size = self._size(event)
            if len(self._kept) >= self._most_requests or self._cells + size > self._most_cells:
                return
            self._kept.appendleft(event)
            self._sizes.appendleft(size)
            self._cells += size

    def newest(self, at: int, count: int) -> list[PredictionEvent]:
        """Return some of them, from the ``at``-th newest on, newest first."""
        return list(islice(reversed(self._kept), at, at + count))

    def find(self, ids: Container[str]) -> dict[str, PredictionEvent]:
        """Return the newest request of each id that is kept."""
        return {event.request_id: event for event in self._kept if event.request_id in ids}

    def between(self, since: float, until: float, *, most: int | None = None) -> list[PredictionEvent]:
        """Return the requests answered from ``since`` to ``until``, seconds since the epoch, oldest first.

        With ``most`` the first ones only: as many, and those of the same moment as the last of them.
        """
        found: list[PredictionEvent] = []
        for event in self._kept:
            if since <= event.at <= until:
                if most is not None and len(found) >= most and event.at > found[-1].at:
                    break
                found.append(event)
        return found

    def _size(self, event: PredictionEvent) -> int:
        rows = values_in(event.inputs) if self.width is None else event.rows * self.width
        return rows + answers_in(event.prediction) + answers_in(event.probabilities)


def answers_in(answers: Any) -> int:
    """Return about how many values there are in an array, of text by its length; 0 for None.

    Examples
    --------
    >>> import numpy as np
    >>> answers_in(np.zeros((2, 3))), answers_in(np.array(["an answer of some length"], dtype=object)), answers_in(None)
    (6, 4, 0)
    """
    if answers is None:
        return 0
    kind = answers.dtype.kind
    if kind == "O":
        return sum(map(_weight, answers.flat))
    size: int = answers.size
    return size * (1 + answers.itemsize // (_WIDE * _CHARACTERS)) if kind == "U" else size


def values_in(rows: Any) -> int:
    """Return about how many values there are: numbers of a list's rows are taken to be alike, text is measured.

    8 characters are a value.

    Examples
    --------
    >>> values_in([[1.0, 2.0], [3.0, 4.0]]), values_in([{"a": 1, "b": 2}]), values_in(["a text of 22 characters"[:22]])
    (4, 2, 3)
    """
    size, given = 1, rows
    while isinstance(rows, (list, tuple)) and rows and (isinstance(rows[0], _NESTED) or hasattr(rows[0], "shape")):
        size, rows = size * len(rows), rows[0]
    if isinstance(rows, dict):
        rows = list(rows.values())
    if isinstance(rows, (list, tuple)):
        return _measured(given) if str in set(map(type, rows)) else size * max(1, len(rows))
    shape = getattr(rows, "shape", None)
    return size * prod(shape) if shape else size * _weight(rows)


def _measured(rows: Any) -> int:
    """Return how many values there are in rows that hold text, however deep they are."""
    size, waiting = 0, [rows]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting.extend(one.values())
        elif isinstance(one, (list, tuple)):
            waiting.extend(one)
        else:
            size += _weight(one)
    return size


def _weight(value: Any) -> int:
    if isinstance(value, (str, bytes)):
        return 1 + len(value) // _CHARACTERS
    return prod(getattr(value, "shape", ()))
