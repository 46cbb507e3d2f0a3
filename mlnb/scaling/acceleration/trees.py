"""Trees and boosted trees by scikit-learn's own compiled code, without the checks and threads around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.scaling.acceleration.forms import Form

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["forest_form", "gradient_boosting_form", "histogram_form"]

Array = np.ndarray[Any, Any]


def forest_form(model: Any) -> Form:
    """Return the form of a forest or a single tree, of one output or several."""
    estimators = getattr(model, "estimators_", None)
    trees = [estimator.tree_ for estimator in ([model] if estimators is None else estimators)]
    classifies = hasattr(model, "classes_")
    return Form(
        scores=_mean(trees, shared=estimators is not None),
        prediction=_labels(model) if classifies else _numbers(model),
        probabilities=_probabilities(model) if classifies else None,
        dtype=np.float32,
        missing=bool(model.__sklearn_tags__().input_tags.allow_nan),
    )


def _mean(trees: list[Any], *, shared: bool) -> Callable[[Array], Array]:
    """Sum in the order of the trees, as the forest does, then divide."""
    first, *others = trees

    def mean(table: Array) -> Array:
        total: Array = first.predict(table)
        for tree in others:
            total += tree.predict(table)
        if shared:
            total /= len(trees)
        return total

    return mean


def _numbers(model: Any) -> Callable[[Array], Array]:
    several = model.n_outputs_ > 1
    return lambda scores: scores[:, :, 0] if several else scores[:, 0]


def _labels(model: Any) -> Callable[[Array], Array]:
    if model.n_outputs_ == 1:
        classes = model.classes_
        return lambda scores: classes.take(scores.argmax(axis=1), axis=0)

    def labels(scores: Array) -> Array:
        columns = [
            classes.take(scores[:, output, : len(classes)].argmax(axis=1))
            for output, classes in enumerate(model.classes_)
        ]
        return np.column_stack(columns).astype(model.classes_[0].dtype)

    return labels


def _probabilities(model: Any) -> Callable[[Array], Array]:
    """Give a table for each output, NaN where it has fewer classes, as :mod:`mlnb.registry.predictors` does."""
    if model.n_outputs_ == 1:
        return lambda scores: scores

    def padded(scores: Array) -> Array:
        for output, classes in enumerate(model.classes_):
            scores[:, output, len(classes) :] = np.nan
        return scores

    return padded


def gradient_boosting_form(model: Any) -> Form | None:
    """Return the form of a GradientBoosting estimator; None where what it starts from depends on the row."""
    from sklearn.ensemble._gradient_boosting import predict_stages

    if not (isinstance(model.init_, str) or type(model.init_).__name__.startswith("Dummy")):
        return None
    start = model._raw_predict_init(np.zeros((1, model.n_features_in_), dtype=np.float32))  # noqa: SLF001 - the number itself is nowhere public

    def scores(table: Array) -> Array:
        raw: Array = np.repeat(start, len(table), axis=0)
        predict_stages(model.estimators_, table, model.learning_rate, raw)
        return raw

    return Form(scores=scores, dtype=np.float32, **_of_loss(model, binary=lambda raw: raw.ravel() >= 0))


def histogram_form(model: Any) -> Form | None:
    """Return the form of a HistGradientBoosting estimator; None where it takes categories."""
    if model.is_categorical_ is not None:
        return None
    known, places = model._bin_mapper.make_known_categories_bitsets()  # noqa: SLF001 - as its own _predict_iterations does
    start, rounds = model._baseline_prediction, model._predictors  # noqa: SLF001

    def scores(table: Array) -> Array:
        raw: Array = np.zeros((len(table), model.n_trees_per_iteration_), dtype=start.dtype, order="F")
        raw += start
        for trees in rounds:
            for at, tree in enumerate(trees):
                raw[:, at] += tree.predict(table, known, places, 1)
        return raw

    return Form(scores=scores, dtype=np.float64, missing=True, **_of_loss(model, binary=lambda raw: raw.ravel() > 0))


def _of_loss(model: Any, *, binary: Callable[[Array], Array]) -> dict[str, Any]:
    loss = model._loss  # noqa: SLF001 - holds the link from scores to answers
    classes = getattr(model, "classes_", None)
    if classes is None:
        return {"prediction": lambda raw: loss.link.inverse(raw.ravel())}
    if model.n_trees_per_iteration_ == 1:
        return {"prediction": lambda raw: classes[binary(raw).astype(int)], "probabilities": loss.predict_proba}
    return {"prediction": lambda raw: classes[raw.argmax(axis=1)], "probabilities": loss.predict_proba}
