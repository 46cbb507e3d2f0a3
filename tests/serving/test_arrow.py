from __future__ import annotations

import io
import struct
import sys
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import read

from mlnb.errors import InvalidInputError, MalformedBodyError, MlnbError, TooLargeError, UnsupportedMediaTypeError
from mlnb.registry.rows.inference import infer_signature
from mlnb.registry.signature import Signature
from mlnb.serving.codecs import MAX_ROWS

STREAM, FILE = "application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.file"
NUMBERS = infer_signature(None, np.array([[0.5, 0.5]]))
LETTERS = infer_signature(None, np.array([["a"], ["b"]], dtype=object))
HOLES = infer_signature(None, np.array([[0.5, np.nan], [np.nan, 0.5]]))


def decode(signature: Signature, body: bytes, *, content_type: str = STREAM) -> Any:
    return read(content_type, body, signature).rows


def ipc(*batches: Any, stream: bool = True, **options: Any) -> bytes:
    sink = io.BytesIO()
    write = pa.ipc.IpcWriteOptions(**options)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, batches[0].schema, options=write) as writer:
        for batch in batches:
            writer.write(batch)
    return sink.getvalue()


def table(**columns: Any) -> pa.Table:
    return pa.table(columns)


@pytest.mark.parametrize(
    "columns",
    [
        {"x1": [2.0], "x0": [1.0]},
        {"x0": [1], "x1": [2]},
        {"p": pa.array([1], pa.uint8()), "q": pa.array([2], pa.float16())},
        {"p": pa.array([Decimal("1.0")]), "q": pa.array([2.0]).dictionary_encode()},
        {"p": pa.array([True]), "q": pa.array([2], pa.int64()).dictionary_encode()},
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_columns_by_name_and_by_position(columns: dict[str, Any], *, stream: bool) -> None:
    body = ipc(table(**columns), stream=stream)
    assert decode(NUMBERS, body, content_type=STREAM if stream else FILE).tolist() == [[1.0, 2.0]]


def test_several_batches_with_dictionaries_of_their_own() -> None:
    schema = pa.schema({"x0": pa.dictionary(pa.int8(), pa.string())})
    batches = [
        pa.record_batch([pa.array(texts).dictionary_encode().cast(schema.field(0).type)], schema=schema)
        for texts in (["a", "b"], ["c", None])
    ]
    signature = infer_signature(None, np.array([["a"], [None]], dtype=object))
    assert decode(signature, ipc(*batches)).tolist() == [["a"], ["b"], ["c"], [None]]


def test_a_column_of_nothing_is_missing_values() -> None:
    rows = decode(HOLES, ipc(table(x0=pa.nulls(2), x1=[1.0, None])))
    assert np.isnan(rows).tolist() == [[True, False], [True, True]]


@pytest.mark.parametrize(
    ("body", "error", "says"),
    [
        (b"", MalformedBodyError, "no Arrow IPC"),
        (b"hello", MalformedBodyError, "no Arrow IPC"),
        (b"\xff" * 100, MalformedBodyError, "no Arrow IPC"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f", MalformedBodyError, "no Arrow IPC"),
        (ipc(table(x0=[1.0], x1=[2.0]))[:300], MalformedBodyError, "no Arrow IPC"),
        (ipc(table(x0=[1.0])), InvalidInputError, "The table has 1 columns; the model takes 2"),
        (ipc(table(x0=[1.0], x2=[2.0])), InvalidInputError, "unknown field 'x2'"),
        (ipc(table(x0=[1.0], x1=["a"])), InvalidInputError, "Row 0, field 'x1': got 'a', needs a number"),
        (ipc(table(x0=[1.0, None], x1=[2.0, 3.0])), InvalidInputError, "Row 1, field 'x0': got a missing value"),
        (
            ipc(table(x0=[1.0], x1=[[2.0]])),
            InvalidInputError,
            "The column 'x1' is of the type list<item: double>; accepted",
        ),
        (ipc(table(x0=[1.0], x1=[b"b"])), InvalidInputError, "The column 'x1' is of the type binary"),
        (ipc(table(x0=[1.0], x1=[{"a": 1}])), InvalidInputError, "The column 'x1' is of the type struct"),
        (ipc(pa.table([[1.0], [2.0]], names=["x0", "x0"])), InvalidInputError, "two columns of the same name"),
        (ipc(table(x0=[1.0], x1=[2.0]).slice(0, 0)), InvalidInputError, "There are no rows"),
        (
            ipc(table(x0=np.zeros(MAX_ROWS + 1), x1=np.zeros(MAX_ROWS + 1))),
            TooLargeError,
            "100,001 rows in one request",
        ),
        (ipc(table(x0=pa.nulls(10**9), x1=pa.nulls(10**9))), TooLargeError, "1,000,000,000 rows in one request"),
        (
            ipc(*table(x0=np.zeros(10_001), x1=np.zeros(10_001)).to_batches(max_chunksize=1)),
            TooLargeError,
            "10,000 batches",
        ),
    ],
)
def test_what_is_no_table_of_the_model(body: bytes, error: type[MlnbError], says: str) -> None:
    with pytest.raises(error) as caught:
        decode(NUMBERS, body)
    assert says in str(caught.value)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_a_bomb_is_weighed_before_it_is_unpacked(compression: str, *, stream: bool) -> None:
    text = pa.array(["x" * 80_000_000], pa.large_string())
    body = ipc(table(x0=text), stream=stream, compression=compression)
    assert len(body) < 2_000_000
    before = pa.default_memory_pool().max_memory()
    with pytest.raises(TooLargeError, match="larger than 64 MiB once unpacked"):
        decode(LETTERS, body, content_type=STREAM if stream else FILE)
    assert pa.default_memory_pool().max_memory() <= max(before, 64 * 2**20)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_texts_that_share_their_bytes_are_weighed_before_they_are_spread_out(kind: Any) -> None:
    values = pa.array(["x" * 10_000_000, "y"], pa.string()).cast(kind)
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 100, pa.int8()), values)
    with pytest.raises(TooLargeError, match="The text of a column is larger than 64 MiB"):
        decode(LETTERS, ipc(table(x0=column)))


def test_views_of_the_same_bytes_are_weighed() -> None:
    one = pa.array(["x" * 10_000_000], pa.string_view())
    views = pa.py_buffer(one.buffers()[1].to_pybytes() * 100)
    column = pa.Array.from_buffers(pa.string_view(), 100, [None, views, one.buffers()[2]])
    with pytest.raises(TooLargeError, match="The text of a column is larger than 64 MiB"):
        decode(LETTERS, ipc(table(x0=column)))


def test_columns_that_share_their_bytes_make_no_more_cells_than_json_could() -> None:
    count = 400
    signature = infer_signature(None, np.full((1, count), np.nan))
    body = ipc(pa.table([pa.nulls(MAX_ROWS)] * count, names=[f"c{n}" for n in range(count)]))
    assert len(body) < 200_000
    with pytest.raises(TooLargeError, match="40,000,000 cells in one request"):
        decode(signature, body)


def test_growing_dictionaries_are_refused() -> None:
    schema = pa.schema({"x0": pa.dictionary(pa.int8(), pa.string())})
    batches = [
        pa.record_batch([pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), pa.array(texts))], schema=schema)
        for texts in (["a"], ["a", "b"])
    ]
    with pytest.raises(TooLargeError, match="without growing dictionaries"):
        decode(LETTERS, ipc(*batches, emit_dictionary_deltas=True))


