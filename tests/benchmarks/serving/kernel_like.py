"""What a notebook's kernel does: deploys from its main thread, then runs cells. Started by scenarios.py.

kernel_like.py REGISTRY MODEL.joblib ROWS.npz REPLICAS: prints {"url": ..., "seconds": ...} once the endpoint is there.
Each line on standard input is a number of seconds, for which it then loops in Python; it prints the turns per second.
Ends with its standard input.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import joblib
import numpy as np

import mlnb

TURNS = 10_000  # between two looks at the clock: about 1 ms


def loop(seconds: float) -> float:
    """Run a cell of pure Python; return its turns per second."""
    turns, value = 0, 0
    started = time.perf_counter()
    while (taken := time.perf_counter() - started) < seconds:
        for at in range(TURNS):
            value += at & 3
        turns += TURNS
    return turns / taken


def main() -> None:
    registry, model_file, rows_file, replicas = sys.argv[1:]
    model, rows = joblib.load(model_file), np.load(rows_file)["rows"]
    options: dict[str, Any] = {"replicas": int(replicas)} if int(replicas) else {}
    started = time.perf_counter()
    with mlnb.deploy(model, name="cell", example=rows, registry=registry, **options) as deployment:
        deployment.predict(rows[:1])
        print(json.dumps({"url": deployment.url, "seconds": time.perf_counter() - started}), flush=True)
        for line in sys.stdin:
            print(loop(float(line)), flush=True)


if __name__ == "__main__":
    main()
