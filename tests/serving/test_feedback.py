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
        ({"request_id": 5, "label": 1}, "Entry 0 has the request_id 5, which is no text"),
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
        ({"request_id": "a", "label": "x"}, {"request_id": "b", "label": "y"}),
        {"a": "x", "b": "y"},
        pd.Series(["x", "y"], index=["a", "b"]),
    ],
)
def test_tables(table: Any) -> None:
    assert labels_of(table) == [Label("a", label="x"), Label("b", label="y")]


@pytest.mark.parametrize("ids", [["a", "b"], ("a", "b"), np.array(["a", "b"]), pd.Series(["a", "b"], index=[7, 8])])
@pytest.mark.parametrize("labels", [["x", "y"], ("x", "y"), np.array(["x", "y"]), pd.Series(["x", "y"])])
def test_ids_and_labels(ids: Any, labels: Any) -> None:
    assert labels_of(ids, labels) == [Label("a", label="x"), Label("b", label="y")]


def test_ids_and_outcomes() -> None:
    assert labels_of(["a", "b"], outcome=[1, 0.5]) == [Label("a", outcome=1), Label("b", outcome=0.5)]
    assert labels_of(["a", "b"], ["x", None], outcome=[None, 2.0]) == [Label("a", label="x"), Label("b", outcome=2.0)]


def test_rows_of_one_request_and_of_several() -> None:
    assert labels_of({"request_id": "a", "label": ["x", "y"]}) == [Label("a", label=["x", "y"])]
    assert labels_of(["a", "b"], [["x", "y"], "x"]) == [Label("a", label=["x", "y"]), Label("b", label="x")]


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
        (5, "{id: label}, ids and labels in two lists, or a table .*, not a int"),
        (None, "not a NoneType"),
        ({7: "x"}, "Entry 0 has the request_id 7, which is no text"),
        (["a", "b"], "These 2 request ids come without labels; give a request id with a label"),
        (np.array([1]), "not a ndarray"),
        (pd.Series(["x"]), "Entry 0 has the request_id 0, which is no text"),
        ([], "not 0"),
        (pd.DataFrame({"request_id": [], "label": []}), "not 0"),
        (pd.DataFrame({"label": ["x"]}), "The table has no column 'request_id'; there are: label"),
        (
            pd.DataFrame({"requestid": ["a"], "label": ["x"]}),
            r"no column 'request_id'; did you mean 'requestid'\? There are: label, requestid. Rename the column",
        ),
        (
            pd.DataFrame({"request_id": ["a"], "lable": ["x"]}),
            r"no column 'label' or 'outcome'; did you mean 'lable'\?",
        ),
        (pd.DataFrame({"request_id": [1], "label": ["x"]}), "Entry 0 has the request_id 1, which is no text"),
        (pd.DataFrame({"request_id": ["a", None], "label": ["x", "y"]}), "Entry 1 has the request_id .*, which is no"),
        ([["a", "x"]], "Entry 0 names no 'request_id'"),
    ],
)
def test_what_is_no_feedback(given: Any, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        labels_of(given)


@pytest.mark.parametrize("given", [pd.DataFrame({"request_id": ["a"]}), {"a": "x"}, 5])
def test_a_table_has_its_own_labels(given: Any) -> None:
    with pytest.raises(InvalidInputError, match=f"Labels of a {type(given).__name__} are in it: give it alone"):
        labels_of(given, "x")


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"label": ["x"]}, "There are 2 request ids and 1 label; give one for each"),
        ({"label": "xy"}, "There are 2 request ids and 1 label;"),
        ({"outcome": [1, 2, 3]}, "There are 2 request ids and 3 outcomes"),
        ({"outcome": 1.0}, "There are 2 request ids and 1 outcome;"),
    ],
)
def test_ids_need_a_label_each(told: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        labels_of(["a", "b"], **told)
