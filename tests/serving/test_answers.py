from __future__ import annotations

import csv
import io
import json
import sys
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlnb.errors import NotAcceptableError
from mlnb.serving.answers import ANSWER_TYPES, encoder_for, numbers_of

JSON, CSV, NPY, ARROW = ANSWER_TYPES
WHO: dict[str, Any] = {"model": "iris", "version": 3, "request_id": "7f"}


def encoded(
    media_type: str, prediction: Any, probabilities: Any = None, *, labels: tuple[Any, ...] | None = ("a", "b")
) -> bytes:
    return encoder_for(media_type).encode(prediction, probabilities, labels=labels, **WHO)


def of_json(body: bytes) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(body, parse_constant=pytest.fail)  # NaN and Infinity are no JSON
    return decoded


def of_npy(body: bytes) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = np.load(io.BytesIO(body), allow_pickle=False)
    return array


def of_arrow(body: bytes) -> Any:
    return pa.ipc.open_stream(body).read_all()


def of_csv(body: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(body.decode(), newline=""), strict=True))


# ---- the choice ----


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", JSON),
        ("   ", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("text/*", CSV),
        ("Text/CSV", CSV),
        ("text/csv; charset=utf-8; header=present", CSV),
        ("text/csv, application/json", CSV),
        ("application/json, text/csv", JSON),
        ("*/*, application/x-npy", NPY),
        ("application/json;q=0.5, text/csv;q=0.6, */*;q=0.1", CSV),
        ("application/json;q=0, */*", CSV),
        ("application/*;q=0.2, application/vnd.apache.arrow.stream; q=0.3", ARROW),
        ("application/*, application/json;q=0.1", NPY),
        ("text/html, application/xhtml+xml, */*;q=0.8", JSON),
        ("text/csv;q=nan, application/x-npy;q=0.1", NPY),
        ("text/csv;q=1.5, application/x-npy;q=0.001", NPY),
        (",,;q=1, text/csv", CSV),
        ("text/csv," + "x/y," * 100_000, CSV),
    ],
)
def test_what_is_accepted_is_given(accept: str, chosen: str) -> None:
    assert encoder_for(accept).media_type == chosen


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "*/*;q=0", "q=1", ";", "x" * 10**6])
def test_nothing_acceptable_is_said(accept: str) -> None:
    with pytest.raises(NotAcceptableError, match=r"there are: application/json, text/csv, application/x-npy") as caught:
        encoder_for(accept)
    assert caught.value.status == 406
    assert len(str(caught.value)) < 400


@given(st.text(max_size=40) | st.lists(st.sampled_from([*ANSWER_TYPES, "*/*", ";q=", "0.5", ",", " "])).map("".join))
def test_any_header_is_a_choice_or_a_refusal(accept: str) -> None:
    try:
        assert encoder_for(accept).media_type in ANSWER_TYPES
    except NotAcceptableError as error:
        assert repr(accept[:80]) in str(error)  # noqa: PT017 - either is right


# ---- JSON ----

DTYPES = ["bool", "int8", "int64", "uint64", "float16", "float32", "float64"]
NUMBERS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=3, max_side=30))
)


@given(NUMBERS)
@example(np.array([[1.0, 2.0], [3.0, 4.0]]).T)
@example(np.zeros((40, 2), dtype=">f8"))
@example(np.array([0.1, 7.0], dtype=">f4"))
def test_numbers_survive_json_to_the_bit(prediction: np.ndarray[Any, Any]) -> None:
    document = of_json(encoded(JSON, prediction))
    assert {key: document[key] for key in WHO} == WHO
    assert list(document) == ["prediction", "model", "version", "request_id"]
    known = prediction if prediction.dtype.kind != "f" else np.where(np.isfinite(prediction), prediction, np.nan)
    read = np.array(document["prediction"], dtype=prediction.dtype)
    np.testing.assert_array_equal(read, known.astype(prediction.dtype))


@pytest.mark.parametrize("rows", [1, 16, 17, 1000])
def test_narrow_floats_are_written_with_their_own_digits(rows: int) -> None:
    body = encoded(JSON, np.full(rows, 0.1, dtype=np.float32))
    assert of_json(body)["prediction"] == [0.1] * rows
    assert b"0.10000000149" not in body


@pytest.mark.parametrize(
    ("prediction", "written"),
    [
        (np.array(["malignant", "b"]), ["malignant", "b"]),
        (np.array(["a", 1, None, np.nan], dtype=object), ["a", 1, None, None]),
        (np.array([10**30, 1], dtype=object), [10**30, 1]),
        (np.array([np.nan, np.inf, 1.0]), [None, None, 1.0]),
        (np.array(["2026-01-02T03:04:05"], dtype="M8[s]"), ["2026-01-02T03:04:05"]),
        (np.array([0.5], dtype=np.longdouble), ["0.5"]),
    ],
)
def test_other_predictions_in_json(prediction: np.ndarray[Any, Any], written: list[Any]) -> None:
    assert of_json(encoded(JSON, prediction))["prediction"] == written


def test_probabilities_come_with_their_labels() -> None:
    document = of_json(encoded("", np.array(["a"]), np.array([[0.75, 0.25]])))
    assert (document["probabilities"], document["labels"]) == ([[0.75, 0.25]], ["a", "b"])
    assert of_json(encoded("", np.array([1]), np.array([[1.0]]), labels=None))["labels"] is None


# ---- CSV ----

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(st.lists(TEXT, min_size=1))
@example(['a "quoted", one', "two\r\nlines", "", "\n"])
def test_texts_survive_csv(texts: list[str]) -> None:
    body = encoded(CSV, np.array(texts, dtype=object))
    assert of_csv(body) == [["prediction"], *([text] for text in texts)]


