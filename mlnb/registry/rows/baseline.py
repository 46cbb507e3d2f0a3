"""What an example says of each column, small enough to be stored: what drift is measured against."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import orjson

from mlnb.registry.rows.columns import Column

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlnb.registry.signature import Field, Signature

__all__ = [
    "MOST_COLUMNS",
    "Baseline",
    "ColumnBaseline",
    "answer_values",
    "category_counts",
    "column_values",
    "make_baseline",
    "repeats",
    "summarized",
    "text_lengths",
]

Values = np.ndarray[Any, Any]

MOST_COLUMNS = 2_000
MOST_CATEGORIES = 200
_MOST_VALUES = 1_000  # order statistics of one column
_FEWEST_VALUES = 200
_ALL_VALUES = 250_000  # of all columns together
_MOST_COMPARED = 1_000  # rows that are looked at for repeats
_FEWEST_TEXTS = 20
_LONGEST = 256  # characters of a text that are looked at
_BITS = 63  # of a whole number that JSON's readers hold
_HALVINGS = 50
_SCALARS = (str, int, float, type(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnBaseline:
    """One column of the example, or the model's answers to it.

    Attributes
    ----------
    name : str
    kind : {'numbers', 'categories', 'texts'}
        ``texts``: nearly all differ, and the numbers are their lengths in characters.
    known, missing : int
        Values that were looked at; numbers that are not finite count as missing.
    sample : tuple of float
        Of numbers and lengths, sorted: all known ones, or 1,000 at evenly spaced ranks.
    low, high, deviation : float or None
        The least, the largest and the standard deviation of the known numbers.
    counts : tuple of (value, int)
        Of categories: the 200 most frequent, most frequent first.
    rest : int
        Known values that are none of those.
    """

    name: str
    kind: Literal["numbers", "categories", "texts"]
    known: int
    missing: int
    sample: tuple[float, ...] = ()
    low: float | None = None
    high: float | None = None
    deviation: float | None = None
    counts: tuple[tuple[Any, int], ...] = ()
    rest: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What an example says.

    Attributes
    ----------
    rows : int
        That were looked at.
    repeats : float
        How likely two rows are the same one, see :func:`repeats`.
    columns : tuple of ColumnBaseline
        In the model's order; times have none, they are never as before.
    prediction : ColumnBaseline or None
        The model's own answers to rows of the example, None where they are not known or not one value for each row.
    left_out : int
        Columns beyond the 2,000th.
    """

    rows: int
    repeats: float
    columns: tuple[ColumnBaseline, ...]
    prediction: ColumnBaseline | None = None
    left_out: int = 0

    def to_json(self) -> bytes:
        """Return the stored form."""
        return orjson.dumps(self)

    @classmethod
    def from_json(cls, stored: bytes | memoryview) -> Baseline:
        """Read the stored form."""
        document = orjson.loads(stored)
        document["columns"] = tuple(map(_restored, document["columns"]))
        prediction = document["prediction"]
        return cls(**document | {"prediction": None if prediction is None else _restored(prediction)})


def _restored(stored: Mapping[str, Any]) -> ColumnBaseline:
    counts = tuple((value, count) for value, count in stored["counts"])
    return ColumnBaseline(**dict(stored) | {"sample": tuple(stored["sample"]), "counts": counts})


