"""How each kind of model answers rows."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
import torch
import xgboost
from sklearn.cluster import DBSCAN
from sklearn.decomposition import PCA
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from mlnb.errors import NotServableError
from mlnb.registry.predictors import evaluating, parameters, predictor

ROWS = np.random.default_rng(0).normal(size=(40, 3))
FRAME = pd.DataFrame(ROWS, columns=["a", "b", "c"])
LABELS = np.where(ROWS[:, 0] > 0, "up", "down")


def double(rows: Any) -> Any:
    return [2 * row[0] for row in rows]


class Callable:
    def __call__(self, rows: Any) -> Any:
        return double(rows)


def test_an_estimator_answers_with_its_probabilities() -> None:
    model = LogisticRegression().fit(ROWS, LABELS)
    answers = predictor(model)
    assert (answers.predict(ROWS) == model.predict(ROWS)).all()
    assert answers.probabilities is not None
    assert (answers.probabilities(ROWS) == model.predict_proba(ROWS)).all()


@pytest.mark.parametrize("model", [LinearRegression().fit(ROWS, ROWS[:, 0]), SVC().fit(ROWS, LABELS)])
def test_an_estimator_without_probabilities_offers_none(model: Any) -> None:
    assert predictor(model).probabilities is None


@pytest.mark.parametrize(
    "model", [double, lambda rows: [2 * row[0] for row in rows], Callable(), partial(double), Callable().__call__]
)
def test_a_function_of_rows_is_a_model(model: Any) -> None:
    answers = predictor(model)
    assert answers.predict(ROWS).tolist() == double(ROWS)
    assert answers.probabilities is None


def test_a_builtin_is_a_model() -> None:
    assert predictor(len).predict(ROWS) == 40
    assert (predictor(np.abs).predict(ROWS) == np.abs(ROWS)).all()


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (LogisticRegression, r"LogisticRegression cannot be served: it is a class; an instance, fitted, is needed"),
        (
            DBSCAN(),
            r"DBSCAN cannot be served: a model needs a method `predict`, or must be callable.*rows it was fitted",
        ),
        (LocalOutlierFactor(), "only label the rows it was fitted on"),
        (PCA(), "give its method `transform`"),
        (42, r"^int cannot be served: a model needs a method `predict`, or must be callable"),
        (None, "^NoneType cannot be served"),
    ],
)
def test_what_cannot_answer_is_told_what_is_needed(model: Any, says: str) -> None:
    with pytest.raises(NotServableError, match=says):
        predictor(model)


# PyTorch -------------------------------------------------------------------------------------------------------------


def net(dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(3, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(), torch.nn.Linear(8, 2)
    ).to(dtype)


def test_a_module_answers_in_eval_mode_and_stays_in_its_own() -> None:
    module = net()
    answers = predictor(module)
    first = answers.predict(ROWS)
    assert (answers.predict(ROWS) == first).all()
    assert first.dtype == np.float32
    assert all(part.training for part in module.modules())
    module.eval()
    with torch.no_grad():
        assert (module(torch.tensor(ROWS, dtype=torch.float32)).numpy() == first).all()
    module.train()
    assert (answers.predict(ROWS) == first).all()


def test_a_module_s_copy_shares_its_weights() -> None:
    module = net()
    pairs = zip(module.parameters(), evaluating(module).parameters(), strict=True)
    assert all(one is other for one, other in pairs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("rows", [FRAME, FRAME.assign(a=True), ROWS, ROWS.tolist(), torch.tensor(ROWS)])
def test_rows_get_the_type_of_the_module(rows: Any, dtype: torch.dtype) -> None:
    answer = predictor(net(dtype)).predict(rows)
    assert answer.shape == (40, 2)
    assert answer.dtype == (np.float64 if dtype is torch.float64 else np.float32)


def test_a_module_that_starts_with_an_embedding_gets_whole_numbers() -> None:
    module = torch.nn.Sequential(torch.nn.Embedding(10, 4), torch.nn.Flatten(), torch.nn.Linear(12, 1))
    assert predictor(module).predict(np.array([[1.0, 2.0, 3.0]])).shape == (1, 1)


def test_a_module_without_weights_answers() -> None:
    assert predictor(torch.nn.ReLU()).predict([[-1, 2]]).tolist() == [[0.0, 2.0]]


class WithPredict(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def predict_proba(self, rows: Any) -> torch.Tensor:
        return self.layer(torch.as_tensor(rows, dtype=torch.float32)).softmax(1)  # type: ignore[no-any-return]  # torch

    def predict(self, rows: Any) -> Any:
        return ["yes" if up else "no" for up in self.predict_proba(rows)[:, 1] > 0.5]


def test_a_module_s_own_predict_comes_first() -> None:
    answers = predictor(WithPredict())
    assert set(answers.predict(ROWS)) <= {"yes", "no"}
    assert answers.probabilities is not None
    assert answers.probabilities(ROWS).sum(axis=1) == pytest.approx(1, abs=1e-6)


class Locked(torch.nn.Module):
    """Holds what cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, rows: torch.Tensor) -> Any:
        return self.layer(rows)


