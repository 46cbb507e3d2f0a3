from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pytest

from mlnb.monitoring.sequences import (
    LEAST,
    decidable,
    difference_interval,
    evidence,
    exceeds,
    growth_needed,
    mean_interval,
    sample_band,
)
from mlnb.monitoring.tally import Tally


def share(successes: int, count: int) -> Tally:
    rate = successes / count
    return Tally(count, rate, count * rate * (1 - rate))


def test_an_interval_says_nothing_before_there_is_enough_of_each() -> None:
    few, many = Tally(LEAST - 1, 1.0, 5.0), Tally(1000, 0.0, 100.0)
    low, high = difference_interval(few, many, alpha=0.05, proportion=False)
    assert (float(low), float(high)) == (-np.inf, np.inf)
    assert tuple(map(float, difference_interval(share(0, 500), share(0, 500), alpha=0.05, proportion=True))) == (-1, 1)
    assert tuple(map(float, mean_interval(Tally(), alpha=0.05, proportion=True))) == (0, 1)
    assert tuple(map(float, mean_interval(few, alpha=0.05, proportion=False))) == (-np.inf, np.inf)


@pytest.mark.parametrize(
    ("base", "other", "enough"),
    [
        ((30, 100), (40, 100), True),
        ((0, 100), (4, 100), False),
        ((96, 100), (100, 100), False),
        ((0, 50), (50, 50), True),
    ],
)
def test_rare_outcomes_need_more_of_them(base: tuple[int, int], other: tuple[int, int], enough: bool) -> None:
    assert bool(decidable(share(*base), share(*other), proportion=True)) is enough


def test_arms_that_never_fail_may_yet() -> None:
    low, high = mean_interval(share(100, 100), alpha=0.05, proportion=True)
    assert 0.9 < float(low) < 0.95
    assert float(high) == 1.0


@pytest.mark.parametrize("rate", [0.0, 0.003, 0.03, 0.5, 0.975, 1.0])
def test_the_true_rate_is_in_the_interval_at_every_look(rate: float) -> None:
    hits = np.random.default_rng(4).random((1000, 500)) < rate
    counts: Any = np.broadcast_to(np.arange(1, 501), hits.shape)
    means: Any = np.cumsum(hits, axis=1) / counts
    low, high = mean_interval(Tally(counts, means), alpha=0.05, proportion=True)
    assert ((low > rate) | (high < rate)).any(axis=1).mean() <= 0.05


def test_the_interval_turns_with_the_arms() -> None:
    one, other = Tally(150, 2.0, 300.0), Tally(400, 2.5, 500.0)
    low, high = difference_interval(one, other, alpha=0.05, proportion=False)
    turned = difference_interval(other, one, alpha=0.05, proportion=False)
    assert list(turned) == [-high, -low]
    assert low < 0.5 < high


def test_arrays_give_what_their_numbers_give() -> None:
    pairs = [(share(30, 100), share(40, 90)), (share(3, 10), share(300, 900)), (share(400, 900), share(600, 900))]
    stacked = [
        Tally(*(cast("Any", np.array([getattr(one, part) for one in arm])) for part in ("count", "mean", "m2")))
        for arm in zip(*pairs, strict=True)
    ]
    together = np.transpose(difference_interval(*stacked, alpha=0.05, proportion=True))
    alone = [difference_interval(*pair, alpha=0.05, proportion=True) for pair in pairs]
    assert together == pytest.approx(np.array(alone, float))


