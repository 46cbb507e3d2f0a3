"""Inputs and answers as JSON text that comes back equal: NaN, times and whole numbers of any size, too."""

from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta
from itertools import repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from mlnb.monitoring.recent import values_in
from mlnb.registry.rows.frames import is_frame, open_frame
from mlnb.registry.rows.times import Times

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["LONGEST", "read_document", "records", "write_document", "write_documents"]

LONGEST = 100_000  # bytes of one document
_SHORTEST_VALUE = 2  # bytes: a digit and a comma
_FEW = 100  # values of a row
_PLAIN = frozenset("fiub")  # kinds of arrays that JSON holds
_NATIVE = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
_ARRAY = orjson.OPT_SERIALIZE_NUMPY
_LARGEST = 2**63
_WIDEST = 4  # bytes of a character
_FIRST = itemgetter(0)


def write_document(value: Any) -> str | None:
    """Return rows, answers or a label as JSON text: plain where JSON can say it all, else an object with marks in it.

    Parameters
    ----------
    value : list of rows, ndarray, frame of pandas, polars or Arrow, a plain value, or None

    Returns
    -------
    str or None
        None for None. In place of what is longer than 100 kB, or cannot be written, there is a note.

    Examples
    --------
    >>> write_document([[5.1, "red"]])
    '[[5.1,"red"]]'
    >>> write_document([[float("nan"), 2.0]])
    '{"marked":[[{"$float":"nan"},2.0]]}'
    """
    if value is None:
        return None
    quick = _QUICK.get(type(value))
    try:
        content = quick(value) if quick is not None else None
        if content is None:
            content = _thorough(value)
    except Exception as error:  # noqa: BLE001 - rows are of any type, and one must not keep the others from the log
        content = _note(f"cannot be kept: {type(error).__name__}")
    return (content if len(content) <= LONGEST else _TOO_LONG).decode()


def write_documents(values: Sequence[Any]) -> Sequence[str | None]:
    """Return what :func:`write_document` does, of many values; in a third of the time where they are alike.

    Examples
    --------
    >>> write_documents([[[5.1]], [["red"]]])
    ['[[5.1]]', '[["red"]]']
    """
    kinds = set(map(type, values))
    if kinds == {type(None)}:
        return values
    quick = _ALL_QUICK.get(kinds.pop()) if len(kinds) == 1 else None
    try:
        texts = None if quick is None else quick(values)
    except Exception:  # noqa: BLE001 - one by one it is found which
        texts = None
    if texts is None or "null" in "".join(texts) or max(map(len, texts)) > LONGEST // _WIDEST:
        return [write_document(value) for value in values]
    return texts


def read_document(text: str | None) -> Any:
    """Return what was written: nested lists and dicts; None for None and for a note.

    Examples
    --------
    >>> read_document('{"marked":[[{"$float":"inf"}]]}')
    [[inf]]
    """
    if text is None:
        return None
    document = orjson.loads(text)
    return _unmarked(document.get("marked")) if type(document) is dict else document


def records(value: Any) -> Any:
    """Return a frame as a list of one dict for each row; all else as it is."""
    if not is_frame(value):
        return value
    frame = open_frame(value)
    columns = [_listed(frame.column(position)) for position in range(len(frame.names))]
    return [dict(zip(frame.names, row, strict=True)) for row in zip(*columns, strict=True)]


def _note(words: str) -> bytes:
    return orjson.dumps({"note": words})


def _quick_list(value: list[Any]) -> bytes | None:
    """Return the JSON of plain values; None if there may be others: a null may have been NaN."""
    if (len(value) != 1 or type(value[0]) is not list or len(value[0]) > _FEW) and _is_long(value):
        return _TOO_LONG
    try:
        content = orjson.dumps(value, option=_NATIVE)
    except orjson.JSONEncodeError:
        return None
    return None if b"null" in content else content


def _quick_array(value: np.ndarray[Any, Any]) -> bytes | None:
    kind = value.dtype.kind
    if value.size * _SHORTEST_VALUE > LONGEST:
        return _TOO_LONG
    if kind not in _PLAIN:
        return _quick_list(value.tolist()) if kind in "OU" else None
    try:
        content = orjson.dumps(value, option=_ARRAY)
    except orjson.JSONEncodeError:  # it does not lie in one piece
        return None
    return None if b"null" in content else content


def _all_lists(values: Sequence[list[Any]]) -> list[str] | None:
    """Return the JSON of requests of one short row each; None if there are others."""
    if max(map(len, values)) > 1 or max(map(len, map(_FIRST, values))) > _FEW:
        return None
    content = orjson.dumps(values, option=_NATIVE)
    flat = content.count(b"[") == 2 * len(values) + 1 and set(map(type, map(_FIRST, values))) == {list}
    if flat and b'"' not in content and b"{" not in content:  # numbers alone
        return [f"[[{row}]]" for row in content.decode()[3:-3].split("]],[[")]
    return list(map(bytes.decode, map(orjson.dumps, values, repeat(None), repeat(_NATIVE))))


