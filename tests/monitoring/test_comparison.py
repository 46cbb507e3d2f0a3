from __future__ import annotations

import pickle
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlnb.errors import MissingLibraryError
from mlnb.monitoring.comparison import Comparison, differing, distances

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("live", "other", "apart"),
    [
        ([1, 2, 3], [1, 5, 3], [0, 1, 0]),
        (["a", "b"], ["a", "bb"], [0, 1]),
        ([True, False], [True, True], [0, 1]),
        ([1.0, 2.0], [1.5, -2.0], [0.5, 4.0]),
        ([1, 2], [1.0, 2.5], [0, 0.5]),
        ([NAN, NAN, 1.0], [NAN, 1.0, NAN], [0, INF, INF]),
        ([INF, INF, 1.0], [INF, -INF, INF], [0, INF, INF]),
        ([[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.5], [0.0, 4.0]], [0.5, 3.0]),
        ([["a", "b"], ["c", "d"]], [["a", "b"], ["c", "x"]], [0, 1]),
        ([1.0, 2.0], [[1.0], [2.0]], [INF, INF]),
        ([1.0, 2.0], [1.0], [INF, INF]),
        (["1", "2"], [1, 2], [1, 1]),
        (np.array(["a", None], object), np.array(["a", None], object), [0, 0]),
        (np.array(["a", NAN], object), np.array(["b", NAN], object), [1, 0]),
        (np.zeros((2, 0)), np.zeros((2, 0)), [0, 0]),
        ([], [], []),
    ],
)
def test_distances(live: Any, other: Any, apart: list[float]) -> None:
    found = distances(np.asarray(live), np.asarray(other))
    assert found.tolist() == apart
    assert differing(np.asarray(live), np.asarray(other)).tolist() == [one > 0 for one in apart]


def test_numbers_that_differ_by_rounding_are_the_same() -> None:
    live = np.array([1e6, 1e6, 0.0, -1e-20])
    other = live + np.array([1e-5, 1.0, 1e-12, 0.0])
    assert differing(live, other).tolist() == [False, True, True, False]


def test_it_counts_rows() -> None:
    comparison = Comparison()
    assert comparison.summary().share is None
    assert comparison.summary().mean_distance is None
    comparison.record("a", 1.0, [[1], [2], [3]], np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.5, NAN]))
    comparison.record("b", 2.0, [[4]], np.array([1.0]), np.array([1.0]))
    comparison.dropped(5)
    comparison.failed(2, "ValueError: no")
    summary = comparison.summary()
    assert (summary.compared, summary.differing, summary.dropped, summary.failed) == (4, 2, 5, 2)
    assert (summary.failure, summary.share) == ("ValueError: no", 0.5)
    assert summary.mean_distance == pytest.approx(0.5 / 3)


@pytest.mark.parametrize(
    ("rows", "names", "row"),
    [
        ([[1, 2], [3, 4]], None, [3, 4]),
        ([[1, 2], [3, 4]], ["x", "y"], {"x": 3, "y": 4}),
        ([{"x": 1}, {"x": 3}], ["x"], {"x": 3}),
        (np.array([[1.0, 2.0], [3.0, 4.0]]), ["x", "y"], {"x": 3.0, "y": 4.0}),
        (pd.DataFrame({"x": [1, 3], "y": ["a", "b"]}), None, {"x": 3, "y": "b"}),
        (["one", "two"], ["text"], "two"),
        (np.zeros((2, 101, 100)), None, None),
    ],
)
def test_it_keeps_the_row_of_a_disagreement(rows: Any, names: list[str] | None, row: Any) -> None:
    comparison = Comparison(names=names)
    comparison.record("a", 1.0, rows, np.array(["x", "y"]), np.array(["x", "z"]))
    (one,) = comparison.disagreements
    assert (one.request_id, one.at, one.row, one.live, one.shadow, one.distance) == ("a", 1.0, row, "y", "z", 1.0)


def test_answers_of_other_shapes_disagree_everywhere() -> None:
    comparison = Comparison()
    comparison.record("a", 1.0, [[1], [2]], np.array([1.0, 2.0]), np.array([[1.0, 0.0]]))
    assert [(one.live, one.shadow) for one in comparison.disagreements] == [(1.0, [1.0, 0.0]), (2.0, None)]
    assert comparison.summary().differing == 2


def test_the_table_has_the_largest_distance_first() -> None:
    comparison = Comparison(names=["x"])
    comparison.record("a", 0.0, [[1], [2]], np.array([1.0, 2.0]), np.array([1.5, 9.0]))
    comparison.record("b", 60.0, [[3]], np.array([NAN]), np.array([0.0]))
    table = comparison.frame()
    assert list(table.columns) == ["at", "request_id", "row", "live", "shadow", "distance"]
    assert table["distance"].tolist() == [INF, 7.0, 0.5]
    assert table["row"].tolist() == [{"x": 3}, {"x": 2}, {"x": 1}]
    assert table["at"].tolist() == [pd.Timestamp(60, unit="s", tz="UTC")] + [pd.Timestamp(0, tz="UTC")] * 2


def test_a_table_of_no_disagreement_has_its_columns() -> None:
    table = Comparison().frame()
    assert (len(table), list(table.columns)) == (0, ["at", "request_id", "row", "live", "shadow", "distance"])


def test_without_pandas_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingLibraryError, match="needs pandas"):
        Comparison().frame()


def test_the_last_thousand_are_kept_and_move_between_processes() -> None:
    comparison = Comparison()
    for number in range(30):
        comparison.record(str(number), 0.0, [[0]] * 50, np.zeros(50), np.ones(50))
    moved = pickle.loads(pickle.dumps(comparison))
    assert len(moved.disagreements) == 1000
    assert moved.disagreements[0].request_id == "10"
    assert moved.summary() == comparison.summary()
