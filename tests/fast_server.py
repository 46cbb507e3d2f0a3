"""A real uvicorn in a thread whose protocol is the fast one, and a client that sends bytes as they are."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from waiting import wait_until

from mlnb.serving.acceptor import Acceptor
from mlnb.serving.exchange import Exchange, Handler
from mlnb.serving.protocol import PredictProtocol

TEXT = b"content-type: text/plain\r\n"
MAX_BODY = 10_000
GET = b"GET /other HTTP/1.1\r\nHost: test\r\n\r\n"


def post(path: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: test", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(path: str, *chunks: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._file = sock.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self) -> Reply:
        """Return the next answer; raise EOFError where the server has closed."""
        line = self._file.readline()
        if not line:
            raise EOFError
        headers: dict[str, str] = {}
        while (header := self._file.readline().decode()) != "\r\n":
            name, _, value = header.partition(":")
            assert name.lower() not in headers
            headers[name.lower()] = value.strip()
        return Reply(int(line.split()[1]), headers, self._file.read(int(headers.get("content-length", 0))))

    def ask(self, data: bytes) -> Reply:
        self.send(data)
        return self.read()

    def rest(self) -> bytes:
        """Return all that comes until the server closes."""
        return self._file.read()


@dataclass
class Running:
    """A server that runs."""

    port: int
    server: Server
    thread: threading.Thread
    seen: list[Exchange] = field(default_factory=list)  # by the handlers

    def connect(self) -> Client:
        return Client(socket.create_connection(("127.0.0.1", self.port), timeout=10))

    def call(self, function: Callable[[], object]) -> None:
        """Let the server's loop do something, and wait until it has."""
        done = threading.Event()

        def do() -> None:
            function()
            done.set()

        self.server.loop.call_soon_threadsafe(do)
        assert done.wait(10)

    def connections(self) -> list[Any]:
        return list(self.server.server_state.connections)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)
        assert not self.thread.is_alive()


class Server(uvicorn.Server):
    """Accepts with an Acceptor."""

    loop: asyncio.AbstractEventLoop
    acceptor: Acceptor

    def protocol(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(
            config=self.config, server_state=self.server_state, app_state={}, _loop=self.loop
        )
        return protocol

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        assert sockets is not None
        self.loop = asyncio.get_running_loop()
        self.servers = []
        self.acceptor = Acceptor(self.loop, sockets[0], self.protocol)
        self.acceptor.start()
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.acceptor.stop()
        await super().shutdown(sockets)


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """Everything that is not fast: says what it was asked."""
    request = Request(scope, receive)
    body = await request.body()
    said = f"asgi {request.method} {request.url.path} {body.decode()}"
    await Response(said, media_type="text/plain")(scope, receive, send)


def handlers() -> dict[bytes, Handler]:
    return {
        b"/echo": lambda exchange: exchange.respond(200, TEXT, exchange.body),
        b"/length": lambda exchange: exchange.respond(200, TEXT, b"%d" % len(exchange.body)),
        b"/big": lambda exchange: exchange.respond(200, TEXT, bytes(1_000_000)),
        b"/process": lambda exchange: exchange.respond(200, TEXT, b"%d" % os.getpid()),
        b"/held": lambda _: None,
        b"/fails": lambda exchange: exchange.respond(1 // 0, b"", b""),
    }


def server_of(loop: str, routes: dict[bytes, Handler], limits: dict[str, float]) -> Server:
    protocol: Any = functools.partial(
        type("Limited", (PredictProtocol,), limits),
        routes=routes.get,
        max_body=MAX_BODY,
        too_large=lambda exchange: exchange.respond(413, TEXT, b"too large"),
    )
    config = uvicorn.Config(
        asgi, http=protocol, loop=loop, lifespan="off", ws="none", log_config=None, access_log=False,
        server_header=False, timeout_graceful_shutdown=3,
    )  # fmt: skip
    return Server(config)


@contextmanager
def running(loop: str, sock: socket.socket | None = None, **limits: float) -> Iterator[Running]:
    """Serve some routes at once, /held when a test says so, /fails never, and anything else through ASGI."""
    seen: list[Exchange] = []

    def noted(handler: Handler) -> Handler:
        def note(exchange: Exchange) -> None:
            seen.append(exchange)
            handler(exchange)

        return note

    server = server_of(loop, {path: noted(handler) for path, handler in handlers().items()}, limits)
    sock = sock or socket.create_server(("127.0.0.1", 0), backlog=2048)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    wait_until(lambda: server.started or not thread.is_alive())
    here = Running(sock.getsockname()[1], server, thread, seen)
    try:
        yield here
    finally:
        here.stop()
        sock.close()


def take_over(loop: str, control: socket.socket) -> None:
    """Serve on the listening socket that comes over ``control``, and the connections behind it; until that closes."""
    _, (listening,), _, _ = socket.recv_fds(control, 1, 1)
    with running(loop, socket.socket(fileno=listening)) as here:
        control.send(b"ready")
        while True:
            leftover, descriptors, _, _ = socket.recv_fds(control, 100_000, 1)
            if not descriptors:
                return
            here.server.loop.call_soon_threadsafe(here.server.acceptor.adopt, descriptors[0], leftover[1:])