def test_offsets_that_point_outside_are_not_followed() -> None:
    good = ipc(table(x0=["abc", "def"]))
    offsets = struct.pack("<iii", 0, 3, 6)
    assert good.count(offsets) == 1
    bad = good.replace(offsets, struct.pack("<iii", 0, 3, 2**30))
    with pytest.raises(MalformedBodyError, match="no Arrow IPC"):
        decode(LETTERS, bad)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "wrong", [struct.pack("<qq", 0, -8), struct.pack("<qq", 2**40, 8), struct.pack("<qq", -(2**40), 8)]
)
def test_buffers_that_lie_outside_or_make_room_for_others(wrong: bytes, *, stream: bool) -> None:
    good = ipc(table(x0=np.zeros(1111), x1=np.zeros(1111)), stream=stream)
    place = good.index(struct.pack("<qq", 0, 8888))
    with pytest.raises(MalformedBodyError, match="no Arrow IPC"):
        decode(NUMBERS, good[:place] + wrong + good[place + 16 :], content_type=STREAM if stream else FILE)


def test_a_batch_of_fewer_than_no_rows_makes_no_room_for_others() -> None:
    good = ipc(table(x0=np.zeros(7777), x1=np.zeros(7777)))
    count = struct.pack("<q", 7777)
    with pytest.raises(MalformedBodyError, match="no Arrow IPC"):
        decode(NUMBERS, good.replace(count, struct.pack("<q", -7777)))


