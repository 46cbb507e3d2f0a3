"""The clock of the accelerator: how long forms of a model take for the same rows."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["median_seconds"]

_TURNS = 20
_RUN = 5  # calls in a row, as under load: what another form left in the caches is gone by the second


def median_seconds(answers: Sequence[Callable[[Any], Any]], rows: Any, *, budget: float) -> list[float]:
    """Return the median seconds that each takes for the rows, measured in turns so that a busy moment hits all.

    Parameters
    ----------
    answers : sequence of callable
    rows : ndarray or DataFrame
    budget : float
        Seconds in all; each has one turn even so.
    """
    taken: list[list[float]] = [[] for _ in answers]
    end = time.perf_counter() + budget
    for _ in range(_TURNS):
        for answer, times in zip(answers, taken, strict=True):
            times.extend(_seconds(answer, rows) for _ in range(_RUN))
        if time.perf_counter() > end:
            break
    return [median(times) for times in taken]


def _seconds(answer: Callable[[Any], Any], rows: Any) -> float:
    started = time.perf_counter()
    answer(rows)
    return time.perf_counter() - started
