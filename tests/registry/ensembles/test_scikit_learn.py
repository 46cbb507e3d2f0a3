"""Answers equal scikit-learn's own ensembles of the same fitted members, bit by bit."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_iris, make_regression
from sklearn.ensemble import (
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier, XGBRegressor

from mlnb import Ensemble

NAMES = ["forest", "neighbours", "bayes", "boosted"]
CLASSIFIERS = [
    RandomForestClassifier(10, max_depth=2, random_state=0), KNeighborsClassifier(3), GaussianNB(),
    XGBClassifier(n_estimators=3, max_depth=2),
]  # fmt: skip
REGRESSORS = [RandomForestRegressor(5, random_state=0), KNeighborsRegressor(3), Ridge(), XGBRegressor(n_estimators=3)]
WEIGHTS: list[list[float] | None] = [None, [0.3, 1, 0.7, 2], [1, 0, 0, 1]]


def identical(one: Any, other: Any) -> bool:
    return bool(one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes())


def as_frame(rows: Any) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=[f"column {at}" for at in range(rows.shape[1])])


@pytest.fixture(params=["array", "columns", "frame"])
def layout(request: pytest.FixtureRequest) -> Any:
    return {"array": np.ascontiguousarray, "columns": np.asfortranarray, "frame": as_frame}[request.param]


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("load", [load_iris, load_breast_cancer])
def test_voting_of_classifiers(layout: Any, weights: list[float] | None, load: Any) -> None:
    rows, target = load(return_X_y=True)
    rows = layout(rows)
    voting = VotingClassifier(list(zip(NAMES, CLASSIFIERS, strict=True)), weights=weights).fit(rows[::2], target[::2])
    members = dict(voting.named_estimators_)

    hard = Ensemble(members, combine="vote", weights=weights)
    assert identical(hard.predict(rows), voting.predict(rows))
    assert not hasattr(hard, "predict_proba")

    voting.set_params(voting="soft")
    soft = (
        Ensemble(members, combine="mean") if weights is None else Ensemble(members, combine="weighted", weights=weights)
    )
    assert identical(soft.predict(rows), voting.predict(rows))
    assert identical(soft.predict_proba(rows), voting.predict_proba(rows))
    assert identical(soft.classes_, voting.classes_)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_voting_of_regressors(layout: Any, weights: list[float] | None) -> None:
    rows, target = make_regression(60, 5, random_state=0)
    rows = layout(rows)
    voting = VotingRegressor(list(zip(NAMES, REGRESSORS, strict=True)), weights=weights).fit(rows[::2], target[::2])
    mean = Ensemble(
        dict(voting.named_estimators_), combine="mean" if weights is None else "weighted", weights=weights
    )  # fmt: skip
    assert identical(mean.predict(rows), voting.predict(rows))


@pytest.mark.parametrize(
    "final", [LogisticRegression(), RandomForestClassifier(5, random_state=0), XGBClassifier(n_estimators=2)]
)
@pytest.mark.parametrize("load", [load_iris, load_breast_cancer])
def test_stacking_of_classifiers(layout: Any, load: Any, final: Any) -> None:
    """Labels are text here; one member has a decision function only."""
    data = load()
    rows, target = layout(data.data), data.target_names[data.target]
    models = [*CLASSIFIERS[:3], LinearSVC(dual=False, max_iter=5000)]
    stacking = StackingClassifier(list(zip(NAMES, models, strict=True)), final, cv=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged
        stacking.fit(rows, target)
    # scikit-learn fits members on the labels' numbers, and so they answer with those
    given = Ensemble(
        dict(stacking.named_estimators_), combine=stacking.final_estimator_, labels=[*range(len(stacking.classes_))]
    )
    assert identical(given.predict_proba(rows), stacking.predict_proba(rows))
    assert (stacking.classes_[given.predict(rows)] == stacking.predict(rows)).all()


@pytest.mark.parametrize("load", [load_iris, load_breast_cancer])
def test_a_final_estimator_fitted_here(layout: Any, load: Any) -> None:
    data = load()
    rows, target = layout(data.data), data.target_names[data.target]
    members = {name: model.fit(rows[::2], target[::2]) for name, model in zip(NAMES, CLASSIFIERS[:3], strict=False)}
    final = LogisticRegression(max_iter=500)
    stacking = StackingClassifier(list(members.items()), final, cv="prefit").fit(rows[1::2], target[1::2])
    ours = Ensemble(members, combine=final).fit(rows[1::2], target[1::2])
    assert identical(ours.predict(rows), stacking.predict(rows))
    assert identical(ours.predict_proba(rows), stacking.predict_proba(rows))
    assert ours.classes_.tolist() == stacking.classes_.tolist()
    assert not hasattr(final, "coef_")  # the one that was given stays as it was
    theirs = Ensemble(members, combine=stacking.final_estimator_)  # it was fitted on 0, 1, ..
    assert identical(theirs.predict(rows), stacking.predict(rows))
    assert theirs.classes_.tolist() == stacking.classes_.tolist()


def test_stacking_of_regressors(layout: Any) -> None:
    rows, target = make_regression(60, 5, random_state=0)
    rows = layout(rows)
    members = {name: model.fit(rows[::2], target[::2]) for name, model in zip(NAMES, REGRESSORS, strict=True)}
    stacking = StackingRegressor(list(members.items()), LinearRegression(), cv="prefit").fit(rows, target)
    ours = Ensemble(members, combine=LinearRegression()).fit(rows, target)
    assert identical(ours.predict(rows), stacking.predict(rows))
    given = Ensemble(members, combine=stacking.final_estimator_)
    assert identical(given.predict(rows), stacking.predict(rows))
    assert not hasattr(given, "predict_proba")
    assert not hasattr(given, "classes_")


def test_labels_in_text_as_voting_gives_them() -> None:
    rows, target = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[target]
    models = [DecisionTreeClassifier(max_depth=depth, random_state=0) for depth in (1, 2, 3)]
    voting = VotingClassifier([(f"m{at}", model) for at, model in enumerate(models, 1)], voting="soft").fit(rows, names)
    ours = Ensemble([model.fit(rows, names) for model in models], combine="mean")
    assert identical(ours.predict(rows), voting.predict(rows))
    assert identical(ours.predict_proba(rows), voting.predict_proba(rows))
