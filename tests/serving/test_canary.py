from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlnb.durations import seconds_of
from mlnb.errors import InvalidInputError
from mlnb.monitoring.guards import Guard, GuardReading
from mlnb.serving.canary import CanaryPlan, CanaryProgress, decide

PLAN = CanaryPlan(id="a", version=4, steps=(1.0, 25.0, 100.0), hold=60.0, guard=Guard(minimum=20))


def reading(state: Any, words: str = "errors 7 % of 99 requests, at most 5 % allowed") -> GuardReading:
    return GuardReading("errors", 0.05, 0.07, state, words)


HOLDS, WAITING, DOUBTFUL, VIOLATED = map(reading, ("holds", "waiting", "doubtful", "violated"))


# ---- deciding ----


@pytest.mark.parametrize(
    ("step", "requests", "now", "readings", "kind", "reason"),
    [
        (0, 50, 59.5, [HOLDS], "hold", "1 s to go"),
        (0, 50, 0.0, [HOLDS], "hold", "60 s to go"),
        (0, 50, 60.0, [HOLDS], "advance", "the guards held at 1 %"),
        (1, 50, 60.0, [HOLDS], "advance", "the guards held at 25 %"),
        (2, 50, 60.0, [HOLDS], "promote", "all guards held at every step up to 100 %"),
        (2, 50, 60.0, [], "promote", "all guards held"),
        (0, 19, 1e6, [HOLDS], "hold", "19 of 20 requests seen"),
        (0, 0, 1e6, [], "hold", "0 of 20 requests seen"),
        (0, 20, 1e6, [HOLDS, WAITING], "hold", "not sure yet: errors 7 %"),
        (0, 20, 1e6, [DOUBTFUL, HOLDS], "hold", "not sure yet: errors 7 %"),
        (2, 20, 1e6, [DOUBTFUL], "hold", "not sure yet"),
        (0, 0, 0.0, [VIOLATED], "take back", "errors 7 % of 99 requests, at most 5 % allowed"),
        (2, 50, 1e6, [HOLDS, VIOLATED], "take back", "errors"),
        (2, 50, 1e6, [DOUBTFUL, VIOLATED], "take back", "errors"),
    ],
)
def test_decisions(
    step: int, requests: int, now: float, readings: list[GuardReading], kind: str, reason: str
) -> None:  # fmt: skip
    decision = decide(PLAN, CanaryProgress(step, 0.0, requests), readings, now=now)
    assert decision.kind == kind
    assert decision.reason.startswith(reason)


def test_all_that_is_violated_is_said_and_each_once() -> None:
    readings = [reading("violated", "errors"), reading("violated", "p99"), reading("violated", "errors")]
    assert decide(PLAN, CanaryProgress(0, 0.0), readings, now=0.0).reason == "errors; p99"


def test_a_last_step_below_100_percent_stays_until_somebody_promotes_it() -> None:
    plan = CanaryPlan.of("a", 4, steps=(1, 5), hold=0, guard=None)
    assert decide(plan, CanaryProgress(0, 0.0, 20), [HOLDS], now=0.0).kind == "advance"
    decision = decide(plan, CanaryProgress(1, 0.0, 10**6), [HOLDS], now=1e9)
    assert (decision.kind, decision.reason) == ("hold", "stays at 5 % until it is promoted")
    assert decide(plan, CanaryProgress(1, 0.0), [VIOLATED], now=1e9).kind == "take back"


@given(st.integers(0, 2), st.integers(0, 100), st.floats(0, 1e4), st.lists(st.sampled_from([HOLDS, WAITING, DOUBTFUL])))
@settings(derandomize=True, deadline=None)
def test_it_goes_on_only_if_all_holds_and_is_taken_back_only_if_something_is_violated(
    step: int, requests: int, now: float, readings: list[GuardReading]
) -> None:
    progress = CanaryProgress(step, 0.0, requests)
    decision = decide(PLAN, progress, readings, now=now)
    free = now >= PLAN.hold and requests >= 20 and set(readings) <= {HOLDS}
    assert (decision.kind != "hold") is free
    assert decision.reason
    assert decide(PLAN, progress, [*readings, VIOLATED], now=now).kind == "take back"


def test_a_long_rest_is_said_in_minutes() -> None:
    plan = CanaryPlan.of("a", 4, steps=(1,), hold="2h", guard=None)
    assert decide(plan, CanaryProgress(0, 0.0), [], now=0.0).reason == "120 min to go"


# ---- plans ----


def test_a_plan_of_what_a_person_gave() -> None:
    plan = CanaryPlan.of("a", 4, steps=[1, np.float64(5), 100.0], hold="1m", guard={"errors": 0.01, "p99": 50})
    assert plan == CanaryPlan(id="a", version=4, steps=(1.0, 5.0, 100.0), hold=60.0, guard=Guard(errors=0.01, p99=50))
    assert CanaryPlan.of("a", 4, steps=(0.1,), hold=0, guard=None).guard == Guard()
    assert CanaryPlan.of("a", 4, steps=range(10, 101, 10), hold=0, guard=None).steps[-1] == 100


@pytest.mark.parametrize(
    "steps",
    [(), [], (0, 100), (-1, 5), (5, 5), (5, 1), (5, 101), (math.nan,), (5, math.nan), (math.inf,), ("5", "100"), "25",
     (True,), (None,), 25, None, {5: 1, 1: 2}, (1j,)],
)  # fmt: skip
def test_steps_that_are_none(steps: Any) -> None:
    with pytest.raises(InvalidInputError, match="shares in percent that rise up to 100"):
        CanaryPlan.of("a", 4, steps=steps, hold=0, guard=None)


@pytest.mark.parametrize("guard", [5, "errors", [("errors", 0.1)], {"luck": 1}, {"errors": "few"}, {"errors": -1}])
def test_a_guard_that_is_none(guard: Any) -> None:
    with pytest.raises(InvalidInputError, match="guard"):
        CanaryPlan.of("a", 4, steps=(100,), hold=0, guard=guard)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (0, 0.0), (20, 20.0), (0.5, 0.5), (np.float64(3), 3.0), ("250ms", 0.25), ("30s", 30.0), ("30 s", 30.0),
        (" 1m ", 60.0), ("1.5min", 90.0), ("2h", 7200.0), ("0s", 0.0),
    ],
)  # fmt: skip
def test_durations(given: Any, seconds: float) -> None:
    found = seconds_of(given, what="hold")
    assert found == pytest.approx(seconds)
    assert type(found) is float


@pytest.mark.parametrize(
    "given",
    [-1, math.nan, math.inf, True, None, "", "soon", "1", "m", "1 d", "-5s", "1e3s", "1m30s", "٣s", ".5s", [1], 10**400,
     "9" * 400 + "h"],
)  # fmt: skip
def test_what_is_no_duration(given: Any) -> None:
    with pytest.raises(InvalidInputError, match="a number of seconds is needed"):
        seconds_of(given, what="hold")