@pytest.mark.parametrize("stream", [True, False])
def test_metadata_are_weighed_too(monkeypatch: pytest.MonkeyPatch, *, stream: bool) -> None:
    monkeypatch.setattr("mlnb.serving.arrow._MOST_METADATA", 100)
    with pytest.raises(TooLargeError, match="write the table in one batch"):
        decode(NUMBERS, ipc(table(x0=[1.0], x1=[2.0]), stream=stream), content_type=STREAM if stream else FILE)


def test_the_compression_of_arrow_0_17_is_weighed_too() -> None:
    batch = table(x0=np.full(10, 1e300), x1=np.full(10, 1e300)).to_batches()[0]
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(metadata_version=pa.ipc.MetadataVersion.V4)
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch, custom_metadata={"ARROW:experimental_compression": "zstd"})
    with pytest.raises(TooLargeError, match="larger than 64 MiB once unpacked"):
        decode(NUMBERS, sink.getvalue())


@pytest.mark.parametrize("body", [b"ARROW1", b"ARROW1\0\0ARROW1", b"ARROW1\0\0" + b"\xff" * 40 + b"ARROW1", b"x" * 40])
def test_what_is_no_file(body: bytes) -> None:
    with pytest.raises(MalformedBodyError, match="no Arrow IPC"):
        decode(NUMBERS, body, content_type=FILE)


def test_a_file_that_names_one_batch_many_times_is_weighed_each_time() -> None:
    rows = table(x0=np.zeros(60_000), x1=np.zeros(60_000))
    body = bytearray(ipc(*rows.to_batches(), *rows.slice(0, 50_000).to_batches(), stream=False))
    with pytest.raises(TooLargeError, match="110,000 rows"):
        decode(NUMBERS, bytes(body), content_type=FILE)


SMALL = {
    STREAM: ipc(table(x0=[1.0, 2.0], x1=["a", "b"]), compression="zstd"),
    FILE: ipc(table(x0=[1.0, 2.0], x1=pa.array(["a", "b"]).dictionary_encode()), stream=False),
}


@pytest.mark.parametrize("content_type", [STREAM, FILE])
@given(st.data())
def test_a_body_with_flipped_bytes_is_refused_or_read_and_never_anything_else(content_type: str, data: Any) -> None:
    body = bytearray(SMALL[content_type])
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(Signature(), bytes(body[: data.draw(st.integers(len(body) // 2, len(body)))]), content_type=content_type)
    except MlnbError as error:
        assert error.status in (400, 413, 422)  # noqa: PT017 - it may be read as well


def test_without_pyarrow_the_answer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UnsupportedMediaTypeError, match="pip install pyarrow"):
        decode(NUMBERS, b"")


def test_what_polars_writes(tmp_path: Any) -> None:
    frame = pl.DataFrame({"x0": [1.0], "x1": [2.0]})
    for compression in ("uncompressed", "lz4", "zstd"):
        stream, file = io.BytesIO(), io.BytesIO()
        kind: Any = compression
        frame.write_ipc_stream(stream, compression=kind)
        frame.write_ipc(file, compression=kind)
        assert decode(NUMBERS, stream.getvalue()).tolist() == [[1.0, 2.0]]
        assert decode(NUMBERS, file.getvalue(), content_type=FILE).tolist() == [[1.0, 2.0]]
