from __future__ import annotations

import re
from typing import Any, Literal

import numpy as np
import orjson
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.linear_model import LogisticRegression

from mlnb.errors import InvalidInputError, MissingLibraryError, NotServableError
from mlnb.registry.inference import infer_signature
from mlnb.registry.signature import Field, Signature

MIXED = pd.DataFrame(
    {
        "age": [41, 28],
        "income": [30.5, np.nan],
        "member": [True, False],
        "city": ["Taipei", "Delft"],
        "plan": pd.Categorical(["free", "paid"], categories=["free", "paid", "gold"]),
    }
)
ROW = {"age": 3, "income": 1.5, "member": True, "city": "Tainan", "plan": "gold"}


def test_fields_of_an_array() -> None:
    signature = infer_signature(None, np.array([[1.5, 2.0], [0.5, 4.0]]))
    assert signature.container == "array"
    assert signature.fields == (
        Field(name="x0", kind="number", dtype="float64", minimum=0.5, maximum=1.5, example=1.5),
        Field(name="x1", kind="number", dtype="float64", minimum=2.0, maximum=4.0, example=2.0),
    )


def test_fields_of_a_frame() -> None:
    signature = infer_signature(None, MIXED)
    assert signature.container == "frame"
    assert [(field.name, field.kind, field.nullable) for field in signature.fields] == [
        ("age", "integer", False),
        ("income", "number", True),
        ("member", "boolean", False),
        ("city", "text", False),
        ("plan", "text", False),
    ]
    assert signature.fields[4].categories == ("free", "paid", "gold")
    assert signature.example == {"age": 41, "income": 30.5, "member": True, "city": "Taipei", "plan": "free"}


def test_a_fitted_estimator_without_an_example_gives_names_and_labels() -> None:
    frame = pd.DataFrame({"a": [0.0, 1.0], "b": [1.0, 0.0]})
    named = infer_signature(LogisticRegression().fit(frame, ["no", "yes"]))
    assert (named.names, named.labels, named.container) == (("a", "b"), ("no", "yes"), "frame")
    assert named.example is None
    numbered = infer_signature(LogisticRegression().fit(frame.to_numpy(), [0, 1]))
    assert (numbered.names, numbered.labels, numbered.container) == (("x0", "x1"), (0, 1), "array")


def test_names_come_from_the_estimator_when_the_example_is_an_array() -> None:
    frame = pd.DataFrame({"a": [0.0, 1.0], "b": [1.0, 0.0]})
    model = LogisticRegression().fit(frame, [0, 1])
    signature = infer_signature(model, frame.to_numpy())
    assert (signature.names, signature.container) == (("a", "b"), "frame")
    with pytest.raises(NotServableError, match="has 3 features; the model was fitted on 2"):
        infer_signature(model, [[1.0, 2.0, 3.0]])


def test_nothing_known_passes_rows_on() -> None:
    signature = infer_signature(object())
    assert signature.container == "any"
    assert signature.coerce([["a", "b"]]).tolist() == [["a", "b"]]
    assert signature.coerce(MIXED) is MIXED
    with pytest.raises(InvalidInputError, match="make no array"):
        signature.coerce([[1.0], [1.0, 2.0]])
    with pytest.raises(InvalidInputError, match="There are no rows"):
        signature.coerce(5)


@pytest.mark.parametrize("example", [MIXED, np.array([[1, 2]]), np.array([["a", 1.5]], dtype=object), None])
def test_a_signature_reads_back_from_json(example: Any) -> None:
    signature = infer_signature(LogisticRegression().fit([[0], [1]], [0, 1]) if example is None else None, example)
    assert Signature.from_json(orjson.loads(orjson.dumps(signature.to_json()))) == signature


