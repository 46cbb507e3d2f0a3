"""Comparing answers and choosing a form: tables of cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlnb.registry.predictors import Predictor
from mlnb.scaling.acceleration.acceleration import Alike, chosen
from mlnb.scaling.acceleration.candidates import Candidate
from mlnb.scaling.acceleration.comparison import Asked, ask, compare, distance, largest_number
from mlnb.scaling.acceleration.timing import median_seconds

NAN = float("nan")
INF = float("inf")
ASKED = [Asked(rows=np.zeros((3, 1)), prediction=np.array([0.0, -4.0, 2.0]), probabilities=None)]


@pytest.mark.parametrize(
    ("then", "now", "off"),
    [
        ([1.0, 2.0], [1.0, 2.5], 0.25),
        ([1.0, NAN], [1.5, NAN], 0.25),
        ([1.0, NAN], [1.0, 1.0], INF),
        ([1.0, 1.0], [1.0, NAN], INF),
        ([1.0, INF], [1.0, INF], 0),
        ([1.0, INF], [1.0, -INF], INF),
        ([1.0], [INF], INF),
        ([1, 2], [1, 2], 0),
        ([1, 2], [1, 3], INF),
        ([1, 2], [1.0, 2.0], INF),
        ([True], [1], INF),
        (["a"], ["ab"], INF),
        ([[1.0]], [1.0], INF),
    ],
)
def test_the_distance_of_answers(then: list[Any], now: list[Any], off: float) -> None:
    assert distance(np.array(then), np.array(now), size=2) == off


def test_nothing_is_at_no_distance_from_nothing() -> None:
    assert distance(None, None, size=1) == 0
    assert distance(np.zeros(1), None, size=1) == distance(None, np.zeros(1), size=1) == INF


def test_the_largest_number_is_never_nothing() -> None:
    assert largest_number(ASKED) == 4
    assert largest_number([ask(Predictor(lambda rows: rows[:, 0]), np.array([[NAN], [0.0]]))]) == 1
    assert largest_number([ask(Predictor(lambda _: np.array(["a"])), np.zeros((1, 1)))]) == 1


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([0.0, -4.0, 2.1], "other predictions: off by 3e-02 of the largest"),
        ([0.0, -4.0, NAN], "other predictions: nan for 2.0, 1 of 3 rows"),
        ([0, -4, 2], "other predictions: int64 (3,) for float64 (3,)"),
        ([0.0, -4.0, 2 + 1e-9], ""),
    ],
)
def test_a_comparison_says_what_differs(answers: list[Any], reason: str) -> None:
    form = Predictor(lambda _: np.array(answers))
    assert compare(form, ASKED, tolerance=1e-6, size=4).reason == reason


def test_a_form_without_probabilities_is_not_alike() -> None:
    own = Predictor(lambda rows: np.array(["a"] * len(rows)), lambda rows: np.ones((len(rows), 1)))
    asked = [ask(own, np.zeros((2, 1)))]
    assert "only one of the two" in compare(Predictor(own.predict), asked, tolerance=1, size=1).reason


def alike(kind: str, one: float, many: float) -> Alike:
    nobody = Predictor(np.asarray)
    return Alike(candidate=Candidate(kind=kind, predictor=nobody, tolerance=0.5), largest=0, gain=(one, many))


@pytest.mark.parametrize(
    ("forms", "kind"),
    [
        ([], "none"),
        ([alike("trees", 1.1, 1.1)], "none"),
        ([alike("trees", 30, 0.9)], "none"),
        ([alike("trees", 1.3, 0.96)], "trees"),
        ([alike("trees", 10, 10), alike("onnx", 11, 11)], "trees"),
        ([alike("trees", 10, 10), alike("onnx", 100, 9)], "onnx"),
        ([alike("trees", 10, 10), alike("onnx", 900, 0.5)], "trees"),
        ([alike("trees", 1, 1), alike("onnx", 2, 2)], "onnx"),
    ],
)
def test_the_fastest_form_is_used_if_it_loses_nowhere(forms: list[Alike], kind: str) -> None:
    found = chosen(forms, [("Another", "no")], asked=ASKED)
    assert found.kind == kind
    assert found.tried[-1] == ("Another", "no")
    assert len(found.tried) == len(forms) + 1


def test_the_reason_is_for_people() -> None:
    found = chosen([alike("trees", 17.4, 1.26)], [], asked=ASKED)
    assert found.reason == "Trees directly: 17x faster for one row, 1.3x for 64; same numbers on 3 rows."
    none = chosen([], [("ONNX Runtime", "not installed")], asked=ASKED)
    assert none.reason == "The model itself answers: no faster form was found (ONNX Runtime: not installed)."


def test_each_answer_is_measured_even_without_time() -> None:
    calls: list[str] = []
    seconds = median_seconds([lambda _: calls.append("one"), lambda _: calls.append("two")], None, budget=0)
    assert len(seconds) == 2
    assert min(seconds) > 0
    assert {"one", "two"} == set(calls)
