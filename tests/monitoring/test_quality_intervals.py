"""The intervals hold what they say: 95 of 100 have the true figure in them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import stats

from mlnb.monitoring.quality.classes import judge_classes
from mlnb.monitoring.quality.findings import Findings
from mlnb.monitoring.quality.intervals import (
    _student,
    f1_interval,
    mean_interval,
    on_log_scale,
    on_logit_scale,
    wilson,
)
from mlnb.monitoring.quality.numbers import judge_numbers
from mlnb.monitoring.quality.probabilities import _area

if TYPE_CHECKING:
    from collections.abc import Callable

Array = np.ndarray[Any, Any]
TIMES = 400


def classes(rng: np.random.Generator, rows: int, *, count: int, sharp: float, sure: float) -> Findings:
    """Judge a classifier that is ``sure`` times as sure as it should be."""
    scores = rng.normal(size=(rows, count)) * sharp
    chances, told = (np.exp(scores * one) / np.exp(scores * one).sum(axis=1, keepdims=True) for one in (1.0, sure))
    truth = (chances.cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    answer = told.argmax(axis=1)
    return judge_classes(truth.astype(object)[:, None], answer.astype(object)[:, None], told, tuple(range(count)))


def numbers(rng: np.random.Generator, rows: int, *, noise: str) -> Findings:
    truth = rng.normal(size=(rows, 1)) * 3
    return judge_numbers(truth, truth + getattr(rng, noise)(size=truth.shape))


def coverage(judge: Callable[[np.random.Generator, int], Findings], *, rows: int) -> dict[str, float]:
    """Return for each measure how often its interval holds the figure of very many rows."""
    rng = np.random.default_rng(7)
    true = {one.name: one.value for one in judge(rng, 200_000).measures}
    said: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for _ in range(TIMES):
        for one in judge(rng, rows).measures:
            if one.value is not None and one.low is not None and one.high is not None:
                said[one.name] += 1
                held[one.name] += one.low <= (true[one.name] or 0.0) <= one.high
    assert min(said.values()) > TIMES / 2
    return {name: held[name] / said[name] for name in said}


@pytest.mark.parametrize(
    ("rows", "count", "sharp", "sure"), [(60, 2, 1.0, 1.0), (150, 2, 3.0, 1.5), (150, 4, 2.0, 1.0)]
)
def test_intervals_of_classes_hold(rows: int, count: int, sharp: float, sure: float) -> None:
    found = coverage(lambda rng, rows: classes(rng, rows, count=count, sharp=sharp, sure=sure), rows=rows)
    assert len(found) == 7
    assert min(found.values()) > 0.91, found
    assert max(found.values()) < 0.99, found


@pytest.mark.parametrize("noise", ["standard_normal", "laplace"])
def test_intervals_of_numbers_hold(noise: str) -> None:
    found = coverage(lambda rng, rows: numbers(rng, rows, noise=noise), rows=200)
    assert len(found) == 3
    assert min(found.values()) > 0.90, found
    assert max(found.values()) < 0.99, found


@pytest.mark.parametrize(("successes", "count"), [(0, 30), (1, 30), (17, 40), (40, 40), (9_990, 10_000)])
def test_wilson_is_scipys(successes: int, count: int) -> None:
    expected = stats.binomtest(successes, count).proportion_ci(method="wilson")
    assert wilson(successes, count) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("count", [10, 30, 100, 20_000])
def test_student_is_scipys(count: int) -> None:
    assert _student(count) == pytest.approx(stats.t.ppf(0.975, count - 1), abs=3e-4)


def test_the_interval_of_f1_turns_a_share_back() -> None:
    low, high = wilson(40, 60)
    assert f1_interval(40, 20) == pytest.approx((2 * low / (1 + low), 2 * high / (1 + high)))
    assert f1_interval(0, 12)[0] == 0.0
    assert f1_interval(12, 0)[1] == 1.0


def test_a_mean_far_from_nought_has_students_interval() -> None:
    values = np.random.default_rng(0).normal(100, 1, 50)
    expected = stats.t.interval(0.95, 49, loc=values.mean(), scale=stats.sem(values))
    assert mean_interval(values) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_without_spread_it_is_wilsons(value: float) -> None:
    assert on_logit_scale(value, 0.0, 30) == pytest.approx(wilson(30 * value, 30))


def test_the_ends_stay_ends() -> None:
    assert on_log_scale(0.0, 1.0, 30) == (0.0, 0.0)
    assert on_logit_scale(0.5, 1e9, 30) == pytest.approx((0.0, 1.0))
    assert on_log_scale(1.0, 1e9, 30) == pytest.approx((0.0, 1e300))


def test_the_area_and_its_error_are_delongs() -> None:
    rng = np.random.default_rng(5)
    positive = rng.random(80) < 0.4
    score = (rng.normal(size=80) + positive).round(1)  # with ties
    area, adds = _area(positive, score)
    wins = (score[positive][:, None] > score[~positive]) + 0.5 * (score[positive][:, None] == score[~positive])
    assert area == pytest.approx(wins.mean())
    variance = sum(wins.mean(axis=axis).var(ddof=1) / wins.shape[1 - axis] for axis in (0, 1))
    assert (adds**2).sum() == pytest.approx(variance)
