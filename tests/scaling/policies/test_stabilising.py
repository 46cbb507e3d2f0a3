from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scaling.policies.samples import sample

from mlnb.errors import InvalidInputError
from mlnb.scaling.policies.decision import ScalingDecision, ScalingSample
from mlnb.scaling.policies.stabilising import Decider, Rate, Stabiliser, hold


def _settled(stabiliser: Stabiliser, wanted: list[int], *, desired: int = 1, every: float = 1.0) -> list[int]:
    found = []
    for number, count in enumerate(wanted):
        desired = stabiliser.settle(sample(number * every, desired=desired), count).desired
        found.append(desired)
    return found


def test_without_windows_it_follows() -> None:
    assert _settled(Stabiliser(up_window=0, down_window=0), [3, 1, 5, 2]) == [3, 1, 5, 2]


def test_more_come_when_they_were_wanted_all_along() -> None:
    assert _settled(Stabiliser(up_window=2, down_window=0), [4, 4, 4, 3, 5, 5, 5]) == [1, 1, 4, 3, 3, 3, 5]


def test_as_many_stay_as_were_wanted_within_the_window() -> None:
    assert _settled(Stabiliser(up_window=0, down_window=2), [4, 1, 2, 1, 1, 1]) == [4, 4, 4, 2, 2, 1]


def test_what_there_is_at_first_counts_as_wanted_so_far() -> None:
    assert _settled(Stabiliser(up_window=0, down_window=2), [1, 1, 1, 1], desired=3) == [3, 3, 1, 1]


def test_a_burst_is_kept_for_a_shorter_window() -> None:
    wanted = [2] * 30 + [8] * 3 + [2] * 60
    plain = _settled(Stabiliser(up_window=0, down_window=50), wanted, desired=2)
    short = _settled(Stabiliser(up_window=0, down_window=50, burst_window=10), wanted, desired=2)
    assert plain[:30] == short[:30] == [2] * 30
    assert plain.index(2, 33) == 32 + 51
    assert short.index(2, 33) == 32 + 11


def test_what_lasts_is_no_burst() -> None:
    wanted = [2] * 30 + [8] * 7 + [2] * 60
    found = _settled(Stabiliser(up_window=0, down_window=50, burst_window=10), wanted, desired=2)
    assert found.index(2, 37) > 30 + 50  # until half of what it lasted has left the window


def test_one_more_is_no_burst() -> None:
    wanted = [1] * 30 + [2] + [1] * 60
    found = _settled(Stabiliser(up_window=0, down_window=50, burst_window=10), wanted)
    assert found.index(1, 31) == 30 + 51


def test_those_kept_do_not_go_and_need_not_come() -> None:
    stabiliser = Stabiliser(up_window=0, down_window=0)
    assert stabiliser.settle(sample(1, desired=3), 2, kept=3).desired == 3
    assert stabiliser.settle(sample(2, desired=2), 2, kept=3).desired == 2
    assert stabiliser.settle(sample(3, desired=5), 2, kept=3).desired == 3


@pytest.mark.parametrize(
    ("rate", "found"),
    [
        (Rate(seconds=2, replicas=3), [4, 4, 4, 7, 7, 7, 10]),
        (Rate(seconds=2, factor=2), [2, 2, 2, 4, 4, 4, 8]),
        (Rate(seconds=2, factor=2, replicas=3), [4, 4, 4, 8, 8, 8, 16]),
    ],
)
def test_more_come_no_faster_than_the_rate(rate: Rate, found: list[int]) -> None:
    assert _settled(Stabiliser(up_window=0, down_window=0, up=rate), [20] * 7) == found


def test_fewer_go_no_faster_than_the_rate() -> None:
    stabiliser = Stabiliser(up_window=0, down_window=0, down=Rate(seconds=2, replicas=1, factor=2))
    assert _settled(stabiliser, [1] * 8, desired=8) == [4, 4, 4, 2, 2, 2, 1, 1]


