"""Columns checked against their fields: what fits is converted, what does not is named by row and field."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.errors import InvalidInputError
from mlnb.registry.rows.times import Times, from_nanoseconds, moment, rescaled, time_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlnb.registry.signature import Field

__all__ = ["NUMERIC", "Column", "check_column", "check_matrix", "is_missing", "listed", "refusal", "shown", "storage"]

NUMERIC = "fiub"
"""numpy's kinds of numbers and booleans."""

_ACCEPTED = {
    "any": "a number, text, true, false or null",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "text": "text",
}
_WIDTHS = [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
_NUMPY = {name: np.dtype(name) for name in (*_WIDTHS, "bool", "float16", "float32", "float64", np.dtype("g").name)}
_ARROW = {"double": "float64", "float": "float32", "halffloat": "float16"}
_STORAGE = (
    _NUMPY
    | {f"{_name[0].upper()}{_name[1:]}".replace("Uint", "UInt"): dtype for _name, dtype in _NUMPY.items()}  # Int64
    | {f"{_name}[pyarrow]": dtype for _name, dtype in _NUMPY.items()}
    | {f"{arrow}[pyarrow]": _NUMPY[_name] for arrow, _name in _ARROW.items()}
    | {"boolean": np.dtype(bool), "Boolean": np.dtype(bool)}
)
_UNITS = {"D": "day", "h": "hour", "m": "minute", "s": "second", "ms": "ms", "us": "µs", "ns": "ns"}
_PLAIN = frozenset({int, float, bool, type(None)})
_NEVER_MISSING = frozenset({str, int, bool, list, dict, tuple})
_LONGEST = 80  # characters of a value or name that a message shows

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _LONGEST
_short.maxlevel = 3  # repr itself fails on what is nested a thousand deep


@dataclass(frozen=True, slots=True)
class Column:
    """One column that fits its field.

    Attributes
    ----------
    data : ndarray of shape (n,)
        Numbers and booleans in the field's numpy dtype (missing: NaN, else 0); times in UTC (NaT); text and values of
        any kind as objects (None); positions among the field's categories (-1).
    missing : ndarray of bool of shape (n,), or None
        None where nothing is missing, and for times, text and categories, whose values say it themselves.
    """

    data: np.ndarray[Any, Any]
    missing: np.ndarray[Any, Any] | None = None


def storage(dtype: str) -> np.dtype[Any] | None:
    """Return the numpy dtype that holds the numbers or booleans of a column, None where it holds neither.

    Examples
    --------
    >>> storage("Int64"), storage("boolean"), storage("double[pyarrow]"), storage("category")
    (dtype('int64'), dtype('bool'), dtype('float64'), None)
    """
    return _STORAGE.get(dtype)


def is_missing(value: object) -> bool:
    """Say whether a value is None, NaN, NaT or the NA of pandas."""
    kind = type(value)
    if kind in _NEVER_MISSING:
        return False
    if value is None or kind.__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, (Real, Decimal, np.datetime64)) and bool(value != value)  # noqa: PLR0124 - NaN


def check_column(field: Field, values: Any) -> Column:
    """Convert one column, or name the first value that does not fit.

    Parameters
    ----------
    field : Field
    values : sequence, ndarray of shape (n,), or Times

    Raises
    ------
    InvalidInputError
    """
    kind = "category" if field.categories else field.kind
    if isinstance(values, Times) and kind != "datetime":
        values = values.values
    return _CHECKS[kind](field, values)


