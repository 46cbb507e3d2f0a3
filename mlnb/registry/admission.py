"""What is checked before a model is stored: that it is one, is fitted, answers, and comes back the same."""

from __future__ import annotations

import logging
from dataclasses import replace
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mlnb.errors import InvalidInputError, MlnbError, NotServableError
from mlnb.registry.predictors import predictor
from mlnb.registry.proofs.golden import ask, disagreements
from mlnb.registry.serializers import CloudpickleSerializer, type_name, why_not_picklable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlnb.registry.proofs.golden import GoldenRows
    from mlnb.registry.serializers import Buffer, ModelSerializer
    from mlnb.registry.signature import Signature

__all__ = [
    "check_description",
    "check_fitted",
    "check_modules",
    "checked_metrics",
    "opened",
    "plain_example",
    "stored_form",
]

_log = logging.getLogger(__name__)
_ASKED_AGAIN = 3  # times, to tell a model whose answers vary now and then from a copy that is wrong


def opened(model: Any) -> Any:
    """Return the model in a file, if ``model`` is the path of one: ``.onnx``, ``.joblib`` or ``.pkl``.

    Raises
    ------
    NotServableError
        If there is no such file, or it is of another kind.
    """
    if isinstance(model, str):
        raise NotServableError(
            f"The model is the text {model!r:.80}. For a model in a file give its path: Path({model!r:.80})."
        )
    if f"{type(model).__module__}.{type(model).__qualname__}" == "onnx.onnx_ml_pb2.ModelProto":
        return _read_onnx(model)
    if not isinstance(model, Path):
        return model
    if model.suffix not in _READERS:
        raise NotServableError(f"{model}: files of a model end in {', '.join(sorted(_READERS))}.")
    try:
        return _READERS[model.suffix](model)
    except MlnbError:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise NotServableError(f"{model} is no readable model: {reason}.") from error


def _read_onnx(model: Any) -> Any:
    from mlnb.registry.frameworks import OnnxModel

    return OnnxModel(model)


def _read_joblib(path: Path) -> Any:
    import joblib

    return joblib.load(path)  # the person's own file, named by them


_READERS = {".onnx": _read_onnx, ".joblib": _read_joblib, ".pkl": _read_joblib}


def plain_example(example: Any) -> Any:
    """Return a tensor of PyTorch as an array, everything else as it is."""
    return example.detach().cpu().numpy() if type(example).__module__.startswith("torch") else example


def checked_metrics(metrics: Mapping[str, float] | None) -> dict[str, float]:
    """Return the metrics as plain floats by name.

    Raises
    ------
    InvalidInputError
        If they are not finite numbers by name.
    """
    given = {} if metrics is None else metrics
    form = 'Metrics are finite numbers by name, as in {"accuracy": 0.97}'
    if not hasattr(given, "items"):
        raise InvalidInputError(f"{form}; got {given!r:.80}.")
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, Real) or not abs(value) < float("inf"):
            raise InvalidInputError(f"{form}; got {name!r}: {value!r:.80}.")
    return {name: float(value) for name, value in given.items()}


def check_description(description: str) -> None:
    """Refuse what is no text, or none that can be written.

    Raises
    ------
    InvalidInputError
    """
    try:
        description.encode()
    except (AttributeError, UnicodeEncodeError):
        raise InvalidInputError(f"A description is text in Unicode, not {description!r:.80}.") from None


def check_modules(modules: Sequence[ModuleType]) -> None:
    """Refuse what are no modules.

    Raises
    ------
    InvalidInputError
    """
    if isinstance(modules, str) or not all(isinstance(module, ModuleType) for module in modules):
        raise InvalidInputError(
            f"by_value takes modules, as in by_value=[helpers] after `import helpers`; got {modules!r:.80}."
        )


def check_fitted(model: object) -> None:
    """Refuse scikit-learn's own estimators before they are fitted; of other classes nobody can tell.

    Raises
    ------
    NotServableError
    """
    if not type(model).__module__.startswith("sklearn."):
        return
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(model)
    except NotFittedError:
        raise NotServableError(f"{type_name(model)} is not fitted yet. Call its fit first.") from None


def stored_form(
    model: Any, *, formats: Sequence[ModelSerializer], signature: Signature, golden: GoldenRows | None
) -> tuple[ModelSerializer, dict[str, Buffer], GoldenRows | None]:
    """Return the first format in which the model comes back and answers the same, with its files.

    Arrays are not copied for that: the copy that is asked uses the memory of the model.

    Parameters
    ----------
    model : object
    formats : sequence of ModelSerializer
        Those to try, best first.
    signature : Signature
    golden : GoldenRows or None
        The model's own answers.

    Returns
    -------
    serializer, files, golden
        The golden rows are marked where the model does not answer the same rows the same way twice.

    Raises
    ------
    NotServableError
        With what is wrong, and which part of the model cannot be stored.
    """
    example = None if golden is None else signature.coerce(golden.rows)
    for serializer in formats:
        try:
            files = serializer.dump(model, example=example)
            return serializer, files, _compared(model, serializer, files, signature, golden)
        except Exception as error:
            if serializer is formats[-1]:
                raise _refusal(model, serializer, error) from error
            _log.info("%s is not stored as %s: %s", type_name(model), serializer.name, error)
    raise AssertionError("unreachable: there is always a format to try")


class _DoesNotLoadError(Exception):
    """The files of a model do not make a model."""


def _compared(
    model: Any, serializer: ModelSerializer, files: dict[str, Buffer], signature: Signature, golden: GoldenRows | None
) -> GoldenRows | None:
    """Ask the copy what the model was asked; tell a wrong copy from a model whose answers vary."""
    try:
        copy = serializer.load({path: memoryview(content) for path, content in files.items()})
    except Exception as error:
        raise _DoesNotLoadError(f"{type(error).__name__}: {error}") from error
    if golden is None:
        return None
    wrong = disagreements(golden, ask(predictor(copy), signature, golden.rows))
    if not wrong:
        return golden
    for one in (model, copy) * _ASKED_AGAIN:
        now = ask(predictor(one), signature, golden.rows)
        varies = one is model  # against itself; a copy varies if it agrees after all
        if bool(disagreements(golden, now)) is varies:
            return replace(golden, repeatable=False)
    raise NotServableError(f"{type_name(model)} stored as {serializer.name} answers differently: {wrong[0]}.")


def _refusal(model: Any, serializer: ModelSerializer, error: Exception) -> MlnbError:
    if isinstance(error, MlnbError):
        return error
    if isinstance(error, _DoesNotLoadError):
        return NotServableError(
            f"{type_name(model)} can be stored but not loaded again: {error}. "
            "Its class must be one that can be rebuilt."
        )
    if isinstance(serializer, CloudpickleSerializer):
        return why_not_picklable(model, error)
    return NotServableError(f"{type_name(model)} cannot be stored as {serializer.name}: {error}.")
