"""Where a process that serves is found and asked: its record in the runtime folder, and a Unix socket on a thread."""

from __future__ import annotations

import json
import logging
import os
import selectors
import socket
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mlnb.scaling.inheritance import keep_from_children
from mlnb.serving.discovery.asking import MOST_ASKED, peer_of
from mlnb.serving.discovery.record import ServerRecord
from mlnb.serving.discovery.records import RecordFile, make_socket_folder, remove_socket, runtime_folder
from mlnb.workspace.orders import obey

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlnb.workspace.workspace import Workspace

__all__ = ["Control"]

_log = logging.getLogger(__name__)

_LINGER = 30.0  # seconds that a stop from outside can be undone from there, when it was the last deployment
_REFRESH = 60.0  # seconds after which the record is written again: it may have been cleaned away, or the clock was set
_PATIENCE = 5.0  # seconds to say what is wanted, to take the answer, and for the thread to end
_PAUSE = 0.5  # seconds until somebody is heard again, where there was no file or thread for it
_MOST_AT_ONCE = 8  # conversations


class Control:
    """Lets other programs of this user find what is live in this process, roll it back, stop it and start it again.

    Nothing happens where no Jupyter is installed or the system has no Unix sockets, and where no record can be
    written there is a warning in the log: the models are served all the same. As a context manager it stops at the end.

    Parameters
    ----------
    workspace : Workspace
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock = threading.Lock()
        self._post: _Post | None = None
        self._asked = threading.local()  # .now: this thread does what was asked from outside
        self._warned = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def heed(self) -> None:
        """Follow what is live: begin with the first deployment, tell what changed, end behind the last."""
        with self._lock:
            names = tuple(one.name for one in self._workspace.deployments())
            port = self._workspace._hosting.port
            if not self._told(names, port) and names:
                self._begin(names, port)
        if not names:
            self._join()

    def stop(self) -> None:
        """End it. Again is harmless; the next deployment begins it again."""
        with self._lock:
            if self._post is not None and self._post.pid == os.getpid():
                self._post.end()
        self._join()

    def _begin(self, names: tuple[str, ...], port: int | None) -> None:
        self._join()
        try:
            self._post = _Post(answer=self._answer, warn=self._warn)
            self._told(names, port)
        except (OSError, RuntimeError) as error:  # no more files or threads
            self._warn(error)

    def _told(self, names: tuple[str, ...], port: int | None) -> bool:
        """Tell the thread, if there is one that goes on."""
        post = self._post
        if post is None or post.pid != os.getpid():  # a fork has no threads
            return False
        return post.tell(names, port, linger=_LINGER if getattr(self._asked, "now", False) else 0.0)

    def _join(self) -> None:
        """Wait for a thread that ends: until then it has the record."""
        post = self._post
        if post is not None and post.pid == os.getpid() and post.over and post.thread.ident is not None:
            post.thread.join(_PATIENCE)

    def _answer(self, order: Any) -> dict[str, Any]:
        self._asked.now = True  # on a thread that does nothing else
        return obey(self._workspace, order)

    def _warn(self, error: Exception) -> None:
        level = logging.DEBUG if self._warned else logging.WARNING
        self._warned = True
        _log.log(level, "What this process serves is not listed elsewhere, such as in JupyterLab's sidebar: %s", error)


class _Post:
    """The record and the socket of a process, from the first deployment to the last, on a thread of their own.

    All files are made and deleted on that thread, which no interrupt meets.
    """

    def __init__(self, *, answer: Callable[[Any], dict[str, Any]], warn: Callable[[Exception], None]) -> None:
        self.pid = os.getpid()
        self.over = False  # it ends, whatever is told from now on
        self._names: tuple[str, ...] = ()
        self._port: int | None = None
        self._until = 0.0  # it stays without a deployment
        self._answer, self._warn = answer, warn
        self._lock = threading.Lock()
        self._talks = 0
        self._waker: socket.socket | None = None
        self.thread = threading.Thread(target=self._run, name="mlnb control", daemon=True)

    def tell(self, names: tuple[str, ...], port: int | None, *, linger: float) -> bool:
        """Let it know what is live, and how long it stays if nothing is; False if it has ended."""
        with self._lock:
            if not self.over and (self._names, self._port) != (names, port):
                self._names, self._port = names, port or self._port
                self._until = time.monotonic() + linger
                self._look()
            if not self.over and self.thread.ident is None:
                self.thread.start()
            return not self.over

    def end(self) -> None:
        """Let it end now."""
        with self._lock:
            self._names, self._until = (), 0.0
            self._look()

    def _look(self) -> None:
        self.over = self.over or (not self._names and time.monotonic() >= self._until)
        if self._waker is not None:
            with suppress(BlockingIOError):  # it has not yet looked at what it was told before
                self._waker.send(b".")

    def _run(self) -> None:
        try:
            folder = runtime_folder()
            if folder is not None:
                with ExitStack() as ending:
                    self._serve(ending, folder)
        except Exception as error:  # noqa: BLE001 - a folder that cannot be written, for instance: the models are served
            self._warn(error)
        finally:
            self._finish()

    def _finish(self) -> None:
        with self._lock:
            self.over, self._waker = True, None

    def _be_waked(self, ending: ExitStack) -> socket.socket:
        """Return where it is heard that there is something new."""
        waked, waker = (ending.enter_context(sock) for sock in socket.socketpair())
        keep_from_children(waked, waker)
        waked.settimeout(0)
        waker.settimeout(0)
        with self._lock:
            self._waker = waker
        ending.callback(self._finish)
        return waked

    def _serve(self, ending: ExitStack, folder: Path) -> None:
        waked = self._be_waked(ending)
        path = make_socket_folder() / "s"
        ending.callback(remove_socket, path)
        listener = ending.enter_context(socket.socket(socket.AF_UNIX))
        keep_from_children(listener)
        listener.settimeout(0)
        listener.bind(str(path))
        listener.listen()
        file = RecordFile(folder)
        ending.callback(file.remove)
        written, again = None, 0.0
        while (told := self._now()) is not None:
            if told != written or time.monotonic() >= again:
                self._write(file, path, *told)
                written, again = told, time.monotonic() + _REFRESH
            self._attend(listener, waked, until=again)

    def _write(self, file: RecordFile, path: Path, names: tuple[str, ...], port: int | None) -> None:
        _touch(path)
        if port is None:
            return
        try:
            file.write(_record(path, names, port))
        except OSError as error:  # a full disk, a folder that cannot be written: it is tried again
            self._warn(error)

    def _now(self) -> tuple[tuple[str, ...], int | None] | None:
        """Return what the record is to say, None if this is over."""
        with self._lock:
            self.over = self.over or (not self._names and time.monotonic() >= self._until)
            return None if self.over else (self._names, self._port)

    def _attend(self, listener: socket.socket, waked: socket.socket, *, until: float) -> None:
        """Wait for something new, and for somebody who asks if there is a place for it: else it waits, too."""
        with self._lock:
            until = until if self._names else min(until, self._until)
            heard = [waked, listener] if self._talks < _MOST_AT_ONCE else [waked]
        ready = _ready(heard, seconds=until - time.monotonic())
        if listener in ready and not self._accept(listener):
            ready += _ready([waked], seconds=_PAUSE)
        if waked in ready:
            waked.recv(1024)

    def _accept(self, listener: socket.socket) -> bool:
        """Converse with who is next, on a thread; False if there is no file or thread for it."""
        try:
            sock, _ = listener.accept()
        except OSError:
            return False
        keep_from_children(sock)
        peer = peer_of(sock)
        if peer is not None and peer[1] != os.geteuid():
            sock.close()
            return True
        with self._lock:
            self._talks += 1
        try:
            threading.Thread(target=self._converse, args=(sock,), name="mlnb control talk", daemon=True).start()
        except RuntimeError:
            sock.close()
            self._part()
            return False
        return True

    def _converse(self, sock: socket.socket) -> None:
        try:
            with sock, suppress(OSError):
                order = _question(sock)
                if order is not None and not _has_gone(sock):
                    answer = self._answer(order)
                    sock.settimeout(_PATIENCE)
                    sock.sendall(json.dumps(answer).encode() + b"\n")
        finally:
            self._part()

    def _part(self) -> None:
        with self._lock:
            self._talks -= 1
            self._look()


def _ready(heard: list[socket.socket], *, seconds: float) -> list[Any]:
    """Wait until one of these has something to say; return those that have."""
    with selectors.PollSelector() as selector:
        for sock in heard:
            selector.register(sock, selectors.EVENT_READ)
        return [key.fileobj for key, _ in selector.select(seconds)]


def _question(sock: socket.socket) -> Any:
    """Return what is asked, None if that cannot be understood or is not said in time."""
    sock.settimeout(_PATIENCE)
    with sock.makefile("rb") as file:
        line = file.readline(MOST_ASKED + 1)
    try:
        return json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None


def _has_gone(sock: socket.socket) -> bool:
    """Say whether nobody waits for the answer any more, as after this process was held up: then nothing is done."""
    sock.settimeout(0)
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False


def _record(path: Path, names: tuple[str, ...], port: int) -> ServerRecord:
    import psutil

    kernel = _kernel()
    notebook = os.environ.get("JPY_SESSION_NAME", "") if kernel else ""  # a kernel's children have it, too
    return ServerRecord(
        pid=os.getpid(), started=psutil.Process().create_time(), port=port, socket=str(path), names=names,
        kernel=kernel, notebook=notebook.encode(errors="replace").decode(),
    )  # fmt: skip


def _kernel() -> str:
    """Return the id of the Jupyter kernel that this process is, "" if it is none."""
    if "ipykernel" not in sys.modules:
        return ""
    from ipykernel.connect import get_connection_file

    try:
        stem = Path(get_connection_file()).stem
    except (RuntimeError, OSError):  # it is imported, and not what runs here
        return ""
    return stem.removeprefix("kernel-") if stem.startswith("kernel-") else ""


def _touch(path: Path) -> None:
    """Keep the socket from those who clean the temporary folder."""
    with suppress(OSError):
        os.utime(path)
        os.utime(path.parent)
