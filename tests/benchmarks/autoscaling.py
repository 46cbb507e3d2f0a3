"""The latency objective against the known rules, on loads that autoscalers are known to fail on: the proof of issue 7.

`python tests/benchmarks/autoscaling.py [seeds] [first seed]`; about three minutes. Simulated, with the same server,
start-up time, bounds and arrivals for all. It says where one of the three promises does not hold: against the defaults
of the Kubernetes HPA and of Ray Serve at most half the requests over the objective, at no more than 1.10 times the
replica-seconds, and never more direction changes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from math import ceil

from mlnb.scaling.autoscale import Autoscale
from mlnb.scaling.policies.decision import ScalingPolicy
from mlnb.scaling.policies.known import KubernetesHPA, RayServe
from mlnb.scaling.policies.latency import LatencyObjective
from mlnb.scaling.policies.threshold import CpuThreshold
from mlnb.scaling.service_time import ServiceTime
from mlnb.scaling.simulation.engine import run
from mlnb.scaling.simulation.load import Load
from mlnb.scaling.simulation.outcome import outcome_of

OBJECTIVE = 0.1  # seconds, for 95 % of the requests
LEAST, MOST, STARTUP = 1, 16, 2.0
SETTLED = 0.7  # of their time that replicas work when a shape begins: no policy starts cold
SEEDS, FIRST = 5, 1  # the defaults were chosen on seeds from 101 on
SERVERS = {
    "one row at a time": ServiceTime(fixed=0.02, spread=0.5),
    "batches of up to 8": ServiceTime(fixed=0.016, per_row=0.004, spread=0.3, most_rows=8),
}
POLICIES: dict[str, ScalingPolicy] = {
    "ours": LatencyObjective(seconds=OBJECTIVE),
    "HPA": KubernetesHPA(),
    "Ray Serve": RayServe(),
    "CPU rule": CpuThreshold(),
}
RIVALS = ("HPA", "Ray Serve")

# Of what all the replicas that there may be can take, and the seed; long enough for all to settle.
SHAPES: dict[str, Callable[[float, int], Load]] = {
    "step x8": lambda full, _: Load.step(0.05 * full, 0.4 * full, at=60, seconds=600),
    "ramp": lambda full, _: Load.ramp(0.025 * full, 0.5 * full, seconds=600),
    "sine 10 min": lambda full, _: Load.sine(0.05 * full, 0.45 * full, period=600, seconds=1800),
    "spike 10 s": lambda full, _: Load.spike(0.05 * full, 0.4 * full, at=60, lasts=10, seconds=900),
    "noise 20 %": lambda full, seed: Load.noise(0.2 * full, spread=0.2, every=5, seconds=600, seed=seed),
    "day": lambda full, _: Load.day(0.5 * full),
}
ONCE = ("day",)  # long enough that one seed says it; of batches it is more than a simulation holds


@dataclass(frozen=True)
class Figures:
    """Means of what came of a policy under a load."""

    requests: float
    over: float
    replica_seconds: float
    flaps: float

    def __add__(self, other: Figures) -> Figures:
        return Figures(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    def per(self, count: int) -> Figures:
        return Figures(*(getattr(self, one.name) / count for one in fields(self)))


def simulated(server: str, shape: str, policy: str, seed: int) -> Figures:
    """Return what comes of one simulation."""
    service = SERVERS[server]
    load = SHAPES[shape](MOST * service.capacity, seed)
    autoscale = Autoscale(least=LEAST, most=MOST, policy=POLICIES[policy])
    initial = ceil(float(load.rates[0]) / service.capacity / SETTLED)
    trace = run(load, autoscale, service=service, startup=STARTUP, initial=initial, seed=seed)
    outcome = outcome_of(trace, objective=OBJECTIVE)
    return Figures(outcome.requests, outcome.over or 0, outcome.replica_seconds, outcome.flaps)


def lost(ours: Figures, rival: Figures) -> list[str]:
    """Return the promises that do not hold."""
    held = {
        "half the requests over": ours.over <= rival.over / 2,
        "1.10x the replica-seconds": ours.replica_seconds <= 1.1 * rival.replica_seconds,
        "no more direction changes": ours.flaps <= rival.flaps,
    }
    return [promise for promise, holds in held.items() if not holds]


def show(shape: str, found: dict[str, Figures]) -> int:
    """Print the lines of a shape, and return how many promises do not hold."""
    ours, count = found["ours"], 0
    for policy, one in found.items():
        verdict = ""
        if policy in RIVALS:
            missing = lost(ours, one)
            count += len(missing)
            verdict = f"LOST: {', '.join(missing)}" if missing else "all three hold"
        ratio = f"{ours.over / one.over:5.2f}" if one.over else "    -"
        print(
            f"{shape:12} {policy:10} {one.over:10,.0f} {one.over / one.requests:8.2%} {one.replica_seconds:10,.0f}"
            f" {one.flaps:6.1f}   {ratio} {ours.replica_seconds / one.replica_seconds:6.2f}   {verdict}",
            flush=True,
        )
        shape = ""
    return count


def main(seeds: int, first: int) -> None:
    """Print a table for each server."""
    began = time.monotonic()
    for name, policy in POLICIES.items():
        print(f"{name}: {policy}")
    count = promises = 0
    with ProcessPoolExecutor(2) as processes:
        for server, service in SERVERS.items():
            print(f"\n{server}: {service}\nstart-up {STARTUP:g} s, {LEAST} to {MOST} replicas", end=", ")
            print(f"at first as many as work {SETTLED:.0%} of their time", end=", ")
            print(f"{1e3 * OBJECTIVE:g} ms for 95 %, seeds {first} to {first + seeds - 1} ({', '.join(ONCE)}: {first})")
            print("                              over                replica-  direc-   ours / theirs")
            print("load         policy      objective              seconds  tions     over   cost")
            for shape in (one for one in SHAPES if one not in ONCE or service.most_rows == 1):
                promises += 3 * len(RIVALS)
                chosen = range(first, first + (1 if shape in ONCE else seeds))
                jobs = {
                    policy: [processes.submit(simulated, server, shape, policy, seed) for seed in chosen]
                    for policy in POLICIES
                }
                results = {policy: [job.result() for job in several] for policy, several in jobs.items()}
                means = {policy: sum(several[1:], several[0]).per(len(several)) for policy, several in results.items()}
                count += show(shape, means)
    print(f"\n{promises - count} of {promises} promises hold; {time.monotonic() - began:.0f} s.")


if __name__ == "__main__":
    given = [int(one) for one in sys.argv[1:]]
    main(*given, *(SEEDS, FIRST)[len(given) :])
