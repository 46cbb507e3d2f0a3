from __future__ import annotations

import csv
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from reading import read

from mlnb.errors import InvalidInputError, MalformedBodyError, MlnbError, TooLargeError, UnsupportedMediaTypeError
from mlnb.registry.rows.inference import infer_signature
from mlnb.registry.signature import Signature
from mlnb.serving.codecs import MAX_ROWS

NUMBERED = infer_signature(None, np.array([[0.5, 0.5]]))
NAMED = infer_signature(None, pd.DataFrame({"age": [1, 2], "city": ["a", None]}))
LETTERS = infer_signature(None, np.array([["a", "b"]], dtype=object))
DIGITS = infer_signature(None, pd.DataFrame({"1": [0.5], "2": [0.5]}))
TEXTS = infer_signature(None, ["good", "bad"])
IMAGES = infer_signature(None, np.zeros((1, 2, 2)))


def decode(signature: Signature, body: bytes, *, content_type: str = "text/csv") -> Any:
    return read(content_type, body, signature).rows


def rows(coerced: Any) -> list[Any]:
    found: list[Any] = (
        coerced.astype(object).where(coerced.notna(), None).to_numpy().tolist()
        if hasattr(coerced, "columns")
        else coerced.tolist()
    )
    return found


@pytest.mark.parametrize(
    ("signature", "body", "expected"),
    [
        (NUMBERED, b"x0,x1\n1,2\n", [[1.0, 2.0]]),
        (NUMBERED, b"x1,x0\n1,2", [[2.0, 1.0]]),
        (NUMBERED, b" x1 , x0\n1,2", [[2.0, 1.0]]),
        (NUMBERED, b"1,2\n3,4e1\n", [[1.0, 2.0], [3.0, 40.0]]),
        (NUMBERED, b"\xef\xbb\xbf1, 2\r\n\r\n3,true\r\n\r\n", [[1.0, 2.0], [3.0, 1.0]]),
        (NAMED, b"city,age\nDelft,3\n", [[3, "Delft"]]),
        (NAMED, b'age,city\n3,"a ""b"", c\nd"\n4,\n', [[3, 'a "b", c\nd'], [4, None]]),
        (NAMED, b"age,city\n3.0,7\n", [[3, "7"]]),
        (TEXTS, b'text\n"good, really"\nbad\n', ["good, really", "bad"]),
        (Signature(), b"1,2.5\n3,x\n", [["1", "2.5"], ["3", "x"]]),
        (Signature(), b"1,2.5\n3,4\n", [[1.0, 2.5], [3.0, 4.0]]),
    ],
)
def test_headers_and_cells(signature: Signature, body: bytes, expected: Any) -> None:
    assert rows(decode(signature, body)) == expected


@pytest.mark.parametrize(
    ("signature", "header", "body", "expected"),
    [
        (NAMED, "absent", b"3,Delft\n", [[3, "Delft"]]),
        (LETTERS, "absent", b"p,q\n", [["p", "q"]]),
        (LETTERS, "present", b"x1,x0\np,q\n", [["q", "p"]]),
        (DIGITS, "present", b"2,1\n3,4\n", [[4.0, 3.0]]),
        (DIGITS, "absent", b"2,1\n3,4\n", [[2.0, 1.0], [3.0, 4.0]]),
        (TEXTS, "absent", b"good\nbad\n", ["good", "bad"]),
        (Signature(), "present", b"a,b\n1,2\n", [[1, 2]]),
    ],
)
def test_the_media_types_own_parameter_says_whether_there_is_a_header(
    signature: Signature, header: str, body: bytes, expected: Any
) -> None:
    assert rows(decode(signature, body, content_type=f"text/csv;charset=utf-8; header={header}")) == expected


