"""What a model takes and gives: names, types, ranges and one example row, and rows checked against them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mlnb.registry.rows.coercion import Plan, build, check

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Container", "Field", "Kind", "Output", "Signature"]

Kind = Literal["number", "integer", "boolean", "text", "datetime", "any"]
Container = Literal["array", "frame", "polars", "texts", "tensor", "any"]
Output = Literal["class", "number", "cluster", "outlier", "any"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One feature.

    Attributes
    ----------
    name : str
        For a model of texts ``text``, and of tensors ``tensor``: the one field.
    kind : {'number', 'integer', 'boolean', 'text', 'datetime', 'any'}
        ``any`` where the model was fitted on a frame and no example says what its columns hold. Of categories: theirs.
    dtype : str
        Of the column the model is given, as numpy, pandas or polars names it. pandas' ``category`` has its categories'
        dtype in brackets where it is not the one that pandas would give them.
    nullable : bool
        Whether the example has missing values here, so that requests may too.
    minimum, maximum : float or None
        Of the known, finite numbers of the example; for the reader, not enforced.
    categories : tuple of str, int, float or bool
        For pandas' ``category`` and polars' ``Enum``: the only values accepted.
    ordered : bool
        Whether pandas orders the categories.
    quantiles : tuple of float
        At 0, 5, .., 100 % of the known, finite values of a column of numbers, by ``numpy.quantile`` with its ``linear``
        method in float64: 21 of them; empty for other columns and without known values. What drift is measured against.
    frequencies : tuple of (value, float)
        Of text, categories and booleans: the 20 most frequent known values and the share that each has of all known
        ones, most frequent first, ties by value. Text of more than 256 characters counts, and is not listed.
    example : float, int, bool, str, list or None
        The first known value, as plain Python: times as ISO 8601 text, a tensor as nested lists.
    """

    name: str
    kind: Kind
    dtype: str
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[Any, ...] = ()
    ordered: bool = False
    quantiles: tuple[float, ...] = ()
    frequencies: tuple[tuple[Any, float], ...] = ()
    example: Any = None

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Field:
        """Read the stored form, also that of before there were quantiles."""
        restored = {
            "categories": tuple(stored.get("categories", ())),
            "quantiles": tuple(stored.get("quantiles", ())),
            "frequencies": tuple((value, share) for value, share in stored.get("frequencies", ())),
        }
        return cls(**(dict(stored) | restored))


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The rows a model takes, and what it answers.

    Attributes
    ----------
    fields : tuple of Field
        In the model's order; empty when nothing is known, and then any rows are passed on.
    container : {'array', 'frame', 'polars', 'texts', 'tensor', 'any'}
        What ``predict`` is given: a numpy array ``(n, features)``, a pandas or polars DataFrame, a 1-D array of
        ``str`` objects, an array ``(n, *shape)``, or an array of whatever came.
    shape : tuple of int
        Of one row of a tensor, for instance ``(28, 28)``; else empty.
    labels : tuple or None
        The classes of a classifier, in the order of its probabilities.
    probabilities : bool
        Whether the model has ``predict_proba``.
    output : {'class', 'number', 'cluster', 'outlier', 'any'}
        What a prediction is: of a classifier, a regressor, a clusterer, an outlier detector, or unknown.
    order : {'C', 'F'}
        How the example lies in memory, row by row or column by column. Rows that come as lists are laid out alike: BLAS
        rounds the last digit by the layout, and answers are to equal ``model.predict`` to that digit.
    plan : Plan
        What follows from the fields and is needed on every request; not stored.

    Examples
    --------
    >>> from mlnb.registry.rows.inference import infer_signature
    >>> signature = infer_signature(None, [[1.5, 2.0], [0.5, 4.0]])
    >>> signature.names
    ('x0', 'x1')
    >>> signature.coerce([{"x1": 3, "x0": 1}])
    array([[1., 3.]])
    """

    fields: tuple[Field, ...] = ()
    container: Container = "any"
    shape: tuple[int, ...] = ()
    labels: tuple[Any, ...] | None = None
    probabilities: bool = False
    output: Output = "any"
    order: Literal["C", "F"] = "C"
    plan: Plan = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "plan", Plan.of(self.fields))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fields, in order."""
        return self.plan.names

    @property
    def named(self) -> bool:
        """Whether the fields have names of their own; else they are numbered, and known by position."""
        return self.names != tuple(f"x{index}" for index in range(len(self.fields)))

    @property
    def example(self) -> dict[str, Any] | None:
        """The example row by name, for instance ``{"text": ".."}``, ``{"tensor": [[..]]}``; None if none was given."""
        row = {field.name: field.example for field in self.fields}
        return row if any(value is not None for value in row.values()) else None

    def to_json(self) -> dict[str, Any]:
        """Return the stored form."""
        stored = {part.name: getattr(self, part.name) for part in dataclasses.fields(self) if part.init}
        return stored | {"fields": tuple(dataclasses.asdict(field) for field in self.fields)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Signature:
        """Read the stored form, also that of before there were shapes."""
        labels = None if stored["labels"] is None else tuple(stored["labels"])
        restored = {
            "fields": tuple(Field.from_json(field) for field in stored["fields"]),
            "shape": tuple(stored.get("shape", ())),
            "labels": labels,
        }
        return cls(**(dict(stored) | restored))

    def coerce(self, data: Any) -> Any:
        """Return ``data`` as the rows the model takes: the same rows give the same bits, however they come.

        Parameters
        ----------
        data : array, DataFrame, pyarrow Table or RecordBatch, list of lists, list of dicts, or list of texts
            ``(n, len(fields))``, for texts ``(n,)``, for tensors ``(n, *shape)``. One row may also come by itself: as
            a flat list, a 1-D array, a dict, one text, or an array of the tensor's shape. Frames are of pandas or
            polars. Times are ISO 8601 text, datetime objects or datetime64.

        Returns
        -------
        ndarray or DataFrame
            As the container says, of the example's dtypes, in the model's column order.

        Raises
        ------
        InvalidInputError
            With the first row and field that do not fit, what was given and what is accepted.
        MissingLibraryError
            If the model takes frames of a library, or the data is one, that is not installed or not readable here.
        """
        return build(self, check(self, data))

    def check(self, data: Any) -> Any:
        """Return what :meth:`coerce` makes of ``data`` before it is put into the model's container.

        Numbers of one dtype are one array, other tables a list of columns: small to send to another process, which
        needs the frame's library only if it is the one that predicts.

        Raises
        ------
        InvalidInputError, MissingLibraryError
            As :meth:`coerce` does.
        """
        return check(self, data)

    def build(self, checked: Any) -> Any:
        """Return checked rows in the model's container.

        Raises
        ------
        MissingLibraryError
            If the container's library is not installed.
        """
        return build(self, checked)
