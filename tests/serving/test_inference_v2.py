from __future__ import annotations

import json
import struct
import tracemalloc
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from recorded import recorded

from mlnb.errors import InvalidInputError, MalformedBodyError, MlnbError, TooLargeError
from mlnb.registry.rows.inference import infer_signature
from mlnb.registry.signature import Field, Signature
from mlnb.serving.inference_v2 import InferRequest, model_metadata, read_infer, server_metadata, write_infer

NUMBERS = infer_signature(None, np.array([[0.5, 0.5]]))
TEXTS = infer_signature(None, ["good", "bad"])
TENSORS = infer_signature(None, np.ones((1, 2, 3), dtype=np.float32))
FRAME = infer_signature(
    None,
    pd.DataFrame({"a": [0.5, np.nan], "b": [1, 2], "c": pd.Series(["x", None], dtype=object), "d": [True, False]}),
)
ONE = infer_signature(None, pd.DataFrame({"a": [0.5, np.nan]}))
MAX_ROWS = 100


def read(
    document: Any, raw: bytes = b"", *, signature: Signature = NUMBERS, header_length: int | None = None
) -> InferRequest:
    header = document if isinstance(document, bytes) else json.dumps(document).encode()
    length = len(header) if raw and header_length is None else header_length
    return read_infer(header + raw, header_length=length, signature=signature, max_rows=MAX_ROWS)


def tensor(name: str, datatype: str, shape: Any, data: Any = None, **parameters: Any) -> dict[str, Any]:
    described = {"name": name, "datatype": datatype, "shape": shape}
    return described | ({"parameters": parameters} if parameters else {}) | ({} if data is None else {"data": data})


def inputs(*tensors: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"inputs": list(tensors), **more}


def one(datatype: str, shape: Any, data: Any = None, **parameters: Any) -> dict[str, Any]:
    return inputs(tensor("x", datatype, shape, data, **parameters))


def packed(texts: list[str]) -> bytes:
    return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)


def bits(signature: Signature, data: Any) -> Any:
    rows = signature.coerce(data)
    return {name: column.tolist() for name, column in rows.items()} if isinstance(rows, pd.DataFrame) else rows.tolist()


# ---- what clients send: bodies of tritonclient 2.73 and MLServer 1.7, as recorded ----

TRITON_MATRIX = (
    b'{"inputs":[{"name":"in","shape":[2,2],"datatype":"FP64","parameters":{"binary_data_size":32}}],"outputs":[{"name"'
    b':"predict","parameters":{"binary_data":true}},{"name":"predict_proba","parameters":{"binary_data":false}}]}'
)
TRITON_FIELDS = (
    b'{"inputs":[{"name":"b","shape":[2,1],"datatype":"INT64","parameters":{"binary_data_size":16}},{"name":"a","shape"'
    b':[2,1],"datatype":"FP64","parameters":{"binary_data_size":16}},{"name":"c","shape":[2,1],"datatype":"BYTES","para'
    b'meters":{"binary_data_size":10}},{"name":"d","shape":[2,1],"datatype":"BOOL","parameters":{"binary_data_size":2}}'
    b'],"parameters":{"binary_data_output":true}}'
)
TRITON_FIELDS_RAW = (
    b"\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xe0?\x00\x00\x00\x00\x00"
    b"\x00\xf8\x7f\x01\x00\x00\x00x\x01\x00\x00\x00y\x01\x00"
)
TRITON_PARAMETERS = (
    b'{"inputs":[{"name":"in","shape":[1,2],"datatype":"FP64","parameters":{"binary_data_size":16}}],"parameters":{"seq'
    b'uence_id":5,"sequence_start":false,"sequence_end":false,"priority":1,"timeout":10,"binary_data_output":true,"prob'
    b'abilities":true}}'
)
MLSERVER_FRAME = (
    b'{"parameters":{"content_type":"pd"},"inputs":[{"name":"a","shape":[2,1],"datatype":"FP64","data":[0.5,null]}]}'
)
MLSERVER_ARRAY = (
    b'{"parameters":{"content_type":"np"},"inputs":[{"name":"input-1","shape":[2,2],"datatype":"FP64","parameters":{"con'
    b'tent_type":"np"},"data":[5.1,3.5,6.2,2.9]}]}'
)
MLSERVER_TEXTS = (
    b'{"parameters":{"content_type":"str"},"inputs":[{"name":"input-1","shape":[2,1],"datatype":"BYTES","parameters":{"c'
    b'ontent_type":"str"},"data":["a","\xc3\xbc"]}]}'
)


