"""Every estimator of scikit-learn that predicts comes back from the registry and answers as before, to the last bit."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import ClassifierMixin, ClusterMixin, OutlierMixin, RegressorMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor, StackingRegressor, VotingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier, RegressorChain
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import all_estimators

from mlnb.errors import NotServableError
from mlnb.registry.predictors import predictor
from mlnb.registry.registry import ModelRegistry

TRANSDUCTIVE = {
    "AgglomerativeClustering": "labels the rows it was fitted on only",
    "DBSCAN": "labels the rows it was fitted on only",
    "FeatureAgglomeration": "clusters features; it transforms rows",
    "HDBSCAN": "labels the rows it was fitted on only",
    "OPTICS": "labels the rows it was fitted on only",
    "SpectralClustering": "labels the rows it was fitted on only",
}
"""Estimators that have no ``predict``: they are refused. All others can be fitted and served."""

_KINDS = (ClassifierMixin, ClusterMixin, OutlierMixin, RegressorMixin)
ESTIMATORS: dict[str, type] = {
    name: kind for name, kind in all_estimators() if issubclass(kind, _KINDS) or hasattr(kind, "predict")
}
"""By name, among them those of no kind that predict nonetheless, such as Pipeline, RFE and GaussianMixture."""
SERVABLE = sorted(ESTIMATORS.keys() - TRANSDUCTIVE.keys())


def own_arguments() -> dict[str, dict[str, Any]]:
    """Return the arguments of those that need some, or that are better small."""
    linear, ridge = LogisticRegression(), Ridge()
    return {
        "ClassifierChain": {"estimator": linear},
        "ColumnTransformer": {"transformers": [("all", StandardScaler(), [0, 1])]},
        "FixedThresholdClassifier": {"estimator": linear},
        "FrozenEstimator": {"estimator": linear},
        "GridSearchCV": {"estimator": ridge, "param_grid": {"alpha": [0.1, 1.0]}, "cv": 2},
        "HalvingGridSearchCV": {"estimator": ridge, "param_grid": {"alpha": [0.1, 1.0]}, "cv": 2},
        "HalvingRandomSearchCV": {"estimator": ridge, "param_distributions": {"alpha": [0.1, 1.0]}, "cv": 2},
        "LocalOutlierFactor": {"novelty": True},
        "MultiOutputClassifier": {"estimator": linear},
        "MultiOutputRegressor": {"estimator": ridge},
        "OneVsOneClassifier": {"estimator": linear},
        "OneVsRestClassifier": {"estimator": linear},
        "OutputCodeClassifier": {"estimator": linear, "random_state": 0},
        "Pipeline": {"steps": [("scale", StandardScaler()), ("model", linear)]},
        "OrthogonalMatchingPursuitCV": {"max_iter": 3, "cv": 2},
        "RANSACRegressor": {"random_state": 0},
        "RFE": {"estimator": linear},
        "RFECV": {"estimator": linear, "cv": 2},
        "RandomizedSearchCV": {"estimator": ridge, "param_distributions": {"alpha": [0.1, 1.0]}, "n_iter": 2, "cv": 2},
        "RegressorChain": {"estimator": ridge},
        "SelfTrainingClassifier": {"estimator": linear},
        "StackingClassifier": {"estimators": [("linear", linear), ("tree", DecisionTreeClassifier())], "cv": 2},
        "StackingRegressor": {"estimators": [("ridge", ridge), ("forest", RandomForestRegressor(3))], "cv": 2},
        "TunedThresholdClassifierCV": {"estimator": linear, "cv": 2},
        "VotingClassifier": {"estimators": [("linear", linear), ("bayes", GaussianNB())], "voting": "soft"},
        "VotingRegressor": {"estimators": [("ridge", ridge), ("forest", RandomForestRegressor(3))]},
    }


_SMALL = {"n_estimators": 5, "max_iter": 50, "n_init": 1, "random_state": 0}
_BINARY = {"FixedThresholdClassifier", "TunedThresholdClassifierCV"}
_UNLABELLED = {"LabelPropagation", "LabelSpreading", "SelfTrainingClassifier"}  # -1 means that there is no label
_MULTI = {"ClassifierChain", "MultiOutputClassifier"}


def fitted(kind: type) -> tuple[Any, np.ndarray[Any, Any]]:
    """Return a small fitted estimator, and the rows it was fitted on."""
    random = np.random.default_rng(0)
    rows = np.abs(random.normal(size=(60, 4))) + 0.1  # some take no negative numbers
    given = own_arguments().get(kind.__name__, {})
    if kind.__name__ == "IsotonicRegression":
        rows = rows[:, :1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # too few rows, too few iterations, to be removed from scikit-learn soon
        model = kind(**given)
        accepted = model.get_params(deep=False)
        model.set_params(**{name: value for name, value in _SMALL.items() if name in accepted and name not in given})
        if kind.__name__ == "FrozenEstimator":
            model.estimator.fit(rows, target_of(model.estimator, "LogisticRegression", rows))
        return model.fit(rows, target_of(model, kind.__name__, rows)), rows


def target_of(model: Any, name: str, rows: np.ndarray[Any, Any]) -> Any:
    """Return a target as the estimator takes it."""
    number = rows @ np.arange(1.0, rows.shape[1] + 1)
    labels = np.digitize(number, np.quantile(number, [0.3, 0.6]))
    if name in _MULTI:
        return np.column_stack([labels > 0, labels > 1]).astype(int)
    if name in _BINARY:
        return np.array(["no", "yes"])[(labels > 0).astype(int)]
    if isinstance(model, ClassifierMixin) or name in {"RFE", "RFECV", "Pipeline"}:
        return labels if name in _UNLABELLED else np.array(["low", "middle", "high"])[labels]
    if name.startswith("MultiTask") or name in {"MultiOutputRegressor", "RegressorChain", "CCA", "PLSCanonical"}:
        return np.column_stack([number, -rows[:, 0]])
    return number


ANSWERS = ("predict", "predict_proba", "decision_function", "score_samples")


def answers(model: Any, rows: Any) -> dict[str, Any]:
    return {name: getattr(model, name)(rows) for name in ANSWERS if callable(getattr(model, name, None))}


def assert_same(first: Any, second: Any) -> None:
    assert type(first) is type(second)
    if isinstance(first, list):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
        return
    assert (first.shape, first.dtype) == (second.shape, second.dtype)
    np.testing.assert_array_equal(first, second)


def assert_round_trip(registry: ModelRegistry, model: Any, rows: Any, *, serializer: str | None = None) -> None:
    rows = rows.copy() if hasattr(rows, "copy") else rows  # kernels treat the very rows of the fit specially
    before = answers(model, rows)
    version = registry.register(model, "any", example=rows, serializer=serializer)
    assert version.model_type.startswith("sklearn.")
    assert version.format == (serializer or "cloudpickle")
    golden = registry.golden(version)
    assert golden is not None
    assert golden.repeatable
    for mapped in (False, True):
        again = answers(ModelRegistry(registry.url).load(version, mapped=mapped), rows)
        assert before.keys() == again.keys()
        assert "predict" in before
        for name, given in before.items():
            assert_same(given, again[name])


@pytest.mark.filterwarnings(
    "ignore:Class .* is deprecated; this is deprecated in version:FutureWarning"
)  # on unpickling
@pytest.mark.parametrize("name", SERVABLE)
def test_an_estimator_comes_back_and_answers_the_same(registry: ModelRegistry, name: str) -> None:
    assert_round_trip(registry, *fitted(ESTIMATORS[name]))


@pytest.mark.parametrize("name", TRANSDUCTIVE)
def test_an_estimator_without_predict_is_refused(registry: ModelRegistry, name: str) -> None:
    model, rows = fitted(ESTIMATORS[name])
    assert not hasattr(model, "predict")
    with pytest.raises(NotServableError, match=f"{name} cannot be served: a model needs a method `predict`"):
        registry.register(model, "any", example=rows)
    assert registry.names() == []


def test_an_outlier_detector_that_only_labels_its_own_rows_is_refused(registry: ModelRegistry) -> None:
    with pytest.raises(NotServableError, match=r"LocalOutlierFactor cannot be served.*only label the rows"):
        registry.register(LocalOutlierFactor().fit(np.eye(30)), "any", example=np.eye(30))


def test_no_estimator_is_left_out() -> None:
    listed = {name for kind in ("classifier", "regressor", "cluster") for name, _ in all_estimators(type_filter=kind)}
    assert {*SERVABLE, *TRANSDUCTIVE} == ESTIMATORS.keys() >= listed
    assert len(SERVABLE) + len(TRANSDUCTIVE) == len(ESTIMATORS)
    assert len(ESTIMATORS) > 110  # of scikit-learn 1.6


# Several together ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def people() -> tuple[pd.DataFrame, np.ndarray[Any, Any]]:
    """A table of mixed columns with a missing value, and labels."""
    random = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "age": random.integers(18, 90, 80),
            "income": random.normal(3000, 500, 80).round(2),
            "city": random.choice(["Ulm", "Köln", "Wien"], 80),
            "member": random.choice([True, False], 80),
        }
    )
    return frame, np.where(frame["income"] > 3000, "buys", "leaves")


def columns() -> ColumnTransformer:
    return ColumnTransformer(
        [("numbers", StandardScaler(), ["age", "income"]), ("texts", OneHotEncoder(), ["city"])],
        remainder="passthrough",
    )


COMPOSED: dict[str, Callable[[], Any]] = {
    "pipeline of columns": lambda: make_pipeline(columns(), LogisticRegression()),
    "vote": lambda: make_pipeline(
        columns(), VotingClassifier([("a", LogisticRegression()), ("b", DecisionTreeClassifier(random_state=0))])
    ),
    "calibrated": lambda: CalibratedClassifierCV(make_pipeline(columns(), GaussianNB()), cv=2),
    "search": lambda: GridSearchCV(
        make_pipeline(columns(), KNeighborsClassifier()), {"kneighborsclassifier__n_neighbors": [1, 3]}, cv=2
    ),
}


@pytest.mark.parametrize("name", COMPOSED)
def test_estimators_of_estimators_on_a_frame(
    registry: ModelRegistry, people: tuple[pd.DataFrame, np.ndarray[Any, Any]], name: str
) -> None:
    frame, labels = people
    assert_round_trip(registry, COMPOSED[name]().fit(frame, labels), frame)


def test_regressors_of_regressors(registry: ModelRegistry, people: tuple[pd.DataFrame, np.ndarray[Any, Any]]) -> None:
    frame, _ = people
    target = TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1)
    forest = RandomForestRegressor(3, random_state=0)
    model = make_pipeline(columns(), StackingRegressor([("ridge", target), ("forest", forest)], cv=2))
    assert_round_trip(registry, model.fit(frame, frame["income"]), frame)
    chain = RegressorChain(Ridge()).fit(frame[["age"]], frame[["age", "income"]])
    assert_round_trip(registry, chain, frame[["age"]])


@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(3, random_state=0),
        KNeighborsClassifier(3),
        MultiOutputClassifier(LogisticRegression()),
        DecisionTreeClassifier(random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
@pytest.mark.parametrize("classes", [(2, 2), (2, 3)], ids=["as many classes", "more classes in one"])
def test_classifiers_of_several_outputs(registry: ModelRegistry, model: Any, classes: tuple[int, int]) -> None:
    """Their ``predict_proba`` is a list, an array for each output, of as many columns as that has classes."""
    rows = np.random.default_rng(0).normal(size=(40, 3))
    target = np.column_stack([np.arange(40) % classes[0], np.arange(40) % classes[1]])
    model = clone(model).fit(rows, target)
    assert_round_trip(registry, model, rows)
    probabilities = predictor(model).probabilities
    assert probabilities is not None
    found = probabilities(rows)
    assert len(found) == len(rows)  # a batch is taken apart by rows
    for output, expected in enumerate(model.predict_proba(rows)):
        np.testing.assert_array_equal(found[:, output, : classes[output]], expected)


def test_texts(registry: ModelRegistry) -> None:
    texts = ["a fine film", "a bad film", "fine", "bad", "so fine", "so bad"]
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, ["+", "-"] * 3)
    assert_round_trip(registry, model, texts)


SKOPS = ["LogisticRegression", "RandomForestClassifier", "HistGradientBoostingRegressor", "KMeans", "SVC", "Pipeline"]


@pytest.mark.parametrize("name", SKOPS)
def test_an_estimator_comes_back_without_pickle(registry: ModelRegistry, name: str) -> None:
    assert_round_trip(registry, *fitted(ESTIMATORS[name]), serializer="skops")


# What a notebook defines ---------------------------------------------------------------------------------------------

NOTEBOOK = """
import functools, sys
import numpy as np
import mlnb
from sklearn.base import BaseEstimator, RegressorMixin

