"""uvicorn on a thread of the kernel or as a process of its own, on a listening socket that may be shared."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import socket
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import uvicorn

from mlnb.errors import InvalidInputError, PortInUseError, ServerStartError
from mlnb.scaling.inheritance import keep_from_children
from mlnb.serving.acceptor import Acceptor
from mlnb.serving.access import OPEN
from mlnb.serving.codecs import MAX_BODY_BYTES
from mlnb.serving.predicting import too_large
from mlnb.serving.protocol import PredictProtocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import ASGIApp

    from mlnb.serving.access import Access

__all__ = ["HOST", "Server", "address_of", "bind", "rest_collector"]

HOST = "127.0.0.1"
PREFERRED_PORT = 8000
_LAST_PORT = 65535
_SELDOM = 50_000  # new objects between two looks; Python's own are 700

# uvicorn's complaints go wherever logging is configured to go, and else nowhere: they are not for the notebook.
logging.getLogger("uvicorn").addHandler(logging.NullHandler())


class _Uvicorn(uvicorn.Server):
    """A uvicorn that accepts connections in bursts, may let them go elsewhere, and leaves signals alone."""

    def __init__(
        self,
        config: uvicorn.Config,
        sock: socket.socket,
        *,
        accepting: bool,
        ready: Callable[[], None],
        closing: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._socket = sock
        self._accepting = accepting
        self._ready = ready
        self._closing = closing
        self.acceptor: Acceptor | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever runs the process."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, with an acceptor in the place of asyncio's servers."""
        await super().startup(sockets)
        loop, config = asyncio.get_running_loop(), self.config

        def connected() -> asyncio.Protocol:
            make: Any = config.http_protocol_class
            protocol: asyncio.Protocol = make(
                config=config, server_state=self.server_state, app_state=self.lifespan.state, _loop=loop
            )
            return protocol

        self.acceptor = Acceptor(loop, self._socket, connected)
        if self._accepting:
            self.acceptor.start()
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, and finish the requests in flight."""
        if self.acceptor is not None:
            self.acceptor.stop()
        self._closing()
        await super().shutdown(sockets)


class Server:
    """An HTTP server, on a thread of its own or on the one that calls :meth:`run`.

    Parameters
    ----------
    app : ASGI application
    port : int, optional
        Default: 8000 if it is free, else one that the system chooses.
    sock : socket, optional
        A listening one, in the place of a port; it stays the caller's.
    accepting : bool
        Whether to accept connections from the start; else :attr:`acceptor` is started later.
    routes : callable, optional
        What a POST to a path is handled by, without ASGI; see :class:`~mlnb.serving.protocol.PredictProtocol`.
    access : Access
        Whom it answers. Default: everybody.

    Raises
    ------
    PortInUseError
        If ``port`` is taken, with who holds it where that can be seen.

    Attributes
    ----------
    port : int
    loop : event loop
        Once it runs.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        port: int | None = None,
        sock: socket.socket | None = None,
        accepting: bool = True,
        routes: Callable[[bytes], Callable[[Any], None] | None] | None = None,
        access: Access = OPEN,
    ) -> None:
        self._owns_socket = sock is None
        self._socket = bind(port) if sock is None else sock
        self.port: int = self._socket.getsockname()[1]
        self.loop: asyncio.AbstractEventLoop | None = None
        self._over = threading.Event()  # accepting, or ended
        self._at_start: list[Callable[[], object]] = []
        self._retiring = False
        protocol: Any = "auto"
        if routes is not None:
            protocol = partial(
                PredictProtocol, routes=routes, max_body=MAX_BODY_BYTES, too_large=too_large, access=access,
                retiring=lambda: self._retiring,
            )  # fmt: skip
        config = uvicorn.Config(
            access.guard(app), loop="auto", http=protocol, ws="none", lifespan="off", log_config=None, access_log=False,
            proxy_headers=False, server_header=False, timeout_graceful_shutdown=3, timeout_keep_alive=75,
        )  # fmt: skip
        self._uvicorn = _Uvicorn(config, self._socket, accepting=accepting, ready=self._started, closing=self._close)
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return f"http://{HOST}:{self.port}"

    @property
    def is_here(self) -> bool:
        """Whether the thread that asks is the one it runs on."""
        return threading.current_thread() is self._thread

    @property
    def acceptor(self) -> Acceptor:
        """What accepts its connections, once it runs."""
        assert self._uvicorn.acceptor is not None  # noqa: S101 - for the type checker
        return self._uvicorn.acceptor

    @property
    def connections(self) -> list[Any]:
        """The protocols of the connections there are."""
        return list(self._uvicorn.server_state.connections)

    def start(self) -> Self:
        """Run on a thread of its own; return when it accepts requests.

        Raises
        ------
        ServerStartError
            If uvicorn ends before.
        """
        self._thread = threading.Thread(target=self._run, name=f"mlnb server {self.port}", daemon=True)
        try:
            self._thread.start()
            self._over.wait()
        except BaseException:  # an interrupt, which start() may meet as well as wait()
            self.stop()
            raise
        if self.loop is None:
            self.stop()
            raise ServerStartError(
                f"The server did not start on port {self.port}: {self._failure!r}."
            ) from self._failure
        return self

    def on_start(self, function: Callable[[], object]) -> None:
        """Call ``function`` on the loop once it runs."""
        self._at_start.append(function)

    def retire(self) -> None:
        """End each connection with the answer to the next prediction asked on it; who asks again comes on another one.

        Whoever balances the load then sends that one elsewhere. To close an idle connection instead would meet the
        request that is on its way.
        """
        self._retiring = True

    def run(self) -> None:
        """Run on this thread until :meth:`stop` is called."""
        self._uvicorn.run(sockets=[])

    def stop(self) -> None:
        """Finish the requests in flight, at most some seconds, and free the port. Again is harmless."""
        self._uvicorn.should_exit = True
        thread = self._thread
        if thread is not None and thread.ident is not None and threading.current_thread() is not thread:
            thread.join(10)
        self._close()

    def _close(self) -> None:
        if self._owns_socket:
            self._socket.close()

    def _started(self) -> None:
        self.loop = asyncio.get_running_loop()
        for function in self._at_start:
            function()
        self._over.set()

    def _run(self) -> None:
        try:
            self.run()
        except BaseException as error:  # noqa: BLE001 - uvicorn says SystemExit; reported by the thread that waits
            self._failure = error
        finally:
            self._over.set()