def test_a_matrix_of_triton() -> None:
    request = read(TRITON_MATRIX, np.array([[5.1, 3.5], [6.2, 2.9]]).tobytes())
    assert request.rows.tolist() == [[5.1, 3.5], [6.2, 2.9]]
    assert request.rows.flags.writeable
    assert request.outputs == ("predict", "predict_proba")
    assert request.binary == {"predict"}
    assert (request.probabilities, request.id) == (True, None)


def test_fields_of_triton() -> None:
    request = read(TRITON_FIELDS, TRITON_FIELDS_RAW, signature=FRAME)
    given = FRAME.coerce(request.rows)
    expected = FRAME.coerce([{"a": 0.5, "b": 1, "c": "x", "d": True}, {"a": None, "b": 2, "c": "y", "d": False}])
    pd.testing.assert_frame_equal(given, expected)
    assert (request.outputs, request.probabilities) == (("predict",), False)
    assert request.binary == {"predict"}


def test_parameters_of_triton() -> None:
    request = read(TRITON_PARAMETERS, np.zeros(2).tobytes())
    assert request.outputs == ("predict", "predict_proba")
    assert request.binary == {"predict", "predict_proba"}


@pytest.mark.parametrize(
    ("body", "signature", "rows"),
    [
        (MLSERVER_FRAME, ONE, [{"a": 0.5}, {"a": None}]),
        (MLSERVER_ARRAY, NUMBERS, [[5.1, 3.5], [6.2, 2.9]]),
        (MLSERVER_TEXTS, TEXTS, ["a", "ü"]),
    ],
)
def test_requests_of_mlserver(body: bytes, signature: Signature, rows: Any) -> None:
    request = read(body, signature=signature)
    np.testing.assert_equal(bits(signature, request.rows), bits(signature, rows))
    assert (request.outputs, request.binary) == (("predict",), frozenset())


# ---- the same rows, however they come ----

DATATYPES = {
    "BOOL": "bool",
    **{f"INT{n}": f"int{n}" for n in (8, 16, 32, 64)},
    **{f"UINT{n}": f"uint{n}" for n in (8, 16, 32, 64)},
    "FP16": "float16", "FP32": "float32", "FP64": "float64",
}  # fmt: skip


@pytest.mark.parametrize(("datatype", "dtype"), DATATYPES.items())
@settings(deadline=None, max_examples=30)
@given(st.data(), st.sampled_from(["C", "F"]))
def test_numbers_are_the_same_however_they_come(datatype: str, dtype: str, data: Any, order: Any) -> None:
    kind = np.dtype(dtype)
    floats: Any = {"allow_nan": False, "allow_infinity": False} if kind.kind == "f" else None
    matrix = data.draw(hnp.arrays(kind, (3, 2), elements=floats))
    signature = infer_signature(None, np.asarray(np.ones((2, 2), dtype=kind), order=order))
    expected = signature.coerce(matrix.tolist())
    plain = matrix.tolist()
    columns = [tensor(f"x{n}", datatype, [3, 1], matrix[:, n].tolist()) for n in (1, 0)]
    raw = matrix.astype(kind.newbyteorder("<"))
    size = raw[:, :1].nbytes
    for request in (
        read(inputs(tensor("any", datatype, [3, 2], plain)), signature=signature),
        read(inputs(tensor("any", datatype, [3, 2], matrix.ravel().tolist())), signature=signature),
        read(inputs(*columns), signature=signature),
        read(inputs(tensor("any", datatype, [3, 2], binary_data_size=raw.nbytes)), raw.tobytes(), signature=signature),
        read(
            inputs(
                tensor("x1", datatype, [3], binary_data_size=size), columns[1],
            ),
            raw[:, 1].tobytes(), signature=signature,
        ),
    ):  # fmt: skip
        assert isinstance(request.rows, np.ndarray)
        coerced = signature.coerce(request.rows)
        assert (coerced.dtype, coerced.flags.c_contiguous) == (expected.dtype, expected.flags.c_contiguous)
        assert coerced.tobytes() == expected.tobytes()


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(st.lists(TEXT, min_size=1, max_size=5))
@example(["", "a\0b", "\U0001f600"])
def test_texts_are_the_same_however_they_come(texts: list[str]) -> None:
    raw, n = packed(texts), len(texts)
    for request in (
        read(inputs(tensor("any", "BYTES", [n], texts)), signature=TEXTS),
        read(inputs(tensor("any", "BYTES", [n, 1], [[text] for text in texts])), signature=TEXTS),
        read(inputs(tensor("any", "BYTES", [n], binary_data_size=len(raw))), raw, signature=TEXTS),
        read(inputs(tensor("any", "BYTES", [n, 1], binary_data_size=len(raw))), raw, signature=TEXTS),
    ):
        assert bits(TEXTS, request.rows) == texts


