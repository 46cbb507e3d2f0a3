from __future__ import annotations

import re
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import orjson
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.linear_model import LogisticRegression

from mlnb.errors import InvalidInputError, MissingLibraryError, TooLargeError
from mlnb.registry.rows.inference import infer_signature
from mlnb.registry.signature import Signature

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


def test_nothing_known_passes_rows_on() -> None:
    signature = infer_signature(object())
    assert signature.container == "any"
    assert signature.coerce([["a", "b"]]).tolist() == [["a", "b"]]
    assert signature.coerce(MIXED) is MIXED
    with pytest.raises(InvalidInputError, match="make no array"):
        signature.coerce([[1.0], [1.0, 2.0]])
    with pytest.raises(InvalidInputError, match="There are no rows"):
        signature.coerce(5)


EXAMPLES: list[Any] = [
    MIXED,
    np.array([[1, 2]]),
    np.array([["a", 1.5]], dtype=object),
    np.zeros((2, 3, 4), dtype=np.float32),
    np.array([["2026-01-01", "NaT"]], dtype="datetime64[D]"),
    ["good film", None, "bad film"],
    pl.DataFrame(
        {
            "n": [1, None],
            "at": [datetime(2026, 1, 1, tzinfo=UTC), None],
            "e": pl.Series(["a", "b"], dtype=pl.Enum(["a", "b"])),
        }
    ),
    pd.DataFrame(
        {
            "at": pd.DatetimeIndex(["2026-01-01T00:00:00.000000001", "NaT"]).tz_localize("Europe/Berlin"),
            "stage": pd.Categorical([2, 1], categories=[1, 2], ordered=True),
            "level": pd.Categorical([0.5, None]),
            "sure": pd.Categorical([True, False]),
            "flag": pd.array([True, None], dtype="boolean"),
        }
    ),
    None,
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_a_signature_reads_back_from_json(example: Any) -> None:
    signature = infer_signature(LogisticRegression().fit([[0], [1]], [0, 1]) if example is None else None, example)
    back = Signature.from_json(orjson.loads(orjson.dumps(signature.to_json())))
    assert back == signature
    assert orjson.dumps(back.to_json()) == orjson.dumps(signature.to_json())
    if example is not None:
        assert repr(back.coerce(example)) == repr(signature.coerce(example))


def test_a_signature_from_before_there_were_shapes_and_quantiles() -> None:
    field = {"name": "x0", "kind": "number", "dtype": "float64", "nullable": False, "minimum": 0.0, "maximum": 1.0,
             "categories": [], "example": 0.5}  # fmt: skip
    stored = {"fields": [field], "container": "array", "labels": None, "probabilities": False, "order": "C"}
    signature = Signature.from_json(stored)
    assert (signature.shape, signature.output, signature.fields[0].quantiles) == ((), "any", ())
    assert signature.coerce([[1]]).tolist() == [[1.0]]


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


def test_a_model_of_frames_says_that_pandas_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    signature = infer_signature(None, MIXED)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingLibraryError, match="pip install pandas"):
        signature.coerce([ROW])


def test_whole_numbers_beside_fractions_keep_their_last_digit() -> None:
    frame = pd.DataFrame({"id": [2**53 + 1, 2**53 + 3], "x": [0.5, 1.5]})
    signature = infer_signature(None, frame)
    for form in (frame, frame.to_dict("records")):
        assert signature.coerce(form)["id"].tolist() == [2**53 + 1, 2**53 + 3]


def test_a_frame_with_a_column_twice_is_refused() -> None:
    frame = pd.DataFrame([[1.0, 2.0, 3.0]], columns=["a", "b", "b"])
    with pytest.raises(InvalidInputError, match="has a column twice"):
        infer_signature(None, frame[["a"]].assign(b=1.0)).coerce(frame)


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


NUMBERS = infer_signature(None, np.array([[0.5, 0.5]]))


