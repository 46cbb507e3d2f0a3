"""Replicas in child processes: batches go over a socket pair, and come back answered."""

from __future__ import annotations

import asyncio
import pickle
from typing import TYPE_CHECKING, Any, cast

from mlnb.errors import ReplicaError
from mlnb.scaling.frames import FrameReader, pack
from mlnb.scaling.worker import Ask, Loading, Ready, Threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlnb.scaling.batching import Prediction
    from mlnb.scaling.spawner import Exit, Spawner
    from mlnb.scaling.worker import Task

__all__ = ["ProcessReplica", "Processes"]

_PATIENCE = 120.0  # seconds that loading may take
_KEPT = 256  # ends whose reasons are kept
_LAST_WORDS = 0.25  # seconds that the reason of an end is waited for


class ProcessReplica(asyncio.Protocol):
    """A model in a child process; see :class:`~mlnb.scaling.replicas.Replica`.

    Parameters
    ----------
    key : int
    lost : callable
        Called with this when the process has ended by itself.
    """

    weight = 1.0

    def __init__(self, *, key: int, lost: Callable[[ProcessReplica], None]) -> None:
        self.key = key
        self.pid: int | None = None
        self.in_flight = 0
        self.ended = False  # by itself
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lost = lost
        self._reader = FrameReader()
        self._transport: asyncio.WriteTransport | None = None
        self._done: Callable[[Prediction | BaseException], None] | None = None
        self._stopped = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        """Pass answers on."""
        for message in self._reader.feed(data):
            self._received(message)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever waits."""
        del error
        self._transport = None  # uvloop's raises on what is still written
        if self._stopped:
            self.ready.cancel()
        elif not self.ready.done():
            self.ready.set_exception(ReplicaError("The replica process ended before it was ready"))
        elif self.ready.exception() is None:
            self.ended = True
            self._lost(self)

    def run(
        self, checked: Any, rows: int, *, probabilities: bool, done: Callable[[Prediction | BaseException], None]
    ) -> None:
        """Answer a batch; see :class:`~mlnb.scaling.replicas.Replica`."""
        self.in_flight += 1
        self._done = done
        self._write(Ask(checked, rows, probabilities))

    def limit_threads(self, count: int) -> None:
        """Let its libraries use ``count`` threads at most, from the next batch on."""
        self._write(Threads(count))

    def stop(self) -> None:
        """End the process: it has nothing to do, or hangs."""
        if not self._stopped:
            self._stopped = True
            if self._transport is not None:
                self._transport.abort()
            self._end()

    def _end(self) -> None:
        """See to it that a process which hangs ends too."""
        if self.pid is not None and (self.in_flight or not self.ready.done()):
            _kill(self.pid)

    def _write(self, message: Any) -> None:
        if self._transport is not None:
            self._transport.writelines(pack(message))

    def _received(self, message: Any) -> None:
        if not self.ready.done():
            self._started(message)
            return
        done, self._done = self._done, None
        if done is not None:
            self.in_flight -= 1
            done(message)

    def _started(self, message: Any) -> None:
        if isinstance(message, Loading):
            self.pid = message.pid
        elif isinstance(message, Ready):
            self.ready.set_result(None)
        else:
            self.ready.set_exception(message)


def _kill(pid: int) -> None:
    import os
    import signal
    from contextlib import suppress

    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


class Processes:
    """Starts replica processes, and learns why they end.

    Parameters
    ----------
    spawner : Spawner
        Owned by whoever made it.
    """

    def __init__(self, spawner: Spawner) -> None:
        self._spawner = spawner
        self._loop = asyncio.get_running_loop()
        self._exits: dict[int, Exit] = {}

    async def start(
        self, key: int, task: Task, *, ended: Callable[[ProcessReplica], None],
        lost: Callable[[ProcessReplica, str], None],
    ) -> ProcessReplica:  # fmt: skip
        """Return a replica that is ready.

        Parameters
        ----------
        key : int
        task : Task
        ended : callable
            Given the replica as soon as it has ended by itself.
        lost : callable
            Given the replica and the reason a moment later.

        Raises
        ------
        MlnbError
            If it cannot be started, or cannot load the version.
        """
        self._collect()
        sock = self._spawner.spawn("mlnb.scaling.worker:serve", argument=pickle.dumps(task))
        sock.settimeout(0)

        def gone(replica: ProcessReplica) -> None:
            ended(replica)
            self._loop.create_task(self._explain(replica, lost))

        replica = ProcessReplica(key=key, lost=gone)
        await self._loop.connect_accepted_socket(lambda: replica, sock)
        try:
            await asyncio.wait_for(asyncio.shield(replica.ready), _PATIENCE)
        except TimeoutError:
            replica.stop()
            raise ReplicaError(f"A replica process did not load {task.reference} within {_PATIENCE:g} s.") from None
        except ReplicaError as error:
            raise ReplicaError(f"{error}: {await self._why(replica)}.") from None
        except BaseException:
            replica.stop()
            raise
        if replica.ended:
            raise ReplicaError("The replica process ended as soon as it was ready.")
        return replica

    async def _explain(self, replica: ProcessReplica, lost: Callable[[ProcessReplica, str], None]) -> None:
        lost(replica, await self._why(replica))

    async def _why(self, replica: ProcessReplica) -> str:
        """Wait a moment for the news of how a process ended."""
        end = self._loop.time() + _LAST_WORDS
        while replica.pid not in self._exits and self._loop.time() < end:
            await asyncio.sleep(0.002)
            self._collect()
        return _reason(self._exits.pop(replica.pid or 0, None))

    def _collect(self) -> None:
        """Take the news of ends; those of replicas that were stopped interest nobody for long."""
        self._exits |= {one.pid: one for one in self._spawner.exits()}
        while len(self._exits) > _KEPT:
            self._exits.pop(next(iter(self._exits)))


def _reason(ended: Exit | None) -> str:
    if ended is None:
        return "its process ended"
    how = f"was ended by {ended.signal}" if ended.signal else f"ended with code {ended.code}"
    words = " ".join(ended.last_words.split())
    return f"its process ({ended.pid}) {how}{f': {words[:300]}' if words else ''}"