@given(hnp.arrays(np.float32, (2, 2, 3), elements={"allow_nan": False, "allow_infinity": False}))
def test_tensors_are_the_same_however_they_come(array: np.ndarray[Any, Any]) -> None:
    raw = array.astype("<f4").tobytes()
    for request in (
        read(inputs(tensor("any", "FP32", [2, 2, 3], array.tolist())), signature=TENSORS),
        read(inputs(tensor("any", "FP32", [2, 2, 3], array.ravel().tolist())), signature=TENSORS),
        read(inputs(tensor("any", "FP32", [2, 2, 3], binary_data_size=len(raw))), raw, signature=TENSORS),
    ):
        assert TENSORS.coerce(request.rows).tobytes() == array.tobytes()


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "a": st.none() | st.floats(allow_nan=False, allow_infinity=False),
            "b": st.integers(-(2**63), 2**63 - 1),
            "c": st.none() | TEXT,
            "d": st.booleans(),
        }
    ),
    min_size=1,
    max_size=4,
)


@settings(deadline=None)
@given(ROWS, st.permutations("abcd"))
def test_a_frame_is_the_same_by_field_and_by_row(rows: list[dict[str, Any]], order: list[str]) -> None:
    datatypes = {"a": "FP64", "b": "INT64", "c": "BYTES", "d": "BOOL"}
    tensors = [tensor(name, datatypes[name], [len(rows), 1], [row[name] for row in rows]) for name in order]
    request = read(inputs(*tensors), signature=FRAME)
    pd.testing.assert_frame_equal(FRAME.coerce(request.rows), FRAME.coerce(rows))


def test_numbers_are_of_their_datatype() -> None:
    narrow = read(inputs(tensor("x", "FP32", [1, 2], [0.1, 1])))
    assert narrow.rows.tolist() == np.array([[0.1, 1]], dtype=np.float32).tolist()
    assert read(inputs(tensor("x", "INT64", [1, 2], [1.0, 2]))).rows.tolist() == [[1, 2]]
    assert read(inputs(tensor("x", "BOOL", [1, 2], [True, 0]))).rows.tolist() == [[True, False]]
    assert read(inputs(tensor("x", "UINT64", [1, 2], [2**64 - 1, 0.0]))).rows.tolist() == [[2**64 - 1, 0]]


@pytest.mark.parametrize("text", [b"NaN", b"null"])
def test_missing_numbers(text: bytes) -> None:
    body = b'{"inputs": [{"name": "a", "shape": [2], "datatype": "FP32", "data": [0.5, %s]}]}' % text
    np.testing.assert_equal(read(body, signature=ONE).rows, np.array([[0.5], [np.nan]]))


def test_missing_whole_numbers() -> None:
    signature = infer_signature(None, pd.DataFrame({"n": pd.array([1, None], dtype="Int64")}))
    for datatype, value in (("INT64", 2**63 - 1), ("BOOL", True), ("UINT8", 7)):
        request = read(inputs(tensor("n", datatype, [2], [value, None])), signature=signature)
        assert signature.coerce(request.rows)["n"].tolist() == [int(value), pd.NA]


def test_a_byte_that_is_neither_true_nor_false() -> None:
    assert read(one("BOOL", [1, 2], binary_data_size=2), b"\x02\x00").rows.tobytes() == b"\x01\x00"


