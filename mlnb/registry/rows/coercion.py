"""Rows in any form, turned into what a model takes: the one way in, whatever they came as."""

from __future__ import annotations

from array import array as flat_array
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.errors import InvalidInputError, MlnbError, TooLargeError, nearest
from mlnb.registry.rows.columns import NUMERIC, Column, check_column, check_matrix, listed, refusal, shown, storage
from mlnb.registry.rows.frames import build_pandas, build_polars, is_frame, library_of, open_frame
from mlnb.registry.rows.times import Times

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlnb.registry.signature import Field, Signature

__all__ = ["Plan", "build", "check"]

_ROWS_AND_FEATURES = 2  # axes of a table
_MOST_AXES = 32  # numpy goes through no more
_LARGEST_TEXT_ARRAY = 2**28  # bytes
_TYPECODES = {"f": "d", "i": "q", "u": "q", "b": "q"}  # of array.array, by numpy's kind
_LISTS = frozenset({list, tuple, np.ndarray})


@dataclass(frozen=True, slots=True)
class Plan:
    """What coerce needs to know of the fields on every request.

    Attributes
    ----------
    names : tuple of str
    known : frozenset of str
    dtype : dtype or None
        The one numpy dtype of all fields; None if they differ, hold no numbers, or may miss whole numbers.
    typed : bool
        Whether all fields say what they hold; else the type of a column follows from all the rows there are.
    """

    names: tuple[str, ...]
    known: frozenset[str]
    dtype: np.dtype[Any] | None
    typed: bool

    @classmethod
    def of(cls, fields: Sequence[Field]) -> Plan:
        """Return the plan of a signature's fields."""
        names = tuple(field.name for field in fields)
        return cls(names, frozenset(names), _one_dtype(fields), all(field.kind != "any" for field in fields))


def _one_dtype(fields: Sequence[Field]) -> np.dtype[Any] | None:
    dtypes = {None if field.categories else storage(field.dtype) for field in fields}
    dtype = dtypes.pop() if len(dtypes) == 1 else None
    return None if dtype is None or (dtype.kind != "f" and any(field.nullable for field in fields)) else dtype


def check(signature: Signature, data: Any) -> Any:
    """Return the checked values of ``data``; see :meth:`Signature.check`."""
    return _BY_CONTAINER[signature.container](signature, data)


def build(signature: Signature, checked: Any) -> Any:
    """Return checked values in the container that a model takes; see :meth:`Signature.build`."""
    builder = _BUILDERS.get(signature.container)
    return checked if builder is None else builder(signature.fields, checked)


# ---- tables ----


def _table(signature: Signature, data: Any) -> np.ndarray[Any, Any] | list[Column]:
    given = _in_order(signature, data)
    dtype = signature.plan.dtype
    if dtype is not None and isinstance(given, np.ndarray):
        return check_matrix(signature.fields, dtype, given)
    columns = [check_column(field, column) for field, column in zip(signature.fields, given, strict=True)]
    if dtype is not None:
        return _joined(signature, columns, dtype)
    if signature.container != "array":
        return columns
    dtypes = {column.data.dtype for column in columns}  # of times, all may be one
    return _joined(signature, columns, dtypes.pop() if len(dtypes) == 1 else np.dtype(object))


