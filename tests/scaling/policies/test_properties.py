from __future__ import annotations

import math
import pickle
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlnb.scaling.autoscale import Autoscale
from mlnb.scaling.policies.bounded import BoundedController
from mlnb.scaling.policies.decision import ScalingDecision, ScalingPolicy, ScalingSample
from mlnb.scaling.policies.forecast import Forecast
from mlnb.scaling.policies.known import KubernetesHPA, RayServe
from mlnb.scaling.policies.latency import LatencyObjective
from mlnb.scaling.policies.schedule import Schedule
from mlnb.scaling.policies.threshold import CpuThreshold
from mlnb.scaling.policies.tracking import TargetTracking
from mlnb.scaling.service_time import ServiceTime

POLICIES: dict[str, ScalingPolicy] = {
    "utilisation": TargetTracking(),
    "in-flight": TargetTracking(metric="in-flight", target=2.0),
    "queue wait": TargetTracking(metric="queue wait", target=0.02),
    "cpu": TargetTracking(metric="cpu", target=70.0),
    "utilisation with a forecast": TargetTracking(forecast=Forecast()),
    "latency": LatencyObjective(seconds=0.05),
    "latency with a forecast": LatencyObjective(seconds=0.05, forecast=Forecast()),
    "cpu threshold": CpuThreshold(),
    "kubernetes": KubernetesHPA(),
    "ray": RayServe(),
}
METRIC = {
    "utilisation": "utilisation", "in-flight": "in_flight", "queue wait": "queue_wait", "cpu": "cpu",
    "utilisation with a forecast": "utilisation", "latency": "requests", "latency with a forecast": "requests",
    "cpu threshold": "cpu", "kubernetes": "cpu", "ray": "in_flight",
}  # fmt: skip
LARGEST = {"utilisation": 1.0, "in_flight": 60.0, "queue_wait": 2.0, "cpu": 120.0, "requests": 400.0}
SERVICE = ServiceTime(fixed=0.01, per_row=0.002, spread=0.3, most_rows=16)

every_policy = pytest.mark.parametrize("name", POLICIES)
few = settings(max_examples=30, deadline=None)

figures = st.one_of(st.none(), st.sampled_from([math.nan, math.inf, -1.0, 0.0]), st.floats(0, 200))
services = st.sampled_from([None, SERVICE, ServiceTime(fixed=math.nan), ServiceTime(fixed=0.0), ServiceTime(fixed=5.0)])
anything = st.fixed_dictionaries(
    {
        "requests": st.one_of(st.none(), st.integers(0, 500)),
        "in_flight": figures, "waiting": figures, "queue_wait": figures, "utilisation": figures, "cpu": figures,
        "p95": figures, "service": services,
        "starting": st.integers(0, 2), "leaving": st.integers(0, 2), "crashes": st.integers(0, 5),
        "limit": st.one_of(st.none(), st.integers(0, 8)),
    }
)  # fmt: skip
gaps = st.one_of(st.just(0.5), st.sampled_from([0.0, -0.5, -100.0, 1e-9, 0.01, 30.0, 86_400.0, math.nan, math.inf]))
bounds = st.integers(0, 4).flatmap(lambda least: st.tuples(st.just(least), st.integers(max(1, least), 6)))


def windows(policy: Any) -> tuple[float, float]:
    """Return the seconds for which no fewer come after more, and no more after fewer."""
    match policy:
        case KubernetesHPA():
            return policy.stabilisation, 0.0
        case RayServe():
            return policy.down_delay, policy.up_delay
        case CpuThreshold():
            return policy.pause, policy.pause
    burst = getattr(policy, "burst_window", None)
    return min(policy.down_window, math.inf if burst is None else burst), getattr(policy, "up_window", 0.0)


def loaded(share: float) -> dict[str, Any]:
    """Return the figures of a deployment that is so busy, from 0 to 1."""
    known = {name: share * most for name, most in LARGEST.items()}
    return {**known, "requests": int(known["requests"]), "waiting": known["in_flight"], "service": SERVICE}


@dataclass
class Deployment:
    """Applies at once what is decided."""

    controller: BoundedController
    desired: int = 1
    at: float = 0.0
    newest: float = -math.inf
    changes: list[tuple[float, int]] = field(default_factory=list)

    def step(self, passed: float, **figures: Any) -> ScalingDecision:
        at = self.at + passed
        known = {"wall": at, "interval": 0.5, "ready": max(0, self.desired - figures.get("starting", 0))}
        decision = self.controller.step(ScalingSample(at=at, desired=self.desired, **{**known, **figures}))
        if self.newest < at < math.inf:
            self.at = self.newest = at
        if decision.desired != self.desired:
            self.changes.append((at, decision.desired - self.desired))
        self.desired = decision.desired
        return decision


def deployed(policy: ScalingPolicy, least: int, most: int, *, idle: float = 5.0) -> Deployment:
    return Deployment(BoundedController(Autoscale(least=least, most=most, policy=policy, idle=idle)), max(1, least))