@pytest.mark.parametrize(
    "form",
    [
        pl.DataFrame({"x1": [2.0], "x0": [1.0]}),
        pl.DataFrame({"a": [1], "b": [2]}),
        pa.table({"x1": [2.0], "x0": [1.0]}),
        pa.RecordBatch.from_pydict({"x1": [2], "x0": [1]}),
        pd.DataFrame({"x1": [2.0], "x0": pd.array([1], dtype="Int64")}),
        pl.Series([1.0, 2.0]),
        pd.Series([1.0, 2.0]),
        [np.array([1.0, 2.0])],
        [(1, True + True)],
        [[Decimal(1), np.float32(2)]],
    ],
    ids=lambda form: type(form).__name__,
)
def test_the_forms_of_a_row_of_numbers(form: Any) -> None:
    assert NUMBERS.coerce(form).tobytes() == np.array([[1.0, 2.0]]).tobytes()


def test_a_lazy_frame_is_to_be_collected() -> None:
    with pytest.raises(InvalidInputError, match=r"LazyFrame has no rows yet; give its .collect\(\)"):
        NUMBERS.coerce(pl.LazyFrame({"x0": [1.0]}))


def test_frames_need_narwhals_and_polars(monkeypatch: pytest.MonkeyPatch) -> None:
    signature = infer_signature(None, pl.DataFrame({"a": [1]}))
    monkeypatch.setitem(sys.modules, "narwhals", None)
    with pytest.raises(MissingLibraryError, match="pip install narwhals"):
        signature.coerce(pl.DataFrame({"a": [1]}))
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(MissingLibraryError, match="pip install polars"):
        signature.coerce([[1]])


def test_a_named_frame_of_other_columns_is_not_taken_by_position() -> None:
    signature = infer_signature(None, pd.DataFrame({"a": [1.0], "b": [2.0]}))
    with pytest.raises(InvalidInputError, match="unknown field 'p'"):
        signature.coerce(pd.DataFrame({"p": [1.0], "q": [2.0]}))
    assert signature.coerce(pd.DataFrame([[1.0, 2.0]])).to_numpy().tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("dtype", ["int64", "uint64", "Int64", "UInt64"])
def test_whole_numbers_of_64_bits_keep_their_last_digit(dtype: Any) -> None:
    signature = infer_signature(
        None, pd.DataFrame({"a": pd.array([1, 2], dtype=dtype), "b": pd.array([1, 2], dtype=dtype)})
    )
    big = 2**63 - 1 + (dtype.lower() == "uint64")
    for rows in ([[big, 2]], [[big, 2.0]], [[big - 1, 1], [big, 2]], [{"a": big, "b": 2.0}], [[Decimal(big), 2]]):
        coerced = signature.coerce(rows)
        assert coerced.iloc[-1].tolist() == [big, 2]
        assert str(coerced["a"].dtype) == dtype
    for wrong in (float(2**64), big * 4, -1 if dtype.lower() == "uint64" else -(2**63) - 1, float("inf"), 1.5):
        with pytest.raises(InvalidInputError, match="Row 0, field 'a'"):
            signature.coerce([[wrong, 2]])


def test_every_nan_has_the_same_bits() -> None:
    odd = np.array([[0xFFF8_0000_0000_0001, 0x3FF0_0000_0000_0000]], dtype=np.uint64).view(np.float64)
    signature = infer_signature(None, np.array([[np.nan, 1.0], [1.0, np.nan]]))
    before = odd.tobytes()
    assert (
        signature.coerce(odd).tobytes()
        == signature.coerce([[None, 1.0]]).tobytes()
        == np.array([[np.nan, 1.0]]).tobytes()
    )
    assert odd.tobytes() == before


def test_numbers_that_a_narrow_float_cannot_hold() -> None:
    signature = infer_signature(None, np.ones((1, 2), dtype=np.float16))
    assert signature.coerce([[65504, 0.1]]).dtype == np.float16
    with pytest.raises(InvalidInputError, match=r"got 70000\.0, needs a finite number within float16"):
        signature.coerce([[70000.0, 0.1]])


MOMENT = datetime(2026, 1, 31, 12, tzinfo=UTC)
MIDNIGHT = datetime(2026, 1, 31)  # noqa: DTZ001 - of a column without a zone


