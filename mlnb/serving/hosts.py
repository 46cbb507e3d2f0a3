"""Where the server of a notebook's deployments runs: on a thread of the kernel, or in a process beside it."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import pickle
import socket
import subprocess
import sys
import threading
from concurrent.futures import CancelledError, Future, wait
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from mlnb.errors import InvalidInputError, MlnbError, ServerStartError, StoppedError
from mlnb.monitoring.access_log import on_stderr
from mlnb.scaling.frames import FrameReader, pack, receive
from mlnb.scaling.inheritance import keep_from_children
from mlnb.serving.app import create_app
from mlnb.serving.gateway import Gateway
from mlnb.serving.handover import Adopting, hand_over
from mlnb.serving.instance import INSTANCE, VARIABLE
from mlnb.serving.predicting import Routes
from mlnb.serving.server import Server
from mlnb.serving.steering import READY

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_log = logging.getLogger(__name__)

__all__ = ["Host", "KernelHost", "ProcessHost"]

_SWITCH = 0.0005  # seconds after which a thread that computes lets the server's go on; Python's own are 0.005
_LOOK = 1.0  # seconds between two looks whether the loop is still there
_PATIENCE = 60.0  # seconds that a gateway process may take to start, and a stopping one to end


class KernelHost:
    """On a thread of this process.

    Parameters
    ----------
    sock : socket
        Listens; it stays the caller's.
    """

    beside = False

    def __init__(self, sock: socket.socket) -> None:
        self.gateway = Gateway()
        served = self.gateway.served
        self.server = Server(create_app(served), sock=sock, accepting=False, routes=Routes(served)).start()
        self._interval = sys.getswitchinterval()
        self._stopped = False
        self._adopting: Adopting | None = None
        sys.setswitchinterval(min(self._interval, _SWITCH))

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Let the gateway do what ``method`` names, on the server's loop, and return what it returns.

        Raises
        ------
        MlnbError
            What the method raises; StoppedError if the server has ended.
        """
        return self._run(getattr(self.gateway, method)(*arguments, **options))

    def open(self) -> None:
        """Accept connections."""
        self._run(_call(self.server.acceptor.start))

    def adopt(self, line: socket.socket) -> Callable[[], None]:
        """Go on with the connections that come through ``line``, until what this returns is called."""
        adopting: Adopting = self._run(_call(lambda: Adopting(self.server, line)))
        return lambda: self._run(_call(adopting.stop))

    def hand_over(self, to: ProcessHost) -> None:
        """Accept no more, and give the connections there are to the process, each as soon as it is idle."""
        self._run(hand_over(self.server, to.line))

    def stop(self) -> None:
        """End the server. Again is harmless."""
        if self._stopped:
            return
        self._stopped = True
        try:
            with suppress(MlnbError):
                self._run(self.gateway.close(within=0))
        finally:
            self.server.stop()
            sys.setswitchinterval(self._interval)

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        loop = self.server.loop
        if loop is None or loop.is_closed():
            coroutine.close()
            raise StoppedError("The server was stopped.")
        if self.server.is_here:  # a model that predicts on the loop asks another; the pool asks it again on a thread
            coroutine.close()
            raise MlnbError("The event loop of the server cannot wait for itself.")
        result = asyncio.run_coroutine_threadsafe(coroutine, loop)
        while not wait([result], timeout=_LOOK).done:  # what comes as the loop ends is never run
            if loop.is_closed():
                raise StoppedError("The server was stopped.")
        try:
            return result.result()
        except CancelledError:  # as the loop ends
            raise StoppedError("The server was stopped.") from None


async def _call(function: Callable[[], Any]) -> Any:
    return function()