@every_policy
@few
@given(bounds=bounds, steps=st.lists(st.tuples(gaps, anything), max_size=30))
def test_whatever_comes_it_is_decided_within_bounds_and_the_machine(
    name: str, bounds: tuple[int, int], steps: list[tuple[float, dict[str, Any]]]
) -> None:
    least, most = bounds
    deployment = deployed(POLICIES[name], least, most)
    decision = None
    for passed, figures in steps:
        before, last = deployment.desired, decision
        late = not deployment.newest < deployment.at + passed < math.inf
        decision = deployment.step(passed, **figures)
        assert type(decision.desired) is int
        assert decision.rule
        assert decision.reason
        assert "policy failed" not in decision.reason
        if last is not None and late and deployment.newest > -math.inf:
            assert (decision.desired, decision.rule) == (last.desired, "hold")
            continue
        limit = math.inf if figures["limit"] is None else figures["limit"]
        moving = figures["starting"] or figures["leaving"]
        highest = min(most, max(limit, before) if moving else limit)
        assert min(least, highest) <= decision.desired <= highest
        if decision.desired < before and moving:
            assert decision.desired == most
        if decision.desired > max(before, least, 1):
            assert figures["crashes"] < 3


@every_policy
@few
@given(
    shares=st.lists(st.tuples(st.sampled_from([0.5, 1.0, 15.0]), st.floats(0, 1)), min_size=1, max_size=40),
    more=st.floats(0, 1),
    least=st.integers(0, 2),
)
def test_the_more_there_is_to_do_the_more_replicas(
    name: str, shares: list[tuple[float, float]], more: float, least: int
) -> None:
    one, other = deployed(POLICIES[name], least, 12), deployed(POLICIES[name], least, 12)
    *before, (passed, share) = shares
    for gap, past in before:
        assert one.step(gap, **loaded(past)).desired == other.step(gap, **loaded(past)).desired
    metric = METRIC[name]
    figures = loaded(share)
    higher = figures[metric] + type(figures[metric])(more * LARGEST[metric])
    fewer = one.step(passed, **figures)
    assert other.step(passed, **{**figures, metric: higher}).desired >= fewer.desired


@every_policy
@few
@given(steps=st.lists(st.tuples(st.sampled_from([0.5, 2.0, 20.0, 100.0]), st.floats(0, 1)), max_size=80))
def test_it_does_not_turn_about_within_its_window(name: str, steps: list[tuple[float, float]]) -> None:
    deployment = deployed(POLICIES[name], 1, 12)
    for passed, share in steps:
        for turn in range(min(4, int(passed / 0.5))):  # a few samples, of which the last ones are lost
            deployment.step(0.5, **loaded(share if turn else 0.5))
        deployment.step(passed, **loaded(share))
    after_more, after_fewer = windows(POLICIES[name])
    changes = deployment.changes
    for (at, change), (then, next_change) in pairwise(changes):
        if change > 0 > next_change:
            assert then - at >= after_more
        if change < 0 < next_change:
            assert then - at >= after_fewer


@every_policy
@few
@given(
    steps=st.lists(st.tuples(st.sampled_from([0.5, 0.01, 30.0]), st.floats(0, 1)), max_size=30),
    late=st.lists(st.tuples(st.integers(0, 29), st.floats(-50, 0), anything), max_size=10),
)
def test_samples_that_come_late_change_nothing(
    name: str, steps: list[tuple[float, float]], late: list[tuple[int, float, dict[str, Any]]]
) -> None:
    one, other = deployed(POLICIES[name], 1, 6), deployed(POLICIES[name], 1, 6)
    for turn, (passed, share) in enumerate(steps):
        decision = one.step(passed, **loaded(share))
        assert other.step(passed, **loaded(share)) == decision
        for after, before, figures in late:
            if after == turn:
                other.step(before, **figures)
        assert other.desired == one.desired


@every_policy
@few
@given(steps=st.lists(st.tuples(st.sampled_from([0.5, 2.0]), st.floats(0.2, 1)), min_size=1, max_size=20))
def test_nobody_asks_for_long_enough_and_there_are_none_until_somebody_does(
    name: str, steps: list[tuple[float, float]]
) -> None:
    deployment = deployed(POLICIES[name], 0, 4, idle=5.0)
    for passed, share in steps:
        assert deployment.step(passed, **loaded(share)).desired >= 1
    for _ in range(600):
        decision = deployment.step(5.0, **loaded(0.0))
        if decision.desired == 0:
            break
    assert (decision.desired, decision.rule) == (0, "idle")
    assert all(deployment.step(0.5, **loaded(0.0)).desired == 0 for _ in range(20))
    assert deployment.step(0.5, **{**loaded(0.0), "waiting": 1.0}).rule == "wake-up"


@every_policy
def test_all_of_it_is_a_value(name: str) -> None:
    policy = POLICIES[name]
    autoscale = Autoscale(
        least=1, most=4, policy=policy, schedules=(Schedule(2, days=["mon"], zone="Europe/Berlin"),), idle=60.0
    )
    decision = BoundedController(autoscale).step(
        ScalingSample(at=1.0, wall=1.0, interval=0.5, desired=1, ready=1, limit=2, **loaded(0.9))
    )
    for value in (policy, autoscale, decision, decision.sample):
        copied = pickle.loads(pickle.dumps(value))
        assert copied == value
        assert hash(copied) == hash(value)
    assert replace(autoscale, most=5) != autoscale
