"""Faster forms: the same answers as the model on rows they were never shown, or no form at all."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import BaseEstimator
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier

from mlnb.errors import NotServableError
from mlnb.registry.predictors import Predictor, predictor
from mlnb.registry.proofs.golden import GoldenRows, golden_rows
from mlnb.registry.rows.inference import infer_signature
from mlnb.registry.signature import Signature
from mlnb.scaling.acceleration import acceleration, onnx_form, questions
from mlnb.scaling.acceleration.acceleration import Acceleration, accelerate
from mlnb.scaling.acceleration.comparison import distance

Array = np.ndarray[Any, Any]

LOADERS = {"cancer": load_breast_cancer, "digits": load_digits, "diabetes": load_diabetes, "iris": load_iris}
SEED = {"random_state": 0}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceleration, "_BUDGET", 0.1)


@cache
def data(name: str) -> tuple[Array, Array]:
    rows, target = LOADERS[name](return_X_y=True)
    return rows, target


@cache
def frame() -> tuple[pd.DataFrame, Array]:
    loaded = load_breast_cancer(as_frame=True)
    return loaded.data, loaded.target_names[loaded.target]


def described(model: Any, rows: Any) -> tuple[Signature, GoldenRows | None]:
    signature = infer_signature(model, rows)
    return signature, golden_rows(predictor(model), signature, rows)


def accelerated(model: Any, rows: Any) -> tuple[Acceleration, Signature]:
    signature, golden = described(model, rows)
    return accelerate(model, signature=signature, golden=golden, example=rows), signature


def unseen(rows: Array) -> Array:
    """Mixed from the values of each column, so that many rows are on a threshold's side that no row was on."""
    rng = np.random.default_rng(1)
    mixed = np.column_stack([rng.choice(column, 500) for column in rows.T])
    mixed[::2] += rng.normal(size=mixed[::2].shape) * np.nanstd(rows, axis=0) / 10
    return mixed


def assert_alike(form: Predictor, model: Any, rows: Any, *, tolerance: float) -> None:
    own = predictor(model)
    expected = own.predict(rows)
    size = float(np.abs(expected).max()) if expected.dtype.kind == "f" else 1.0
    assert distance(expected, form.predict(rows), size=size) <= tolerance
    assert (own.probabilities is None) == (form.probabilities is None)
    if own.probabilities is not None and form.probabilities is not None:
        assert distance(own.probabilities(rows), form.probabilities(rows), size=1) <= tolerance


def check(model: Any, name: str, *kinds: str) -> Acceleration:
    rows, target = data(name)
    model.fit(rows[::2], target[::2])
    found, signature = accelerated(model, rows[::2])
    assert found.kind in kinds, (found.reason, found.tried)
    form = found.restore(model)
    given = signature.coerce(unseen(rows))
    assert_alike(form, model, given, tolerance=found.tolerance)
    for at in range(20):
        assert_alike(form, model, given[at : at + 1], tolerance=max(found.tolerance, 1e-12))
    return found


FASTER = {
    "forest": (RandomForestClassifier(30, **SEED), "cancer", "onnx", "trees"),
    "forest, ten classes": (RandomForestClassifier(20, **SEED), "digits", "onnx", "trees"),
    "forest on two threads": (RandomForestClassifier(10, n_jobs=2, **SEED), "iris", "onnx", "trees"),
    "forest of numbers": (RandomForestRegressor(30, **SEED), "diabetes", "onnx", "trees"),
    "extra trees": (ExtraTreesClassifier(30, **SEED), "cancer", "onnx", "trees"),
    "extra trees of numbers": (ExtraTreesRegressor(20, **SEED), "diabetes", "onnx", "trees"),
    "tree": (DecisionTreeClassifier(**SEED), "iris", "onnx", "trees"),
    "extra tree": (ExtraTreeClassifier(max_depth=4, **SEED), "cancer", "onnx", "trees"),
    "tree of numbers": (DecisionTreeRegressor(**SEED), "diabetes", "onnx", "trees"),
    "boosting": (GradientBoostingClassifier(n_estimators=20, **SEED), "cancer", "onnx", "trees"),
    "boosting, three classes": (GradientBoostingClassifier(n_estimators=20, **SEED), "iris", "onnx", "trees"),
    "boosting from zero": (
        GradientBoostingRegressor(n_estimators=20, init="zero", **SEED),
        "diabetes",
        "onnx",
        "trees",
    ),
    "logistic, ten classes": (LogisticRegression(max_iter=5000), "digits", "linear"),
    "ridge": (Ridge(), "diabetes", "linear"),
    "least squares": (LinearRegression(), "diabetes", "linear"),
    "ridge of classes": (RidgeClassifier(), "iris", "linear"),
    "linear support vectors": (LinearSVC(max_iter=20_000), "iris", "linear"),
    "scaled logistic": (make_pipeline(StandardScaler(), LogisticRegression()), "cancer", "linear"),
    "robust": (make_pipeline(SimpleImputer(), RobustScaler(), LogisticRegression()), "cancer", "linear"),
    "smallest and largest": (make_pipeline(MinMaxScaler(), MaxAbsScaler(), Ridge()), "diabetes", "linear"),
    "scaled forest": (make_pipeline(StandardScaler(), RandomForestClassifier(20, **SEED)), "cancer", "onnx", "trees"),
    "search": (GridSearchCV(make_pipeline(StandardScaler(), Ridge()), {"ridge__alpha": [1, 2]}), "diabetes", "linear"),
    "components": (make_pipeline(StandardScaler(), PCA(5), LogisticRegression()), "cancer", "onnx"),
    "network": (make_pipeline(StandardScaler(), MLPClassifier(max_iter=1000, **SEED)), "iris", "onnx"),
    "bayes": (GaussianNB(), "iris", "onnx"),
}


