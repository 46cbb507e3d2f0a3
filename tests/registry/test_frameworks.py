"""Each framework's own format: the loaded model answers as the one that was stored, and no file runs code."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnx
import pandas as pd
import pytest
import skops.io
import torch
import xgboost
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

from mlnb import ModelRegistry
from mlnb.errors import IntegrityError, MissingLibraryError, NotServableError
from mlnb.registry.frameworks import (
    LightGBMSerializer,
    OnnxModel,
    OnnxSerializer,
    SkopsSerializer,
    TorchExportSerializer,
    XGBoostSerializer,
    plain,
)
from mlnb.registry.predictors import predictor
from mlnb.registry.serializers import CloudpickleSerializer, ModelSerializer, candidates, serializer_named

IRIS = load_iris(as_frame=True)
FRAME, NUMBERS = IRIS.data, IRIS.target
ROWS = FRAME.to_numpy(np.float32)
NAMES = np.array(["setosa", "versicolor", "virginica"])[NUMBERS]


def files_of(serializer: ModelSerializer, model: Any, example: Any = None) -> dict[str, memoryview]:
    return {name: memoryview(bytes(content)) for name, content in serializer.dump(model, example=example).items()}


def stored(serializer: ModelSerializer, model: Any, example: Any = None) -> Any:
    return serializer.load(files_of(serializer, model, example))


def same(one: Any, other: Any) -> bool:
    """Equal bit by bit; NaN is itself."""
    return bool(np.array_equal(np.asarray(one), np.asarray(other))) and np.asarray(one).dtype == np.asarray(other).dtype


def colours() -> pd.DataFrame:
    """A column of categories, one of numbers."""
    colour = pd.Categorical(["red", "green", "blue", "green"] * 30, categories=["red", "green", "blue"])
    return pd.DataFrame({"colour": colour, "size": np.arange(120) % 7 * 1.0})


def is_red(rows: pd.DataFrame) -> np.ndarray[Any, Any]:
    return np.where((rows["colour"] == "red") ^ (rows["size"] > 3), "yes", "no")


def a_module() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3)
    )


# What every format does ----------------------------------------------------------------------------------------------

MODELS: dict[str, Callable[[], Any]] = {
    "xgboost": lambda: xgboost.XGBClassifier(n_estimators=3).fit(FRAME, NUMBERS),
    "lightgbm": lambda: lightgbm.LGBMClassifier(n_estimators=3, verbose=-1).fit(FRAME, NAMES),
    "onnx": lambda: to_onnx(LogisticRegression(max_iter=500).fit(ROWS, NAMES), ROWS[:1]),
    "skops": lambda: LogisticRegression(max_iter=500).fit(FRAME, NAMES),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_pickle_in_place_of_any_file_is_not_run(name: str, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    pickled = memoryview(pickle.dumps(Evil(marker)))
    serializer = serializer_named(name)
    assert not serializer.runs_code
    files = files_of(serializer, MODELS[name]())
    for replaced in files:
        with pytest.raises(Exception, match=r"."):  # whatever the library says of bytes that are not its own
            serializer.load({**files, replaced: pickled}).predict(ROWS)
    assert not marker.exists()


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


def test_a_pickle_of_the_test_would_have_run(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Evil(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(("name", "library"), [(name, name) for name in MODELS] + [("torch-export", "torch")])
def test_a_library_that_is_missing_is_named(name: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    serializer = serializer_named(name)
    files = files_of(serializer, MODELS[name]()) if name in MODELS else {"model.pt2": memoryview(b"")}
    absent = {"onnx": "onnxruntime", "skops": "skops.io"}.get(library, library)
    monkeypatch.setitem(sys.modules, absent, None)  # as if it were not installed
    with pytest.raises(MissingLibraryError, match=f"pip install {library}"):
        predictor(serializer.load(files)).predict(ROWS)


def test_no_framework_is_imported_with_the_formats() -> None:
    program = """
