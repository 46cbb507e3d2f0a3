"""Bodies of Arrow IPC, stream and file: weighed before they are unpacked, validated before they are read."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.errors import InvalidInputError, MalformedBodyError, TooLargeError, UnsupportedMediaTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlnb.registry.signature import Signature

__all__ = ["read_arrow_file", "read_arrow_stream"]

_SEND = (
    "send a table of numbers, booleans, text and timestamps as Arrow IPC, as pyarrow.ipc or polars' write_ipc write it"
)
_MAGIC = b"ARROW1"
_DICTIONARY, _RECORDS = 2, 3  # https://github.com/apache/arrow/blob/main/format/Message.fbs
_V5 = 4
_MOST_MESSAGES = 10_000
_MOST_METADATA = 16 * 2**20  # bytes; a file may name one message many times


def read_arrow_stream(body: bytes, signature: Signature, *, max_rows: int, max_bytes: int) -> Any:
    """Return the pyarrow Table of an ``application/vnd.apache.arrow.stream`` body.

    Parameters
    ----------
    body : bytes
    signature : Signature
        Tells how many columns to expect.
    max_rows : int
    max_bytes : int
        Of all buffers, unpacked.

    Raises
    ------
    MalformedBodyError
        If it is none, or one that points outside itself.
    TooLargeError
        If it has more rows than allowed, or would be larger than ``max_bytes`` once unpacked.
    InvalidInputError
        If it has another number of columns, or columns of lists, structures or the like.
    UnsupportedMediaTypeError
        If pyarrow is not installed.
    """
    return _read(body, signature, _stream_messages, lambda pa: pa.ipc.open_stream, max_rows, max_bytes)


def read_arrow_file(body: bytes, signature: Signature, *, max_rows: int, max_bytes: int) -> Any:
    """Return the pyarrow Table of an ``application/vnd.apache.arrow.file`` body; see :func:`read_arrow_stream`."""
    return _read(body, signature, _file_messages, lambda pa: pa.ipc.open_file, max_rows, max_bytes)


def _read(
    body: bytes,
    signature: Signature,
    messages: Callable[[Any, bytes], Iterator[tuple[bytes, memoryview]]],
    opener: Callable[[Any], Callable[[bytes], Any]],
    max_rows: int,
    max_bytes: int,
) -> Any:
    pa = _pyarrow()
    try:
        _weigh(messages(pa, body), max_rows=max_rows, max_bytes=max_bytes)
        with opener(pa)(body) as reader:
            _check_columns(pa, reader.schema, signature)
            table = reader.read_all()
        table.validate(full=True)  # offsets that point outside would be followed otherwise
    except (pa.ArrowException, OSError, struct.error, IndexError, UnicodeDecodeError) as error:
        raise MalformedBodyError(f"The body is no Arrow IPC: {' '.join(str(error).split())[:200]}; {_SEND}.") from None
    cells = table.num_rows * table.num_columns
    if cells * 2 > max_bytes:  # as many as JSON of that size could have; columns may share their bytes
        raise TooLargeError(
            f"{cells:,} cells in one request. Send them in parts.", given=cells, accepted=max_bytes // 2
        )
    return pa.table([_plain(pa, column, max_bytes) for column in table.columns], names=table.column_names)


def _pyarrow() -> Any:
    try:
        import pyarrow as pa
        import pyarrow.ipc
    except ImportError:
        raise UnsupportedMediaTypeError(
            "Bodies of Arrow are read with pyarrow, which is not installed beside the model: pip install pyarrow."
        ) from None
    return pa


# ---- weighing: https://arrow.apache.org/docs/format/Columnar.html#recordbatch-message ----


@dataclass(frozen=True, slots=True)
class _Message:
    """What the metadata of a message says before its body is unpacked."""

    rows: int
    unpacked: int
    is_delta: bool

    @classmethod
    def of(cls, metadata: bytes, body: memoryview) -> _Message:
        message = _Flat.root(metadata)
        kind, header = message.number(1, "<B"), message.table(2)
        is_delta = kind == _DICTIONARY and bool(header.number(2, "<B"))
        records = header.table(1) if kind == _DICTIONARY else header
        if kind not in (_DICTIONARY, _RECORDS):
            return cls(rows=0, unpacked=0, is_delta=False)
        version = message.number(0, "<h")
        packed = records.has(3) or (
            version < _V5 and message.has(4)
        )  # Arrow 0.17 said so in the message's own metadata
        unpacked = sum(_unpacked_size(body, *buffer, packed=packed) for buffer in records.pairs(2))
        rows = records.number(0, "<q")
        if rows < 0:  # it would make room for another's
            raise struct.error("a batch has a negative number of rows")
        return cls(rows=rows if kind == _RECORDS else 0, unpacked=unpacked, is_delta=is_delta)


def _unpacked_size(body: memoryview, offset: int, length: int, *, packed: bool) -> int:
    """Return how many bytes a buffer says it has unpacked: the unpacker allocates as many, and fails on more."""
    if length < 0:  # it would make room for another's
        raise struct.error("a buffer has a negative length")
    return max(_unpack("<q", body, offset), length) if packed and length else length  # -1: stored as it is


@dataclass(frozen=True, slots=True)
class _Flat:
    """A table of a flatbuffer: https://flatbuffers.dev/internals. What points outside raises struct.error."""

    data: bytes
    at: int

    @classmethod
    def root(cls, data: bytes) -> _Flat:
        return cls(data, _unpack("<I", data, 0))

    def _place(self, slot: int) -> int | None:
        described = self.at - _unpack("<i", self.data, self.at)
        if 4 + 2 * slot >= _unpack("<H", self.data, described):
            return None
        offset = _unpack("<H", self.data, described + 4 + 2 * slot)
        return self.at + offset if offset else None

    def has(self, slot: int) -> bool:
        return self._place(slot) is not None

    def number(self, slot: int, form: str) -> int:
        place = self._place(slot)
        return 0 if place is None else _unpack(form, self.data, place)

    def table(self, slot: int) -> _Flat:
        place = self._place(slot)
        if place is None:
            raise struct.error("a message lacks its header")
        return _Flat(self.data, place + _unpack("<I", self.data, place))

    def pairs(self, slot: int, *, form: str = "<qq") -> Iterator[tuple[int, ...]]:
        """Yield the structs of a vector."""
        place = self._place(slot)
        if place is None:
            return
        start = place + _unpack("<I", self.data, place)
        size = struct.calcsize(form)
        for number in range(_unpack("<I", self.data, start)):
            yield struct.unpack_from(form, self.data, start + 4 + number * size)


