from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scaling.policies.samples import SERVICE, anything, followed, sample

from mlnb.errors import InvalidInputError
from mlnb.scaling.policies.decision import ScalingSample
from mlnb.scaling.policies.forecast import Forecast
from mlnb.scaling.policies.latency import LatencyObjective
from mlnb.scaling.policies.queueing import replicas_for
from mlnb.scaling.service_time import ServiceTime

POLICY = LatencyObjective(seconds=0.1)


def _steady(rate: float, seconds: float, **given: Any) -> list[dict[str, Any]]:
    return [{"requests": round(rate / 2), "waiting": 0} | given] * int(2 * seconds)


@pytest.mark.parametrize("rate", [10, 60, 200, 600])
def test_a_steady_load_gets_what_the_formulas_say(rate: float) -> None:
    desired = followed(POLICY.controller(), _steady(rate, 60))[-1].desired
    assert desired in {replicas_for(rate, SERVICE, seconds=0.08), replicas_for(rate * 1.02, SERVICE, seconds=0.08)}


def test_a_step_to_three_times_one_replica_is_decided_within_a_second() -> None:
    controller = POLICY.controller()
    followed(controller, _steady(10, 30))
    first = controller.step(sample(30.5, requests=75, waiting=50))
    second = controller.step(sample(31, requests=75, waiting=100, desired=first.desired, ready=1))
    assert first.desired >= 3
    assert second.desired >= 3
    third = controller.step(sample(31.5, requests=75, waiting=150, desired=second.desired, ready=1))
    assert third.desired >= 4


def test_what_waits_too_long_is_worked_off() -> None:
    controller = POLICY.controller()
    assert followed(controller, _steady(60, 30))[-1].desired == 2
    found = controller.step(sample(31, requests=30, waiting=300, desired=2))
    assert found.desired == 5  # 60 requests/s and those 292 in 2 s, at 50 requests/s each
    assert "60 requests/s on average and 292 that wait too long" in found.reason


def test_noise_changes_nothing_for_ten_minutes() -> None:
    rng = np.random.default_rng(5)
    levels = np.repeat(np.clip(rng.normal(150, 30, 120), 60, 190), 10)
    figures = [{"requests": int(count), "waiting": 0} for count in rng.poisson(levels / 2)]
    found = [decision.desired for decision in followed(POLICY.controller(), figures, desired=5)]
    assert set(found) == {5}


def test_fewer_when_they_were_enough_for_the_window() -> None:
    policy = LatencyObjective(seconds=0.1, down_window=20, burst_window=20)
    found = followed(policy.controller(), _steady(200, 30) + _steady(10, 40))
    desired = [decision.desired for decision in found]
    assert desired[59 : 59 + 40] == [desired[59]] * 40
    assert desired[-1] == 1
    assert found[80].rule == "stabilised"
    assert sorted(desired[59:], reverse=True) == desired[59:]


def test_a_burst_does_not_stay_for_long() -> None:
    found = followed(POLICY.controller(), _steady(40, 60) + _steady(320, 8) + _steady(40, 60))
    desired = [decision.desired for decision in found]
    assert (desired[119], desired[-1]) == (2, 2)
    assert desired[135] >= 7


def test_where_reality_is_worse_more_are_wanted() -> None:
    found = followed(POLICY.controller(), _steady(100, 120, p95=0.15))
    assert found[10].desired == 3
    assert found[-1].desired > found[10].desired


@pytest.mark.parametrize("p95", [0.01, 0.15])
def test_a_long_gap_corrects_nothing_by_itself(p95: float) -> None:
    controller = POLICY.controller()
    before = followed(controller, _steady(100, 60, p95=p95))[-1]
    after = controller.step(sample(1e6, requests=50, waiting=0, p95=p95, desired=before.desired))
    assert after.wanted in {before.wanted, before.wanted + 1}
    assert controller.step(sample(1e300, requests=50, p95=p95, desired=3)).desired >= 3


def test_a_slow_queue_is_no_worse_reality() -> None:
    found = followed(POLICY.controller(), _steady(100, 120, p95=0.15, starting=1, ready=1))
    assert found[-1].desired == found[10].desired


def test_what_no_number_can_do_is_said() -> None:
    policy = LatencyObjective(seconds=0.05)
    found = followed(policy.controller(), _steady(100, 20, service=ServiceTime(fixed=0.08)))[-1]
    assert "one row alone takes 80 ms; 50 ms cannot be met by any number of replicas" in found.reason
    assert 9 <= found.desired <= 16  # eight work all the time
    tail = followed(policy.controller(), _steady(10, 20, service=ServiceTime(fixed=0.045, spread=0.5)))[-1]
    assert "ms at p95; 50 ms cannot be met by any number of replicas" in tail.reason


