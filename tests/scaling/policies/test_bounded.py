from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime
from time import perf_counter
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from mlnb.scaling.autoscale import Autoscale
from mlnb.scaling.policies.bounded import BoundedController
from mlnb.scaling.policies.decision import ScalingDecision, ScalingSample
from mlnb.scaling.policies.schedule import Schedule


@dataclass(frozen=True, slots=True)
class Wants:
    """A policy that wants as many replicas as the sample has requests in flight."""

    words: str = "as many as asked"

    def controller(self) -> Wants:
        return self

    def step(self, sample: ScalingSample) -> ScalingDecision:
        wanted: Any = sample.in_flight
        return ScalingDecision(
            sample=sample, metric="in-flight", value=sample.in_flight, target=1.0, wanted=wanted, desired=wanted,
            rule="target tracking", window=0.0, reason=f"in-flight {wanted}x target",
        )  # fmt: skip


def sample(at: float, desired: int, **given: Any) -> ScalingSample:
    known = {"wall": at, "interval": 0.5, "ready": desired, "requests": 1}
    return ScalingSample(at=at, desired=desired, **{**known, **given})


def bounded(least: int, most: int, *, schedules: tuple[Schedule, ...] = (), idle: float = 10.0) -> BoundedController:
    return BoundedController(Autoscale(least=least, most=most, policy=Wants(), schedules=schedules, idle=idle))


def decided(least: int, most: int, desired: int, **given: Any) -> tuple[int, str, str]:
    decision = bounded(least, most).step(sample(1.0, desired, **given))
    return decision.desired, decision.rule, decision.reason


def test_what_is_within_bounds_is_the_policys_own_decision() -> None:
    given = sample(1.0, 2, in_flight=3, limit=4)
    assert bounded(1, 4).step(given) == Wants().step(given)


@pytest.mark.parametrize(
    ("given", "decision"),
    [
        ({"in_flight": 9}, (4, "maximum", "in-flight 9x target, at most 4")),
        ({"in_flight": 0}, (1, "minimum", "in-flight 0x target, at least 1")),
        (
            {"in_flight": 3, "limit": 2, "limited_by": "2 cores"},
            (2, "machine", "in-flight 3x target, this machine holds 2: 2 cores"),
        ),
        ({"in_flight": 9, "limit": 2}, (2, "machine", "in-flight 9x target, at most 4, this machine holds 2")),
        ({"in_flight": 1, "starting": 1}, (2, "starting", "1 wanted, not down while 1 starting")),
        ({"in_flight": 1, "leaving": 2}, (2, "leaving", "1 wanted, not down while 2 leaving")),
        ({"in_flight": 3, "starting": 1, "leaving": 1}, (3, "target tracking", "in-flight 3x target")),
        (
            {"in_flight": 4, "crashes": 3, "starting": 1},
            (2, "crash loop", "4 wanted, not up: 3 replicas ended by themselves in the last minute"),
        ),
        ({"in_flight": 4, "crashes": 2}, (4, "target tracking", "in-flight 4x target")),
        ({"in_flight": 1, "crashes": 5}, (1, "target tracking", "in-flight 1x target")),
    ],
)
def test_what_keeps_two_replicas_within_bounds(given: dict[str, Any], decision: tuple[int, str, str]) -> None:
    assert decided(1, 4, 2, **given) == decision


def test_what_the_machine_holds_wins_over_the_minimum_and_says_so() -> None:
    reason = "at least 3 asked for, but this machine holds 1: 1 core"
    assert decided(3, 4, 1, in_flight=1, limit=1, limited_by="1 core") == (1, "machine", reason)


def test_bounds_win_over_what_starts() -> None:
    assert decided(1, 2, 4, in_flight=4, starting=1)[:2] == (2, "maximum")
    assert decided(3, 4, 1, in_flight=4, crashes=3)[:2] == (3, "minimum")


@pytest.mark.parametrize("moving", [{"starting": 1}, {"leaving": 1}])
def test_memory_that_a_starting_replica_takes_does_not_end_it(moving: dict[str, int]) -> None:
    assert decided(1, 4, 2, in_flight=2, limit=1, **moving)[:2] == (2, "target tracking")
    assert decided(1, 4, 2, in_flight=4, limit=1, **moving)[:2] == (2, "machine")
    assert decided(3, 4, 2, in_flight=3, limit=1, **moving)[:2] == (2, "machine")
    assert decided(1, 4, 2, in_flight=2, limit=1)[:2] == (1, "machine")


