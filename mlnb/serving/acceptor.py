"""New connections of a listening socket, all that wait at once: uvloop's own server takes one per turn of the loop."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Acceptor"]

_log = logging.getLogger(__name__)

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Acceptor:
    """Accepts on a listening socket, which other processes may accept on as well.

    Parameters
    ----------
    loop : AbstractEventLoop
    sock : socket
        Listens. It stays open and the caller's.
    factory : callable
        Makes the protocol of a connection.
    """

    per_turn = 512  # connections accepted before the loop does something else
    pause_seconds = 0.1  # when the process has no descriptors left

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, factory: Callable[[], asyncio.Protocol]
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._factory = factory
        self._descriptor: int | None = None  # while it is watched; a number, as uvloop would delay the socket's close()
        self._pausing: asyncio.TimerHandle | None = None
        self._warned = False
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def opening(self) -> bool:
        """Whether connections were accepted that no protocol has yet."""
        return bool(self._tasks)

    def start(self) -> None:
        """Accept from now on."""
        self._sock.settimeout(0)
        self._pausing = None
        self._descriptor = self._sock.fileno()
        self._loop.add_reader(self._descriptor, self._accept)

    def stop(self) -> None:
        """Accept no more, at once; what was accepted goes on. Again is harmless."""
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            self._descriptor = None
        if self._pausing is not None:
            self._pausing.cancel()
            self._pausing = None

    def finish(self) -> None:
        """Accept those that wait, whose clients believe that they are connected, and no more; for one process only."""
        self._sock.listen(0)
        while self._descriptor is not None and self._accept():
            pass
        self.stop()

    def adopt(self, descriptor: int, leftover: bytes) -> None:
        """Go on with a connection that another process handed over.

        Parameters
        ----------
        descriptor : int
            Of the connected socket; it belongs to this object from now on.
        leftover : bytes
            Read from it and not handled yet.
        """
        self._connect(socket.socket(fileno=descriptor), lambda: _Adopted(self._factory, leftover))

    def _accept(self) -> bool:
        """Return whether more may wait."""
        for _ in range(self.per_turn):
            try:
                connection, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError):  # none waits, or another process was faster
                return False
            except ConnectionAbortedError:  # gone before it was accepted
                continue
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._pause(error)
                return False
            self._connect(connection, self._factory)
        return True

    def _connect(self, connection: socket.socket, factory: Callable[[], asyncio.Protocol]) -> None:
        task = self._loop.create_task(self._open(connection, factory))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open(self, connection: socket.socket, factory: Callable[[], asyncio.Protocol]) -> None:
        try:
            connection.settimeout(0)
            if connection.family != socket.AF_UNIX:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(factory, connection)
        except Exception:  # noqa: BLE001 - one connection's failure is not the others'
            connection.close()
            _log.exception("A connection could not be served")

    def _pause(self, error: OSError) -> None:
        """Let the loop serve those it has: the socket stays readable, and would wake it without end."""
        if not self._warned:
            self._warned = True
            _log.warning("No connection can be accepted for now: %s", error.strerror)
        self.stop()
        self._pausing = self._loop.call_later(self.pause_seconds, self.start)


class _Adopted(asyncio.Protocol):
    """Gives a connection to its protocol together with what was read elsewhere, before anything new is read."""

    def __init__(self, factory: Callable[[], asyncio.Protocol], leftover: bytes) -> None:
        self._factory = factory
        self._leftover = leftover

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        protocol = self._factory()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._leftover:
            protocol.data_received(self._leftover)
