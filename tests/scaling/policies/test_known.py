from __future__ import annotations

import math
from typing import Any

import pytest

from mlnb.errors import InvalidInputError
from mlnb.scaling.policies.decision import Controller, ScalingDecision, ScalingSample
from mlnb.scaling.policies.known import KubernetesHPA, RayServe


def sample(at: float, desired: int, **given: Any) -> ScalingSample:
    known = {"wall": at, "interval": 0.5, "ready": desired}
    return ScalingSample(at=at, desired=desired, **{**known, **given})


def run(
    controller: Controller, seconds: float, desired: int, *, since: float = 0.0, **given: Any
) -> tuple[int, list[tuple[float, int]]]:
    """Step it twice a second, each decision applied at once; return how many there are and what changed when."""
    changes = []
    for turn in range(1, round(seconds / 0.5) + 1):
        at = since + turn * 0.5
        decision = controller.step(sample(at, desired, **given))
        if decision.desired != desired:
            changes.append((at, decision.desired))
        desired = decision.desired
    return desired, changes


# ---- Kubernetes ----


def synced(policy: KubernetesHPA, desired: int, **given: Any) -> ScalingDecision:
    """Return what it decides at its second look."""
    controller = policy.controller()
    for at in (0.0, 14.5):
        assert controller.step(sample(at, desired, **given)).desired == desired
    return controller.step(sample(15.0, desired, **given))


@pytest.mark.parametrize(
    ("desired", "cpu", "gives"),
    [
        (2, 80, 2),
        (2, 88, 2),  # within a tolerance of 10 %
        (2, 88.1, 3),
        (2, 72, 2),
        (2, 160, 4),
        (3, 100, 4),  # ceil(3.75)
        (1, 800, 5),  # 4 more at most
        (6, 800, 12),  # as many again at most
        (4, 0, 4),  # 4 were wanted when it began
    ],
)
def test_kubernetes_by_its_formula(desired: int, cpu: float, gives: int) -> None:
    decision = synced(KubernetesHPA(), desired, cpu=cpu)
    assert decision.desired == gives
    assert decision.value == pytest.approx(cpu)
    assert decision.target == 80.0


def test_kubernetes_looks_every_15_seconds() -> None:
    controller = KubernetesHPA().controller()
    desired, changes = run(controller, 60.0, 1, cpu=160.0)
    assert changes == [(15.5, 2), (30.5, 4), (45.5, 8)]
    between = controller.step(sample(60.2, desired, cpu=160.0))
    assert (between.rule, between.reason, between.desired) == ("hold", "looks again in 0.3 s", 8)


def test_kubernetes_takes_the_mean_of_15_seconds() -> None:
    controller = KubernetesHPA().controller()
    run(controller, 8.0, 2, cpu=0.0)
    _, changes = run(controller, 7.5, 2, since=8.0, cpu=160.0)
    assert changes == []  # (15 * 0 + 15 * 160) / 30 is at its target


def test_kubernetes_takes_back_what_nothing_more_was_wanted_of_for_300_seconds() -> None:
    controller = KubernetesHPA().controller()
    desired, _ = run(controller, 16.0, 2, cpu=160.0)
    assert desired == 4
    desired, changes = run(controller, 330.0, desired, since=16.0, cpu=20.0)
    assert (desired, changes) == (1, [(315.5, 2), (330.5, 1)])  # as the means are


def test_kubernetes_says_what_it_waits_for() -> None:
    decision = synced(KubernetesHPA(), 4, cpu=20.0)
    assert (decision.rule, decision.wanted, decision.window) == ("stabilised", 1, 300.0)
    assert decision.reason == "CPU 0.25x target, 1 wanted: 4 to 4"
    assert synced(KubernetesHPA(), 1, cpu=800.0).rule == "rate"


@pytest.mark.parametrize(
    ("cpu", "starting", "gives"),
    [
        (160, 2, 4),  # 2 ready at twice the target are 4, of which 2 start: nothing more
        (240, 2, 6),
        (100, 2, 4),  # would turn about: stays
        (40, 2, 4),  # fewer: those that start do not count, and the window holds
    ],
)
def test_kubernetes_counts_replicas_that_start_as_idle(cpu: float, starting: int, gives: int) -> None:
    assert synced(KubernetesHPA(), 4, ready=2, starting=starting, cpu=cpu).desired == gives


@pytest.mark.parametrize("given", [{"cpu": None}, {"cpu": math.nan}, {"cpu": 90.0, "ready": 0}])
def test_kubernetes_holds_where_nothing_was_measured(given: dict[str, Any]) -> None:
    decision = synced(KubernetesHPA(), 3, **given)
    assert (decision.desired, decision.rule, decision.reason) == (3, "hold", "CPU was not measured: stays at 3")


def test_kubernetes_does_not_scale_from_none() -> None:
    assert synced(KubernetesHPA(), 0, ready=1, cpu=100.0).desired == 0


def test_kubernetes_after_samples_were_lost_looks_at_once_and_then_on_time() -> None:
    controller = KubernetesHPA().controller()
    controller.step(sample(0.0, 1, cpu=80.0))
    assert controller.step(sample(50.0, 1, cpu=160.0)).desired == 2
    assert controller.step(sample(59.5, 2, cpu=160.0)).desired == 2
    assert controller.step(sample(60.0, 2, cpu=160.0)).desired == 4


# ---- Ray Serve ----