def test_replicas_that_keep_ending_leave_one_to_be_tried_again() -> None:
    assert decided(1, 4, 0, in_flight=4, crashes=3)[:2] == (1, "crash loop")


def test_the_policys_own_figures_stay_in_a_decision_that_is_bounded() -> None:
    decision = bounded(1, 4).step(sample(1.0, 2, in_flight=9))
    assert (decision.metric, decision.value, decision.target, decision.wanted) == ("in-flight", 9, 1.0, 9)


def test_a_sample_that_comes_late_changes_nothing() -> None:
    controller = bounded(1, 4)
    last = controller.step(sample(10.0, 2, in_flight=3))
    for at in (10.0, 9.0, -math.inf, math.nan, math.inf):
        late = sample(at, 1, in_flight=1)
        decision = controller.step(late)
        assert (decision.desired, decision.rule, decision.sample is late) == (3, "hold", True)
        assert decision.reason.startswith("a sample ")
        assert decision.reason.endswith("changes nothing")
    assert controller.step(sample(10.5, 3, in_flight=2)).desired == 2
    assert last.desired == 3


def test_a_first_sample_without_a_time_holds_within_bounds() -> None:
    decision = bounded(2, 4).step(sample(math.nan, 1, in_flight=4))
    assert (decision.desired, decision.rule) == (2, "minimum")
    decision = bounded(2, 4).step(sample(math.nan, 3, in_flight=1))
    assert (decision.desired, decision.rule, decision.reason) == (3, "hold", "a sample without a time changes nothing")


@pytest.mark.parametrize("wanted", [None, 2.5, "3", math.nan])
def test_a_policy_that_fails_holds_and_says_why(wanted: Any) -> None:
    decision = bounded(1, 4).step(sample(1.0, 2, in_flight=wanted))
    assert (decision.desired, decision.rule) == (2, "hold")
    assert "the policy failed, TypeError: " in decision.reason


def test_a_policy_that_fails_is_still_within_bounds_and_asked_again() -> None:
    controller = bounded(3, 4)
    assert controller.step(sample(1.0, 2, in_flight=None)).desired == 3
    assert controller.step(sample(2.0, 3, in_flight=4)).desired == 4


def test_whole_numbers_of_any_kind_are_taken() -> None:
    import numpy as np

    decision = bounded(1, 4).step(sample(1.0, 2, in_flight=np.int64(3)))
    assert (decision.desired, type(decision.desired)) == (3, int)


# ---- none ----


def quiet(at: float, desired: int, **given: Any) -> ScalingSample:
    return sample(at, desired, **{"requests": 0, "in_flight": 0, "waiting": 0, **given})


def test_the_last_replica_goes_when_nobody_has_asked_for_long_enough() -> None:
    controller = bounded(0, 4)
    controller.step(sample(0.0, 1, in_flight=1))
    stays = controller.step(quiet(9.5, 1))
    assert (stays.desired, stays.rule) == (1, "idle")
    assert stays.reason == "0 wanted, the last one stays until no request came for 10s"
    goes = controller.step(quiet(10.0, 1))
    assert (goes.desired, goes.rule, goes.reason) == (0, "idle", "no request for 10s: 1 to 0")
    none = controller.step(quiet(10.5, 0, leaving=1))
    assert (none.desired, none.rule, none.reason) == (0, "idle", "no request: stays at 0")


@pytest.mark.parametrize(
    "asked", [{"requests": 1}, {"in_flight": 0.1}, {"waiting": 1}, {"requests": None, "in_flight": math.nan}]
)
def test_whatever_may_be_a_request_begins_the_time_again(asked: dict[str, Any]) -> None:
    controller = bounded(0, 4)
    controller.step(quiet(0.0, 1))
    controller.step(quiet(9.0, 1, **asked))
    assert controller.step(quiet(18.5, 1)).desired == 1
    assert controller.step(quiet(19.0, 1)).desired == 0


