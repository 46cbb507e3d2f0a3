"""The process that judges drift for a server, started when it is needed."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from mlnb.errors import MlnbError
from mlnb.monitoring.drift.judging import LENGTH, judge

if TYPE_CHECKING:
    from mlnb.monitoring.drift import DriftReport
    from mlnb.monitoring.drift.judging import Question

__all__ = ["DriftJudge"]

_log = logging.getLogger(__name__)

_IDLE = 60.0  # seconds without a question, after which the process ends
_PATIENCE = 1.0  # seconds that it may take to end


class DriftJudge:
    """Asks a process of its own, which yields to all others: what is served does not wait for it.

    Where that process cannot answer, such as rows of a class that only a notebook has, this one does.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = 0.0
        self._closed = False

    def judge(self, question: Question) -> DriftReport:
        """Answer a question; takes its time, so on a thread that may wait.

        Raises
        ------
        MlnbError
            If it was closed.
        """
        with self._turn:
            self._asked = time.monotonic()
            try:
                return self._ask(question)
            except (OSError, EOFError, pickle.PickleError, _NotJudgedError, AttributeError, TypeError) as error:
                if self._closed:
                    raise MlnbError("The server was stopped.") from None
                _log.debug("Drift is judged here: %s", error)
                self._end()
            return judge(question)

    def rest(self) -> None:
        """End the process if nobody has asked it for a minute."""
        if self._process is not None and time.monotonic() - self._asked > _IDLE and self._turn.acquire(blocking=False):
            try:
                self._end()
            finally:
                self._turn.release()

    def close(self) -> None:
        """End the process, whatever it does. Again is harmless."""
        self._closed = True
        process = self._process
        if process is not None:
            process.kill()  # who waits for its answer learns it
        with self._turn:
            self._end()

    def _ask(self, question: Question) -> DriftReport:
        if self._process is None:
            if self._closed:
                raise EOFError
            self._process = _start()
        asked, answers = cast("IO[bytes]", self._process.stdin), cast("IO[bytes]", self._process.stdout)
        packed = pickle.dumps(question)
        asked.write(len(packed).to_bytes(LENGTH, "little") + packed)
        asked.flush()
        good, answer = pickle.loads(_read(answers, int.from_bytes(_read(answers, LENGTH), "little")))
        if not good:
            raise _NotJudgedError(answer)
        return cast("DriftReport", answer)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                cast("IO[bytes]", pipe).close()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class _NotJudgedError(Exception):
    """The process could not answer."""


def _read(source: IO[bytes], count: int) -> bytes:
    data = source.read(count)
    if len(data) < count:
        raise EOFError
    return data


def _start() -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(Path.cwd()) if place == "" else str(place) for place in sys.path])
    program = "import os; os.nice(19); from mlnb.monitoring.drift.judging import main; main()"  # others go first
    return subprocess.Popen(  # noqa: S603 - this very Python
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=None if os.environ.get("MLNB_DEBUG") else subprocess.DEVNULL, start_new_session=True,
        env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