SCALE = 3.0


def helper(rows):
    return SCALE * np.asarray(rows)[:, 0]


class Base:
    def predict(self, rows):
        return helper(rows) + self.offset()

    def offset(self):
        return 0.0


class Child(Base):
    def offset(self):
        return super().offset() + 1.0


class Estimator(RegressorMixin, BaseEstimator):
    def __init__(self, factor=2.0):
        self.factor = factor

    def fit(self, rows, target):
        self.mean_ = float(np.mean(target))
        self.n_features_in_ = np.asarray(rows).shape[1]
        return self

    def predict(self, rows):
        return np.full(len(rows), self.factor * self.mean_)


class Slotted:
    __slots__ = ("factor",)

    def __init__(self):
        self.factor = 5.0

    def predict(self, rows):
        return self.factor * np.asarray(rows)[:, 0]


def with_array():
    weights = np.arange(1_000_000, dtype=float)

    def answer(rows):
        return weights[np.asarray(rows)[:, 0].astype(int)]

    return answer


def recursive(rows):
    return [row[0] if row[0] < 1 else recursive([[row[0] - 1]])[0] for row in rows]


def power(exponent, rows):
    return np.asarray(rows)[:, 0] ** exponent


MODELS = {
    "child": Child(),
    "estimator": Estimator().fit([[0.0]], [21.0]),
    "slotted": Slotted(),
    "function": helper,
    "lambda": lambda rows: np.asarray(rows)[:, 0] - SCALE,
    "closure": with_array(),
    "recursive": recursive,
    "partial": functools.partial(power, 2),
    "method": Child().predict,
    "call": type("Callable", (), {"__call__": lambda self, rows: np.asarray(rows)[:, 1]})(),
}
"""
REGISTER = (
    NOTEBOOK
    + """
