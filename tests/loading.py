"""Load on an endpoint from a process of its own, and models whose answers tell which version gave them.

Run as a program it is the load: connections that ask without end until standard input closes, and then say what came.
"""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import os
import re
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import orjson
import psutil
from waiting import wait_until

import mlnb

CONNECTIONS = 64
MOST = 400_000  # requests of one load, whatever the test does

_LAST = 30.0  # seconds in which the last answers come

BROKEN, REFUSED = 0, -1  # in the place of a status: the connection ended, or there was none
RELEASED = threading.Event()  # predictions that hang in this process
_COUNTS = struct.Struct("<qq")  # answers, and those among them that are not good


class Numbered:
    """Says of each row its first value and a million times its own number: answers of two versions differ.

    With ``seconds`` it sleeps that long over each batch.
    """

    def __init__(self, number: int, *, seconds: float = 0.0, weights: int = 0) -> None:
        self.number = number
        self.seconds = seconds
        self.weights = np.ones(weights)

    def predict(self, rows: Any) -> Any:
        firsts = np.asarray(rows, float)[:, 0]
        if self.seconds and firsts[0] >= 1:  # the example is quick
            time.sleep(self.seconds)
        return firsts + 1e6 * self.number


class Awaited(Numbered):
    """Takes its time to load in another process: says ``loading`` by a file in ``folder``, and waits for one ``go``."""

    def __init__(self, number: int, folder: str) -> None:
        super().__init__(number)
        self.folder = folder
        self.home = os.getpid()

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if os.getpid() != self.home:
            Path(self.folder, "loading").touch()
            end = time.monotonic() + 30
            while not Path(self.folder, "go").exists() and time.monotonic() < end:
                time.sleep(0.01)  # between two looks


class Fragile:
    """Does what a row says: 1 crashes the process, 2 hangs, 3 gives the wrong shape, 4 raises; else it is doubled."""

    def __init__(self, *, doomed: bool = False) -> None:
        self.doomed = doomed
        self.home = os.getpid()

    def predict(self, rows: Any) -> Any:
        firsts = np.asarray(rows, float)[:, 0].tolist()
        if 1.0 in firsts:
            ctypes.string_at(0)
        if 2.0 in firsts:
            RELEASED.wait(600)
        if 3.0 in firsts:
            return np.zeros((len(firsts) + 5, 2))
        if 4.0 in firsts:
            raise ValueError("four is too much")
        return [2 * value for value in firsts]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.doomed and os.getpid() != self.home:  # not where it is deployed, but in each replica
            ctypes.string_at(0)


class Asked(NamedTuple):
    """One request: when, on which connection, and how it went."""

    sent: float
    received: float
    connection: int
    status: int
    version: int
    right: bool
    words: str

    @property
    def good(self) -> bool:
        return self.status == 200 and self.right


class Lives:
    """When each version may have been live, by the clock that all processes share."""

    def __init__(self, deployment: mlnb.Deployment) -> None:
        self._deployment = deployment
        self._spans = [[float(deployment.version.number), float("-inf"), float("inf")]]

    def change(self, action: Callable[[], object]) -> None:
        """Do what may make another version live."""
        before = time.monotonic()
        action()
        number = float(self._deployment.version.number)
        if number != self._spans[-1][0]:
            self._spans[-1][2] = time.monotonic()
            self._spans.append([number, before, float("inf")])

    def allow(self, one: Asked) -> bool:
        """Say whether the version that answered was live at some instant between request and answer."""
        return any(
            number == one.version and since <= one.received and until >= one.sent
            for number, since, until in self._spans
        )