@pytest.mark.parametrize(
    "value",
    [
        "2026-01-31T12:00:00Z",
        "2026-01-31 13:00:00+01:00",
        "2026-01-31T12:00:00.000000000Z",
        MOMENT,
        MOMENT.astimezone(timezone(timedelta(hours=-5))),
        pd.Timestamp(MOMENT),
    ],
)
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_moment_with_its_zone(value: Any, unit: Literal["s", "ms", "us", "ns"]) -> None:
    example = pd.DataFrame({"at": pd.to_datetime(["2020-01-01"]).as_unit(unit).tz_localize("Europe/Berlin")})
    coerced = infer_signature(None, example).coerce([{"at": value}])
    assert coerced.dtypes.to_dict() == example.dtypes.to_dict()
    assert coerced["at"][0] == MOMENT


@pytest.mark.parametrize("value", ["2026-01-31", "20260131", date(2026, 1, 31), MIDNIGHT, np.datetime64("2026-01-31")])
def test_a_day_in_an_array_of_days(value: Any) -> None:
    signature = infer_signature(None, np.array([["2020-01-01", "NaT"]], dtype="datetime64[D]"))
    coerced = signature.coerce([[value, None]])
    assert coerced.dtype == np.dtype("datetime64[D]")
    assert coerced.astype(str).tolist() == [["2026-01-31", "NaT"]]
    with pytest.raises(InvalidInputError, match="got 'soon', needs a date in ISO 8601, such as 2026-01-31"):
        signature.coerce([["soon", None]])


def test_times_are_no_text_and_no_number() -> None:
    frame = pd.DataFrame({"a": pd.DatetimeIndex(["2026-01-01"]).tz_localize("UTC")})
    for example in (["a"], [1.0]):
        with pytest.raises(InvalidInputError, match=r"Row 0, field 'a': got .*2026"):
            infer_signature(None, pd.DataFrame({"a": example})).coerce(frame)
    with pytest.raises(InvalidInputError, match=r"Row 0, field 'text': got .*2026"):
        TEXTS.coerce(frame)
    assert str(Signature().coerce(pa.Table.from_pandas(frame))[0, 0]).startswith("2026")


@pytest.mark.parametrize(
    ("example", "value", "says"),
    [
        ("datetime64[us]", "soon", "got 'soon', needs a date and time in ISO 8601 without a time zone, such as 2026"),
        ("datetime64[us]", "2026-01-31T12:00:00Z", "without a time zone"),
        ("datetime64[us]", MOMENT, "without a time zone"),
        ("datetime64[us, UTC]", "2026-01-31T12:00:00", "with its time zone, such as 2026-01-31T12:00:00Z"),
        ("datetime64[us, UTC]", np.datetime64("2026-01-31"), "with its time zone"),
        ("datetime64[s]", "2026-01-31T12:00:00.5", "no finer than 1 second"),
        ("datetime64[us]", "2026-01-31T12:00:00.000000001", "no finer than 1 µs"),
        ("datetime64[ns]", "2026-01-31T12:00:00.0000000001", "no finer than 1 ns"),
        ("datetime64[ns]", "9999-01-01", "no finer than 1 ns"),
        ("datetime64[ns]", 1769860800, "got 1769860800, needs a date and time"),
        ("datetime64[ns]", "2" * 10_000, "needs a date and time"),
        ("datetime64[ns]", None, "got a missing value"),
        ("datetime64[ns]", [1], "got [1], needs"),
        ("datetime64[ns]", np.datetime64("2026-01-01T00", "ps"), "needs a date and time"),
        ("datetime64[ns]", "2026-13-01", "got '2026-13-01'"),
    ],
)
def test_what_is_no_time_of_the_column_is_named(example: Any, value: Any, says: str) -> None:
    signature = infer_signature(
        None, pd.DataFrame({"at": pd.Series(pd.to_datetime(["2020-01-01"], utc="UTC" in example)).astype(example)})
    )
    with pytest.raises(InvalidInputError, match=re.escape(says)) as caught:
        signature.coerce([{"at": value}])
    assert caught.value.details["field"] == "at"