def _all_arrays(values: Sequence[np.ndarray[Any, Any]]) -> list[str] | None:
    """Return the JSON of short arrays; None if there are others."""
    kinds = {value.dtype for value in values}
    if {value.shape for value in values} == {(1,)} and len(kinds) == 1:
        return _all_single(np.concatenate(values))
    if max(value.size for value in values) > _FEW:
        return None
    letters = {kind.kind for kind in kinds}
    if letters <= {"O", "U"}:
        return [orjson.dumps(value.tolist(), option=_NATIVE).decode() for value in values]
    if letters <= _PLAIN:
        return list(map(bytes.decode, map(orjson.dumps, values, repeat(None), repeat(_ARRAY))))
    return None


def _all_single(values: np.ndarray[Any, Any]) -> list[str] | None:
    """Return the JSON of many answers of one value each, which are in one array."""
    if values.dtype.kind in _PLAIN:
        return [f"[{one}]" for one in orjson.dumps(values, option=_ARRAY).decode()[1:-1].split(",")]
    if values.dtype.kind not in "OU":
        return None
    answers = values.tolist()
    if set(map(type, answers)) == {str}:
        known = {answer: orjson.dumps([answer]).decode() for answer in set(answers)}
        return [known[answer] for answer in answers]
    return [orjson.dumps([answer], option=_NATIVE).decode() for answer in answers]


def _thorough(value: Any) -> bytes:
    if _is_long(value):
        return _TOO_LONG
    content = orjson.dumps(_marked(records(value)))
    return content if not content.startswith(b"{") and b'{"$' not in content else b'{"marked":%b}' % content


def _is_long(value: Any) -> bool:
    return values_in(value) * _SHORTEST_VALUE > LONGEST


def _listed(column: Any) -> list[Any]:
    """Return a column as a list; times stay numpy's, which have nanoseconds."""
    return list(column.values if isinstance(column, Times) else column)


def _marked(value: Any) -> Any:
    for kind, write in _WRITERS.items():
        if isinstance(value, kind):
            return write(value)
    return None if type(value).__name__ == "NAType" else _text(str(value))  # pandas' missing


def _marked_array(value: np.ndarray[Any, Any]) -> Any:
    return _marked(list(value) if value.dtype.kind in "Mm" and value.ndim else value.tolist())


def _marked_float(value: float) -> Any:
    number = float(value)
    return number if math.isfinite(number) else {"$float": str(number)}


def _marked_int(value: int) -> Any:
    return value if -_LARGEST <= value < _LARGEST else {"$int": str(value)}


def _marked_dict(value: dict[Any, Any]) -> Any:
    marked = {_text(str(key)): _marked(one) for key, one in value.items()}
    return {"$dict": marked} if any(key.startswith("$") for key in marked) else marked


def _marked_time(value: datetime) -> Any:
    exact = getattr(value, "to_datetime64", None)  # pandas' have nanoseconds
    if exact is not None and value.tzinfo is None:
        return {"$datetime64": str(exact())}
    return {"$datetime": value.isoformat()}


def _text(value: str) -> str:
    return value.encode(errors="replace").decode()  # half a surrogate pair is no text


_TOO_LONG = _note("too long to be kept")
_QUICK: dict[type, Callable[[Any], bytes | None]] = {list: _quick_list, np.ndarray: _quick_array}
_ALL_QUICK: dict[type, Callable[[Any], list[str] | None]] = {list: _all_lists, np.ndarray: _all_arrays}
_WRITERS: dict[Any, Callable[[Any], Any]] = {
    type(None): lambda _: None,
    bool: bool,
    int: _marked_int,
    float: _marked_float,
    str: _text,
    dict: _marked_dict,
    (list, tuple): lambda value: [_marked(one) for one in value],
    np.ndarray: _marked_array,
    np.datetime64: lambda value: {"$datetime64": str(value)},
    np.timedelta64: lambda value: {"$timedelta64": [int(value.astype(np.int64)), np.datetime_data(value.dtype)[0]]},
    np.generic: lambda value: _marked(value.item()),
    datetime: _marked_time,
    date: lambda value: {"$date": value.isoformat()},
    time: lambda value: {"$time": value.isoformat()},
    timedelta: lambda value: {"$timedelta": value.total_seconds()},
    bytes: lambda value: {"$bytes": value.hex()},
}

_READERS: dict[str, Callable[[Any], Any]] = {
    "$float": float,
    "$int": int,
    "$dict": lambda marked: {key: _unmarked(one) for key, one in marked.items()},
    "$datetime64": np.datetime64,
    "$timedelta64": lambda marked: np.timedelta64(*marked),
    "$datetime": datetime.fromisoformat,
    "$date": date.fromisoformat,
    "$time": time.fromisoformat,
    "$timedelta": lambda seconds: timedelta(seconds=seconds),
    "$bytes": bytes.fromhex,
}


def _unmarked(value: Any) -> Any:
    if type(value) is list:
        return [_unmarked(one) for one in value]
    if type(value) is not dict:
        return value
    if len(value) == 1:
        ((mark, marked),) = value.items()
        if mark in _READERS:
            return _READERS[mark](marked)
    return {key: _unmarked(one) for key, one in value.items()}
