from __future__ import annotations

import io
import pickle
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from reading import read

from mlnb.errors import InvalidInputError, MalformedBodyError, MlnbError, TooLargeError
from mlnb.registry.rows.inference import infer_signature
from mlnb.registry.signature import Signature
from mlnb.serving.codecs import MAX_ROWS

NUMBERS = infer_signature(None, np.array([[0.5, 0.5]]))
LETTERS = infer_signature(None, np.array([["a", "b"]], dtype=object))
TEXTS = infer_signature(None, ["good", "bad"])


def decode(signature: Signature, body: bytes) -> Any:
    return read("application/x-npy", body, signature).rows


def npy(array: Any, *, pickled: bool = False) -> bytes:
    sink = io.BytesIO()
    np.save(sink, np.asarray(array), allow_pickle=pickled)
    return sink.getvalue()


def with_header(header: str, data: bytes = b"", *, version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(header) + 1) + header.encode() + b"\n" + data


def described(descr: str, shape: str) -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


def test_an_array_is_the_models_own_to_write_to() -> None:
    rows = decode(NUMBERS, npy([[1.0, 2.0]]))
    assert rows.tolist() == [[1.0, 2.0]]
    assert rows.flags.writeable
    assert rows.flags.aligned


@pytest.mark.parametrize(
    ("signature", "array", "expected"),
    [
        (NUMBERS, [1.0, 2.0], [[1.0, 2.0]]),
        (NUMBERS, [[1, 2]], [[1.0, 2.0]]),
        (LETTERS, [["p", "q"]], [["p", "q"]]),
        (TEXTS, ["good", "bad"], ["good", "bad"]),
        (TEXTS, [["good"], ["bad"]], ["good", "bad"]),
        (infer_signature(None, np.array([["2026-01-01"]], dtype="M8[D]")), np.array([["2026-01-02"]], dtype="M8[s]"),
         np.array([["2026-01-02"]], dtype="M8[D]").tolist()),
        (Signature(), [[1, 2]], [[1, 2]]),
    ],
)  # fmt: skip
def test_arrays_of_each_kind(signature: Signature, array: Any, expected: Any) -> None:
    assert decode(signature, npy(array)).tolist() == expected


def test_a_byte_that_is_neither_true_nor_false() -> None:
    signature = infer_signature(None, np.array([[True, False]]))
    body = with_header(described("'|b1'", "(1, 2)"), b"\x02\x00")
    assert decode(signature, body).tobytes() == b"\x01\x00"


ZEROS = b"\0" * 16


@pytest.mark.parametrize(
    ("body", "error", "says"),
    [
        (b"", MalformedBodyError, "no npy array of version 1 or 2; send what numpy.save writes"),
        (b"PK\x03\x04", MalformedBodyError, "no npy array"),
        (pickle.dumps([[1.0, 2.0]]), MalformedBodyError, "no npy array"),
        (npy([[1.0, 2.0]])[:50], MalformedBodyError, "no npy array"),
        (npy([[1.0, 2.0]])[:-1], MalformedBodyError, "which are 16 bytes; 15 follow. Was the body cut?"),
        (npy([[1.0, 2.0]]) + b"x", MalformedBodyError, "17 follow"),
        (npy(np.array([[1, "a"]], dtype=object), pickled=True), MalformedBodyError, "holds Python objects"),
        (
            with_header(described("'<f8'", "(1000000000000, 2)"), ZEROS),
            MalformedBodyError,
            "16,000,000,000,000 bytes; 16",
        ),
        (with_header(described("'<f8'", f"({2**62}, {2**62}, 8)"), ZEROS), MalformedBodyError, "bytes; 16 follow"),
        (with_header(described("'<f8'", "(-1, 2)"), ZEROS), MalformedBodyError, "one of float64 with 2 axes"),
        (with_header(described("'<f8'", "(-1, -2)"), ZEROS), MalformedBodyError, "with 2 axes"),
        (with_header(described("'<U0'", "(1000000000, 2)")), MalformedBodyError, "one of <U0"),
        (with_header(described("'<c16'", "(1, 1)"), ZEROS), MalformedBodyError, "one of complex128"),
        (with_header(described("[('a', '<f8'), ('b', '<f8')]", "(1,)"), ZEROS), MalformedBodyError, "with 1 axes"),
        (with_header(described("('<f8', (2,))", "(1,)"), ZEROS), MalformedBodyError, "with 1 axes"),
        (with_header(described("'<f8'", "(" + "1," * 40 + ")"), b"\0" * 8), MalformedBodyError, "with 40 axes"),
        (with_header(described("'|O'", "(1,)")), MalformedBodyError, "Python objects"),
        (with_header("(" * 5000), MalformedBodyError, "no npy array"),
        (with_header(" " * 60_000), MalformedBodyError, "no npy array"),
        (with_header("__import__('os').abort()"), MalformedBodyError, "no npy array"),
        (with_header(described("'<f8'", "(1, 2)"), ZEROS, version=b"\x09\x00"), MalformedBodyError, "no npy array"),
        (npy(np.zeros((0, 2))), InvalidInputError, "There are no rows"),
        (npy(np.zeros((2, 3))), InvalidInputError, "Row 0 has 3 values"),
        (npy(np.zeros((2, 2, 2))), InvalidInputError, "have the shape (2, 2, 2)"),
        (npy(5.0), InvalidInputError, "have the shape ()"),
        (npy([["a", "b"]]), InvalidInputError, "Row 0, field 'x0': got 'a', needs a number"),
        (npy([[1.0, np.inf]]), InvalidInputError, "Row 0, field 'x1': got inf, needs a finite number"),
        (npy(np.zeros((MAX_ROWS + 1, 2), dtype=bool)), TooLargeError, "100,001 rows in one request; at most 100,000"),
        (npy(np.full((2, MAX_ROWS + 1), "a")), InvalidInputError, "over 200,000 texts"),
        (with_header(described("'<U1'", "(1, 2)"), b"\xff" * 8), MalformedBodyError, "text that is no Unicode"),
        (with_header(described("'<U1'", "(1, 2)"), b"\x00\xd8\0\0" * 2), InvalidInputError, "Row 0, field 'x0'"),
    ],
)
def test_what_is_no_array_of_the_model(body: bytes, error: type[MlnbError], says: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(error) as caught:
            decode(NUMBERS, body)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert says in str(caught.value)
    assert most < 64 * 2**20


def test_too_many_texts() -> None:
    with pytest.raises(TooLargeError, match="100,001 rows"):
        decode(TEXTS, npy(np.full(MAX_ROWS + 1, "a")))
