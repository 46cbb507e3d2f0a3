"""What an example says of one column: its kind, its range, and the baseline that drift is measured against."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.errors import NotServableError
from mlnb.registry.rows.columns import NUMERIC, is_missing, listed, shown, storage
from mlnb.registry.rows.times import from_nanoseconds, is_time_dtype, moment, moment_text, time_dtype
from mlnb.registry.signature import Field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mlnb.registry.signature import Kind

__all__ = ["describe", "describe_tensor", "frequencies", "quantiles"]

_KINDS: dict[str, Kind] = {"f": "number", "i": "integer", "u": "integer", "b": "boolean"}
_TEXT_DTYPES = frozenset(
    {"object", "str", "string", "string[pyarrow]", "large_string[pyarrow]", "String", "Categorical"}
)
_KINDS_OF_CATEGORIES: dict[type, Kind] = {str: "text", bool: "boolean", int: "integer", float: "number"}
_ACCEPTED = "accepted are numbers, booleans, text, categories, and times as datetime64. Convert it first."
_STEPS = np.arange(21) / 20
_MOST_FREQUENT = 20
_LONGEST_LISTED = 256  # characters
_LARGEST_EXAMPLE = 4096  # values of a tensor's row that is kept
_LARGEST_SAMPLE = 10**6  # values of a tensor that its quantiles are taken from


@dataclass(frozen=True, slots=True)
class _Sample:
    """The known values of a column: numbers and booleans as an array, else a list or an array of times."""

    dtype: str
    known: Any
    nullable: bool


def describe(name: str, column: Any) -> Field:
    """Return the field that a column of the example makes.

    Parameters
    ----------
    name : str
    column : pandas Series, narwhals Series or 1-D ndarray

    Raises
    ------
    NotServableError
        If it holds what no request could bring.
    """
    library: str = type(column).__module__.partition(".")[0]
    read: Callable[[Any], _Sample] = _READERS.get(library, _read_array)
    sample = read(column)
    if sample.dtype == "category":
        return _of_categories(name, sample, column.cat.categories, ordered=bool(column.cat.ordered))
    if sample.dtype.startswith("Enum"):
        return _of_categories(name, sample, np.array(column.dtype.categories, dtype=object))
    if storage(sample.dtype) is not None:
        return _of_numbers(name, sample)
    if is_time_dtype(sample.dtype):
        return _of_times(name, sample)
    if sample.dtype in _TEXT_DTYPES:
        return _of_objects(name, sample)
    raise NotServableError(f"The example's column {name!r} has the type {sample.dtype}; {_ACCEPTED}")


def describe_tensor(array: np.ndarray[Any, Any]) -> Field:
    """Return the one field of an example of tensors, of shape (n, ...).

    The range and the missing values are those of all its values; the quantiles, of a million of them at most, evenly
    picked. The example is the first row without missing values, unless a row has more than 4,096 values.

    Raises
    ------
    NotServableError
    """
    if array.dtype.kind not in NUMERIC:
        raise NotServableError(f"The example is an array of the type {array.dtype}; accepted are numbers and booleans.")
    flat = array.reshape(-1)
    sample = _Sample(array.dtype.name, flat[:: -(-flat.size // _LARGEST_SAMPLE)], nullable=False)
    field = _of_numbers("tensor", sample)
    known = np.isfinite(array.reshape(len(array), -1)).all(axis=1)
    small = array[0].size <= _LARGEST_EXAMPLE and known.any()
    return replace(
        field,
        nullable=array.dtype.kind == "f" and bool(np.isnan(flat).any()),
        example=array[int(np.argmax(known))].tolist() if small else None,
    )


def quantiles(values: np.ndarray[Any, Any]) -> tuple[float, ...]:
    """Return the values at 0, 5, .., 100 %, by ``numpy.quantile`` with its ``linear`` method in float64.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Only the finite ones count.

    Returns
    -------
    tuple of float
        21 of them, or none where there are no values.

    Examples
    --------
    >>> quantiles(np.arange(21))[:3]
    (0.0, 1.0, 2.0)
    """
    known = np.sort(
        _finite(np.ascontiguousarray(values, dtype=np.float64))
    )  # numpy finds them faster among sorted ones
    if not len(known):
        return ()
    scale = 2.0 if known[-1] / 2 - known[0] / 2 > np.finfo(np.float64).max / 2 else 1.0  # or their distance overflows
    return tuple((np.quantile(known / scale, _STEPS, method="linear") * scale).tolist())


def frequencies(values: Iterable[Any]) -> tuple[tuple[Any, float], ...]:
    """Return the 20 most frequent values with their shares, most frequent first, ties by value.

    Text of more than 256 characters counts, and is not listed.

    Examples
    --------
    >>> frequencies(["b", "a", "b", "c"])
    (('b', 0.5), ('a', 0.25), ('c', 0.25))
    """
    counted = Counter(values)
    total = counted.total()
    short = [(value, count) for value, count in counted.items() if not _is_long(value)]
    ranked = sorted(short, key=lambda pair: (-pair[1], pair[0]))
    return tuple((value, count / total) for value, count in ranked[:_MOST_FREQUENT])


def _finite(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    finite = np.isfinite(values)
    return values if finite.all() else values[finite]


def _is_long(value: object) -> bool:
    return isinstance(value, str) and len(value) > _LONGEST_LISTED


def _read_pandas(series: Any) -> _Sample:
    if str(series.dtype).startswith("Sparse"):
        series = series.sparse.to_dense()
    dtype, known = str(series.dtype), series.dropna()
    held = storage(dtype)
    values = known.tolist() if held is None else known.to_numpy(dtype=held)
    return _Sample(dtype, values, nullable=len(known) < len(series))


def _read_narwhals(series: Any) -> _Sample:
    dtype, known = str(series.dtype), series.drop_nulls()
    nullable = len(known) < len(series)
    held = storage(dtype)
    if held is None:
        return _Sample(dtype, known.to_numpy() if is_time_dtype(dtype) else known.to_list(), nullable)
    values = known.to_numpy().astype(held)
    present = values[~np.isnan(values)] if held.kind == "f" else values
    return _Sample(dtype, present, nullable or len(present) < len(values))


def _read_array(array: np.ndarray[Any, Any]) -> _Sample:
    if array.dtype.kind in "OUT":
        values = [value for value in array.tolist() if not is_missing(value)]
        return _Sample("object", values, nullable=len(values) < len(array))
    missing = np.isnan(array) if array.dtype.kind == "f" else np.isnat(array) if array.dtype.kind in "mM" else None
    known = array if missing is None or not missing.any() else array[~missing]
    return _Sample(array.dtype.name, known, nullable=len(known) < len(array))


_READERS: dict[str, Callable[[Any], _Sample]] = {"narwhals": _read_narwhals, "pandas": _read_pandas}


def _of_numbers(name: str, sample: _Sample) -> Field:
    kind = _KINDS[sample.known.dtype.kind]
    finite = _finite(np.ascontiguousarray(sample.known))
    return Field(
        name=name, kind=kind, dtype=sample.dtype, nullable=sample.nullable,
        minimum=float(finite.min()) if len(finite) else None,
        maximum=float(finite.max()) if len(finite) else None,
        quantiles=() if kind == "boolean" else quantiles(finite),
        frequencies=frequencies(finite.tolist()) if kind == "boolean" else (),
        example=finite[0].item() if len(finite) else None,
    )  # fmt: skip


def _of_times(name: str, sample: _Sample) -> Field:
    if not len(sample.known):
        return Field(name=name, kind="datetime", dtype=sample.dtype, nullable=sample.nullable)
    dtype = time_dtype(sample.dtype)
    (first,), _ = from_nanoseconds([moment(sample.known[0])[0]], dtype)
    example = moment_text(first, zoned=dtype.zone is not None)
    return Field(name=name, kind="datetime", dtype=sample.dtype, nullable=sample.nullable, example=example)


def _of_categories(name: str, sample: _Sample, categories: Any, *, ordered: bool = False) -> Field:
    values = categories.tolist()
    kinds = {type(value) for value in values}
    kind = _KINDS_OF_CATEGORIES.get(kinds.pop()) if len(kinds) == 1 else None
    if kind is None or (kind == "number" and not np.isfinite(values).all()):
        given = f"such as {listed([shown(value) for value in values[:2]])}" if values else "of which there are none"
        raise NotServableError(
            f"The example's column {name!r} has categories that are not all text, numbers or booleans, {given}; "
            "fit on the values themselves, or on text: X[column].astype(str).astype('category')."
        )
    return Field(
        name=name, kind=kind, dtype=_category_dtype(sample.dtype, categories), nullable=sample.nullable,
        categories=tuple(values), ordered=ordered, frequencies=frequencies(sample.known),
        example=sample.known[0] if sample.known else None,
    )  # fmt: skip


def _category_dtype(dtype: str, categories: Any) -> str:
    """Return the name of pandas' category dtype, with that of the categories where pandas would not infer it."""
    if dtype != "category":
        return "Enum"
    inferred = type(categories)(categories.tolist())
    return dtype if inferred.dtype == categories.dtype else f"{dtype}[{categories.dtype}]"