def check_matrix(fields: Sequence[Field], dtype: np.dtype[Any], matrix: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Convert numbers of shape (n, len(fields)) to the one dtype of the fields, or name the first that does not fit.

    What has that dtype already is returned as it is, not copied. With one field, further axes are its own (a tensor).

    Raises
    ------
    InvalidInputError
    """
    converted, fits = _cast(matrix, dtype)
    if fits.all():
        return converted
    missing = np.isnan(matrix) if matrix.dtype.kind == "f" else np.zeros(matrix.shape, dtype=bool)
    nullable = np.array([field.nullable for field in fields]) if len(fields) > 1 else np.array(fields[0].nullable)
    fits |= missing & nullable & (dtype.kind == "f")
    if not fits.all():
        row, *where = (int(index) for index in np.argwhere(~fits)[0])
        field = fields[where[0]] if len(fields) > 1 else fields[0]
        raise refusal(row, field, matrix[(row, *where)].item())
    return _same_nan(converted, missing)


def listed(names: Sequence[Any]) -> str:
    """Write names with commas, the first eight of them."""
    named = ", ".join(str(name) for name in names[:8])
    return named + (f" and {len(names) - 8} more" if len(names) > 8 else "")  # noqa: PLR2004


def shown(value: object) -> str:
    """Write a value of any size and depth in one short piece.

    Examples
    --------
    >>> shown("x" * 10**6)[:12], len(shown([[[[[1]]]]] * 10**6)) < 100
    ("'xxxxxxxxxxx", True)
    """
    if isinstance(value, np.generic):
        value = value.item()
    if is_missing(value):
        return "a missing value (null or NaN)"
    if isinstance(value, int) and value.bit_length() > 256:  # noqa: PLR2004 - bits; Python refuses to write longest ones
        return f"a whole number of {value.bit_length()} bits"
    return _short.repr(value)[:_LONGEST]


def refusal(row: int, field: Field | None, given: Any, accepted: str | None = None) -> InvalidInputError:
    """Return the error that names row, field, what was given and what is accepted."""
    accepted = accepted or (None if field is None else _accepted(field, given))
    where = f"Row {row}" if field is None else f"Row {row}, field {field.name!r}"
    name = None if field is None else field.name
    return InvalidInputError(
        f"{where}: got {shown(given)}, needs {accepted}.", row=row, field=name, given=shown(given), accepted=accepted
    )


def _accepted(field: Field, given: Any) -> str:
    if field.categories:
        return f"one of {listed(field.categories)}"
    if field.kind == "datetime":
        return _accepted_time(field)
    if field.kind == "number" and isinstance(given, (float, int)) and not is_missing(given):
        return "a finite number" + ("" if field.dtype.lower() == "float64" else f" within {field.dtype}")
    dtype = storage(field.dtype)
    if field.kind == "integer" and dtype is not None and dtype.itemsize < 8:  # noqa: PLR2004 - bytes
        limits = np.iinfo(dtype)
        return f"a whole number from {limits.min} to {limits.max}"
    return _ACCEPTED[field.kind]


def _accepted_time(field: Field) -> str:
    dtype = time_dtype(field.dtype)
    if dtype.unit == "D":
        return "a date in ISO 8601, such as 2026-01-31"
    form = "with its time zone, such as {}Z" if dtype.zone else "without a time zone, such as {}"
    return f"a date and time in ISO 8601 {form.format('2026-01-31T12:00:00')}, no finer than 1 {_UNITS[dtype.unit]}"


def _cast(array: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the numbers in another dtype, and which of them mean the same in it."""
    if array.dtype == dtype and dtype.kind == "f":
        return array, np.isfinite(array)
    if dtype.kind == "f" and array.dtype.kind in "iu":
        array = array.astype(np.float64)  # as text and JSON read it; at once to float32 may round otherwise
    with np.errstate(over="ignore", invalid="ignore"):
        converted = np.asarray(array, dtype=dtype)
    if dtype.kind == "f":
        return converted, np.isfinite(converted)
    fits = converted == array
    if dtype.kind in "iu" and array.dtype.kind == "f":  # some processors turn 2**63 into 2**63 - 1
        fits &= array < float(np.iinfo(dtype).max) + 1
    return converted, fits


def _same_nan(array: np.ndarray[Any, Any], missing: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Give every missing number the same bits; NaN has many."""
    plain = np.full(int(missing.sum()), np.nan, dtype=array.dtype)
    if array[missing].tobytes() == plain.tobytes():
        return array
    array = array.copy("K")
    array[missing] = np.nan
    return array


def _numbers(field: Field, values: Any) -> Column:
    dtype = storage(field.dtype)
    assert dtype is not None, field  # noqa: S101 - a numeric field has a numeric dtype
    array, missing = _number_array(field, dtype, values)
    converted, fits = _cast(array, dtype)
    if missing is not None:
        fits = (fits | missing) if field.nullable else (fits & ~missing)
    if not fits.all():
        row = int(np.argmin(fits))
        raise refusal(row, field, values[row])
    if missing is None or not missing.any():
        return Column(converted)
    converted = converted.copy()
    converted[missing] = np.nan if dtype.kind == "f" else 0
    return Column(converted, missing)


def _number_array(
    field: Field, dtype: np.dtype[Any], values: Any
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
    """Return the numbers of a column, with 0 where one is missing, and which are."""
    if isinstance(values, np.ndarray) and values.dtype.kind in NUMERIC:
        return values, np.isnan(values) if values.dtype.kind == "f" else None
    if not set(map(type, values)) <= _PLAIN:
        values = [_number(row, field, value) for row, value in enumerate(values)]
    missing = np.array([value is None or value != value for value in values], dtype=bool)  # noqa: PLR0124 - NaN
    known = [0 if lost else value for value, lost in zip(values, missing.tolist(), strict=True)]
    return (_floats(known) if dtype.kind == "f" else _wholes(field, dtype, known)), missing


def _number(row: int, field: Field, value: Any) -> Any:
    if is_missing(value):
        return None
    if not isinstance(value, (Real, np.bool_, Decimal)):
        raise refusal(row, field, value)
    return value.item() if isinstance(value, np.generic) else value


def _floats(numbers: list[Any]) -> np.ndarray[Any, Any]:
    try:
        return np.array(numbers, dtype=np.float64)
    except OverflowError:  # whole numbers of more than 308 digits
        return np.array([_float(number) for number in numbers])


def _float(number: Any) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


def _wholes(field: Field, dtype: np.dtype[Any], numbers: list[Any]) -> np.ndarray[Any, Any]:
    """Return whole numbers to their last digit, which an array of floats, or of mixed sizes, would lose."""
    array = np.array(numbers)
    if array.dtype.kind in "iub":
        return array
    low, high = (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    for row, number in enumerate(numbers):
        if abs(number) == float("inf") or number != int(number) or not low <= number <= high:
            raise refusal(row, field, number)
    return np.array([int(number) for number in numbers], dtype=dtype)


def _texts(field: Field, values: Any) -> Column:
    return _objects([_text(row, field, value) for row, value in enumerate(_plain(values))])


def _text(row: int, field: Field, value: Any) -> str | None:
    if type(value) is str and value.isascii():
        return value
    if field.nullable and is_missing(value):
        return None
    if not isinstance(value, str):
        raise refusal(row, field, value)
    return _encodable(row, field, value)


def _encodable(row: int, field: Field, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can escape half a character; Arrow's strings cannot hold it
        raise refusal(row, field, value, "text without lone surrogates (half of a \\ud83d\\ude00 pair)") from None
    return str(value)


def _anything(field: Field, values: Any) -> Column:
    return _objects([_scalar(row, field, value) for row, value in enumerate(_plain(values))])


def _scalar(row: int, field: Field, value: Any) -> Any:
    if is_missing(value):
        return None
    if isinstance(value, str):
        return _encodable(row, field, value)
    if not isinstance(value, (Real, np.bool_)) or (isinstance(value, float) and abs(value) == float("inf")):
        raise refusal(row, field, value)
    return value.item() if isinstance(value, np.generic) else value


def _categories(field: Field, values: Any) -> Column:
    positions = {category: position for position, category in enumerate(field.categories)}
    codes = [_code(row, field, value, positions) for row, value in enumerate(_plain(values))]
    return Column(np.array(codes, dtype=np.int64))


def _code(row: int, field: Field, value: Any, positions: dict[Any, int]) -> int:
    if is_missing(value) and field.nullable:
        return -1
    try:
        return positions[value]
    except (KeyError, TypeError):  # TypeError: a list has no hash
        raise refusal(row, field, value) from None


def _times(field: Field, values: Any) -> Column:
    dtype = time_dtype(field.dtype)
    if isinstance(values, np.ndarray) and values.dtype.kind == "M":
        values = Times(values, zoned=False)
    if isinstance(values, Times):
        given: Any = values.values
        converted, exact = rescaled(values.values, dtype)
        fits = exact & (np.isnat(values.values) | (values.zoned == (dtype.zone is not None)))
    else:
        given = _plain(values)
        moments = [_moment(row, field, value, zoned=dtype.zone is not None) for row, value in enumerate(given)]
        converted, exactly = from_nanoseconds(moments, dtype)
        fits = np.array(exactly)
    if not field.nullable:
        fits = fits & ~np.isnat(converted)
    if not fits.all():
        row = int(np.argmin(fits))
        raise refusal(row, field, str(given[row]) if isinstance(given[row], np.datetime64) else given[row])
    return Column(converted)


def _moment(row: int, field: Field, value: Any, *, zoned: bool) -> int | None:
    if is_missing(value):
        return None
    try:
        nanoseconds, has_zone = moment(value)
    except (ValueError, OverflowError):
        raise refusal(row, field, value) from None
    if has_zone is not zoned:
        raise refusal(row, field, value)
    return nanoseconds


def _plain(values: Any) -> Any:
    """Return the values as Python's own; a column of times keeps its array, whose list would be of plain numbers."""
    return values.tolist() if isinstance(values, np.ndarray) and values.dtype.kind != "M" else values


def _objects(values: list[Any]) -> Column:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return Column(array)


_CHECKS: dict[str, Callable[[Field, Any], Column]] = {
    "any": _anything,
    "boolean": _numbers,
    "category": _categories,
    "datetime": _times,
    "integer": _numbers,
    "number": _numbers,
    "text": _texts,
}
