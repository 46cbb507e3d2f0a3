"""What the prediction log costs: CPU of each request on the loop and on the log's thread, and requests per second.

`python tests/benchmarks/prediction_log.py [requests]`. It prints what the documentation states.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from mlnb.events import PredictionEvent
from mlnb.monitoring.prediction_log import LogSettings, PredictionLog, find, read

REQUESTS = 200_000
TURN = 16  # requests of one turn of the loop
TOGETHER = 50  # turns that are timed at once
RATE = 20_000  # requests a second: more than are served, and less than the queue refuses


def events_of(requests: int, *, columns: int) -> list[list[PredictionEvent]]:
    """Return turns of the loop with requests of one row."""
    rng = np.random.default_rng(0)
    start = time.time()
    rows = rng.normal(size=(requests, columns)).tolist()
    answers = rng.integers(0, 3, requests)
    return [
        [
            PredictionEvent(
                "iris", 1, f"{number * 7919 % 2**48:012x}", start + number / RATE, 0.0012, 1, 200, None,
                [rows[number]], answers[number : number + 1], 1, 0.0001, TURN,
            )
            for number in range(first, first + TURN)
        ]
        for first in range(0, requests, TURN)
    ]  # fmt: skip


def costs(settings: LogSettings, turns: list[list[PredictionEvent]]) -> tuple[float, float, int]:
    """Return microseconds of CPU of a request on the loop and on the log's thread, and how many were dropped."""
    putting = 0.0
    with PredictionLog(settings) as log:
        log.flush()
        thread = next(one for one in threading.enumerate() if one.name == "mlnb log")
        assert thread.ident is not None
        clock = time.pthread_getcpuclockid(thread.ident)
        before = time.clock_gettime(clock)
        begun = time.perf_counter()
        for first in range(0, len(turns), TOGETHER):
            start = time.thread_time()
            for turn in turns[first : first + TOGETHER]:
                log.put(turn)
            putting += time.thread_time() - start
            ahead = begun + (first + TOGETHER) * TURN / RATE - time.perf_counter()
            if ahead > 0:
                time.sleep(ahead)
        assert log.flush(timeout=60)
        writing = time.clock_gettime(clock) - before
        dropped = log.state().dropped
    count = len(turns) * TURN
    return putting / count * 1e6, writing / count * 1e6, dropped


def main(requests: int) -> None:
    """Measure SQLite with rows of 4 and of 30 columns."""
    for columns in (4, 30):
        turns = events_of(requests, columns=columns)
        with tempfile.TemporaryDirectory() as folder:
            settings = LogSettings(url=f"{folder}/log.sqlite")
            putting, writing, dropped = costs(settings, turns)
            size = sum(path.stat().st_size for path in Path(folder).iterdir()) / requests
            print(
                f"{columns} columns: {putting:.2f} us on the loop, {writing:.2f} us on the thread, "
                f"{size:.0f} bytes of disk a request; {dropped:,} of {requests:,} dropped"
            )
            start = time.perf_counter()
            table = read(settings, "iris", limit=50_000)
            middle = time.perf_counter()
            found = find(settings, "iris", [turns[3][0].request_id])
            print(
                f"  {len(table):,} rows read in {middle - start:.2f} s, "
                f"{len(found)} of {requests:,} found by its id in {(time.perf_counter() - middle) * 1e3:.0f} ms"
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else REQUESTS)
