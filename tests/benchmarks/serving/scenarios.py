"""What one number per server does not show: bursts, overload, arrays, and the notebook's own cell."""

from __future__ import annotations

import io
import json
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import numpy as np
from benchmarks.serving.environments import OWN, UnavailableError, environment
from benchmarks.serving.load import Answer, Line, Load, Wrk, at_rate, burst, quantile, request_bytes
from benchmarks.serving.servers import Running

__all__ = [
    "Arrays",
    "Beside",
    "Burst",
    "Cell",
    "Overload",
    "arrays",
    "beside_a_loop",
    "cells",
    "kernel",
    "one_burst",
    "overload",
    "seconds_of",
]

STEADY, NEW = 128, 128
CELL_CONNECTIONS = 16
CELL_RATE = 500.0
OVERLOAD_FACTOR = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """128 new connections at once on a server busy with 128: seconds of the steady ones' median, and of the slowest."""

    median: float
    slowest: float
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overload:
    """64 connections kept busy, then four times that rate from a client that does not wait.

    Attributes
    ----------
    capacity, goodput : float
        Good answers per second.
    capacity_p99, p99 : float
        Seconds, of good answers.
    refused, failed : int
        Answers with 429 or 503; requests without any, or with another status.
    """

    capacity: float
    capacity_p99: float
    goodput: float
    p99: float
    refused: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrays:
    """1,000 rows in one request as npy, and predict itself; median seconds."""

    request: float
    predict: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """A replica's load while the cell sleeps, and while it loops in Python."""

    idle: Load
    looping: Load


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell's turns per second: alone, while its own endpoint is asked, and while another process's is."""

    alone: float
    own: float
    others: float


def one_burst(running: Running, bodies: Path) -> Burst:
    """Measure a burst on a server that wrk keeps busy."""
    wrk = Wrk(running.url, bodies, connections=STEADY, seconds=4)
    time.sleep(1)  # as a client that comes later
    answers = burst(running.port, _first_request(running, bodies), connections=NEW)
    return Burst(
        median=wrk.result().p50,
        slowest=quantile(answers, 1.0),
        failed=sum(not _good(answer.status) for answer in answers),
    )


def overload(running: Running, bodies: Path, *, seconds: float) -> Overload:
    """Measure the capacity, then offer four times as much."""
    capacity = Wrk(running.url, bodies, connections=64, seconds=seconds).result()
    request, rate = _first_request(running, bodies), OVERLOAD_FACTOR * capacity.rate
    started = time.perf_counter()
    answers = at_rate(running.port, request, rate=rate, seconds=seconds)
    taken = time.perf_counter() - started  # with what was still queued at the end
    counts = {kind: sum(kind(answer.status) for answer in answers) for kind in (_good, _refused)}
    return Overload(
        capacity=capacity.rate,
        capacity_p99=capacity.p99,
        goodput=counts[_good] / taken,
        p99=quantile(answers, 0.99),
        refused=counts[_refused],
        failed=len(answers) - sum(counts.values()),
    )


def arrays(running: Running, model: Any, rows: np.ndarray[Any, Any], *, times: int) -> Arrays:
    """Ask for 1,000 rows as npy and predict them here, in turns, so that noise hits both."""
    content = io.BytesIO()
    np.save(content, rows)
    npy = "application/x-npy"
    request = request_bytes(running.path, content.getvalue(), content_type=npy, accept=npy)
    asked, predicted = [], []
    with Line(running.port) as line:
        for _ in range(times):
            answer = line.ask(request)
            if not _good(answer.status):
                raise UnavailableError(f"npy was answered with {answer.status}")
            asked.append(answer.seconds)
            predicted.append(seconds_of(lambda: model.predict(rows)))
    return Arrays(request=statistics.median(asked), predict=statistics.median(predicted))


def seconds_of(deed: Callable[[], object]) -> float:
    """Return how long a call takes."""
    started = time.perf_counter()
    deed()
    return time.perf_counter() - started


class Kernel:
    """A child that has deployed a model and loops when told so."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        said = json.loads(self._read())
        self.url: str = f"{said['url']}/predict"
        self.seconds: float = said["seconds"]

    def loop(self, seconds: float) -> Self:
        """Start looping; :meth:`turns` waits for its end."""
        assert self._process.stdin is not None
        print(seconds, file=self._process.stdin, flush=True)
        return self

    def turns(self) -> float:
        """Return the turns per second of the loop that was started."""
        return float(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            assert self._process.stderr is not None
            said = self._process.stderr.read().strip().splitlines() or ["it said nothing"]
            raise UnavailableError(f"the process that deploys ended: {said[-1]}")
        return line


@contextmanager
def kernel(folder: Path, model: str, *, replicas: int) -> Iterator[Kernel]:
    """Start a process that deploys a model."""
    script = Path(__file__).with_name("kernel_like.py")
    files = folder / "cells", folder / f"{model}.joblib", folder.parent / "rows.npz"
    pipe = subprocess.PIPE
    command: list[Path | str] = [environment(OWN) / "python", script, *files, str(replicas)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield Kernel(process)
        finally:
            try:
                process.communicate(timeout=30)  # closes its standard input, which ends it
            except subprocess.TimeoutExpired:
                process.kill()


def beside_a_loop(child: Kernel, bodies: Path, *, seconds: float) -> Beside:
    """Measure a deployment's load while its process sleeps, then while it loops."""
    idle = Wrk(child.url, bodies, connections=CELL_CONNECTIONS, seconds=seconds).result()
    child.loop(seconds + 0.5)  # wrk starts within it, and ends
    looping = Wrk(child.url, bodies, connections=CELL_CONNECTIONS, seconds=seconds).result()
    child.turns()
    return Beside(idle=idle, looping=looping)


def cells(child: Kernel, other: Kernel, bodies: Path, *, seconds: float) -> Cell:
    """Measure a loop while nobody asks, while 500 requests a second go to its endpoint, and while they go elsewhere.

    What the cores explain is in the last: the same work beside the loop, but of a process that is not the loop's.
    """
    body = _first_line(bodies)

    def turns(asked: Kernel | None) -> float:
        child.loop(seconds)
        if asked is not None:
            url = urlsplit(asked.url)
            assert url.port is not None
            answers = at_rate(url.port, request_bytes(url.path, body), rate=CELL_RATE, seconds=seconds)
            _all_good(answers)
        return child.turns()

    return Cell(alone=turns(None), own=turns(child), others=turns(other))


def _all_good(answers: list[Answer]) -> None:
    if bad := [answer.status for answer in answers if not _good(answer.status)]:
        raise UnavailableError(f"{len(bad)} of {len(answers)} requests failed, the first with {bad[0]}")


def _good(status: int) -> bool:
    return status == 200


def _refused(status: int) -> bool:
    return status in (429, 503)


def _first_request(running: Running, bodies: Path) -> bytes:
    return request_bytes(running.path, _first_line(bodies))


def _first_line(bodies: Path) -> bytes:
    with bodies.open("rb") as lines:
        return next(lines).rstrip()
