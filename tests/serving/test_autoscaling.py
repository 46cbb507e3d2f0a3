"""Replicas that follow the load, on real deployments: what clients see of it, and what it leaves behind."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import psutil
import pytest
from gateways import run
from loading import BROKEN, REFUSED, Load, Numbered, failures, gateway, pids, processes
from loops import until
from sending import Paced, Sending, bad
from threads import mlnb_threads
from waiting import is_open, wait_until

import mlnb
from mlnb.errors import InvalidInputError, MlnbError, NotDeployedError
from mlnb.scaling.autoscale import Autoscale
from mlnb.scaling.machine import Machine
from mlnb.scaling.policies.decision import ScalingDecision, ScalingPolicy
from mlnb.scaling.policies.latency import LatencyObjective
from mlnb.scaling.policies.tracking import TargetTracking
from mlnb.scaling.scaling_snapshot import ScalingSnapshot
from mlnb.scaling.simulation.engine import Trace
from mlnb.scaling.simulation.engine import run as simulated
from mlnb.scaling.simulation.load import Load as Arrivals
from mlnb.serving.gateway import Gateway
from mlnb.serving.plan import Manner, Plan, Spec
from mlnb.serving.service import Query

pytestmark = pytest.mark.alone

QUICK = TargetTracking(metric="utilisation", target=0.6, smoothing=0.3, up_window=0.2, down_window=1.0)

Record = Callable[[str, object], None]


def paced(seconds: float = 0.01, *, number: int = 1, name: str = "paced", **options: Any) -> mlnb.Deployment:
    return mlnb.deploy(Paced(number, seconds=seconds), name=name, example=[[0.5]], **options)


def quick(least: int = 1, most: int = 4, **given: Any) -> Autoscale:
    return Autoscale(least=least, most=most, policy=QUICK, **given)


def poisson(rate: float, seconds: float, *, begin: float = 0.0, seed: int = 0) -> list[float]:
    rng = np.random.default_rng(seed)
    times = begin + np.cumsum(rng.exponential(1 / rate, int(2 * rate * seconds) + 20))
    found: list[float] = times[times < begin + seconds].tolist()
    return found


def scaling(deployment: mlnb.Deployment) -> Any:
    found = deployment.snapshot().scaling
    assert found is not None
    return found


def changes(decisions: Sequence[ScalingDecision]) -> list[ScalingDecision]:
    return [one for one in decisions if one.desired != one.sample.desired]


# ---- a step ----


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param({}, id="utilisation"),
        pytest.param({"p95": "150ms"}, id="p95"),
        pytest.param({"policy": "in-flight"}, id="in-flight", marks=pytest.mark.soak),
        pytest.param({"policy": "queue wait"}, id="queue wait", marks=pytest.mark.soak),
    ],
)
def test_a_step_brings_a_replica_within_seconds(rule: dict[str, Any], record_property: Record) -> None:
    deployment = paced(0.03)
    deployment.autoscale(1, 6, **rule)
    before = pids(deployment)
    capacity = 1 / 0.03
    step = 1.0
    times = poisson(0.3 * capacity, step) + poisson(3 * capacity, 3, begin=step, seed=1)
    with Sending(deployment.url, times) as sending:
        began = sending.began + step
        wait_until(lambda: any(
            one.pid not in before and one.rows > 0 for one in deployment.snapshot().replicas
        ), seconds=15)  # fmt: skip
        late = time.monotonic() - began
        answers = sending.answers()
    seen = next(one for one in changes(deployment.scaling_history()) if one.desired > 1)
    record_property("seconds until it was seen", round(seen.sample.at - began, 2))
    record_property("seconds until a new replica had answered", round(late, 2))
    assert bad(answers) == {}
    assert 0 < late < 2.5


# ---- noise ----

SHRUNK = 5  # how many times all is quicker: arrivals, service, interval, and what the policy has in seconds

STEADY: dict[str, ScalingPolicy] = {
    "utilisation": TargetTracking(smoothing=1 / SHRUNK, up_window=0.5 / SHRUNK, down_window=120 / SHRUNK),
    "p95": LatencyObjective(
        seconds=0.15, drain=2.5 / SHRUNK, fast=0.5 / SHRUNK, slow=15 / SHRUNK, down_window=600 / SHRUNK,
        burst_window=40 / SHRUNK,
    ),
}  # fmt: skip


def noisy(rate: float, seconds: float, *, spread: float = 0.2) -> list[float]:
    """Return arrivals at a rate that is another one every five (sped-up) seconds, by up to a fifth."""
    rng, every, times = np.random.default_rng(3), 5 / SHRUNK, [0.0]
    while times[-1] < seconds:
        now = rate * rng.uniform(1 - spread, 1 + spread)
        times += (times[-1] + np.arange(1, max(1, round(every * now)) + 1) / now).tolist()
    return times


def by_chance(rate: float, seconds: float) -> list[float]:
    noise = Arrivals.noise(rate, spread=0.2, every=5 / SHRUNK, seconds=seconds, seed=3)
    times: list[float] = noise.arrivals(np.random.default_rng(4)).tolist()
    return times


@pytest.mark.parametrize(
    ("minutes", "arrive", "rule"),
    [
        (0.4, noisy, "p95"),
        *(pytest.param(10, arrive, rule, marks=pytest.mark.soak) for arrive in (noisy, by_chance) for rule in STEADY),
    ],
)
def test_noise_changes_nothing(
    rule: str, minutes: float, arrive: Callable[[float, float], list[float]], record_property: Record
) -> None:
    """All is five times as quick as it would be: a minute takes twelve seconds."""
    deployment = paced(0.02, replicas=Autoscale(least=1, most=8, policy=STEADY[rule], interval=0.5 / SHRUNK))
    settling, seconds = 3.0, 60 * minutes / SHRUNK
    with Sending(deployment.url, arrive(56, settling + seconds)) as sending:
        answers = sending.answers()
    begin = sending.began + settling
    decisions = [one for one in deployment.scaling_history() if begin < one.sample.at < begin + seconds]
    record_property("replicas", sorted({one.desired for one in decisions}))
    found = [(round(one.sample.at - begin, 1), one.desired, one.reason) for one in changes(decisions)]
    record_property("changes", found)
    assert bad(answers) == {}
    assert len(decisions) > min(60 * minutes, 1000 / SHRUNK)  # half of them, if the machine is slow
    assert found == []


# ---- no request fails ----


@pytest.mark.parametrize("times", [1, pytest.param(5, marks=pytest.mark.soak)])
def test_no_request_fails_while_replicas_come_and_go(times: int, record_property: Record) -> None:
    deployment = paced(replicas=quick(2, 4))
    with Load(deployment.url, connections=2, pause=0.05) as load:
        for _ in range(times):
            with Load(deployment.url, connections=10) as more:  # at most 30 rows: no overload
                wait_until(lambda: len(pids(deployment)) >= 3, seconds=15)
                more.more(200)
                assert failures(more.stop()) == {}
            wait_until(lambda: len(pids(deployment)) == 2 == deployment.replicas, seconds=20)
        answers = load.stop()
    assert failures(answers) == {}
    assert deployment.metrics().errors == 0
    last = scaling(deployment).changed
    assert last.desired == last.applied == 2
    assert scaling(deployment).trouble == ""
    record_property("changes", len(deployment.scaling_history().changes))


def bounds(deployment: mlnb.Deployment) -> tuple[int, int] | None:
    found = deployment.snapshot().scaling
    return None if found is None else (found.least, found.most)


def test_no_request_fails_whatever_else_is_changed() -> None:
    deployment = paced()
    paced_two = deployment.registry.register(Paced(2, seconds=0.01), "paced", example=[[0.5]])
    assert paced_two.number == 2
    two = "paced:2"
    fixed = None
    story: list[tuple[Callable[[], object], tuple[int, int] | None]] = [
        (lambda: deployment.autoscale(1, 4, policy=QUICK), (1, 4)),
        (lambda: deployment.autoscale(2, 5, policy=QUICK), (2, 5)),
        (lambda: deployment.autoscale(1, 2, policy=QUICK), (1, 2)),
        (lambda: deployment.scale(3), fixed),
        (lambda: deployment.autoscale(1, 2, p95="100ms"), (1, 2)),
        (lambda: deployment.scale(0), fixed),
        (lambda: deployment.autoscale(1, 4, policy=QUICK), (1, 4)),
        (lambda: mlnb.deploy(two), (1, 4)),
        (deployment.rollback, (1, 4)),
        (lambda: deployment.split({1: 50, 2: 50}), (1, 4)),
        (lambda: deployment.autoscale(2, 3, policy=QUICK), (2, 3)),
        (lambda: deployment.scale(1), fixed),
        (lambda: deployment.autoscale(1, 3, policy=QUICK), (1, 3)),
        (deployment.rollback, (1, 3)),
        (lambda: deployment.canary(2, steps=(50, 100), hold="10m"), (1, 3)),
        (deployment.promote, (1, 3)),
        (lambda: deployment.shadow(1), (1, 3)),
        (lambda: deployment.shadow(None), (1, 3)),
        (lambda: mlnb.deploy("paced:1", replicas=2), fixed),
        (lambda: mlnb.deploy(two, replicas="1:3"), (1, 3)),
        (lambda: deployment.autoscale(0, 2, policy=QUICK, idle="1s"), (0, 2)),
        (deployment.rollback, (0, 2)),
    ]
    with Load(deployment.url, connections=3) as load:  # less than one replica can take
        for number, (action, after) in enumerate(story):
            action()
            load.more(30)
            assert bounds(deployment) == after, number
            if after is not None:
                wait_until(lambda after=after: after[0] <= deployment.replicas <= after[1])  # type: ignore[misc]
        answers = load.stop()
    assert failures(answers) == {}
    assert {one.version for one in answers} == {1, 2}
    assert deployment.metrics().errors == 0
    assert deployment.metrics().requests == len(answers)


def test_a_replica_that_is_killed_costs_no_request() -> None:
    deployment = paced(replicas=quick(2, 4))
    wait_until(lambda: len(pids(deployment)) >= 2)
    with Load(deployment.url, connections=8) as load:
        for _ in range(2):
            psutil.Process(min(pids(deployment))).kill()
            load.more(100)
        wait_until(lambda: len(pids(deployment)) >= 2)
        answers = load.stop()
    assert failures(answers) == {}
    assert any(one.sample.crashes for one in deployment.scaling_history())


def test_a_gateway_that_is_killed_goes_on_following() -> None:
    deployment = paced(replicas=quick())
    with Load(deployment.url, connections=16) as load:
        wait_until(lambda: deployment.replicas >= 2, seconds=15)
        known = len(deployment.scaling_history())
        killed = time.monotonic()
        gateway(deployment).kill()
        wait_until(lambda: _decides_since(deployment, killed), seconds=20)
        load.more(100)
        wait_until(lambda: deployment.replicas >= 2, seconds=15)
        answers = load.stop()
    lost = failures(answers)
    assert {status for status, _ in lost} <= {BROKEN, REFUSED}
    assert sum(count for (status, _), count in lost.items() if status == BROKEN) <= 16
    assert all(one.good for one in answers if one.sent > killed + 5)
    history = deployment.scaling_history()
    assert len(history) > known
    assert [one.sample.at for one in history] == sorted({one.sample.at for one in history})
    wait_until(lambda: deployment.replicas == 1, seconds=20)


def _decides_since(deployment: mlnb.Deployment, moment: float) -> bool:
    with suppress(MlnbError):
        last = deployment.snapshot().scaling
        return last is not None and last.last is not None and last.last.sample.at > moment
    return False


# ---- none at all, and back ----


def asleep(deployment: mlnb.Deployment) -> bool:
    return deployment.snapshot().place == "asleep"


@pytest.fixture
def sleeper() -> mlnb.Deployment:
    deployment = paced(replicas=quick(0, 3, idle=0.5))
    deployment.predict([[3.0]])
    wait_until(lambda: asleep(deployment))
    return deployment


def test_the_first_request_wakes_a_deployment(sleeper: mlnb.Deployment, record_property: Record) -> None:
    waits = []
    for _ in range(3):
        wait_until(lambda: asleep(sleeper))
        assert pids(sleeper) == set()
        started = time.monotonic()
        assert sleeper.predict([[3.0]]).tolist() == [1e6 + 3]
        waits.append(time.monotonic() - started)
    record_property("milliseconds", [round(wait * 1e3) for wait in waits])
    assert max(waits) < 2
    woken = [one for one in sleeper.scaling_history() if one.rule == "wake-up"]
    assert len(woken) == 3


def test_many_wake_it_at_once(sleeper: mlnb.Deployment) -> None:
    with Sending(sleeper.url, [0.0] * 100) as sending:
        answers = sending.answers()
    assert bad(answers) == {}


@pytest.mark.parametrize("requests", [15, pytest.param(200, marks=pytest.mark.soak)])
def test_requests_at_the_moment_at_which_it_falls_asleep(requests: int) -> None:
    deployment = paced(0.002, replicas=quick(0, 2, idle=0.1, interval=0.05))
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.1, 0.35, requests)).tolist()
    with Sending(deployment.url, times) as sending:
        answers = sending.answers()
    assert bad(answers) == {}
    history = deployment.scaling_history()
    assert sum(one.desired == 0 < one.sample.desired for one in history) >= requests / 8


def test_what_it_tells_while_it_sleeps(sleeper: mlnb.Deployment) -> None:
    host = sleeper.url.partition("/models")[0]
    with httpx.Client(base_url=host, timeout=10) as client:
        codes = {path: client.get(path).status_code for path in (
            "/livez", "/readyz", "/v2/health/ready", "/v2/health/live", "/v2/models/paced/ready", "/v2/models/paced",
            "/models/paced", "/models/paced/stats", "/metrics", "/openapi.json",
        )}  # fmt: skip
        assert {path: code for path, code in codes.items() if code != 200} == {}
        metrics = client.get("/metrics").text
    assert asleep(sleeper)  # nothing of that woke it
    assert "paced" in metrics
    assert sleeper.metrics().errors == 0
    assert sleeper.replicas == 0
    assert sleeper.snapshot().replicas == ()
    assert sleeper.scaling_history()[-1].desired == 0
    assert sleeper.scaling_history()._repr_html_()
    assert asleep(sleeper)
    with ThreadPoolExecutor(8) as pool:
        asking = [
            pool.submit(httpx.post, f"{sleeper.url}/predict", json={"instances": [[float(n)]]}, timeout=10)
            for n in range(10, 18)
        ]
        assert [one.result().json()["prediction"] for one in asking] == [[1e6 + n] for n in range(10, 18)]


def test_another_version_while_it_sleeps(sleeper: mlnb.Deployment) -> None:
    sleeper.registry.register(Paced(2, seconds=0.01), "paced", example=[[0.5]])
    mlnb.deploy("paced:2")
    assert sleeper.predict([[3.0]]).tolist() == [2e6 + 3]
    wait_until(lambda: asleep(sleeper))
    sleeper.rollback()
    assert sleeper.predict([[3.0]]).tolist() == [1e6 + 3]


@pytest.mark.soak
def test_any_other_change_while_it_sleeps(sleeper: mlnb.Deployment) -> None:
    sleeper.registry.register(Paced(2, seconds=0.01), "paced", example=[[0.5]])
    sleeper.split({1: 50, 2: 50})
    assert {int(sleeper.predict([[3.0]])[0] // 1e6) for _ in range(40)} == {1, 2}
    wait_until(lambda: asleep(sleeper))
    sleeper.scale(2)
    assert len(pids(sleeper)) == 2
    sleeper.rollback()
    sleeper.autoscale(0, 2, policy=QUICK, idle=0.5)
    wait_until(lambda: asleep(sleeper))
    other = mlnb.deploy(Numbered(1), name="other", example=[[0.5]], replicas=1)
    assert sleeper.predict([[3.0]]).tolist() == [1e6 + 3]
    other.stop()
    wait_until(lambda: asleep(sleeper))
    sleeper.autoscale(1, 2)
    wait_until(lambda: len(pids(sleeper)) == 1)
    sleeper.autoscale(0, 2, policy=QUICK, idle=0.5)
    wait_until(lambda: asleep(sleeper))
    gateway(sleeper).kill()
    assert sleeper.predict([[3.0]]).tolist() == [1e6 + 3]
    wait_until(lambda: asleep(sleeper))
    sleeper.stop()
    wait_until(lambda: processes() == [])


# ---- the simulator against a real run ----


def trace(*pieces: tuple[float, float, float], seed: int = 5) -> list[float]:
    """Return a Poisson process by thinning: pieces of seconds, and the rates at their beginning and end."""
    rng, begin, times = np.random.default_rng(seed), 0.0, []
    for seconds, first, last in pieces:
        most = max(first, last)
        drawn = poisson(most, seconds, seed=int(rng.integers(1 << 30)))
        times += [begin + at for at in drawn if rng.random() < (first + (last - first) * at / seconds) / most]
        begin += seconds
    return times


SHORT = ((4.0, 12, 12), (7.0, 60, 60), (6.0, 60, 100), (1.0, 12, 12))
WHOLE = ((10.0, 12, 12), (25.0, 70, 70), (30.0, 20, 130), (15.0, 30, 30))
AGREEING: dict[str, ScalingPolicy] = {
    "utilisation": TargetTracking(up_window=0.0, down_window=10.0),
    "p95": LatencyObjective(seconds=0.15, down_window=15.0, burst_window=8.0),
}


@pytest.mark.parametrize(
    ("rule", "pieces"),
    [
        pytest.param("p95", SHORT, id="p95, 18 s"),
        pytest.param("p95", WHOLE, id="p95, 80 s", marks=pytest.mark.soak),
        pytest.param("utilisation", WHOLE, id="utilisation, 80 s", marks=pytest.mark.soak),
    ],
)
def test_a_simulation_agrees_with_a_real_run(
    rule: str, pieces: tuple[tuple[float, float, float], ...], record_property: Record
) -> None:
    """Measured anew where the machine had something else to do: then even requests were sent late."""
    runs: list[Agreement] = []
    while not runs or (runs[-1].late > 0.004 and len(runs) < 3):
        runs.append(agreement(rule, pieces, version=len(runs) + 1))
    record_property("runs", [str(one) for one in runs])
    assert runs[-1].simulated == pytest.approx(runs[-1].real, rel=0.15)
    assert runs[-1].apart <= 1


class Agreement(NamedTuple):
    """A real run and a simulated one: median seconds, how many replicas they differ by, how late requests were."""

    real: float
    simulated: float
    apart: int
    late: float
    steps: tuple[list[tuple[float, int]], list[tuple[float, int]]]


def agreement(rule: str, pieces: tuple[tuple[float, float, float], ...], *, version: int) -> Agreement:
    with paced(0.03, number=version, replicas=1) as deployment:
        started = time.monotonic()
        deployment.scale(2)
        startup = time.monotonic() - started
        with Sending(deployment.url, poisson(8, 3)) as sending:
            alone = float(np.median([one.seconds for one in sending.answers()]))
        deployment.scale(1)
        autoscale = Autoscale(least=1, most=6, policy=AGREEING[rule])
        mlnb.deploy(str(deployment.version), replicas=autoscale)
        wait_until(lambda: scaling(deployment).last is not None)
        service = scaling(deployment).last.sample.service
        times, seconds = trace(*pieces), sum(one[0] for one in pieces)
        with Sending(deployment.url, times) as sending:
            answers = sending.answers()
        assert bad(answers) == {}
        decisions = [one for one in deployment.scaling_history() if 0 < one.sample.at - sending.began < seconds]
    found = simulated(
        Arrivals.recorded(times, seconds=seconds), autoscale, service=service, startup=startup,
        overhead=max(0.0, alone - service.of(1)), limit=decisions[-1].sample.limit,
    )  # fmt: skip
    real = [(one.sample.at - sending.began, one.desired) for one in decisions]
    modelled = list(zip(found.timeline.at.tolist(), found.timeline.desired.tolist(), strict=True))
    return Agreement(
        real=float(np.median([one.seconds for one in answers])),
        simulated=float(np.median(found.latencies)),
        apart=_apart(found, real),
        late=float(np.quantile([one.sent - one.due for one in answers], 0.95)),
        steps=(_steps(real), _steps(modelled)),
    )


def _steps(points: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """Return when the number became another one."""
    return [
        (round(at, 1), many)
        for (_, before), (at, many) in zip([(0.0, 0), *points], points, strict=False)
        if before != many
    ]


def _apart(found: Trace, real: list[tuple[float, int]]) -> int:
    """Return the most by which the replicas differ, where those of two intervals earlier and later count as well."""
    at, desired = np.array([one for one, _ in real]), np.array([many for _, many in real])
    gaps = []
    for moment, many in zip(found.timeline.at, found.timeline.desired, strict=True):
        near = desired[np.abs(at - moment) <= 2 * found.autoscale.interval]
        if len(near):
            gaps.append(int(np.abs(near - many).min()))
    return max(gaps)


# ---- while a cell computes ----


@pytest.mark.parametrize("cell", ["python", pytest.param("numpy", marks=pytest.mark.soak)])
def test_decisions_come_while_a_cell_computes(cell: str, record_property: Record) -> None:
    deployment = paced(0.03, replicas=quick())
    square = np.ones((500, 500))
    times = poisson(10, 1) + poisson(80, 3, begin=1, seed=1)
    with Sending(deployment.url, times) as sending:
        end = sending.began + 4
        while time.monotonic() < end:
            if cell == "python":
                sum(range(2_000_000))
            else:
                square @ square
        answers = sending.answers()
    decisions = [one for one in deployment.scaling_history() if sending.began < one.sample.at < end]
    gaps = np.diff([one.sample.at for one in decisions])
    first = next(one.sample.at for one in decisions if one.desired > 1) - sending.began - 1
    record_property("longest gap, seconds", round(float(gaps.max()), 2))
    record_property("seen after, seconds", round(first, 2))
    assert bad(answers) == {}
    assert len(decisions) >= 6
    assert gaps.max() < 1
    assert first < 2.5


# ---- replay ----


def test_what_was_decided_before_a_stop_is_another_story() -> None:
    deployment = paced(replicas=quick())
    wait_until(lambda: len(deployment.scaling_history()) > 0)
    deployment.stop()
    assert len(deployment.scaling_history()) > 0
    again = paced(number=2)
    with pytest.raises(MlnbError, match="has not followed"):
        again.scaling_history()
    began = time.time()
    again.autoscale(1, 2)
    wait_until(lambda: len(again.scaling_history()) > 0)
    assert all(one.sample.wall > began for one in again.scaling_history())


@pytest.mark.parametrize(
    "rule", [{"p95": "60ms"}, pytest.param({"target": 0.5, "forecast": True}, marks=pytest.mark.soak)]
)
def test_a_replay_gives_the_very_same_decisions(rule: dict[str, Any]) -> None:
    deployment = paced()
    deployment.autoscale(1, 4, **rule)
    with Load(deployment.url, connections=12) as load:
        load.more(300)
        assert failures(load.stop()) == {}
    wait_until(lambda: deployment.scaling_history()[-1].sample.requests == 0)
    history = deployment.scaling_history()
    again = history.replay(history.autoscale)
    assert len(history) >= 5
    assert history.changes
    assert [replace(one, applied=None) for one in again] == [replace(one, applied=None) for one in history]
    with_policy = history.replay(history.autoscale.policy)
    assert [one.desired for one in with_policy] == [one.desired for one in history]


# ---- bad input ----

WRONG: list[dict[str, Any]] = [
    {"least": 4, "most": 1}, {"least": -1}, {"most": 0}, {"least": 0, "most": 0}, {"least": 1.5}, {"most": 10_000},
    {"least": "1"}, {"least": True}, {"least": None}, {"most": float("nan")}, {"target": -1}, {"target": 0},
    {"target": float("nan")}, {"target": float("inf")}, {"target": "a lot"}, {"target": 2.0}, {"policy": "fast"},
    {"policy": TargetTracking}, {"policy": 3}, {"p95": 0}, {"p95": -5}, {"p95": "soon"}, {"p95": float("nan")},
    {"p95": 50, "p99": 80}, {"p95": 50, "target": 0.5}, {"p95": 50, "policy": "cpu"}, {"idle": -1}, {"idle": "never"},
    {"idle": float("nan")}, {"schedules": "weekdays"}, {"schedules": [3]}, {"policy": "ray", "forecast": True},
]  # fmt: skip


def test_what_cannot_be_is_refused_and_changes_nothing() -> None:
    deployment = paced(replicas=quick(1, 3))
    before, events = deployment._hosted, len(deployment.registry.history("paced"))
    running = pids(deployment)
    for given in WRONG:
        for autoscale in (deployment.autoscale, lambda **given: mlnb.autoscale("paced", **given)):
            with pytest.raises(InvalidInputError) as caught:
                autoscale(**given)
            assert len(str(caught.value)) > 20, given
    for replicas in ("4:1", "1:", ":", "a:b", "-1:2", "1:2:3", (1, 2, 3), (2, 1), (0, 0), 1.5, True, -1, "1:1000", ""):
        with pytest.raises(InvalidInputError):
            mlnb.deploy("paced:1", replicas=replicas)  # type: ignore[arg-type]
    for replicas in ("1:4", (1, 4), -1, 1.5, "x"):
        with pytest.raises(InvalidInputError):
            deployment.scale(replicas)  # type: ignore[arg-type]
    with pytest.raises(NotDeployedError):
        mlnb.autoscale("pacd")
    assert deployment._hosted is before
    assert bounds(deployment) == (1, 3)
    assert pids(deployment) == running
    assert len(deployment.registry.history("paced")) == events
    assert len(deployment.registry.versions("paced")) == 1


def test_bad_bounds_of_a_first_deployment_leave_nothing() -> None:
    with pytest.raises(InvalidInputError, match="4"):
        paced(replicas="4:1")
    assert mlnb.deployments() == []
    with pytest.raises(MlnbError):
        mlnb.ModelRegistry().version("paced")
    wait_until(lambda: mlnb_threads() == [])


def test_an_objective_that_cannot_be_met_is_said() -> None:
    deployment = paced(0.03)
    deployment.autoscale(1, 3, p95="5ms")
    with Load(deployment.url, connections=2) as load:
        wait_until(lambda: "cannot be met" in scaling(deployment).last.reason)
        assert failures(load.stop()) == {}
    assert "ms" in scaling(deployment).last.reason


# ---- machines that are small ----

_ONE_CORE = """
import os, sys, time, json, tempfile
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import numpy as np
import mlnb

