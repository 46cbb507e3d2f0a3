"""Where a model runs: what all kinds of replicas have in common, and the one in this process."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

from mlnb.errors import StoppedError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from mlnb.scaling.answering import Answering
    from mlnb.scaling.batching import Prediction, PredictTimes

__all__ = ["KernelReplica", "Replica"]


_INLINE = 0.001  # seconds: what takes less is done at once by the event loop; handing it to a thread costs as much
_KNOWN = 5  # batches to have been measured before


class Replica(Protocol):
    """A copy of a model that does one batch at a time.

    Attributes
    ----------
    key : int
        Its number in the pool.
    weight : float
    in_flight : int
        Batches it works on.
    pid : int or None
        Of its process, None where that is the one it is used from.
    """

    key: int
    weight: float
    in_flight: int
    pid: int | None

    def run(
        self, checked: Any, rows: int, *, probabilities: bool, done: Callable[[Prediction | BaseException], None]
    ) -> None:
        """Answer a batch; ``done`` is called on the loop, perhaps before this returns.

        It is given a PredictionError if the model failed, and a ReplicaError if the replica ended.
        """

    def limit_threads(self, count: int) -> None:
        """Let the model's libraries use ``count`` threads at most, where they are its own."""

    def stop(self) -> None:
        """End it at once; what it works on is answered with an error."""


class KernelReplica:
    """A model in this process: quick predictions on the event loop, others on a thread of its own.

    The thread is a daemon, unlike those of a ``ThreadPoolExecutor``: a predict that hangs cannot keep the kernel from
    exiting. A model that fails on the loop is asked again on the thread; if it succeeds there, as one does that starts
    a loop of its own, then from then on only there.

    Parameters
    ----------
    answering : Answering
    loop : event loop
        On which :meth:`run` is called and answers.
    times : PredictTimes
        Of the pool: which predictions are quick.
    key : int
    name : str
        Of the thread.
    inline : bool
        Whether quick predictions may be made on the loop: one that hangs there stops it.
    """

    pid: int | None = None
    weight = 1.0

    def __init__(
        self, answering: Answering, *, loop: asyncio.AbstractEventLoop, times: PredictTimes, key: int, name: str,
        inline: bool = True,
    ) -> None:  # fmt: skip
        self.key = key
        self.in_flight = 0
        self._answering = answering
        self._loop = loop
        self._times = times
        self._inline = inline
        self._failed_inline = False
        self._stopped = False
        self._running: Callable[[Prediction | BaseException], None] | None = None
        self._batches: SimpleQueue[tuple[Any, int, bool] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def run(
        self, checked: Any, rows: int, *, probabilities: bool, done: Callable[[Prediction | BaseException], None]
    ) -> None:
        """Answer a batch; see :class:`Replica`."""
        if self._inline and self._times.count >= _KNOWN and self._times.estimate(rows) < _INLINE:
            try:
                prediction = self._answering(checked, rows, probabilities=probabilities)
            except BaseException:  # noqa: BLE001 - asked again on the thread, which reports it
                self._failed_inline = True
            else:
                done(prediction)
                return
        self.in_flight += 1
        self._running = done
        self._batches.put((checked, rows, probabilities))

    def limit_threads(self, count: int) -> None:
        """Leave the threads of this process as they are: they are the notebook's as well."""

    def stop(self) -> None:
        """End the thread, when what it works on ends if ever; whoever waits learns it now."""
        if not self._stopped:
            self._stopped = True
            self._batches.put(None)
            self._answered(StoppedError("The model was stopped before it answered."))

    def join(self, *, timeout: float) -> None:
        """Wait until the thread has ended, at most ``timeout`` seconds."""
        self._thread.join(timeout)

    def _answered(self, outcome: Prediction | BaseException) -> None:
        if self._failed_inline:
            self._failed_inline, self._inline = False, isinstance(outcome, BaseException)
        done, self._running = self._running, None
        if done is not None:
            self.in_flight -= 1
            done(outcome)

    def _work(self) -> None:
        while (batch := self._batches.get()) is not None:
            checked, rows, probabilities = batch
            outcome: Prediction | BaseException
            try:
                outcome = self._answering(checked, rows, probabilities=probabilities)
            except BaseException as error:  # noqa: BLE001 - whoever asked gets it; this thread must live on
                outcome = error
            if self._stopped or self._loop.is_closed():
                return
            self._loop.call_soon_threadsafe(self._answered, outcome)
            del batch, checked, outcome  # keep no rows alive while waiting
