"""What waits for a log's thread, in bounded memory; putting it there never blocks and takes no lock."""

from __future__ import annotations

from collections import deque
from queue import SimpleQueue
from threading import Event
from typing import TYPE_CHECKING

from mlnb.monitoring.recent import answers_in, values_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlnb.events import PredictionEvent
    from mlnb.monitoring.prediction_log.noted import NotedLabel

__all__ = ["CLOSE", "Waiting"]

CLOSE = object()
"""The signal to write what waits, and end."""

_EARLY = 4096  # requests that are written before their half second is over
_LOOKED_AT = 8  # every so many requests of one loop turn are measured, and stand for the others


class Waiting:
    """A bounded queue from the loop to the thread.

    Parameters
    ----------
    requests : int
        That wait at most.
    values : int
        Of their rows, at most, about; one turn of the loop may have more by itself.
    labels : int
        That wait at most.

    Attributes
    ----------
    refused : int
        Requests that found no room.
    refused_labels : int
    idle : bool
        Set by the thread while it waits for anything to come.
    signals : SimpleQueue
        What wakes the thread: None because something came, :data:`CLOSE`, or an Event to be set when all is written.
    """

    def __init__(self, *, requests: int = 50_000, values: int = 4_000_000, labels: int = 200_000) -> None:
        self._most_requests, self._most_values, self._most_labels = requests, values, labels
        self._turns: deque[tuple[Sequence[PredictionEvent], int]] = deque()
        self._labels: deque[NotedLabel] = deque()
        self.signals: SimpleQueue[object] = SimpleQueue()
        self.refused = self.refused_labels = 0
        self.idle = self._hurried = False
        self._put = self._put_values = 0  # the loop's
        self._done = self._done_values = 0  # the thread's

    @property
    def count(self) -> int:
        """Requests that are not done yet."""
        return self._put - self._done

    @property
    def anything(self) -> bool:
        """Whether there is something to take."""
        return bool(self._turns or self._labels)

    def put(self, events: Sequence[PredictionEvent]) -> None:
        """Let the requests of one turn of the loop wait, or count them as refused; on one thread only."""
        count, values = len(events), 0
        for event in events[::_LOOKED_AT]:
            values += values_in(event.inputs) + answers_in(event.prediction) + answers_in(event.probabilities)
        values *= min(count, _LOOKED_AT)
        waiting, waiting_values = self._put - self._done, self._put_values - self._done_values
        if waiting + count > self._most_requests or (waiting and waiting_values + values > self._most_values):
            self.refused += count
            return
        self._turns.append((events, values))
        self._put += count
        self._put_values += values
        if self.idle:
            self.wake()
        elif waiting + count >= _EARLY and not self._hurried:
            self._hurried = True
            self.signals.put(None)

    def put_labels(self, labels: Sequence[NotedLabel]) -> None:
        """Let labels wait, or count them as refused; on any thread."""
        if len(self._labels) + len(labels) > self._most_labels:
            self.refused_labels += len(labels)
            return
        self._labels.extend(labels)
        self.wake()

    def close(self) -> None:
        """Refuse all from here on."""
        self._most_requests = self._most_labels = 0

    def wake(self) -> None:
        """Tell the thread that there is something, if it waits for that."""
        if self.idle:
            self.idle = False
            self.signals.put(None)

    def take(self, most: int) -> tuple[list[PredictionEvent], int]:
        """Return the oldest requests, as many and one turn more at most, and their values."""
        events: list[PredictionEvent] = []
        values = 0
        self._hurried = False
        while self._turns and len(events) < most:
            turn, own = self._turns.popleft()
            events += turn
            values += own
        return events, values

    def take_labels(self) -> list[NotedLabel]:
        """Return all labels that wait."""
        return [self._labels.popleft() for _ in range(len(self._labels))]

    def done(self, requests: int, values: int) -> None:
        """Make room: so many of those taken need to wait no longer."""
        self._done += requests
        self._done_values += values

    def ask(self) -> Event:
        """Ask for all to be written; return what is set when it is."""
        written = Event()
        self.signals.put(written)
        return written