@given(st.sampled_from(["float32", "float64", "int64"]).flatmap(lambda dtype: hnp.arrays(dtype, (3, 2))))
def test_numbers_survive_csv_to_the_bit(prediction: np.ndarray[Any, Any]) -> None:
    header, *rows = of_csv(encoded(CSV, prediction))
    assert header == ["prediction_0", "prediction_1"]
    read = np.array([[cell or "nan" for cell in row] for row in rows]).astype(prediction.dtype)
    np.testing.assert_array_equal(read, prediction)


def test_a_csv_with_probabilities() -> None:
    body = encoded(CSV, np.array([True, False]), np.array([[0.75, np.nan], [0.5, 0.5]]), labels=("a, b", True))
    assert body == b'prediction,"a, b",true\r\ntrue,0.75,\r\nfalse,0.5,0.5\r\n'


def test_columns_without_labels_are_numbered() -> None:
    tables = np.zeros((1, 2, 2), dtype=np.float32)
    (header, row) = of_csv(encoded(CSV, np.array([[1, 2]]), tables, labels=("a", "b")))
    assert header[2:] == ["probability_0_0", "probability_0_1", "probability_1_0", "probability_1_1"]
    assert row == ["1", "2", "0.0", "0.0", "0.0", "0.0"]
    assert of_csv(encoded(CSV, np.array([1]), np.zeros((1, 2)), labels=None))[0][1:] == [
        "probability_0",
        "probability_1",
    ]


def test_pandas_reads_the_csv() -> None:
    frame = pd.read_csv(io.BytesIO(encoded(CSV, np.array([0.1, np.nan], dtype=np.float32))), dtype=np.float32)
    assert frame["prediction"].iloc[0] == np.float32(0.1)
    assert np.isnan(frame["prediction"].iloc[1])


# ---- npy ----


@given(NUMBERS)
def test_numbers_survive_npy(prediction: np.ndarray[Any, Any]) -> None:
    read = of_npy(encoded(NPY, prediction))
    assert read.dtype == prediction.dtype
    np.testing.assert_array_equal(read, prediction)


@pytest.mark.parametrize(
    ("prediction", "written"),
    [
        (np.array(["a", "bc"], dtype=object), np.array(["a", "bc"])),
        (np.array(["ü"]), np.array(["ü"])),
        (np.array([1, 2], dtype=object), np.array([1, 2])),
        (np.array([[1, 2.5]], dtype=object), np.array([[1.0, 2.5]])),
        (np.array([np.bool_(True), False], dtype=object), np.array([True, False])),
        (np.array(["2026-01-02"], dtype="M8[D]"), np.array(["2026-01-02"], dtype="M8[D]")),
        (np.array([0.5], dtype=np.longdouble), np.array([0.5])),
    ],
)
def test_other_predictions_in_npy(prediction: np.ndarray[Any, Any], written: np.ndarray[Any, Any]) -> None:
    read = of_npy(encoded(NPY, prediction))
    assert read.dtype == written.dtype
    assert read.tolist() == written.tolist()


def test_npy_of_probabilities() -> None:
    assert of_npy(encoded(NPY, np.array(["a"]), np.array([[0.75, 0.25]]))).tolist() == [[0.75, 0.25]]


@pytest.mark.parametrize(
    "prediction",
    [
        np.array(["a", 1], dtype=object),
        np.array([10**30], dtype=object),
        np.array(["x" * 10**6] * 100, dtype=object),
        np.array([1j]),
    ],
)
def test_what_npy_cannot_hold(prediction: np.ndarray[Any, Any]) -> None:
    with pytest.raises(NotAcceptableError, match="ask for application/json"):
        encoded(NPY, prediction)


def test_numbers_of_objects_keep_their_shape() -> None:
    held = numbers_of(np.array([[1, 2], [3, 4]], dtype=object))
    assert held is not None
    assert held.tolist() == [[1, 2], [3, 4]]


# ---- Arrow ----


@given(NUMBERS)
@example(np.zeros(2, dtype=">f8"))
def test_numbers_survive_arrow(prediction: np.ndarray[Any, Any]) -> None:
    table = of_arrow(encoded(ARROW, prediction))
    columns = prediction.reshape(len(prediction), -1)
    assert table.num_columns == columns.shape[1]
    for place, column in enumerate(table.columns):
        np.testing.assert_array_equal(column.to_numpy(), columns[:, place])


def test_an_arrow_table_says_where_it_comes_from() -> None:
    table = of_arrow(encoded(ARROW, np.array(["a", "b"]), np.array([[0.75, 0.25], [0.5, 0.5]])))
    assert table.to_pydict() == {"prediction": ["a", "b"], "a": [0.75, 0.5], "b": [0.25, 0.5]}
    assert table.schema.metadata == {b"model": b"iris", b"version": b"3", b"request_id": b"7f"}


def test_missing_texts_in_arrow() -> None:
    assert of_arrow(encoded(ARROW, np.array(["a", None], dtype=object)))["prediction"].to_pylist() == ["a", None]


@pytest.mark.parametrize("prediction", [np.array(["a", 1], dtype=object), np.array(["\ud83d"], dtype=object)])
def test_what_arrow_cannot_hold(prediction: np.ndarray[Any, Any]) -> None:
    with pytest.raises(NotAcceptableError, match=r"makes no Arrow column .*; ask for application/json"):
        encoded(ARROW, prediction)


def test_without_pyarrow_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(NotAcceptableError, match="pip install pyarrow"):
        encoded(ARROW, np.array([1]))
