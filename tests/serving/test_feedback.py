from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlnb.errors import InvalidInputError
from mlnb.monitoring.outcomes import Label
from mlnb.serving.feedback import labels_of, read_feedback


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"request_id": "a", "label": "x"}, [Label("a", label="x")]),
        ({"request_id": "a", "outcome": 1}, [Label("a", outcome=1)]),
        ({"request_id": "a", "label": ["x", "y"]}, [Label("a", label=["x", "y"])]),
        ({"request_id": "a", "label": None, "outcome": 0.5}, [Label("a", outcome=0.5)]),
        ({"request_id": "a"}, [Label("a")]),
        ({"feedback": [{"request_id": "a", "label": 1}]}, [Label("a", label=1)]),
        (
            {"feedback": [{"request_id": "a", "label": 1}, {"request_id": "b", "outcome": 2}]},
            [Label("a", label=1), Label("b", outcome=2)],
        ),
    ],
)
def test_bodies(given: Any, expected: list[Label]) -> None:
    assert read_feedback(given) == expected


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "Entry 0 names no 'request_id'"),
        (5, "Entry 0 names no 'request_id'"),
        ([], "Entry 0 names no 'request_id'"),
        ({}, "Entry 0 names no 'request_id'"),
        ({"request_id": 5, "label": 1}, "Entry 0 names no 'request_id'"),
        ({"feedback": 5}, "Entry 0 names no 'request_id'"),
        ({"feedback": []}, "not 0"),
        ({"feedback": [{"request_id": "a"}] * 10_001}, "not 10,001"),
        ({"feedback": [{"request_id": "a"}, 5]}, "Entry 1 names no 'request_id'"),
        ({"feedback": [{"request_id": "a"}], "more": 1}, "Entry 0 names no 'request_id'"),
        ({"request_id": "a", "lable": 1}, r"Entry 0 has the keys \['lable'\]"),
    ],
)
def test_bodies_that_are_none(given: Any, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        read_feedback(given)


def test_one_request() -> None:
    assert labels_of("a", "x") == [Label("a", label="x")]
    assert labels_of("a", outcome=1.5) == [Label("a", outcome=1.5)]
    assert labels_of("a", np.array(["x", "y"]))[0].label.tolist() == ["x", "y"]


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"request_id": ["a", "b"], "label": ["x", "y"]}),
        pd.DataFrame({"label": ["x", "y"], "score": [1, 2], "request_id": ["a", "b"]}),
        pd.DataFrame({"label": ["x", "y"]}, index=pd.Index(["a", "b"], name="request_id")),
        pd.DataFrame({"request_id": ["a", "b"], "label": ["x", "y"], "outcome": [np.nan, np.nan]}),
        pd.DataFrame({"request_id": ["a", "b"], "label": ["x", "y"]}, dtype="string"),
        pd.DataFrame({"request_id": ["a", "b"], "label": pd.Categorical(["x", "y"])}),
        [{"request_id": "a", "label": "x"}, {"request_id": "b", "label": "y"}],
    ],
)
def test_tables(table: Any) -> None:
    assert labels_of(table) == [Label("a", label="x"), Label("b", label="y")]


def test_a_polars_table() -> None:
    polars = pytest.importorskip("polars")
    table = polars.DataFrame({"request_id": ["a", "b"], "label": ["x", "y"], "outcome": [None, None]})
    assert labels_of(table) == [Label("a", label="x"), Label("b", label="y")]


@pytest.mark.parametrize("missing", [np.nan, None, pd.NA])
def test_an_empty_cell_is_no_label(missing: Any) -> None:
    table = pd.DataFrame({"request_id": ["a", "b"], "label": ["x", missing], "outcome": [missing, 1.0]}, dtype=object)
    assert labels_of(table) == [Label("a", label="x"), Label("b", outcome=1.0)]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (5, "not a int"),
        (None, "not a NoneType"),
        ({"request_id": "a", "label": 1}, "not a dict"),
        (np.array([1]), "not a ndarray"),
        (pd.Series(["x"], index=["a"]), "not a Series"),
        ([], "not 0"),
        (pd.DataFrame({"request_id": [], "label": []}), "not 0"),
        (pd.DataFrame({"label": ["x"]}), "Entry 0 names no 'request_id'"),
        (pd.DataFrame({"request_id": [1], "label": ["x"]}), "Entry 0 names no 'request_id'"),
        (pd.DataFrame({"request_id": ["a", None], "label": ["x", "y"]}), "Entry 1 names no 'request_id'"),
        ([["a", "x"]], "Entry 0 names no 'request_id'"),
    ],
)
def test_what_is_no_feedback(given: Any, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        labels_of(given)


def test_a_table_has_its_own_labels() -> None:
    with pytest.raises(InvalidInputError, match="DataFrame has its own"):
        labels_of(pd.DataFrame({"request_id": ["a"]}), "x")
    with pytest.raises(InvalidInputError, match="list has its own"):
        labels_of([{"request_id": "a"}], outcome=1.0)
