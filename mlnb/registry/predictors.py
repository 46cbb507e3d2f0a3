"""How each kind of model answers rows: a table by type, which imports no framework."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mlnb.errors import NotServableError
from mlnb.registry.serializers import library, type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Predictor", "Together", "evaluating", "parameters", "predictor", "to_tensor"]

Array = np.ndarray[Any, Any]

_MAX_TEXT = 120
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class Together(Protocol):
    """What a model of several says at once."""

    @property
    def values(self) -> Array:
        """The answers, ``(n, ...)``."""

    @property
    def probabilities(self) -> Array | None:
        """Those of the classes, ``(n, classes)``, where there are any."""

    @property
    def missing(self) -> tuple[str, ...]:
        """The names of the parts that failed."""


@dataclass(frozen=True, slots=True)
class Predictor:
    """How a model answers.

    Attributes
    ----------
    predict : callable
        From rows, an array or DataFrame of shape ``(n, features)``, to an array of shape ``(n, ...)``. Safe to call
        from several threads where the model is.
    probabilities : callable or None
        From rows to ``(n, classes)``, or ``(n, outputs, classes)``; None where the model gives none.
    together : callable or None
        From rows to both at once, with the names of the parts of the model that failed; for a model of several, which
        would be asked twice otherwise, and not be the same ones each time.
    """

    predict: Callable[[Any], Array]
    probabilities: Callable[[Any], Array] | None = None
    together: Callable[[Any], Together] | None = None


def predictor(model: Any) -> Predictor:
    """Return how a model answers rows.

    Parameters
    ----------
    model : object
        With ``predict``, and perhaps ``predict_proba``; a function of rows; a module or exported program of PyTorch; a
        booster of XGBoost or LightGBM; an ONNX graph.

    Raises
    ------
    NotServableError
        If it cannot answer, with what is needed.

    Examples
    --------
    >>> predictor(lambda rows: [2 * row[0] for row in rows]).predict([[1], [2]])
    array([2, 4])
    """
    if isinstance(model, type):
        raise NotServableError(f"{type_name(model)} cannot be served: it is a class; an instance, fitted, is needed.")
    makers = (_MAKERS.get(f"{kind.__module__}.{kind.__qualname__}") for kind in type(model).__mro__)
    return next(filter(None, makers), _plain)(model)


def _plain(model: Any) -> Predictor:
    if callable(getattr(model, "predict", None)):
        probabilities = getattr(model, "predict_proba", None)
        return Predictor(_arrays(model.predict), _tables(probabilities) if callable(probabilities) else None)
    if callable(model):
        return Predictor(_arrays(model))
    raise NotServableError(
        f"{type_name(model)} cannot be served: a model needs a method `predict`, or must be callable. {_hint(model)}"
    )


def _arrays(answer: Callable[[Any], Any]) -> Callable[[Any], Array]:
    def dense(rows: Any) -> Array:
        given = answer(rows)
        return np.asarray(given.toarray() if hasattr(given, "toarray") else given)  # of scipy.sparse

    return dense


def _tables(answer: Callable[[Any], Any]) -> Callable[[Any], Array]:
    """Give probabilities row by row; of several outputs scikit-learn gives a list, a table for each."""

    def stacked(rows: Any) -> Array:
        given = answer(rows)
        if not isinstance(given, list) or not all(isinstance(table, np.ndarray) for table in given):
            return np.asarray(given)
        width = max(table.shape[1] for table in given)
        joined = np.full((len(given[0]), len(given), width), np.nan)  # an output of fewer classes has none for the rest
        for output, table in enumerate(given):
            joined[:, output, : table.shape[1]] = table
        return joined

    return stacked


def _hint(model: Any) -> str:
    for method, hint in _HINTS.items():
        if hasattr(model, method):
            return hint
    return "Give a fitted model, or a function of rows."


_HINTS = {
    "fit_predict": "This one can only label the rows it was fitted on; fit a classifier on its labels to serve them.",
    "transform": "To serve what it transforms, give its method `transform`.",
}


# PyTorch -------------------------------------------------------------------------------------------------------------


def _module(model: Any) -> Predictor:
    module = evaluating(model)
    if callable(getattr(module, "predict", None)):
        probabilities = getattr(module, "predict_proba", None)
        return Predictor(
            _inferring(module.predict, _as_they_are),
            _inferring(probabilities, _as_they_are) if callable(probabilities) else None,
        )
    return Predictor(_inferring(module, lambda rows: to_tensor(module, rows)))


def _exported_program(program: Any) -> Predictor:
    takes = next(node.meta["val"] for node in program.graph.nodes if node.name in program.graph_signature.user_inputs)
    return Predictor(_inferring(program.module(), lambda rows: _tensor(rows, takes.dtype, takes.device)))


def _as_they_are(rows: Any) -> Any:
    return rows


def _inferring(answer: Callable[[Any], Any], prepare: Callable[[Any], Any]) -> Callable[[Any], Array]:
    """Answer without recording for gradients; the mode is the thread's own."""
    torch = library("torch")

    def infer(rows: Any) -> Array:
        with torch.inference_mode():
            return _to_array(answer(prepare(rows)))

    return infer


