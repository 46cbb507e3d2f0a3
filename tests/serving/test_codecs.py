from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
import pytest
from reading import read

from mlnb.errors import InvalidInputError, MalformedBodyError, TooLargeError, UnsupportedMediaTypeError
from mlnb.registry.rows.inference import infer_signature
from mlnb.registry.signature import Signature
from mlnb.serving.codecs import MAX_ROWS
from mlnb.serving.service import Query

SIGNATURE = infer_signature(None, [[0.5, 0.5]])


def decode(body: bytes, *, content_type: str = "application/json", probabilities: bool = False) -> Query:
    return read(content_type, body, SIGNATURE, probabilities=probabilities)


@pytest.mark.parametrize(
    ("document", "rows"),
    [
        ({"features": [1, 2]}, [[1.0, 2.0]]),
        ({"features": {"x1": 2, "x0": 1}}, [[1.0, 2.0]]),
        ({"instances": [[1, 2], [3, 4]]}, [[1.0, 2.0], [3.0, 4.0]]),
        ({"instances": [{"x0": 1, "x1": 2}]}, [[1.0, 2.0]]),
    ],
)
def test_the_forms_of_a_body(document: Any, rows: list[list[float]]) -> None:
    query = decode(json.dumps(document).encode())
    assert query.rows.tolist() == rows
    assert not query.probabilities


@pytest.mark.parametrize(
    "content_type", ["", "application/json; charset=utf-8", "application/x-www-form-urlencoded", "a/b+json"]
)
def test_what_counts_as_json(content_type: str) -> None:
    assert decode(b'{"features": [1, 2]}', content_type=content_type).rows.tolist() == [[1.0, 2.0]]


def test_probabilities_are_asked_for_in_the_body_or_beside_it() -> None:
    assert decode(b'{"features": [1, 2], "probabilities": true}').probabilities
    assert decode(b'{"features": [1, 2]}', probabilities=True).probabilities
    assert not decode(b'{"features": [1, 2], "probabilities": false}', probabilities=True).probabilities


@pytest.mark.parametrize(
    ("body", "error", "says"),
    [
        (b"", MalformedBodyError, "The body is empty"),
        (b"  \n", MalformedBodyError, "The body is empty"),
        (b"{", MalformedBodyError, "The body is not JSON"),
        (b'{"features": [NaN, 1]}', InvalidInputError, "Row 0, field 'x0': got a missing value"),
        (b'{"features": [1, -Infinity]}', InvalidInputError, "Row 0, field 'x1': got -inf, needs a finite number"),
        (b"[" * 5000, MalformedBodyError, "not JSON"),
        (b"\xff", MalformedBodyError, "not JSON"),
        (b"[[1, 2]]", InvalidInputError, "a JSON array; send"),
        (b"null", InvalidInputError, "a JSON null; send"),
        (b'"text"', InvalidInputError, "a JSON string; send"),
        (b"{}", InvalidInputError, "has the keys []"),
        (b'{"rows": []}', InvalidInputError, "has the keys ['rows']"),
        (b'{"features": [1, 2], "instances": [[1, 2]]}', InvalidInputError, "has the keys ['features', 'instances']"),
        (b'{"features": [[1, 2]]}', InvalidInputError, "use 'instances' for many rows"),
        (b'{"features": 5}', InvalidInputError, "'features' is one row"),
        (b'{"instances": 5}', InvalidInputError, "a list of rows, not a JSON number"),
        (b'{"instances": []}', InvalidInputError, "There are no rows"),
        (b'{"features": [1, 2], "probabilities": "yes"}', InvalidInputError, "'probabilities' is true or false"),
        (b'{"features": [1e999, 1]}', InvalidInputError, "field 'x0': got inf, needs a finite number"),
    ],
)
def test_what_cannot_be_read_is_said(body: bytes, error: type[Exception], says: str) -> None:
    with pytest.raises(error) as caught:
        decode(body)
    assert says in str(caught.value)


def test_other_content_types_are_refused() -> None:
    with pytest.raises(UnsupportedMediaTypeError, match="'text/xml' are not read; send application/json"):
        decode(b"<x/>", content_type="text/xml")


def test_too_many_rows_are_refused() -> None:
    body = orjson.dumps({"instances": [[1, 2]] * (MAX_ROWS + 1)})
    with pytest.raises(TooLargeError, match="100,001 rows in one request; at most 100,000"):
        decode(body)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"1" + b"]" * depth


@pytest.mark.parametrize(
    "signature", [SIGNATURE, Signature(), infer_signature(None, ["a", "b"]), infer_signature(None, np.zeros((1, 2, 2)))]
)
@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": ' + nested(900) + b"}",
        b'{"instances": ' + nested(100_000) + b"}",
        b'{"features": ' + nested(900) + b"}",
        b'{"instances": [{"x0": 1, "x1": ' + nested(900) + b"}]}",
        b'{"instances": [[1, ' + nested(900) + b"]]}",
        b'{"instances": [["' + b"x" * 10**6 + b'", 1]' + b', ["y", 1]' * 1000 + b"]}",
        b'{"instances": [{"' + b"x" * 10**7 + b'": 1}]}',
        b'{"' + b"x" * 10**7 + b'": 1}',
        b'{"instances": [[' + b"9" * 5000 + b", 1], [1]]}",
    ],
    ids=range(9),
)  # fmt: skip
def test_a_body_made_to_do_harm_does_none(signature: Signature, body: bytes) -> None:
    try:
        read("", body, signature)
    except (InvalidInputError, MalformedBodyError, TooLargeError) as error:
        assert len(str(error)) < 1000  # noqa: PT017 - a model of which nothing is known takes any row
    else:
        assert signature.container == "any"


def test_what_is_read_is_listed() -> None:
    with pytest.raises(
        UnsupportedMediaTypeError, match=r"or a body of text/csv, application/x-npy, application/vnd\.apache"
    ):
        decode(b"<x/>", content_type="text/xml")


@pytest.mark.parametrize("content_type", ["text/csv", "TEXT/CSV; charset=utf-8"])
def test_probabilities_of_other_bodies_are_asked_for_beside_them(content_type: str) -> None:
    assert decode(b"1,2", content_type=content_type, probabilities=True).probabilities
    assert not decode(b"1,2", content_type=content_type).probabilities
