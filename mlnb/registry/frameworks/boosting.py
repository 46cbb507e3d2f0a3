"""XGBoost and LightGBM: the library's own model file, and the state of the scikit-learn wrapper as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from mlnb.errors import IntegrityError, NotServableError
from mlnb.registry.frameworks import plain
from mlnb.registry.serializers import library, type_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from mlnb.registry.serializers import Buffer

__all__ = ["LightGBMSerializer", "XGBoostSerializer"]

_WRAPPER = "wrapper.json"


class XGBoostSerializer:
    """UBJSON, which XGBoost reads in later versions too, for its boosters and its own scikit-learn wrappers."""

    name: ClassVar[str] = "xgboost"
    types: ClassVar[tuple[str, ...]] = ("xgboost.core.Booster", "xgboost.sklearn.XGBModel")
    runs_code: ClassVar[bool] = False

    def dump(self, model: Any, *, example: Any = None) -> dict[str, Buffer]:  # noqa: ARG002 - for formats that trace
        """Return the trees and the wrapper.

        Raises
        ------
        NotServableError
            If the class is not XGBoost's own, or holds a function, such as an objective: cloudpickle stores these.
        """
        xgboost = library("xgboost")
        wrapper = _wrapper(model, xgboost, without={"_Booster"})
        booster = model if isinstance(model, xgboost.Booster) else model.get_booster()
        return {"model.ubj": bytes(booster.save_raw("ubj")), _WRAPPER: wrapper}

    def load(self, files: Mapping[str, memoryview]) -> Any:
        """Return the booster or the wrapper; only classes that the installed XGBoost has are made.

        Raises
        ------
        IntegrityError
            If the files name another class.
        """
        xgboost = library("xgboost")
        kind, state = _read_wrapper(files[_WRAPPER], xgboost, base=xgboost.XGBModel)
        booster = xgboost.Booster({"n_jobs": state.get("n_jobs")})
        booster.load_model(bytearray(files["model.ubj"]))
        return _filled(kind, state, _Booster=booster) if kind is not xgboost.Booster else booster


class LightGBMSerializer:
    """LightGBM's model text, which holds the categories of pandas columns, for its boosters and its own wrappers."""

    name: ClassVar[str] = "lightgbm"
    types: ClassVar[tuple[str, ...]] = ("lightgbm.basic.Booster", "lightgbm.sklearn.LGBMModel")
    runs_code: ClassVar[bool] = False

    def dump(self, model: Any, *, example: Any = None) -> dict[str, Buffer]:  # noqa: ARG002 - for formats that trace
        """Return the trees, also those past the best iteration, and the wrapper.

        Raises
        ------
        NotServableError
            If the class is not LightGBM's own, or holds a function, such as an objective: cloudpickle stores these.
        """
        lightgbm = library("lightgbm")
        wrapper = _wrapper(model, lightgbm, without={"_Booster", "_le"})
        booster = model if isinstance(model, lightgbm.Booster) else model.booster_
        best = {"best_iteration": booster.best_iteration, "best_score": booster.best_score, "params": booster.params}
        return {
            "model.txt": booster.model_to_string(num_iteration=-1).encode(),
            "best.json": plain.dumps(best),
            _WRAPPER: wrapper,
        }

    def load(self, files: Mapping[str, memoryview]) -> Any:
        """Return the booster or the wrapper; only classes that the installed LightGBM has are made.

        Raises
        ------
        IntegrityError
            If the files name another class.
        """
        lightgbm = library("lightgbm")
        kind, state = _read_wrapper(files[_WRAPPER], lightgbm, base=lightgbm.LGBMModel)
        booster = lightgbm.Booster(model_str=bytes(files["model.txt"]).decode())
        vars(booster).update(plain.loads(files["best.json"]))
        if kind is lightgbm.Booster:
            return booster
        encoder = _label_encoder(state["_classes"]) if "_class_map" in state else {}
        return _filled(kind, state, _Booster=booster, **encoder)


def _wrapper(model: Any, framework: ModuleType, *, without: set[str]) -> bytes:
    """Return the class of a model and what it holds, less what is stored another way."""
    kind = type(model)
    if getattr(framework, kind.__name__, None) is not kind:
        raise NotServableError(
            f"{type_name(model)} is no class of {framework.__name__} itself; store it with cloudpickle."
        )
    own = {} if kind.__name__ == "Booster" else vars(model)
    state = {key: value for key, value in own.items() if key not in without}
    return plain.dumps({"class": kind.__name__, "state": state})


def _read_wrapper(content: memoryview, framework: ModuleType, *, base: type) -> tuple[type, dict[str, Any]]:
    """Return the class and the state; the class is looked up among the framework's own and never imported by name."""
    wrapper = plain.loads(content)
    kind: Any = getattr(framework, str(wrapper["class"]), None)
    known = isinstance(kind, type) and issubclass(kind, (base, framework.Booster))
    if not known:
        raise IntegrityError(
            f"The stored model names the class {wrapper['class']!r}, which {framework.__name__} lacks."
        )
    return kind, wrapper["state"]


def _filled(kind: type, state: dict[str, Any], **parts: Any) -> Any:
    """Return a fitted wrapper; what a later version adds to its state has that version's default."""
    model = kind()
    vars(model).update(state, **parts)
    return model


def _label_encoder(classes: Any) -> dict[str, Any]:
    """Return LightGBM's encoder of labels, which is scikit-learn's."""
    encoder = library("sklearn.preprocessing", extra="scikit-learn").LabelEncoder()
    encoder.classes_ = classes
    return {"_le": encoder}