class ProcessHost:
    """In a process of its own: requests no longer meet this kernel's interpreter.

    Parameters
    ----------
    sock : socket
        Listens; the process accepts on it as well.
    preload : frozenset of str
        Modules that the first replicas need.
    lost : callable
        Called, on a thread of this, when the process has ended by itself.

    Raises
    ------
    ServerStartError
    """

    beside = True

    def __init__(self, sock: socket.socket, *, preload: frozenset[str], lost: Callable[[ProcessHost], None]) -> None:
        self._lost = lost
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        ready: Future[Any] = Future()
        self._waiting: dict[int, Future[Any]] = {READY: ready}
        self._stopped = False
        self.ended = False  # by itself
        self._control, control = socket.socketpair()
        self.line, line = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        keep_from_children(self._control, self.line)
        self._outgoing: SimpleQueue[list[bytes | memoryview] | None] = SimpleQueue()
        try:
            with control, line:
                self._process = _start(control, line, sock, preload)
            self._writer = threading.Thread(target=self._write, name=f"mlnb writer {self.pid}", daemon=True)
            self._thread = threading.Thread(target=self._read, name=f"mlnb gateway {self.pid}", daemon=True)
            self._writer.start()
            self._thread.start()
        except BaseException:  # an interrupt: a process that was started ends when nobody holds the other end
            self._outgoing.put(None)
            for own in (self._control, self.line):
                with suppress(OSError):
                    own.shutdown(socket.SHUT_RDWR)  # for a thread that reads it
                own.close()
            if "_process" in vars(self):
                _await_end(self._process)
            raise
        try:
            ready.result(_PATIENCE)
        except BaseException as error:  # an interrupt as well
            self.stop()
            if isinstance(error, (StoppedError, TimeoutError)):
                raise ServerStartError(
                    f"The gateway process did not start: code {self._process.returncode}. "
                    "Set MLNB_DEBUG=1 and try again to see why."
                ) from error
            raise

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Let the process do what ``method`` names, and return what it returns.

        Raises
        ------
        MlnbError
            What the method raises; StoppedError if the process has ended; InvalidInputError if the arguments cannot
            be sent to it.
        """
        try:
            parts = pack((method, arguments, options))
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise InvalidInputError(f"What was given cannot be sent to the gateway process: {error}.") from None
        answer: Future[Any] = Future()
        with self._lock:
            if self._stopped:
                raise StoppedError("The gateway process was stopped.")
            self._waiting[next(self._numbers)] = answer  # it counts what comes, too
            self._outgoing.put(parts)
        return answer.result()

    def open(self) -> None:
        """Accept connections."""
        self.call("open")

    def hand_over(self, to: KernelHost) -> None:
        """Accept no more, and give the connections there are to the kernel, each as soon as it is idle."""
        stop = to.adopt(self.line)
        try:
            self.call("hand_over")
        finally:
            stop()

    def stop(self) -> None:
        """End the process and its replicas. Again is harmless."""
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)  # it ends by itself
        _await_end(self._process)
        if threading.current_thread() is not self._thread:
            self._thread.join()
        self._close()

    def _close(self) -> None:
        self._outgoing.put(None)
        self._writer.join()
        self._control.close()
        self.line.close()

    def _write(self) -> None:
        """Send what is put, on a thread that no interrupt meets: behind half a message nothing could be read."""
        with suppress(OSError):  # the process has ended, as those who wait learn
            while (parts := self._outgoing.get()) is not None:
                for part in parts:
                    self._control.sendall(part)

    def _read(self) -> None:
        """Give answers to those who wait, until the process ends."""
        try:
            for number, good, value in receive(self._control, FrameReader()):
                answer = self._waiting.pop(number, None)
                if answer is not None:
                    (answer.set_result if good else answer.set_exception)(value)
        except Exception:  # noqa: BLE001 - of what cannot be unpickled here; where the next begins is not known then
            _log.exception("The gateway process said what cannot be read")
            self._process.kill()
        with self._lock:
            by_itself, self._stopped = not self._stopped, True
            self.ended = by_itself
            waiting = list(self._waiting.values())
            self._waiting.clear()
        for answer in waiting:
            answer.set_exception(StoppedError("The gateway process has ended."))
        if by_itself:
            self._process.wait()
            self._close()
            self._lost(self)


def _await_end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _start(
    control: socket.socket, line: socket.socket, listening: socket.socket, preload: frozenset[str]
) -> subprocess.Popen[bytes]:
    descriptors = [sock.fileno() for sock in (control, line, listening)]
    path = os.pathsep.join([str(Path.cwd()) if place == "" else str(place) for place in sys.path])
    program = "from mlnb.serving.beside import main; main()"
    return subprocess.Popen(  # noqa: S603 - this very Python
        [sys.executable, "-c", program, *map(str, descriptors), ",".join(sorted(preload))],
        pass_fds=descriptors, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=None if os.environ.get("MLNB_DEBUG") or on_stderr(os.environ) else subprocess.DEVNULL,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": path, VARIABLE: INSTANCE},
    )  # fmt: skip


Host = KernelHost | ProcessHost
