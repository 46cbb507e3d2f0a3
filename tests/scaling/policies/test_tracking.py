from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scaling.policies.samples import anything, followed, sample

from mlnb.errors import InvalidInputError
from mlnb.scaling.policies.decision import ScalingDecision, ScalingSample
from mlnb.scaling.policies.forecast import Forecast
from mlnb.scaling.policies.stabilising import Rate
from mlnb.scaling.policies.tracking import Metric, TargetTracking

_FIELDS: dict[Metric, str] = {
    "utilisation": "utilisation", "in-flight": "in_flight", "queue wait": "queue_wait", "cpu": "cpu",
}  # fmt: skip


def _once(policy: TargetTracking, **given: Any) -> ScalingDecision:
    return policy.controller().step(sample(1, **given))


def _plain(metric: Metric, target: float, **given: Any) -> TargetTracking:
    return TargetTracking(metric=metric, target=target, up_window=0, down_window=0, **given)


@pytest.mark.parametrize(
    ("metric", "target", "given", "wanted"),
    [
        ("utilisation", 0.5, {"utilisation": 0.9, "desired": 2}, 4),  # ceil(2 * 0.9 / 0.5)
        ("utilisation", 0.5, {"utilisation": 0.2, "desired": 5}, 2),
        ("utilisation", 0.5, {"utilisation": 1.0, "desired": 4, "ready": 1}, 2),  # those that start count as idle
        ("in-flight", 2.0, {"in_flight": 9.0, "desired": 2}, 5),
        ("in-flight", 2.0, {"in_flight": 0.0, "desired": 2}, 1),
        ("queue wait", 0.02, {"queue_wait": 0.05, "desired": 2}, 5),
        ("cpu", 70.0, {"cpu": 140.0, "desired": 3}, 6),
    ],
)
def test_the_rule_of_kubernetes(metric: Metric, target: float, given: dict[str, Any], wanted: int) -> None:
    decision = _once(_plain(metric, target), **given)
    assert (decision.wanted, decision.desired, decision.rule) == (wanted, wanted, "target tracking")


@pytest.mark.parametrize(("utilisation", "wanted"), [(0.54, 10), (0.55, 10), (0.56, 12), (0.46, 10), (0.44, 9)])
def test_within_the_tolerance_nothing_changes(utilisation: float, wanted: int) -> None:
    assert _once(_plain("utilisation", 0.5), utilisation=utilisation, desired=10).desired == wanted


@pytest.mark.parametrize("metric", list(_FIELDS))
@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), -1.0])
def test_without_the_metric_nothing_changes(metric: Metric, value: float | None) -> None:
    decision = _once(TargetTracking(metric=metric), desired=3, **{_FIELDS[metric]: value})
    assert (decision.desired, decision.rule, decision.value) == (3, "hold", None)
    assert decision.reason == f"{decision.metric} was not measured, so nothing changes"


def test_what_it_says() -> None:
    decision = _once(_plain("utilisation", 0.7), utilisation=1.0, desired=2)
    assert decision.reason == "utilisation 100% of 70%: 3 wanted"
    assert (decision.metric, decision.value, decision.target) == ("utilisation", 1.0, 0.7)
    assert _once(_plain("queue wait", 0.02), queue_wait=0.05).reason == "queue wait 50 ms of 20 ms: 3 wanted"


def test_fewer_wait_for_their_window() -> None:
    policy = TargetTracking(smoothing=0, up_window=0, down_window=5)
    found = followed(policy.controller(), [{"utilisation": 1.0}] + [{"utilisation": 0.1}] * 12)
    assert [decision.desired for decision in found] == [2] * 11 + [1, 1]
    assert found[5].rule == "stabilised"


def test_more_come_no_faster_than_the_rate() -> None:
    policy = TargetTracking(metric="in-flight", target=1, up_window=0, up=Rate(seconds=2, replicas=2))
    found = followed(policy.controller(), [{"in_flight": 50.0}] * 10)
    assert [decision.desired for decision in found] == [3, 3, 3, 3, 3, 5, 5, 5, 5, 5]
    assert found[0].rule == "rate"