@pytest.mark.parametrize(
    ("given", "fits"),
    [
        (np.array([["2026-01-31T12:00:00.5"]], dtype="datetime64[ms]"), False),
        (np.array([["2026-01-31T12:00:00"]], dtype="datetime64[ns]"), True),
        (np.array([["2026-01"]], dtype="datetime64[M]"), True),
        (np.array([["3000-01-01"]], dtype="datetime64[D]"), True),
        (np.array([["2026-01-01"]], dtype="datetime64[ps]"), False),
        (pd.DataFrame({"x0": pd.to_datetime(["2026-01-01"]).tz_localize("UTC")}), False),
        (np.array([["soon"]]), False),
        (pl.DataFrame({"x0": [datetime(2026, 1, 1)]}), True),  # noqa: DTZ001 - the column has no zone
    ],
)
def test_arrays_of_times_in_other_units(given: Any, *, fits: bool) -> None:
    signature = infer_signature(None, np.array([["2020-01-01"]], dtype="datetime64[s]"))
    if fits:
        assert signature.coerce(given).dtype == np.dtype("datetime64[s]")
    else:
        with pytest.raises(InvalidInputError, match="Row 0, field 'x0': got"):
            signature.coerce(given)


def test_times_out_of_a_units_range_do_not_wrap_around() -> None:
    signature = infer_signature(None, np.array([["2020-01-01"]], dtype="datetime64[ns]"))
    with pytest.raises(InvalidInputError, match="3000-01-01"):
        signature.coerce(np.array([["3000-01-01"]], dtype="datetime64[s]"))


@pytest.mark.parametrize(
    ("categories", "good", "wrong"),
    [
        ([1, 2, 3], 2.0, 4),
        ([0.5, 1.5], 1.5, "1.5"),
        ([True, False], True, "yes"),
        (["a", "b"], "a", None),
    ],
)
def test_categories_of_any_plain_kind(categories: list[Any], good: Any, wrong: Any) -> None:
    frame = pd.DataFrame({"stage": pd.Categorical(categories, categories=categories, ordered=True)})
    signature = infer_signature(None, frame)
    coerced = signature.coerce([{"stage": good}])
    assert coerced.dtypes.to_dict() == frame.dtypes.to_dict()
    assert coerced["stage"][0] == good
    pd.testing.assert_frame_equal(signature.coerce(frame), frame)
    with pytest.raises(InvalidInputError, match=re.escape(f"needs one of {', '.join(map(str, categories))}")):
        signature.coerce([{"stage": wrong}])
    with pytest.raises(InvalidInputError, match="needs one of"):
        signature.coerce([{"stage": [1]}])


def test_categories_keep_their_own_dtype() -> None:
    frame = pd.DataFrame({"stage": pd.Categorical(pd.Series([1, 2], dtype="int8"))})
    signature = infer_signature(None, frame)
    assert signature.fields[0].dtype == "category[int8]"
    assert signature.coerce([{"stage": 1}]).dtypes.to_dict() == frame.dtypes.to_dict()


TEXTS = infer_signature(None, ["good film", "bad film"])


@pytest.mark.parametrize(
    "form",
    [
        ["a", "b"],
        ("a", "b"),
        [["a"], ["b"]],
        [{"text": "a"}, {"text": "b"}],
        ["a", {"text": "b"}],
        np.array(["a", "b"]),
        np.array([["a"], ["b"]], dtype=object),
        pd.Series(["a", "b"]),
        pl.Series(["a", "b"]),
        pa.array(["a", "b"]).to_pylist(),
        pd.DataFrame({"text": ["a", "b"]}),
        pl.DataFrame({"review": ["a", "b"]}),
        pa.table(
            {
                "text": ["a", "b"],
            }
        ),
    ],
    ids=lambda form: type(form).__name__,
)
def test_the_forms_of_texts(form: Any) -> None:
    coerced = TEXTS.coerce(form)
    assert (coerced.dtype, coerced.shape, coerced.tolist()) == (object, (2,), ["a", "b"])
    assert {type(text) for text in coerced} == {str}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "There are no rows"),
        (["a", 7], "Row 1, field 'text': got 7, needs text"),
        (["a", None], "Row 1, field 'text': got a missing value"),
        ([["a", "b"]], "Row 0 has 2 values; the model takes 1: text"),
        ([{"txt": "a"}], "unknown field 'txt'; did you mean 'text'"),
        (["half \ud83d"], "needs text without lone surrogates"),
        (7, "7 is no list of texts"),
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), "unknown field 'a'"),
    ],
)
def test_what_is_no_text_is_named(given: Any, says: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(says)):
        TEXTS.coerce(given)


