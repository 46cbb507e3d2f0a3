"""The estimator at the end of a stack, over the answers of the members."""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.errors import NotServableError
from mlnb.registry.predictors import predictor
from mlnb.registry.rows.inference import infer_signature
from mlnb.registry.serializers import type_name

if TYPE_CHECKING:
    from mlnb.registry.signature import Output

__all__ = ["Final"]

Array = np.ndarray[Any, Any]


class Final:
    """A final estimator, fitted or still to be fitted.

    Parameters
    ----------
    model : object
    labels : ndarray of shape (classes,), optional
        What its answers 0, 1, .. stand for, if it was fitted on such numbers, as scikit-learn's stacking does.
    """

    def __init__(self, model: Any, *, labels: Array | None = None) -> None:
        self.model = model
        self.labels = labels
        self.output: Output = infer_signature(model).output
        self.fitted = _is_fitted(model)
        self._answers = predictor(model)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Final, labels=self.labels), (self.model,)

    @property
    def classes(self) -> Array | None:
        """The labels it answers with, where it says."""
        known = getattr(self.model, "classes_", None) if self.labels is None else self.labels
        return known if isinstance(known, np.ndarray) else None

    @property
    def has_probabilities(self) -> bool:
        """Whether it gives probabilities."""
        return self._answers.probabilities is not None

    def knowing(self, labels: Array | None) -> Final:
        """Return the same with the members' labels, if it was fitted on their numbers."""
        own = self.classes
        if labels is None or own is None or self.labels is not None or len(own) != len(labels):
            return self
        numbered = np.array_equal(own, np.arange(len(own))) and not np.array_equal(own, labels)
        return Final(self.model, labels=labels) if numbered else self

    def fit(self, columns: Array, target: Any) -> Final:
        """Return a fitted copy; of a classifier on the labels' numbers, which every library takes.

        Raises
        ------
        NotServableError
            If it has no ``fit``.
        """
        if not callable(getattr(self.model, "fit", None)):
            raise NotServableError(f"The final estimator, a {type_name(self.model)}, has no fit; give one that has.")
        fresh = _unfitted(self.model)
        if self.output != "class":
            return Final(fresh.fit(columns, target))
        labels, numbers = np.unique(target, return_inverse=True)
        return Final(fresh.fit(columns, numbers), labels=labels)

    def answer(self, columns: Array) -> tuple[Array, Array | None]:
        """Return values and probabilities."""
        values = self._answers.predict(columns)
        if self.labels is not None:
            values = self.labels[values]
        asked = self._answers.probabilities
        return values, None if asked is None else asked(columns)


def _is_fitted(model: Any) -> bool:
    if not hasattr(model, "get_params"):
        return True
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(model)
    except NotFittedError:
        return False
    return True


def _unfitted(model: Any) -> Any:
    if not hasattr(model, "get_params"):
        return copy.deepcopy(model)
    from sklearn.base import clone

    return clone(model)