def _to_array(answer: Any) -> Array:
    if isinstance(answer, (tuple, dict)):
        raise TypeError(f"The module returned a {type(answer).__name__}; return one tensor with a row for each input.")
    if not hasattr(answer, "detach"):
        return np.asarray(answer)
    tensor = answer.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":  # numpy has none
        tensor = tensor.float()
    return np.asarray(tensor.numpy())


def evaluating(module: Any) -> Any:
    """Return a copy of a module in eval mode that shares its weights, so that the module's own mode stays as it is.

    Raises
    ------
    NotServableError
        If it cannot be copied and is in training mode.
    """
    shared = {id(tensor): tensor for tensor in chain(module.parameters(), module.buffers())}
    try:
        return copy.deepcopy(module, shared).eval()
    except Exception as error:
        if any(part.training for part in module.modules()):
            raise NotServableError(
                f"{type_name(module)} cannot be served: it is in training mode and cannot be copied ({error}). Call "
                "its eval() first."
            ) from error
        return module


def to_tensor(module: Any, rows: Any) -> Any:
    """Return rows as the module takes them: in the type and on the device of its first floating-point parameter.

    Whole numbers stay what they are where the first layer is an embedding.
    """
    first = next(
        (tensor for tensor in chain(module.parameters(), module.buffers()) if tensor.is_floating_point()), None
    )
    torch = library("torch")
    if first is None:
        return _tensor(rows, torch.get_default_dtype(), "cpu")
    return _tensor(rows, torch.int64 if _starts_with_embedding(module) else first.dtype, first.device)


def _starts_with_embedding(module: Any) -> bool:
    layers = (part for part in module.modules() if next(part.parameters(recurse=False), None) is not None)
    embeddings = library("torch").nn
    return isinstance(next(layers, None), (embeddings.Embedding, embeddings.EmbeddingBag))


def _tensor(rows: Any, dtype: Any, device: Any) -> Any:
    torch = library("torch")
    if isinstance(rows, torch.Tensor):
        return rows.to(device=device, dtype=dtype)
    table = np.asarray(rows)
    if table.dtype == object:  # a DataFrame whose columns differ in type
        table = table.astype(np.float64)
    return torch.tensor(table, dtype=dtype, device=device)


# Boosters, graphs and ensembles -------------------------------------------------------------------------------------


def _xgboost_booster(booster: Any) -> Predictor:
    matrix = library("xgboost").DMatrix

    def predict(rows: Any) -> Array:
        if hasattr(rows, "columns"):
            return np.asarray(booster.predict(matrix(rows, enable_categorical=True)))
        named = matrix(
            np.asarray(rows),
            feature_names=booster.feature_names,
            feature_types=booster.feature_types,
            enable_categorical=True,
        )
        return np.asarray(booster.predict(named))

    return Predictor(predict)


def _lightgbm_booster(booster: Any) -> Predictor:
    return Predictor(lambda rows: np.asarray(booster.predict(rows if hasattr(rows, "columns") else np.asarray(rows))))


def _onnx_graph(graph: Any) -> Predictor:
    from mlnb.registry.frameworks.onnx import OnnxModel

    return _plain(OnnxModel(graph))


def _ensemble(model: Any) -> Predictor:
    answers: Predictor = model.predictor()
    return answers


_MAKERS: dict[str, Callable[[Any], Predictor]] = {
    "lightgbm.basic.Booster": _lightgbm_booster,
    "mlnb.registry.ensembles.ensemble.Ensemble": _ensemble,
    "onnx.onnx_ml_pb2.ModelProto": _onnx_graph,
    "torch.export.exported_program.ExportedProgram": _exported_program,
    "torch.nn.modules.module.Module": _module,
    "xgboost.core.Booster": _xgboost_booster,
}


# Parameters ----------------------------------------------------------------------------------------------------------


def parameters(model: Any) -> dict[str, str]:
    """Return the hyperparameters of an estimator, or the size of a module, as short texts; empty where there are none.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> parameters(Ridge(alpha=0.5))["alpha"]
    '0.5'
    """
    try:
        return dict(_described(model))
    except Exception:  # noqa: BLE001 - a description; the model may still serve
        return {}


def _described(model: Any) -> Iterator[tuple[str, str]]:
    if isinstance(model, type):
        return
    if any(
        f"{kind.__module__}.{kind.__qualname__}" == "torch.nn.modules.module.Module" for kind in type(model).__mro__
    ):
        yield "parameters", f"{sum(tensor.numel() for tensor in model.parameters()):,}"
        return
    for name, value in model.get_params(deep=True).items():
        if not _holds_estimator(value):
            yield str(name), _text(value)


def _holds_estimator(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds_estimator(part) for part in value)
    if isinstance(value, dict):
        return _holds_estimator(list(value.values()))
    return hasattr(value, "get_params") and not isinstance(value, type)


def _text(value: Any) -> str:
    text = " ".join(_ADDRESS.sub("", _raw_text(value)).split())
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"


def _raw_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, np.generic):
        return str(value)
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - one bad value does not take the others away
        return type_name(value)