def test_a_step_is_acted_on_within_two_seconds() -> None:
    controller = TargetTracking().controller()
    followed(controller, [{"utilisation": 0.3}] * 20)
    late = [controller.step(sample(10 + number / 2, utilisation=1.0)).desired for number in range(1, 5)]
    assert late[-1] == 2


@pytest.mark.parametrize("interval", [0.4997, 0.5, 0.5003])
def test_more_come_at_the_second_sample_that_wants_them_as_the_timer_goes(interval: float) -> None:
    controller = TargetTracking(smoothing=0).controller()
    found = [
        controller.step(sample(interval * number, interval=interval, utilisation=utilisation)).desired
        for number, utilisation in enumerate((0.6, 1.0, 1.0), start=1)
    ]
    assert found == [1, 1, 2]


def test_noise_changes_nothing() -> None:
    rng = np.random.default_rng(3)
    figures = [{"utilisation": float(value)} for value in np.clip(rng.normal(0.6, 0.12, 1200), 0, 1)]
    found = followed(TargetTracking().controller(), figures, desired=3)
    assert {decision.desired for decision in found} == {3}


def test_a_forecast_comes_before_the_load() -> None:
    def when(forecast: Forecast | None) -> int:
        figures = [{"utilisation": number / 600, "requests": number} for number in range(1, 600)]
        found = followed(_plain("utilisation", 0.7, forecast=forecast).controller(), figures)
        return [decision.desired for decision in found].index(2)

    assert 20 < when(None) - when(Forecast(ahead=15)) < 45


@pytest.mark.parametrize(
    ("given", "accepted"),
    [
        ({"metric": "load"}, "there are utilisation, in-flight, queue wait, cpu"),
        ({"target": 0}, "a number from"), ({"target": -1.0}, "a number from"), ({"target": float("nan")}, "a number"),
        ({"target": 70}, "to 1 is needed"), ({"target": "0.7"}, "a number"), ({"tolerance": -0.1}, "from 0 to 1"),
        ({"smoothing": -1}, "a number of seconds"), ({"up_window": -1}, "a number of seconds"),
        ({"down_window": float("nan")}, "a number of seconds"), ({"down_window": float("inf")}, "a number of seconds"),
    ],
)  # fmt: skip
def test_figures_that_are_none(given: dict[str, Any], accepted: str) -> None:
    with pytest.raises(InvalidInputError, match=accepted):
        TargetTracking(**given)


def test_it_is_a_value() -> None:
    assert TargetTracking() == TargetTracking(target=0.7)
    assert TargetTracking().words == "utilisation at 70%"
    policy = TargetTracking(metric="queue wait", target=0.02, forecast=Forecast(ahead=30))
    assert policy.words == "queue wait at 20 ms, 30 s ahead"


@given(anything(), st.sampled_from(list(_FIELDS)), st.booleans())
def test_it_never_raises(samples: list[ScalingSample], metric: Metric, ahead: bool) -> None:
    controller = TargetTracking(metric=metric, forecast=Forecast() if ahead else None).controller()
    assert all(controller.step(one).desired >= 0 for one in samples)


@given(
    st.lists(st.floats(0, 1), max_size=20), st.floats(0, 1), st.floats(0, 1), st.integers(1, 6), st.integers(1, 6),
    st.sampled_from(list(_FIELDS)),
)  # fmt: skip
def test_more_load_never_gives_fewer(
    before: list[float], last: float, more: float, desired: int, ready: int, metric: Metric
) -> None:
    name, found = _FIELDS[metric], []
    for final in (last, last + more):
        controller = TargetTracking(metric=metric, target=0.5, up_window=1, down_window=3).controller()
        followed(controller, [{name: value, "ready": ready} for value in before], desired=desired)
        found.append(controller.step(sample(11, desired=desired, ready=ready, **{name: final})).desired)
    assert found[0] <= found[1]
