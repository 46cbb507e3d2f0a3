"""The thread of a log: takes what waits twice a second, writes it, and begins again where the database was gone."""

from __future__ import annotations

import logging
import secrets
import time
from contextlib import suppress
from queue import Empty
from threading import Event
from typing import TYPE_CHECKING

from mlnb.monitoring.prediction_log.clock_trust import ClockTrust
from mlnb.monitoring.prediction_log.waiting import CLOSE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlnb.events import PredictionEvent
    from mlnb.monitoring.prediction_log.database import Database
    from mlnb.monitoring.prediction_log.noted import Names, NotedLabel
    from mlnb.monitoring.prediction_log.settings import LogSettings
    from mlnb.monitoring.prediction_log.waiting import Waiting

__all__ = ["Writer"]

_log = logging.getLogger(__name__)

_PERIOD = 0.5  # seconds from one write to the next
_TOGETHER = 4096  # requests of one transaction
_FIRST_RETRY, _LAST_RETRY = 0.25, 10.0  # seconds
_TRIM_AFTER = 20_000  # requests
_TRIM_EVERY = 60.0  # seconds


class Writer:
    """Writes what waits; :meth:`run` is the thread.

    Parameters
    ----------
    settings : LogSettings
    waiting : Waiting
    names : Names
        What the values of a row are called; it may grow.

    Attributes
    ----------
    written : int
        Requests.
    dropped : int
        Requests and labels that the database refused, or that it was not there for until the end.
    failure : str
        In one line; empty while it works.
    opened : bool
        Whether the database ever answered.
    """

    def __init__(self, settings: LogSettings, waiting: Waiting, names: Names) -> None:
        self._settings, self._waiting, self._names = settings, waiting, names
        self._saved: Names = {}  # of the names, those that the database has
        self._database: Database | None = None
        self._events: list[PredictionEvent] = []  # taken, and not written yet
        self._values = 0  # of theirs
        self._labels: list[NotedLabel] = []
        self._asked: list[Event] = []  # to be set when all is written
        self._unmet: list[Event] = []  # those for which it failed
        self._closing = False
        self._retry = 0.0  # seconds until the next attempt; 0 while it works
        self._trust = ClockTrust(wall=time.time(), monotonic=time.monotonic())
        self._models: set[str] = set()  # whose requests it wrote
        self._trimming = False  # there is more to be deleted
        self._trimmed_at, self._since_trim = 0.0, 0
        self.written = self.dropped = 0
        self.failure = ""
        self.opened = False

    def run(self) -> None:
        """Write until the log is closed."""
        try:
            self._work()  # whether it works is to be known before the first request
            while not self._closing:
                self._rest()
                self._work()
        finally:
            self._leave()

    # ---- waiting ----

    def _rest(self) -> None:
        """Wait until there is something, and for what comes with it; or until it is time to try again."""
        if not (self._retry or self._trimming):
            self._waiting.idle = True
            while not (self._waiting.anything or self._new_names() or self._demanded):
                self._note(self._waiting.signals.get())
            self._waiting.idle = False
        self._sleep(self._retry or _PERIOD)

    def _sleep(self, seconds: float) -> None:
        """Wait, unless somebody asks, or so much has come that it is better written at once."""
        end = time.monotonic() + seconds
        while not self._demanded and (left := end - time.monotonic()) > 0:
            try:
                signal = self._waiting.signals.get(timeout=left)
            except Empty:
                return
            self._note(signal)
            if signal is None and not self._retry:
                return

    def _note(self, signal: object) -> None:
        self._closing |= signal is CLOSE
        if isinstance(signal, Event):
            self._asked.append(signal)

    @property
    def _demanded(self) -> bool:
        return self._closing or bool(self._asked)

    def _new_names(self) -> Names:
        return {key: names for key, names in self._names.copy().items() if self._saved.get(key) != names}

    # ---- writing ----

    def _work(self) -> None:
        """Write all there is; what cannot be written now is kept for the next time."""
        asked, self._asked = self._unmet + self._asked, []
        try:
            database = self._opened()
            while self._take():
                self._write_taken(database)
            self._trim(database)
        except Exception as error:  # noqa: BLE001 - of disks, servers and drivers; predictions go on whatever it is
            self._unmet = asked
            self._failed(error)
            return
        self._unmet, self._retry, self.failure = [], 0.0, ""
        for written in asked:
            written.set()

    def _opened(self) -> Database:
        from mlnb.monitoring.prediction_log.database import Database

        if self._database is not None and self._database.gone:
            self._shut()
        if self._database is None:
            self._database, self._saved = Database(self._settings, salt=secrets.token_hex(16)), {}
            self.opened = True
        return self._database

    def _take(self) -> bool:
        if not self._events:
            self._events, self._values = self._waiting.take(_TOGETHER)
        self._labels += self._waiting.take_labels()
        return bool(self._events or self._labels or self._new_names())

    def _write_taken(self, database: Database) -> None:
        names = self._new_names()
        database.write_names(names)
        self._saved |= names
        written = self._write(database, self._events, self._labels)
        self.written += written
        self._since_trim += written
        self._waiting.done(len(self._events), self._values)
        self._events, self._values, self._labels = [], 0, []

    def _write(self, database: Database, events: Sequence[PredictionEvent], labels: Sequence[NotedLabel]) -> int:
        """Write all, but for those that the database refuses; return how many requests that were."""
        try:
            self._models |= {event.model for event in events}
            return database.write(events, labels, names=self._names)
        except Exception as error:
            if not _is_refusal(error):
                raise
        if len(events) + len(labels) <= 1:
            self.dropped += 1
            return 0
        half, half_labels = len(events) // 2, (len(labels) + 1) // 2
        parts = (events[:half], labels[:half_labels]), (events[half:], labels[half_labels:])
        return sum(self._write(database, *part) for part in parts)

    def _trim(self, database: Database) -> None:
        from mlnb.monitoring.prediction_log.retention import trim

        monotonic = time.monotonic()
        due = self._since_trim >= _TRIM_AFTER or monotonic - self._trimmed_at >= _TRIM_EVERY
        if self._models and (due or self._trimming):
            wall = time.time()
            now = wall if self._trust.holds(wall=wall, monotonic=monotonic) else None
            self._trimming = trim(database.connection, self._settings, models=sorted(self._models), now=now)
            self._trimmed_at, self._since_trim = monotonic, 0

    def _failed(self, error: Exception) -> None:
        from mlnb.monitoring.prediction_log.opening import one_line

        if not self.failure:
            _log.warning("The prediction log %s cannot be written: %s", self._settings.shown, one_line(error))
        self.failure = one_line(error)
        self._retry = min(max(_FIRST_RETRY, 2 * self._retry), _LAST_RETRY)
        self._shut()

    def _shut(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            with suppress(Exception):
                database.close()

    def _leave(self) -> None:
        """Count what will not be written any more."""
        while self._take_last():
            self.dropped += len(self._events) + len(self._labels)
            self._waiting.done(len(self._events), self._values)
            self._events, self._values, self._labels = [], 0, []
        self._shut()

    def _take_last(self) -> bool:
        self._take()
        return bool(self._events or self._labels)


def _is_refusal(error: Exception) -> bool:
    """Say whether it is what was written that does not fit, not the database that fails."""
    from sqlalchemy.exc import DataError, SQLAlchemyError

    return isinstance(error, DataError) or not isinstance(error, (SQLAlchemyError, OSError))
