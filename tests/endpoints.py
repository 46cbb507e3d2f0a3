"""Small HTTP endpoints for a load balancer: on a thread, in a process, or as bytes on a socket.

Run as a program, with a port: answers there until it is ended.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qs

import uvicorn
from waiting import free_port, is_open, wait_until

from mlnb.serving.server import Server

CHUNK = bytes(64 * 2**10)


class Endpoint:
    """An ASGI app that says what it was asked.

    ``/predict`` predicts the sums of the rows, ``/status/N`` answers N, ``/stream`` sends as many chunks as asked for,
    ``/hold`` answers when it is released, and all else comes back as it was.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.ready = True
        self.status: int | None = None  # of every answer but that of /readyz
        self.headers: list[tuple[bytes, bytes]] = []
        self.seen: Counter[str] = Counter()
        self.sent = 0
        self.left = 0
        self.holding = 0
        self.release = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        self.seen[path] += 1
        if path == "/readyz":
            await self._answer(send, 200 if self.ready else 503, b"")
        elif self.status is not None:
            await self._answer(send, self.status, b"as told", headers=self.headers)
        elif path == "/stream":
            await self._stream(scope, send)
        elif path == "/hold":
            await self._hold(receive, send)
        elif path.startswith("/status/"):
            await self._answer(send, int(path.rpartition("/")[2]), b"")
        elif path.endswith("/predict"):
            rows = json.loads(await self._read(receive))["instances"]
            sums = [sum(row.values() if isinstance(row, dict) else row) for row in rows]
            await self._answer(send, 200, json.dumps({"prediction": sums, "by": self.name}).encode())
        else:
            await self._echo(scope, receive, send)

    async def _read(self, receive: Any) -> bytes:
        pieces, more = [], True
        while more:
            message = await receive()
            pieces.append(message.get("body", b""))
            more = message.get("more_body", False)
        return b"".join(pieces)

    async def _answer(self, send: Any, status: int, body: bytes, headers: Any = ()) -> None:
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
        await send({"type": "http.response.body", "body": body})

    async def _stream(self, scope: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(int(parse_qs(scope["query_string"].decode())["chunks"][0])):
            await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
            self.sent += len(CHUNK)
        await send({"type": "http.response.body", "body": b""})

    async def _hold(self, receive: Any, send: Any) -> None:
        await self._read(receive)
        self.holding += 1
        gone = asyncio.create_task(receive())
        released = asyncio.create_task(asyncio.to_thread(self.release.wait, 20))
        await asyncio.wait({gone, released}, return_when=asyncio.FIRST_COMPLETED)
        self.holding -= 1
        self.left += gone.done()
        gone.cancel()
        await self._answer(send, 200, self.name.encode())

    async def _echo(self, scope: Any, receive: Any, send: Any) -> None:
        body = await self._read(receive)
        asked = {
            "by": self.name,
            "method": scope["method"],
            "target": (scope["raw_path"] + b"?" + scope["query_string"]).decode(),
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
            "length": len(body),
            "body": body[:1000].decode("latin-1"),
        }
        await self._answer(send, 200, json.dumps(asked).encode(), headers=self.headers)


@contextmanager
def endpoints(count: int) -> Iterator[list[tuple[Endpoint, Server]]]:
    """Run endpoints named a, b, c .. on threads."""
    started: list[tuple[Endpoint, Server]] = []
    try:
        for name in "abcdefgh"[:count]:
            app = Endpoint(name)
            started.append((app, Server(app, port=0).start()))
        yield started
    finally:
        for app, server in started:
            app.release.set()
            server.stop()


class Process:
    """An endpoint in a process of its own, which can be killed and started again on its port."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._process = subprocess.Popen([sys.executable, __file__, str(self.port)])
        wait_until(lambda: is_open(self.port))

    def kill(self) -> None:
        """End it as kill -9 does."""
        self._process.kill()
        self._process.wait()


@contextmanager
def speaking(answer: Callable[[int, socket.socket], None]) -> Iterator[str]:
    """Run ``answer(number, connection)`` for each connection, from 0; then the connection is closed."""
    listener = socket.create_server(("127.0.0.1", 0))

    def work() -> None:
        number = 0
        with suppress(OSError):  # the listener was closed
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    answer(number, connection)
                number += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)
        assert not thread.is_alive()


def hang_up(_: int, connection: socket.socket) -> None:
    """Read a request, and close without a word."""
    connection.recv(2**16)


if __name__ == "__main__":
    uvicorn.run(Endpoint(sys.argv[1]), port=int(sys.argv[1]), log_level="critical", lifespan="off")
