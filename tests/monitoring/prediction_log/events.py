"""Events and labels for the tests of the log; as a program, a process that logs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from mlnb.events import PredictionEvent
from mlnb.monitoring.prediction_log import LogSettings, PredictionLog

NOW = time.time()


def event(
    request_id: str,
    *,
    model: str = "iris",
    version: int = 3,
    at: float = NOW,
    rows: int = 1,
    status: int = 200,
    error: str | None = None,
    inputs: Any = ((5.1, 3.5),),
    prediction: Any = ("setosa",),
    probabilities: Any = None,
) -> PredictionEvent:
    """Return an answered request, unless it says otherwise."""
    given = [list(row) for row in inputs] if isinstance(inputs, tuple) else inputs
    answer = np.array(prediction) if isinstance(prediction, tuple) else prediction
    return PredictionEvent(
        model, version, request_id, at, 0.0015, rows, status, error, given, answer, 2, probabilities=probabilities
    )


def events(count: int, *, prefix: str = "r", at: float = NOW) -> list[PredictionEvent]:
    """Return as many requests, a millisecond apart."""
    return [event(f"{prefix}{number}", at=at + number / 1e3) for number in range(count)]


def go_on(url: str) -> None:
    """Log 500 requests a second until the end, and print each id with its time before it is logged."""
    log = PredictionLog(LogSettings.of(url))
    for number in range(100_000):
        sys.stdout.write(f"{number} {time.time()}\n")
        sys.stdout.flush()
        log.put([event(str(number), at=time.time())])
        time.sleep(0.002)  # the rate


def write(url: str, prefix: str, count: str) -> None:
    """Log so many requests in small turns."""
    with PredictionLog(LogSettings.of(url)) as log:
        for start in range(0, int(count), 10):
            log.put(events(10, prefix=f"{prefix}{start}-"))
            time.sleep(0.001)  # so that both write at the same time
    assert log.state().dropped == 0, log.state()


def fork(url: str) -> None:
    """Log on both sides of a fork: the child cannot, and breaks nothing."""
    log = PredictionLog(LogSettings.of(url))
    log.put(events(10, prefix="before"))
    assert log.flush()
    child = os.fork()
    log.put(events(5, prefix="child" if child == 0 else "parent", at=NOW + 1))
    log.close()
    if child == 0:
        os._exit(0 if log.state().dropped == 5 and "forked" in log.state().failure else 1)
    status = os.waitpid(child, 0)[1]
    assert status == 0
    assert log.state().written == 15


def leave(url: str) -> None:
    """Log and end without closing."""
    PredictionLog(LogSettings.of(url)).put(events(10))


if __name__ == "__main__":
    programs: dict[str, Callable[..., None]] = {"go_on": go_on, "write": write, "fork": fork, "leave": leave}
    programs[sys.argv[1]](*sys.argv[2:])
