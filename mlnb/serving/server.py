"""uvicorn in a background thread of the kernel, with a loop and a socket of its own."""

from __future__ import annotations

import logging
import os
import socket
import threading
from typing import TYPE_CHECKING, Self
from weakref import WeakSet

import uvicorn

from mlnb.errors import PortInUseError, ServerStartError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

__all__ = ["HOST", "Server"]

HOST = "127.0.0.1"
PREFERRED_PORT = 8000
_LAST_PORT = 65535

# uvicorn's complaints go wherever logging is configured to go, and else nowhere: they are not for the notebook.
logging.getLogger("uvicorn").addHandler(logging.NullHandler())

_listening: WeakSet[socket.socket] = WeakSet()


def _close_in_child() -> None:
    """Leave a forked child no copy of our sockets: one that outlives the kernel would keep the port."""
    for sock in _listening:
        if sock.fileno() != -1:
            os.close(sock.detach())  # close() would wait for the event loop, which does not run in the child


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


class _Uvicorn(uvicorn.Server):
    """A uvicorn that says when it accepts requests."""

    def __init__(self, config: uvicorn.Config, ready: threading.Event) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready.set()


class Server:
    """An HTTP server on loopback.

    Parameters
    ----------
    app : ASGI application
    port : int, optional
        Default: 8000 if it is free, else one that the system chooses.

    Raises
    ------
    PortInUseError
        If ``port`` is taken, with who holds it where that can be seen.
    ServerStartError
        If uvicorn ends before it accepts requests.
    """

    def __init__(self, app: ASGIApp, *, port: int | None = None) -> None:
        self._socket = _bind(port)
        self.port: int = self._socket.getsockname()[1]
        self._over = threading.Event()  # accepting, or ended
        config = uvicorn.Config(
            app, loop="auto", http="auto", ws="none", lifespan="off", log_config=None, access_log=False,
            proxy_headers=False, server_header=False, timeout_graceful_shutdown=3,
        )  # fmt: skip
        self._uvicorn = _Uvicorn(config, self._over)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"mlnb server {self.port}", daemon=True)
        try:
            self._thread.start()
            self._over.wait()
        except BaseException:  # an interrupt, which start() may meet as well as wait()
            self.stop()
            raise
        if not self._uvicorn.started:
            self.stop()
            raise ServerStartError(
                f"The server did not start on port {self.port}: {self._failure!r}."
            ) from self._failure

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return f"http://{HOST}:{self.port}"

    def stop(self) -> None:
        """Finish the requests in flight, at most some seconds, and free the port. Again is harmless."""
        self._uvicorn.should_exit = True
        if self._thread.ident is not None and threading.current_thread() is not self._thread:
            self._thread.join(10)
        self._socket.close()

    def _run(self) -> None:
        try:
            self._uvicorn.run(sockets=[self._socket])
        except BaseException as error:  # noqa: BLE001 - uvicorn says SystemExit; reported by the thread that waits
            self._failure = error
        finally:
            self._over.set()


def _bind(port: int | None) -> socket.socket:
    if port is not None:
        return _bound_socket(port)
    try:
        return _bound_socket(PREFERRED_PORT)
    except PortInUseError:
        return _bound_socket(0)


def _bound_socket(port: int) -> socket.socket:
    # Without proto=IPPROTO_TCP asyncio does not set TCP_NODELAY, and each request on a kept connection takes 44 ms.
    if not 0 <= port <= _LAST_PORT:
        raise PortInUseError(f"Port {port} does not exist; use 1 to {_LAST_PORT}, or leave it out.")
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST, port))
        sock.listen(2048)  # a port that is taken shows here, if not before
        _listening.add(sock)
    except OSError as error:
        sock.close()
        raise PortInUseError(f"Port {port} cannot be used: {_holder(port) or error.strerror}. "
                             "Name another one, or leave it out and a free one is taken.") from None  # fmt: skip
    return sock


def _holder(port: int) -> str:
    """Say which process listens on ``port``, as far as this user may see it."""
    import psutil

    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.Error:  # macOS asks for root
        return ""
    for connection in connections:
        listens = connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,)
        if listens and connection.pid is not None and psutil.pid_exists(connection.pid):
            return f"{psutil.Process(connection.pid).name()} (process {connection.pid}) listens on it"
    return ""
