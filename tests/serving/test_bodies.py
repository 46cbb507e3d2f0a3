"""The same rows in every content type: one model input, to the bit."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from reading import read

from mlnb.registry.rows.inference import infer_signature
from mlnb.registry.signature import Signature

STREAM, FILE = "application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.file"


def decoded(signature: Signature, content_type: str, body: bytes) -> Any:
    return read(content_type, body, signature).rows


def as_json(rows: Any) -> bytes:
    return json.dumps({"instances": rows}, default=lambda value: value.isoformat()).encode()


def as_csv(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False, lineterminator="\r\n").encode()


def as_arrow(table: pa.Table, *, stream: bool, compression: str | None = None) -> bytes:
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue()


def as_npy(array: np.ndarray[Any, Any]) -> bytes:
    sink = io.BytesIO()
    np.save(sink, array, allow_pickle=False)
    return sink.getvalue()


def bits(frame: Any) -> dict[str, Any]:
    """Every column as its dtype and the bytes, or objects, below it."""
    return {name: (str(frame[name].dtype), _bits(frame[name])) for name in frame.columns}


def _bits(column: Any) -> Any:
    if isinstance(column.dtype, np.dtype) and column.dtype.kind != "O":
        return column.to_numpy().tobytes()
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.tolist(), column.cat.categories.tolist()
    if hasattr(column.array, "_mask"):  # pandas' nullable numbers
        return column.array._data.tobytes(), column.array._mask.tobytes()
    return [None if pd.isna(value) else value for value in column.tolist()]


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
HALVES = st.integers(0, 2 * 0x7C00 - 1).map(
    lambda n: float(np.uint16(n % 0x7C00 + n // 0x7C00 * 0x8000).view(np.float16))
)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
TIMES = st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1))  # noqa: DTZ001 - zones are given below


def column(example: Any, dtype: Any, values: st.SearchStrategy[Any], *, nullable: bool = True) -> tuple[pd.Series, Any]:
    shown: Any = [example, None] if nullable else [example, example]
    return pd.Series(shown, dtype=dtype), st.none() | values if nullable else values


COLUMNS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "float": column(0.5, "float64", FLOATS),
    "narrow": column(0.5, "float32", st.floats(allow_nan=False, allow_infinity=False, width=32)),
    "half": column(0.5, "float16", HALVES, nullable=False),
    "whole": column(1, "int64", INTEGERS, nullable=False),
    "byte": column(1, "uint8", st.integers(0, 255), nullable=False),
    "flag": column(True, "bool", st.booleans(), nullable=False),
    "Whole": column(1, "Int64", INTEGERS),
    "Real": column(0.5, "Float64", FLOATS),
    "Flag": column(True, "boolean", st.booleans()),
    "text": column("a", "str", TEXT),
    "string": column("a", "string", TEXT),
    "object": column("a", "object", TEXT),
    "colour, or so": column("a", pd.CategoricalDtype(["a", 'b"', "7"]), st.sampled_from(["a", 'b"', "7"])),
    "stage": column(1, pd.CategoricalDtype([3, 1, 2], ordered=True), st.integers(1, 3)),
    "level": column(0.1, pd.CategoricalDtype([0.1, 1e300]), st.sampled_from([0.1, 1e300])),
    "sure": column(True, pd.CategoricalDtype([True, False]), st.booleans()),
    "at": column(datetime(2026, 1, 1), "datetime64[us]", TIMES),  # noqa: DTZ001 - it has no zone
    "seen": column(
        datetime(2026, 1, 1, tzinfo=UTC), "datetime64[ns, Europe/Berlin]", TIMES.map(lambda at: at.replace(tzinfo=UTC))
    ),
}
SIGNATURE = infer_signature(None, pd.DataFrame({name: shown for name, (shown, _) in COLUMNS.items()}))
ROWS = st.lists(st.fixed_dictionaries({name: values for name, (_, values) in COLUMNS.items()}), min_size=1, max_size=5)


@settings(deadline=None, max_examples=50)
@given(ROWS, st.permutations(list(COLUMNS)))
def test_a_row_of_a_frame_is_the_same_however_it_arrives(rows: list[dict[str, Any]], order: list[str]) -> None:
    frame = pd.DataFrame(
        {name: pd.Series([row[name] for row in rows], dtype=shown.dtype) for name, (shown, _) in COLUMNS.items()}
    )
    expected = SIGNATURE.coerce(frame)
    assert expected.dtypes.to_dict() == frame.dtypes.to_dict()
    pd.testing.assert_frame_equal(expected, frame)
    shuffled, lists = frame[order], [[row[name] for name in COLUMNS] for row in rows]
    table = pa.Table.from_pandas(shuffled, preserve_index=False)
    forms = {
        "lists": SIGNATURE.coerce(lists),
        "JSON rows": decoded(SIGNATURE, "application/json", as_json(lists)),
        "JSON named": decoded(
            SIGNATURE, "application/json", as_json([{name: row[name] for name in order} for row in rows])
        ),
        "CSV": decoded(SIGNATURE, "text/csv", as_csv(shuffled)),
        "CSV without a header": decoded(
            SIGNATURE, 'text/csv; charset=UTF-8; header="absent"', as_csv(frame).partition(b"\r\n")[2]
        ),
        "Arrow stream": decoded(SIGNATURE, STREAM, as_arrow(table, stream=True)),
        "Arrow file": decoded(SIGNATURE, FILE, as_arrow(table, stream=False, compression="zstd")),
        "record batch": SIGNATURE.coerce(table.to_batches()[0]),
        "pandas": SIGNATURE.coerce(shuffled),
        "polars": SIGNATURE.coerce(pl.DataFrame(pl.from_arrow(table))),
    }
    for form, coerced in forms.items():
        assert bits(coerced) == bits(expected), form


POLARS = pl.DataFrame(
    {
        "float": [0.5, None],
        "whole": [1, None],
        "flag": [True, None],
        "text": ["a", None],
        "colour": pl.Series(["a", None], dtype=pl.Enum(["a", "b"])),
        "at": pl.Series([datetime(2026, 1, 1), None], dtype=pl.Datetime("us")),  # noqa: DTZ001 - it has no zone
    }
)
POLARS_ROWS = st.fixed_dictionaries(
    {
        "float": st.none() | FLOATS,
        "whole": st.none() | INTEGERS,
        "flag": st.none() | st.booleans(),
        "text": st.none() | TEXT,
        "colour": st.sampled_from([None, "a", "b"]),
        "at": st.none() | TIMES,
    }
)


@settings(deadline=None)
@given(st.lists(POLARS_ROWS, min_size=1, max_size=5))
def test_a_row_of_polars_is_the_same_however_it_arrives(rows: list[dict[str, Any]]) -> None:
    signature = infer_signature(None, POLARS)
    frame = pl.DataFrame(rows, schema=POLARS.schema)
    stream, file = io.BytesIO(), io.BytesIO()
    frame.write_ipc_stream(stream, compression="lz4")
    frame.write_ipc(file)
    for coerced in (
        signature.coerce(frame),
        signature.coerce(rows),
        decoded(signature, "application/json", as_json(rows)),
        decoded(signature, "text/csv", as_csv(pd.DataFrame(rows, dtype=object))),
        decoded(signature, STREAM, stream.getvalue()),
        decoded(signature, FILE, file.getvalue()),
        decoded(signature, FILE, as_arrow(frame.to_arrow(), stream=False)),
    ):
        assert coerced.schema == frame.schema
        assert coerced.equals(frame)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "uint64", "int8", "bool"])
@settings(deadline=None, max_examples=25)
@given(st.sampled_from(["array", "frame"]), st.sampled_from(["C", "F"]), st.data())
def test_a_row_of_numbers_is_the_same_however_it_arrives(dtype: str, container: str, order: Any, data: Any) -> None:
    kind = np.dtype(dtype)
    width: Any = kind.itemsize * 8
    floats = HALVES if width == 16 else st.floats(allow_nan=False, allow_infinity=False, width=width)
    matrix = data.draw(hnp.arrays(kind, (3, 4), elements=floats if kind.kind == "f" else None))
    names = ["b", "a", "d", "c"]
    shown: Any = np.asarray(np.ones((2, 4)), dtype=kind, order=order)
    signature = infer_signature(None, pd.DataFrame(shown, columns=names, copy=False) if container == "frame" else shown)
    frame = pd.DataFrame(matrix, columns=list(signature.names))
    lists, table = matrix.tolist(), pa.table({name: frame[name].to_numpy() for name in frame.columns[::-1]})
    for coerced in (
        signature.coerce(matrix),
        signature.coerce(np.asfortranarray(matrix)),
        signature.coerce(lists),
        signature.coerce(frame.iloc[:, ::-1]),
        signature.coerce(
            pl.DataFrame(
                dict(zip(frame.columns, matrix.T.astype(np.float32 if dtype == "float16" else dtype), strict=True))
            )
        ),
        decoded(signature, "application/json", as_json(lists)),
        decoded(signature, "text/csv", as_csv(frame.iloc[:, ::-1])),
        decoded(signature, "application/x-npy", as_npy(matrix)),
        decoded(signature, "application/x-npy", as_npy(np.asfortranarray(matrix))),
        decoded(signature, "application/x-npy", as_npy(matrix.astype(kind.newbyteorder(">")))),
        decoded(signature, STREAM, as_arrow(table, stream=True, compression="lz4")),
        decoded(signature, FILE, as_arrow(table, stream=False)),
    ):
        array = np.asarray(coerced)
        assert array.dtype == kind
        assert array.tobytes() == matrix.tobytes()


@given(st.lists(TEXT, min_size=1))
@example(["x", "text", " a ", "1", "ü"])
def test_a_text_is_the_same_however_it_arrives(texts: list[str]) -> None:
    signature = infer_signature(None, ["good film", "bad film"])
    table = pa.table({"text": texts})
    sheet = io.StringIO()
    csv.writer(sheet, quoting=csv.QUOTE_ALL).writerows([["text"], *([text] for text in texts)])
    forms = [
        signature.coerce(np.array(texts, dtype=object)),
        decoded(signature, "application/json", as_json(texts)),
        decoded(signature, "application/json", as_json([{"text": text} for text in texts])),
        decoded(signature, "text/csv", sheet.getvalue().encode()),
        decoded(signature, STREAM, as_arrow(table, stream=True)),
        decoded(signature, FILE, as_arrow(table.cast(pa.schema({"text": pa.string_view()})), stream=False)),
        decoded(signature, FILE, as_arrow(pa.table({"text": table["text"].dictionary_encode()}), stream=False)),
        *(
            [decoded(signature, "application/x-npy", as_npy(np.array(texts)))]
            if not any(t.endswith("\0") for t in texts)
            else []
        ),
    ]
    for coerced in forms:
        assert coerced.tolist() == texts


@given(hnp.arrays(np.float32, (2, 2, 3), elements={"allow_nan": False, "allow_infinity": False}))
def test_a_tensor_is_the_same_however_it_arrives(tensor: np.ndarray[Any, Any]) -> None:
    signature = infer_signature(None, np.ones((1, 2, 3), dtype=np.float32))
    for coerced in (
        signature.coerce(tensor),
        signature.coerce(tensor.tolist()),
        decoded(signature, "application/json", as_json(tensor.tolist())),
        decoded(signature, "application/json", as_json([{"tensor": row} for row in tensor.tolist()])),
        decoded(signature, "application/x-npy", as_npy(tensor)),
    ):
        assert coerced.tobytes() == tensor.tobytes()
    one = decoded(signature, "application/json", json.dumps({"features": tensor[0].tolist()}).encode())
    assert one.tobytes() == tensor[:1].tobytes()


def test_times_to_the_nanosecond() -> None:
    at = pd.DatetimeIndex(["2026-01-31T12:00:00.123456789"]).tz_localize("Europe/Berlin")
    frame = pd.DataFrame({"at": at, "late": at + timedelta(days=180)})
    signature = infer_signature(None, frame)
    table = pa.Table.from_pandas(frame)
    iso = [[value.isoformat() for value in frame.iloc[0]]]
    for coerced in (
        signature.coerce(frame.to_numpy().tolist()),
        decoded(signature, "application/json", as_json(iso)),
        decoded(signature, "text/csv", as_csv(frame)),
        decoded(signature, STREAM, as_arrow(table, stream=True)),
        signature.coerce(pl.DataFrame(pl.from_arrow(table))),
    ):
        pd.testing.assert_frame_equal(coerced, frame)
