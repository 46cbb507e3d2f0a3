"""A signature read off an example and the fitted estimator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mlnb.errors import NotServableError, nearest
from mlnb.registry.rows.frames import library_of
from mlnb.registry.rows.profiles import describe, describe_tensor
from mlnb.registry.signature import Field, Signature

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlnb.registry.signature import Container, Kind, Output

__all__ = ["infer_signature", "rewritten"]

_OUTPUTS: dict[str, Output] = {
    "classifier": "class",
    "clusterer": "cluster",
    "outlier_detector": "outlier",
    "regressor": "number",
}
_MAX_LABELS = 1000
_TABLE = 2  # axes


def infer_signature(model: object, example: Any = None) -> Signature:
    """Read a signature off an example and the fitted estimator.

    Parameters
    ----------
    model : object
        ``feature_names_in_``, ``n_features_in_``, ``classes_`` and scikit-learn's estimator type are used where it has
        them.
    example : array, DataFrame, list of rows, list of texts, or None
        - an array of shape ``(n, features)``, or a list of lists; a 1-D one is one row;
        - a DataFrame of pandas or polars, after which the model is given such frames; a pyarrow Table or a list of
          dicts, which count as a pandas frame where pandas is installed, else as an array with names;
        - an array of shape ``(n, ...)`` with three axes or more, for a model of tensors such as images;
        - a list, 1-D array or Series of texts, for a model of texts, unless the model was fitted on a table.

    Raises
    ------
    NotServableError
        If the example is none of these, or has no rows, or has columns that no request could bring.

    Examples
    --------
    >>> infer_signature(None, ["good film", "bad film"]).coerce([{"text": "fair film"}])
    array(['fair film'], dtype=object)
    >>> infer_signature(None, np.zeros((2, 28, 28))).shape
    (28, 28)
    """
    traits: dict[str, Any] = {
        "labels": _labels(model),
        "probabilities": hasattr(model, "predict_proba"),
        "output": _output(model),
    }
    names = [str(name) for name in getattr(model, "feature_names_in_", ())]
    if example is None:
        fields, container = _without_example(names, int(getattr(model, "n_features_in_", 0)))
        return Signature(fields=fields, container=container, **traits)
    read = _read(example, names, tabular=bool(names) or hasattr(model, "n_features_in_"))
    return Signature(fields=read.fields, container=read.container, shape=read.shape, order=read.order, **traits)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """What an example says."""

    fields: tuple[Field, ...]
    container: Container
    shape: tuple[int, ...] = ()
    order: Literal["C", "F"] = "C"


def _without_example(names: list[str], count: int) -> tuple[tuple[Field, ...], Container]:
    kind: Kind = "any" if names else "number"
    dtype = "object" if names else "float64"
    fields = tuple(Field(name=name, kind=kind, dtype=dtype) for name in names or _numbered(count))
    return fields, _container(named=bool(names)) if fields else "any"


def _container(*, named: bool) -> Container:
    return "frame" if named else "array"  # scikit-learn warns when names it was fitted with are missing


def _read(example: Any, names: list[str], *, tabular: bool) -> _Read:
    library = library_of(example)
    if library is not None:
        return _FRAMES[library](example, names)
    if isinstance(example, (list, tuple)) and example and all(isinstance(row, Mapping) for row in example):
        return _read_named_rows(example, names)
    array = _array(example)
    if array.ndim == 1 and not tabular and len(array) and _is_texts(array):
        return _Read(fields=(describe("text", array),), container="texts")
    if array.ndim > _TABLE and 0 not in array.shape:
        return _Read(fields=(describe_tensor(array),), container="tensor", shape=array.shape[1:], order=_order(array))
    return _read_table(array, names)


def _is_texts(array: np.ndarray[Any, Any]) -> bool:
    known = [value for value in array.tolist() if value is not None]
    return array.dtype.kind in "UOT" and bool(known) and all(isinstance(value, str) for value in known)


def _read_pandas(frame: Any, names: list[str]) -> _Read:
    if not all(isinstance(column, str) for column in frame.columns):
        return _read_table(frame.to_numpy(), names)
    columns = {name: frame[name] for name in _model_order(list(frame.columns), names)}
    _check_size(frame.shape, columns)
    fields = tuple(describe(name, column) for name, column in columns.items())
    alike = len({str(column.dtype) for column in columns.values()}) == 1
    return _Read(fields=fields, container="frame", order=_order(np.asarray(frame)) if alike else "C")


def _read_polars(frame: Any, names: list[str]) -> _Read:
    return _Read(fields=_fields_of_other(frame, names), container="polars")


def _read_arrow(table: Any, names: list[str]) -> _Read:
    if _has_pandas():
        return _read_pandas(table.to_pandas(), names)
    import pyarrow as pa

    table = pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table
    return _Read(fields=_fields_of_other(table, names), container="array")


def _fields_of_other(data: Any, names: list[str]) -> tuple[Field, ...]:
    import narwhals as nw

    try:
        frame = nw.from_native(data, eager_only=True)
    except TypeError:
        raise NotServableError(
            f"The example is a {type(data).__name__} without rows yet; give its .collect()."
        ) from None
    columns = {name: frame[name] for name in _model_order(frame.columns, names)}
    _check_size(frame.shape, columns)
    return tuple(describe(name, column) for name, column in columns.items())


def _read_named_rows(rows: Sequence[Mapping[str, Any]], names: list[str]) -> _Read:
    if _has_pandas():
        import pandas as pd

        return _read_pandas(pd.DataFrame(list(rows)), names)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = np.empty((len(rows), len(columns)), dtype=object)
    for number, row in enumerate(rows):
        table[number] = [row.get(name) for name in columns]
    read = _read_table(table, columns)
    return _Read(fields=read.fields, container="array")


def _has_pandas() -> bool:
    return find_spec("pandas") is not None


def _model_order(columns: list[str], names: list[str]) -> list[str]:
    """Return the model's order of the columns where it was fitted on them; a frame for another model is its own."""
    if set(columns) == set(names):
        return names
    if [rewritten(name) for name in columns] == names:
        return columns
    missing = [name for name in names if name not in columns]
    if missing:
        raise NotServableError(
            f"The example lacks the column {missing[0]!r} of the model's; {nearest(missing[0], columns)}."
        )
    return columns


