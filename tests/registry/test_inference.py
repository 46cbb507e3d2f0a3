from __future__ import annotations

import re
import sys
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from lightgbm import LGBMClassifier
from sklearn.cluster import KMeans
from sklearn.ensemble import IsolationForest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from mlnb.errors import NotServableError
from mlnb.registry.rows.inference import infer_signature
from mlnb.registry.rows.profiles import frequencies, quantiles
from mlnb.registry.signature import Field

HALVES = tuple(0.5 + 0.05 * step for step in range(21))


def test_fields_of_an_array() -> None:
    signature = infer_signature(None, np.array([[1.5, 2.0], [0.5, 4.0]]))
    first, second = signature.fields
    assert (signature.container, signature.shape, signature.output) == ("array", (), "any")
    assert first == Field(
        name="x0", kind="number", dtype="float64", minimum=0.5, maximum=1.5, example=1.5, quantiles=first.quantiles
    )
    assert first.quantiles == pytest.approx(HALVES)
    assert (second.name, second.minimum, second.maximum, second.example) == ("x1", 2.0, 4.0, 2.0)


MIXED = pd.DataFrame(
    {
        "age": [41, 28],
        "income": [30.5, np.nan],
        "member": [True, False],
        "city": ["Taipei", "Delft"],
        "plan": pd.Categorical(["free", "paid"], categories=["free", "paid", "gold"]),
        "visits": pd.array([3, None], dtype="Int64"),
        "weight": pd.array([None, 1.5], dtype="Float64"),
        "agreed": pd.array([True, None], dtype="boolean"),
        "note": pd.array(["a", None], dtype="string"),
        "stage": pd.Categorical([2, 1]),
        "since": pd.DatetimeIndex(["2026-01-31T12:00:00.25", "NaT"]),
        "seen": pd.to_datetime(["2026-01-31T12:00:00", "2026-02-01"], format="ISO8601").tz_localize("Europe/Berlin"),
    }
)


def test_fields_of_a_frame() -> None:
    signature = infer_signature(None, MIXED)
    assert signature.container == "frame"
    assert [(field.name, field.kind, field.dtype, field.nullable) for field in signature.fields] == [
        ("age", "integer", "int64", False),
        ("income", "number", "float64", True),
        ("member", "boolean", "bool", False),
        ("city", "text", str(MIXED["city"].dtype), False),
        ("plan", "text", "category", False),
        ("visits", "integer", "Int64", True),
        ("weight", "number", "Float64", True),
        ("agreed", "boolean", "boolean", True),
        ("note", "text", "string", True),
        ("stage", "integer", "category", False),
        ("since", "datetime", str(MIXED["since"].dtype), True),
        ("seen", "datetime", str(MIXED["seen"].dtype), False),
    ]
    assert signature.fields[4].categories == ("free", "paid", "gold")
    assert signature.example == {
        "age": 41, "income": 30.5, "member": True, "city": "Taipei", "plan": "free", "visits": 3, "weight": 1.5,
        "agreed": True, "note": "a", "stage": 2, "since": "2026-01-31T12:00:00.25", "seen": "2026-01-31T11:00:00Z",
    }  # fmt: skip
    pd.testing.assert_frame_equal(signature.coerce(MIXED), MIXED)
    pd.testing.assert_frame_equal(signature.coerce([signature.example])[["seen"]], MIXED[["seen"]].iloc[:1])


@pytest.mark.parametrize(
    "dtype",
    [
        "int64[pyarrow]",
        "double[pyarrow]",
        "float[pyarrow]",
        "bool[pyarrow]",
        "string[pyarrow]",
        "timestamp[us][pyarrow]",
        "timestamp[ns, tz=UTC][pyarrow]",
    ],
)
def test_a_pandas_frame_over_arrow_gets_its_dtypes_back(dtype: Any) -> None:
    value: Any = {"s": "a", "t": pd.Timestamp("2026-01-01", tz="UTC" if "tz" in dtype else None)}.get(dtype[0], 1)
    frame = pd.DataFrame({"a": pd.array([value, None], dtype=dtype)})
    if dtype == "string[pyarrow]":  # that is what pandas calls its own
        frame = frame.astype(pd.ArrowDtype(pa.string()))
    coerced = infer_signature(None, frame).coerce(frame)
    assert coerced["a"].isna().tolist() == [False, True]
    assert dtype.startswith("string") or coerced.dtypes.to_dict() == frame.dtypes.to_dict()


