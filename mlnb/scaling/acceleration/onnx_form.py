"""Estimators as ONNX graphs: converted by skl2onnx, run by ONNX Runtime on as many threads as asked and no more."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.errors import NotServableError
from mlnb.registry.serializers import library
from mlnb.scaling.acceleration.forms import Form
from mlnb.scaling.acceleration.histograms import histogram_graph
from mlnb.scaling.acceleration.steps import kind_of
from mlnb.scaling.acceleration.trees import histogram_form

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["converted", "onnx_form"]

Array = np.ndarray[Any, Any]

_SINGLE = 1e-5  # float32 has 24 bits: a rounding is off by at most 6e-8, a sum of n trees by n of them at the worst
_DOUBLE = 1e-9  # the same for 53 bits, with room for matrix products and logarithms

_TREES = frozenset(
    f"sklearn.{name}{kind}"
    for name in ("tree.DecisionTree", "tree.ExtraTree", "ensemble.RandomForest", "ensemble.ExtraTrees")
    for kind in ("Classifier", "Regressor")
) | {"sklearn.ensemble.GradientBoostingClassifier", "sklearn.ensemble.GradientBoostingRegressor"}
_LARGEST_PROBABILITY = frozenset(
    f"sklearn.{name}"
    for name in (
        "discriminant_analysis.LinearDiscriminantAnalysis",
        "linear_model.LogisticRegression",
        "linear_model.LogisticRegressionCV",
        "naive_bayes.BernoulliNB",
        "naive_bayes.GaussianNB",
        "naive_bayes.MultinomialNB",
        "neural_network.MLPClassifier",
    )
) | {name for name in _TREES if name.endswith("Classifier")}
_NUMBERS = frozenset(
    f"sklearn.{name}"
    for name in (
        "gaussian_process.GaussianProcessRegressor",
        "linear_model.ElasticNet",
        "linear_model.HuberRegressor",
        "linear_model.Lasso",
        "linear_model.LinearRegression",
        "linear_model.Ridge",
        "neural_network.MLPRegressor",
    )
) | {name for name in _TREES if name.endswith("Regressor")}


_HISTOGRAMS = {f"sklearn.ensemble.HistGradientBoosting{kind}" for kind in ("Classifier", "Regressor")}


def converted(model: Any, end: Any) -> bytes:
    """Return the graph of an estimator.

    Trees get the precision in which scikit-learn compares their thresholds, which is single but for histograms; all
    else gets double.

    Parameters
    ----------
    model : object
        An estimator, or a pipeline that cannot be taken apart.
    end : object
        The estimator at its end.

    Raises
    ------
    NotServableError
        If it may be in a graph what it is not in scikit-learn.
    MissingLibraryError
        If skl2onnx or onnx is not installed.
    """
    _refuse(model, end)
    if kind_of(end) in _HISTOGRAMS:
        return histogram_graph(end)
    skl2onnx = library("skl2onnx", extra="'mlnb[onnx]'")
    types = library("skl2onnx.common.data_types", extra="'mlnb[onnx]'")
    takes = types.FloatTensorType if kind_of(end) in _TREES else types.DoubleTensorType
    options = {id(model): {"zipmap": False}} if _classifies(end) else None
    rows = [("rows", takes([None, model.n_features_in_]))]
    content: bytes = skl2onnx.to_onnx(model, initial_types=rows, options=options).SerializeToString()
    return content


def _refuse(model: Any, end: Any) -> None:
    kind = kind_of(end)
    if kind not in _LARGEST_PROBABILITY | _NUMBERS | _HISTOGRAMS:
        raise NotServableError(f"not tried: no graph of {type(end).__name__} is known to round alike")
    if kind in _TREES | _HISTOGRAMS and end is not model:
        raise NotServableError("not tried: there are trees after steps that may round otherwise")
    if kind in _HISTOGRAMS and histogram_form(end) is None:
        raise NotServableError("not tried: it takes categories")
    if _classifies(end) and isinstance(end.classes_, list):
        raise NotServableError("not tried: the labels are of several outputs")


def _classifies(end: Any) -> bool:
    return hasattr(end, "classes_")


def onnx_form(content: bytes, end: Any, *, threads: int = 1) -> Form:
    """Return the form that a graph gives.

    Parameters
    ----------
    content : bytes
        What :func:`converted` gave.
    end : object
        The estimator, or the one at the end of the pipeline.
    threads : int
        That one answer may use.

    Raises
    ------
    MissingLibraryError
        If ONNX Runtime is not installed.
    """
    run = _runner(content, threads)
    histograms = histogram_form(end) if kind_of(end) in _HISTOGRAMS else None
    if histograms is not None:
        start = end._baseline_prediction  # noqa: SLF001 - nowhere public
        ranks = histograms.probabilities
        return replace(histograms, scores=lambda table: start + run(table), tolerance=_DOUBLE, ranks=ranks)
    single = kind_of(end) in _TREES
    precision: dict[str, Any] = (
        {"dtype": np.float32, "tolerance": _SINGLE} if single else {"dtype": np.float64, "tolerance": _DOUBLE}
    )
    if not _classifies(end):
        return Form(scores=run, prediction=_numbers, **precision)
    classes = end.classes_
    return Form(
        scores=run,
        prediction=lambda scores: classes.take(scores.argmax(axis=1)),
        probabilities=_doubles,
        ranks=lambda scores: scores,
        **precision,
    )


def _runner(content: bytes, threads: int) -> Callable[[Array], Array]:
    """Return the last output of the graph as a function: numbers, or the probabilities after the labels."""
    runtime = library("onnxruntime", extra="'mlnb[onnx]'")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # fatal errors; the others are raised
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads take no core
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    wanted = (session.get_outputs()[-1].name,)
    return lambda table: session.run(wanted, {"rows": table})[0]


def _doubles(scores: Array) -> Array:
    return scores.astype(np.float64, copy=False)


def _numbers(scores: Array) -> Array:
    numbers = _doubles(scores)
    return numbers.ravel() if numbers.shape[1:] == (1,) else numbers
