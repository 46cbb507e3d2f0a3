"""The server and gateway beside a kernel, steered by it through a socket."""

from __future__ import annotations

import asyncio
import itertools
import os
from typing import TYPE_CHECKING, Any, cast

from mlnb.errors import InvalidInputError, MlnbError
from mlnb.scaling.frames import FrameReader, pack
from mlnb.serving.app import create_app
from mlnb.serving.gateway import Gateway
from mlnb.serving.handover import Adopting, hand_over
from mlnb.serving.predicting import Routes
from mlnb.serving.server import Server, rest_collector

if TYPE_CHECKING:
    import socket

    from mlnb.scaling.preloading import Zygotes

__all__ = ["READY", "run"]

_GIVEN_UP = 20.0  # seconds that ending may take
READY = -1  # the number of the message that says so


def run(control: socket.socket, line: socket.socket, listening: socket.socket, zygotes: Zygotes) -> None:
    """Serve until the kernel closes its end of ``control``, however it ends."""
    gateway = Gateway(zygotes)
    server = Server(create_app(gateway.served), sock=listening, accepting=False, routes=Routes(gateway.served))
    steering = _Steering(gateway, server, line)
    server.on_start(lambda: asyncio.ensure_future(steering.connect(control)))
    rest_collector()
    server.run()


class _Steering(asyncio.Protocol):
    """Does what the kernel says, and answers when it is done."""

    def __init__(self, gateway: Gateway, server: Server, line: socket.socket) -> None:
        self._gateway = gateway
        self._server = server
        self._line = line
        self._reader = FrameReader()
        self._numbers = itertools.count()  # of what the kernel asks, as it comes
        self._transport: asyncio.WriteTransport | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def connect(self, control: socket.socket) -> None:
        """Listen to the kernel."""
        control.settimeout(0)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: self, control)
        except BaseException:  # nobody could steer or end this
            self._server.stop()
            raise

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        Adopting(self._server, self._line)
        self._send(READY, good=True, value=None)

    def data_received(self, data: bytes) -> None:
        try:
            for method, arguments, options in self._reader.feed(data):
                task = asyncio.ensure_future(self._do(next(self._numbers), method, arguments, options))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        except Exception as error:  # noqa: BLE001 - whatever unpickling somebody's class raises
            told = InvalidInputError(
                f"What was given cannot be read beside the kernel: {type(error).__name__}: {error}."
            )
            self._send(next(self._numbers), good=False, value=told)
            self.data_received(b"")  # what has come behind it

    def connection_lost(self, _: Exception | None) -> None:
        """End: the kernel has, or wants this to."""
        task = asyncio.ensure_future(self._gateway.close(within=0))
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._server.stop())
        asyncio.get_running_loop().call_later(_GIVEN_UP, os._exit, 1)  # nobody else could end this

    async def _do(self, number: int, method: str, arguments: Any, options: Any) -> None:
        try:
            value = await self._method(method)(*arguments, **options)
            self._send(number, good=True, value=value)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the kernel raises it
            told = error if isinstance(error, MlnbError) else MlnbError(f"{type(error).__name__}: {error}")
            self._send(number, good=False, value=told)

    def _method(self, name: str) -> Any:
        return {"open": self._open, "hand_over": self._hand_over}.get(name) or getattr(self._gateway, name)

    async def _open(self) -> None:
        self._server.acceptor.start()

    async def _hand_over(self) -> None:
        await hand_over(self._server, self._line)

    def _send(self, number: int, *, good: bool, value: Any) -> None:
        assert self._transport is not None  # noqa: S101 - for the type checker
        self._transport.writelines(pack((number, good, value)))
