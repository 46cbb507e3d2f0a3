"""Child processes that are ready in milliseconds: forked from a zygote, which imported the libraries before."""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakSet

from mlnb.errors import MlnbError, StoppedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import IO

__all__ = ["Exit", "Spawner"]

_log = logging.getLogger(__name__)

_PROGRAM = (
    "import sys; control, count, *rest = sys.argv[1:]; sys.argv[1:] = []; sys.path[:] = rest[int(count):]; "
    "from mlnb.scaling.zygote import main; main(int(control), preload=rest[:int(count)])"
)
_PATIENCE = 2.0  # seconds for a zygote to end its children and itself
_BACKOFF = (0.2, 5.0)  # seconds until another try after a zygote that did not get ready: the first, and the longest


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """The end of a child.

    Attributes
    ----------
    pid : int
        0 if it never started.
    name : str
        As it was given to :meth:`Spawner.spawn`.
    code : int or None
        What it exited with; None if a signal ended it or it never started.
    signal : str or None
        ``"SIGSEGV"``, for instance.
    last_words : str
        The last 4 kB of its standard error: a traceback, or what faulthandler wrote of a crash.
    """

    pid: int
    name: str = ""
    code: int | None = None
    signal: str | None = None
    last_words: str = ""


class Spawner:
    """Starts child processes fast.

    A process of its own (the zygote; never a fork of this one) imports libraries once and forks from there. It and its
    children are in another POSIX session, so an interrupt does not reach them, and they end with this process however
    that ends. A zygote that died is replaced at the next :meth:`spawn`.

    Parameters
    ----------
    preload : sequence of str
        Modules that the zygote imports. One that cannot be imported is skipped.
    path : sequence of str, optional
        ``sys.path`` of the children. Default: this process's.
    environment : mapping of str to str, optional
        Variables besides this process's, such as ``OMP_NUM_THREADS``.
    directory : str, optional
        The children's working directory. Default: this process's.

    Raises
    ------
    MlnbError
        On a system without fork, such as Windows.
    OSError
        If the zygote cannot be started: no such directory, too many processes or open files.

    Notes
    -----
    Their standard input and output are ``/dev/null``. So is their standard error, unless ``MLNB_DEBUG`` is set: then it
    is this process's too.

    Examples
    --------
    >>> with Spawner() as spawner, spawner.spawn("socket:socket.sendall", argument=b"hello") as link:
    ...     link.recv(5)
    b'hello'
    """

    def __init__(
        self,
        *,
        preload: Sequence[str] = (),
        path: Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
        directory: str | None = None,
    ) -> None:
        if not hasattr(os, "fork"):
            raise MlnbError("Replicas as processes need Linux or macOS. Serve in the kernel instead: replicas=0.")
        self._preload = tuple(preload)
        self._path = _with_mlnb(sys.path if path is None else path)
        self._environment = {} if environment is None else dict(environment)
        self._directory = directory
        self._lock = threading.Lock()
        self._closed = False
        self._sockets: WeakSet[socket.socket] = WeakSet()  # to the children and the zygote, both ends
        self._links: WeakSet[socket.socket] = WeakSet()  # our ends to the children
        self._exits: list[Exit] = []
        self._selector = selectors.DefaultSelector()
        _spawners.add(self)
        try:
            self._zygotes = [self._start(failures=0)]  # the current one, after those whose end nobody asked for yet
        except BaseException:
            self._selector.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The zygote's process."""
        return self._zygotes[-1].process.pid

    @property
    def alive(self) -> bool:
        """Whether the zygote lives."""
        return self._zygotes[-1].process.poll() is None

    def fileno(self) -> int:
        """Return the descriptor, always the same, that is readable when :meth:`exits` has something to say."""
        return -1 if self._closed else self._selector.fileno()

    def spawn(self, target: str, *, argument: bytes = b"", name: str = "") -> socket.socket:
        """Have a child started, and return the socket to it. Never waits for the zygote.

        A child that cannot be started shows as the end of the stream; :meth:`exits` and the log have the reason.

        Parameters
        ----------
        target : str
            ``"package.module:function"``. The child calls ``function(socket, argument)``, and exits with what it
            returns (None is 0).
        argument : bytes
        name : str
            For :class:`Exit`.

        Raises
        ------
        StoppedError
            After :meth:`close`.
        """
        with ExitStack() as undo, self._lock:
            if self._closed:
                raise StoppedError("This spawner is closed.")
            ours, theirs = self._pair()
            undo.push(ours)
            with theirs:
                try:
                    self._ask(theirs, target=target, argument=argument, name=name)
                except OSError as error:
                    _log.warning("No child could be started for %s: %s", name or target, error)
            self._links.add(ours)
            undo.pop_all()
        return ours

    def exits(self) -> list[Exit]:
        """Return the children that ended since the last call, without waiting."""
        with self._lock:
            if not self._closed:
                self._collect()
            found, self._exits = self._exits, []
        return found

    def close(self, *, grace: float = 1.0) -> None:
        """End the children and the zygote. Again is harmless.

        Parameters
        ----------
        grace : float
            Seconds that the children have, after the end of the stream from here, to exit by themselves.
        """
        with self._lock:
            was_closed, self._closed = self._closed, True
        if was_closed:
            return
        try:
            self._dismiss(grace)
        finally:
            with self._lock:
                for zygote in self._zygotes:
                    zygote.end()
                self._selector.close()

    def _dismiss(self, grace: float) -> None:
        """Tell the children that nothing more will come, and wait for those that heed it."""
        for link in list(self._links):
            with suppress(OSError):
                link.shutdown(socket.SHUT_WR)
        end = time.monotonic() + grace
        while self._has_children() and (left := end - time.monotonic()) > 0:
            self._selector.select(left)

    def _has_children(self) -> bool:
        with self._lock:
            self._collect()
            return any(zygote.is_parent for zygote in self._zygotes)

    def _ask(self, theirs: socket.socket, *, target: str, argument: bytes, name: str) -> None:
        with _anonymous_file() as request:
            request.write(f"{target}\n".encode() + argument)
            request.seek(0)  # which writes it out; the offset goes with the descriptor
            fds = [theirs.fileno(), request.fileno()]
            try:
                self._zygotes[-1].ask(fds, name=name)
            except ConnectionError:
                self._zygotes.append(self._restart())
                self._zygotes[-1].ask(fds, name=name)

    def _restart(self) -> _Zygote:
        """Start a zygote in place of one that died; not at once if that did not get ready, and then an empty one."""
        dead = self._zygotes[-1]
        dead.read()
        if dead.is_ready:
            return self._start(failures=0)
        first, longest = _BACKOFF
        if time.monotonic() < dead.started + min(longest, first * 2**dead.failures):
            raise BlockingIOError("the zygote died, and is started again soon. Set MLNB_DEBUG=1 to see its errors")
        return self._start(failures=dead.failures + 1)

    def _start(self, *, failures: int) -> _Zygote:
        ours, theirs = self._pair()
        preload = () if failures else self._preload  # one of them may be what crashed it
        output = None if os.environ.get("MLNB_DEBUG") else subprocess.DEVNULL
        try:
            process = subprocess.Popen(  # noqa: S603 - this very Python
                [sys.executable, "-c", _PROGRAM, str(theirs.fileno()), str(len(preload)), *preload, *self._path],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=output,
                cwd=self._directory, env=os.environ | self._environment,
                pass_fds=[theirs.fileno()], start_new_session=True,
            )  # fmt: skip
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.settimeout(0)
        self._selector.register(ours, selectors.EVENT_READ)
        return _Zygote(process, ours, failures=failures)

    def _pair(self) -> tuple[socket.socket, socket.socket]:
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sockets.update(pair)
        return pair

    def _collect(self) -> None:
        for zygote in self._zygotes:
            zygote.read()
            self._exits += zygote.exits
            zygote.exits.clear()
            if zygote.is_over and zygote.line.fileno() != -1:
                self._selector.unregister(zygote.line)
                zygote.end()
        self._zygotes = [one for one in self._zygotes[:-1] if not one.is_over] + self._zygotes[-1:]

    def _forget(self) -> None:
        """In a forked child of this process: leave it no copy of a socket, and nothing to close."""
        self._lock = threading.Lock()
        self._closed = True
        for sock in self._sockets:
            if sock.fileno() != -1:
                os.close(sock.detach())
        for zygote in self._zygotes:
            zygote.process.returncode = 0  # it is not this process's child
        self._selector.close()


