"""How long simulations take: a day at 100 requests a second, by policy.

`make benchmark` prints it.
"""

from __future__ import annotations

import time

from mlnb.scaling.autoscale import Autoscale
from mlnb.scaling.service_time import ServiceTime
from mlnb.scaling.simulation.engine import run
from mlnb.scaling.simulation.load import Load
from mlnb.scaling.simulation.outcome import outcome_of

DAY = 86_400.0
SERVICE = ServiceTime(fixed=0.02, per_row=0.002, spread=0.3, most_rows=20)
POLICIES = {
    "utilisation at 70%": Autoscale.of(1, 8),
    "p95 under 60 ms": Autoscale.of(1, 8, p95="60ms"),
    "Kubernetes": Autoscale.of(1, 8, policy="kubernetes"),
    "Ray Serve": Autoscale.of(1, 8, policy="ray"),
}


def main() -> None:
    day = Load.day(100)
    loads = {"steady": Load.steady(100, seconds=DAY), "with a night": day.scaled(100 * DAY / day.requests)}
    print("a day at 100 requests a second and a decision every half a second: seconds, at most 10")
    print(f"{'':22}{'load':>14}{'requests':>12}{'decisions':>12}{'changes':>9}{'CPU s':>8}{'real s':>8}")
    for name, autoscale in POLICIES.items():
        for kind, load in loads.items():
            started, worked = time.perf_counter(), time.process_time()
            made = outcome_of(run(load, autoscale, service=SERVICE), objective=0.06)
            real, cpu = time.perf_counter() - started, time.process_time() - worked
            print(
                f"{name:22}{kind:>14}{made.requests:>12,}{len(made.timeline.at):>12,}{made.changes:>9,}"
                f"{cpu:>8.1f}{real:>8.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
