"""Bytes to rows, and answers to bytes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from mlnb.errors import InvalidInputError, MalformedBodyError, TooLargeError, UnsupportedMediaTypeError
from mlnb.serving.arrow import read_arrow_file, read_arrow_stream
from mlnb.serving.npy import read_npy
from mlnb.serving.service import Query
from mlnb.serving.text_csv import Header, read_csv
from mlnb.serving.traffic import key_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlnb.registry.signature import Signature

__all__ = ["MAX_BODY_BYTES", "MAX_ROWS", "MEDIA_TYPES", "decode", "to_json"]

MAX_BODY_BYTES = 64 * 2**20
MAX_ROWS = 100_000

_FORMS = '{"features": [..]} for one row, or {"instances": [[..], ..]} or {"instances": [{"name": ..}, ..]} for many'


def decode(content_type: str, body: bytes, signature: Signature, *, probabilities: bool) -> Query:
    """Return the rows of a body as they came; what ``curl -d`` says by itself is taken for JSON.

    Only JSON can ask for probabilities in the body; for all others ``probabilities`` holds.

    Raises
    ------
    UnsupportedMediaTypeError, MalformedBodyError, TooLargeError, InvalidInputError
    """
    if content_type == "application/json":
        row = _one_row(body)
        if row is not None:
            return Query([row], probabilities)
    else:
        media_type, parameters = _media_type(content_type)
        read = _READERS.get(media_type)
        if read is not None:
            return Query(read(body, signature, parameters), probabilities)
        _check_json(media_type)
    document = _parse(body)
    wanted = document.pop("probabilities", probabilities)
    if not isinstance(wanted, bool):
        raise InvalidInputError(f"'probabilities' is true or false, not a JSON {_json_type(wanted)}.")
    key = _key(document.pop("key", ""))
    return Query(_rows(document, signature), wanted, key)


def _key(given: Any) -> bytes:
    """Return what the request belongs to, for a split."""
    if not isinstance(given, (str, int, float)) or isinstance(given, bool):
        raise InvalidInputError(f"'key' is text or a number, not a JSON {_json_type(given)}.")
    return key_text(given)


def _one_row(body: bytes) -> list[Any] | None:
    """Return the row of the usual body, ``{"features": [1.2, 3.4]}``, quickly; None if it is another."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if type(document) is not dict or len(document) != 1:
        return None
    row = document.get("features")
    return row if type(row) is list and row and type(row[0]) not in (list, dict) else None


def to_json(document: object) -> bytes:
    """Return valid JSON of plain values and numpy ones; NaN becomes null."""
    try:
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS, default=str)
    except orjson.JSONEncodeError:  # whole numbers of more than 64 bits
        return json.dumps(document, default=_listed_array, allow_nan=False).encode()


def _listed_array(value: object) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else str(value)


def _media_type(content_type: str) -> tuple[str, Mapping[str, str]]:
    media_type, _, rest = content_type.partition(";")
    pairs = (part.partition("=") for part in rest.split(";"))
    return media_type.strip().lower(), {name.strip().lower(): value.strip(' "').lower() for name, _, value in pairs}


def _check_json(media_type: str) -> None:
    known = ("", "application/json", "application/x-www-form-urlencoded")
    if media_type not in known and not media_type.endswith("+json"):
        raise UnsupportedMediaTypeError(
            f"Bodies of type {media_type[:80]!r} are not read; send application/json: {_FORMS}; or a body of "
            f"{', '.join(_READERS)}."
        )


def _read_csv(body: bytes, signature: Signature, parameters: Mapping[str, str]) -> Any:
    charset = parameters.get("charset", "utf-8")
    if charset not in ("utf-8", "utf8", "us-ascii", "ascii"):
        raise UnsupportedMediaTypeError(f"CSV in {charset[:40]!r} is not read; send it in UTF-8.")
    header = parameters.get("header")
    if header not in _HEADERS:
        raise UnsupportedMediaTypeError(f"The content type says header={header!r:.40}; it is 'present' or 'absent'.")
    return read_csv(body, signature, header=_HEADERS[header], max_rows=MAX_ROWS)


def _read_npy(body: bytes, signature: Signature, _: Mapping[str, str]) -> Any:
    return read_npy(body, signature, max_rows=MAX_ROWS)


def _read_arrow_stream(body: bytes, signature: Signature, _: Mapping[str, str]) -> Any:
    return read_arrow_stream(body, signature, max_rows=MAX_ROWS, max_bytes=MAX_BODY_BYTES)


def _read_arrow_file(body: bytes, signature: Signature, _: Mapping[str, str]) -> Any:
    return read_arrow_file(body, signature, max_rows=MAX_ROWS, max_bytes=MAX_BODY_BYTES)


def _parse(body: bytes) -> dict[str, Any]:
    if not body.strip():
        raise MalformedBodyError(f"The body is empty; send {_FORMS}.")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        document = _lenient(body, error)
    if not isinstance(document, dict):
        raise InvalidInputError(f"The body is a JSON {_json_type(document)}; send {_FORMS}.")
    return document


def _lenient(body: bytes, strict: orjson.JSONDecodeError) -> Any:
    """Read the NaN and Infinity that JSON lacks and many clients write: the signature names their row and field."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise MalformedBodyError(f"The body is not JSON: {strict}. Send {_FORMS}.") from None


def _rows(document: dict[str, Any], signature: Signature) -> list[Any]:
    if len(document) != 1 or not document.keys() <= {"features", "instances"}:
        keys = sorted(key[:80] for key in document)
        raise InvalidInputError(f"The body has the keys {keys[:8]}; send {_FORMS}.")
    if "features" in document:
        row = document["features"]
        nested = isinstance(row, list) and row and isinstance(row[0], (list, dict)) and signature.container != "tensor"
        if not isinstance(row, (list, dict, str)) or nested:
            raise InvalidInputError(
                "'features' is one row: a list of values, or an object; use 'instances' for many rows."
            )
        return [row]
    rows = document["instances"]
    if not isinstance(rows, list):
        raise InvalidInputError(f"'instances' is a list of rows, not a JSON {_json_type(rows)}.")
    if len(rows) > MAX_ROWS:
        raise TooLargeError(
            f"{len(rows):,} rows in one request; at most {MAX_ROWS:,}. Send them in parts.",
            given=len(rows), accepted=MAX_ROWS,
        )  # fmt: skip
    return rows


def _json_type(value: object) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")


_HEADERS: dict[str | None, Header] = {None: None, "absent": "absent", "present": "present"}
_READERS: dict[str, Callable[[bytes, Signature, Mapping[str, str]], Any]] = {
    "text/csv": _read_csv,
    "application/x-npy": _read_npy,
    "application/vnd.apache.arrow.stream": _read_arrow_stream,
    "application/vnd.apache.arrow.file": _read_arrow_file,
}
MEDIA_TYPES = ("application/json", *_READERS)
"""What predict reads."""