class Load:
    """Asks from a child process until the block ends.

    Parameters
    ----------
    url : str
        Of a deployment of :class:`Numbered`.
    connections : int
        Kept alive; one that breaks is opened anew at once.
    pause : float
        Seconds of each connection between an answer and the next request.
    doubled : bool
        The model is :class:`Fragile`.
    """

    def __init__(self, url: str, *, connections: int = CONNECTIONS, pause: float = 0.01, doubled: bool = False) -> None:
        self._arguments = [url, str(connections), str(pause), str(int(doubled))]
        self.answers: list[Asked] = []

    def __enter__(self) -> Self:
        self._file = tempfile.NamedTemporaryFile()
        self._file.write(bytes(_COUNTS.size))
        self._file.flush()
        self._counts = mmap.mmap(self._file.fileno(), _COUNTS.size)
        self._process = subprocess.Popen(
            [sys.executable, __file__, *self._arguments, self._file.name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self.more(min(200, 10 * int(self._arguments[1])))
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def count(self) -> int:
        """Answers so far."""
        count: int = _COUNTS.unpack_from(self._counts)[0]
        return count

    def more(self, count: int = 200, *, seconds: float = 30) -> None:
        """Wait until that many more answers have come."""
        wanted = self.count + count
        wait_until(lambda: self.count >= wanted or self._process.poll() is not None, seconds=seconds)
        assert self._process.poll() is None

    def stop(self) -> list[Asked]:
        """End it; return all that was asked."""
        if not self.answers:
            told, _ = self._process.communicate(timeout=60)
            self.answers = [Asked(*one) for one in orjson.loads(told)]
            self._counts.close()
            self._file.close()
        return self.answers


def failures(answers: list[Asked]) -> Counter[tuple[int, str]]:
    """Return what was not good, by status and words."""
    return Counter((one.status, one.words) for one in answers if not one.good)


def processes() -> list[psutil.Process]:
    """Return this process's gateway, zygotes and replicas."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if lives(child) and any(re.search(r"mlnb\.(serving|scaling)", part) for part in child.cmdline()):
                found.append(child)
    return found


def lives(process: psutil.Process) -> bool:
    """Say whether a process runs; one whose parent has not asked for its end does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def gateway(deployment: mlnb.Deployment) -> psutil.Process:
    """Return the process beside this one; after one was killed, as soon as this one knows the next."""
    found: list[psutil.Process] = []

    def knows() -> bool:
        with suppress(psutil.NoSuchProcess):
            found[:] = [psutil.Process(deployment._workspace._hosting._host.pid)]  # type: ignore[union-attr]
        return bool(found) and lives(found[0])

    wait_until(knows)
    return found[0]


def zygote(deployment: mlnb.Deployment) -> psutil.Process:
    """Return the process that forks the replicas."""
    pid = next(replica.pid for replica in deployment.snapshot().replicas if replica.pid)
    parent = psutil.Process(pid).parent()
    assert parent is not None
    return parent


def pids(deployment: mlnb.Deployment) -> set[int]:
    """Return the replicas that are ready."""
    return {one.pid for one in deployment.snapshot().replicas if one.pid and one.state == "ready"}


class _Connection(asyncio.Protocol):
    """Asks one row, or three now and then, waits for the answer, and asks again."""

    def __init__(self, load: _Loading, number: int) -> None:
        self.load = load
        self.number = number
        self.asked = 0
        self.first = 0
        self.rows = 1
        self.sent = 0.0
        self.waiting = False
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.load.connections.add(self)
        self.ask()

    def ask(self) -> None:
        if self.load.over:
            self.transport.close()
            return
        self.asked += 1
        self.first = (self.number * 10_000 + self.asked) % 900_000 + 10
        self.rows = 3 if self.asked % 7 == 0 else 1
        body = orjson.dumps({"instances": [[float(self.first + row)] for row in range(self.rows)]})
        self.waiting = True
        self.sent = time.monotonic()
        self.transport.write(self.load.head % len(body) + body)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, blank, body = self.data.partition(b"\r\n\r\n")
        if not blank:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r", 1)[0])
        if len(body) < length:
            return
        assert len(body) == length, self.data
        self.data = b""
        self.answered(int(head.split(b" ", 2)[1]), orjson.loads(body))
        self.load.rest()
        self.load.loop.call_later(self.load.pause, self.ask_again)

    def ask_again(self) -> None:
        if not self.transport.is_closing():
            self.ask()

    def answered(self, status: int, document: Any) -> None:
        self.waiting = False
        if status != 200:
            self.load.note(self, status, 0, right=False, words=document["detail"])
            return
        version = document["version"]
        given = [float(self.first + row) for row in range(self.rows)]
        expected = [2 * one for one in given] if self.load.doubled else [one + 1e6 * version for one in given]
        right = document["prediction"] == expected
        self.load.note(self, status, version, right=right, words="" if right else repr(document["prediction"]))

    def connection_lost(self, error: Exception | None) -> None:
        self.load.connections.discard(self)
        if self.waiting:
            self.load.note(self, BROKEN, 0, right=False, words=repr(error))
        self.load.rest()
        if not self.load.over:
            self.load.connect(self.number)


class _Loading:
    """All connections, and what came."""

    def __init__(self, url: str, pause: str, doubled: str, counts: str) -> None:
        self.loop = asyncio.get_running_loop()
        self.pause = float(pause)
        self.doubled = bool(int(doubled))
        self.over = False
        self.found: list[Asked] = []
        self.bad = 0
        with Path(counts).open("r+b") as file:
            self.counts = mmap.mmap(file.fileno(), _COUNTS.size)
        host, _, path = url.removeprefix("http://").partition("/")
        self.host, _, port = host.partition(":")
        self.port = int(port)
        lines = [f"POST /{path}/predict HTTP/1.1", f"Host: {host}", "Content-Type: application/json"]
        self.head = "\r\n".join([*lines, "Content-Length: %d\r\n\r\n"]).encode()
        self.tasks: set[asyncio.Task[None]] = set()
        self.connections: set[_Connection] = set()
        self.resting = asyncio.Event()  # nobody asks any more, and all are answered

    def connect(self, number: int) -> None:
        task = self.loop.create_task(self._connect(number))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _connect(self, number: int) -> None:
        while not self.over:
            started = time.monotonic()
            try:
                await self.loop.create_connection(lambda: _Connection(self, number), self.host, self.port)
            except OSError as error:
                self._add(Asked(started, time.monotonic(), number, REFUSED, 0, False, repr(error)))
                await asyncio.sleep(0.05)
            else:
                return

    def rest(self) -> None:
        if self.over and not any(one.waiting for one in self.connections):
            self.resting.set()

    def note(self, one: _Connection, status: int, version: int, *, right: bool, words: str) -> None:
        self._add(Asked(one.sent, time.monotonic(), one.number, status, version, right, words))

    def _add(self, asked: Asked) -> None:
        self.found.append(asked)
        self.bad += not asked.good
        self.over = self.over or len(self.found) >= MOST
        _COUNTS.pack_into(self.counts, 0, len(self.found), self.bad)


async def _load(url: str, connections: str, pause: str, doubled: str, counts: str) -> None:
    load = _Loading(url, pause, doubled, counts)
    for number in range(int(connections)):
        load.connect(number)
    await asyncio.to_thread(sys.stdin.read)
    load.over = True
    load.rest()
    with suppress(TimeoutError):
        await asyncio.wait_for(load.resting.wait(), _LAST)
    sys.stdout.buffer.write(orjson.dumps([tuple(one) for one in load.found]))


if __name__ == "__main__":
    asyncio.run(_load(*sys.argv[1:]))
