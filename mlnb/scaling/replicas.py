"""Where a model runs: a thread of this kernel."""

from __future__ import annotations

import threading
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Self, TypeVar

from mlnb.errors import StoppedError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["KernelReplica"]

T = TypeVar("T")


class KernelReplica:
    """A model on a thread of its own, which does one job at a time, in order.

    The thread is a daemon, unlike those of a ``ThreadPoolExecutor``: a predict that hangs cannot keep the kernel from
    exiting.

    Parameters
    ----------
    model : object
    name : str
        Of the thread.

    Examples
    --------
    >>> with KernelReplica("abc", name="letters") as replica:
    ...     replica.submit(str.upper).result()
    'ABC'
    """

    def __init__(self, model: Any, *, name: str) -> None:
        self._model = model
        self._jobs: SimpleQueue[tuple[Callable[[Any], Any], Future[Any]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._running: Future[Any] | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.join()

    def submit(self, job: Callable[[Any], T]) -> Future[T]:
        """Queue ``job(model)`` and return its future.

        Raises
        ------
        StoppedError
            After :meth:`close`.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise StoppedError("This replica is closed.")
            self._jobs.put((job, future))
        return future

    def close(self) -> None:
        """Take no more jobs; those queued are still done. Returns at once."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)

    def join(self, *, timeout: float | None = None) -> bool:
        """Wait until the queued jobs are done, at most ``timeout`` seconds; say whether they are."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def abandon(self) -> None:
        """Answer what is queued or running with StoppedError: whoever waits learns it now. Closes first."""
        self.close()
        waiting = [self._running]
        with suppress(Empty):
            while True:
                item = self._jobs.get_nowait()
                waiting.append(None if item is None else item[1])
        self._jobs.put(None)  # ends the thread when its job ends, if ever
        for future in waiting:
            if future is not None:
                with suppress(InvalidStateError):
                    future.set_exception(StoppedError("The model was stopped before it answered."))

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, future = item
            if not future.set_running_or_notify_cancel():
                continue
            self._running = future
            with suppress(InvalidStateError):  # abandoned meanwhile
                try:
                    future.set_result(job(self._model))
                except BaseException as error:  # noqa: BLE001 - the caller gets it; this thread must live on
                    future.set_exception(error)
            self._running = None
            del item, job, future  # keep no rows alive while waiting
