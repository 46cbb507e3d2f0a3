"""Several members asked at once, each on a thread of its own that ends with the answer."""

from __future__ import annotations

import time
from contextvars import copy_context
from threading import Thread
from typing import TYPE_CHECKING, Any

from mlnb.errors import MlnbError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Asking", "MemberError"]

_QUICK = 0.0003  # seconds: starting a thread, and waiting for the interpreter in it, costs about as much


class MemberError(MlnbError, RuntimeError):
    """Too many members of an ensemble failed; ``__cause__`` is what the first of them raised."""

    title = "A member failed"


class Asking:
    """Asks members side by side; those that were quick the last time one after the other, which is quicker still.

    Threads are daemons: a member that hangs keeps no program from ending. None outlives the question, so that there is
    nothing to pickle, to fork or to close.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, float]] = {}  # rows and seconds of the last answer

    def ask(self, questions: Mapping[str, Callable[[], Any]], *, rows: int) -> dict[str, Any]:
        """Return by name what each answered or raised.

        A member on another thread sees the caller's context, in which numpy keeps its ``errstate``.
        """
        outcomes: dict[str, Any] = {}

        def answer(*names: str) -> None:
            for name in names:
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
        threads = [
            Thread(target=copy_context().run, args=(answer, name), name=f"mlnb-member-{name}", daemon=True)
            for name in elsewhere
        ]
        for thread in threads:
            thread.start()
        answer(*here)
        for thread in threads:
            thread.join()
        return {name: outcomes[name] for name in questions}

    def _seconds(self, name: str, rows: int) -> float:
        """Return how long a member takes at most, by its last answer; infinity before that."""
        known, seconds = self._known.get(name, (1, float("inf")))
        return seconds * max(1.0, rows / max(known, 1))