@given(hnp.arrays(np.float64, (3, 4), elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_a_row_is_the_same_however_it_arrives(matrix: np.ndarray[Any, Any]) -> None:
    signature = infer_signature(None, np.ones((1, 4)))
    named = [dict(zip(("x3", "x1", "x0", "x2"), row[[3, 1, 0, 2]].tolist(), strict=True)) for row in matrix]
    frame = pd.DataFrame(matrix, columns=list(signature.names))
    json = orjson.loads(orjson.dumps(matrix.tolist()))
    for form in (matrix, np.asfortranarray(matrix), matrix.tolist(), named, frame, frame.iloc[:, ::-1], json):
        coerced = signature.coerce(form)
        assert coerced.dtype == np.float64
        assert coerced.tobytes() == matrix.tobytes()


@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_lie_in_memory_as_the_example_does(order: Literal["C", "F"]) -> None:
    matrix = np.arange(6.0).reshape(3, 2)
    array = np.array(matrix, order=order)
    frame = pd.DataFrame(array, columns=["a", "b"], copy=False)
    for example in (array, frame):
        signature = infer_signature(None, example)
        assert np.asarray(signature.coerce(matrix.tolist())).flags[order if order == "F" else "C"]
        assert np.shares_memory(np.asarray(signature.coerce(example)), array)


def test_a_frame_gets_its_dtypes_back() -> None:
    coerced = infer_signature(None, MIXED).coerce([ROW, ROW | {"income": None}])
    assert coerced.dtypes.to_dict() == MIXED.dtypes.to_dict()
    assert coerced.iloc[0].to_dict() == ROW
    assert np.isnan(coerced["income"][1])
    pd.testing.assert_frame_equal(infer_signature(None, MIXED).coerce(MIXED), MIXED)


def test_missing_text_stays_missing() -> None:
    frame = pd.DataFrame({"city": ["Taipei", None], "age": [1.0, 2.0]})
    coerced = infer_signature(None, frame).coerce([{"city": None, "age": 1}])
    assert coerced["city"].isna().all()


@pytest.mark.parametrize("one", [[1.0, 2.0], (1.0, 2.0), {"x0": 1.0, "x1": 2.0}, np.array([1.0, 2.0])])
def test_one_row_needs_no_brackets(one: Any) -> None:
    assert infer_signature(None, [[0.5, 0.5]]).coerce(one).tolist() == [[1.0, 2.0]]


def test_an_object_array_keeps_numbers_and_text() -> None:
    signature = infer_signature(None, np.array([["a", 1], ["b", 2]], dtype=object))
    assert [field.kind for field in signature.fields] == ["text", "integer"]
    assert signature.coerce([["c", 3]]).tolist() == [["c", 3]]


@pytest.mark.parametrize(
    ("rows", "row", "field", "says"),
    [
        ([[1.0, 2.0], [1.0, "x"]], 1, "x1", "Row 1, field 'x1': got 'x', needs a number"),
        ([[1.0, None]], 0, "x1", "got a missing value (null or NaN), needs a number"),
        (np.array([[1.0, 2.0], [np.nan, 1.0]]), 1, "x0", "got a missing value"),
        ([[1.0, float("inf")]], 0, "x1", "got inf, needs a finite number"),
        ([[1.0, 10**400]], 0, "x1", "needs a finite number"),
        ([[1.0, -(10**400)]], 0, "x1", "needs a finite number"),
        ([[1.0, [2.0]]], 0, "x1", "got [2.0], needs a number"),
        ([[1.0, 2.0], [1.0]], 1, None, "Row 1 has 1 values; the model takes 2: x0, x1."),
        ([[1.0, 2.0, 3.0]], 0, None, "Row 0 has 3 values"),
        (np.ones((2, 3)), 0, None, "Row 0 has 3 values"),
        ([[1.0, 2.0], 7], 1, None, "Row 1: got 7, needs a list of 2 values"),
        ([{"x0": 1.0, "x1": 2.0}, {"x0": 1.0, "y": 1.0}], 1, "y", "Row 1 has an unknown field 'y'; there are: x0, x1."),
        ([{"x0": 1.0}], 0, "x1", "Row 0 lacks the field 'x1'; needed are: x0, x1."),
        ([{"x0": 1.0, "x1": 2.0}, [1.0, 2.0]], 1, None, "needs an object with the fields by name"),
        ([], None, None, "There are no rows"),
        (np.ones((0, 2)), None, None, "There are no rows"),
        (np.ones((1, 2, 2)), None, None, "have the shape (1, 2, 2); needed is (rows, 2)"),
        ("abc", None, None, "'abc' is no row"),
        (7, None, None, "7 is no row"),
        (pd.DataFrame({"x0": [1.0], "z": [1.0]}), 0, "z", "unknown field 'z'"),
        (pd.DataFrame({"p": [1.0]}), 0, None, "Row 0 has 1 values"),
    ],
)
def test_what_does_not_fit_is_named(rows: Any, row: int | None, field: str | None, says: str) -> None:
    signature = infer_signature(None, np.array([[0.5, 0.5]]))
    with pytest.raises(InvalidInputError, match=re.escape(says)) as caught:
        signature.coerce(rows)
    assert caught.value.details.get("row") == row
    assert caught.value.details.get("field") == field


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"age": 41.5}, "age", "got 41.5, needs a whole number"),
        ({"age": 10**30}, "age", "needs a whole number"),
        ({"member": 2}, "member", "got 2, needs true or false"),
        ({"member": "yes"}, "member", "needs true or false"),
        ({"city": 7}, "city", "got 7, needs text"),
        ({"city": None}, "city", "got a missing value (null or NaN), needs text"),
        ({"plan": "silver"}, "plan", "got 'silver', needs one of free, paid, gold"),
        ({"income": "high"}, "income", "got 'high', needs a number"),
    ],
)
def test_each_kind_of_column_is_checked(change: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(says)) as caught:
        infer_signature(None, MIXED).coerce([ROW, ROW | change])
    assert caught.value.details["row"] == 1
    assert caught.value.details["field"] == field