def test_what_it_says() -> None:
    decision = followed(POLICY.controller(), _steady(60, 30))[-1]
    assert (decision.metric, decision.rule) == ("requests/s per replica", "latency objective")
    assert decision.value == pytest.approx(30, rel=0.01)
    assert decision.target == pytest.approx(35.8, rel=0.1)
    assert decision.reason == "60 requests/s on average, one replica takes 35.8: 2 wanted"


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (1200, "1200 requests/s on average"), (62.6, "63 requests/s on average"), (10, "10 requests/s on average"),
        (6.22, "6.2 requests/s on average"), (0.1, "0.1 requests/s on average"), (0.09, "no requests"),
        (0, "no requests"),
    ],
)  # fmt: skip
def test_it_says_the_load_in_sensible_digits(rate: float, words: str) -> None:
    decision = POLICY.controller().step(sample(1, requests=rate / 2, waiting=0))
    assert decision.reason.startswith(f"{words}, one replica takes ")


@pytest.mark.parametrize("missing", ["requests", "service"])
def test_without_a_measurement_nothing_changes(missing: str) -> None:
    (found,) = followed(POLICY.controller(), [{"requests": 300, missing: None}], desired=2)
    assert (found.desired, found.rule) == (2, "hold")
    assert found.reason.endswith("so nothing changes")


def test_the_service_time_is_remembered() -> None:
    controller = POLICY.controller()
    followed(controller, _steady(200, 10))
    assert controller.step(sample(11, requests=100, service=None)).desired > 1


def test_a_forecast_comes_before_the_load() -> None:
    ramp = [{"requests": number // 8, "waiting": 0} for number in range(1200)]

    def when(forecast: Forecast | None) -> int:
        policy = LatencyObjective(seconds=0.1, forecast=forecast)
        return [one.desired for one in followed(policy.controller(), ramp)].index(5)

    assert when(None) - when(Forecast(ahead=20)) > 20


def test_other_machines_and_loads_are_not_slow_to_decide() -> None:
    large = followed(POLICY.controller(), _steady(1_000_000, 20))[-1]
    assert 20_000 < large.desired < 22_000


@pytest.mark.parametrize(
    "given",
    [
        {"seconds": 0}, {"seconds": -1}, {"seconds": float("nan")}, {"quantile": 0}, {"quantile": 1}, {"aim": 0},
        {"aim": 2}, {"drain": 0}, {"fast": 0}, {"slow": -1}, {"spare": -1}, {"down_window": -1}, {"burst_window": -1},
    ],
)  # fmt: skip
def test_figures_that_are_none(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="is needed"):
        LatencyObjective(**({"seconds": 0.1} | given))


def test_it_is_a_value() -> None:
    assert LatencyObjective(seconds=0.1) == POLICY
    assert POLICY.words == "p95 under 100 ms"
    assert LatencyObjective(seconds=0.05, quantile=0.99, forecast=Forecast()).words == "p99 under 50 ms, 15 s ahead"


@given(anything(), st.booleans())
def test_it_never_raises(samples: list[ScalingSample], ahead: bool) -> None:
    controller = LatencyObjective(seconds=0.1, forecast=Forecast() if ahead else None).controller()
    assert all(controller.step(one).desired >= 0 for one in samples)


@given(
    st.lists(st.integers(0, 500), max_size=20), st.integers(0, 500), st.integers(0, 500),
    st.sampled_from(["requests", "waiting", "p95"]), st.integers(1, 8),
)  # fmt: skip
def test_more_load_never_gives_fewer(before: list[int], last: int, more: int, metric: str, desired: int) -> None:
    found = []
    for final in (last, last + more):
        controller = LatencyObjective(seconds=0.1, down_window=3, burst_window=1).controller()
        followed(controller, [{"requests": count} for count in before], desired=desired)
        figures: dict[str, Any] = {"requests": 50, "waiting": 0, "p95": 0.05} | {metric: final}
        found.append(controller.step(sample(21, desired=desired, **figures)).desired)
    assert found[0] <= found[1]


@given(st.lists(st.integers(0, 400), min_size=1, max_size=60))
def test_no_replica_goes_within_the_window_after_one_came(counts: list[int]) -> None:
    policy = LatencyObjective(seconds=0.1, down_window=8, burst_window=4)
    desired = [1, *(one.desired for one in followed(policy.controller(), [{"requests": count} for count in counts]))]
    ups = [at for at, (before, after) in enumerate(pairwise(desired)) if after > before]
    downs = [at for at, (before, after) in enumerate(pairwise(desired)) if after < before]
    assert all(down - up > 8 for up in ups for down in downs if down > up)  # half a second each
