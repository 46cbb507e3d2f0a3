"""A version that sees a copy of the requests: nobody waits for it, and nobody gets its answers."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from mlnb.errors import InvalidInputError, MlnbError, PredictionError
from mlnb.scaling.batching import Job
from mlnb.serving.service import Query

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from mlnb.events import PredictionEvent
    from mlnb.monitoring.comparison import Comparison
    from mlnb.scaling.batching import Batch, Prediction
    from mlnb.serving.service import Line

__all__ = ["Mirror"]

_GATHER = 0.005  # seconds in which requests are gathered before they are sent together
_TOGETHER = 8  # requests that are sent together at most: those who wait for answers share the loop
_MOST_ROWS = 4096  # that wait; what comes on top is left out, and counted


class Mirror:
    """Sends requests that were answered to a version in processes of its own, and compares its answers.

    Nobody waits for it. When it does not keep up, requests are left out: its queue never grows. It is given about a
    thousand requests a second at most, and their answers are compared one by one, for it shares the loop with those who
    are served.

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
        self._found: deque[tuple[PredictionEvent, Any]] = deque()  # its answers, to be compared
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
                self.comparison.dropped(event.rows)
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
        signature, pool = self.line.version.signature, self.line.pool
        deadline = self._loop.time() + pool.timeout
        events = [self._waiting.popleft() for _ in range(min(_TOGETHER, len(self._waiting)))]
        self._rows -= sum(event.rows for event in events)
        self._asked += len(events)
        for event in events:
            query = Query(event.inputs)
            job = Job(
                query.rows, event.rows, query.probabilities, deadline, partial(self._failed, event), self._gone, event,
                alone=not query.joins(signature),
            )  # fmt: skip
            try:
                pool.submit(job)
            except MlnbError as error:
                job.tell(error)

    def _gone(self) -> bool:
        return self._closed

    def _answered(self, jobs: list[Job], prediction: Prediction, _: Batch) -> None:
        if len(jobs) == 1:
            jobs[0].count = len(prediction.values)
        start = 0
        for job in jobs:
            end = start + job.count
            if not job.told:
                self._found.append((job.asker, prediction.values[start:end]))
            start = end
        self._loop.call_soon(self._compare)

    def _compare(self) -> None:
        """Compare the answers to one request: the next ones after those who wait for theirs had a turn."""
        if self._closed or not self._found:
            return
        event, values = self._found.popleft()
        assert event.prediction is not None  # noqa: S101 - for the type checker: it was answered
        try:
            self.comparison.record(event.request_id, event.at, event.inputs, event.prediction, values)
        except Exception as error:  # noqa: BLE001 - answers may be any objects, with an == of their own
            self.comparison.failed(event.rows, f"Its answers cannot be compared: {type(error).__name__}: {error}")
        self._loop.call_soon(self._compare)
        self._done()

    def _failed(self, event: PredictionEvent, error: Prediction | BaseException) -> None:
        if self._closed:
            return
        if isinstance(error, PredictionError):
            self.comparison.failed(event.rows, error.reason)
        elif isinstance(error, InvalidInputError):
            self.comparison.failed(event.rows, error.message)
        else:  # it had no time for it
            self.comparison.dropped(event.rows)
        self._done()

    def _done(self) -> None:
        self._asked -= 1
        if not self._asked and self._waiting and self._sending is None and not self._closed:
            self._sending = self._loop.call_later(_GATHER, self._send)
