"""A port of loopback that leads to the pods of a deployment, for a try and for comparing answers."""

from __future__ import annotations

import selectors
import socket
import socketserver
import threading
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["forwarding"]

_MOST = 64  # connections at once
_PIECE = 65_536  # bytes
_LOOK = 0.05  # seconds until the server notices that it is to stop


class _Server(socketserver.ThreadingTCPServer):
    """Carries each connection to a pod, in a thread of its own that ends with it."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        super().__init__(("127.0.0.1", 0), _Carrier)
        self.connect = connect
        self.open: set[socket.socket] = set()

    def verify_request(self, request: object, client_address: object) -> bool:  # noqa: ARG002 - as socketserver calls it
        return len(self.open) < _MOST

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: whoever asked sees a closed connection."""


class _Carrier(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        self.server.open.add(self.request)
        try:
            with closing(self.server.connect()) as pod:
                _carry(self.request, pod)
        finally:
            self.server.open.discard(self.request)


def _carry(client: socket.socket, pod: socket.socket) -> None:
    """Carry bytes both ways until one side has ended."""
    with selectors.DefaultSelector() as waiting:
        for source, target in ((client, pod), (pod, client)):
            waiting.register(source, selectors.EVENT_READ, target)
        while True:
            for ready, _ in waiting.select():
                source = client if ready.data is pod else pod
                piece = source.recv(_PIECE)
                if not piece:
                    _end(pod)
                    return
                ready.data.sendall(piece)


def _end(pod: socket.socket) -> None:
    """Let the other end be closed first: its thread must not write to a socket that is gone."""
    with suppress(OSError):
        pod.shutdown(socket.SHUT_WR)
        while pod.recv(_PIECE):
            pass


@contextmanager
def forwarding(connect: Callable[[], socket.socket]) -> Iterator[str]:
    """Yield a URL of loopback whose connections are carried to pods.

    Parameters
    ----------
    connect : callable
        Opens a connection to a pod.
    """
    with _Server(connect) as server:
        serving = threading.Thread(target=server.serve_forever, args=(_LOOK,), name="mlnb-forward")
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            serving.join()
            for client in tuple(server.open):
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
