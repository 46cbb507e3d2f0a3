"""The log of predictions, as the gateway holds it."""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Self

from mlnb.monitoring.prediction_log.noted import NotedLabel
from mlnb.monitoring.prediction_log.settings import LogSettings, LogState
from mlnb.monitoring.prediction_log.waiting import CLOSE, Waiting
from mlnb.monitoring.prediction_log.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from mlnb.events import PredictionEvent
    from mlnb.monitoring.outcomes import Label
    from mlnb.monitoring.prediction_log.noted import Names

__all__ = ["PredictionLog"]

_TIMEOUT = 5.0  # seconds that closing waits for the database
_FORKED = "this process was forked from the one that logs, and cannot log itself"
_logs: weakref.WeakSet[PredictionLog] = weakref.WeakSet()
_parents: list[Writer] = []


class PredictionLog:
    """Writes predictions to a database, on a thread of its own and off the way of requests.

    A database that fails stops nothing: what comes waits, up to a bound, and is dropped and counted from there on,
    until the database is back. A process that is forked from this one logs nothing, because SQLite does not survive it:
    https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_

    Parameters
    ----------
    settings : LogSettings

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from mlnb.events import PredictionEvent
    >>> from mlnb.monitoring.prediction_log import read
    >>> event = PredictionEvent("iris", 3, "a1", 1e9, 0.002, 1, 200, None, [[5.1, 3.5]], np.array(["setosa"]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     settings = LogSettings(url=f"{folder}/log.sqlite", keep_days=None)
    ...     with PredictionLog(settings) as log:
    ...         log.name_fields("iris", 3, ("length", "width"))
    ...         log.put([event])
    ...     read(settings, "iris")[["request_id", "length", "width", "prediction"]].values.tolist()
    [['a1', 5.1, 3.5, 'setosa']]
    """

    def __init__(self, settings: LogSettings) -> None:
        self.settings = settings
        self._names: Names = {}
        self._closed = False
        self._waiting = Waiting()
        self._writer = Writer(settings, self._waiting, self._names)
        self._thread = threading.Thread(target=self._writer.run, name="mlnb log", daemon=True)
        self._thread.start()
        self._finalizer = weakref.finalize(self, _end, self._waiting, self._thread, _TIMEOUT)
        _logs.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def put(self, events: Sequence[PredictionEvent]) -> None:
        """Log the requests of one turn of the loop, soon; on one thread only.

        Never blocks and never raises. The sequence must not change afterwards.
        """
        try:
            self._waiting.put(events)
        except Exception:  # noqa: BLE001 - rows are of any type
            self._waiting.refused += len(events)

    def put_labels(self, model: str, labels: Sequence[Label], *, at: float | None = None) -> None:
        """Log what became of requests; a later label of the same request takes its place.

        Parameters
        ----------
        model : str
        labels : sequence of Label
        at : float, optional
            Seconds since the epoch; now unless given.
        """
        now = time.time() if at is None else at
        self._waiting.put_labels([NotedLabel(model, label, now) for label in labels])

    def name_fields(self, model: str, version: int, names: Sequence[str]) -> None:
        """Say what the values of a row are called: to name the columns, to leave fields out and to hash them."""
        self._names[model, version] = tuple(names)
        self._waiting.wake()

    def flush(self, *, timeout: float = _TIMEOUT) -> bool:
        """Wait until all that was put is written; False if it was not within ``timeout`` seconds."""
        if self._closed:
            return not self._waiting.count
        return self._waiting.ask().wait(timeout)

    def close(self, *, timeout: float = _TIMEOUT) -> None:
        """Write what waits, and end the thread; what cannot be written now is counted as dropped."""
        self._closed = True
        if self._finalizer.detach():
            _end(self._waiting, self._thread, timeout)

    def state(self) -> LogState:
        """Return how it is."""
        waiting, writer = self._waiting, self._writer
        dropped = waiting.refused + waiting.refused_labels + writer.dropped
        opening = not (writer.opened or writer.failure)
        return LogState(self.settings.shown, writer.written, dropped, waiting.count, writer.failure, opening)

    def _forked(self) -> None:
        """Log nothing in the child; what waits, and the connection, are the parent's."""
        self._finalizer.detach()
        _parents.append(self._writer)  # its connection is never closed here: that would break it there
        self._closed = True
        self._waiting = Waiting()
        self._waiting.close()
        self._writer = Writer(self.settings, self._waiting, self._names)
        self._writer.failure = _FORKED


def _all_forked() -> None:
    for log in list(_logs):
        log._forked()  # noqa: SLF001 - of this module


def _end(waiting: Waiting, thread: threading.Thread, timeout: float) -> None:
    waiting.close()
    waiting.signals.put(CLOSE)
    if thread is not threading.current_thread():
        thread.join(timeout)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_all_forked)