@pytest.mark.parametrize(("in_flight", "gives"), [(4.0, 2), (4.1, 3), (9.0, 5), (0.5, 1), (0.0, 1)])
def test_ray_by_its_formula(in_flight: float, gives: int) -> None:
    policy = RayServe(up_delay=0.0, down_delay=0.0)
    desired, _ = run(policy.controller(), 30.0, 2, in_flight=in_flight)
    assert max(desired, 1) == gives


def test_ray_adds_after_30_seconds_in_a_row_that_begin_when_it_is_told() -> None:
    controller = RayServe().controller()
    desired, changes = run(controller, 60.0, 1, in_flight=6.0)
    # the first mean is told after 10 s, at 10.5; its step stands for 5 turns, and 301 are needed
    assert (desired, changes) == (3, [(40.5, 3)])


def test_ray_takes_back_after_600_seconds_in_a_row() -> None:
    controller = RayServe().controller()
    desired, changes = run(controller, 615.0, 3, in_flight=2.0)
    assert (desired, changes) == (1, [(610.5, 1)])


def test_ray_begins_to_count_again_when_it_is_not_wanted_once() -> None:
    controller = RayServe().controller()
    run(controller, 12.0, 1, in_flight=6.0)
    # means of 6, 3.5 and 2.4 are told, and just before the 30 s are over one that needs no more
    assert run(controller, 30.0, 1, since=12.0, in_flight=0.0)[1] == []
    # 1.7 is told at 50.5, 3.7 at 60.5, and more after that
    assert run(controller, 60.0, 1, since=42.0, in_flight=6.0) == (3, [(90.5, 3)])


def test_ray_takes_the_mean_of_30_seconds_and_is_told_every_10() -> None:
    controller = RayServe().controller()
    run(controller, 10.5, 1, in_flight=6.0)
    told = controller.step(sample(11.0, 1, in_flight=0.0))
    assert told.value == pytest.approx(6.0)
    for turn in range(19):
        told = controller.step(sample(11.5 + turn / 2, 1, in_flight=0.0))
    assert told.value == pytest.approx(6.0 * 21 / 41)


def test_ray_goes_to_none_only_from_one() -> None:
    controller = RayServe(down_delay=10.0).controller()
    _, changes = run(controller, 40.0, 3, in_flight=0.0)
    assert [count for _, count in changes] == [1, 0]


def test_ray_starts_the_first_replica_at_once() -> None:
    controller = RayServe().controller()
    assert controller.step(sample(1.0, 0, waiting=0.0, in_flight=0.0)).desired == 0
    assert controller.step(sample(1.5, 0, waiting=5.0, in_flight=5.0)).desired == 1
    assert controller.step(sample(2.0, 1, ready=0, starting=1, waiting=9.0)).desired == 1


@pytest.mark.parametrize(
    ("factors", "in_flight", "desired", "gives"),
    [
        ({"up_factor": 0.5}, 16.0, 2, 5),  # half of 6 more
        ({"down_factor": 0.5}, 2.0, 5, 3),
        ({"down_factor": 0.1}, 8.0, 5, 4),  # a tenth of one fewer would be none
    ],
)
def test_ray_by_its_factors(factors: dict[str, float], in_flight: float, desired: int, gives: int) -> None:
    controller = RayServe(up_delay=0.0, down_delay=0.0, **factors).controller()
    _, changes = run(controller, 10.5, desired, in_flight=in_flight)
    assert changes == [(10.5, gives)]


@pytest.mark.parametrize("in_flight", [None, math.nan, math.inf, -1.0])
def test_ray_holds_where_nothing_was_measured(in_flight: float | None) -> None:
    controller = RayServe().controller()
    assert run(controller, 700.0, 3, in_flight=in_flight) == (3, [])
    decision = controller.step(sample(701.0, 3, in_flight=in_flight))
    assert (decision.rule, decision.reason) == ("hold", "requests in flight are not known: stays at 3")


def test_ray_says_how_long_it_waits_yet() -> None:
    controller = RayServe().controller()
    run(controller, 20.0, 1, in_flight=6.0)
    decision = controller.step(sample(20.5, 1, in_flight=6.0))
    assert decision.reason == "in-flight 3.00x target, 3 wanted: stays at 1 for 19.6 s yet"
    assert (decision.rule, decision.wanted, decision.window) == ("stabilised", 3, 30.0)


# ---- both ----


@pytest.mark.parametrize("policy", [KubernetesHPA(), RayServe()])
def test_a_sample_that_comes_late_changes_nothing(policy: KubernetesHPA | RayServe) -> None:
    controller = policy.controller()
    controller.step(sample(10.0, 2, cpu=80.0, in_flight=4.0))
    for at in (10.0, 5.0, math.nan, math.inf):
        decision = controller.step(sample(at, 2, cpu=800.0, in_flight=40.0))
        assert (decision.desired, decision.rule) == (2, "hold")


@pytest.mark.parametrize(
    ("policy", "given"),
    [
        (KubernetesHPA, {"target": 0}),
        (KubernetesHPA, {"tolerance": -0.1}),
        (KubernetesHPA, {"sync": 0}),
        (KubernetesHPA, {"stabilisation": math.nan}),
        (KubernetesHPA, {"factor": 0.5}),
        (KubernetesHPA, {"replicas": 0}),
        (RayServe, {"target": -2}),
        (RayServe, {"up_delay": -1}),
        (RayServe, {"loop": True}),
        (RayServe, {"down_factor": 0}),
    ],
)
def test_what_cannot_be_is_refused(policy: Any, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(given))):
        policy(**given)


def test_words() -> None:
    assert KubernetesHPA().words == "Kubernetes HPA, CPU at 80 %"
    assert RayServe(target=5).words == "Ray Serve, 5 requests per replica"
