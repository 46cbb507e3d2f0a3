"""The zygote: a process that imported the libraries once, and forks a ready child whenever it is asked to."""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import gc
import json
import operator
import os
import re
import select
import selectors
import signal
import socket
import sys
import threading
import traceback
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["main"]

_WORDS = 4096  # characters reported of what a child wrote to its standard error
_KEPT = 1 << 15  # bytes kept of it, for faulthandler's list of modules may be long
_MODULES = re.compile(r"^Extension modules: .*\n?", re.MULTILINE)
_PR_SET_PDEATHSIG = 1
_REQUEST_FDS = 2  # the child's socket, and the file with what it shall do


def main(control: int, *, preload: Sequence[str]) -> NoReturn:
    """Import, then fork until the owner closes its end.

    Parameters
    ----------
    control : int
        File descriptor of a stream socket to the owner. Each byte from it is a request and carries two descriptors: the
        child's socket, and a file with ``package.module:function``, a line feed and the argument. To it go lines of
        JSON: ``["ready", {module: why it was skipped}]``, ``["started", number, pid]``,
        ``["ended", number, pid, exit code, last words]``; requests are numbered as they come, from 0.
    preload : sequence of str
        Modules. One that cannot be imported is skipped.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the notebook's cell; children inherit this
    gc.disable()  # until the fork, so that the pages that parent and children share stay whole
    with socket.socket(fileno=control) as line:
        line.set_inheritable(False)
        with _ending_with(line):
            skipped = _import(preload)
        gc.freeze()
        # OpenBLAS starts threads when it is imported, and stops them around a fork by itself.
        warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
        _Zygote(line).run(skipped)


def _import(names: Sequence[str]) -> dict[str, str]:
    skipped = {}
    for name in names:
        try:
            import_module(name)
        except BaseException as error:  # noqa: BLE001 - a library may say SystemExit; the child that needs it will tell
            skipped[name] = f"{type(error).__name__}: {error}"
    return skipped


@contextmanager
def _ending_with(line: socket.socket) -> Iterator[None]:
    """Exit when the owner closes its end, in a thread that lives as long as the block: an import may take long."""
    over, done = socket.socketpair()

    def watch() -> None:
        poll = select.poll()
        poll.register(line, 0)  # reports a hang-up only
        poll.register(over, select.POLLIN)
        if any(fd == line.fileno() for fd, _ in poll.poll()):
            os._exit(1)

    with over:
        thread = threading.Thread(target=watch, name="mlnb owner", daemon=True)
        thread.start()
        yield
        done.close()
        thread.join()


@dataclass(slots=True, kw_only=True)
class _Child:
    number: int
    pid: int
    stderr: int
    words: bytes = b""


class _Zygote:
    """The loop: requests, ends of children, and what children write to their standard error."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._unsent = b""
        self._asked = 0
        self._is_child_over = False
        self._children: dict[int, _Child] = {}
        self._die_with_parent = _parent_death_signal()
        self._woken, self._wake = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        for sock, hear in ((line, self._hear), (self._woken, self._wake_up)):
            sock.settimeout(0)
            self._selector.register(sock, selectors.EVENT_READ, hear)
        self._wake.settimeout(0)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self, skipped: dict[str, str]) -> NoReturn:
        self._tell("ready", skipped)
        while True:
            for key, events in self._selector.select():
                if events & selectors.EVENT_WRITE:
                    self._send()
                if events & selectors.EVENT_READ:
                    key.data()
            if self._is_child_over:  # last: it closes files that others of these events are about
                self._reap()

    def _tell(self, *message: Any) -> None:
        self._unsent += json.dumps(message).encode() + b"\n"
        self._send()

    def _send(self) -> None:
        """Send what the owner has room for; it never makes this loop wait."""
        with suppress(BlockingIOError):
            try:
                self._unsent = self._unsent[self._line.send(self._unsent) :]
            except ConnectionError:
                self._end()
        more = selectors.EVENT_WRITE if self._unsent else 0
        self._selector.modify(self._line, selectors.EVENT_READ | more, self._hear)

    def _hear(self) -> None:
        try:
            request, fds, _, _ = socket.recv_fds(self._line, 1, _REQUEST_FDS)
        except ConnectionError:
            request, fds = b"", []
        if not request:
            self._end()
        number, self._asked = self._asked, self._asked + 1
        try:
            if len(fds) < _REQUEST_FDS:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))  # noqa: TRY301 - reported as the other reasons are
            self._fork(number, *fds)
        except OSError as error:
            self._tell("ended", number, 0, None, f"No child could be forked: {error}")
        finally:
            for fd in fds:
                os.close(fd)

    def _fork(self, number: int, link: int, request: int) -> None:
        stderr, words = os.pipe()
        try:
            parent = os.getpid()
            pid = os.fork()
            if pid == 0:
                os.close(stderr)
                _run(partial(self._settle, parent, words), link, request)
        except OSError:
            os.close(stderr)
            raise
        finally:
            os.close(words)
        with suppress(OSError):  # the child does it too: whoever comes first
            os.setpgid(pid, pid)
        os.set_blocking(stderr, False)
        child = self._children[pid] = _Child(number=number, pid=pid, stderr=stderr)
        self._selector.register(stderr, selectors.EVENT_READ, partial(self._listen, child))
        self._tell("started", number, pid)

    def _settle(self, parent: int, words: int) -> None:
        """Make the forked process a child of its own: nothing of the zygote's, and an end with it."""
        self._die_with_parent()
        if os.getppid() != parent:
            os._exit(1)
        with suppress(OSError):
            os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        self._selector.close()
        for sock in (self._line, self._woken, self._wake):
            sock.close()
        for child in self._children.values():
            os.close(child.stderr)
        os.dup2(words, 2)
        os.close(words)

    def _listen(self, child: _Child) -> None:
        """Keep the tail of what a child writes, and pass it on (to nowhere, unless ``MLNB_DEBUG`` is set)."""
        try:
            text = os.read(child.stderr, 1 << 16)  # all that a pipe holds
        except BlockingIOError:
            return
        if not text:
            self._selector.unregister(child.stderr)
        child.words = (child.words + text)[-_KEPT:]
        with suppress(OSError):
            os.write(2, text)

    def _wake_up(self) -> None:
        self._woken.recv(4096)
        self._is_child_over = True

    def _reap(self) -> None:
        self._is_child_over = False
        for child in list(self._children.values()):
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                self._bury(child, os.waitstatus_to_exitcode(status))

    def _bury(self, child: _Child, code: int) -> None:
        _kill(child.pid)  # what the child left behind, such as a pool of processes
        if child.stderr in self._selector.get_map():
            self._listen(child)
        with suppress(KeyError):
            self._selector.unregister(child.stderr)
        os.close(child.stderr)
        del self._children[child.pid]
        self._tell("ended", child.number, child.pid, code, _last(child.words))

    def _end(self) -> NoReturn:
        for pid in self._children:
            _kill(pid)
        for pid in self._children:
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
        os._exit(0)


