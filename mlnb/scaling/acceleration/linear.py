"""Linear models by numpy and support vectors by libsvm, with scikit-learn's own operations and without its checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.registry.serializers import library
from mlnb.scaling.acceleration.forms import Form

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["linear_classifier_form", "linear_regressor_form", "logistic_form", "support_vectors_form"]

Array = np.ndarray[Any, Any]


def linear_regressor_form(model: Any) -> Form:
    """Return the form of a model whose answer is ``rows @ coef_ + intercept_``."""
    return Form(scores=_weighed(model), prediction=lambda scores: scores)


def linear_classifier_form(model: Any) -> Form:
    """Return the form of a classifier that takes the class of the largest such sum and gives no probabilities."""
    return Form(scores=_weighed(model), prediction=_labels(model.classes_))


def logistic_form(model: Any) -> Form:
    """Return the form of a logistic regression, with its probabilities."""
    probabilities = _both if len(model.classes_) == 2 else _softmax  # noqa: PLR2004 - as scikit-learn tells them apart
    return Form(scores=_weighed(model), prediction=_labels(model.classes_), probabilities=probabilities)


def _weighed(model: Any) -> Callable[[Array], Array]:
    weights, offset = model.coef_.T, model.intercept_
    flat = weights.ndim == 2 and weights.shape[1] == 1 and hasattr(model, "classes_")  # noqa: PLR2004 - two classes

    def weighed(table: Array) -> Array:
        scores: Array = table @ weights + offset
        return scores.reshape(-1) if flat else scores

    return weighed


def _labels(classes: Array) -> Callable[[Array], Array]:
    def labels(scores: Array) -> Array:
        places = scores.argmax(axis=1) if scores.ndim > 1 else (scores > 0).astype(np.intp)
        return classes.take(places, axis=0)

    return labels


def _both(scores: Array) -> Array:
    second = library("scipy.special").expit(scores)
    return np.stack([1 - second, second], axis=1)


def _softmax(scores: Array) -> Array:
    exponents: Array = np.exp(scores - scores.max(axis=1).reshape(-1, 1))
    exponents /= exponents.sum(axis=1).reshape(-1, 1)
    return exponents


def support_vectors_form(model: Any) -> Form | None:
    """Return the form of an SVC, NuSVC, SVR or NuSVR; None for kernels in Python, sparse vectors and broken ties."""
    if callable(model.kernel) or model.kernel == "precomputed" or model._sparse or getattr(model, "break_ties", False):  # noqa: SLF001 - not public
        return None
    classes = getattr(model, "classes_", None)
    return Form(
        scores=model._dense_predict,  # noqa: SLF001 - what its predict calls after its checks
        prediction=(lambda scores: scores) if classes is None else lambda scores: classes.take(scores.astype(np.intp)),
        dtype=np.float64,
    )