def test_sparse_columns_are_read_and_given_as_dense_ones() -> None:
    frame = pd.DataFrame({"a": pd.arrays.SparseArray([0.0, 1.0, 0.0])})
    assert infer_signature(None, frame).coerce(frame)["a"].tolist() == [0.0, 1.0, 0.0]


POLARS = pl.DataFrame(
    {
        "n": pl.Series([1, None], dtype=pl.Int32),
        "f": pl.Series([0.5, None], dtype=pl.Float32),
        "b": [True, None],
        "s": ["a", None],
        "c": pl.Series(["x", None], dtype=pl.Categorical),
        "e": pl.Series(["lo", None], dtype=pl.Enum(["lo", "hi"])),
        "day": [date(2026, 1, 31), None],
        "at": pl.Series([datetime(2026, 1, 31, 12), None], dtype=pl.Datetime("ms")),  # noqa: DTZ001 - it has no zone
        "seen": pl.Series([datetime(2026, 1, 31, 12, tzinfo=UTC), None], dtype=pl.Datetime("ns", "Europe/Berlin")),
    }
)


@pytest.mark.parametrize("rows", [POLARS, POLARS[:1]])
def test_a_polars_frame_gets_its_dtypes_back(rows: pl.DataFrame) -> None:
    signature = infer_signature(None, POLARS)
    assert signature.container == "polars"
    assert [field.kind for field in signature.fields] == [
        "integer", "number", "boolean", "text", "text", "text", "datetime", "datetime", "datetime"
    ]  # fmt: skip
    assert all(field.nullable for field in signature.fields)
    assert signature.fields[5].categories == ("lo", "hi")
    for form in (rows, rows.to_dicts(), rows.to_arrow(), rows.select(reversed(rows.columns)), list(rows.iter_rows())):
        coerced = signature.coerce(form)
        assert coerced.schema == POLARS.schema
        assert coerced.equals(rows)


def test_numbers_of_polars_as_a_matrix() -> None:
    frame = pl.DataFrame({"a": [1.0, 2.0], "b": [0.5, None]})
    signature = infer_signature(None, frame)
    assert signature.coerce([[1.0, None], [2.0, 3.0]]).equals(pl.DataFrame({"a": [1.0, 2.0], "b": [None, 3.0]}))
    assert signature.coerce(np.array([[1.0, np.nan]])).equals(
        pl.DataFrame({"a": [1.0], "b": pl.Series([None], dtype=pl.Float64)})
    )


def test_an_arrow_table_counts_as_a_pandas_frame() -> None:
    table = pa.table({"a": [1, 2], "b": ["x", None]})
    for example in (table, table.to_batches()[0]):
        signature = infer_signature(None, example)
        assert (signature.container, signature.names) == ("frame", ("a", "b"))
        assert signature.coerce(table)["a"].tolist() == [1, 2]


NAMED = [{"age": 41, "city": "Taipei"}, {"city": None, "age": 28}]


def test_a_list_of_dicts_names_the_columns() -> None:
    signature = infer_signature(None, NAMED)
    assert (signature.container, signature.names) == ("frame", ("age", "city"))
    assert [(field.kind, field.nullable) for field in signature.fields] == [("integer", False), ("text", True)]
    model = LogisticRegression().fit(pd.DataFrame({"b": [0.0, 1.0], "a": [1.0, 0.0]}), [0, 1])
    assert infer_signature(model, [{"a": 1.0, "b": 2.0}]).names == ("b", "a")
    with pytest.raises(NotServableError, match="lacks the column 'a' of the model's; there are: b"):
        infer_signature(model, [{"b": 2.0}])


