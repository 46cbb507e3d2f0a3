"""A port of loopback that leads to the pods of a deployment, for a try and for comparing answers."""

from __future__ import annotations

import selectors
import socket
import socketserver
import threading
import time
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["forwarding"]

_MOST = 64  # connections at once
_PIECE = 65_536  # bytes
_LOOK = 0.05  # seconds until the server notices that it is to stop
_DRAIN = 1.0  # seconds in which a pod's end closes its side
_END = 3.0  # seconds for which the end waits for the threads


class _Server(socketserver.ThreadingTCPServer):
    """Carries each connection to a pod, in a thread of its own that ends with it."""

    request_queue_size = _MOST

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        super().__init__(("127.0.0.1", 0), _Carrier)
        self.connect = connect
        self.ending = threading.Event()
        self.pods: set[socket.socket] = set()
        self._carriers: dict[socket.socket, threading.Thread] = {}  # by their clients

    def verify_request(self, request: object, client_address: object) -> bool:  # noqa: ARG002 - as socketserver calls it
        self._carriers = {client: carrier for client, carrier in self._carriers.items() if carrier.is_alive()}
        return len(self._carriers) < _MOST

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]  # TCP's
        """Start its thread, which is known before it opens anything."""
        carrier = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), name="mlnb-forward-carry", daemon=True
        )
        self._carriers[request] = carrier
        carrier.start()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: whoever asked sees a closed connection."""

    def end(self) -> None:
        """End all connections; a thread whose pod does not answer is left to itself, and closes what it opens."""
        self.ending.set()
        for client in self._carriers:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for pod in tuple(self.pods):
            with suppress(OSError):
                pod.shutdown(socket.SHUT_WR)
        latest = time.monotonic() + _END
        for carrier in self._carriers.values():
            carrier.join(max(0.0, latest - time.monotonic()))


class _Carrier(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        with closing(self.server.connect()) as pod:
            self.server.pods.add(pod)
            try:
                if not self.server.ending.is_set():
                    _carry(self.request, pod)
            finally:
                self.server.pods.discard(pod)
                _end(pod)


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
                    return
                ready.data.sendall(piece)


def _end(pod: socket.socket) -> None:
    """Let the other end be closed first: its thread must not write to a socket that is gone."""
    latest = time.monotonic() + _DRAIN
    with suppress(OSError):
        pod.shutdown(socket.SHUT_WR)
        while (left := latest - time.monotonic()) > 0:
            pod.settimeout(left)
            if not pod.recv(_PIECE):
                return


@contextmanager
def forwarding(connect: Callable[[], socket.socket]) -> Iterator[str]:
    """Yield a URL of loopback whose connections are carried to pods; its end takes a few seconds at most.

    Parameters
    ----------
    connect : callable
        Opens a connection to a pod.
    """
    with _Server(connect) as server:
        serving = threading.Thread(target=server.serve_forever, args=(_LOOK,), name="mlnb-forward", daemon=True)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            serving.join()
            server.end()
