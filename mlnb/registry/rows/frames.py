"""Data frames of any library, read column by column, and built again for the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mlnb.errors import InvalidInputError, MissingLibraryError
from mlnb.registry.rows.columns import NUMERIC, Column, storage
from mlnb.registry.rows.times import Times, time_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlnb.registry.signature import Field

__all__ = ["Frame", "build_pandas", "build_polars", "is_frame", "library_of", "open_frame"]

_FRAMES = frozenset(
    {
        ("pandas", "DataFrame"),
        ("polars", "DataFrame"),
        ("polars", "LazyFrame"),
        ("pyarrow", "RecordBatch"),
        ("pyarrow", "Table"),
    }
)


class Frame(Protocol):
    """A data frame, read by position."""

    @property
    def names(self) -> list[str]:
        """Names of the columns, as text."""
        ...

    @property
    def named(self) -> bool:
        """Whether the columns were given names; pandas numbers them otherwise."""
        ...

    def __len__(self) -> int: ...

    def column(self, position: int) -> Any:
        """Return one column: numbers and plain times as an array, zoned times as Times, all else as a list."""
        ...

    def matrix(self, positions: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray[Any, Any] | None:
        """Return columns as one numeric matrix if that is cheap and loses no digit on the way to ``dtype``."""
        ...


def library_of(data: object) -> str | None:
    """Return 'pandas', 'polars' or 'pyarrow' if ``data`` is a frame of it, without importing any; else None."""
    for kind in type(data).__mro__:
        library = kind.__module__.partition(".")[0]
        if (library, kind.__name__) in _FRAMES:
            return library
    return None


def is_frame(data: object) -> bool:
    """Say whether ``data`` is a frame of pandas, polars or Arrow, without importing any."""
    return library_of(data) is not None


def open_frame(data: Any) -> Frame:
    """Return ``data``, for which :func:`is_frame` holds, as a Frame.

    Raises
    ------
    InvalidInputError
        If it is lazy.
    MissingLibraryError
        If narwhals, which reads what is not pandas, is not installed.
    """
    return _PandasFrame(data) if library_of(data) == "pandas" else _OtherFrame.of(data)


@dataclass(frozen=True, slots=True)
class _PandasFrame:
    frame: Any

    @property
    def names(self) -> list[str]:
        return [str(name) for name in self.frame.columns]

    @property
    def named(self) -> bool:
        return all(isinstance(name, str) for name in self.frame.columns)

    def __len__(self) -> int:
        return len(self.frame)

    def column(self, position: int) -> Any:
        series = self.frame.iloc[:, position]
        if isinstance(series.dtype, np.dtype) and series.dtype.kind in NUMERIC + "M":
            return series.to_numpy()
        if str(series.dtype).startswith("datetime64["):
            return Times(series.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(), zoned=True)
        return series.tolist()

    def matrix(self, positions: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray[Any, Any] | None:
        every = list(positions) == list(range(self.frame.shape[1]))
        chosen = self.frame if every else self.frame.iloc[:, list(positions)]
        array: np.ndarray[Any, Any] = chosen.to_numpy()
        if array.dtype.kind not in NUMERIC:
            return None
        widened = array.dtype.kind == "f" and dtype.kind in "iu"  # whole numbers beside fractions lose their last digit
        return None if widened and any(column.kind in "iu" for column in chosen.dtypes) else array


@dataclass(frozen=True, slots=True)
class _OtherFrame:
    """A frame that narwhals reads."""

    frame: Any

    @classmethod
    def of(cls, data: Any) -> _OtherFrame:
        try:
            import narwhals as nw
        except ImportError:
            raise MissingLibraryError(
                f"{type(data).__name__} is read with narwhals, which is not installed: pip install narwhals."
            ) from None
        if type(data).__name__ == "RecordBatch":
            import pyarrow as pa

            data = pa.Table.from_batches([data])
        try:
            return cls(nw.from_native(data, eager_only=True))
        except TypeError:
            raise InvalidInputError(f"A {type(data).__name__} has no rows yet; give its .collect().") from None

    @property
    def names(self) -> list[str]:
        return list(self.frame.columns)

    @property
    def named(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self.frame)

    def column(self, position: int) -> Any:
        series = self.frame[:, position]
        name = str(series.dtype)
        if name == "Date" or name.startswith("Datetime"):
            return Times(series.to_numpy(), zoned=getattr(series.dtype, "time_zone", None) is not None)
        held = storage(name)
        if held is not None and (held.kind == "f" or series.null_count() == 0):
            array: np.ndarray[Any, Any] = series.to_numpy()
            return array if array.dtype.kind in NUMERIC else series.to_list()
        return series.to_list()

    def matrix(self, positions: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray[Any, Any] | None:
        del positions, dtype  # its columns lie apart in memory; the signature joins them after checking each
        return None


def build_pandas(fields: Sequence[Field], given: np.ndarray[Any, Any] | Sequence[Column]) -> Any:
    """Return a pandas DataFrame of checked columns, or of one matrix that is not copied.

    Raises
    ------
    MissingLibraryError
    """
    try:
        import pandas as pd
    except ImportError:
        raise MissingLibraryError(
            "This model takes pandas DataFrames, and pandas is not installed: pip install pandas."
        ) from None
    if isinstance(given, np.ndarray):
        if {field.dtype for field in fields} == {given.dtype.name}:
            return pd.DataFrame(given, columns=[field.name for field in fields], copy=False)  # a copy may lie otherwise
        given = _split(given)
    return pd.DataFrame(
        {field.name: _pandas_column(pd, field, column) for field, column in zip(fields, given, strict=True)}
    )


def _split(matrix: np.ndarray[Any, Any]) -> list[Column]:
    return [Column(column, np.isnan(column)) for column in matrix.T]


def _pandas_column(pd: Any, field: Field, column: Column) -> Any:
    if field.categories:
        inner = field.dtype.removeprefix("category").strip("[]") or None
        kind = pd.CategoricalDtype(pd.Index(list(field.categories), dtype=inner), ordered=field.ordered)
        return pd.Categorical.from_codes(column.data, dtype=kind)
    return _PANDAS.get(field.kind, _pandas_number)(pd, field, column)


def _pandas_number(pd: Any, field: Field, column: Column) -> Any:
    dtype = column.data.dtype
    if dtype.name == field.dtype:
        return pd.Series(column.data)
    missing = np.zeros(len(column.data), dtype=bool) if column.missing is None else column.missing
    data = np.where(missing, np.zeros((), dtype), column.data)  # nobody sees what stands below NA, but it is compared
    make = {"f": pd.arrays.FloatingArray, "b": pd.arrays.BooleanArray}.get(dtype.kind, pd.arrays.IntegerArray)
    return pd.Series(make(data, missing)).astype(field.dtype)


def _pandas_time(pd: Any, field: Field, column: Column) -> Any:
    dtype, series = time_dtype(field.dtype), pd.Series(column.data)
    if dtype.zone is not None:
        series = series.dt.tz_localize("UTC").dt.tz_convert(dtype.zone)
    return series.astype(field.dtype)


def _pandas_any(pd: Any, field: Field, column: Column) -> Any:
    del field
    return pd.Series(column.data.tolist())  # whatever the values are


def _pandas_text(pd: Any, field: Field, column: Column) -> Any:
    return pd.Series(column.data, dtype=field.dtype)


_PANDAS: dict[str, Callable[[Any, Field, Column], Any]] = {
    "any": _pandas_any,
    "datetime": _pandas_time,
    "text": _pandas_text,
}


def build_polars(fields: Sequence[Field], given: np.ndarray[Any, Any] | Sequence[Column]) -> Any:
    """Return a polars DataFrame of checked columns; what is missing is null, also among floats.

    Raises
    ------
    MissingLibraryError
    """
    try:
        import polars as pl
    except ImportError:
        raise MissingLibraryError(
            "This model takes polars DataFrames, and polars is not installed: pip install polars."
        ) from None
    columns = _split(given) if isinstance(given, np.ndarray) else given
    return pl.DataFrame([_polars_column(pl, field, column) for field, column in zip(fields, columns, strict=True)])


def _polars_column(pl: Any, field: Field, column: Column) -> Any:
    if field.categories:
        values = [None if code < 0 else field.categories[code] for code in column.data.tolist()]
        return pl.Series(field.name, values, dtype=pl.Enum(list(field.categories)))
    return _POLARS.get(field.kind, _polars_number)(pl, field, column)


def _polars_number(pl: Any, field: Field, column: Column) -> Any:
    dtype = getattr(pl, field.dtype)
    if column.missing is None or column.data.dtype.kind == "f":
        return pl.Series(field.name, np.ascontiguousarray(column.data), dtype=dtype, nan_to_null=True)
    pairs = zip(column.data.tolist(), column.missing.tolist(), strict=True)
    return pl.Series(field.name, [None if missing else value for value, missing in pairs], dtype=dtype)


def _polars_time(pl: Any, field: Field, column: Column) -> Any:
    dtype = time_dtype(field.dtype)
    if dtype.unit == "D":
        return pl.Series(field.name, column.data, dtype=pl.Date)
    series = pl.Series(field.name, column.data, dtype=pl.Datetime(dtype.unit))
    return series if dtype.zone is None else series.dt.replace_time_zone("UTC").dt.convert_time_zone(dtype.zone)


def _polars_text(pl: Any, field: Field, column: Column) -> Any:
    return pl.Series(field.name, column.data.tolist(), dtype=getattr(pl, field.dtype))


_POLARS: dict[str, Callable[[Any, Field, Column], Any]] = {"datetime": _polars_time, "text": _polars_text}