import sys
import mlnb.registry.frameworks, mlnb.registry.predictors
print({"xgboost", "lightgbm", "onnx", "onnxruntime", "skops", "torch", "sklearn", "pandas"} & set(sys.modules))
"""
    assert run(program) == "set()"


def run(program: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("model", "formats"),
    [
        (MODELS["xgboost"], ["xgboost", "cloudpickle"]),
        (MODELS["lightgbm"], ["lightgbm", "cloudpickle"]),
        (MODELS["onnx"], ["onnx", "cloudpickle"]),
        (lambda: OnnxModel(MODELS["onnx"]()), ["onnx", "cloudpickle"]),
        (a_module, ["cloudpickle"]),
    ],
)
def test_the_framework_s_own_format_comes_first(model: Callable[[], Any], formats: list[str]) -> None:
    assert [serializer.name for serializer in candidates(model())] == formats


# XGBoost -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        xgboost.XGBClassifier(n_estimators=4, max_depth=np.int64(2), learning_rate=np.float32(0.3), n_jobs=1),
        xgboost.XGBClassifier(n_estimators=4, monotone_constraints=(1, 0, 0, -1), random_state=3),
        xgboost.XGBRFClassifier(n_estimators=4),
        xgboost.XGBClassifier(booster="gblinear", n_estimators=4),
        xgboost.XGBClassifier(booster="dart", n_estimators=4, rate_drop=0.5),
    ],
)
def test_an_xgboost_classifier_comes_back(model: Any) -> None:
    model.fit(FRAME, NUMBERS)
    loaded = stored(XGBoostSerializer(), model)
    assert type(loaded) is type(model)
    assert same(loaded.predict(FRAME), model.predict(FRAME))
    assert same(loaded.predict_proba(FRAME), model.predict_proba(FRAME))
    assert repr(loaded.get_params()) == repr({**model.get_params(), **as_python(model.get_params())})
    assert same(loaded.classes_, model.classes_)
    assert list(loaded.feature_names_in_) == list(model.feature_names_in_)
    assert loaded.n_features_in_ == 4


def as_python(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value.item() for name, value in params.items() if isinstance(value, np.generic)}


def test_an_xgboost_regressor_that_stopped_early_comes_back() -> None:
    model = xgboost.XGBRegressor(n_estimators=50, early_stopping_rounds=2, learning_rate=1.0)
    model.fit(ROWS[::2], NUMBERS[::2], eval_set=[(ROWS[1::2], NUMBERS[1::2])], verbose=False)
    loaded = stored(XGBoostSerializer(), model)
    assert same(loaded.predict(ROWS), model.predict(ROWS))
    assert loaded.best_iteration == model.best_iteration < 49
    assert loaded.evals_result() == model.evals_result()


def test_xgboost_knows_categories_again() -> None:
    rows = colours()
    model = xgboost.XGBClassifier(n_estimators=3, enable_categorical=True).fit(rows, is_red(rows) == "yes")
    loaded = stored(XGBoostSerializer(), model)
    reordered = rows.assign(colour=rows["colour"].cat.reorder_categories(["blue", "green", "red"]))
    assert same(loaded.predict_proba(rows), model.predict_proba(rows))
    assert same(loaded.predict_proba(reordered), model.predict_proba(rows))


def test_an_xgboost_booster_comes_back() -> None:
    booster = xgboost.train({"objective": "multi:softprob", "num_class": 3}, xgboost.DMatrix(FRAME, NUMBERS), 3)
    loaded = stored(XGBoostSerializer(), booster)
    assert loaded.feature_names == list(FRAME.columns)
    assert same(predictor(loaded).predict(FRAME), booster.predict(xgboost.DMatrix(FRAME)))


class Tuned(xgboost.XGBClassifier):
    pass


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (xgboost.XGBRegressor(n_estimators=2, objective=lambda truth, guess: (guess - truth, np.ones_like(guess))),
         "function cannot be written as JSON"),
        (Tuned(n_estimators=2), "no class of xgboost itself"),
    ],
)  # fmt: skip
def test_what_xgboost_s_format_cannot_hold_is_left_to_cloudpickle(model: Any, says: str) -> None:
    with pytest.raises(NotServableError, match=says):
        XGBoostSerializer().dump(model.fit(ROWS, NUMBERS))


@pytest.mark.parametrize("name", ["callback", "train", "DMatrix", "os"])
def test_only_models_of_xgboost_are_made(name: str) -> None:
    serializer = XGBoostSerializer()
    files = files_of(serializer, MODELS["xgboost"]())
    files["wrapper.json"] = memoryview(plain.dumps({"class": name, "state": {}}))
    with pytest.raises(IntegrityError, match=f"'{name}'"):
        serializer.load(files)


# LightGBM ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [NAMES, NAMES.astype(object), NUMBERS.to_numpy(), NUMBERS.to_numpy() == 1])
def test_a_lightgbm_classifier_comes_back(labels: Any) -> None:
    weights = {label: 1.0 + at for at, label in enumerate(np.unique(labels).tolist())}
    model = lightgbm.LGBMClassifier(n_estimators=4, class_weight=weights, extra_trees=True, verbose=-1)
    model.fit(FRAME, labels)
    loaded = stored(LightGBMSerializer(), model)
    assert same(loaded.predict(FRAME), model.predict(FRAME))
    assert same(loaded.predict_proba(FRAME), model.predict_proba(FRAME))
    assert loaded.get_params() == model.get_params()
    assert same(loaded.classes_, model.classes_)
    assert list(loaded.feature_names_in_) == list(model.feature_names_in_)
    assert same(loaded.feature_importances_, model.feature_importances_)


def test_lightgbm_knows_categories_again() -> None:
    rows = colours()
    model = lightgbm.LGBMClassifier(n_estimators=5, min_child_samples=2, verbose=-1).fit(rows, is_red(rows))
    loaded = stored(LightGBMSerializer(), model)
    reordered = rows.assign(colour=rows["colour"].cat.reorder_categories(["blue", "green", "red"]))
    assert np.all(model.predict(rows) == is_red(rows))
    assert same(loaded.predict_proba(rows), model.predict_proba(rows))
    assert same(loaded.predict_proba(reordered), model.predict_proba(rows))


def test_a_lightgbm_regressor_that_stopped_early_comes_back() -> None:
    model = lightgbm.LGBMRegressor(n_estimators=60, learning_rate=1.0, verbose=-1)
    stop = lightgbm.early_stopping(2, verbose=False)
    model.fit(ROWS[::2], NUMBERS[::2], eval_X=ROWS[1::2], eval_y=NUMBERS[1::2], callbacks=[stop])
    loaded = stored(LightGBMSerializer(), model)
    assert same(loaded.predict(ROWS), model.predict(ROWS))
    assert loaded.best_iteration_ == model.best_iteration_ < 60
    assert loaded.booster_.num_trees() == model.booster_.num_trees()


def test_a_lightgbm_booster_comes_back() -> None:
    booster = lightgbm.train({"objective": "regression", "verbose": -1}, lightgbm.Dataset(FRAME, NUMBERS), 3)
    loaded = stored(LightGBMSerializer(), booster)
    assert same(predictor(loaded).predict(FRAME), booster.predict(FRAME))
    assert loaded.params == booster.params


def test_a_lightgbm_objective_of_one_s_own_is_left_to_cloudpickle() -> None:
    model = lightgbm.LGBMRegressor(
        n_estimators=2, objective=lambda truth, guess: (guess - truth, np.ones_like(guess)), verbose=-1
    )
    with pytest.raises(NotServableError, match="function cannot be written as JSON"):
        LightGBMSerializer().dump(model.fit(ROWS, NUMBERS))


# ONNX ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("labels", [NAMES, NUMBERS.to_numpy() - 1])
@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(max_iter=500),
        RandomForestClassifier(5, random_state=0),
        make_pipeline(StandardScaler(), MLPClassifier((5,), solver="lbfgs", max_iter=2000, random_state=0)),
    ],
)
def test_an_onnx_classifier_answers_as_the_graph(model: Any, labels: Any, zipmap: bool) -> None:
    model.fit(ROWS, labels)
    loaded = stored(OnnxSerializer(), to_onnx(model, ROWS[:1], options={id(model): {"zipmap": zipmap}}))
    assert same(loaded.predict(ROWS), model.predict(ROWS))
    assert loaded.predict_proba(ROWS) == pytest.approx(model.predict_proba(ROWS), abs=1e-5)
    assert same(loaded.classes_, model.classes_)
    assert loaded.n_features_in_ == 4
    assert not hasattr(loaded, "feature_names_in_")
    again = pickle.loads(pickle.dumps(loaded))
    assert same(again.predict_proba(FRAME), loaded.predict_proba(ROWS))


@pytest.mark.parametrize(
    "model", [Ridge(), LinearSVC(), KMeans(3, n_init=1, random_state=0)]
)  # LinearSVC's graph calls its scores probabilities
def test_an_onnx_graph_without_probabilities_offers_none(model: Any) -> None:
    model.fit(ROWS, NUMBERS)
    loaded = stored(OnnxSerializer(), to_onnx(model, ROWS[:1]))
    assert loaded.predict(ROWS) == pytest.approx(model.predict(ROWS), abs=1e-4)
    assert loaded.predict(ROWS).shape == (150,)
    assert not hasattr(loaded, "predict_proba")
    assert predictor(loaded).probabilities is None


def test_an_onnx_graph_takes_a_column_for_each_input() -> None:
    rows = pd.DataFrame({"colour": ["red", "green", "blue"] * 20, "size": np.arange(60) % 7 * 1.0})
    columns = ColumnTransformer([("colour", OneHotEncoder(), ["colour"]), ("size", StandardScaler(), ["size"])])
    model = make_pipeline(columns, LogisticRegression())
    model.fit(rows, np.where(rows["colour"] == "red", "yes", "no"))
    graph = to_onnx(
        model, initial_types=[("colour", StringTensorType([None, 1])), ("size", FloatTensorType([None, 1]))]
    )
    loaded = stored(OnnxSerializer(), graph)
    assert list(loaded.feature_names_in_) == ["colour", "size"]
    assert loaded.n_features_in_ == 2
    for given in (rows, rows[["size", "colour"]], rows.to_numpy(), rows.to_numpy().tolist()):
        assert same(loaded.predict(given), model.predict(rows))
    assert loaded.predict_proba(rows) == pytest.approx(model.predict_proba(rows), abs=1e-5)
    assert list(loaded.classes_) == ["no", "yes"]
    with pytest.raises(ValueError, match=r"\(1, 3\); the graph takes the columns colour, size"):
        loaded.predict([["red", 1.0, 2.0]])


def test_an_onnx_file_is_a_model(tmp_path: Path) -> None:
    graph = MODELS["onnx"]()
    path = tmp_path / "model.onnx"
    path.write_bytes(graph.SerializeToString())
    expected = OnnxModel(graph).predict(ROWS)
    assert same(OnnxModel(path).predict(ROWS), expected)
    assert same(OnnxModel(str(path)).predict(ROWS), expected)
    assert same(predictor(graph).predict(ROWS), expected)
    assert repr(OnnxModel(path)) == f"OnnxModel({path.stat().st_size:,} bytes)"


def test_onnx_is_not_needed_to_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    serializer = OnnxSerializer()
    files = files_of(serializer, MODELS["onnx"]())
    monkeypatch.setattr("mlnb.registry.frameworks.onnx.find_spec", {}.get)
    loaded = serializer.load(files)
    assert list(loaded.classes_) == ["setosa", "versicolor", "virginica"]
    assert set(loaded.predict(ROWS)) <= set(NAMES)


def matrix_graph(*inputs: Any) -> onnx.ModelProto:
    weights = numpy_helper.from_array(np.ones((4, 2), np.float32), "w")
    return helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "graph",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, None]), *inputs],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])],
            [weights],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )


def test_onnx_weights_in_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save_model(matrix_graph(), path, save_as_external_data=True, location="weights", size_threshold=0)
    with pytest.raises(NotServableError, match=r"weights in other files .*'w' first.*external_data=False"):
        OnnxModel(path)


def test_an_onnx_graph_that_says_little_still_answers() -> None:
    model = OnnxModel(matrix_graph())
    assert same(model.predict(np.ones((3, 4))), np.full((3, 2), 4, np.float32))
    assert not any(hasattr(model, name) for name in ("n_features_in_", "classes_", "predict_proba"))


def test_an_onnx_graph_with_inputs_of_other_shapes_is_refused() -> None:
    model = OnnxModel(matrix_graph(helper.make_tensor_value_info("z", TensorProto.FLOAT, [None, 5])))
    with pytest.raises(NotServableError, match=r"inputs x tensor\(float\).*accepted is one tensor"):
        model.predict(ROWS)


# skops ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(3, random_state=0),
        HistGradientBoostingClassifier(max_iter=3),
        make_pipeline(StandardScaler(), KNeighborsClassifier()),
        CalibratedClassifierCV(LogisticRegression(max_iter=500)),
        GaussianProcessClassifier(),
        MLPClassifier((3,), tol=0.01, max_iter=2000, random_state=0),
        GridSearchCV(LogisticRegression(max_iter=500), {"C": [0.1, 1.0]}),
    ],
)
def test_an_estimator_comes_back_from_skops(model: Any) -> None:
    model.fit(FRAME, NAMES)
    loaded = stored(SkopsSerializer(), model)
    assert same(loaded.predict(FRAME), model.predict(FRAME))
    assert same(loaded.predict_proba(FRAME), model.predict_proba(FRAME))


class OfTheNotebook(BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    pass


def my_own(rows: Any) -> Any:
    return rows


@pytest.mark.parametrize("model", [OfTheNotebook(), make_pipeline(FunctionTransformer(my_own), StandardScaler())])
def test_skops_refuses_what_it_could_not_load(model: Any) -> None:
    with pytest.raises(NotServableError, match=r"cannot be stored as skops: it holds .*(OfTheNotebook|my_own)"):
        SkopsSerializer().dump(model)


def test_a_skops_file_with_other_types_is_not_loaded() -> None:
    files = {"model.skops": memoryview(skops.io.dumps(OfTheNotebook()))}
    with pytest.raises(IntegrityError, match=r"not trusted .*OfTheNotebook"):
        SkopsSerializer().load(files)


# PyTorch -------------------------------------------------------------------------------------------------------------


def test_a_module_is_exported_for_any_number_of_rows() -> None:
    module = a_module()
    expected = predictor(module).predict(ROWS)
    loaded = stored(TorchExportSerializer(), module, FRAME.head(1))
    answer = predictor(loaded).predict
    assert np.abs(answer(FRAME) - expected).max() < 1e-6
    assert same(answer(ROWS[:1]), answer(ROWS[:1].astype(np.float64)))
    assert answer(ROWS[:1]).shape == (1, 3)
    assert module.training


def test_a_module_is_not_exported_without_rows() -> None:
    with pytest.raises(NotServableError, match="give a few rows as `example`"):
        TorchExportSerializer().dump(a_module(), example=None)


class Tied(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(200, 300)
        self.out = torch.nn.Linear(300, 200, bias=False)
        self.out.weight = self.words.weight
        self.frozen = torch.nn.Parameter(torch.randn(3), requires_grad=False)
        self.bf16 = torch.nn.Parameter(torch.randn(200, 300, dtype=torch.bfloat16))
        self.register_buffer("steps", torch.tensor(7))
        self.turned = torch.randn(300, 200).t()

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        words: torch.Tensor = self.out(self.words(ids)).sum(1)
        return words


def test_a_module_is_stored_bit_by_bit() -> None:
    module = Tied()
    files = files_of(CloudpickleSerializer(), module)
    assert sorted(content.nbytes for name, content in files.items() if name.startswith("buffers")) == [
        120_000,  # bfloat16 is out of the pickle too
        240_000,
        240_000,
    ]
    loaded = CloudpickleSerializer().load(files)
    assert loaded.out.weight is loaded.words.weight
    state, before = loaded.state_dict(), module.state_dict()
    assert list(state) == list(before)
    assert all(torch.equal(state[name], before[name]) and state[name].dtype == before[name].dtype for name in before)
    grads = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    assert {name: parameter.requires_grad for name, parameter in loaded.named_parameters()} == grads
    assert all(type(parameter) is torch.nn.Parameter for parameter in loaded.parameters())
    assert loaded.turned.stride() == module.turned.stride()


def test_a_loaded_module_can_be_trained_on() -> None:
    loaded = stored(CloudpickleSerializer(), Tied())  # from read-only memory
    loaded(torch.tensor([[1, 2]])).sum().backward()
    torch.optim.SGD(loaded.parameters(), lr=0.1).step()


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(4, dtype=torch.cfloat).conj(),
        torch.randn(4, dtype=torch.cdouble),
        torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.ones(1).expand(5, 4),
        torch.randn(10)[::2],
        torch.empty(0, 4),
        torch.tensor(2.5, dtype=torch.bfloat16),
        torch.tensor([True, False]),
        torch.randn(5, requires_grad=True),
        torch.tensor([1], dtype=torch.uint16),
    ],
)
def test_any_tensor_comes_back(tensor: torch.Tensor) -> None:
    loaded = stored(CloudpickleSerializer(), tensor)
    assert torch.equal(loaded, tensor)
    assert (loaded.dtype, loaded.stride(), loaded.requires_grad) == (
        tensor.dtype,
        tensor.stride(),
        tensor.requires_grad,
    )


def test_a_module_of_the_notebook_loads_elsewhere(tmp_path: Path) -> None:
    notebook = """
