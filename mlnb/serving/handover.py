"""Connections that go from one process to another while their clients use them."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from functools import partial
from typing import TYPE_CHECKING

from mlnb.serving.protocol import PredictProtocol

if TYPE_CHECKING:
    from mlnb.serving.server import Server

__all__ = ["Adopting", "hand_over"]

_LENGTH = struct.Struct("<Q")
_PIECE = 2**16  # bytes of one message
_IDLE = 5.0  # seconds that a connection may take to become idle; then it is closed behind its answer, however late
_LOOK = 0.005  # seconds between two looks at which are left


async def hand_over(server: Server, line: socket.socket) -> None:
    """Accept no more, and send the connections there are through ``line``, each as soon as it is idle."""
    server.acceptor.stop()
    give = partial(_give, line)
    asked = set()
    end = asyncio.get_running_loop().time() + _IDLE
    while (connections := server.connections) or server.acceptor.opening:
        for connection in connections:
            if connection not in asked and isinstance(connection, PredictProtocol):
                connection.hand_over(give)
            asked.add(connection)
        await asyncio.sleep(_LOOK)
        if asyncio.get_running_loop().time() > end:
            for connection in server.connections:
                connection.shutdown()
            while any(one.busy for one in server.connections):  # noqa: ASYNC110 - each ends by itself
                await asyncio.sleep(_LOOK)
            return


def _give(line: socket.socket, descriptor: int, leftover: bytes) -> None:
    socket.send_fds(line, [_LENGTH.pack(len(leftover)) + leftover[:_PIECE]], [descriptor])
    for start in range(_PIECE, len(leftover), _PIECE):
        line.send(leftover[start : start + _PIECE])
    os.close(descriptor)


class Adopting:
    """Goes on with the connections that come through a line, until :meth:`stop`.

    Parameters
    ----------
    server : Server
        That runs, on this loop.
    line : socket
        Of messages (SOCK_SEQPACKET); it stays the caller's.
    """

    def __init__(self, server: Server, line: socket.socket) -> None:
        self._server = server
        self._line = line
        self._loop = asyncio.get_running_loop()
        self._descriptor = line.fileno()
        self._loop.add_reader(self._descriptor, self._read)

    def stop(self) -> None:
        """Adopt what has come, and look no more."""
        self._read()
        self._loop.remove_reader(self._descriptor)

    def _read(self) -> None:
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(
                    self._line, _LENGTH.size + _PIECE, 1, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
                )
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data, descriptors = b"", []
            if not data:  # the other side has ended
                self._loop.remove_reader(self._descriptor)
                return
            (length,) = _LENGTH.unpack_from(data)
            leftover = data[_LENGTH.size :]
            while len(leftover) < length and (piece := self._line.recv(_PIECE)):
                leftover += piece
            self._server.acceptor.adopt(descriptors[0], leftover)
