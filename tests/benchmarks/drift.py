"""How often drift is raised where there is none, how often it is found where there is, and what watching costs.

`make benchmark` prints it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from monitoring.drift.rates import SETS, WAYS, draws, found, raised

from mlnb.events import PredictionEvent
from mlnb.monitoring.drift import RowSample

WINDOWS, SHIFTED = 200, 300


def main() -> None:
    print("windows without drift that raise anything, at most 5 %")
    print(f"{'':32}" + "".join(f"{name:>15}" for name in SETS) + f"{'all':>10}")
    total = 0
    for way in WAYS:
        counts = [raised(name, way, count=WINDOWS) for name in SETS]
        total += sum(counts)
        shares = "".join(f"{count / WINDOWS:>15.1%}" for count in counts)
        print(f"{way:32}{shares}{sum(counts) / WINDOWS / len(SETS):>10.2%}", flush=True)
    print(f"of {WINDOWS * len(SETS) * len(WAYS):,} windows: {total / WINDOWS / len(SETS) / len(WAYS):.2%}")
    print("\none of 30 columns moved by half a standard deviation: windows of 1,000 rows that name it, at least 95 %")
    for way in WAYS:
        print(f"{way:32}{found(way, count=SHIFTED) / SHIFTED:>10.1%}", flush=True)
    print(f"\na report on 30 columns and 1,000 rows: {report_seconds() * 1e3:.0f} ms of CPU")
    best = min(observing_seconds() for _ in range(5))
    print(f"observing: {best * 1e6:.2f} us of CPU per request at 10,000 a second")


def report_seconds() -> float:
    rng = np.random.default_rng(0)
    (draw,) = draws("breast_cancer", "bootstrap", count=1, rng=rng)
    window = draw.window(1_000, rng)
    started = time.process_time()
    for _ in range(10):
        draw.report(window)
    return (time.process_time() - started) / 10


def observing_seconds(requests: int = 100_000, *, turn: int = 32) -> float:
    answer = np.array([1])
    events = [
        PredictionEvent("m", 1, "r", at / 10_000, 0.001, 1, 200, None, [[0.5] * 30], answer) for at in range(requests)
    ]
    sample = RowSample()
    started = time.process_time()
    for at in range(0, requests, turn):
        sample.observe(events[at : at + turn])
    return (time.process_time() - started) / requests


if __name__ == "__main__":
    main()
