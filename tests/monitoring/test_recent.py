from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlnb.events import PredictionEvent
from mlnb.monitoring.recent import RecentRequests, answers_in, values_in


def event(at: float, inputs: Any = ((1.0, 2.0, 3.0),), *, error: str | None = None) -> PredictionEvent:
    return PredictionEvent("iris", 1, f"r{at}", at, 0.001, 1, 200, error, inputs, np.array([1.0]))


def test_it_returns_the_requests_of_a_time() -> None:
    recent = RecentRequests()
    recent.extend([event(1.0), event(2.0)])
    recent.extend([event(3.0), event(4.0)])
    assert [one.at for one in recent.between(2.0, 3.0)] == [2.0, 3.0]
    assert len(recent) == 4


def test_refused_requests_and_those_without_rows_are_not_kept() -> None:
    recent = RecentRequests()
    recent.extend([event(1.0, error="no"), event(2.0, None), event(3.0)])
    assert [one.at for one in recent.between(0.0, 9.0)] == [3.0]


def test_the_oldest_go_when_there_are_too_many() -> None:
    recent = RecentRequests(requests=3)
    recent.extend([event(float(at)) for at in range(5)])
    assert [one.at for one in recent.between(0.0, 9.0)] == [2.0, 3.0, 4.0]


def test_the_oldest_go_when_they_hold_too_many_values() -> None:
    recent = RecentRequests(cells=50)
    recent.extend([event(float(at)) for at in range(12)])
    assert (len(recent), recent.cells) == (12, 48)
    recent.extend([event(12.0)])
    assert (len(recent), recent.cells) == (12, 48)
    assert recent.between(0.0, 20.0)[0].at == 1.0


def test_one_that_would_take_much_of_the_room_is_left_out() -> None:
    recent = RecentRequests(cells=50)
    recent.extend([event(1.0), event(2.0, np.zeros((4, 4)))])
    assert [one.at for one in recent.between(0.0, 9.0)] == [1.0]


def test_those_of_before_are_put_in_front_as_far_as_there_is_room() -> None:
    recent, earlier = RecentRequests(requests=4), RecentRequests()
    earlier.extend([event(float(at)) for at in range(3)])
    recent.extend([event(3.0), event(4.0)])
    recent.prepend(earlier.newest(0, 2))
    recent.prepend(earlier.newest(2, 2))
    assert [one.at for one in recent.between(0.0, 9.0)] == [1.0, 2.0, 3.0, 4.0]
    assert recent.cells == 16


def test_a_part_ends_with_a_moment() -> None:
    recent = RecentRequests()
    recent.extend([event(at) for at in (1.0, 2.0, 2.0, 3.0)])
    assert [one.at for one in recent.between(0.0, 9.0, most=2)] == [1.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("rows", "values"),
    [
        ([[1, 2], [3, 4]], 4),
        ([{"a": 1, "b": 2}] * 3, 6),
        (["text", "more"], 2),
        (["of twenty characters"] * 3, 9),
        ([[1.0, "of twenty characters"]], 4),
        ([[[1, 2], [3, 4]]], 4),
        (np.zeros((3, 4, 5)), 60),
        ([np.zeros(4)] * 2, 8),
        (pd.DataFrame({"a": [1, 2], "b": [3, 4]}), 4),
        ([1, 2], 2),
        ([["short"], ["of twenty characters"]], 4),
        ([{"a": "short"}, {"a": "of twenty characters", "b": 1.0}], 5),
        ([{"a": "short", "b": np.zeros(100)}], 101),
        ([[[["short"]]], [[["of twenty characters"]]]], 4),
        ([], 1),
    ],
)
def test_values_are_counted_in_rows_of_any_form(rows: Any, values: int) -> None:
    assert values_in(rows) == values


@pytest.mark.parametrize(
    ("answers", "values"),
    [
        (np.zeros((2, 3)), 6),
        (np.array(["of twenty characters", "short"], dtype=object), 4),
        (np.array(["of twenty characters", "short"]), 6),
        (None, 0),
    ],
)
def test_values_are_counted_in_answers(answers: Any, values: int) -> None:
    assert answers_in(answers) == values


@pytest.mark.parametrize("width", [None, 3])
def test_probabilities_and_texts_of_answers_take_room(width: int | None) -> None:
    recent = RecentRequests(cells=10_000)
    recent.width = width
    recent.extend([event(1.0)._replace(probabilities=np.zeros((1, 500)))])
    assert recent.cells == 504
    recent.extend([event(2.0)._replace(prediction=np.array(["x" * 4000], dtype=object))])
    assert recent.cells == 504 + 504
    recent.extend([event(3.0)._replace(probabilities=np.zeros((1, 5000)))])
    assert len(recent) == 2


def test_however_deep_rows_are() -> None:
    rows: Any = ["text"]
    for _ in range(5_000):
        rows = [rows]
    assert values_in(rows) == 1


def test_it_moves_between_processes() -> None:
    recent = RecentRequests(requests=2)
    recent.extend([event(1.0), event(2.0)])
    moved = pickle.loads(pickle.dumps(recent))
    moved.extend([event(3.0)])
    assert [one.at for one in moved.between(0.0, 9.0)] == [2.0, 3.0]
