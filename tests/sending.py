"""Requests that are sent at given times, whatever the answers take, from a process of its own.

Run as a program it sends them, and then says what came.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import orjson
from loading import Numbered

_SOON = 0.5  # seconds until a process is there
_RESTED = 2.0  # seconds after which a connection is not used again


class Paced(Numbered):
    """Sleeps ``seconds`` for each row, as a model does that waits for a GPU or a disk; the example row is quick."""

    def predict(self, rows: Any) -> Any:
        firsts = np.asarray(rows, float)[:, 0]
        if firsts[0] >= 1:
            time.sleep(self.seconds * len(firsts))
        return firsts + 1e6 * self.number


class Sent(NamedTuple):
    """One request: when it was to be sent, and was, and answered, by the clock that all processes share."""

    due: float
    sent: float
    received: float
    status: int
    version: int
    right: bool
    words: str

    @property
    def good(self) -> bool:
        return self.status == 200 and self.right

    @property
    def seconds(self) -> float:
        return self.received - self.due


class Sending:
    """Sends one row at each of the times, on as many connections as it takes.

    Parameters
    ----------
    url : str
        Of a deployment of :class:`Paced` or :class:`~loading.Numbered`.
    times : sequence of float
        Seconds from ``began``, in order.
    """

    def __init__(self, url: str, times: Sequence[float]) -> None:
        self._process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.began = time.monotonic() + _SOON
        self._told: bytes | None = None
        self._reader = threading.Thread(target=self._read, args=(orjson.dumps([url, self.began, list(times)]),))
        self._reader.start()

    def _read(self, asked: bytes) -> None:
        self._told = self._process.communicate(asked)[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._reader.join()

    @property
    def over(self) -> bool:
        return not self._reader.is_alive()

    def answers(self) -> list[Sent]:
        """Wait for them all; return them in the order of their times."""
        self._reader.join()
        assert self._told is not None
        return [Sent(*one) for one in orjson.loads(self._told)]


def bad(answers: Sequence[Sent]) -> Counter[tuple[int, str]]:
    """Return what was not good, by status and words."""
    return Counter((one.status, one.words) for one in answers if not one.good)


class _Sender:
    def __init__(self, url: str) -> None:
        host, _, path = url.removeprefix("http://").partition("/")
        self.host, _, port = host.partition(":")
        self.port = int(port)
        lines = [f"POST /{path}/predict HTTP/1.1", f"Host: {host}", "Content-Type: application/json"]
        self.head = "\r\n".join([*lines, "Content-Length: %d\r\n\r\n"]).encode()
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, float]] = []

    async def send(self, number: int, due: float) -> Sent:
        await asyncio.sleep(due - time.monotonic())
        sent, first = time.monotonic(), number % 900_000 + 10
        try:
            status, document = await self.ask(orjson.dumps({"instances": [[float(first)]]}))
        except (OSError, EOFError) as error:
            return Sent(due, sent, time.monotonic(), 0, 0, False, repr(error))
        received = time.monotonic()
        if status != 200:
            return Sent(due, sent, received, status, 0, False, document["detail"])
        version = document["version"]
        right = document["prediction"] == [first + 1e6 * version]
        return Sent(due, sent, received, status, version, right, "" if right else repr(document))

    async def connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a connection that was used a moment ago, or a new one: servers close those that rest."""
        while self.idle:
            reader, writer, used = self.idle.pop()
            if time.monotonic() - used < _RESTED:
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self.host, self.port)

    async def ask(self, body: bytes) -> tuple[int, Any]:
        reader, writer = await self.connected()
        writer.write(self.head % len(body) + body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r", 1)[0])
        document = orjson.loads(await reader.readexactly(length))
        self.idle.append((reader, writer, time.monotonic()))
        return int(head.split(b" ", 2)[1]), document


async def _send(url: str, began: float, times: Sequence[float]) -> list[Sent]:
    sender = _Sender(url)
    answers = await asyncio.gather(*(sender.send(number, began + at) for number, at in enumerate(times)))
    for _, writer, _ in sender.idle:
        writer.close()
    return answers


if __name__ == "__main__":
    sys.stdout.buffer.write(orjson.dumps([tuple(one) for one in asyncio.run(_send(*orjson.loads(sys.stdin.read())))]))