def _last(words: bytes) -> str:
    return _MODULES.sub("", words.decode(errors="replace"))[-_WORDS:].strip()


def _kill(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # nobody is left; macOS says it so if only a zombie is
        os.killpg(group, signal.SIGKILL)


def _parent_death_signal() -> Callable[[], None]:
    """Return what makes the calling process die with its parent; nothing elsewhere than on Linux."""
    if sys.platform != "linux":
        return lambda: None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _run(settle: Callable[[], None], link: int, request: int) -> NoReturn:
    """Be the child, whatever happens: it must never get back into the zygote's loop."""
    code = 1
    try:
        settle()
        faulthandler.enable()
        gc.enable()
        _reseed()
        code = _call(link, request)
    except SystemExit as error:
        code = _exit_code(error)
    except BaseException:  # noqa: BLE001 - reported as the child's last words
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)  # without the zygote's atexit handlers


def _exit_code(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    sys.stderr.write(f"{error.code}\n")
    return 1


def _reseed() -> None:
    """Give numpy's global generator a state of its own; ``random`` does that by itself after a fork."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _call(link: int, request: int) -> int:
    with os.fdopen(request, "rb") as file:
        target = file.readline().decode().rstrip("\n")
        argument = file.read()
    module, _, function = target.partition(":")
    with socket.socket(fileno=link) as sock:
        sock.set_inheritable(False)
        return int(operator.attrgetter(function)(import_module(module))(sock, argument) or 0)
