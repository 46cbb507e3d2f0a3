"""Answers to bytes: the forms that predict gives, and the choice among them by ``Accept``."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mlnb.errors import NotAcceptableError
from mlnb.serving.codecs import to_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["ANSWER_TYPES", "AnswerEncoder", "Encode", "encoder_for", "numbers_of"]

_LONGEST = 1_000  # characters of Accept that are read; what is cached of it is bounded
_FEW = 16  # values; up to there a list is faster than orjson's way into an array
_LARGEST_TEXT_ARRAY = 2**28  # bytes; numpy gives each text the longest one's room
_QUALITY = re.compile(r"0(?:\.\d{0,3})?|1(?:\.0{0,3})?")  # RFC 9110, 12.4.2
_OBJECTS: tuple[tuple[frozenset[type], type], ...] = (
    (frozenset({bool}), np.bool_),
    (frozenset({int}), np.int64),
    (frozenset({int, float}), np.float64),
)


class Encode(Protocol):
    """Writes one answer."""

    def __call__(
        self,
        prediction: np.ndarray[Any, Any],
        probabilities: np.ndarray[Any, Any] | None,
        *,
        labels: Sequence[Any] | None,
        model: str,
        version: int,
        request_id: str,
        missing: Sequence[str] = (),
    ) -> bytes:
        """Return the body of the answer.

        Parameters
        ----------
        prediction : ndarray of shape (n, ...)
        probabilities : ndarray of shape (n, classes) or (n, outputs, classes), or None
            None where they were not asked for.
        labels : sequence or None
            The classes, in the order of the probabilities.
        model, version, request_id
            What answered, and which request.
        missing : sequence of str
            Members of an ensemble that failed, without which it answered.

        Raises
        ------
        NotAcceptableError
            If the form cannot hold what the model said.
        """
        ...


@dataclass(frozen=True, slots=True)
class AnswerEncoder:
    """One form of answer.

    Attributes
    ----------
    media_type : str
        For the answer's ``Content-Type``.
    encode : callable
        See :class:`Encode`.
    """

    media_type: str
    encode: Encode


def encoder_for(accept: str) -> AnswerEncoder:
    """Return the form of answer that a client likes best.

    Of those with the highest ``q``, one that is named goes before one that a ``*`` stands for, and then the one
    named first. Only the first 1,000 characters are read.

    Parameters
    ----------
    accept : str
        The header ``Accept`` (RFC 9110, 12.5.1); empty where there is none.

    Raises
    ------
    NotAcceptableError
        If it names none of those that there are.

    Examples
    --------
    >>> encoder_for("text/csv;q=0.5, application/x-npy").media_type
    'application/x-npy'
    >>> encoder_for("*/*").media_type
    'application/json'
    """
    return _chosen(accept[:_LONGEST])


def numbers_of(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
    """Return numbers or booleans of at most 64 bits as such, also where they are held as objects; None for all else.

    Examples
    --------
    >>> numbers_of(np.array([1, 2.5], dtype=object))
    array([1. , 2.5])
    >>> numbers_of(np.array(["a"])) is None
    True
    """
    if array.dtype.kind in "fiub":
        return array if array.dtype.itemsize <= 8 else array.astype(np.float64)  # noqa: PLR2004 - bytes
    if array.dtype.kind != "O":
        return None
    values = [value.item() if isinstance(value, np.generic) else value for value in array.ravel().tolist()]
    kinds = set(map(type, values))
    dtype = next((dtype for held, dtype in _OBJECTS if kinds <= held), None)
    try:
        return None if dtype is None else np.array(values, dtype=dtype).reshape(array.shape)
    except OverflowError:  # whole numbers of more than 64 bits
        return None


# ---- the choice ----


@lru_cache(maxsize=256)
def _chosen(accept: str) -> AnswerEncoder:
    if not accept.strip():
        return _JSON
    ranges = list(_ranges(accept))
    rated = {encoder.media_type: _rating(encoder.media_type, ranges) for encoder in _ENCODERS}
    best = max(_ENCODERS, key=lambda encoder: rated[encoder.media_type])  # the first of equals
    if rated[best.media_type][0] <= 0:
        raise NotAcceptableError(
            f"The answer was asked for as {accept[:80]!r}; there are: {', '.join(ANSWER_TYPES)}.", accepted=ANSWER_TYPES
        )
    return best


def _ranges(accept: str) -> Iterator[tuple[str, float]]:
    """Yield media ranges with their qualities, without those that cannot be read."""
    for part in accept.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        quality = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        if name and _QUALITY.fullmatch(quality):
            yield name, float(quality)


def _rating(media_type: str, ranges: Sequence[tuple[str, float]]) -> tuple[float, int, int]:
    """Return the quality by the range that fits best, how well it fits, and how early it stands."""
    forms = ("*/*", f"{media_type.partition('/')[0]}/*", media_type)
    fitting = [(forms.index(name), -place, q) for place, (name, q) in enumerate(ranges) if name in forms]
    closeness, earliness, quality = max(fitting, default=(0, 0, 0.0))
    return quality, closeness, earliness


# ---- JSON ----


def _encode_json(
    prediction: np.ndarray[Any, Any],
    probabilities: np.ndarray[Any, Any] | None,
    *,
    labels: Sequence[Any] | None,
    model: str,
    version: int,
    request_id: str,
    missing: Sequence[str] = (),
) -> bytes:
    document = {"prediction": _plain(prediction), "model": model, "version": version, "request_id": request_id}
    if probabilities is not None:
        document |= {"probabilities": _plain(probabilities), "labels": labels}
    if missing:
        document["missing"] = missing
    return to_json(document)


def _plain(array: np.ndarray[Any, Any]) -> Any:
    """Return what orjson writes fastest; it alone writes narrow floats with no more digits than they have."""
    dtype = array.dtype
    if dtype.char in "ef" or (array.size > _FEW and dtype.kind in "fiub" and dtype.itemsize <= 8 and dtype.isnative):  # noqa: PLR2004 - bytes
        return np.asarray(array, dtype=dtype.newbyteorder("="), order="C")
    return array.tolist()


# ---- tables ----


def _columns(
    prediction: np.ndarray[Any, Any], probabilities: np.ndarray[Any, Any] | None, labels: Sequence[Any] | None
) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Yield the columns of an answer: the prediction's, and then the probabilities', named by label."""
    outputs = _table(prediction)
    for place, column in enumerate(outputs):
        yield "prediction" if len(outputs) == 1 else f"prediction_{place}", column
    if probabilities is not None:
        yield from zip(_names(probabilities, labels), _table(probabilities), strict=True)


