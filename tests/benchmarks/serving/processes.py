"""A server as a process group of its own: started, waited for, weighed, and ended by the ids of its processes."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from benchmarks.serving.environments import UnavailableError

__all__ = ["ServerProcess"]


class ServerProcess:
    """A running command and all that it starts.

    Parameters
    ----------
    command : sequence of str
    variables : mapping
        Added to the environment.
    folder : Path
        Where it runs.
    """

    def __init__(self, command: Sequence[str], *, variables: Mapping[str, str], folder: Path) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self.started = time.perf_counter()
        self._leader = subprocess.Popen(
            command,
            env=os.environ | variables,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        everyone = self._processes()
        self._leader.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._leader.wait(timeout=10)
        _, left = psutil.wait_procs(everyone, timeout=2)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=5)
        self._leader.wait(timeout=5)
        self._output.close()

    def wait_until(self, good: Callable[[], bool], *, timeout: float) -> float:
        """Ask until the answer is good; return the seconds since the start.

        Raises
        ------
        UnavailableError
            If the process ends, or ``timeout`` seconds pass before.
        """
        answer: Exception | None = None
        while True:
            try:
                if good():
                    return time.perf_counter() - self.started
            except (OSError, ValueError) as error:  # not listening yet, or not able to answer
                answer = error
            if self._leader.poll() is not None:
                raise UnavailableError(f"it ended with exit code {self._leader.returncode}: {self._last_line()}")
            if time.perf_counter() - self.started > timeout:
                raise UnavailableError(f"no good answer within {timeout:.0f} s ({answer}): {self._last_line()}")
            time.sleep(0.01)

    def memory(self) -> int:
        """Return the proportional share of memory (PSS) of all its processes, in bytes."""
        total = 0
        for process in self._processes():
            with suppress(psutil.Error):
                total += process.memory_full_info().pss
        return total

    def _processes(self) -> list[psutil.Process]:
        """Return the leader, its descendants, and whoever else is in their sessions, as orphans are."""
        with suppress(psutil.NoSuchProcess):
            leader = psutil.Process(self._leader.pid)
            family = {process.pid: process for process in (leader, *leader.children(recursive=True))}
            for process in psutil.process_iter():
                with suppress(ProcessLookupError):
                    if os.getsid(process.pid) == leader.pid:
                        family[process.pid] = process
            return list(family.values())
        return []

    def _last_line(self) -> str:
        self._output.seek(0)
        lines = self._output.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else "it said nothing"
