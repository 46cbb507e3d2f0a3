"""A pipeline taken apart: its scalers as plain numpy, with scikit-learn's own operations, and its last estimator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["kind_of", "split"]

Array = np.ndarray[Any, Any]


def split(model: Any) -> tuple[tuple[Callable[[Array], Array], ...], Any]:
    """Return what rows go through, and the estimator that they come to; no steps and the model where that is unknown.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn.linear_model import Ridge
    >>> pipeline = make_pipeline(StandardScaler(), Ridge()).fit([[0.0], [4.0]], [1, 2])
    >>> (scale,), last = split(pipeline)
    >>> scale(np.array([[4.0]])), last
    (array([[1.]]), Ridge())
    """
    if kind_of(model) in _SEARCHES and hasattr(model, "best_estimator_"):
        return split(model.best_estimator_)
    if kind_of(model) != "sklearn.pipeline.Pipeline":
        return (), model
    *first, last = [step for _, step in model.steps if step is not None and not isinstance(step, str)]
    makers = [_STEPS.get(kind_of(step)) for step in first]
    steps = [maker and maker(step) for maker, step in zip(makers, first, strict=True)]
    return (tuple(step for step in steps if step), last) if all(steps) else ((), model)


def kind_of(model: Any) -> str:
    """Return the exact class, by its public place: ``sklearn.svm.SVC``. A subclass may answer otherwise."""
    kind = type(model)
    return ".".join([*kind.__module__.split(".")[:2], kind.__qualname__])


def _standard(scaler: Any) -> Callable[[Array], Array]:
    centre = scaler.mean_ if scaler.with_mean else None
    return _centred_and_scaled(centre, scaler.scale_ if scaler.with_std else None)


def _robust(scaler: Any) -> Callable[[Array], Array]:
    return _centred_and_scaled(
        scaler.center_ if scaler.with_centering else None, scaler.scale_ if scaler.with_scaling else None
    )


def _largest(scaler: Any) -> Callable[[Array], Array] | None:
    return None if getattr(scaler, "clip", False) else _centred_and_scaled(None, scaler.scale_)


def _centred_and_scaled(centre: Array | None, scale: Array | None) -> Callable[[Array], Array]:
    def scaled(table: Array) -> Array:
        table = _floats(table)
        if centre is not None:
            table -= centre
        if scale is not None:
            table /= scale
        return table

    return scaled


def _smallest_and_largest(scaler: Any) -> Callable[[Array], Array] | None:
    if scaler.clip:
        return None
    factor, offset = scaler.scale_, scaler.min_

    def scaled(table: Array) -> Array:
        table = _floats(table)
        table *= factor
        table += offset
        return table

    return scaled


def _imputer(imputer: Any) -> Callable[[Array], Array] | None:
    known = imputer.statistics_
    is_nan = isinstance(imputer.missing_values, float) and np.isnan(imputer.missing_values)
    numbers = np.asarray(known).dtype.kind == "f" and bool(np.isfinite(known).all())
    if imputer.strategy not in ("mean", "median") or imputer.add_indicator or not is_nan or not numbers:
        return None

    def filled(table: Array) -> Array:
        table = _floats(table)
        np.copyto(table, known, where=np.isnan(table), casting="same_kind")
        return table

    return filled


def _floats(table: Array) -> Array:
    """Return a copy in which one may write, of floating-point numbers."""
    return table.copy("K") if table.dtype.kind == "f" else table.astype(np.float64)


_SEARCHES = {f"sklearn.model_selection.{name}" for name in ("GridSearchCV", "RandomizedSearchCV")}
_STEPS: dict[str, Callable[[Any], Callable[[Array], Array] | None]] = {
    "sklearn.impute.SimpleImputer": _imputer,
    "sklearn.preprocessing.MaxAbsScaler": _largest,
    "sklearn.preprocessing.MinMaxScaler": _smallest_and_largest,
    "sklearn.preprocessing.RobustScaler": _robust,
    "sklearn.preprocessing.StandardScaler": _standard,
}