def test_one_text_alone() -> None:
    assert TEXTS.coerce("good").tolist() == TEXTS.coerce({"text": "good"}).tolist() == ["good"]


IMAGES = infer_signature(None, np.zeros((3, 2, 2), dtype=np.uint8))
IMAGE = [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "form",
    [
        [IMAGE],
        IMAGE,
        {"tensor": IMAGE},
        [{"tensor": IMAGE}],
        np.array([IMAGE]),
        np.array(IMAGE, dtype=float),
        [np.array(IMAGE)],
        np.array([IMAGE], dtype=object),
        [[[1.0, 2], [3, 4]]],
        np.array(IMAGE).tolist(),
    ],
)
def test_the_forms_of_a_tensor(form: Any) -> None:
    coerced = IMAGES.coerce(form)
    assert coerced.dtype == np.uint8
    assert coerced.tolist() == [IMAGE]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([IMAGE, [[1, 2], [3]]], "Row 1, field 'tensor': got [3], needs nested lists of the shape (2, 2)"),
        ([IMAGE, 5], "Row 1, field 'tensor': got 5"),
        ([IMAGE, [[1, 2], [3, 256]]], "Row 1, field 'tensor': got 256, needs a whole number from 0 to 255"),
        ([IMAGE, [[1, 2], [3, None]]], "Row 1, field 'tensor': got a missing value"),
        ([IMAGE, [[1, 2], [3, "x"]]], "Row 1, field 'tensor': got 'x'"),
        (np.array([IMAGE, [[1, 2], [3, 300]]]), "Row 1, field 'tensor': got 300"),
        (np.zeros((1, 3, 2)), "have the shape (1, 3, 2); needed is (rows, 2, 2)"),
        (np.zeros((0, 2, 2)), "There are no rows"),
        ([], "There are no rows"),
        (7, "7 is no tensor"),
        (pd.DataFrame({"tensor": [1]}), "arrays of the shape (rows, 2, 2), no table"),
        ([{"image": IMAGE}], "unknown field 'image'"),
    ],
)
def test_what_is_no_tensor_is_named(given: Any, says: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(says)):
        IMAGES.coerce(given)


def test_tensors_of_floats_may_miss_values_where_the_example_does() -> None:
    signature = infer_signature(None, np.array([[[1.0, np.nan]]]))
    assert np.isnan(signature.coerce([[[None, 1.0]]])[0, 0, 0])
    assert np.isnan(signature.coerce(np.array([[[np.nan, 1.0]]]))[0, 0, 0])


def test_one_long_text_does_not_make_room_for_itself_in_every_cell() -> None:
    rows = [["x" * 10**6, "y"]] * 1000
    with pytest.raises(TooLargeError, match=r"2,000 texts of up to 1,000,000 characters"):
        Signature().coerce(rows)
    with pytest.raises(InvalidInputError, match="Row 0, field 'x0': got 'xxx"):
        NUMBERS.coerce(rows)


def test_values_of_any_depth_and_size_are_shown_short() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    for value in (deep, "x" * 10**6, 10**5000, [1] * 10**6):
        with pytest.raises(InvalidInputError) as caught:
            NUMBERS.coerce([[1.0, value]])
        assert len(str(caught.value)) < 300
    with pytest.raises(InvalidInputError, match="64 deep; at most 32"):
        Signature().coerce([deep])


def test_nothing_known_takes_frames_of_each_library() -> None:
    signature = Signature()
    frame = pl.DataFrame({"a": [1, 2], "b": [0.5, 1.5]})
    assert signature.coerce(frame) is frame
    assert signature.coerce(frame.to_arrow()).tolist() == [[1.0, 0.5], [2.0, 1.5]]
