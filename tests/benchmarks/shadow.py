"""What a shadow costs those who are served: the live p99 with and without one, in rounds that take turns.

`python tests/benchmarks/shadow.py [rounds]`, with the folder `tests` on the path.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from loading import Load, Numbered, failures
from misbehaving import Misbehaving

import mlnb

ROUNDS = 9
ANSWERS = 1000  # of each half of a round
CONNECTIONS, PAUSE = 32, 0.05  # about 600 requests a second
SECONDS = 0.001  # of a live batch
SHADOWS = {
    "as quick": Numbered(2, seconds=SECONDS),
    "ten times as slow": Numbered(3, seconds=10 * SECONDS),
    "hangs": Misbehaving(4, "hangs"),
    "crashes": Misbehaving(5, "crashes", share=0.01),
}


def compared(deployment: mlnb.Deployment, number: int, rounds: int) -> list[tuple[float, float]]:
    """Return the live p99 in milliseconds without and with the shadow, of each round; no request may fail."""
    windows = []
    with Load(deployment.url, connections=CONNECTIONS, pause=PAUSE) as load:
        for turn in range(rounds):
            order = (False, True) if turn % 2 else (True, False)
            windows.append(dict(_window(deployment, load, number if shadow else None) for shadow in order))
        answers = load.stop()
    assert failures(answers) == {}

    def p99(since: float, until: float) -> float:
        times = [one.received - one.sent for one in answers if since < one.sent < until]
        return float(np.quantile(times, 0.99)) * 1e3

    return [(p99(*one[False]), p99(*one[True])) for one in windows]


def _window(deployment: mlnb.Deployment, load: Load, shadow: int | None) -> tuple[bool, tuple[float, float]]:
    if shadow is not None:
        deployment.shadow(shadow)
    load.more(ANSWERS // 4)  # what starting and ending a process costs is not meant
    since = time.monotonic()
    load.more(ANSWERS, seconds=60)
    until = time.monotonic()
    if shadow is not None:
        deployment.shadow(None)
    return shadow is not None, (since, until)


def main(rounds: int) -> None:
    """Print a line for each shadow, in the kernel and with a process."""
    deployment = mlnb.deploy(Numbered(1, seconds=SECONDS), name="numbered", example=[[0.5]], timeout=5)
    for shadow in SHADOWS.values():
        deployment.registry.register(shadow, "numbered", example=[[0.5]])
    for replicas in (0, 1):
        deployment.scale(replicas)
        for number, name in enumerate(SHADOWS, start=2):
            found = compared(deployment, number, rounds)
            without, beside = (statistics.median(column) for column in zip(*found, strict=True))
            ratio = statistics.median(two / one for one, two in found)
            place = "a process" if replicas else "in kernel"
            times = f"p99 without {without:6.2f} ms, with {beside:6.2f} ms, median of ratios {ratio:.3f}"
            print(f"{place}, shadow: {name:18} {times}", flush=True)
    mlnb.stop()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"MLNB_HOME": folder, "MLNB_PROVE": "off"}
        main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
