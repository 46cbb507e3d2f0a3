"""Plain Python and numpy values as JSON and back, exactly: what a fitted wrapper holds beside its model file."""

from __future__ import annotations

import json
from collections import OrderedDict, defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.errors import NotServableError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["dumps", "loads"]

_ARRAYS = "biufU"  # kinds of dtype whose ``tolist`` is exact


def dumps(value: Any) -> bytes:
    """Return JSON that :func:`loads` turns into an equal value.

    Tuples, keys that are no text, and arrays are tagged, since JSON has none of them. numpy's scalars become Python's.

    Raises
    ------
    NotServableError
        If a part is no plain value, a function for instance.

    Examples
    --------
    >>> loads(dumps({"range": (1, 3), 0: None})) == {"range": (1, 3), 0: None}
    True
    """
    return json.dumps(_encoded(value)).encode()


def loads(content: bytes | memoryview) -> Any:
    """Return the value that :func:`dumps` was given."""
    return _decoded(json.loads(bytes(content)))


def _encoded(value: Any) -> Any:
    if value is None or type(value) in {bool, int, float, str}:
        return value
    if isinstance(value, np.generic) and value.dtype.kind in _ARRAYS:
        return value.item()
    try:
        return _ENCODE[type(value)](value)
    except KeyError:
        raise NotServableError(
            f"A {type(value).__name__} cannot be written as JSON; accepted are numbers, text, None, and lists, tuples, "
            "dicts and arrays of them."
        ) from None


def _encoded_array(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    flat = array.dtype.kind == "O" and array.ndim == 1
    if not flat and array.dtype.kind not in _ARRAYS:
        raise NotServableError(f"An array of {array.dtype} and {array.ndim} dimensions cannot be written as JSON.")
    return {"array": _encoded(array.tolist()), "dtype": array.dtype.str}


def _encoded_dict(value: dict[Any, Any]) -> dict[str, Any]:
    return {"dict": [[_encoded(key), _encoded(part)] for key, part in value.items()]}


_ENCODE: dict[type, Callable[[Any], Any]] = {
    list: lambda value: [_encoded(part) for part in value],
    tuple: lambda value: {"tuple": [_encoded(part) for part in value]},
    dict: _encoded_dict,
    OrderedDict: _encoded_dict,
    defaultdict: _encoded_dict,
    np.ndarray: _encoded_array,
}


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(part) for part in value]
    if not isinstance(value, dict):
        return value
    tag = next(iter(value))
    return _DECODE[tag](value)


_DECODE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "tuple": lambda value: tuple(_decoded(value["tuple"])),
    "dict": lambda value: {_decoded(key): _decoded(part) for key, part in value["dict"]},
    "array": lambda value: np.array(_decoded(value["array"]), dtype=value["dtype"]),
}