def test_it_says_what_settled_it() -> None:
    stabiliser = Stabiliser(up_window=0, down_window=120, up=Rate(seconds=15, replicas=2))
    rate = stabiliser.settle(sample(1, desired=1), 9)
    assert (rate.desired, rate.rule, rate.window) == (3, "rate", 15)
    assert rate.words == "no faster than the rate of 15s allows"
    waits = stabiliser.settle(sample(2, desired=3), 1)
    assert (waits.desired, waits.rule, waits.window) == (3, "stabilised", 120)
    assert waits.words == "more were needed within the last 2m"


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=60), st.lists(st.floats(-0.1, 0.1), min_size=60, max_size=60),
    st.integers(0, 6), st.integers(0, 6), st.integers(0, 4), st.sampled_from([None, 1, 3]),
)  # fmt: skip
def test_a_timer_that_is_not_exact_changes_nothing(
    wanted: list[int], jitter: list[float], up: int, down: int, burst: int, rate: int | None
) -> None:
    found = []
    for errors in ([0.0] * len(wanted), jitter):
        rates = None if rate is None else Rate(seconds=rate / 2, replicas=1)
        stabiliser = Stabiliser(up_window=up / 2, down_window=down / 2, burst_window=burst / 2, up=rates, down=rates)
        desired, last, counts = 1, 0.0, []
        for number, (count, error) in enumerate(zip(wanted, errors, strict=False), start=1):
            at = (number + error / 2) / 2
            desired = stabiliser.settle(sample(at, interval=at - last, desired=desired), count).desired
            last = at
            counts.append(desired)
        found.append(counts)
    assert found[0] == found[1]


@given(st.lists(st.integers(1, 9), min_size=2, max_size=60), st.integers(0, 8), st.integers(0, 8))
def test_no_direction_changes_inside_its_window(wanted: list[int], up_window: int, down_window: int) -> None:
    counts = [1, *_settled(Stabiliser(up_window=up_window, down_window=down_window), wanted)]
    last_up = last_down = -100
    for at, (before, after) in enumerate(pairwise(counts)):
        if after > before:
            assert at - last_down > up_window
            last_up = at
        elif after < before:
            assert at - last_up > down_window
            last_down = at


@given(st.lists(st.integers(1, 12), min_size=1, max_size=60), st.integers(0, 8), st.integers(1, 8))
def test_a_burst_is_kept_as_long_as_its_own_window(wanted: list[int], burst: int, times: int) -> None:
    stabiliser = Stabiliser(up_window=0, down_window=burst * times, burst_window=burst)
    counts = [1, *_settled(stabiliser, wanted)]
    ups = [at for at, (before, after) in enumerate(pairwise(counts)) if after > before]
    downs = [at for at, (before, after) in enumerate(pairwise(counts)) if after < before]
    assert all(down - up > burst for up in ups for down in downs if down > up)


@given(st.lists(st.integers(1, 9), max_size=30), st.integers(1, 9), st.integers(0, 9), st.booleans())
def test_who_wants_more_gets_no_fewer(before: list[int], last: int, more: int, rated: bool) -> None:
    rate = Rate(seconds=3, replicas=1) if rated else None
    found = []
    for final in (last, last + more):
        stabiliser = Stabiliser(up_window=1, down_window=6, burst_window=2, up=rate, down=rate)
        found.append(_settled(stabiliser, [*before, final])[-1])
    assert found[0] <= found[1]


@pytest.mark.parametrize(
    "given",
    [
        {"seconds": 0, "replicas": 1}, {"seconds": -1, "replicas": 1}, {"seconds": float("nan"), "replicas": 1},
        {"seconds": 1, "replicas": -1}, {"seconds": 1, "factor": 0.5}, {"seconds": 1, "factor": float("inf")},
        {"seconds": True, "replicas": 1}, {"seconds": 1},
    ],
)  # fmt: skip
def test_rates_that_are_none(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=r"needed|nothing ever changes"):
        Rate(**given)


class Holds(Decider):
    def _decide(self, sample: ScalingSample) -> ScalingDecision:
        return hold(sample, metric="CPU", target=70, reason="so")


def test_a_late_sample_gets_the_last_decision_again() -> None:
    holds = Holds()
    assert holds.step(sample(1, desired=2)).reason == holds.step(sample(5, desired=3)).reason == "so"
    again = holds.step(sample(5, desired=2))
    assert (again.desired, again.rule, again.sample.desired) == (3, "hold", 2)
    assert again.reason == "a sample that came late changes nothing"
    assert holds.step(sample(5.5, desired=2)).reason == "so"


def test_what_was_wanted_for_no_time_at_all_is_forgotten_like_all_else() -> None:
    stabiliser = Stabiliser(up_window=0.0, down_window=600.0, burst_window=40.0)
    for at, wanted in ((0.5, 1), (0.500000001, 1), (86_400.5, 2)):
        settled = stabiliser.settle(sample(at), wanted)
    assert settled.desired == 2