import pickle, sys, torch
from mlnb.registry.predictors import predictor
from mlnb.registry.serializers import CloudpickleSerializer
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)
    def forward(self, rows):
        return torch.relu(self.layer(rows))
net = Net()
files = {name: bytes(content) for name, content in CloudpickleSerializer().dump(net).items()}
pickle.dump(files, open(sys.argv[1], "wb"))
print(predictor(net).predict([[1, 2, 3, 4]]).tolist())
"""
    elsewhere = """
import pickle, sys
from mlnb.registry.predictors import predictor
from mlnb.registry.serializers import CloudpickleSerializer
files = pickle.load(open(sys.argv[1], "rb"))
net = CloudpickleSerializer().load({name: memoryview(content) for name, content in files.items()})
print(predictor(net).predict([[1, 2, 3, 4]]).tolist())
"""
    path = str(tmp_path / "files")
    assert run(notebook, path) == run(elsewhere, path)


# Plain values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [None, {1: (2, [3.5, "x"]), ("a",): {}}, {"tuple": 1}, float("inf"), [], {}, np.arange(3, dtype=np.uint8),
     np.array(["b", 1, None], dtype=object), np.ones((2, 3), np.float32)],
)  # fmt: skip
def test_a_plain_value_is_itself_again(value: Any) -> None:
    again = plain.loads(plain.dumps(value))
    assert type(again) is type(value)
    assert same(again, value) if isinstance(value, np.ndarray) else again == value


@pytest.mark.parametrize("value", [print, {"a": [object()]}, np.array(["2020-01-01"], "M8[D]"), 1j])
def test_a_value_that_is_not_plain_is_refused(value: Any) -> None:
    with pytest.raises(NotServableError, match="cannot be written as JSON"):
        plain.dumps(value)


def test_an_onnx_model_is_the_same_however_it_is_given(registry: ModelRegistry, tmp_path: Path) -> None:
    rows, target = load_iris(return_X_y=True)
    rows = rows.astype(np.float32)
    graph = to_onnx(LogisticRegression(max_iter=500).fit(rows, target), rows[:1], options={"zipmap": False})
    (tmp_path / "model.onnx").write_bytes(graph.SerializeToString())
    first = registry.register(graph, "iris", example=rows)
    second = registry.register(tmp_path / "model.onnx", "iris", example=rows)
    assert (first.digest, first.model_type) == (second.digest, second.model_type)
    assert first.environment == second.environment
    assert set(first.environment["packages"]) == {"numpy", "onnxruntime"}
    assert "onnxruntime" in " ".join(registry.prove(second).requirements)
    with pytest.raises(NotServableError, match=r"give its path: Path\('model\.onnx'\)"):
        registry.register("model.onnx", "iris")


def test_a_module_may_have_a_tensor_as_its_example_and_comes_back_in_evaluation_mode(registry: ModelRegistry) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.5)).train()
    rows = torch.ones(5, 2)
    version = registry.register(module, "net", example=rows)
    assert version.signature.names == ("x0", "x1")
    assert module.training  # one's own object stays as it is
    loaded = registry.load("net")
    assert not loaded.training
    assert torch.equal(loaded(rows), module.eval()(rows))