@pytest.mark.parametrize("name", FASTER)
def test_a_faster_form_answers_as_the_model(name: str) -> None:
    model, rows, *kinds = FASTER[name]
    found = check(model, rows, *kinds)
    assert max(found.gain) >= 1.2
    assert found.rows > len(data(rows)[0]) / 2


MAYBE = {  # whose gain depends on how busy the cores are
    "support vectors": (SVC(), "cancer"),
    "support vectors, ten classes": (make_pipeline(StandardScaler(), SVC()), "digits"),
    "support vectors of numbers": (SVR(), "diabetes"),
    "histograms": (HistGradientBoostingClassifier(max_iter=10), "cancer"),
    "histograms, three classes": (HistGradientBoostingClassifier(max_iter=10), "iris"),
    "histograms, ten classes": (HistGradientBoostingClassifier(max_iter=5), "digits"),
    "histograms of numbers": (HistGradientBoostingRegressor(max_iter=10, loss="poisson"), "diabetes"),
    "scaled histograms": (make_pipeline(StandardScaler(), HistGradientBoostingRegressor(max_iter=10)), "diabetes"),
}


@pytest.mark.parametrize("name", MAYBE)
def test_every_form_answers_alike_and_is_used_if_it_is_faster(name: str) -> None:
    found = check(*MAYBE[name], "libsvm", "trees", "onnx", "none")
    assert all("faster for one row" in text for title, text in found.tried if "not tried" not in text)


@pytest.mark.parametrize("kind", ["onnx", "trees"])
def test_histograms_know_missing_values_in_every_form(kind: str) -> None:
    rows, target = data("iris")
    given = np.where(np.random.default_rng(0).random(rows.shape) < 0.2, np.nan, rows)
    model = HistGradientBoostingClassifier(max_iter=60, learning_rate=0.5).fit(given[::2], target[::2])
    nodes = [tree.nodes for trees in model._predictors for tree in trees]
    assert min(map(len, nodes)) == 1, "no lone leaf: nothing is tested"
    assert any(tree["missing_go_to_left"].any() for tree in nodes)
    form = Acceleration(kind=kind, reason="", content=onnx_form.converted(model, model)).restore(model)
    assert_alike(form, model, given, tolerance=1e-12)


def test_labels_of_a_frame_are_text_and_stay_so() -> None:
    rows, target = frame()
    model = RandomForestClassifier(20, **SEED).fit(rows, target)
    found, signature = accelerated(model, rows)
    given = signature.coerce(rows)
    assert isinstance(given, pd.DataFrame)
    assert_alike(found.restore(model), model, given, tolerance=found.tolerance)
    assert found.restore(model).predict(given).dtype == target.dtype


def test_a_frame_of_whole_numbers_fractions_and_booleans() -> None:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"age": rng.integers(18, 90, 300), "size": rng.normal(size=300), "new": rng.random(300) > 0.5})
    target = (rows["age"] > 50) ^ rows["new"]
    model = RandomForestClassifier(20, **SEED).fit(rows, target)
    found, signature = accelerated(model, rows)
    assert found.kind in ("onnx", "trees"), found
    assert_alike(found.restore(model), model, signature.coerce(rows), tolerance=found.tolerance)


