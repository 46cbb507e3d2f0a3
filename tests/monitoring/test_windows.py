from __future__ import annotations

import pickle
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.events import PredictionEvent
from mlnb.monitoring.metrics import KINDS
from mlnb.monitoring.windows import AnswerTally, Cell, Cells, cell_of, merged, tick_of, together, window_of


def event(prediction: Any = ("a",), *, status: int = 200, **changes: Any) -> PredictionEvent:
    answer = None if status != 200 else np.asarray(prediction)
    good = PredictionEvent(
        model="iris", version=1, request_id="r", at=100.0, seconds=0.004, rows=0 if answer is None else len(answer),
        status=status, error=None if status == 200 else "no", prediction=answer, waited=0.001, batch=2,
    )  # fmt: skip
    return good._replace(**changes)


def tallied(*predictions: Any, numbers: bool | None = None) -> Any:
    tally = AnswerTally()
    for prediction in predictions:
        tally.count([np.asarray(prediction)], numbers=numbers)
    return tally.value(1)


def counted(*events: PredictionEvent) -> Cell:
    cell = Cell()
    cell.count(events, numbers=None)
    return cell


# ---- answers ----


@pytest.mark.parametrize(
    ("numbers", "prediction", "classes", "quantiles"),
    [
        (None, [1.0, 2.0], {}, True),
        (None, [1, 2], {"1": 1, "2": 1}, False),
        (True, [1, 2], {}, True),
        (True, [True, False], {}, True),
        (False, [1.0, 2.0], {"1.0": 1, "2.0": 1}, False),
        (True, ["a", "b"], {"a": 1, "b": 1}, False),
        (None, [[1.0], [2.0]], {}, False),
    ],
)
def test_numbers_and_classes(numbers: bool | None, prediction: Any, classes: dict[str, int], quantiles: bool) -> None:
    found = tallied(prediction, numbers=numbers)
    assert (found.classes, found.numbers is not None) == (classes, quantiles)


@pytest.mark.parametrize("prediction", [[np.nan, np.inf, -np.inf], [np.nan] * 3])
def test_what_is_no_number_is_missing(prediction: Any) -> None:
    found = tallied(prediction, [2.0], numbers=True)
    assert (found.count, found.missing) == (4, 3)
    assert found.numbers == pytest.approx((2.0,) * 7, rel=0.01)


def test_what_is_no_class_is_missing() -> None:
    found = tallied(np.array([None, float("nan"), "a"], dtype=object), [np.nan, 1.0], numbers=False)
    assert (found.count, found.missing, found.classes) == (5, 3, {"a": 1, "1.0": 1})
    assert tallied(np.array(["NaT", "2020-01-01"], dtype="datetime64[D]")).count == 2


def test_the_most_frequent_classes_are_told_and_the_others_together() -> None:
    tally = AnswerTally()
    for number in range(200):
        tally.count([np.array([f"c{number}"] * (3 if number < 40 else 1))], numbers=None)
    found = tally.value(1)
    assert found.count == sum(found.classes.values()) == 40 * 3 + 160
    assert len(found.classes) == 51
    assert list(found.classes)[-1] == "others"
    assert all(found.classes[f"c{number}"] == 3 for number in range(40))


def test_a_class_that_is_called_others_is_among_them() -> None:
    assert tallied(["others", "a", "others"]).classes == {"a": 1, "others": 2}


def test_classes_that_read_the_same_are_one() -> None:
    assert tallied(np.array([1, "1", True], dtype=object)).classes in ({"1": 3}, {"1": 2, "True": 1})


@given(st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=5), max_size=20), st.integers(0, 20))
def test_merged_answers_are_those_of_all(answers: list[list[str]], at: int) -> None:
    first, second = AnswerTally(), AnswerTally()
    for tally, part in ((first, answers[:at]), (second, answers[at:])):
        tally.count([np.array(one) for one in part], numbers=None)
    first.merge(second)
    assert first.value(1).classes == dict(Counter(label for one in answers for label in one))
    assert first.value(1).count == sum(map(len, answers))


