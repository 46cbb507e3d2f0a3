"""Load on a server: wrk where many connections are kept busy, a client of our own for bursts and for fixed rates."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

import numpy as np
import uvloop
from benchmarks.serving.environments import UnavailableError

__all__ = ["Answer", "Line", "Load", "Wrk", "at_rate", "burst", "quantile", "request_bytes"]

_LUA = Path(__file__).with_name("load.lua")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_MOST_IN_FLIGHT = 800  # within the usual limit of 1,024 files


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a load saw.

    Attributes
    ----------
    rate : float
        Good answers per second.
    p50, p99, slowest : float
        Seconds to an answer.
    refused : int
        Answers with a status of 400 or more.
    failed : int
        Connections that failed, and requests without an answer.
    """

    rate: float
    p50: float
    p99: float
    slowest: float
    refused: int
    failed: int


@dataclass(frozen=True, slots=True)
class Answer:
    """One request's status (0 if no answer came) and seconds."""

    status: int
    seconds: float


class Wrk:
    """wrk at work from now on, the lines of ``bodies`` in turn; :meth:`result` waits for its end."""

    def __init__(self, url: str, bodies: Path, *, connections: int, seconds: float) -> None:
        options = ["-t", "1", "-c", str(connections), "-d", f"{round(seconds)}s", "--timeout", "10s", "-s", str(_LUA)]
        self._process = subprocess.Popen(
            ["wrk", *options, url, "--", str(bodies)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def wait(self) -> str:
        """Wait for its end, whatever it saw; return what it said last."""
        said, _ = self._process.communicate(timeout=120)
        return said.strip().splitlines()[-1]

    def result(self) -> Load:
        """Return what it saw.

        Raises
        ------
        UnavailableError
            If wrk failed, or not one answer was good.
        """
        last = self.wait()
        if not last.startswith("{"):
            raise UnavailableError(f"wrk said: {last}")
        seen = json.loads(last)
        good = seen["answers"] - seen["refused"]
        if good <= 0:
            raise UnavailableError(f"under load it gave {seen['refused']} refusals and no good answer")
        return Load(
            rate=good / seen["microseconds"] * 1e6,
            p50=seen["p50"] / 1e6,
            p99=seen["p99"] / 1e6,
            slowest=seen["slowest"] / 1e6,
            refused=seen["refused"],
            failed=seen["failed"],
        )


class Line:
    """One blocking keep-alive connection: the least that a client can cost."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, request: bytes) -> Answer:
        """Send a request and wait for the whole answer."""
        started = time.perf_counter()
        self._socket.sendall(request)
        received = b""
        while (status := _status(received)) is None:
            chunk = self._socket.recv(2**18)
            if not chunk:
                return Answer(0, time.perf_counter() - started)
            received += chunk
        return Answer(status, time.perf_counter() - started)


def request_bytes(path: str, body: bytes, *, content_type: str = "application/json", accept: str = "*/*") -> bytes:
    """Return a POST as it goes over the wire."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
        f"Accept: {accept}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def burst(port: int, request: bytes, *, connections: int) -> list[Answer]:
    """Open connections all at once, one request on each; the seconds count from before connecting."""
    return uvloop.run(_burst(port, request, connections))


def at_rate(port: int, request: bytes, *, rate: float, seconds: float) -> list[Answer]:
    """Send at a fixed rate whatever the answers do; the seconds count from when a request was due.

    A request due while 800 are waiting for their answer is not sent, and has status 0.
    """
    return uvloop.run(_at_rate(port, request, rate, seconds))


def quantile(answers: list[Answer], q: float) -> float:
    """Return a quantile of the good answers' seconds; NaN without any."""
    good = [answer.seconds for answer in answers if answer.status == 200]
    return float(np.quantile(good, q)) if good else float("nan")


class _Connection(asyncio.Protocol):
    """A keep-alive connection with at most one request in flight."""

    def __init__(self) -> None:
        self._received = b""
        self._answered: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._received += data
        if (status := _status(self._received)) is not None:
            self._resolve(status)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._resolve(0)

    def ask(self, request: bytes) -> asyncio.Future[int]:
        self._received = b""
        self._answered = asyncio.get_running_loop().create_future()
        if self.transport.is_closing():
            self._resolve(0)
        else:
            self.transport.write(request)
        return self._answered

    def _resolve(self, status: int) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(status)


async def _burst(port: int, request: bytes, connections: int) -> list[Answer]:
    async def one() -> Answer:
        started = time.perf_counter()  # the loop's own clock counts milliseconds
        connection = await _connect(port)
        status = await connection.ask(request) if connection else 0
        seconds = time.perf_counter() - started
        if connection:
            connection.transport.close()
        return Answer(status, seconds)

    return await asyncio.gather(*(one() for _ in range(connections)))


async def _at_rate(port: int, request: bytes, rate: float, seconds: float) -> list[Answer]:
    idle: list[_Connection] = []
    in_flight: set[asyncio.Task[None]] = set()
    answers: list[Answer] = []

    async def one(due: float) -> None:
        connection = idle.pop() if idle else await _connect(port)
        status = await connection.ask(request) if connection else 0
        answers.append(Answer(status, time.perf_counter() - due))
        if connection and status:
            idle.append(connection)

    started = time.perf_counter()
    for at in range(round(rate * seconds)):
        due = started + at / rate
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        if len(in_flight) < _MOST_IN_FLIGHT:
            task = asyncio.create_task(one(due))
            in_flight.add(task)
            task.add_done_callback(in_flight.discard)
        else:
            answers.append(Answer(0, 0.0))
    await asyncio.gather(*in_flight)
    for connection in idle:
        connection.transport.close()
    return answers


async def _connect(port: int) -> _Connection | None:
    try:
        _, connection = await asyncio.get_running_loop().create_connection(_Connection, "127.0.0.1", port)
    except OSError:
        return None
    return connection


def _status(received: bytes) -> int | None:
    """Return the status once the answer is complete."""
    head, blank, body = received.partition(b"\r\n\r\n")
    if not blank:
        return None
    length = _LENGTH.search(head)
    complete = len(body) >= (int(length[1]) if length else 0)
    return int(head[9:12]) if complete else None