class _Zygote:
    """A zygote as its owner sees it: the process, the line to it, and what it told."""

    def __init__(self, process: subprocess.Popen[bytes], line: socket.socket, *, failures: int) -> None:
        self.process = process
        self.line = line
        self.failures = failures  # zygotes before this one that did not get ready
        self.started = time.monotonic()
        self.is_ready = False
        self.is_over = False
        self.exits: list[Exit] = []
        self._asked = 0
        self._names: dict[int, str] = {}  # of the children that have not ended, by number
        self._pids: dict[int, int] = {}
        self._unread = b""

    @property
    def is_parent(self) -> bool:
        """Whether it has children, as far as is known; none while it still imports."""
        return self.is_ready and bool(self._names)

    def ask(self, fds: Sequence[int], *, name: str) -> None:
        """Ask for a child; raise ConnectionError if the zygote died."""
        if self.is_over:
            raise ConnectionResetError
        socket.send_fds(self.line, [b"+"], fds)
        self._names[self._asked] = name
        self._asked += 1

    def read(self) -> None:
        """Take in what it told, without waiting."""
        with suppress(BlockingIOError):
            while not self.is_over:
                try:
                    told = self.line.recv(1 << 16)
                except ConnectionError:
                    told = b""
                self.is_over = not told
                *lines, self._unread = (self._unread + told).split(b"\n")
                for line in lines:
                    self._take(*json.loads(line))
            self._give_up_children()

    def end(self) -> None:
        """Close the line, at which the zygote kills its children and exits; kill it if it does not."""
        self.line.close()
        try:
            self.process.wait(_PATIENCE if self.is_ready else 0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _take(self, kind: str, *told: Any) -> None:
        if kind == "started":
            number, self._pids[number] = told
        elif kind == "ended":
            self._take_end(*told)
        else:
            self.is_ready = True
            for module, reason in told[0].items():
                _log.info("Not preloaded: %s: %s", module, reason)

    def _take_end(self, number: int, pid: int, code: int | None, last_words: str) -> None:
        self._pids.pop(number, None)
        killed_by = None if code is None or code >= 0 else _signal_name(-code)
        self.exits.append(
            Exit(
                pid=pid, name=self._names.pop(number), code=code if killed_by is None else None,
                signal=killed_by, last_words=last_words,
            )
        )  # fmt: skip

    def _give_up_children(self) -> None:
        """Report the children that the zygote took with it when it died."""
        for number in list(self._names):
            pid = self._pids.get(number, 0)
            self._take_end(number, pid, -signal.SIGKILL if pid else None, "The process that started it died.")


_spawners: WeakSet[Spawner] = WeakSet()


def _close_in_child() -> None:
    for spawner in list(_spawners):
        spawner._forget()  # noqa: SLF001 - of this module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


def _with_mlnb(path: Sequence[str]) -> list[str]:
    """Return the path with the place of this mlnb, so that the zygote finds its own program."""
    here = str(Path(__file__).parents[2])
    entries = [entry for entry in path if isinstance(entry, str)]
    return entries if here in entries else [*entries, here]


def _anonymous_file() -> IO[bytes]:
    """Return a new file without a name: the zygote may be busy, and a socket has no room for a large argument."""
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("mlnb"), "w+b")
    return tempfile.TemporaryFile()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