def rewritten(name: str) -> str:
    """Return a column's name as LightGBM keeps it."""
    return name.replace(" ", "_")


def _check_size(shape: tuple[int, int], columns: Mapping[str, Any]) -> None:
    if len(columns) != shape[1]:
        raise NotServableError("The example has two columns of the same name; give each its own.")
    if 0 in shape:
        raise NotServableError(f"The example has the shape {shape}; needed is at least one row and one column.")


def _array(example: Any) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(example)
    except ValueError as error:
        raise NotServableError(
            f"The example's rows differ in length: {error}. Give a table of rows x features."
        ) from None


def _read_table(array: np.ndarray[Any, Any], names: list[str]) -> _Read:
    order = _order(array)
    if array.ndim == 1 and array.size:
        array = array.reshape(1, -1)
    if array.ndim != _TABLE or 0 in array.shape:
        raise NotServableError(
            f"The example has the shape {array.shape}; needed is a table of rows x features with at least one row, for "
            "instance X_train, a list of texts, or an array of three axes or more."
        )
    columns = zip(_names_for(array, names), array.T, strict=True)
    return _Read(
        fields=tuple(describe(name, column) for name, column in columns),
        container=_container(named=bool(names)),
        order=order,
    )


def _order(array: np.ndarray[Any, Any]) -> Literal["C", "F"]:
    return "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"


def _names_for(table: np.ndarray[Any, Any], names: list[str]) -> list[str]:
    if not names:
        return _numbered(table.shape[1])
    if len(names) != table.shape[1]:
        raise NotServableError(f"The example has {table.shape[1]} features; the model was fitted on {len(names)}.")
    return names


def _numbered(count: int) -> list[str]:
    return [f"x{index}" for index in range(count)]  # as scikit-learn's get_feature_names_out names them


def _labels(model: object) -> tuple[Any, ...] | None:
    classes = getattr(model, "classes_", None)
    if not isinstance(classes, np.ndarray) or classes.ndim != 1 or len(classes) > _MAX_LABELS:
        return None
    return tuple(classes.tolist())


def _output(model: object) -> Output:
    """Say what a model predicts, by scikit-learn's estimator type where it has one."""
    try:
        kind = getattr(model.__sklearn_tags__(), "estimator_type", None)  # type: ignore[attr-defined]  # asked for below
    except Exception:  # noqa: BLE001 - somebody else's code; most models have no such method
        kind = getattr(model, "_estimator_type", None)
    known = _OUTPUTS.get(kind) if isinstance(kind, str) else None
    return known or ("class" if hasattr(model, "classes_") else "any")


_FRAMES: dict[str, Callable[[Any, list[str]], _Read]] = {
    "pandas": _read_pandas,
    "polars": _read_polars,
    "pyarrow": _read_arrow,
}