def _table(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array.reshape(len(array), prod(array.shape[1:])).T


def _names(probabilities: np.ndarray[Any, Any], labels: Sequence[Any] | None) -> list[str]:
    if labels is not None and probabilities.shape[1:] == (len(labels),):
        return [str(_cell(label)) for label in labels]
    return ["_".join(map(str, ("probability", *place))) for place in np.ndindex(probabilities.shape[1:])]


def _cell(value: Any) -> Any:
    """Return what csv writes as it should be: a missing value as nothing, true and false as JSON does."""
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    missing = value is None or (isinstance(value, (float, np.floating)) and value != value)  # noqa: PLR0124 - NaN
    return "" if missing else value


def _cells(column: np.ndarray[Any, Any]) -> list[Any]:
    if column.dtype.kind in "iuU":
        listed: list[Any] = column.tolist()
        return listed
    return [_cell(value) for value in (column if column.dtype.char in "ef" else column.tolist())]  # 0.1, of 32 bits too


def _encode_csv(
    prediction: np.ndarray[Any, Any],
    probabilities: np.ndarray[Any, Any] | None,
    *,
    labels: Sequence[Any] | None,
    model: str,
    version: int,
    request_id: str,
    missing: Sequence[str] = (),
) -> bytes:
    del model, version, request_id, missing  # headers say them
    names, columns = zip(*_columns(prediction, probabilities, labels), strict=True)
    sheet = io.StringIO()
    writer = csv.writer(sheet, lineterminator="\r\n")
    writer.writerow(names)
    writer.writerows(zip(*map(_cells, columns), strict=True))
    return sheet.getvalue().encode(errors="replace")


def _encode_arrow(
    prediction: np.ndarray[Any, Any],
    probabilities: np.ndarray[Any, Any] | None,
    *,
    labels: Sequence[Any] | None,
    model: str,
    version: int,
    request_id: str,
    missing: Sequence[str] = (),
) -> bytes:
    pa = _pyarrow()
    names, columns = zip(*_columns(prediction, probabilities, labels), strict=True)
    try:
        arrays = [pa.array(_for_arrow(column)) for column in columns]
    except (pa.ArrowException, UnicodeEncodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise NotAcceptableError(
            f"What the model said makes no Arrow column ({reason}); ask for application/json."
        ) from None
    known = {"model": model, "version": str(version), "request_id": request_id}
    if missing:
        known["missing"] = ", ".join(missing)
    table = pa.table(arrays, names=list(names)).replace_schema_metadata(known)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _for_arrow(column: np.ndarray[Any, Any]) -> Any:
    numbers = numbers_of(column)
    return column.tolist() if numbers is None else np.ascontiguousarray(numbers, dtype=numbers.dtype.newbyteorder("="))


def _pyarrow() -> Any:
    try:
        import pyarrow as pa
        import pyarrow.ipc
    except ImportError:
        raise NotAcceptableError(
            "Answers of Arrow are written with pyarrow, which is not installed beside the model: pip install pyarrow."
        ) from None
    return pa


# ---- npy ----


def _encode_npy(
    prediction: np.ndarray[Any, Any],
    probabilities: np.ndarray[Any, Any] | None,
    *,
    labels: Sequence[Any] | None,
    model: str,
    version: int,
    request_id: str,
    missing: Sequence[str] = (),
) -> bytes:
    del labels, model, version, request_id, missing  # headers say them
    sink = io.BytesIO()
    np.save(sink, _storable(prediction if probabilities is None else probabilities), allow_pickle=False)
    return sink.getvalue()


def _storable(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.dtype.kind in "UM":
        return array
    numbers = numbers_of(array)
    return _texts(array) if numbers is None else numbers


def _texts(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    values = array.ravel().tolist()
    if not all(isinstance(value, str) for value in values):
        raise NotAcceptableError("What the model said is neither all numbers nor all text; ask for application/json.")
    if 4 * len(values) * max(map(len, values), default=0) > _LARGEST_TEXT_ARRAY:
        raise NotAcceptableError("What the model said is text too long for an array; ask for application/json.")
    return np.array(values, dtype=np.str_).reshape(array.shape)


_JSON = AnswerEncoder("application/json", _encode_json)
_ENCODERS = (
    _JSON,
    AnswerEncoder("text/csv", _encode_csv),
    AnswerEncoder("application/x-npy", _encode_npy),
    AnswerEncoder("application/vnd.apache.arrow.stream", _encode_arrow),
)
ANSWER_TYPES = tuple(encoder.media_type for encoder in _ENCODERS)
"""What predict answers in."""