def test_a_frame_of_polars() -> None:
    rows, target = frame()
    model = RandomForestClassifier(20, **SEED).fit(pl.from_pandas(rows), target)
    found, signature = accelerated(model, pl.from_pandas(rows))
    given = signature.coerce(rows)
    assert isinstance(given, pl.DataFrame)
    assert found.kind in ("onnx", "trees"), found
    assert_alike(found.restore(model), model, given, tolerance=found.tolerance)


def test_several_outputs_of_a_forest_with_as_many_classes_each() -> None:
    rows, target = data("digits")
    model = RandomForestClassifier(10, **SEED).fit(rows, np.column_stack([target, target % 3]))
    found, _ = accelerated(model, rows)
    assert found.kind == "trees"
    assert ("ONNX Runtime", "not tried: the labels are of several outputs") in found.tried
    assert_alike(found.restore(model), model, unseen(rows), tolerance=0)


def test_outputs_of_different_numbers_of_classes_and_types() -> None:
    rows, target = data("iris")
    names = np.array(["setosa", "versicolor", "virginica"])
    model = ExtraTreesClassifier(5, **SEED).fit(rows, np.column_stack([names[target], np.where(target, "one", "none")]))
    found, _ = accelerated(model, rows)
    assert found.kind == "trees"
    assert_alike(found.restore(model), model, unseen(rows), tolerance=0)


def test_several_numbers_of_a_forest() -> None:
    rows, target = data("diabetes")
    model = RandomForestRegressor(10, **SEED).fit(rows, np.column_stack([target, target**2]))
    found, _ = accelerated(model, rows)
    assert found.kind in ("onnx", "trees"), found
    assert_alike(found.restore(model), model, unseen(rows), tolerance=found.tolerance)


@pytest.mark.parametrize("container", [np.asarray, pd.DataFrame, pl.DataFrame])
def test_where_onnx_runtime_rounds_ties_to_the_other_class_the_model_decides(container: Any) -> None:
    rng = np.random.default_rng(0)
    rows, given = rng.normal(size=(300, 3)), rng.normal(size=(3000, 3))
    model = RandomForestClassifier(20, **SEED).fit(rows, rng.integers(0, 2, 300))
    table = model.predict_proba(given)
    tied = table[:, 0] == table[:, 1]
    graph = onnx_form.onnx_form(onnx_form.converted(model, model), model)
    labels = graph.prediction(graph.scores(graph.lay_out(given)))
    assert (labels != model.predict(given))[tied].any(), "no trap: nothing is tested"
    found = Acceleration(kind="onnx", reason="", content=onnx_form.converted(model, model))
    form = replace(found, before=("trees",)).restore(model).predict
    np.testing.assert_array_equal(form(container(given)), model.predict(given))
    assert_alike(found.restore(model), model, given, tolerance=1e-5)


def test_rows_on_a_threshold_and_a_rounding_beside_it() -> None:
    rows = np.repeat(np.array([[0.1], [0.1 + 3e-8]], dtype=np.float64), 5, axis=0)
    thirds = np.arange(1, 41).reshape(-1, 1) / 3
    rows = np.vstack([rows, thirds])
    target = np.arange(len(rows)) % 2
    model = DecisionTreeClassifier(**SEED).fit(rows, target)
    found, _ = accelerated(model, rows)
    thresholds = model.tree_.threshold[model.tree_.children_left >= 0]
    singles = thresholds.astype(np.float32)
    given = np.concatenate([
        thresholds, np.nextafter(thresholds, -9), np.nextafter(thresholds, 99), singles,
        np.nextafter(singles, np.float32(-9)), np.nextafter(singles, np.float32(99)),
    ]).reshape(-1, 1)  # fmt: skip
    assert found.kind != "none"
    assert_alike(found.restore(model), model, given, tolerance=0)
    graph = Acceleration(kind="onnx", reason="", content=onnx_form.converted(model, model), before=("trees",))
    assert_alike(graph.restore(model), model, given, tolerance=0)


def test_a_graph_that_compares_thresholds_in_double_precision_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, target = data("cancer")
    model = RandomForestClassifier(100, **SEED).fit(rows, target)
    monkeypatch.setattr(onnx_form, "_TREES", frozenset())
    monkeypatch.setattr(onnx_form, "_NUMBERS", frozenset(["sklearn.ensemble.RandomForestClassifier"]))
    monkeypatch.setattr(onnx_form, "_DOUBLE", 1e-5)  # what the sum in the graph rounds is not the point
    found, _ = accelerated(model, rows)
    assert found.kind == "trees"
    assert re.match(r"other probabilities: off by \de-02", dict(found.tried)["ONNX Runtime"])