def rest_collector() -> None:
    """Let the garbage collector pass over what is there now, and look at the rest seldom.

    Requests leave no cycles behind, and looking for some took as long as answering. While the libraries are imported it
    may be off altogether.
    """
    gc.freeze()
    gc.set_threshold(_SELDOM, 20, 20)
    gc.enable()


def bind(port: int | None, *, host: str = HOST) -> socket.socket:
    """Return a socket that listens.

    Parameters
    ----------
    port : int or None
        None: 8000 if it is free, else one that the system chooses.
    host : str
        An address of this machine, or a name of one; ``0.0.0.0`` is all of them, ``::`` those of IPv6 as well.
        Default: loopback.

    Raises
    ------
    PortInUseError
    InvalidInputError
        If ``host`` is no address of this machine.
    """
    if port is not None:
        return _bound_socket(port, host)
    try:
        return _bound_socket(PREFERRED_PORT, host)
    except PortInUseError:
        return _bound_socket(0, host)


def address_of(host: str) -> str:
    """Return the IP address that a host's name means.

    Raises
    ------
    InvalidInputError
        If it means none.

    Examples
    --------
    >>> address_of("localhost") in ("127.0.0.1", "::1"), address_of("::")
    (True, '::')
    """
    return _resolved(host)[1]


def _resolved(host: str) -> tuple[socket.AddressFamily, str]:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
    except (OSError, ValueError):  # a name that is too long is a UnicodeError
        raise _no_host(host) from None
    return family, str(address[0])


def _no_host(host: str) -> InvalidInputError:
    return InvalidInputError(
        f"{host!r:.200} is no address of this machine; --host takes 127.0.0.1, one that it has, 0.0.0.0 or :: for all."
    )


def _bound_socket(port: int, host: str) -> socket.socket:
    # Without proto=IPPROTO_TCP asyncio does not set TCP_NODELAY, and each request on a kept connection takes 44 ms.
    if not 0 <= port <= _LAST_PORT:
        raise PortInUseError(f"Port {port} does not exist; use 1 to {_LAST_PORT}, or leave it out.")
    family, address = _resolved(host)
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # :: is IPv4's addresses too
        sock.bind((address, port))
        sock.listen(2048)  # a port that is taken shows here, if not before
        keep_from_children(sock)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise _no_host(host) from None
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
