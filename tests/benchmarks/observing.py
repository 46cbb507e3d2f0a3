"""What observing costs: CPU of each request, and memory after many.

    python tests/benchmarks/observing.py [--requests 10000000]

Must hold: at most 4 µs of CPU per request with the sketch and the queue of the prediction log; a monitor that saw 10
million requests in two hours takes at most 3 times the memory of one that saw 100,000: the buckets of a busy second
fill up, and then there are no more.
"""

from __future__ import annotations

import argparse
import pickle
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import islice

import numpy as np

from mlnb.events import PredictionEvent
from mlnb.monitoring import ModelMonitor
from mlnb.monitoring.prediction_log import LogSettings, PredictionLog
from mlnb.registry.rows.inference import infer_signature
from mlnb.registry.signature import Signature
from mlnb.serving.observing import Observer

TOGETHER = 16  # requests of one loop turn
RATE = 15_000  # requests per second of the events' own time
ROUNDS = 7
REQUESTS = 40_000
FRESH = 10  # turns that are made before they are observed
PART = 100_000  # requests that are made; they come again and again
SPAN = 7_200  # seconds


def turns(count: int, *, seed: int = 0, numbers: bool = False) -> Iterator[list[PredictionEvent]]:
    rng = np.random.default_rng(seed)
    number = 0
    while number < count:
        seconds = rng.lognormal(-6.5, 0.6, TOGETHER).tolist()
        answers = rng.normal(size=TOGETHER) if numbers else rng.choice(["setosa", "versicolor", "virginica"], TOGETHER)
        rows = rng.normal(size=(TOGETHER, 4)).tolist()
        at = 1e9 + number / RATE
        yield [
            PredictionEvent(
                "iris", 3, f"{number + one:012x}", at, seconds[one], 1, 200, None, [rows[one]], answers[one : one + 1],
                1 + number // TOGETHER % 2, seconds[one] / 3, TOGETHER,
            )
            for one in range(TOGETHER)
        ]  # fmt: skip
        number += TOGETHER


def signature() -> Signature:
    return infer_signature(None, [[0.5, 1.0, 1.5, 2.0]])


def cost(observer: Observer, *, numbers: bool) -> float:
    """Return microseconds of CPU of this thread per request; as when serving, requests were made a moment before."""
    spent = 0.0
    source = turns(REQUESTS, numbers=numbers)
    while given := list(islice(source, FRESH)):
        begun = time.thread_time()
        for events in given:
            observer.observe(events)
        spent += time.thread_time() - begun
    return spent / REQUESTS * 1e6


def costs(*, log: PredictionLog | None, numbers: bool) -> float:
    found = []
    for _ in range(ROUNDS):
        observer = Observer("iris", signature())
        observer.expect({3: signature()})
        observer.log = log
        found.append(cost(observer, numbers=numbers))
        if log is not None:
            log.flush(timeout=60)
    return statistics.median(found)


def size_after(count: int, *, seconds: float) -> int:
    """Return the bytes of a monitor's pickle after some requests that come evenly over as many seconds."""
    monitor, part = ModelMonitor(), list(turns(min(count, PART)))
    for number in range(count // TOGETHER):
        at = 1e9 + number * TOGETHER * seconds / count
        monitor.observe([event._replace(at=at) for event in part[number % len(part)]])
    return len(pickle.dumps(monitor))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000_000)
    given = parser.parse_args()
    print("µs of CPU per request on the server's loop (at most 4):")
    with tempfile.TemporaryDirectory() as folder:
        for numbers in (False, True):
            what = "numbers" if numbers else "classes"
            print(f"  answers that are {what}, not logged: {costs(log=None, numbers=numbers):.2f}")
            with PredictionLog(LogSettings(url=f"{folder}/{what}.sqlite")) as log:
                print(f"  answers that are {what}, logged:     {costs(log=log, numbers=numbers):.2f}")
    few, times = size_after(100_000, seconds=SPAN), given.requests / 100_000
    more, denser = size_after(given.requests, seconds=SPAN * times), size_after(given.requests, seconds=SPAN)
    print(f"memory, pickled: {few:,} bytes after 100,000 requests in two hours")
    print(f"  {more:,} after {given.requests:,} at the same rate: {more / few:.3f} times as much (at most 1.05)")
    print(f"  {denser:,} after {given.requests:,} in two hours: {denser / few:.2f} times as much (at most 3)")


if __name__ == "__main__":
    main()