@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(20, **SEED),
        HistGradientBoostingClassifier(max_iter=10),
        make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()),
    ],
    ids=["forest", "histograms", "imputer"],
)
def test_missing_values_are_answered_as_by_the_model(model: Any) -> None:
    rows, target = data("cancer")
    rows = rows.copy()
    rows[1::3, 3] = np.nan
    rows[::5, 20] = np.nan
    model.fit(rows, target)
    found, signature = accelerated(model, rows)
    given = signature.coerce(unseen(rows))
    given[:50, 3] = np.nan
    assert_alike(found.restore(model), model, given, tolerance=max(found.tolerance, 1e-12))


def test_what_the_model_refuses_its_form_refuses() -> None:
    rows, target = data("diabetes")
    for model in (Ridge(), RandomForestRegressor(20, **SEED)):
        model.fit(rows, target)
        found, _ = accelerated(model, rows)
        assert found.kind != "none"
        beyond = rows[:2].copy()
        beyond[1, 1] = np.inf
        with pytest.raises(ValueError, match="infinity"):
            found.restore(model).predict(beyond)
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="too large for dtype"):
        found.restore(model).predict(np.full((1, 10), 1e300))


class Noisy(BaseEstimator):  # type: ignore[misc]  # untyped
    def predict(self, rows: Array) -> Array:
        return rows[:, 0] + np.random.default_rng().random(len(rows))


class Doubled(RandomForestRegressor):  # type: ignore[misc]  # untyped
    def predict(self, rows: Array) -> Array:
        return 2 * np.asarray(super().predict(rows))


def test_a_model_that_varies_is_left_alone() -> None:
    rows = data("iris")[0]
    signature, golden = described(Noisy(), rows)
    assert golden is not None
    for known in (golden, replace(golden, repeatable=False), None):
        found = accelerate(Noisy(), signature=signature, golden=known, example=rows)
        assert (found.kind, found.gain) == ("none", (1.0, 1.0))
        assert "differently each time" in found.reason


def test_a_class_of_ones_own_is_left_alone_even_if_it_is_nearly_a_forest() -> None:
    rows, target = data("diabetes")
    model = Doubled(5, **SEED).fit(rows, target)
    found, _ = accelerated(model, rows)
    assert found.kind == "none"
    assert found.tried == (("ONNX Runtime", "not tried: no graph of Doubled is known to round alike"),)
    assert "Doubled" in found.reason
    assert_alike(found.restore(model), model, rows, tolerance=0)


def test_an_instance_with_another_predict_is_found_out() -> None:
    rows, target = data("diabetes")
    model = RandomForestRegressor(5, **SEED).fit(rows, target)
    model.predict = lambda given: np.zeros(len(given))
    found, _ = accelerated(model, rows)
    assert found.kind == "none"
    assert all(text.startswith("other predictions") for _, text in found.tried)


def test_without_rows_nothing_is_used() -> None:
    rows, target = data("iris")
    model = LogisticRegression(max_iter=500).fit(rows, target)
    signature = infer_signature(model, rows)
    found = accelerate(model, signature=signature, golden=None)
    assert found.kind == "none"
    assert "no rows to compare" in found.reason
    golden = golden_rows(predictor(model), signature, rows)
    assert accelerate(model, signature=signature, golden=golden).kind == "linear"


def test_text_columns_are_left_to_the_model() -> None:
    rows = pd.DataFrame({"colour": ["red", "blue"] * 20, "size": range(40)})
    model = Noisy()
    found = accelerate(model, signature=infer_signature(model, rows), golden=None, example=rows)
    assert found.kind == "none"
    assert "'colour' is not of plain numbers" in found.reason
    texts = infer_signature(model, ["some", "text"])
    assert "no table" in accelerate(model, signature=texts, golden=None, example=["some", "text"]).reason


def test_a_model_that_fails_on_its_example_is_left_alone() -> None:
    def fail(rows: Array) -> Array:
        raise ZeroDivisionError("by nothing")

    found = accelerate(fail, signature=infer_signature(None, [[1.0]]), golden=None, example=[[1.0]])
    assert "fails on its own example: ZeroDivisionError: by nothing" in found.reason


