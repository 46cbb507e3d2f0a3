"""A signature read off an example and the fitted estimator."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.errors import NotServableError
from mlnb.registry.signature import Field, Signature, is_frame, is_missing, listed

if TYPE_CHECKING:
    from mlnb.registry.signature import Container, Kind

__all__ = ["infer_signature"]

_KIND_OF_DTYPE: dict[str, Kind] = {"f": "number", "i": "integer", "u": "integer", "b": "boolean", "U": "text"}
_MAX_LABELS = 1000


def infer_signature(model: object, example: Any = None) -> Signature:
    """Read a signature off an example and the fitted estimator.

    Parameters
    ----------
    model : object
        ``feature_names_in_``, ``n_features_in_`` and ``classes_`` are used where it has them.
    example : array of shape (n, features), DataFrame, list of rows, or None
        A 1-D example is one row.

    Raises
    ------
    NotServableError
        If the example is not a table of numbers, booleans and text, or has no rows.
    """
    labels, probabilities = _labels(model), hasattr(model, "predict_proba")
    names = [str(name) for name in getattr(model, "feature_names_in_", ())]
    if example is None:
        count = len(names) or int(getattr(model, "n_features_in_", 0))
        kind: Kind = "any" if names else "number"
        dtype = "object" if names else "float64"
        fields = tuple(Field(name=name, kind=kind, dtype=dtype) for name in names or _numbered(count))
        return Signature(
            fields=fields, container=_container(fields, named=bool(names)), labels=labels, probabilities=probabilities
        )
    named = is_frame(example) and all(isinstance(column, str) for column in example.columns)
    if named:
        columns = {name: example[name] for name in example.columns}
        if len(columns) != example.shape[1]:
            raise NotServableError("The example has two columns of the same name; give each its own.")
    else:
        table = _table(example)
        columns = dict(zip(_names_for(table, names), table.T, strict=True))
    fields = tuple(_field(name, column) for name, column in columns.items())
    flags = np.asarray(example).flags
    return Signature(
        fields=fields,
        container=_container(fields, named=named or bool(names)),
        labels=labels,
        probabilities=probabilities,
        order="F" if flags.f_contiguous and not flags.c_contiguous else "C",
    )


def _container(fields: tuple[Field, ...], *, named: bool) -> Container:
    if not fields:
        return "any"
    return "frame" if named else "array"  # scikit-learn warns when names it was fitted with are missing


def _table(example: Any) -> np.ndarray[Any, Any]:
    if type(example).__module__.startswith("polars"):
        example = example.to_numpy()
    try:
        array = np.asarray(example)
    except ValueError as error:
        raise NotServableError(
            f"The example's rows differ in length: {error}. Give a table of rows x features."
        ) from None
    if array.ndim == 1 and array.dtype.kind in "UOT" and all(isinstance(value, str) for value in array):
        raise NotServableError(
            "The example is a list of texts; an example must be a table of rows x features. Leave it out for a "
            'takes texts, and send {"instances": ["some text", ..]}.'
        )
    if array.ndim == 1 and array.size:
        array = array.reshape(1, -1)
    if array.ndim != 2 or 0 in array.shape:  # noqa: PLR2004 - rows by features
        raise NotServableError(
            f"The example has the shape {array.shape}; needed is a table of rows x features with at least one row, for "
            "instance X_train."
        )
    return array


def _names_for(table: np.ndarray[Any, Any], names: list[str]) -> list[str]:
    if not names:
        return _numbered(table.shape[1])
    if len(names) != table.shape[1]:
        raise NotServableError(f"The example has {table.shape[1]} features; the model was fitted on {len(names)}.")
    return names


def _numbered(count: int) -> list[str]:
    return [f"x{index}" for index in range(count)]  # as scikit-learn's get_feature_names_out names them


def _field(name: str, column: Any) -> Field:
    dtype = str(getattr(column, "dtype", ""))
    values = np.asarray(column)
    if dtype == "category":
        categories = tuple(column.cat.categories)
        if not all(isinstance(category, str) for category in categories):
            raise NotServableError(
                f"The example's column {name!r} has categories that are no text, such as {categories[0]!r}; "
                "fit on the values themselves, or on text: X[column].astype(str).astype('category')."
            )
        return Field(name=name, kind="text", dtype=dtype, nullable=bool(column.isna().any()),
                     categories=categories, example=_first(values))  # fmt: skip
    if values.dtype.kind == "O":
        return _object_field(name, dtype, values)
    kind = _KIND_OF_DTYPE.get(values.dtype.kind)
    if kind is None:
        raise NotServableError(
            f"The example's column {name!r} has the type {dtype}; accepted are numbers, booleans and text. "
            "Convert it first."
        )
    if kind == "text":
        return Field(name=name, kind=kind, dtype="object", example=_first(values))
    known = values[~np.isnan(values)] if kind == "number" else values
    return Field(
        name=name, kind=kind, dtype=values.dtype.name, nullable=len(known) < len(values),
        minimum=float(known.min()) if len(known) else None, maximum=float(known.max()) if len(known) else None,
        example=_first(values),
    )  # fmt: skip


def _object_field(name: str, dtype: str, values: np.ndarray[Any, Any]) -> Field:
    known = [value for value in values if not is_missing(value)]
    nullable = len(known) < len(values)
    if known and all(isinstance(value, str) for value in known):
        return Field(name=name, kind="text", dtype=dtype, nullable=nullable, example=_first(values))
    if known and all(isinstance(value, Real) for value in known):
        whole = not nullable and all(isinstance(value, (int, np.integer)) for value in known)
        try:
            inferred = np.array(known, dtype="int64" if whole else "float64")
        except OverflowError:
            raise NotServableError(
                f"The example's column {name!r} has numbers beyond 64 bits. Convert it first."
            ) from None
        return Field(name=name, kind="integer" if whole else "number", dtype=inferred.dtype.name, nullable=nullable,
                     minimum=float(inferred.min()), maximum=float(inferred.max()), example=_first(values))  # fmt: skip
    kinds = sorted({type(value).__name__ for value in values})
    raise NotServableError(
        f"The example's column {name!r} mixes kinds of values ({listed(kinds)}); "
        "accepted are columns of numbers, booleans or text. Convert it first."
    )


def _labels(model: object) -> tuple[Any, ...] | None:
    classes = getattr(model, "classes_", None)
    if not isinstance(classes, np.ndarray) or classes.ndim != 1 or len(classes) > _MAX_LABELS:
        return None
    return tuple(classes.tolist())


def _first(values: np.ndarray[Any, Any]) -> Any:
    """Return the first value that is not missing, as a plain Python one."""
    value = next((value for value in values if not is_missing(value)), None)
    return value.item() if isinstance(value, np.generic) else value