def make_baseline(signature: Signature, checked: Any, *, answers: Values | None = None) -> Baseline | None:
    """Return what the rows of an example say.

    Parameters
    ----------
    signature : Signature
    checked : object
        The rows, as ``signature.check`` gives them.
    answers : ndarray of shape (n, ...), optional
        The model's answers to some of them.

    Returns
    -------
    Baseline or None
        None where the signature knows of no columns.
    """
    columns = column_values(signature, checked)
    if not columns:
        return None
    most = max(_FEWEST_VALUES, min(_MOST_VALUES, _ALL_VALUES // len(columns)))
    ranges = {field.name: field for field in signature.fields}
    return Baseline(
        rows=len(next(iter(columns.values()))),
        repeats=repeats({name: values[:_MOST_COMPARED] for name, values in columns.items()}),
        columns=tuple(
            _widened(summarized(name, values, most=most), ranges.get(name)) for name, values in columns.items()
        ),
        prediction=_prediction(signature, answers),
        left_out=max(0, len(signature.fields) - MOST_COLUMNS),
    )


def _widened(column: ColumnBaseline, field: Field | None) -> ColumnBaseline:
    """Return a column with the range of the whole example, where not all of its rows were looked at."""
    if column.kind != "numbers" or field is None or field.minimum is None or column.name == "tensor":
        return column
    low, high = (field.minimum, field.maximum) if column.low is None else (column.low, column.high)
    assert low is not None and high is not None and field.maximum is not None, column  # noqa: S101, PT018 - of numbers
    return replace(column, low=min(low, field.minimum), high=max(high, field.maximum))


def column_values(signature: Signature, checked: Any) -> dict[str, Values]:
    """Return the columns by name: numbers as float64 with NaN, all else as objects with None; without the times.

    Parameters
    ----------
    signature : Signature
    checked : object
        Rows as ``signature.check`` gives them. Of a tensor's rows the means are returned.

    Examples
    --------
    >>> from mlnb.registry.rows.inference import infer_signature
    >>> signature = infer_signature(None, np.array([[1, 2], [3, 4]]))
    >>> column_values(signature, signature.check([[5, 6]]))
    {'x0': array([5.]), 'x1': array([6.])}
    """
    if signature.container == "tensor":
        return {"tensor": np.asarray(checked, dtype=np.float64).reshape(len(checked), -1).mean(axis=1)}
    if signature.container == "texts":
        return {signature.fields[0].name: _objects(checked)}
    if signature.container == "any":
        return {}
    read = [field.kind not in ("datetime", "any") for field in signature.fields]
    parts = checked.T if isinstance(checked, np.ndarray) else checked
    fields = zip(signature.fields[:MOST_COLUMNS], parts, read, strict=False)
    return {field.name: _column(field, part) for field, part, known in fields if known}


def _column(field: Field, part: Any) -> Values:
    column = part if isinstance(part, Column) else Column(part)
    if field.categories:
        return _of_codes(field, column.data)
    if field.kind in ("number", "integer"):
        numbers = np.array(column.data, dtype=np.float64)
        if column.missing is not None:
            numbers[column.missing] = np.nan
        return numbers
    values = _objects(column.data)
    if column.missing is not None:
        values[column.missing] = None
    return values


def _of_codes(field: Field, data: Values) -> Values:
    if data.dtype.kind not in "iu":
        return _objects(data)
    return _objects([*field.categories, None])[data]  # a code of -1 is the last one


def _objects(values: Iterable[Any]) -> Values:
    listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
    array = np.empty(len(listed), dtype=object)
    array[:] = listed
    return array


def summarized(name: str, values: Values, *, most: int = _MOST_VALUES) -> ColumnBaseline:
    """Return what the values of a column say.

    Parameters
    ----------
    name : str
    values : ndarray of shape (n,)
        Numbers as float64 with NaN, all else as objects with None.
    most : int
        Order statistics that are kept.
    """
    if values.dtype.kind == "f":
        return _of_numbers(name, "numbers", values, most=most)
    counted = category_counts(values)
    known = counted.total()
    if known >= _FEWEST_TEXTS and len(counted) > known / 2 and all(isinstance(value, str) for value in counted):
        return _of_numbers(name, "texts", text_lengths(values), most=most)
    counts = tuple(counted.most_common(MOST_CATEGORIES))
    return ColumnBaseline(
        name=name, kind="categories", known=known, missing=len(values) - known, counts=counts,
        rest=known - sum(count for _, count in counts),
    )  # fmt: skip


def category_counts(values: Values) -> Counter[Any]:
    """Count the known values, objects with None, as they can be stored: long text by its first 256 characters."""
    raw = Counter(values.tolist())
    counted: Counter[Any] = Counter()
    for value, count in raw.items():
        if value is not None:
            counted[_storable(value)] += count
    return counted


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return value[:_LONGEST].encode(errors="replace").decode()
    return str(value) if isinstance(value, int) and value.bit_length() > _BITS else value


def text_lengths(values: Values) -> Values:
    """Return the length of each text in characters, NaN where it is missing."""
    return np.array([len(value) if isinstance(value, str) else np.nan for value in values.tolist()], dtype=np.float64)


def _of_numbers(name: str, kind: Literal["numbers", "texts"], values: Values, *, most: int) -> ColumnBaseline:
    known = np.sort(values[np.isfinite(values)])
    missing = len(values) - len(known)
    if not len(known):
        return ColumnBaseline(name=name, kind=kind, known=0, missing=missing)
    ranks = (np.arange(most) + 0.5) * (len(known) / most)
    kept = known if len(known) <= most else known[ranks.astype(np.int64)]
    with np.errstate(over="ignore", invalid="ignore"):
        deviation = float(known.std())
    return ColumnBaseline(
        name=name, kind=kind, known=len(known), missing=missing, sample=tuple(kept.tolist()), low=float(known[0]),
        high=float(known[-1]), deviation=deviation if np.isfinite(deviation) else None,
    )  # fmt: skip


def answer_values(signature: Signature, answers: Values) -> Values | None:
    """Return answers as a column's values: numbers of a regressor, all else as categories; None if not one for a row.

    Parameters
    ----------
    signature : Signature
    answers : ndarray of shape (n, ...)
    """
    if answers.ndim == 0 or answers.size != len(answers):
        return None
    flat = answers.reshape(-1)
    if flat.dtype.kind in "fiu" and (signature.output == "number" or (signature.output == "any" and _is_real(flat))):
        return flat.astype(np.float64)
    values = flat.tolist()
    if not all(isinstance(value, _SCALARS) for value in values):
        return None
    return _objects([None if value != value else value for value in values])  # noqa: PLR0124 - NaN


def _is_real(answers: Values) -> bool:
    return answers.dtype.kind == "f" and not np.array_equal(answers, np.round(answers))


def _prediction(signature: Signature, answers: Values | None) -> ColumnBaseline | None:
    values = None if answers is None else answer_values(signature, answers)
    return None if values is None or not len(values) else summarized("prediction", values)


def repeats(columns: Mapping[str, Values]) -> float:
    """Return how likely two rows are the same one: 1 / K, if as many different ones come of K that are equally likely.

    Of K rows drawn n times, K * (1 - exp(-n / K)) different ones are seen. It is 0 where all rows differ, as those of
    measured numbers do, high for two columns of yes and no, and higher than the example's where requests are sent again
    and again. It goes by the number of different rows, and not by how often each comes, so that one value that has
    become frequent, such as a missing one, does not make the other rows count less.

    Examples
    --------
    >>> round(repeats({"a": np.array([1.0, 2.0] * 50), "b": np.array([5.0] * 100)}), 3)
    0.5
    """
    lists = [(np.nan_to_num(one, nan=np.inf) if one.dtype.kind == "f" else one).tolist() for one in columns.values()]
    rows = len(lists[0]) if lists else 0
    if rows <= 1:
        return 0.0
    share = len(set(zip(*lists, strict=True))) / rows
    low, high = 0.0, 1 / share  # of n / K
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if 1 - np.exp(-middle) > share * middle else (low, middle)
    return min(1.0, low / rows)