def _joined(signature: Signature, columns: list[Column], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    joined = np.empty((len(columns[0].data), len(columns)), dtype=dtype, order=signature.order)
    for position, column in enumerate(columns):
        joined[:, position] = column.data
    return joined


def _in_order(signature: Signature, data: Any) -> Any:
    """Return the columns in the model's order and number: as one numeric matrix where all have one dtype."""
    if isinstance(data, np.ndarray):
        rectangle = _rectangle(signature, data)
        whole = signature.plan.dtype is not None and data.dtype.kind in NUMERIC
        return rectangle if whole else list(rectangle.T)
    if type(data) is not list and is_frame(data):
        return _ordered_frame(signature, data)
    if hasattr(data, "__array__"):
        return _in_order(signature, np.asarray(data))
    rows = _listed_rows(data)
    if any(isinstance(row, dict) for row in rows):
        rows = [_ordered_row(signature, number, row) for number, row in enumerate(rows)]
    matrix = _matrix_of_rows(signature, rows)
    return _columns_of_rows(signature, rows) if matrix is None else matrix


def _matrix_of_rows(signature: Signature, rows: list[Any]) -> np.ndarray[Any, Any] | None:
    """Return the rows as one array if all fields have one dtype and every value is a number that it may hold."""
    dtype, width = signature.plan.dtype, len(signature.fields)
    if dtype is None or not set(map(type, rows)) <= _LISTS or set(map(len, rows)) != {width}:
        return None
    matrix = _numbers_of(rows, dtype)
    return None if matrix is None else np.asarray(matrix.reshape(len(rows), width), order=signature.order)


def _numbers_of(rows: list[Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any] | None:
    """Return the values of all rows, one after the other, as numbers; None unless each is one.

    array.array refuses what numpy would take (text, None) or round (a fraction for a whole number), and never spends
    the room of the longest text on every value. It is faster too.
    """
    flat = flat_array(_TYPECODES[dtype.kind])
    try:
        for row in rows:
            flat.fromlist(row if type(row) is list else list(row))
    except (TypeError, OverflowError):
        return None
    return np.frombuffer(flat, dtype=np.float64 if dtype.kind == "f" else np.int64)


def _columns_of_rows(signature: Signature, rows: list[Any]) -> list[Any]:
    for number, row in enumerate(rows):
        if not isinstance(row, (list, tuple, np.ndarray)):
            raise refusal(number, None, row, f"a list of {len(signature.fields)} values")
        _check_width(signature, number, len(row))
    return list(zip(*_not_empty(rows), strict=True))


def _rectangle(signature: Signature, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.ndim == 1 and len(array) == len(signature.fields):
        array = array.reshape(1, -1)
    if array.ndim != _ROWS_AND_FEATURES:
        raise InvalidInputError(
            f"The rows have the shape {array.shape}; needed is (rows, {len(signature.fields)}).",
            accepted=signature.names,
        )
    _check_width(signature, 0, array.shape[1])
    _not_empty(array)
    return array


def _check_width(signature: Signature, row: int, width: int) -> None:
    count = len(signature.fields)
    if width != count:
        raise InvalidInputError(
            f"Row {row} has {width} values; the model takes {count}: {listed(signature.names)}.",
            row=row, given=width, accepted=count,
        )  # fmt: skip


def _ordered_row(signature: Signature, number: int, row: Any) -> list[Any]:
    if not isinstance(row, dict):
        raise refusal(number, None, row, "an object with the fields by name, as in the other rows")
    if row.keys() != signature.plan.known:
        _check_names(signature, number, row)
    return [row[name] for name in signature.plan.names]


def _check_names(signature: Signature, number: int, names: Mapping[Any, Any]) -> None:
    for given in names:
        if given not in signature.plan.known:
            name = str(given)[:80]
            raise InvalidInputError(
                f"Row {number} has an unknown field {name!r}; {nearest(name, signature.names)}.",
                row=number, field=name, accepted=signature.names,
            )  # fmt: skip
    for name in signature.names:
        if name not in names:
            raise InvalidInputError(
                f"Row {number} lacks the field {name!r}; needed are: {listed(signature.names)}.",
                row=number, field=name, accepted=signature.names,
            )  # fmt: skip


def _ordered_frame(signature: Signature, data: Any) -> Any:
    frame, dtype = open_frame(data), signature.plan.dtype
    positions = _positions(signature, frame.names, named=frame.named)
    _not_empty(frame)
    if dtype is not None and (matrix := frame.matrix(positions, dtype)) is not None:
        return matrix
    return [frame.column(position) for position in positions]


def _positions(signature: Signature, names: list[str], *, named: bool) -> list[int]:
    """Return where a frame has the fields: by name, or by position where it or the model has no names."""
    if not signature.plan.known & set(names) and not (named and signature.named):
        _check_width(signature, 0, len(names))
        return list(range(len(names)))
    _check_names(signature, 0, dict.fromkeys(names))
    if len(names) != len(signature.fields):
        raise InvalidInputError(f"The frame has a column twice; needed are: {listed(signature.names)}.")
    places = {name: position for position, name in enumerate(names)}
    return [places[name] for name in signature.names]


def _listed_rows(data: Any) -> list[Any]:
    if isinstance(data, dict):
        return [data]
    if isinstance(data, (str, bytes)) or not hasattr(data, "__iter__"):
        raise InvalidInputError(f"{shown(data)} is no row; give an array, a DataFrame, or a list of rows.")
    rows = list(data)
    if rows and not any(isinstance(row, (dict, list, tuple, np.ndarray)) for row in rows):
        return [rows]  # one row, flat
    return rows


def _not_empty(rows: Any) -> Any:
    if getattr(rows, "ndim", 1) == 0 or len(rows) == 0:
        raise InvalidInputError("There are no rows; give at least one.")
    return rows


# ---- texts ----


def _texts(signature: Signature, data: Any) -> np.ndarray[Any, Any]:
    """Return a 1-D array of str objects: an array of numpy's own text would take the longest one's room for each."""
    return check_column(signature.fields[0], _not_empty(_listed_texts(signature, data))).data


def _listed_texts(signature: Signature, data: Any) -> list[Any]:
    if is_frame(data):
        frame = open_frame(data)
        (position,) = _positions(signature, frame.names, named=frame.named and len(frame.names) > 1)
        return list(_values(frame.column(position)))
    if isinstance(data, (str, dict)):
        data = [data]
    if getattr(data, "ndim", 1) == 0 or not hasattr(data, "__iter__"):
        raise InvalidInputError(f'{shown(data)} is no list of texts; give ["some text", ..].')
    return [_one_text(signature, number, row) for number, row in enumerate(data)]


def _one_text(signature: Signature, number: int, row: Any) -> Any:
    if isinstance(row, dict):
        return _ordered_row(signature, number, row)[0]
    if isinstance(row, (list, tuple, np.ndarray)):
        _check_width(signature, number, len(row))
        return row[0]
    return row


# ---- tensors ----


def _tensor(signature: Signature, data: Any) -> np.ndarray[Any, Any]:
    dtype, field = signature.plan.dtype or np.dtype(np.float64), signature.fields[0]
    if is_frame(data):
        needed = listed(["rows", *signature.shape])
        raise InvalidInputError(
            f"The model takes arrays of the shape ({needed}), no table; send nested lists or an array."
        )
    if not isinstance(data, (list, tuple, dict)) and hasattr(data, "__array__"):
        data = np.asarray(data)
    if isinstance(data, np.ndarray) and data.dtype.kind not in NUMERIC:
        data = data.tolist()
    if not isinstance(data, np.ndarray):
        return _tensor_of_rows(signature, _tensor_rows(signature, data), field, dtype)
    if data.shape == signature.shape:
        data = data.reshape(1, *signature.shape)
    if data.shape[1:] != signature.shape:
        needed = listed(["rows", *signature.shape])
        raise InvalidInputError(
            f"The rows have the shape {data.shape}; needed is ({needed}).", accepted=list(signature.shape)
        )
    return check_matrix(signature.fields, dtype, _not_empty(data))


def _tensor_rows(signature: Signature, data: Any) -> list[Any]:
    """Return the rows of nested lists, of objects with the one field, or of one of them alone."""
    if isinstance(data, dict):
        data = [data]
    if not isinstance(data, (list, tuple)):
        raise InvalidInputError(f"{shown(data)} is no tensor; give an array, or nested lists.")
    if _depth(data, len(signature.shape) + 1) == len(signature.shape):
        data = [data]
    return [
        _ordered_row(signature, number, row)[0] if isinstance(row, dict) else row for number, row in enumerate(data)
    ]


def _depth(nested: Any, at_most: int) -> int:
    depth = 0
    while depth < at_most and isinstance(nested, (list, tuple, np.ndarray)) and len(nested):
        depth, nested = depth + 1, nested[0]
    return at_most if isinstance(nested, dict) else depth


def _tensor_of_rows(signature: Signature, rows: list[Any], field: Field, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    values, per_row = _not_empty(rows), 1
    for length in signature.shape:
        for position, part in enumerate(values):
            if not isinstance(part, (list, tuple, np.ndarray)) or len(part) != length:
                raise refusal(position // per_row, field, part, f"nested lists of the shape {signature.shape}")
        values, per_row = list(chain.from_iterable(values)), per_row * length
    shape = (len(rows), *signature.shape)
    numbers = _numbers_of([values], dtype)
    if numbers is None:
        numbers = _checked_flat(field, values, prod(signature.shape))
    return np.asarray(check_matrix(signature.fields, dtype, numbers.reshape(shape)), order=signature.order)


def _checked_flat(field: Field, values: list[Any], per_row: int) -> np.ndarray[Any, Any]:
    try:
        return check_column(field, values).data
    except InvalidInputError as error:
        position = error.details["row"]
        raise refusal(position // per_row, field, values[position]) from None


# ---- anything ----


def _anything(signature: Signature, data: Any) -> Any:
    """Return rows for a model of which nothing is known: frames as they are, all else as an array."""
    del signature
    if library_of(data) in ("pandas", "polars"):
        return data
    if is_frame(data):
        frame = open_frame(data)
        columns = [_values(frame.column(position)) for position in range(len(frame.names))]
        data = list(zip(*columns, strict=True))
    return _not_empty(data if isinstance(data, np.ndarray) else _as_array(data))


def _values(column: Any) -> Any:
    return column.values if isinstance(column, Times) else column


def _as_array(data: Any) -> np.ndarray[Any, Any]:
    try:
        loose = np.asarray(data, dtype=object)
        if loose.ndim > _MOST_AXES:
            raise InvalidInputError(f"The rows are lists in lists, {loose.ndim} deep; at most {_MOST_AXES} are read.")
        _check_text_size(loose)
        return np.asarray(data)
    except MlnbError:
        raise
    except ValueError as error:
        raise InvalidInputError(f"The rows make no array: {error}.") from None


def _check_text_size(loose: np.ndarray[Any, Any]) -> None:
    """Refuse texts that numpy's array of them, which gives each the longest one's room, would be too large for."""
    longest = max((len(value) for value in loose.flat if isinstance(value, str)), default=0)
    if longest * loose.size * 4 > _LARGEST_TEXT_ARRAY:
        raise TooLargeError(
            f"{loose.size:,} texts of up to {longest:,} characters make too large an array; send fewer.",
            given=longest * loose.size,
        )


_BUILDERS: dict[str, Callable[[Sequence[Field], Any], Any]] = {"frame": build_pandas, "polars": build_polars}
_BY_CONTAINER: dict[str, Callable[[Signature, Any], Any]] = {
    "any": _anything,
    "array": _table,
    "frame": _table,
    "polars": _table,
    "tensor": _tensor,
    "texts": _texts,
}
