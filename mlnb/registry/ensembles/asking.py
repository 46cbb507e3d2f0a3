"""Several members asked at once, side by side."""

from __future__ import annotations

import time
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from mlnb.registry.ensembles.workers import workers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Asking"]

_QUICK = 0.0003  # seconds: to hand a question to a thread, and to wait for the interpreter there, costs about as much


class Asking:
    """Asks members side by side; those that were quick the last time one after the other, which is quicker still."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, float]] = {}  # rows and seconds of the last answer

    def ask(self, questions: Mapping[str, Callable[[], Any]], *, rows: int) -> dict[str, Any]:
        """Return by name what each answered or raised.

        A member on another thread sees the caller's context, in which numpy keeps its ``errstate``.
        """
        outcomes: dict[str, Any] = {}

        def answer(name: str) -> None:
            started = time.perf_counter()
            try:
                outcomes[name] = questions[name]()
            except (Exception, SystemExit) as error:  # noqa: BLE001 - it is for the asker to judge
                outcomes[name] = error
            self._known[name] = rows, time.perf_counter() - started

        here = [name for name in questions if self._seconds(name, rows) < _QUICK]
        elsewhere = [name for name in questions if name not in here]
        if not here:
            here, elsewhere = elsewhere[:1], elsewhere[1:]
        answered: SimpleQueue[None] = SimpleQueue()
        for name in elsewhere:
            workers.run(partial(copy_context().run, answer, name), done=partial(answered.put, None))
        for name in here:
            answer(name)
        for _ in elsewhere:
            answered.get()
        return {name: outcomes[name] for name in questions}

    def _seconds(self, name: str, rows: int) -> float:
        """Return how long a member takes at most, by its last answer; infinity before that."""
        known, seconds = self._known.get(name, (1, float("inf")))
        return seconds * max(1.0, rows / max(known, 1))