@pytest.mark.parametrize(
    ("signature", "body", "error", "says"),
    [
        (NAMED, b"3,Delft\n", InvalidInputError, "The header of the CSV has '3', which is no field; there are: age"),
        (NAMED, b"age,town\n3,a\n", InvalidInputError, "has 'town', which is no field"),
        (NAMED, b"age\n3\n", InvalidInputError, "The header of the CSV lacks 'city'; the fields are: age, city"),
        (NAMED, b"age,city,age\n3,a,3\n", InvalidInputError, "names a field twice"),
        (NAMED, b"age,city\n3,a\n4\n", InvalidInputError, "Row 1 has 1 cells; the header has 2"),
        (NAMED, b"age,city\n3,a\nold,b\n", InvalidInputError, "Row 1, field 'age': got 'old', needs a whole number"),
        (NAMED, b"age,city\n1_000,a\n", InvalidInputError, "Row 0, field 'age': got '1_000'"),
        (NAMED, b"age,city\n,a\n", InvalidInputError, "Row 0, field 'age': got a missing value"),
        (NAMED, b"age,city\n", InvalidInputError, "There are no rows"),
        (NUMBERED, b"1_0,2\n", InvalidInputError, "field 'x0': got '1_0', needs a number"),
        (NUMBERED, b"1,2,3\n", InvalidInputError, "Row 0 has 3 values; the model takes 2"),
        (NUMBERED, b"1,2\n3\n", InvalidInputError, "Row 1 has 1 values"),
        (NUMBERED, b"1,inf\n", InvalidInputError, "field 'x1': got inf, needs a finite number"),
        (NUMBERED, b"nan,1\n", InvalidInputError, "field 'x0': got a missing value"),
        (NUMBERED, b"1e999,1\n", InvalidInputError, "field 'x0': got inf"),
        (NUMBERED, b"sepal,petal\n1,2\n", InvalidInputError, "names no field, and no cell of it reads as a number"),
        (NUMBERED, b"x0,petal\n1,2\n", InvalidInputError, "has 'petal', which is no field"),
        (LETTERS, b"p,q\n", InvalidInputError, "text/csv; header=present' or 'text/csv; header=absent'"),
        (DIGITS, b"2,1\n3,4\n", InvalidInputError, "names the fields, and could be a row as well; say"),
        (Signature(), b"a,b\n1,2\n", InvalidInputError, "say whether it is a header"),
        (IMAGES, b"1,2\n", InvalidInputError, "takes tensors, not a table; send application/x-npy"),
        (NAMED, b"", MalformedBodyError, "The body is empty; send UTF-8 text"),
        (NAMED, b"\n\n", MalformedBodyError, "The body is empty"),
        (NAMED, b"age,city\n3,a\0b\n", MalformedBodyError, "has a NUL byte at 12"),
        (NAMED, b"age,city\n3,\xff\n", MalformedBodyError, "no UTF-8 text at byte 11"),
        (NAMED, b'age,city\n3,"a"b\n', MalformedBodyError, "no CSV in line 2"),
        (NAMED, b'age,city\n3,"a\n', MalformedBodyError, "no CSV in line 2: unexpected end of data"),
        (NAMED, b"age,city\n3," + b"x" * 10_000_000, TooLargeError, "line 2 has over 131,072 characters; send it as"),
        (NAMED, b"x" * 10_000_000, TooLargeError, "A cell in line 1"),
        (NAMED, b'age,city\n3,"' + b"x\n" * 1_000_000, TooLargeError, "131,072 characters"),
        (NAMED, b"age,city\n" + b"," * 2_000_000, TooLargeError, "more than 1,000,000 commas"),
        (NUMBERED, b"1,2\n" * (MAX_ROWS + 1), TooLargeError, "More than 100,000 rows in one request."),
        (NUMBERED, b"1,2\n" + b"\n" * (MAX_ROWS + 9) + b"1,2", TooLargeError, "More than 100,000 rows"),
    ],
    ids=lambda value: value[:24] if isinstance(value, bytes) else None,
)  # fmt: skip
def test_what_is_no_csv_of_the_model(signature: Signature, body: bytes, error: type[MlnbError], says: str) -> None:
    with pytest.raises(error, match=re.escape(says)) as caught:
        decode(signature, body)
    assert len(str(caught.value)) < 500


def test_as_many_rows_as_allowed() -> None:
    assert decode(NUMBERED, b"x0,x1\n" + b"1,2\n" * MAX_ROWS).shape == (MAX_ROWS, 2)
    assert decode(NUMBERED, b"1,2\n" * MAX_ROWS).shape == (MAX_ROWS, 2)


@pytest.mark.parametrize(
    ("content_type", "says"),
    [
        ("text/csv; charset=utf-16", "CSV in 'utf-16' is not read; send it in UTF-8"),
        ("text/csv; header=maybe", "says header='maybe'; it is 'present' or 'absent'"),
    ],
)
def test_parameters_that_are_not_known(content_type: str, says: str) -> None:
    with pytest.raises(UnsupportedMediaTypeError, match=re.escape(says)):
        decode(NUMBERED, b"1,2", content_type=content_type)


def test_a_field_of_any_kind_reads_numbers_and_leaves_names() -> None:
    class Fitted:
        feature_names_in_ = ("a", "b")

    coerced = decode(infer_signature(Fitted()), b"a,b\n1.5,Nan\n-2,True\n,007x\n")
    assert coerced["a"].tolist()[:2] == [1.5, -2]
    assert coerced["b"].tolist() == ["Nan", True, "007x"]


def test_a_wider_limit_of_somebody_elses_is_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    before = csv.field_size_limit(10**9)
    try:
        assert decode(TEXTS, b"text\n" + b"x" * 200_000).tolist() == ["x" * 200_000]
    finally:
        csv.field_size_limit(before)


def test_the_columns_numbers_may_be_a_header_or_a_row_and_are_asked_about() -> None:
    body = b"0,1\n0.5,0.25\n"
    with pytest.raises(
        InvalidInputError, match="could be the columns' numbers, as pandas writes them, and a row as well"
    ):
        decode(NUMBERED, body)
    assert rows(decode(NUMBERED, body, content_type="text/csv; header=present")) == [[0.5, 0.25]]
    assert rows(decode(NUMBERED, body, content_type="text/csv; header=absent")) == [[0.0, 1.0], [0.5, 0.25]]
