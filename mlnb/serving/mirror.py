"""A version that sees a copy of the requests: it can neither slow nor break those who wait for an answer."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

from mlnb.errors import MlnbError, PredictionError
from mlnb.scaling.batching import Job
from mlnb.serving.service import Query

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from mlnb.events import PredictionEvent
    from mlnb.monitoring.comparison import Comparison
    from mlnb.scaling.batching import Prediction
    from mlnb.serving.service import Line

__all__ = ["Mirror"]

_log = logging.getLogger(__name__)

_GATHER = 0.05  # seconds in which requests are gathered before they are sent together
_MOST_ROWS = 4096  # that wait; what comes on top is left out, and counted


class Mirror:
    """Sends requests that were answered to a version in processes of its own, and compares its answers.

    Nobody waits for it. When it does not keep up, requests are left out: its queue never grows.

    Parameters
    ----------
    line : Line
        The version, in processes that yield to all others.
    share : float
        Of the requests, in percent.
    comparison : Comparison
    rng : Random
        Chooses the share.
    """

    def __init__(self, line: Line, *, share: float, comparison: Comparison, rng: random.Random) -> None:
        self.line = line
        self.share = share
        self.comparison = comparison
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[PredictionEvent] = deque()
        self._rows = 0  # that wait
        self._asked = 0  # requests that it works on
        self._sending: asyncio.TimerHandle | None = None
        self._closed = False
        line.pool.answered = self._answered

    def observe(self, events: Sequence[PredictionEvent]) -> None:
        """Take a copy of what was answered."""
        own, share = self.line.version.number, self.share / 100
        for event in events:
            if event.error is not None or event.version == own or (share < 1 and self._rng.random() >= share):
                continue
            if self._rows + event.rows > _MOST_ROWS:
                self.comparison.dropped(1)
                continue
            self._rows += event.rows
            self._waiting.append(event)
        if self._waiting and self._sending is None and not self._asked and not self._closed:
            self._sending = self._loop.call_later(_GATHER, self._send)

    async def close(self) -> None:
        """End it; what it works on is thrown away."""
        self._closed = True
        if self._sending is not None:
            self._sending.cancel()
        self._waiting.clear()
        await self.line.pool.drain(within=0)

    def _send(self) -> None:
        self._sending = None
        events, self._waiting, self._rows = list(self._waiting), deque(), 0
        signature, pool = self.line.version.signature, self.line.pool
        deadline = self._loop.time() + pool.timeout
        self._asked += len(events)
        for event in events:
            query = Query(event.inputs)
            job = Job(
                query.rows, event.rows, query.probabilities, deadline, self._failed, self._gone, event,
                alone=not query.joins(signature),
            )  # fmt: skip
            try:
                pool.submit(job)
            except MlnbError as error:
                job.tell(error)

    def _gone(self) -> bool:
        return self._closed

    def _answered(self, jobs: list[Job], prediction: Prediction) -> None:
        if len(jobs) == 1:
            jobs[0].count = len(prediction.values)
        start = 0
        for job in jobs:
            event, end = job.asker, start + job.count
            if not job.told:
                self.comparison.record(
                    event.request_id, event.at, event.inputs, event.prediction, prediction.values[start:end]
                )
                self._done()
            start = end

    def _failed(self, error: Prediction | BaseException) -> None:
        if self._closed:
            return
        self.comparison.failed(1, error.reason if isinstance(error, PredictionError) else str(error))
        self._done()

    def _done(self) -> None:
        self._asked -= 1
        if not self._asked and self._waiting and self._sending is None and not self._closed:
            self._sending = self._loop.call_later(_GATHER, self._send)