@pytest.mark.parametrize(
    ("document", "rows"),
    [
        (one("INT32", [2], [1, 2]), [1, 2]),
        (one("INT32", [1, 2], [1, 2]), [[1, 2]]),
        (one("BYTES", [2], ["a", "b"]), ["a", "b"]),
        (inputs(tensor("x", "INT8", [1], [1]), tensor("y", "BYTES", [1, 1], ["b"])), [{"x": 1, "y": "b"}]),
    ],
)
def test_rows_for_a_model_of_which_nothing_is_known(document: Any, rows: Any) -> None:
    signature = Signature()
    given = read(document, signature=signature).rows
    assert signature.coerce(given).tolist() == np.asarray(rows).tolist()


# ---- which outputs are wanted ----

X = tensor("x", "FP64", [1, 2], [1.0, 2.0])


@pytest.mark.parametrize(
    ("more", "outputs", "binary"),
    [
        ({}, ["predict"], []),
        ({"outputs": None, "parameters": None, "id": None}, ["predict"], []),
        ({"outputs": []}, ["predict"], []),
        ({"outputs": [{"name": "predict_proba"}]}, ["predict_proba"], []),
        ({"outputs": [{"name": "predict_proba"}, {"name": "predict"}]}, ["predict_proba", "predict"], []),
        ({"parameters": {"probabilities": True}}, ["predict", "predict_proba"], []),
        ({"outputs": [{"name": "predict"}], "parameters": {"probabilities": True}}, ["predict", "predict_proba"], []),
        ({"parameters": {"binary_data_output": True}}, ["predict"], ["predict"]),
        (
            {
                "outputs": [{"name": "predict", "parameters": {"binary_data": False}}, {"name": "predict_proba"}],
                "parameters": {"binary_data_output": True},
            },
            ["predict", "predict_proba"],
            ["predict_proba"],
        ),
    ],
)
def test_the_outputs_wanted(more: dict[str, Any], outputs: list[str], binary: list[str]) -> None:
    request = read(inputs(X, **more))
    assert list(request.outputs) == outputs
    assert request.binary == set(binary)
    assert request.probabilities is ("predict_proba" in outputs)


def test_the_id_is_the_clients() -> None:
    assert read(inputs(X, id="7")).id == "7"
    assert read(inputs(X, id="")).id is None


# ---- what is refused ----