def _of_objects(name: str, sample: _Sample) -> Field:
    known = sample.known
    if all(isinstance(value, str) for value in known) and (known or sample.dtype != "object"):
        return Field(name=name, kind="text", dtype=sample.dtype, nullable=sample.nullable,
                     frequencies=frequencies(known), example=known[0] if known else None)  # fmt: skip
    if known and all(isinstance(value, (Real, np.bool_)) for value in known):
        return _of_numbers(name, _as_numbers(name, sample))
    kinds = sorted({type(value).__name__ for value in known}) or ["nothing known"]
    raise NotServableError(
        f"The example's column {name!r} mixes kinds of values ({listed(kinds)}); "
        "accepted are columns of numbers, booleans or text. Convert it first."
    )


def _as_numbers(name: str, sample: _Sample) -> _Sample:
    """Give numbers that came as objects the dtype that holds them."""
    flags = all(isinstance(value, (bool, np.bool_)) for value in sample.known)
    whole = all(isinstance(value, (int, np.integer)) for value in sample.known)
    dtype = "float64" if sample.nullable else "bool" if flags else "int64" if whole else "float64"
    try:
        known = np.array(sample.known, dtype=dtype)
    except OverflowError:
        raise NotServableError(f"The example's column {name!r} has numbers beyond 64 bits. Convert it first.") from None
    return _Sample(dtype, known, sample.nullable)
