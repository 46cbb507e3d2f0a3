"""What a model takes and gives: names, types, ranges and one example row, and rows checked against them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mlnb.errors import InvalidInputError, MissingLibraryError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Field", "Kind", "Signature", "is_frame", "is_missing", "listed"]

Kind = Literal["number", "integer", "boolean", "text", "any"]
Container = Literal["array", "frame", "any"]

_ACCEPTED: dict[Kind, str] = {
    "any": "a number, text, true, false or null",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "text": "text",
}
_NUMERIC = "fiub"  # numpy's kinds
_HUGE = 10**308


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One feature.

    Attributes
    ----------
    name : str
    kind : {'number', 'integer', 'boolean', 'text', 'any'}
        ``any`` where the model was fitted on a frame and no example says what its columns hold.
    dtype : str
        Of the column the model is given, as numpy or pandas names it.
    nullable : bool
        Whether the example has missing values here, so that requests may too.
    minimum, maximum : float or None
        Over the example; for the reader, not enforced.
    categories : tuple of str
        For pandas' ``category`` columns: the only values accepted.
    example : float, int, bool, str or None
        From the example's first row.
    """

    name: str
    kind: Kind
    dtype: str
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] = ()
    example: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The rows a model takes, and its class labels.

    Attributes
    ----------
    fields : tuple of Field
        In the model's order; empty when nothing is known, and then any rows are passed on.
    container : {'array', 'frame', 'any'}
        What ``predict`` is given: a numpy array, a pandas DataFrame, or an array of whatever came.
    labels : tuple or None
        The classes of a classifier, in the order of its probabilities.
    probabilities : bool
        Whether the model has ``predict_proba``.
    order : {'C', 'F'}
        How the example lies in memory, row by row or column by column. Rows that come as lists are laid out alike: BLAS
        rounds the last digit by the layout, and answers are to equal ``model.predict`` to that digit.

    Examples
    --------
    >>> from mlnb.registry.inference import infer_signature
    >>> signature = infer_signature(None, np.array([[1.5, 2.0], [0.5, 4.0]]))
    >>> signature.names
    ('x0', 'x1')
    >>> signature.coerce([{"x1": 3, "x0": 1}])
    array([[1., 3.]])
    """

    fields: tuple[Field, ...] = ()
    container: Container = "any"
    labels: tuple[Any, ...] | None = None
    probabilities: bool = False
    order: Literal["C", "F"] = "C"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fields, in order."""
        return tuple(field.name for field in self.fields)

    @property
    def example(self) -> dict[str, Any] | None:
        """The example row by name, None if none was given."""
        row = {field.name: field.example for field in self.fields}
        return row if any(value is not None for value in row.values()) else None

    def to_json(self) -> dict[str, Any]:
        """Return the stored form."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Signature:
        """Read the stored form."""
        fields = tuple(Field(**(field | {"categories": tuple(field["categories"])})) for field in stored["fields"])
        labels = None if stored["labels"] is None else tuple(stored["labels"])
        return cls(**(dict(stored) | {"fields": fields, "labels": labels}))

    def coerce(self, data: Any) -> Any:
        """Return ``data`` as the rows the model takes.

        Parameters
        ----------
        data : array, DataFrame, list of lists or list of dicts
            ``(n, len(fields))``; where the fields are known, one row may also come as a flat list, a 1-D array or a
            dict.

        Returns
        -------
        ndarray of shape (n, len(fields)), or DataFrame
            Of the example's dtypes, in the model's column order.

        Raises
        ------
        InvalidInputError
            With the first row and field that do not fit, what was given and what is accepted.
        """
        if self.container == "any":
            return data if is_frame(data) else _not_empty(_as_array(data))
        ordered = self._in_order(data)
        if isinstance(ordered, np.ndarray):
            return self._build(self._checked_matrix(ordered))
        return self._build(
            [self._checked_column(field, column) for field, column in zip(self.fields, ordered, strict=True)]
        )

    @property
    def _uniform_dtype(self) -> np.dtype[Any] | None:
        """The one numeric dtype of all fields, None if they differ or hold text."""
        dtypes = {field.dtype for field in self.fields}
        if len(dtypes) != 1 or self.fields[0].kind in ("text", "any"):
            return None
        return np.dtype(dtypes.pop())

    def _in_order(self, data: Any) -> Any:
        """Return the columns in the model's order and number: as one numeric matrix where all have one dtype."""
        if is_frame(data):
            return self._ordered_frame(data)
        if isinstance(data, np.ndarray):
            return self._as_matrix_or_columns(self._rectangle(data))
        rows = _listed_rows(data)
        if any(isinstance(row, dict) for row in rows):
            rows = [self._ordered_row(number, row) for number, row in enumerate(rows)]
        matrix = self._as_matrix(rows)
        return self._as_columns(rows) if matrix is None else matrix

    def _as_matrix(self, rows: list[Any]) -> np.ndarray[Any, Any] | None:
        """Return the rows as one array if all fields have one dtype and all values are numbers."""
        if self._uniform_dtype is None:
            return None
        try:
            array = np.asarray(rows, order=self.order)
        except (ValueError, OverflowError):  # ragged, or a whole number of 20 digits; said by row
            return None
        numeric = array.dtype.kind in _NUMERIC and array.ndim == 2  # noqa: PLR2004 - rows by features
        return self._rectangle(array) if numeric else None

    def _as_columns(self, rows: list[Any]) -> list[Any]:
        for number, row in enumerate(rows):
            if not isinstance(row, (list, tuple, np.ndarray)):
                raise _refusal(number, None, row, f"a list of {len(self.fields)} values")
            self._check_width(number, len(row))
        return list(zip(*_not_empty(rows), strict=True))

    def _as_matrix_or_columns(self, array: np.ndarray[Any, Any]) -> Any:
        return array if self._uniform_dtype is not None and array.dtype.kind in _NUMERIC else list(array.T)

    def _rectangle(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if array.ndim == 1 and len(array) == len(self.fields):
            array = array.reshape(1, -1)
        if array.ndim != 2:  # noqa: PLR2004 - rows by features
            raise InvalidInputError(
                f"The rows have the shape {array.shape}; needed is (rows, {len(self.fields)}).", accepted=self.names
            )
        self._check_width(0, array.shape[1])
        _not_empty(array)
        return array

    def _check_width(self, row: int, width: int) -> None:
        if width != len(self.fields):
            raise InvalidInputError(
                f"Row {row} has {width} values; the model takes {len(self.fields)}: {listed(self.names)}.",
                row=row,
                given=width,
                accepted=len(self.fields),
            )

    def _ordered_row(self, number: int, row: Any) -> list[Any]:
        if not isinstance(row, dict):
            raise _refusal(number, None, row, "an object with the fields by name, as in the other rows")
        for name in row:
            if name not in self.names:
                raise InvalidInputError(
                    f"Row {number} has an unknown field {name!r}; {nearest(name, self.names)}.",
                    row=number, field=name, accepted=self.names,
                )  # fmt: skip
        for name in self.names:
            if name not in row:
                raise InvalidInputError(
                    f"Row {number} lacks the field {name!r}; needed are: {listed(self.names)}.",
                    row=number, field=name, accepted=self.names,
                )  # fmt: skip
        return [row[name] for name in self.names]

    def _ordered_frame(self, frame: Any) -> Any:
        columns = [str(column) for column in frame.columns]
        if not set(self.names) & set(columns):  # a frame for a model that knows no names: by position
            return self._as_matrix_or_columns(self._rectangle(frame.to_numpy()))
        self._ordered_row(0, dict.fromkeys(columns))
        if len(columns) != len(self.fields):
            raise InvalidInputError(f"The frame has a column twice; needed are: {listed(self.names)}.")
        ordered = _not_empty(frame)[list(self.names)]
        if self._uniform_dtype is not None and (array := ordered.to_numpy()).dtype.kind in _NUMERIC:
            return array
        return [ordered[name].tolist() for name in self.names]

    def _checked_matrix(self, matrix: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Convert a numeric matrix to the one dtype of the fields, or name the first cell that does not fit."""
        dtype = self._uniform_dtype
        with np.errstate(over="ignore", invalid="ignore"):
            converted = np.asarray(matrix, dtype=dtype)
        if converted.dtype.kind == "f":
            fits = np.isfinite(converted)
            if not fits.all() and any(field.nullable for field in self.fields):
                fits |= np.isnan(converted) & np.array([field.nullable for field in self.fields])
        else:
            fits = converted == matrix
        if not fits.all():
            row, column = np.argwhere(~fits)[0]
            raise _refusal(int(row), self.fields[column], matrix[row, column].item())
        return converted

    def _checked_column(self, field: Field, values: Sequence[Any]) -> np.ndarray[Any, Any]:
        """Convert one column, or name the first value that does not fit."""
        if field.kind == "any":
            return np.array([_scalar(row, field, value) for row, value in enumerate(values)], dtype=object)
        if field.kind == "text":
            return np.array([_text(row, field, value) for row, value in enumerate(values)], dtype=object)
        numbers = np.array([_number(row, field, value) for row, value in enumerate(values)])
        if numbers.dtype.kind == "O":  # whole numbers of 20 digits, or more than a float holds
            numbers = np.array([min(max(number, -_HUGE), _HUGE) for number in numbers], dtype=float)
            numbers[abs(numbers) == _HUGE] = np.inf
        alone = Signature(fields=(field,), container="array")
        return alone._checked_matrix(numbers.reshape(-1, 1))[:, 0]

    def _build(self, checked: Any) -> Any:
        if self.container == "array":
            return checked if isinstance(checked, np.ndarray) else _joined(checked)
        try:
            import pandas as pd
        except ImportError:
            raise MissingLibraryError(
                "This model takes pandas DataFrames, and pandas is not installed: pip install pandas."
            ) from None
        if isinstance(checked, np.ndarray):
            return pd.DataFrame(checked, columns=list(self.names), copy=False)  # a copy may be laid out otherwise
        return pd.DataFrame(
            {
                field.name: pd.Categorical(column, categories=list(field.categories))
                if field.dtype == "category"
                else pd.Series(column.tolist() if field.kind == "any" else column, dtype=_pandas_dtype(field))
                for field, column in zip(self.fields, checked, strict=True)
            }
        )


def is_missing(value: object) -> bool:
    """Say whether a value is None, NaN or the NA of pandas."""
    return value is None or type(value).__name__ == "NAType" or (isinstance(value, Real) and bool(value != value))  # noqa: PLR0124 - NaN


def is_frame(data: object) -> bool:
    """Say whether ``data`` is a pandas DataFrame, without importing pandas."""
    return type(data).__module__.startswith("pandas") and hasattr(data, "columns")


def _as_array(data: Any) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(data)
    except ValueError as error:
        raise InvalidInputError(f"The rows make no array: {error}.") from None


def _listed_rows(data: Any) -> list[Any]:
    if isinstance(data, dict):
        return [data]
    if isinstance(data, (str, bytes)) or not hasattr(data, "__iter__"):
        raise InvalidInputError(f"{data!r:.80} is no row; give an array, a DataFrame, or a list of rows.")
    rows = list(data)
    if rows and not any(isinstance(row, (dict, list, tuple, np.ndarray)) for row in rows):
        return [rows]  # one row, flat
    return rows


def _not_empty(rows: Any) -> Any:
    if getattr(rows, "ndim", 1) == 0 or len(rows) == 0:
        raise InvalidInputError("There are no rows; give at least one.")
    return rows


def _joined(columns: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    joined = np.empty((len(columns[0]), len(columns)), dtype=object)
    for position, column in enumerate(columns):
        joined[:, position] = column
    return joined


def _pandas_dtype(field: Field) -> str | None:
    return None if field.kind == "any" else field.dtype  # None: whatever the values are


def _scalar(row: int, field: Field, value: Any) -> Any:
    if is_missing(value):
        return None
    if not isinstance(value, (Real, str, np.bool_)) or (isinstance(value, float) and abs(value) == float("inf")):
        raise _refusal(row, field, value)
    return value


def _number(row: int, field: Field, value: Any) -> Any:
    if is_missing(value):
        if field.nullable:
            return float("nan")
        raise _refusal(row, field, value)
    if not isinstance(value, (Real, np.bool_)):
        raise _refusal(row, field, value)
    return value


def _text(row: int, field: Field, value: Any) -> str | None:
    if field.nullable and is_missing(value):
        return None
    if not isinstance(value, str) or (field.categories and value not in field.categories):
        accepted = f"one of {listed(field.categories)}" if field.categories else None
        raise _refusal(row, field, value, accepted)
    return str(value)


def _refusal(row: int, field: Field | None, given: Any, accepted: str | None = None) -> InvalidInputError:
    given = given.item() if isinstance(given, np.generic) else given
    shown = "a missing value (null or NaN)" if is_missing(given) else repr(given)[:80]
    accepted = accepted or (_ACCEPTED[field.kind] if field is not None else None)
    if isinstance(given, float) and abs(given) == float("inf") and field is not None and field.kind == "number":
        accepted = "a finite number"
    if field is not None and field.kind == "integer" and np.dtype(field.dtype).itemsize < 8:  # noqa: PLR2004 - bytes
        limits = np.iinfo(field.dtype)
        accepted = f"{accepted} from {limits.min} to {limits.max}"
    where = f"Row {row}" if field is None else f"Row {row}, field {field.name!r}"
    name = None if field is None else field.name
    return InvalidInputError(
        f"{where}: got {shown}, needs {accepted}.", row=row, field=name, given=shown, accepted=accepted
    )


def listed(names: Sequence[str]) -> str:
    """Write names with commas, the first eight of them."""
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")  # noqa: PLR2004