@pytest.mark.parametrize(
    ("document", "error", "says"),
    [
        (b"", MalformedBodyError, "not JSON"),
        (b"{", MalformedBodyError, "not JSON"),
        (b"[" * 5000, MalformedBodyError, "not JSON"),
        (b"\xff", MalformedBodyError, "not JSON"),
        (b"[]", InvalidInputError, 'The body is []; send {"inputs": [{"name"'),
        ({}, InvalidInputError, "There are no 'inputs'; send"),
        ({"inputs": {}}, InvalidInputError, "There are no 'inputs'"),
        ({"inputs": 5}, InvalidInputError, "'inputs' is a list of objects, not 5"),
        ({"inputs": [5]}, InvalidInputError, "'inputs' is a list of objects, not [5]"),
        ({"inputs": [{}]}, InvalidInputError, "Each of 'inputs' has a 'name', a text"),
        ({"inputs": [{"name": ["x"]}]}, InvalidInputError, "Each of 'inputs' has a 'name'"),
        (inputs(X, X), InvalidInputError, "Two of 'inputs' have one name; there are: x, x"),
        (inputs(X, id=7), InvalidInputError, "'id' is text, not 7"),
        (inputs(X, parameters=[]), InvalidInputError, "'parameters' is an object, not []"),
        (inputs(X, parameters={"probabilities": 1}), InvalidInputError, "'probabilities' is true or false, not 1"),
        (inputs(X, outputs=[{"name": "predictions"}]), InvalidInputError, "no output 'predictions'; did you mean"),
        (inputs(X, outputs=["predict"]), InvalidInputError, "'outputs' is a list of objects"),
        (inputs(X, outputs=[{"name": "predict", "parameters": {"classification": 3}}]), InvalidInputError, "not among"),
        (one("BF16", [1, 2], [1, 2]), InvalidInputError, "'BF16', which is not read; send FP32"),
        (one("fp64", [1, 2], [1, 2]), InvalidInputError, "'fp64', which is not read; there are: BOOL"),
        (inputs({"name": "x", "datatype": []}), InvalidInputError, "has either a list of 'data', or"),
        (inputs({"name": "x", "data": [], "shape": [1]}), InvalidInputError, "the datatype a missing value"),
        (one("FP64", None, []), InvalidInputError, "has the shape a missing value"),
        (one("FP64", [], []), InvalidInputError, "has the shape []; it is a list of 1 to 32 lengths"),
        (one("FP64", [1] * 33, []), InvalidInputError, "a list of 1 to 32 lengths"),
        (one("FP64", [0, 2], []), InvalidInputError, "each from 1 to 2,147,483,647"),
        (one("FP64", [-1, 2], []), InvalidInputError, "each from 1 to"),
        (one("FP64", [True, 2], []), InvalidInputError, "each from 1 to"),
        (one("FP64", [1.0, 2], []), InvalidInputError, "each from 1 to"),
        (one("FP64", [1, 10**400], []), InvalidInputError, "each from 1 to"),
        (one("FP64", [101, 2], []), TooLargeError, "101 rows in one request; at most 100"),
        (one("FP64", [1, 2], [1]), InvalidInputError, "shape [1, 2], which are 2 values, and 1 values in"),
        (one("FP64", [2, 2], [[1, 2], [3]]), InvalidInputError, "lists in lists of other lengths"),
        (one("FP64", [2, 2], [[1, 2], 3]), InvalidInputError, "lists in lists of other lengths"),
        (one("FP64", [1, 2], [[[1], [2]]]), InvalidInputError, "row 0: got [1], which is no value of"),
        (one("FP64", [2, 2], [1, 2, 3, "4"]), InvalidInputError, "row 1: got '4', which is no value of"),
        (one("FP64", [1, 2], [1, 10**400]), InvalidInputError, "row 0: got a whole number of 1329 bits"),
        (one("FP32", [1, 2], [1, 1e300]), InvalidInputError, "got 1e+300, which is no value of the data"),
        (one("INT8", [1, 2], [1, 128]), InvalidInputError, "got 128, which is no value of the datatype INT8"),
        (one("INT8", [1, 2], [1.0, 128]), InvalidInputError, "got 128, which is no value"),
        (one("INT64", [1, 2], [1, 0.5]), InvalidInputError, "got 0.5, which is no value of the datatype"),
        (one("UINT64", [1, 2], [1, -1]), InvalidInputError, "got -1, which is no value"),
        (one("BOOL", [1, 2], [True, 2]), InvalidInputError, "got 2, which is no value of the datatype BOOL"),
        (one("BYTES", [1, 2], ["a", 1]), InvalidInputError, "got 1, which is no value of the datatype BYTES"),
        (one("FP64", [1, 3], [1, 2, 3]), InvalidInputError, "are 'x' [1, 3]; the model takes one tensor of"),
        (one("FP64", [2], [1, 2]), InvalidInputError, "of the shape [rows, 2], or one of [rows]"),
        (inputs(tensor("x0", "FP64", [1], [1])), InvalidInputError, "lack a tensor for 'x1'; needed are: x0, x1"),
        (inputs(tensor("x0", "FP64", [1], [1]), tensor("y", "FP64", [1], [1])), InvalidInputError, "no field 'y'"),
        (
            inputs(tensor("x0", "FP64", [1], [1]), tensor("x1", "FP64", [2], [1, 2])),
            InvalidInputError,
            "'x0' [1], 'x1' [2]; the model",
        ),
        (one("FP64", [1, 2], [1, 2], content_type="base64"), InvalidInputError, "is encoded as base64"),
        (one("FP64", [1, 2], [1, 2], binary_data_size=16), InvalidInputError, "has either a list of 'data'"),
        (one("FP64", [1, 2], binary_data_size=-1), InvalidInputError, "is a number of bytes, not -1"),
        (one("FP64", [1, 2], binary_data_size="16"), InvalidInputError, "is a number of bytes, not '16'"),
        (one("FP64", [1, 2], binary_data_size=16), MalformedBodyError, "has 16 bytes; 0 came behind the"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said(document: Any, error: type[MlnbError], says: str) -> None:
    with pytest.raises(error) as caught:
        read(document)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_no_number_but_nan_is_infinite() -> None:
    body = json.dumps(inputs(tensor("x", "FP32", [1, 2], [1, float("-inf")]))).encode()
    with pytest.raises(InvalidInputError, match="Row 0, field 'x1': got -inf, needs a finite number"):
        NUMBERS.coerce(read(body).rows)


@pytest.mark.parametrize(
    ("signature", "document", "says"),
    [
        (TEXTS, inputs(tensor("t", "BYTES", [1, 2], ["a", "b"])), "the model takes one tensor of the shape [rows]"),
        (TEXTS, inputs(tensor("t", "BYTES", [1], ["a"]), tensor("u", "BYTES", [1], ["b"])), "'t' [1], 'u' [1]"),
        (TENSORS, inputs(tensor("t", "FP32", [2, 3], [0] * 6)), "one tensor of the shape [rows, 2, 3]"),
        (Signature(), inputs(tensor("t", "FP32", [1], [0]), tensor("u", "FP32", [2], [0, 1])), "of its features"),
    ],
)  # fmt: skip
def test_tensors_of_another_model(signature: Signature, document: Any, says: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read(document, signature=signature)
    assert says in str(caught.value)


MATRIX = inputs(tensor("x", "FP64", [1, 2], binary_data_size=16))
HUGE = inputs(tensor("x", "FP64", [100, *[2**31 - 1] * 31], binary_data_size=2**63))
LYING = inputs(tensor("x", "BYTES", [100, 2**31 - 1], binary_data_size=16))


@pytest.mark.parametrize(
    ("document", "raw", "length", "error", "says"),
    [
        (MATRIX, b"\0" * 16, 10**6, MalformedBodyError, "says 1,000,000 bytes of JSON; the body has"),
        (MATRIX, b"\0" * 16, -1, MalformedBodyError, "says -1 bytes of JSON"),
        (MATRIX, b"\0" * 16, 0, MalformedBodyError, "not JSON"),
        (MATRIX, b"\0" * 16, 3, MalformedBodyError, "not JSON"),
        (MATRIX, b"\0" * 15, None, MalformedBodyError, "has 16 bytes; 15 came"),
        (MATRIX, b"\0" * 17, None, MalformedBodyError, "of 16 bytes together; 17 follow"),
        (inputs(X), b"\0", None, MalformedBodyError, "of 0 bytes together; 1 follow"),
        (HUGE, b"\0" * 16, None, MalformedBodyError, "has a whole number of"),
        (LYING, b"\0" * 16, None, MalformedBodyError, "has at least 858993458800 bytes; 16 came"),
        (
            one("BYTES", [1, 2], binary_data_size=9),
            packed(["a"]) + b"\xff" * 4,
            None,
            MalformedBodyError,
            "ends within its element 1",
        ),
        (
            one("BYTES", [1, 2], binary_data_size=8),
            b"\x02\0\0\0" + b"a" * 4,
            None,
            MalformedBodyError,
            "ends within its element 1",
        ),
        (
            one("BYTES", [1, 2], binary_data_size=15),
            packed(["a", "b", "c"]),
            None,
            MalformedBodyError,
            "has 2 elements in 10 bytes; 15 came",
        ),
        (
            one("BYTES", [1, 2], binary_data_size=9),
            packed(["a"]) + b"\0" * 3 + b"\xff",
            None,
            MalformedBodyError,
            "ends within",
        ),
        (
            one("BYTES", [1, 2], binary_data_size=10),
            packed(["a"]) + b"\1\0\0\0\xff",
            None,
            InvalidInputError,
            "no UTF-8 text in its element 1",
        ),
    ],
)
def test_raw_bytes_that_lie(document: Any, raw: bytes, length: int | None, error: type[MlnbError], says: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(error) as caught:
            read(document, raw, header_length=length)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert says in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert most < 2**20


def test_values_by_name_are_bounded_where_nothing_is_known() -> None:
    rows, names = 100_000, 101
    tensors = [tensor(str(name), "INT8", [rows], binary_data_size=rows) for name in range(names)]
    header = json.dumps(inputs(*tensors)).encode()
    with pytest.raises(TooLargeError, match="Over 10,000,000 values by name"):
        read_infer(header + bytes(rows * names), header_length=len(header), signature=Signature(), max_rows=rows)


@settings(max_examples=300)
@given(
    st.binary(max_size=60), st.sampled_from([TRITON_FIELDS, TRITON_MATRIX, MLSERVER_TEXTS, MLSERVER_ARRAY]), st.data()
)
def test_any_body_is_read_or_refused(noise: bytes, body: bytes, data: Any) -> None:
    at = data.draw(st.integers(0, len(body)))
    mixed = body[:at] + noise + body[at + data.draw(st.integers(0, 40)) :] + TRITON_FIELDS_RAW
    length = data.draw(st.none() | st.just(len(mixed) - len(TRITON_FIELDS_RAW)) | st.integers(-5, len(mixed) + 5))
    for signature in (NUMBERS, FRAME, TEXTS, TENSORS, Signature()):
        try:
            rows = read_infer(mixed, header_length=length, signature=signature, max_rows=MAX_ROWS).rows
        except (InvalidInputError, MalformedBodyError, TooLargeError) as error:
            assert len(str(error)) < 2000  # noqa: PT017 - either is right
        else:
            assert 0 < len(rows) <= MAX_ROWS


# ---- answers ----


def request(*outputs: str, binary: bool = False, own: str | None = None) -> InferRequest:
    return InferRequest(
        id=own,
        rows=None,
        probabilities="predict_proba" in outputs,
        outputs=outputs,
        binary=frozenset(outputs if binary else ()),
    )


def written(
    asked: InferRequest, prediction: Any, probabilities: Any = None, *, labels: tuple[Any, ...] | None = None
) -> tuple[dict[str, Any], bytes]:
    body, length = write_infer(
        request=asked,
        model="iris",
        version=3,
        request_id="7f",
        prediction=prediction,
        probabilities=probabilities,
        labels=labels,
    )
    assert (length is None) is not bool(asked.binary)
    document: dict[str, Any] = json.loads(body[:length], parse_constant=pytest.fail)  # NaN and Infinity are no JSON
    return document, b"" if length is None else body[length:]


def test_an_answer() -> None:
    document, _ = written(request("predict"), np.array([1, 2]))
    assert document == {
        "model_name": "iris",
        "model_version": "3",
        "id": "7f",
        "outputs": [{"name": "predict", "datatype": "INT64", "shape": [2], "data": [1, 2]}],
    }


def test_an_answer_repeats_the_clients_id() -> None:
    document, _ = written(request("predict", own="mine"), np.array([1]))
    assert (document["id"], document["parameters"]) == ("mine", {"request_id": "7f"})


def test_an_answer_with_probabilities() -> None:
    labels = ("a", "ü")
    document, _ = written(
        request("predict_proba"), np.array(["a"]), np.array([[0.75, np.nan]], dtype=np.float32), labels=labels
    )
    (output,) = document["outputs"]
    assert (output["datatype"], output["shape"], output["data"]) == ("FP32", [1, 2], [0.75, None])
    assert json.loads(output["parameters"]["labels"]) == list(labels)


def test_an_answer_that_is_half_binary() -> None:
    asked = read(TRITON_MATRIX, np.zeros((2, 2)).tobytes())
    document, raw = written(asked, np.array(["gut ü", "b"]), np.array([[0.5, 0.5], [1.0, 0.0]]), labels=("b", "gut ü"))
    predict, probabilities = document["outputs"]
    assert predict == {
        "name": "predict",
        "datatype": "BYTES",
        "shape": [2],
        "parameters": {"binary_data_size": len(raw)},
    }
    assert raw == packed(["gut ü", "b"])
    assert probabilities["data"] == [0.5, 0.5, 1.0, 0.0]


@pytest.mark.parametrize(("datatype", "dtype"), DATATYPES.items())
@settings(max_examples=20, deadline=None)
@given(st.data())
def test_numbers_come_back_to_the_bit(datatype: str, dtype: str, data: Any) -> None:
    array = data.draw(hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=3, max_side=4)))
    for answer in (array, np.asfortranarray(array), array.astype(array.dtype.newbyteorder(">"))):
        document, raw = written(request("predict", binary=True), answer)
        (output,) = document["outputs"]
        assert (output["datatype"], output["shape"]) == (datatype, list(array.shape))
        assert output["parameters"] == {"binary_data_size": len(raw)}
        assert raw == array.astype(array.dtype.newbyteorder("<")).tobytes()
        (output,) = written(request("predict"), answer)[0]["outputs"]
        known = np.where(np.isfinite(array), array, np.nan).astype(dtype) if array.dtype.kind == "f" else array
        np.testing.assert_array_equal(np.array(output["data"], dtype=dtype).reshape(output["shape"]), known)


@pytest.mark.parametrize(
    ("prediction", "datatype", "data"),
    [
        (np.array([1, 2], dtype=np.longlong), "INT64", [1, 2]),
        (np.array([1, 2], dtype=object), "INT64", [1, 2]),
        (np.array([True, False], dtype=object), "BOOL", [True, False]),
        (np.array([1, 0.5], dtype=object), "FP64", [1.0, 0.5]),
        (np.array([0.5], dtype=np.longdouble), "FP64", [0.5]),
        (np.array(["a", 1, None], dtype=object), "BYTES", ["a", "1", None]),
        (np.array([10**30], dtype=object), "BYTES", ["1" + "0" * 30]),
        (np.array(["2026-01-02"], dtype="M8[D]"), "BYTES", ["2026-01-02"]),
        (np.array(["\ud83d"], dtype=object), "BYTES", ["\ud83d"]),
    ],
)
def test_predictions_of_other_types(prediction: np.ndarray[Any, Any], datatype: str, data: list[Any]) -> None:
    (output,) = written(request("predict"), prediction)[0]["outputs"]
    assert (output["datatype"], output["data"]) == (datatype, data)
    _, raw = written(request("predict", binary=True), prediction)
    assert raw


# ---- metadata ----


def test_the_servers_metadata() -> None:
    metadata = server_metadata()
    assert (metadata["name"], metadata["extensions"]) == ("mlnb", ["binary_tensor_data"])
    assert metadata["version"]


def test_a_models_metadata() -> None:
    signature = Signature(
        fields=NUMBERS.fields, container="array", labels=(0, 1, 2), probabilities=True, output="class"
    )
    version = recorded(signature=signature, model_type="sklearn.linear_model._logistic.LogisticRegression")
    assert model_metadata(version, versions=["3", "2"]) == {
        "name": "iris",
        "versions": ["3", "2"],
        "platform": "sklearn_cloudpickle",
        "inputs": [{"name": "input-0", "datatype": "FP64", "shape": [-1, 2]}],
        "outputs": [
            {"name": "predict", "datatype": "INT64", "shape": [-1]},
            {"name": "predict_proba", "datatype": "FP64", "shape": [-1, 3]},
        ],
    }


CATEGORY = Field(name="k", kind="integer", dtype="category", categories=(1, 2))


@pytest.mark.parametrize(
    ("signature", "described"),
    [
        (FRAME, [("a", "FP64", [-1, 1]), ("b", "INT64", [-1, 1]), ("c", "BYTES", [-1, 1]), ("d", "BOOL", [-1, 1])]),
        (TEXTS, [("text", "BYTES", [-1])]),
        (TENSORS, [("tensor", "FP32", [-1, 2, 3])]),
        (Signature(), [("input-0", "FP64", [-1, -1])]),
        (Signature(fields=(CATEGORY,), container="frame"), [("k", "INT64", [-1, 1])]),
    ],
)
def test_the_inputs_of_a_model(signature: Signature, described: list[Any]) -> None:
    metadata = model_metadata(recorded(signature=signature), versions=["3"])
    assert [(one["name"], one["datatype"], one["shape"]) for one in metadata["inputs"]] == described


@pytest.mark.parametrize(
    ("labels", "output", "datatype"),
    [
        (("a", "b"), "class", "BYTES"),
        ((False, True), "class", "BOOL"),
        ((0.5, 1.5), "class", "FP64"),
        ((1, "b"), "class", "BYTES"),
        (None, "number", "FP64"),
        (None, "outlier", "INT64"),
    ],
)
def test_the_outputs_of_a_model(labels: Any, output: Any, datatype: str) -> None:
    signature = Signature(labels=labels, output=output)
    (predict,) = model_metadata(recorded(signature=signature), versions=["3"])["outputs"]
    assert predict == {"name": "predict", "datatype": datatype, "shape": [-1]}