def test_the_last_replica_stays_while_one_starts_or_leaves() -> None:
    controller = bounded(0, 4, idle=0.0)
    assert controller.step(quiet(1.0, 1, starting=1)).rule == "starting"
    assert controller.step(quiet(2.0, 1, leaving=1)).rule == "leaving"
    assert controller.step(quiet(3.0, 1)).desired == 0


@dataclass(frozen=True, slots=True)
class Remembers(Wants):
    """A policy that wants three replicas, whatever comes."""

    def controller(self) -> Remembers:
        return self

    def step(self, sample: ScalingSample) -> ScalingDecision:
        return replace(Wants.step(self, replace(sample, in_flight=3)), sample=sample)


def test_all_go_after_idling_whatever_the_policy_remembers() -> None:
    controller = BoundedController(Autoscale(least=0, most=4, policy=Remembers(), idle=10.0))
    assert controller.step(sample(1.0, 3)).desired == 3
    assert controller.step(quiet(10.5, 3)).desired == 3
    goes = controller.step(quiet(11.5, 3))
    assert (goes.desired, goes.rule, goes.reason) == (0, "idle", "no request for 10s: 3 to 0")


def test_more_than_one_goes_by_the_policy_while_requests_are_answered() -> None:
    controller = bounded(0, 4, idle=0.0)
    assert controller.step(quiet(1.0, 3, in_flight=2)).desired == 2


@pytest.mark.parametrize("asked", [{"requests": 3}, {"in_flight": 0.5}, {"waiting": 1}])
def test_a_request_wakes_it_at_once(asked: dict[str, Any]) -> None:
    decision = bounded(0, 4).step(quiet(1.0, 0, **asked, crashes=3))
    assert (decision.desired, decision.rule, decision.reason) == (1, "wake-up", "a request came: 0 to 1")


@pytest.mark.parametrize("unknown", [{}, {"requests": None, "in_flight": None, "waiting": None}, {"waiting": math.nan}])
def test_while_nothing_is_asked_there_are_none(unknown: dict[str, Any]) -> None:
    assert bounded(0, 4).step(quiet(1.0, 0, **unknown)).desired == 0


def test_after_a_minimum_of_none_come_at_least_as_many_as_now_asked_for() -> None:
    assert bounded(2, 4).step(quiet(1.0, 0)).desired == 2


# ---- schedules ----


def test_of_several_schedules_that_hold_the_last_counts() -> None:
    office = Schedule(2, days="weekdays", start="08:00", end="18:00", zone="UTC")
    lunch = Schedule(3, 6, start="12:00", end="13:00", zone="UTC")
    controller = bounded(1, 4, schedules=(office, lunch))
    day = datetime(2026, 1, 5, tzinfo=ZoneInfo("UTC")).timestamp()
    assert [controller.bounds(day + 3600 * hour) for hour in (7, 8, 12, 13, 18)] == [
        (1, 4),
        (2, 4),
        (3, 6),
        (2, 4),
        (1, 4),
    ]
    decision = controller.step(sample(1.0, 1, wall=day + 3600 * 9, in_flight=1))
    assert (decision.desired, decision.rule) == (2, "minimum")
    assert decision.reason == "in-flight 1x target, at least 2 (at least 2 on weekdays, 08:00 to 18:00 (UTC))"


def test_a_minimum_above_the_usual_maximum_raises_it() -> None:
    assert bounded(1, 4, schedules=(Schedule(6),)).bounds(0.0) == (6, 6)


def test_a_minimum_by_schedule_keeps_the_last_replica() -> None:
    controller = bounded(0, 4, idle=0.0, schedules=(Schedule(1, days="mon", zone="UTC"),))
    monday = datetime(2026, 1, 5, tzinfo=ZoneInfo("UTC")).timestamp()
    assert controller.step(quiet(1.0, 1, wall=monday)).desired == 1
    assert controller.step(quiet(2.0, 1, wall=monday + 86_400)).desired == 0


@pytest.mark.alone
def test_a_step_costs_little() -> None:
    given = [sample(at / 2, 4, in_flight=9 if at % 2 else 4, limit=8) for at in range(20_000)]
    controller, costs = bounded(1, 4), []
    for first in range(0, len(given), 1000):
        began = perf_counter()
        for one in given[first : first + 1000]:
            controller.step(one)
        costs.append((perf_counter() - began) / 1000)
    assert min(costs) < 60e-6  # 6 microseconds, and several times as many where coverage is measured