# ---- cells ----


def test_a_request_that_was_refused_has_no_latency() -> None:
    cell = counted(event(), event(status=422), event(status=500, seconds=9.0))
    assert (cell.requests, cell.errors, cell.rows, cell.statuses) == (3, 2, 1, {200: 1, 422: 1, 500: 1})
    assert cell.latency.count == cell.waited.count == cell.batch.count == 1


def test_answers_of_several_kinds_in_one_turn() -> None:
    cell = counted(event(["a"]), event([1.5]), event([[1, 2]]), event(["b", "c"]))
    assert (cell.rows, cell.answers.value(1).count) == (5, 4)


def test_what_took_no_time_counts_all_the_same() -> None:
    cell = counted(event(seconds=0.0, waited=0.0, batch=0))
    assert cell.latency.count == cell.waited.count == cell.batch.count == 1
    assert cell.waited.quantiles(0.5)[0] == pytest.approx(0.0, abs=1e-8)


def test_beyond_64_parts_the_rest_is_one() -> None:
    cells: Cells = {}
    for replica in range(200):
        cell_of(cells, (1, replica)).count([event()], numbers=None)
    assert len(cells) == 65
    assert cells[0, -1].requests == 136
    others: Cells = {(2, replica): counted(event()) for replica in range(10)}
    merged(cells, others)
    assert len(cells) == 65
    assert together(cells.values()).requests == 210


def test_a_cell_goes_to_another_process_and_shares_nothing() -> None:
    cell = counted(event(), event(status=500))
    other = pickle.loads(pickle.dumps(cell))
    other.merge(cell)
    assert (other.requests, other.errors, other.statuses[200], cell.requests) == (4, 2, 2, 2)


# ---- windows and ticks ----


def test_a_window_in_figures() -> None:
    cells = {
        (2, 1): counted(event(["b"], version=2)),
        (1, 2): counted(event(["a", "a"]), event(status=504)),
        (1, 1): counted(event(["a"], seconds=0.1)),
    }
    window = window_of(cells, name="1 minute", seconds=60, lasted=2.0)
    assert (window.requests, window.errors, window.rows, window.rate) == (4, 1, 4, 2.0)
    assert window.statuses == {200: 3, 504: 1}
    assert [(part.version, part.replica, part.statuses) for part in window.parts] == [
        (1, 1, {200: 1}),
        (1, 2, {200: 1, 504: 1}),
        (2, 1, {200: 1}),
    ]
    assert window.latency.largest == pytest.approx(100.0)
    assert window.latency.mean == pytest.approx(36.0)
    assert [(one.version, one.classes) for one in window.answers] == [(1, {"a": 3}), (2, {"b": 1})]


def test_a_window_without_requests_or_time() -> None:
    window = window_of({}, name="1 hour", seconds=3600, lasted=0.0)
    assert (window.requests, window.rate, window.latency.p99, window.parts, window.answers) == (0, 0.0, None, (), ())
    assert window_of({(1, 1): counted(event())}, name="1 hour", seconds=3600, lasted=0.0).rate == 0.0


def test_a_step_of_the_series() -> None:
    statuses = (400, 422, 429, 503, 504, 500, 507)
    tick = tick_of({(1, 1): counted(event(["a", "b", "a"]), *(event(status=status) for status in statuses))})
    assert (tick.requests, tick.errors) == (8, 7)
    assert dict(zip(KINDS, tick.kinds, strict=True)) == {
        "invalid request": 2, "overloaded": 2, "timed out": 1, "model failed": 2,
    }  # fmt: skip
    assert tick.latency[1] == pytest.approx(4.0, rel=0.01)
    assert tick.classes == (("a", 2), ("b", 1))
    assert tick.numbers == (None, None, None)
    assert tick_of({(1, 1): counted(event([5.0] * 20))}).numbers == pytest.approx((5.0,) * 3, rel=0.01)