def test_it_is_tightest_about_where_it_is_tuned() -> None:
    """Its width over that of a fixed interval is least near 400 outcomes."""

    def width(count: int) -> float:
        arm = Tally(count // 2, 0.0, float(count // 2 - 1))
        low, high = difference_interval(arm, arm, alpha=0.05, proportion=False)
        return float(high - low) * math.sqrt(count)

    assert min((width(count), count) for count in (40, 100, 200, 400, 800, 2000, 20_000))[1] in (400, 800)
    assert width(1_000_000) < 1.6 * width(400)


def test_what_is_needed_is_what_decides() -> None:
    one, other = share(440, 500), share(455, 500)
    growth = growth_needed(one, other, alpha=0.05, proportion=True)
    assert growth is not None
    assert growth > 1

    def low(times: float) -> float:
        arms = [share(round(right * times), round(500 * times)) for right in (440, 455)]
        interval = difference_interval(*arms, alpha=0.05, proportion=True)
        return float(interval[0])

    assert low(growth * 1.02) > 0 > low(growth * 0.95)


def test_what_cannot_be_said_is_not_said() -> None:
    assert growth_needed(share(440, 500), share(440, 500), alpha=0.05, proportion=True) is None
    assert growth_needed(Tally(1, 2.0), Tally(9, 1.0, 3.0), alpha=0.05, proportion=False) is None


def test_what_is_decided_needs_no_more() -> None:
    assert growth_needed(share(300, 500), share(450, 500), alpha=0.05, proportion=True) == 1.0


# ---- shares against a limit ----


@pytest.mark.parametrize(
    ("count", "total", "evident"),
    [(0, 0, False), (1, 1, False), (2, 2, False), (3, 3, True), (0, 1000, False), (9, 40, True), (50, 1000, False)],
)
def test_few_requests_tell_when_they_tell(count: int, total: int, evident: bool) -> None:
    assert bool(exceeds(count, total, limit=0.05, alpha=0.01)) is evident


def test_a_limit_of_nought_or_all_is_exact() -> None:
    assert not exceeds(0, 10**6, limit=0.0, alpha=0.01)
    assert exceeds(1, 10**6, limit=0.0, alpha=0.01)
    assert not exceeds(10, 10, limit=1.0, alpha=0.01)


@pytest.mark.parametrize("rate", [0.05, 0.03, 0.0])
def test_the_evidence_expected_at_the_limit_is_one_and_less_under_it(rate: float) -> None:
    """Exactly, over all ways that 12 requests can go."""
    chances = [math.comb(12, count) * rate**count * (1 - rate) ** (12 - count) for count in range(13)]
    expected = float(np.dot(chances, np.exp(evidence(np.arange(13), 12, limit=0.05))))
    assert expected == pytest.approx(1.0) if rate == 0.05 else expected < 0.9


def looks(rate: float, limit: float, alpha: float, *, requests: int = 3000, trials: int = 1000) -> Any:
    failed = np.random.default_rng(5).random((trials, requests)) < rate
    evident = exceeds(np.cumsum(failed, axis=1), np.arange(1, requests + 1), limit=limit, alpha=alpha)
    return np.where(evident.any(axis=1), evident.argmax(axis=1) + 1, requests + 1)


@pytest.mark.parametrize("limit", [0.01, 0.05, 0.3])
def test_looking_after_every_request_blames_few_at_their_limit(limit: float) -> None:
    stops = looks(limit, limit, 0.05)
    assert (stops <= 3000).mean() <= 0.05


@pytest.mark.parametrize(("alpha", "median", "mean"), [(0.01, 36, 46), (0.05, 24, 31)])
def test_four_times_the_limit_is_evident_soon(alpha: float, median: int, mean: int) -> None:
    stops = looks(0.2, 0.05, alpha, requests=400)
    assert np.median(stops) <= median
    assert stops.mean() <= mean


# ---- samples ----


def test_a_sample_stays_within_its_band_at_every_look() -> None:
    rng, outside = np.random.default_rng(3), 0
    counts = np.unique(np.geomspace(10, 2000, 40).astype(int))
    for _ in range(200):
        values = rng.random(2000)
        for count in counts:
            ordered = np.sort(values[:count])
            steps = np.arange(1, count + 1) / count
            if max((steps - ordered).max(), (ordered - steps + 1 / count).max()) > sample_band(count, alpha=0.05):
                outside += 1
                break
    assert outside <= 10


def test_the_band_of_nothing_is_everything() -> None:
    assert sample_band(0, alpha=0.05) == 1.0
    assert float(sample_band(1000, alpha=0.05)) == pytest.approx(
        0.85 * ((np.log(1 + np.log(1000)) + 0.8 * np.log(32240)) / 1000) ** 0.5
    )