def _unpack(form: str, data: bytes | memoryview, at: int) -> int:
    if at < 0:  # Python would count from the end
        raise struct.error("an offset points before the message")
    number: int = struct.unpack_from(form, data, at)[0]
    return number


def _stream_messages(pa: Any, body: bytes) -> Iterator[tuple[bytes, memoryview]]:
    for message in pa.ipc.MessageReader.open_stream(body):
        yield message.metadata.to_pybytes(), memoryview(b"" if message.body is None else message.body)


def _file_messages(pa: Any, body: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the messages that the footer lists: a file is read by it, whatever else lies in between."""
    del pa
    if not (body.startswith(_MAGIC) and body.endswith(_MAGIC)):
        raise struct.error("a file begins and ends with ARROW1")
    end = len(body) - len(_MAGIC) - 4
    start = end - _unpack("<i", body, end)
    if not 0 <= start <= end:
        raise struct.error("the footer is longer than the file")
    footer = _Flat.root(body[start:end])
    if end - start > _MOST_METADATA:
        raise TooLargeError("The footer of the Arrow file is too large; write the table in one batch.")
    for slot in (2, 3):  # dictionaries, record batches: blocks of offset, metadata length (and padding), body length
        for offset, metadata_length, _, body_length in footer.pairs(slot, form="<qiiq"):
            prefix = 8 if body[offset : offset + 4] == b"\xff\xff\xff\xff" else 4
            after = offset + metadata_length
            yield body[offset + prefix : after], memoryview(body)[after : after + body_length]


def _weigh(messages: Iterator[tuple[bytes, memoryview]], *, max_rows: int, max_bytes: int) -> None:
    rows = unpacked = described = 0
    for number, (metadata, body) in enumerate(messages):
        described += len(metadata)
        if described > _MOST_METADATA:
            raise TooLargeError("The Arrow data has more metadata than rows can need; write the table in one batch.")
        message = _Message.of(metadata, body)
        rows, unpacked = rows + message.rows, unpacked + message.unpacked
        if rows > max_rows:
            raise TooLargeError(
                f"{rows:,} rows in one request; at most {max_rows:,}. Send them in parts.",
                given=rows, accepted=max_rows,
            )  # fmt: skip
        if unpacked > max_bytes:
            raise TooLargeError(
                f"The Arrow data is larger than {max_bytes // 2**20} MiB once unpacked; send the rows in parts.",
                given=unpacked, accepted=max_bytes,
            )  # fmt: skip
        if number >= _MOST_MESSAGES or message.is_delta:
            raise TooLargeError(
                f"Arrow data comes in at most {_MOST_MESSAGES:,} batches, and without growing dictionaries; write the "
                "table in one batch.", accepted=_MOST_MESSAGES,
            )  # fmt: skip


# ---- columns ----


def _check_columns(pa: Any, schema: Any, signature: Signature) -> None:
    if signature.fields and len(schema) != len(signature.fields):
        raise InvalidInputError(
            f"The table has {len(schema)} columns; the model takes {len(signature.fields)}.",
            given=len(schema), accepted=len(signature.fields),
        )  # fmt: skip
    if len(set(schema.names)) != len(schema.names):
        raise InvalidInputError("The table has two columns of the same name.")
    for field in schema:
        if not _is_plain(pa.types, field.type):
            raise InvalidInputError(
                f"The column {field.name[:80]!r} is of the type {str(field.type)[:80]}; accepted are numbers, "
                "booleans, text, categories of them, dates and timestamps.", field=field.name[:80],
            )  # fmt: skip


def _is_plain(types: Any, kind: Any) -> bool:
    if types.is_dictionary(kind):
        return not types.is_dictionary(kind.value_type) and _is_plain(types, kind.value_type)
    tests = ("integer", "floating", "boolean", "decimal", "null", "date", "timestamp", *_TEXT)
    return any(getattr(types, f"is_{test}")(kind) for test in tests)


_TEXT = ("string", "large_string", "string_view")


def _plain(pa: Any, column: Any, max_bytes: int) -> Any:
    """Return a column of a type that every reader knows; what shares its text is weighed before it is spread out."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _spread(pa, column, max_bytes)
    if pa.types.is_string_view(kind):
        _check_text(sum(_view_sizes(chunk) for chunk in column.chunks), max_bytes)
        return column.cast(pa.large_string())
    return column


def _view_sizes(array: Any) -> int:
    """Return the bytes of the texts of a view array: they may share them, so its buffers may have fewer."""
    views = array.buffers()[1]
    if views is None:
        return 0
    sizes = np.frombuffer(views, dtype="<i4").reshape(-1, 4)[array.offset : array.offset + len(array), 0]
    known = array.is_valid().to_numpy(zero_copy_only=False)
    return int(sizes[known].sum(dtype=np.int64))


def _spread(pa: Any, column: Any, max_bytes: int) -> Any:
    """Return a dictionary column as one of its values, weighed by how often each is named."""
    import pyarrow.compute as pc

    chunks = []
    for chunk in column.chunks:
        values = chunk.dictionary
        if any(getattr(pa.types, f"is_{test}")(values.type) for test in _TEXT):
            _check_text(_view_sizes(values) if pa.types.is_string_view(values.type) else values.nbytes, max_bytes)
            values = values.cast(pa.large_string())
            _check_text(pc.sum(pc.binary_length(values).take(chunk.indices)).as_py() or 0, max_bytes)
        chunks.append(values.take(chunk.indices))
    return pa.chunked_array(chunks, type=chunks[0].type if chunks else column.type.value_type)


def _check_text(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise TooLargeError(
            f"The text of a column is larger than {max_bytes // 2**20} MiB; send the rows in parts.",
            given=size, accepted=max_bytes,
        )  # fmt: skip
