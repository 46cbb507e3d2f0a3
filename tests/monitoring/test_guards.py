from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from mlnb.errors import InvalidInputError
from mlnb.monitoring.guards import Drift, Evidence, Guard, GuardReading, judge
from mlnb.monitoring.tally import Tally


def read(guard: Guard, **seen: Any) -> GuardReading:
    (reading,) = judge(guard, Evidence(**seen))
    return reading


def share(successes: int, count: int) -> Tally:
    rate = successes / count
    return Tally(count, rate, count * rate * (1 - rate))


# ---- what is given ----


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"errors": 5}, r"errors cannot be 5; give a share from 0 to 1, such as 0\.05 for 5 %, or None"),
        ({"errors": -0.1}, "errors cannot be -0.1"),
        ({"errors": float("nan")}, "errors cannot be nan"),
        ({"disagreement": "0.1"}, "disagreement cannot be '0.1'"),
        ({"drift": True}, "drift cannot be True"),
        ({"p95": 0}, "p95 cannot be 0; give a number of milliseconds above 0"),
        ({"p99": float("inf")}, "p99 cannot be inf"),
        ({"quality": -1}, "quality cannot be -1; give a difference of scores of 0 or more"),
        ({"alpha": 1}, "alpha cannot be 1; give a chance between 0 and 1"),
        ({"alpha": None}, "alpha cannot be None"),
        ({"minimum": 0}, "minimum cannot be 0; give a whole number of requests"),
        ({"minimum": 2.5}, r"minimum cannot be 2\.5"),
        ({"error": 0.05}, r"no 'error'; did you mean 'errors'\?"),
        ([("errors", 0.05)], "is no guard; give a Guard, or its values"),
        (0.05, r"0\.05 is no guard"),
    ],
)
def test_a_guard_that_cannot_be(given: Any, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        Guard.of(given)


def test_a_guard_of_its_values() -> None:
    assert Guard.of(None) == Guard()
    assert Guard.of({"p99": 50, "errors": None}) == Guard(p99=50, errors=None)
    assert Guard.of(Guard(drift=0.1)) == Guard(drift=0.1)
    assert Guard(errors=0, disagreement=1, quality=0) is not None


def test_only_what_is_set_is_guarded() -> None:
    guard = Guard(errors=0.1, p95=10, p99=20, disagreement=0.1, drift=0.1, quality=0.1)
    names = ["errors", "p95", "p99", "disagreement", "drift", "quality"]
    assert [one.name for one in judge(guard, Evidence())] == names
    assert {one.state for one in judge(guard, Evidence())} == {"waiting"}
    assert judge(Guard(errors=None), Evidence(requests=100, errors=100)) == ()


# ---- what is seen ----


@pytest.mark.parametrize(
    ("errors", "requests", "state"),
    [
        (0, 0, "waiting"), (0, 19, "waiting"), (1, 2, "waiting"), (3, 3, "violated"), (0, 20, "holds"),
        (1, 20, "holds"), (2, 20, "doubtful"), (8, 30, "violated"), (50, 1000, "holds"), (55, 1000, "doubtful"),
        (100, 1000, "violated"),
    ],
)  # fmt: skip
def test_errors(errors: int, requests: int, state: str) -> None:
    assert read(Guard(), errors=errors, requests=requests).state == state


def test_the_words() -> None:
    assert read(Guard(), errors=8, requests=44).words == "errors 18.2 % of 44 requests, at most 5 % allowed"
    assert read(Guard(), errors=0, requests=0).words == "errors — of 0 requests, at most 5 % allowed"
    slow = read(Guard(errors=None, p99=50), slow={"p99": 3}, requests=40)
    assert slow.words == "p99: 7.5 % of 40 requests took over 50 ms, at most 1 % may"
    other = read(Guard(errors=None, disagreement=0.1), compared=1200, disagreeing=60)
    assert other.words == "other answers to 5 % of 1,200 rows, at most 10 % allowed"
    worse = read(Guard(errors=None, quality=0.02), quality=share(80, 100), live_quality=share(850, 1000))
    assert worse.words == "scores worse by 0.05, 100 labels against 1,000, at most 0.02 allowed"
    drifted = read(Guard(errors=None, drift=0.1), drift=Drift(0.25, 40, 2000))
    assert drifted.words == "answers drifted by 0.25, 40 answers against 2,000, at most 0.1 allowed"


@pytest.mark.parametrize(
    ("slow", "state"), [({}, "holds"), ({"p95": 4}, "holds"), ({"p95": 8}, "doubtful"), ({"p95": 25}, "violated")]
)
def test_latency(slow: dict[str, int], state: str) -> None:
    reading = read(Guard(errors=None, p95=20), requests=100, slow=slow)
    assert (reading.state, reading.limit) == (state, 0.05)


@pytest.mark.parametrize(("disagreeing", "state"), [(5, "holds"), (13, "doubtful"), (60, "violated")])
def test_disagreement(disagreeing: int, state: str) -> None:
    assert read(Guard(errors=None, disagreement=0.1), compared=100, disagreeing=disagreeing).state == state


@pytest.mark.parametrize(
    ("drift", "state"),
    [
        (None, "waiting"), (Drift(0.9, 10, 5000), "waiting"), (Drift(0.05, 400, 5000), "holds"),
        (Drift(0.15, 400, 5000), "doubtful"), (Drift(0.5, 400, 5000), "violated"), (Drift(1.0, 60, 5000), "violated"),
    ],
)  # fmt: skip
def test_drift(drift: Drift | None, state: str) -> None:
    assert read(Guard(errors=None, drift=0.1), drift=drift).state == state


@pytest.mark.parametrize(
    ("live", "canary", "state"),
    [
        (share(900, 1000), share(9, 10), "waiting"), (share(900, 1000), share(360, 400), "holds"),
        (share(900, 1000), share(340, 400), "doubtful"), (share(900, 1000), share(240, 400), "violated"),
        (share(500, 1000), share(390, 400), "holds"),
    ],
)  # fmt: skip
def test_quality(live: Tally, canary: Tally, state: str) -> None:
    assert read(Guard(errors=None, quality=0.02), live_quality=live, quality=canary).state == state


def test_quality_where_lower_is_better() -> None:
    small, large = Tally(500, 1.0, 500.0), Tally(500, 2.0, 500.0)
    guard = Guard(errors=None, quality=0.1)
    seen = {"goal": "lower", "proportion": False}
    assert read(guard, live_quality=small, quality=large, **seen).state == "violated"
    assert read(guard, live_quality=large, quality=small, **seen).state == "holds"


def test_several_guards_share_the_chance_to_be_wrong() -> None:
    seen = Evidence(requests=24, errors=6, slow={"p95": 0})
    assert judge(Guard(alpha=0.05), seen)[0].state == "violated"
    assert judge(Guard(alpha=0.05, p95=10, p99=20, disagreement=0.5, drift=0.5), seen)[0].state == "doubtful"


def test_a_canary_at_its_limits_is_seldom_taken_back() -> None:
    """Looked at after every request, with all guards of shares set and all of them just kept."""
    rng, guard, taken = np.random.default_rng(8), Guard(p95=10, disagreement=0.1, alpha=0.1), 0
    for _ in range(60):
        counts = [np.cumsum(rng.random(200) < limit).tolist() for limit in (0.05, 0.05, 0.1)]
        taken += any(
            reading.state == "violated"
            for at, (errors, slow, other) in enumerate(zip(*counts, strict=True), start=1)
            for reading in judge(
                guard,
                Evidence(requests=at, errors=errors, slow={"p95": slow}, compared=at, disagreeing=other),
            )
        )
    assert taken <= 6


@pytest.mark.parametrize(
    ("canary", "live", "distance"),
    [
        ([1, 2, 3], [1, 2, 3], 0.0),
        ([1.0, 1.0], [2.0, 2.0], 1.0),
        (["a", "b"], ["a", "a"], 0.5),
        ([float("nan"), 1.0], [1.0, 1.0], 0.5),
        ([], [1.0], 0.0),
    ],
)
def test_the_distance_of_two_samples(canary: Any, live: Any, distance: float) -> None:
    assert Drift.between(canary, live) == Drift(distance, len(canary), len(live))


def test_it_moves_between_processes() -> None:
    guard, evidence = Guard(p99=5), Evidence(requests=3, slow={"p99": 1}, drift=Drift(0.1, 2, 3))
    assert pickle.loads(pickle.dumps((guard, evidence))) == (guard, evidence)