def test_small_integers_do_not_wrap_around() -> None:
    signature = infer_signature(None, np.array([[200]], dtype=np.uint8))
    assert signature.coerce([[255.0]]).dtype == np.uint8
    with pytest.raises(InvalidInputError, match="got 256, needs a whole number from 0 to 255"):
        signature.coerce([[256]])


def test_nullable_columns_take_null_and_the_others_do_not() -> None:
    signature = infer_signature(None, np.array([[1.0, 1.0], [2.0, np.nan]]))
    assert np.isnan(signature.coerce(np.array([[1.0, np.nan]]))[0, 1])
    with pytest.raises(InvalidInputError, match="field 'x0'"):
        signature.coerce(np.array([[np.nan, 1.0]]))


@pytest.mark.parametrize(
    ("example", "says"),
    [
        ([[1.0], [1.0, 2.0]], "rows differ in length"),
        (np.ones((0, 3)), "at least one row"),
        (5.0, "needed is a table"),
        (np.ones((2, 2, 2)), "needed is a table"),
        (pd.DataFrame({"day": pd.to_datetime(["2026-01-01"])}), "column 'day' has the type datetime64"),
        (pd.DataFrame({"odd": ["a", 1]}), "column 'odd' mixes kinds of values (int, str)"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns of the same name"),
    ],
)
def test_an_example_that_is_no_table_is_refused(example: Any, says: str) -> None:
    with pytest.raises(NotServableError, match=re.escape(says)):
        infer_signature(None, example)


def test_a_frame_with_numbered_columns_is_an_array() -> None:
    signature = infer_signature(None, pd.DataFrame([[1.0, 2.0]]))
    assert (signature.names, signature.container) == (("x0", "x1"), "array")


def test_a_model_of_frames_says_that_pandas_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    signature = infer_signature(None, MIXED)
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(MissingLibraryError, match="pip install pandas"):
        signature.coerce([ROW])


def test_whole_numbers_beside_fractions_keep_their_last_digit() -> None:
    frame = pd.DataFrame({"id": [2**53 + 1, 2**53 + 3], "x": [0.5, 1.5]})
    signature = infer_signature(None, frame)
    for form in (frame, frame.to_dict("records")):
        assert signature.coerce(form)["id"].tolist() == [2**53 + 1, 2**53 + 3]


def test_categories_that_are_no_text_are_refused_with_the_way_out() -> None:
    frame = pd.DataFrame({"stage": pd.Categorical([1, 2, 3])})
    with pytest.raises(NotServableError, match=r"categories that are no text, such as 1; .*astype\(str\)"):
        infer_signature(None, frame)


def test_a_frame_with_a_column_twice_is_refused() -> None:
    frame = pd.DataFrame([[1.0, 2.0, 3.0]], columns=["a", "b", "b"])
    with pytest.raises(InvalidInputError, match="has a column twice"):
        infer_signature(None, frame[["a"]].assign(b=1.0)).coerce(frame)


def test_an_example_beyond_64_bits_is_refused() -> None:
    with pytest.raises(NotServableError, match="numbers beyond 64 bits"):
        infer_signature(None, [[10**30, 1]])


def test_whether_the_model_gives_probabilities() -> None:
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    assert infer_signature(model).probabilities
    assert infer_signature(model, [[1.0]]).probabilities
    assert not infer_signature(object(), [[1.0]]).probabilities


def test_a_frame_without_an_example_may_hold_anything_and_the_model_judges() -> None:
    frame = pd.DataFrame({"age": [0.0, 1.0], "city": [1.0, 0.0]})
    signature = infer_signature(LogisticRegression().fit(frame, [0, 1]))
    rows = signature.coerce([{"age": 41, "city": "Delft"}, {"age": None, "city": "Taipei"}])
    assert rows["city"].tolist() == ["Delft", "Taipei"]
    assert rows["age"].dtype == np.float64
    assert signature.coerce(frame).equals(frame)
    with pytest.raises(InvalidInputError, match="field 'city': got inf, needs a number, text"):
        signature.coerce([{"age": 1, "city": float("inf")}])
    with pytest.raises(InvalidInputError, match="field 'city': got \\[1\\], needs a number, text"):
        signature.coerce([{"age": 1, "city": [1]}])


def test_an_example_of_texts_is_refused_with_the_way_out() -> None:
    with pytest.raises(NotServableError, match=r"a list of texts.*\{\"instances\": \[\"some text\""):
        infer_signature(None, ["good film", "bad film"])