def test_a_module_that_cannot_be_copied_must_be_in_eval_mode() -> None:
    with pytest.raises(NotServableError, match=r"Locked cannot be served: .*Call its eval\(\) first"):
        predictor(Locked())
    assert predictor(Locked().eval()).predict(ROWS).shape == (40, 2)


class Pair(torch.nn.Module):
    def forward(self, rows: torch.Tensor) -> Any:
        return rows, rows


def test_a_module_that_returns_several_tensors_says_so() -> None:
    with pytest.raises(TypeError, match="returned a tuple; return one tensor"):
        predictor(Pair()).predict(ROWS)


def test_threads_share_a_module() -> None:
    answers = predictor(net())
    expected = answers.predict(ROWS)
    with ThreadPoolExecutor(4) as pool:
        assert all((answer == expected).all() for answer in pool.map(answers.predict, [ROWS] * 40))


# Boosters ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [FRAME, ROWS, ROWS.tolist()])
def test_a_booster_of_xgboost_answers(rows: Any) -> None:
    booster = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(FRAME, LABELS == "up"), 3)
    expected = booster.predict(xgboost.DMatrix(FRAME))
    assert (predictor(booster).predict(rows) == expected).all()


@pytest.mark.parametrize("rows", [FRAME, ROWS, ROWS.tolist()])
def test_a_booster_of_lightgbm_answers(rows: Any) -> None:
    booster = lightgbm.train({"objective": "binary", "verbose": -1}, lightgbm.Dataset(FRAME, LABELS == "up"), 3)
    assert (predictor(booster).predict(rows) == booster.predict(FRAME)).all()


# Parameters ----------------------------------------------------------------------------------------------------------


def test_parameters_are_short_texts_without_the_estimators() -> None:
    model = Pipeline([("scale", StandardScaler()), ("fit", LogisticRegression(C=np.float64(0.5), solver="saga"))])
    described = parameters(model)
    assert described["fit__C"] == "0.5"
    assert described["fit__solver"] == "saga"
    assert described["scale__with_mean"] == "True"
    assert not {"steps", "scale", "fit"} & set(described)
    assert "estimators" not in parameters(VotingClassifier([("a", LogisticRegression())]))


def test_functions_and_long_values_are_named_shortly() -> None:
    described = parameters(make_pipeline(FunctionTransformer(double, kw_args={"names": ["x" * 200]})))
    assert described["functiontransformer__func"].endswith("double")
    assert len(described["functiontransformer__kw_args"]) == 120
    assert " at 0x" not in str(parameters(FunctionTransformer(Callable())))


class Refuses:
    def __repr__(self) -> str:
        raise RuntimeError("not me")

    def get_params(self, deep: bool) -> Any:  # noqa: ARG002 - scikit-learn's own signature
        raise RuntimeError("not me either")


@pytest.mark.parametrize("model", [Refuses(), LogisticRegression, double, None, object()])
def test_parameters_never_fail(model: Any) -> None:
    assert parameters(model) == {}


def test_one_parameter_that_cannot_be_shown_does_not_hide_the_others() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError("not me")

    described = parameters(FunctionTransformer(kw_args=None, inv_kw_args=Odd()))
    assert described["kw_args"] == "None"
    assert described["inv_kw_args"].endswith("Odd")


def test_the_size_of_a_module_is_its_parameter() -> None:
    assert parameters(torch.nn.Linear(1000, 12)) == {"parameters": "12,012"}
