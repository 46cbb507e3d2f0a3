from __future__ import annotations

import pickle
from collections import Counter
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
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


@pytest.mark.parametrize("text", ["y" * 65, ("y" * 65,), date, 10**100, ("a",) * 65])
def test_what_has_no_short_name_is_among_the_others(text: Any) -> None:
    answers = np.empty(3, dtype=object)
    answers[:] = ["a", text, text]
    tally = AnswerTally()
    tally.count([answers], numbers=None)
    assert tally.value(1).classes == ({"a": 1, str(date): 2} if text is date else {"a": 1, "others": 2})


@pytest.mark.parametrize("dtype", ["U", "O"])
def test_long_answers_take_no_memory(dtype: str) -> None:
    tally = AnswerTally()
    for number in range(100):
        tally.count([np.array([f"{number} {'y' * 20_000}", "short"], dtype=dtype)], numbers=None)
    assert tally.value(1).classes == {"short": 100, "others": 100}
    assert len(pickle.dumps(tally)) < 1_000


@pytest.mark.parametrize(
    ("known", "answers", "classes"),
    [
        (("a", "b"), ["a", "secret", "b", "secret"], {"a": 1, "b": 1, "others": 2}),
        ((0, 1), [0, 1, 7, 1], {"1": 2, "0": 1, "others": 1}),
        ((0, 1), [1.0, 2.0], {"1.0": 1, "others": 1}),
        (("y" * 100,), ["y" * 100], {"y" * 100: 1}),
        ((True, False), [True, True], {"True": 2}),
    ],
)
def test_where_the_classes_are_known_all_else_is_others(
    known: tuple[Any, ...], answers: list[Any], classes: dict[str, int]
) -> None:
    tally = AnswerTally()
    tally.count([np.array(answers)], numbers=False, known=frozenset(known))
    found = tally.value(1, known=frozenset(known))
    assert (found.classes, found.named) == (classes, True)


@pytest.mark.parametrize(
    ("answers", "known", "named"),
    [
        ([1, 2], None, True), ([True], None, True), (["a"], None, False), (["a"], frozenset({"a"}), True),
        (["a", "b"], frozenset({"a"}), False), ([], None, True),
    ],
)  # fmt: skip
def test_texts_that_are_not_known_to_be_classes_are_not_named(
    answers: list[Any], known: frozenset[Any] | None, named: bool
) -> None:
    tally = AnswerTally()
    tally.count([np.array(answers)], numbers=None)
    assert tally.value(1, known=known).named is named


class Odd:
    """An answer that cannot even be compared."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __hash__(self) -> int:
        return 1


@pytest.mark.parametrize("odd", [["a", "list"], {"a": 1}, np.zeros(3), Odd()])
def test_each_answer_is_counted_once_whatever_it_is(odd: Any) -> None:
    answers = np.empty(4, dtype=object)
    answers[:] = ["x", "y", None, None]
    answers[2] = odd
    tally = AnswerTally()
    tally.count([answers], numbers=None)
    found = tally.value(1)
    assert (found.count, found.missing, found.classes) == (4, 1, {"x": 1, "y": 1, "others": 1})


def test_numbers_and_missing_values_of_other_kinds() -> None:
    answers = np.empty(6, dtype=object)
    answers[:] = [np.int64(3), np.float64("nan"), pd.NA, pd.NaT, np.str_("a"), date(2020, 1, 2)]
    tally = AnswerTally()
    tally.count([answers], numbers=None)
    found = tally.value(1)
    assert (found.missing, found.classes) == (3, {"3": 1, "a": 1, "2020-01-02": 1})


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
    assert AnswerTally.sum([first, second]).value(1) == tallied(*[one for one in answers if one])
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


def filled(*keys: tuple[int, int]) -> Cells:
    cells: Cells = {}
    for key in keys:
        cell_of(cells, key).count([event()], numbers=None)
    return cells


def counts(cells: Cells) -> dict[tuple[int, int], int]:
    return {key: cells[key].requests for key in sorted(cells)}


@pytest.mark.parametrize("order", [1, -1])
def test_of_each_version_the_newest_16_replicas_are_told_by_number(order: int) -> None:
    cells = filled(*[(1, replica) for replica in range(200)][::order])
    assert counts(cells) == {(1, -1): 183, (1, 0): 1, **{(1, replica): 1 for replica in range(184, 200)}}
    merged(cells, filled(*((2, replica) for replica in range(10))))
    assert together(cells.values()).requests == 210
    assert counts(cells)[2, 9] == counts(cells)[1, 199] == 1


def test_of_many_versions_each_is_told_and_few_replicas_by_number() -> None:
    cells = filled(*((version, replica) for version in range(1, 31) for replica in range(1, 6)))
    by_version = Counter(version for version, _ in cells)
    assert set(by_version) == set(range(1, 31))
    assert sum(replica >= 0 for _, replica in cells) == 64
    assert counts(cells)[30, 5] == 1
    assert (counts(cells)[1, -1], len(cells)) == (5, 64 + 18)


def test_beyond_32_versions_the_oldest_are_one() -> None:
    cells = filled(*((version, 1) for version in range(1, 71)))
    assert counts(cells) == {(0, -1): 38, **{(version, 1): 1 for version in range(39, 71)}}


def test_a_version_that_goes_on_is_not_among_the_oldest() -> None:
    cells = filled((1, 1))
    for version in range(2, 71):
        merged(cells, filled((1, 1), (version, 1)))
    assert counts(cells)[1, 1] == 70
    assert len({version for version, _ in cells}) == 33


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
    window = window_of([cells], name="1 minute", seconds=60, lasted=2.0)
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
    window = window_of([], name="1 hour", seconds=3600, lasted=0.0)
    assert (window.requests, window.rate, window.latency.p99, window.parts, window.answers) == (0, 0.0, None, (), ())
    assert window_of([{(1, 1): counted(event())}], name="1 hour", seconds=3600, lasted=0.0).rate == 0.0


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