def test_a_large_example_is_thinned_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, target = data("iris")
    model = LogisticRegression(max_iter=500).fit(rows, target)
    all_of_it = accelerated(model, rows)[0].rows
    monkeypatch.setattr(questions, "_MOST_ROWS", 50)
    assert 0 < accelerated(model, rows)[0].rows < all_of_it


@pytest.mark.parametrize("missing", ["skl2onnx", "onnxruntime"])
def test_without_onnx_the_trees_own_code_is_used(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    found = check(RandomForestClassifier(10, **SEED), "iris", "trees")
    assert found.tried[-1] == ("ONNX Runtime", "not installed: pip install 'mlnb[onnx]'")


def test_a_classifier_without_a_known_graph_has_none() -> None:
    for model in (AdaBoostClassifier(n_estimators=5), KNeighborsClassifier()):  # its graph breaks ties otherwise
        found = check(model, "iris", "none")
        outcome = f"not tried: no graph of {type(model).__name__} is known to round alike"
        assert found.tried == (("ONNX Runtime", outcome),)
    forest = make_pipeline(PCA(3), RandomForestClassifier(5, **SEED))
    assert "trees after steps" in check(forest, "iris", "none").reason


def cubed(one: Array, other: Array) -> Array:
    return np.asarray(one @ other.T) ** 3


SPECIAL = {
    "a kernel in Python": SVC(kernel=cubed),
    "ties broken": SVC(break_ties=True),
    "categories": HistGradientBoostingClassifier(max_iter=3, categorical_features=[0]),
    "a model to start from": GradientBoostingClassifier(n_estimators=3, init=LogisticRegression(max_iter=500)),
    "clipped": make_pipeline(MinMaxScaler(clip=True), LinearSVC()),
    "the most frequent": make_pipeline(SimpleImputer(strategy="most_frequent"), LinearSVC(max_iter=20_000)),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_parameters_that_a_form_does_not_know_leave_it_out(name: str) -> None:
    rows, target = data("iris")
    model = SPECIAL[name].fit(np.round(rows), target)
    found, _ = accelerated(model, np.round(rows))
    assert all("no such form" in text for title, text in found.tried if title != "ONNX Runtime")
    assert_alike(found.restore(model), model, np.round(rows), tolerance=found.tolerance)


def test_scalers_without_centre_or_scale() -> None:
    plain = make_pipeline(StandardScaler(with_mean=False), RobustScaler(with_scaling=False), LinearRegression())
    check(plain, "diabetes", "linear")


def test_categories_are_left_to_the_model() -> None:
    rows = pd.DataFrame({"kind": pd.Categorical(["a", "b"] * 5), "size": range(10)})
    found = accelerate(Noisy(), signature=infer_signature(Noisy(), rows), golden=None, example=rows)
    assert "'kind' is not of plain numbers" in found.reason


def test_another_model_cannot_have_this_form() -> None:
    rows, target = data("iris")
    found = Acceleration(kind="trees", reason="")
    with pytest.raises(NotServableError, match="Ridge has no such form"):
        found.restore(Ridge().fit(rows, target))


ANSWER = """
import pickle, sys
from pathlib import Path
folder = Path(sys.argv[1])
model, found, rows = pickle.loads((folder / "given").read_bytes())
form = found.restore(model, threads=2)
answers = form.predict(rows), form.probabilities(rows)
assert not {"skl2onnx", "onnx"} & set(sys.modules)
(folder / "answers").write_bytes(pickle.dumps(answers))
"""


def test_another_process_answers_in_the_same_form_without_converting(tmp_path: Path) -> None:
    rows, target = data("cancer")
    model = RandomForestClassifier(20, **SEED).fit(rows, target)
    found, _ = accelerated(model, rows)
    assert found.kind == "onnx"
    assert found.content
    (tmp_path / "given").write_bytes(pickle.dumps((model, found, rows)))
    told = subprocess.run([sys.executable, "-c", ANSWER, tmp_path], capture_output=True, check=True)
    assert (told.stdout, told.stderr) == (b"", b"")
    labels, table = pickle.loads((tmp_path / "answers").read_bytes())
    form = found.restore(model)
    assert form.probabilities is not None
    np.testing.assert_array_equal(labels, form.predict(rows))
    np.testing.assert_allclose(table, form.probabilities(rows), atol=1e-6)
    assert repr(found) == f"Acceleration(kind='onnx', reason={found.reason!r})"
