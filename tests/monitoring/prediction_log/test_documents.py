from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import orjson
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.monitoring.prediction_log.documents import LONGEST, read_document, write_document, write_documents

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.datetimes(timezones=st.sampled_from([None, UTC]))
    | st.dates()
    | st.times()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Say whether two are equal and of one type; NaN equals NaN."""
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return type(one) is type(other) and (one == other or one != one)  # noqa: PLR0124 - NaN


@given(st.lists(st.lists(VALUES, max_size=4), max_size=4))
def test_rows_come_back_equal(rows: Any) -> None:
    text = write_document(rows)
    assert text is not None
    assert same(rows, read_document(text))


@given(st.sampled_from(["$float", "$dict", "marked", "note"]), VALUES)
def test_fields_that_are_called_like_marks(name: str, value: Any) -> None:
    assert same([{name: value}], read_document(write_document([{name: value}])))


@pytest.mark.parametrize(
    "array",
    [
        np.array([1, 2, 3]),
        np.array([0.1, np.nan, np.inf, -np.inf]),
        np.array([0.1, 0.2], dtype=np.float32),
        np.arange(12.0).reshape(2, 2, 3)[:, :, ::2],
        np.array([True, False]),
        np.array(["a", "null", "é"]),
        np.array(["a", None, 3, float("nan")], dtype=object),
        np.array(["2026-01-31T12:00:00.123456789", "NaT"], dtype="datetime64[ns]"),
        np.array([2**64 - 1], dtype=np.uint64),
        np.array([np.float64(1.5)]),
    ],
)
def test_arrays_come_back_equal(array: np.ndarray[Any, Any]) -> None:
    read = read_document(write_document(array))
    if array.dtype.kind == "f":
        np.testing.assert_array_equal(np.array(read, dtype=array.dtype), array)
    elif array.dtype.kind == "M":
        np.testing.assert_array_equal(np.array(read), array)
    else:
        assert same(array.tolist(), read)


def test_plain_rows_are_plain_json() -> None:
    assert write_document([[5.1, "red", True, 3]]) == '[[5.1,"red",true,3]]'
    assert write_document([[5.1, None]]) == "[[5.1,null]]"
    assert write_document("setosa") == '"setosa"'
    assert write_document(np.str_("setosa")) == '"setosa"'
    assert write_document(2.5) == "2.5"
    assert write_document(None) is None
    assert read_document(None) is None


def test_frames_become_a_dict_for_each_row() -> None:
    moment = datetime(2026, 1, 31, 12, tzinfo=UTC)
    plain = [{"size": 1.5, "name": "a"}, {"size": 2.5, "name": "b"}]
    for frame in (pd.DataFrame(plain), pl.DataFrame(plain), pl.DataFrame(plain).to_arrow()):
        assert read_document(write_document(frame)) == plain
    times = read_document(write_document(pd.DataFrame({"at": [moment], "day": [date(2026, 1, 31)]})))
    assert times[0] == {"at": np.datetime64("2026-01-31T12:00"), "day": date(2026, 1, 31)}


def test_other_things_are_kept_as_well_as_they_can_be() -> None:
    rows = [[np.float32(1.5), np.int64(3), timedelta(seconds=1.5), time(12), Decimal("1.5"), pd.NA, pd.NaT, "\ud800"]]
    read = read_document(write_document(rows))[0]
    assert read[:7] == [1.5, 3, timedelta(seconds=1.5), time(12), "1.5", None, read[6]]
    assert np.isnat(read[6])
    assert read[7] == "?"
    assert read_document(write_document([[np.timedelta64(3, "s")]])) == [[np.timedelta64(3, "s")]]
    assert read_document(write_document([[pd.Timestamp("2026-01-31 12:00:00.123456789")]])) == [
        [np.datetime64("2026-01-31T12:00:00.123456789")]
    ]


class Unwritable:
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([[0.5] * LONGEST], "too long"),
        ([[0.5, 0.5]] * LONGEST, "too long"),
        ([["x" * LONGEST]], "too long"),
        (np.zeros(LONGEST), "too long"),
        (pd.DataFrame({"a": np.zeros(LONGEST)}), "too long"),
        ([[Unwritable()]], "RuntimeError"),
    ],
)
def test_what_is_too_long_leaves_a_note(value: Any, says: str) -> None:
    text = write_document(value)
    assert text is not None
    assert says in orjson.loads(text)["note"]
    assert read_document(text) is None


@pytest.mark.parametrize(
    "values",
    [
        [[[0.5, "a"]], [[1.5, "b"]]],
        [[[0.5]], [[float("nan")]]],
        [[[0.5]], [[0.5], [1.5]]],
        [[[0.5]], []],
        [[[0.5]], [[0.5] * LONGEST]],
        [[["x" * LONGEST]], [["x"]]],
        [[[0.5]], [[Decimal(3)]]],
        [["a text"], ["another"]],
        [[3], [4]],
        [None, None],
        [None, [[0.5]]],
        [np.array([0.5]), np.array([1, 2])],
        [np.array([0.5]), np.array([np.nan])],
        [np.array(["a"]), np.array(["b"], dtype=object)],
        [np.array(["a"]), np.array(["b"])],
        [np.array(["a"], dtype=object), np.array(["b"], dtype=object), np.array(["a"], dtype=object)],
        [np.array([1], dtype=object), np.array([True], dtype=object), np.array(["1"], dtype=object)],
        [np.array([None]), np.array(["null"], dtype=object)],
        [np.array([1.5]), np.array([1e300]), np.array([-2.0])],
        [np.array([1.5]), np.array([np.nan])],
        [np.array([1.5], dtype=np.float32), np.array([2.5])],
        [np.array([True]), np.array([False])],
        [np.array([2**64 - 1], dtype=np.uint64), np.array([0], dtype=np.uint64)],
        [np.array([[1]]), np.array([[2]])],
        [np.array([1]), np.array([2, 3])],
        [[[5.1, 3]], [[1e-300, True]]],
        [[[5.1, None]], [[1, 2]]],
        [[[5.1]], [["a]],[[b"]]],
        [[5.1], [[[1.0]]]],
        [[[]], [[1]]],
        [[[[1.0], [2.0]]], [[[3.0], [4.0]]]],
        [[{"a": 1}], [{"a": 2}]],
        [[], [[1]]],
        [np.array(["a"]), np.array([1])],
        [np.array([1]), np.zeros(LONGEST)],
        [np.array([1]), np.zeros((4, 4))[:, ::2]],
        [np.array(["2026-01-31"], dtype="datetime64[D]")] * 2,
    ],
)
def test_many_are_written_as_each_is(values: Any) -> None:
    assert list(write_documents(values)) == [write_document(value) for value in values]