registry = mlnb.ModelRegistry(sys.argv[1])
for name, model in MODELS.items():
    version = registry.register(model, name, example=np.array([[3.0, 4.0], [0.0, 7.0]]))
    print(name, version.size, version.format, version.model_type)
"""
)
LOAD = """
import sys
import numpy as np
import mlnb
registry = mlnb.ModelRegistry(sys.argv[1])
rows = np.array([[3.0, 4.0], [0.0, 7.0]])
for name in registry.names():
    for mapped in (False, True):
        model = registry.load(name, mapped=mapped)
        print(name, *np.asarray((model.predict if hasattr(model, "predict") else model)(rows)).tolist())
"""
EXPECTED = {
    "child": (10.0, 1.0),
    "estimator": (42.0, 42.0),
    "slotted": (15.0, 0.0),
    "function": (9.0, 0.0),
    "lambda": (0.0, -3.0),
    "closure": (3.0, 0.0),
    "recursive": (0.0, 0.0),
    "partial": (9.0, 0.0),
    "method": (10.0, 1.0),
    "call": (4.0, 7.0),
}


def test_what_a_notebook_defines_is_loaded_where_it_is_not_defined(home: Path) -> None:
    registered = list(run(REGISTER, home))
    assert [words[0] for words in registered] == list(EXPECTED)
    sizes = {words[0]: int(words[1]) for words in registered}
    assert sizes["closure"] > 8_000_000
    assert max(sizes[name] for name in EXPECTED.keys() - {"closure"}) < 100_000
    closure = ModelRegistry(home).version("closure")
    assert [file.size for file in closure.files if file.path.startswith("buffers/")] == [8_000_000]
    assert list(run(LOAD, home)) == [
        [name, *map(str, EXPECTED[name])] for name in sorted(EXPECTED) for _ in ("copied", "mapped")
    ]


def test_what_a_notebook_defines_is_kept_from_later_changes(home: Path) -> None:
    changed = REGISTER.replace("MODELS = {", "MODELS = {}\nOTHERS = {") + (
        "registry.register(helper, 'function', example=np.array([[3.0]]))\n"
        "SCALE = 100.0\n"
        "def helper(rows):\n    return rows[:, 0] * 0\n"
        "print('function', *registry.load('function')(np.array([[3.0]])).tolist())\n"
    )
    assert list(run(changed, home)) == [["function", "9.0"]]


def run(program: str, place: Path) -> Iterator[list[str]]:
    """Run a program as ``__main__`` of a process of its own; return the words it printed, line by line."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(place)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    yield from (line.split() for line in done.stdout.splitlines())