def test_without_pandas_named_rows_make_an_array(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    signature = infer_signature(None, NAMED)
    assert (signature.container, signature.names) == ("array", ("age", "city"))
    assert signature.coerce([{"city": "Delft", "age": 3}]).tolist() == [[3, "Delft"]]
    table = infer_signature(None, pa.table({"a": [1, 2], "b": [0.5, 1.5]}))
    assert (table.container, table.names) == ("array", ("a", "b"))
    assert table.coerce([{"a": 1, "b": 2}]).tolist() == [[1, 2.0]]


@pytest.mark.parametrize(
    "make", [list, tuple, np.array, pd.Series, pl.Series, lambda texts: np.array(texts, dtype=object)]
)
def test_texts(make: Any) -> None:
    example = make(["good", "bad"])
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(["good", "bad"], [1, 0])
    signature = infer_signature(model, example)
    assert (signature.container, signature.names, signature.output) == ("texts", ("text",), "class")
    assert signature.example == {"text": "good"}
    assert model.predict(signature.coerce([{"text": "bad"}])).tolist() == [0]


def test_one_row_of_texts_for_a_model_of_tables() -> None:
    class Fitted:
        n_features_in_ = 2

    signature = infer_signature(Fitted(), ["red", "large"])
    assert (signature.container, signature.names) == ("array", ("x0", "x1"))


def test_tensors() -> None:
    images = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    signature = infer_signature(None, images)
    (field,) = signature.fields
    assert (signature.container, signature.shape, field.name, field.kind, field.dtype) == (
        "tensor", (3, 4), "tensor", "integer", "uint8"
    )  # fmt: skip
    assert (field.minimum, field.maximum, len(field.quantiles)) == (0.0, 23.0, 21)
    assert signature.example == {"tensor": images[0].tolist()}
    assert infer_signature(None, images.tolist()).shape == (3, 4)
    assert infer_signature(None, np.zeros((1, 100, 100))).example is None
    holed = np.array([[[np.nan, 1.0]], [[2.0, 3.0]]])
    assert infer_signature(None, holed).example == {"tensor": [[2.0, 3.0]]}
    assert infer_signature(None, holed).fields[0].nullable


@pytest.mark.parametrize(
    ("model", "output"),
    [
        (LogisticRegression(), "class"),
        (LinearRegression(), "number"),
        (KMeans(), "cluster"),
        (IsolationForest(), "outlier"),
        (GridSearchCV(LinearRegression(), {}), "number"),
        (make_pipeline(TfidfVectorizer(), LogisticRegression()), "class"),
        (TfidfVectorizer(), "any"),
        (object(), "any"),
        (type("Own", (), {"classes_": np.array([0, 1])})(), "class"),
        (type("Old", (), {"_estimator_type": "regressor"})(), "number"),
        (type("Odd", (), {"_estimator_type": 7})(), "any"),
        (type("Broken", (), {"__sklearn_tags__": lambda _: 1 / 0})(), "any"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_what_a_model_predicts(model: object, output: str) -> None:
    assert infer_signature(model).output == output


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


def test_whether_the_model_gives_probabilities() -> None:
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    assert infer_signature(model).probabilities
    assert infer_signature(model, [[1.0]]).probabilities
    assert not infer_signature(object(), [[1.0]]).probabilities


@pytest.mark.parametrize(
    ("example", "says"),
    [
        ([[1.0], [1.0, 2.0]], "rows differ in length"),
        (np.ones((0, 3)), "at least one row"),
        (np.ones((0, 3, 3)), "at least one row"),
        ([], "at least one row"),
        (5.0, "needed is a table"),
        (pd.DataFrame({"a": []}), "at least one row"),
        (pd.DataFrame({"late": pd.to_timedelta(["1h"])}), "column 'late' has the type timedelta64"),
        (np.array([[np.datetime64("2026-01", "M")]]), "has the type datetime64[M]"),
        (np.array([[1j]]), "has the type complex128"),
        (np.zeros((1, 2, 2), dtype=complex), "an array of the type complex128"),
        (pd.DataFrame({"odd": ["a", 1]}), "column 'odd' mixes kinds of values (int, str)"),
        (pd.DataFrame({"none": [None, None]}), "column 'none' mixes kinds of values (nothing known)"),
        (pd.DataFrame({"day": pd.Series([date(2026, 1, 1)], dtype=object)}), "mixes kinds of values (date)"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns of the same name"),
        (
            pd.DataFrame({"c": pd.Categorical([1, "a"])}),
            "categories that are not all text, numbers or booleans, such as",
        ),
        (pd.DataFrame({"c": pd.Categorical([None])}), "of which there are none"),
        (pd.DataFrame({"c": pd.Categorical([float("inf")])}), "categories that are not all"),
        (pl.LazyFrame({"a": [1]}), "LazyFrame without rows yet; give its .collect()"),
        (pl.DataFrame({"a": []}), "at least one row"),
        (pl.DataFrame({"a": [[1]]}), "column 'a' has the type List(Int64)"),
        ([[10**30, 1]], "numbers beyond 64 bits"),
    ],
)
def test_an_example_that_is_no_table_is_refused(example: Any, says: str) -> None:
    with pytest.raises(NotServableError, match=re.escape(says)):
        infer_signature(None, example)


def test_a_frame_with_numbered_columns_is_an_array() -> None:
    signature = infer_signature(None, pd.DataFrame([[1.0, 2.0]]))
    assert (signature.names, signature.container) == (("x0", "x1"), "array")


def test_infinite_values_are_no_example() -> None:
    (field,) = infer_signature(None, np.array([[np.inf], [1.0], [3.0]])).fields
    assert (field.example, field.minimum, field.maximum, field.quantiles[10]) == (1.0, 1.0, 3.0, 2.0)


def test_objects_that_are_numbers_or_booleans() -> None:
    table = np.array([[True, 1, 1.5, None], [False, 2, 2, 3]], dtype=object)
    fields = infer_signature(None, table).fields
    assert [(field.kind, field.dtype, field.nullable) for field in fields] == [
        ("boolean", "bool", False),
        ("integer", "int64", False),
        ("number", "float64", False),
        ("number", "float64", True),
    ]


# ---- the baseline of drift ----


@given(hnp.arrays(np.float64, st.integers(1, 50), elements=st.floats(allow_nan=True, allow_infinity=True)))
def test_quantiles_are_numpys_of_the_finite_values(values: np.ndarray[Any, Any]) -> None:
    found = quantiles(values)
    known = values[np.isfinite(values)]
    if not len(known):
        assert found == ()
        return
    assert len(found) == 21
    assert (found[0], found[-1]) == (known.min(), known.max())
    assert np.isfinite(found).all()
    if np.abs(known).max() < 1e307:
        assert found == tuple(np.quantile(known, np.arange(21) / 20, method="linear").tolist())


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8", "uint64", "Int64", "Float64"])
def test_quantiles_of_each_numeric_column(dtype: Any) -> None:
    (field,) = infer_signature(None, pd.DataFrame({"a": range(101)}).astype(dtype)).fields
    assert field.quantiles == pytest.approx([5 * step for step in range(21)])
    assert field.frequencies == ()


def test_frequencies_of_text_categories_and_booleans() -> None:
    frame = pd.DataFrame(
        {
            "text": ["b", "a", "b", None],
            "flag": [True, True, True, False],
            "colour": pd.Categorical(["x", None, "x", "y"], categories=["x", "y", "z"]),
            "stage": pd.Categorical([2, 1, 1, 2]),
        }
    )
    found = {field.name: field.frequencies for field in infer_signature(None, frame).fields}
    assert found == {
        "text": (("b", 2 / 3), ("a", 1 / 3)),
        "flag": ((True, 0.75), (False, 0.25)),
        "colour": (("x", 2 / 3), ("y", 1 / 3)),
        "stage": ((1, 0.5), (2, 0.5)),
    }
    assert infer_signature(None, pl.from_pandas(frame)).fields[0].frequencies == found["text"]


@given(st.lists(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), min_size=1))
def test_frequencies_do_not_depend_on_the_order_of_rows(values: list[str]) -> None:
    found = frequencies(values)
    assert found == frequencies(reversed(values))
    assert len(found) == min(20, len(set(values)))
    assert [share for _, share in found] == sorted((share for _, share in found), reverse=True)


def test_long_texts_are_counted_and_not_listed() -> None:
    assert frequencies(["x" * 300, "a"]) == (("a", 0.5),)


def test_lightgbm_keeps_names_without_blanks_and_the_examples_own_are_meant() -> None:
    frame = pd.DataFrame({"mean radius": [1.0, 2.0] * 20, "worst-area": [3.0, 4.0] * 20})
    model = LGBMClassifier(n_estimators=2, min_child_samples=1, verbose=-1).fit(frame, [0, 1] * 20)
    assert list(model.feature_names_in_) != list(frame.columns)
    assert infer_signature(model, frame).names == ("mean radius", "worst-area")
