"""Threads that wait a moment for the next task, then end: nothing to close."""

from __future__ import annotations

import os
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Workers", "workers"]

_PATIENCE = 0.2  # seconds: who is asked less often does not notice what a new thread costs

_Task = tuple["Callable[[], None]", "Callable[[], None]"]


class Workers:
    """Runs tasks on threads that are kept while there are more to come.

    A thread of its own for each task would do, but for OpenMP and PyTorch, which start threads of theirs for each
    thread that they are first called on: 0.3 to 1.3 ms more for a prediction of 0.1 to 3 ms. Threads are daemons: a
    task that hangs keeps no program from ending.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all threads; in a forked process there are none of them."""
        self._lock = Lock()
        self._idle: list[SimpleQueue[_Task]] = []

    def run(self, task: Callable[[], None], *, done: Callable[[], None]) -> None:
        """Run a task on a thread, and call ``done`` there when that is free again. Neither may raise."""
        with self._lock:
            tasks = self._idle.pop() if self._idle else None
        if tasks is None:
            tasks = SimpleQueue()
            Thread(target=self._work, args=(tasks,), name="mlnb-member", daemon=True).start()
        tasks.put((task, done))

    def _work(self, tasks: SimpleQueue[_Task]) -> None:
        while (given := self._next(tasks)) is not None:
            task, done = given
            task()
            with self._lock:
                self._idle.append(tasks)
            done()
            del given, task, done  # keep no rows alive while waiting

    def _next(self, tasks: SimpleQueue[_Task]) -> _Task | None:
        """Return the next task, None if none came for a while."""
        while True:
            try:
                return tasks.get(timeout=_PATIENCE)
            except Empty:
                with self._lock:
                    if tasks in self._idle:
                        self._idle.remove(tasks)
                        return None


workers = Workers()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=workers.reset)