class Busy:
    def predict(self, rows):
        end = time.perf_counter() + 0.01 * len(rows)
        while time.perf_counter() < end:
            pass
        return np.zeros(len(rows))

with tempfile.TemporaryDirectory() as folder:
    deployment = mlnb.deploy(Busy(), name="busy", example=[[0.5]], registry=folder, replicas="1:4")
    first = deployment.autoscale(1, 4, target=0.3)
    seen, end = 0, time.monotonic() + 8
    while time.monotonic() < end:
        assert deployment.predict([[1.0]] * 4).tolist() == [0.0] * 4
        seen = max(seen, deployment.replicas)
        last = deployment.snapshot().scaling.last
        if last is not None and last.rule == "machine":
            break
    print(json.dumps({"most": seen, "now": deployment.replicas, "rule": last.rule, "reason": last.reason,
                      "limit": last.sample.limit, "trouble": deployment.snapshot().scaling.trouble}))
    deployment.stop()
"""


def test_one_core_only(home: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", _ONE_CORE], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout.splitlines()[-1])
    assert told["rule"] == "machine", told
    assert told["limit"] == 1
    assert told["now"] == 1
    assert "1 core" in told["reason"]
    assert ended.stderr == ""


def processed(registry: mlnb.ModelRegistry, autoscale: Autoscale, *, replicas: int = 1) -> Plan:
    """Return how to serve a new version by processes of a gateway in this one."""
    version = registry.register(Paced(1, seconds=0.01), "paced", example=[[0.5]])
    manner = Manner(replicas=replicas)
    spec = Spec(version=version, registry=registry.url, reference=str(version), manner=manner)
    return Plan(live=spec, autoscale=autoscale)


def test_memory_that_lacks(registry: mlnb.ModelRegistry, tmp_path: Path) -> None:
    """The files of a control group are made up; replicas and what they take are not."""
    group = tmp_path / "root" / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    (tmp_path / "root" / "proc" / "self").mkdir(parents=True)
    (tmp_path / "root" / "proc" / "self" / "cgroup").write_text("0::/\n")
    (group / "memory.max").write_text(str(10**9))
    (group / "memory.current").write_text(str(10**9 - 10**8))  # no more than is to be left free
    plan = processed(registry, quick(2, 4), replicas=2)

    async def test(gateway: Gateway) -> None:
        gateway._following._machine = Machine(tmp_path / "root")
        await gateway.deploy(plan)
        following = gateway._following
        await until(lambda: (seen := following.snapshot("paced")) is not None and _limited(seen))
        found = following.snapshot("paced")
        assert found is not None
        assert found.last is not None
        assert found.last.sample.limit == 2
        assert found.desired == 2
        assert "memory is free" in found.last.sample.limited_by

    run(test)


def _limited(seen: ScalingSnapshot) -> bool:
    return seen.last is not None and seen.last.sample.limit is not None


# ---- the end ----


def left() -> dict[str, Any]:
    gc.collect()
    places = [Path(tempfile.gettempdir()), Path("/dev/shm")]  # noqa: S108 - where there must be nothing
    names = {one.name for place in places if place.is_dir() for one in place.iterdir()}
    return {
        "descriptors": psutil.Process().num_fds(), "threads": sorted(mlnb_threads()),
        "processes": [one.pid for one in processes()], "files": {name for name in names if "mlnb" in name},
    }  # fmt: skip


def test_nothing_is_left() -> None:
    def cycle(number: int) -> None:
        deployment = paced(number=number, replicas=quick(0, 3, idle=0.3))
        with Load(deployment.url, connections=12) as load:
            wait_until(lambda: deployment.replicas >= 2, seconds=15)
            assert failures(load.stop()) == {}
        wait_until(lambda: asleep(deployment), seconds=15)
        deployment.predict([[3.0]])
        port = int(deployment.url.split(":")[2].split("/")[0])
        deployment.stop()
        wait_until(lambda: processes() == [])
        assert not is_open(port)
        assert deployment.scaling_history().changes

    cycle(1)
    before = left()
    cycle(2)
    wait_until(lambda: left()["threads"] == [])
    assert left() == before


def test_stopping_while_replicas_start() -> None:
    deployment = paced(replicas=quick(1, 4))
    deployment.autoscale(4, 4, policy=QUICK)
    deployment.stop()
    wait_until(lambda: processes() == [])


@pytest.mark.parametrize("turns", [1, 2, 3, 5])
def test_a_request_that_waits_for_the_first_replica_is_answered_although_it_is_stopped(
    registry: mlnb.ModelRegistry, turns: int
) -> None:
    plan = processed(registry, quick(0, 2, idle=0.1, interval=0.05))

    async def test(gateway: Gateway) -> None:
        await gateway.deploy(plan)
        pool = gateway.served["paced"].service.live.pool
        await until(lambda: pool.asleep and not pool.snapshot())
        asking = asyncio.create_task(gateway.answer("paced", Query([[3.0]])))
        for _ in range(turns):
            await asyncio.sleep(0)  # as far as it comes in so many turns of the loop
        started = time.monotonic()
        assert await gateway.withdraw("paced", within=5)
        assert time.monotonic() - started < 4  # nobody waited for what nobody does
        assert (await asking).prediction.tolist() == [1e6 + 3]

    run(test)
