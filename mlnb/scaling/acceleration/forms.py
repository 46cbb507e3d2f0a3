"""What a faster form of a model is, and how it answers rows: what it cannot answer for sure, the model itself does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.registry.predictors import Predictor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Form", "faster", "table_of"]

Array = np.ndarray[Any, Any]
_BEST_TWO = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Another way to compute what an estimator answers.

    Attributes
    ----------
    scores : callable
        From a table ``(n, features)`` to what both answers follow from, ``(n, ...)``.
    prediction : callable
        From scores to labels or numbers, as the estimator gives them.
    probabilities : callable or None
        From scores to ``(n, classes)``; None where the form gives none.
    dtype : type or None
        Of the table, laid out row by row; None for tables as they come.
    missing : bool
        Whether the form answers rows with NaN as the estimator does. No form is given an infinite number.
    tolerance : float
        How far numbers and probabilities may be from the estimator's, as a share of the largest.
    ranks : callable or None
        From scores to a table ``(n, classes)``, where the label is that of the largest number. If the two largest are
        within twice the tolerance, the estimator itself gives the label. None where ties are the estimator's own.
    """

    scores: Callable[[Array], Array]
    prediction: Callable[[Array], Array]
    probabilities: Callable[[Array], Array] | None = None
    dtype: type | None = None
    missing: bool = False
    tolerance: float = 1e-12
    ranks: Callable[[Array], Array] | None = None

    def lay_out(self, table: Array) -> Array:
        """Return the table as the form takes it; what is too large for its dtype is infinite."""
        if self.dtype is None:
            return table
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(table, dtype=self.dtype)

    def takes(self, table: Array) -> bool:
        """Say whether the form may answer for these numbers."""
        return not np.isinf(table).any() if self.missing else bool(np.isfinite(table).all())


def faster(form: Form, steps: Sequence[Callable[[Array], Array]], own: Predictor) -> Predictor:
    """Return a predictor that answers by the form, and by ``own`` where the form cannot.

    Parameters
    ----------
    form : Form
        Of the last estimator.
    steps : sequence of callable
        What the table goes through before.
    own : Predictor
        The model itself, or an exact form of it.
    """

    def table(rows: Any) -> Array:
        laid = table_of(rows)
        for step in steps:
            laid = step(laid)
        return form.lay_out(laid)

    def predict(rows: Any) -> Array:
        laid = table(rows)
        if not form.takes(laid):
            return own.predict(rows)
        scores = form.scores(laid)
        answers = form.prediction(scores)
        if form.ranks is None:
            return answers
        return _settled(answers, _ties(form.ranks(scores), 2 * form.tolerance), rows, own)

    def probabilities(rows: Any) -> Array:
        laid = table(rows)
        if not form.takes(laid):
            return own.probabilities(rows)  # type: ignore[misc]  # used where the model has them alone
        return form.probabilities(form.scores(laid))  # type: ignore[misc]  # used where the form has them

    gives = own.probabilities is not None and form.probabilities is not None
    return Predictor(predict, probabilities if gives else own.probabilities)


def table_of(rows: Any) -> Array:
    """Return rows of numbers, an array or a frame of pandas or polars, as one array.

    Examples
    --------
    >>> import pandas as pd
    >>> table_of(pd.DataFrame({"a": [1, 2], "b": [True, False]}))
    array([[1., 1.],
           [2., 0.]])
    """
    table: Array = rows if isinstance(rows, np.ndarray) else rows.to_numpy()
    return table.astype(np.float64) if table.dtype == object else table


def _ties(ranks: Array, slack: float) -> Array:
    """Say for each row whether another score is as good as the best, or nearly."""
    best = ranks.max(axis=1, keepdims=True)
    near: Array = np.count_nonzero(ranks >= best - slack, axis=1) >= _BEST_TWO
    return near


def _settled(answers: Array, ties: Array, rows: Any, own: Predictor) -> Array:
    """Return the answers, with the model's own where there is a tie."""
    if ties.any():
        by_place = isinstance(rows, np.ndarray) or hasattr(rows, "iloc")
        answers[ties] = own.predict(rows[ties] if by_place else rows.filter(ties))
    return answers
