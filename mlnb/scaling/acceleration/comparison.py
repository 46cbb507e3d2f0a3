"""Whether another form of a model answers as the model: the same labels, and numbers within a tolerance, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlnb.registry.predictors import Predictor

__all__ = ["Agreement", "Asked", "ask", "compare", "distance", "largest_number"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Rows, and what the model answered.

    Attributes
    ----------
    rows : ndarray or DataFrame
        ``(n, features)``
    prediction : ndarray
    probabilities : ndarray or None
    """

    rows: Any
    prediction: Array
    probabilities: Array | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What a comparison found.

    Attributes
    ----------
    largest : float
        Difference of two probabilities, or of two numbers as a share of the largest.
    reason : str
        Why it is no agreement; empty where it is one.
    """

    largest: float = 0.0
    reason: str = ""


def ask(model: Predictor, rows: Any) -> Asked:
    """Ask the model itself."""
    asked = model.probabilities
    return Asked(
        rows=rows,
        prediction=np.array(model.predict(rows)),
        probabilities=None if asked is None else np.array(asked(rows)),
    )


def largest_number(batches: Iterable[Asked]) -> float:
    """Return the largest finite number among the model's answers, 1 where there is none but 0."""
    numbers = [batch.prediction for batch in batches if batch.prediction.dtype.kind == "f"]
    sizes = [np.abs(answers[np.isfinite(answers)]).max(initial=0) for answers in numbers]
    return float(max(sizes, default=0)) or 1.0


def compare(form: Predictor, batches: Iterable[Asked], *, tolerance: float, size: float) -> Agreement:
    """Ask a form what the model was asked, and end at the first difference.

    Parameters
    ----------
    form : Predictor
    batches : iterable of Asked
    tolerance : float
        For probabilities, and for numbers as a share of ``size``.
    size : float
        Of the model's numbers.
    """
    largest = 0.0
    for batch in batches:
        given = ask(form, batch.rows)
        pairs = {
            "predictions": (batch.prediction, given.prediction, size),
            "probabilities": (batch.probabilities, given.probabilities, 1.0),
        }
        for what, (then, now, unit) in pairs.items():
            off = distance(then, now, size=unit)
            largest = max(largest, off)
            if not off <= tolerance:
                return Agreement(largest=largest, reason=_reason(what, then, now, off))
    return Agreement(largest=largest)


def distance(then: Array | None, now: Array | None, *, size: float) -> float:
    """Return the largest difference of two numbers as a share of ``size``.

    Infinite where labels, whole numbers, shapes, dtypes or the places of NaN differ.

    Examples
    --------
    >>> distance(np.array([4.0, 2.0]), np.array([4.0, 2.5]), size=4)
    0.125
    >>> distance(np.array(["a", "b"]), np.array(["a", "a"]), size=1)
    inf
    """
    if then is None or now is None:
        return 0.0 if then is now else float("inf")
    if then.shape != now.shape or then.dtype != now.dtype:
        return float("inf")
    if then.dtype.kind != "f":
        return 0.0 if np.array_equal(then, now) else float("inf")
    known = np.isfinite(then)
    if not np.array_equal(then[~known], now[~known], equal_nan=True):
        return float("inf")
    off = np.abs(then[known] - now[known]).max(initial=0)
    return float("inf") if np.isnan(off) else float(off) / size


def _reason(what: str, then: Array | None, now: Array | None, off: float) -> str:
    if then is None or now is None:
        return f"other {what}: only one of the two gives them"
    if then.shape != now.shape or then.dtype != now.dtype:
        return f"other {what}: {now.dtype} {now.shape} for {then.dtype} {then.shape}"
    if off < float("inf"):
        return f"other {what}: off by {off:.0e} of the largest"
    wrong = np.flatnonzero((then != now).reshape(len(then), -1).any(axis=1))
    return f"other {what}: {now[wrong[0]]!s:.60} for {then[wrong[0]]!s:.60}, {len(wrong)} of {len(then)} rows"
