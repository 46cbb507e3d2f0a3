"""The load itself: kept-alive connections on a loop of their own, in a process beside the one that is measured."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import threading
from array import array
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import ceil
from time import perf_counter, thread_time
from typing import TYPE_CHECKING, cast

from httptools import HttpParserError, HttpResponseParser

from mlnb.monitoring.load.step import Step

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

__all__ = ["OVERHEAD", "Target", "main", "measure"]

_CONNECTING = 1.0  # seconds that the connections of a step have to come up before its load starts
_WARM_UP = 0.25  # seconds at most, and at most a quarter of the step
_CLOSING = 1.0  # seconds that its connections have to end
OVERHEAD = _CONNECTING + _WARM_UP + _CLOSING
_TICK = 0.001  # seconds between two looks at what is due
_RETRY = 0.05  # seconds after a refused connection
_REFUSED = frozenset({429, 503})
_MILLI = 1e-3


@dataclass(frozen=True, slots=True)
class Target:
    """Where the requests go, and the bytes of one."""

    host: str
    port: int
    request: bytes


async def measure(
    target: Target, *, connections: Sequence[int], seconds: float, rate: float | None, patience: float
) -> AsyncIterator[Step]:
    """Do one step after the other; end early when one brought no answer at all.

    Parameters
    ----------
    target : Target
    connections : sequence of int
        Of each step.
    seconds : float
        Of each step. It lasts longer where not as many answers as connections have come by then.
    rate : float or None
        Requests per second that become due whatever comes back. None: each connection sends its next request when its
        last one is answered.
    patience : float
        Seconds that a step may last longer, and that its last answers may take.
    """
    for number in connections:
        step = await _Step(target, number, rate=rate, patience=patience).measure(seconds)
        yield step
        if not step.good + step.refused:
            return


class _Step:
    """What the connections of one step share."""

    def __init__(self, target: Target, connections: int, *, rate: float | None, patience: float) -> None:
        self.request = target.request
        self.open: set[_Connection] = set()
        self._target = target
        self._connections = connections
        self._rate = rate
        self._patience = patience
        self._idle: dict[_Connection, None] = {}  # in the order in which they became free
        self._opening: set[asyncio.Task[None]] = set()
        self._running = True
        self._began: float | None = None
        self._taken = 0  # of what is due by the rate
        self._counting = False
        self._latencies = array("d")
        self._refused = self._failed = 0
        self._failure = ""

    async def measure(self, seconds: float) -> Step:
        for _ in range(self._connections):
            self.connect()
        await asyncio.wait(self._opening, timeout=_CONNECTING)
        self._begin()
        await asyncio.sleep(min(_WARM_UP, seconds / 4))
        self._counting = True
        cpu, began = thread_time(), perf_counter()
        deadline = began + seconds + self._patience
        await asyncio.sleep(seconds)
        enough = self._connections if self._rate is None else 1
        await _until(lambda: len(self._latencies) + self._refused + self._failed >= enough, deadline=deadline)
        elapsed, cpu = perf_counter() - began, thread_time() - cpu
        good, refused, unsent = len(self._latencies), self._refused, self._backlog()
        self._running = False
        await _until(lambda: not any(one.busy for one in self.open), deadline=deadline)
        await self._close()
        return Step(
            connections=self._connections, seconds=elapsed, good=good, refused=refused, failed=self._failed,
            unsent=unsent, cpu=cpu / elapsed, failure=self._failure, **_quantiles(self._latencies[:good]),
        )  # fmt: skip

    def connect(self) -> None:
        """Open a connection in the background, again and again until it stands."""
        if self._running:
            task = asyncio.get_running_loop().create_task(self._connect())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    def lost(self, connection: _Connection) -> None:
        """Open another in its place."""
        self.open.discard(connection)
        self._idle.pop(connection, None)
        self.connect()

    def answered(self, status: int, latency: float) -> None:
        if not self._counting:
            return
        if status in _REFUSED:
            self._refused += 1
        elif status // 100 == 2:  # noqa: PLR2004 - a success
            self._latencies.append(latency)
        else:
            self.fail(f"status {status}")

    def fail(self, reason: str) -> None:
        if self._counting:
            self._failed += 1
            self._failure = self._failure or reason

    def offer(self, connection: _Connection, now: float) -> None:
        """Let a free connection send what is due, or wait."""
        due = self._due(now)
        if due is None:
            self._idle[connection] = None
        else:
            connection.send(due)

    def _due(self, now: float) -> float | None:
        if not self._running or self._began is None:
            return None
        if self._rate is None:
            return now
        due = self._began + self._taken / self._rate
        if due > now:
            return None
        self._taken += 1
        return due

    def _backlog(self) -> int:
        if self._rate is None or self._began is None:
            return 0
        return max(0, int((perf_counter() - self._began) * self._rate) - self._taken)

    def _begin(self) -> None:
        self._began = perf_counter()
        self._serve()

    def _serve(self) -> None:
        """Let the idle connections send what is due by now, and look again soon if there is a rate."""
        now = perf_counter()
        while self._idle and (due := self._due(now)) is not None:
            self._take_idle().send(due)
        if self._running and self._rate is not None:
            asyncio.get_running_loop().call_later(_TICK, self._serve)

    def _take_idle(self) -> _Connection:
        connection = next(iter(self._idle))
        del self._idle[connection]
        return connection

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        while self._running:
            try:
                async with asyncio.timeout(self._patience):
                    await loop.create_connection(lambda: _Connection(self), self._target.host, self._target.port)
            except OSError as error:
                self.fail(f"no connection: {error.strerror or error or 'not in time'}")
                await asyncio.sleep(_RETRY)
            else:
                return

    async def _close(self) -> None:
        """Give up what has no answer yet, and leave no connection."""
        for task in self._opening:
            task.cancel()
        for connection in list(self.open):
            if connection.busy:
                self.fail("no answer in time")
            connection.close()
        self._counting = False
        await _until(lambda: not self.open and not self._opening, deadline=perf_counter() + _CLOSING)


class _Connection(asyncio.Protocol):
    """One request after the other on a kept-alive connection."""

    _transport: asyncio.Transport

    def __init__(self, step: _Step) -> None:
        self._step = step
        self._due = 0.0  # when the request in flight was; 0 without one
        self._parser = HttpResponseParser(self)

    @property
    def busy(self) -> bool:
        return self._due > 0

    def send(self, due: float) -> None:
        self._due = due
        self._transport.write(self._step.request)

    def close(self) -> None:
        self._due = 0.0
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # which uvloop's does not inherit
        self._step.open.add(self)
        self._step.offer(self, perf_counter())

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserError:
            self._step.fail("the answer was not HTTP")
            self.close()

    def on_message_complete(self) -> None:
        """Count an answer and send what is due next; called by the parser."""
        now, step, due = perf_counter(), self._step, self._due
        if not due:
            return
        self._due = 0.0
        step.answered(self._parser.get_status_code(), now - due)
        if self._parser.should_keep_alive():
            step.offer(self, now)
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's own signature
        if self.busy:
            self._step.fail("the connection broke before the answer was complete")
        self._step.lost(self)


async def _until(condition: Callable[[], bool], *, deadline: float) -> None:
    while not condition() and perf_counter() < deadline:  # noqa: ASYNC110 - an event would cost each request
        await asyncio.sleep(0.005)


def _quantiles(seconds: Sequence[float]) -> dict[str, float | None]:
    """Return latencies in milliseconds by nearest rank."""
    ranked = sorted(seconds)
    return {
        f"p{share}": ranked[ceil(share / 100 * len(ranked)) - 1] / _MILLI if ranked else None for share in (50, 90, 99)
    }


def main() -> None:
    """Do what a line of JSON on the standard input asks, print a line for each step, and end with the parent.

    The line is followed by the bytes of the request. The parent keeps the standard input open as long as it lives.
    """
    plan = json.loads(sys.stdin.buffer.readline())
    target = Target(plan.pop("host"), plan.pop("port"), sys.stdin.buffer.read(plan.pop("size")))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    gc.disable()  # its pauses would look like the endpoint's
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_report(measure(target, **plan)))


async def _report(steps: AsyncIterator[Step]) -> None:
    async for step in steps:
        print(json.dumps(asdict(step)), flush=True)  # noqa: T201 - this is how it answers its parent


def _end_with_parent() -> None:
    os.read(0, 1)
    os._exit(1)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    with suppress(ImportError):
        from uvloop import new_event_loop

        return new_event_loop
    return asyncio.new_event_loop


if __name__ == "__main__":
    main()
