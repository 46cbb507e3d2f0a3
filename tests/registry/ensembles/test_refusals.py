"""What cannot be an ensemble is refused at once, with one error that says why and what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multioutput import MultiOutputClassifier
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from mlnb import Ensemble, ModelRegistry
from mlnb.errors import InvalidInputError, InvalidNameError, MlnbError, ModelNotFoundError, NotServableError

ROWS, NUMBERS = np.array([[0.0, 1.0], [1.0, 0.5], [2.0, 0.0], [3.0, 2.0]]), np.array([0, 0, 1, 1])
TEXTS = np.array(["no", "no", "yes", "yes"])
ONE, OTHER = LogisticRegression().fit(ROWS, NUMBERS), DecisionTreeClassifier().fit(ROWS, NUMBERS)
BY_TEXT, NARROW = DecisionTreeClassifier().fit(ROWS, TEXTS), DecisionTreeClassifier().fit(ROWS[:, :1], NUMBERS)
RIDGE, SQUARES = Ridge().fit(ROWS, NUMBERS), Ridge(alpha=2).fit(ROWS, NUMBERS)
SVM = LinearSVC().fit(ROWS, NUMBERS)
BOTH = MultiOutputClassifier(DecisionTreeClassifier()).fit(ROWS, np.array([NUMBERS, NUMBERS]).T)
PAIR, NUMBERED = {"one": ONE, "other": OTHER}, {"ridge": RIDGE, "squares": SQUARES}


def zeros(rows: Any) -> Any:
    return np.zeros(len(rows))


def ones(rows: Any) -> Any:
    return np.ones(len(rows))


@pytest.mark.parametrize(
    ("members", "settings", "error", "message"),
    [
        ({"one": ONE}, {}, InvalidInputError, r"two members or more; got 1\. Serve one model by itself"),
        ([], {}, InvalidInputError, "two members or more; got 0"),
        (ONE, {}, InvalidInputError, "members are models by name, .* got a sklearn.*LogisticRegression"),
        ("iris", {}, InvalidInputError, "got a str"),
        ({"one": ONE, "same": ONE}, {}, InvalidInputError, "'one' and 'same' are the same model.*use weights"),
        ({"one": ONE, "../x": OTHER}, {}, InvalidNameError, "'../x' is not a valid member name"),
        ({"one": ONE, "x": 3}, {}, NotServableError, "int cannot be served"),
        ({"one": ONE, "x": Ridge}, {}, NotServableError, "it is a class"),
        ({"one": ONE, "x": Ridge()}, {}, NotServableError, "Ridge is not fitted yet"),
        ({"one": ONE, "x": KMeans(2).fit(ROWS)}, {}, NotServableError, "'x', a sklearn.*KMeans, is a cluster model"),
        ({"one": ONE, "x": BOTH}, {}, NotServableError, "'x' answers several outputs"),
        ({"one": ONE, "x": RIDGE}, {"combine": "mean"}, NotServableError, "'one' is a classifier and 'x' a regressor"),
        ({"x": RIDGE, "one": ONE}, {}, NotServableError, "'one' is a classifier and 'x' a regressor"),
        ({"one": ONE, "text": BY_TEXT}, {}, NotServableError, r"'one' \(0, 1\) and of 'text' \('no', 'yes'\) cannot"),
        ({"one": ONE, "narrow": NARROW}, {}, NotServableError, "'one' takes 2 columns and 'narrow' takes 1, neither"),
        ({"one": ONE, "svm": SVM}, {"combine": "mean"}, NotServableError, "'svm', a .*LinearSVC, has no predict_proba"),
        (
            {"one": ONE, "svm": SVM},
            {"combine": "weighted"},
            NotServableError,
            "has no predict_proba. Combine by 'vote'",
        ),
        ({"one": ONE, "svm": SVM}, {"combine": "cascade"}, NotServableError, "has no predict_proba"),
        (PAIR, {"combine": "median"}, NotServableError, "'median' is for regressors, and 'one' is a classifier"),
        (NUMBERED, {"combine": "vote"}, NotServableError, "'vote' is for classifiers, and 'ridge' is a regressor"),
        (NUMBERED, {"combine": "cascade"}, NotServableError, "'cascade' is for classifiers, and 'ridge' is a"),
        ([zeros, ones], {"combine": "median", "labels": [0, 1]}, NotServableError, "labels are of classifiers"),
        ([zeros, ones], {"combine": "vote"}, NotServableError, r"No member says which classes there are.*labels=\["),
        (PAIR, {"labels": [0]}, InvalidInputError, "'one' knows the label 1, which labels lacks"),
        (PAIR, {"labels": ["a", "b"]}, NotServableError, "cannot be compared"),
        (PAIR, {"labels": [0, 0, 1]}, InvalidInputError, "labels are the classes, each once"),
        (PAIR, {"labels": [0, "a"]}, InvalidInputError, "all of one kind"),
        (PAIR, {"labels": 7}, InvalidInputError, "labels are the classes"),
        (PAIR, {"labels": []}, InvalidInputError, "labels are the classes"),
        (PAIR, {"combine": "means"}, InvalidInputError, "combine='means': did you mean 'mean'"),
        (PAIR, {"combine": None}, NotServableError, "NoneType cannot be served"),
        (PAIR, {"weights": [1, -1]}, InvalidInputError, "weight of 'other' must be a finite number from 0, not -1"),
        (PAIR, {"weights": [1, float("nan")]}, InvalidInputError, "weight of 'other' .* not nan"),
        (PAIR, {"weights": [float("inf"), 1]}, InvalidInputError, "weight of 'one' .* not inf"),
        (PAIR, {"weights": [1, "2"]}, InvalidInputError, "weight of 'other' .* not '2'"),
        (PAIR, {"weights": np.zeros(2)}, InvalidInputError, "weights are all 0"),
        (PAIR, {"weights": [1]}, InvalidInputError, r"one number for each of the members one, other; got \[1\]"),
        (PAIR, {"weights": 3}, InvalidInputError, "one number for each of the members one, other; got 3"),
        (PAIR, {"weights": {"one": 1, "othr": 1}}, InvalidInputError, "name 'othr', who is no member; did you mean"),
        (PAIR, {"weights": {"one": 1}}, InvalidInputError, "weights lack 'other'"),
        (PAIR, {"combine": "mean", "weights": [1, 1]}, InvalidInputError, "go with combine='weighted' or 'vote', not"),
        (PAIR, {"quorum": 0}, InvalidInputError, "a whole number from 1 to 2; got 0"),
        (PAIR, {"quorum": 3}, InvalidInputError, "a whole number from 1 to 2; got 3"),
        (PAIR, {"quorum": 1.5}, InvalidInputError, "got 1.5"),
        (PAIR, {"quorum": True}, InvalidInputError, "got True"),
        (PAIR, {"combine": Ridge(), "quorum": 1}, InvalidInputError, "quorum does not go with stacking"),
        (PAIR, {"combine": "mean", "threshold": 0.5}, InvalidInputError, "threshold goes with combine='cascade'"),
        (PAIR, {"combine": "cascade", "threshold": 0}, InvalidInputError, "above 0 and at most 1; got 0"),
        (PAIR, {"combine": "cascade", "threshold": 1.1}, InvalidInputError, "got 1.1"),
        (PAIR, {"combine": "cascade", "threshold": float("nan")}, InvalidInputError, "got nan"),
        (PAIR, {"combine": "cascade", "threshold": "0.5"}, InvalidInputError, "got '0.5'"),
        ({"one": ONE, "ref": "nobody"}, {}, ModelNotFoundError, "no model 'nobody'"),
    ],
)
def test_at_construction(members: Any, settings: dict[str, Any], error: type[MlnbError], message: str) -> None:
    with pytest.raises(error, match=message):
        Ensemble(members, **({"combine": "vote"} | settings))


def test_labels_and_numbers_may_be_stacked() -> None:
    ours = Ensemble({"one": ONE, "ridge": RIDGE, "text": zeros}, combine=LogisticRegression()).fit(ROWS, TEXTS)
    assert ours.predict(ROWS).tolist() == TEXTS.tolist()


def test_the_same_version_through_an_alias(registry: ModelRegistry) -> None:
    registry.register(ONE, "iris")
    registry.set_alias("iris", "champion", 1)
    for given in ("iris@champion", "iris", registry.version("iris")):
        with pytest.raises(InvalidInputError, match=r"'a' and 'b' are the same model \(iris:1\)"):
            Ensemble({"a": "iris:1", "b": given}, combine="vote")


@pytest.mark.parametrize(
    ("combine", "target", "message"),
    [
        ("mean", NUMBERS, "'mean' has nothing to fit"),
        ("weighted", NUMBERS[:2], r"y has the shape \(2,\) for 4 rows"),
        ("weighted", [0, 1, 2, 1], "y: 2 is none of the labels 0, 1"),
        ("weighted", TEXTS, "y: 'no' is none of the labels 0, 1"),
    ],
)
def test_what_cannot_be_fitted(combine: str, target: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Ensemble(PAIR, combine=combine).fit(ROWS, target)


@pytest.mark.parametrize("target", [TEXTS, [0.0, 1.0, float("nan"), 1.0]])
def test_weights_of_regressors_are_fitted_on_numbers(target: Any) -> None:
    with pytest.raises(InvalidInputError, match="y has other values than finite numbers"):
        Ensemble(NUMBERED, combine="weighted").fit(ROWS, target)


def test_several_numbers_for_each_row() -> None:
    def pair(rows: Any) -> Any:
        return np.stack([rows[:, 0], rows[:, 1]], axis=1)

    def twice(rows: Any) -> Any:
        return 2 * pair(rows)

    assert Ensemble([pair, twice], combine="mean").predict(ROWS).tolist() == (1.5 * ROWS).tolist()
    assert Ensemble([pair, twice], combine="median").predict(ROWS).tolist() == (1.5 * ROWS).tolist()
    with pytest.raises(NotServableError, match=r"'m1' answers with the shape \(4, 2\), and 'm2' with \(4,\)"):
        Ensemble([pair, zeros], combine="mean").predict(ROWS)
    with pytest.raises(InvalidInputError, match="one number for each row"):
        Ensemble([pair, twice], combine="weighted").fit(ROWS, NUMBERS)


def test_a_final_estimator_that_is_not_fitted_or_cannot_be(registry: ModelRegistry) -> None:
    ours = Ensemble(PAIR, combine=LogisticRegression())
    with pytest.raises(NotServableError, match="The final estimator is not fitted yet"):
        ours.predict(ROWS)
    with pytest.raises(NotServableError, match="The final estimator is not fitted yet"):
        registry.register(ours, "mix")
    assert registry.names() == []
    with pytest.raises(NotServableError, match="a function, has no fit"):
        Ensemble(PAIR, combine=zeros).fit(ROWS, NUMBERS)
    assert Ensemble(PAIR, combine=zeros).predict(ROWS).tolist() == [0, 0, 0, 0]


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_rows_of_another_width() -> None:
    frame = pd.DataFrame(ROWS, columns=["a", "b"])
    ours = Ensemble(PAIR, combine="vote")
    with pytest.raises(InvalidInputError, match="'one' takes 2 columns; the rows have 1"):
        ours.predict(frame[["a"]])
    assert ours.predict(frame).tolist() == NUMBERS.tolist()
    assert ours.predict(ROWS.tolist()).tolist() == NUMBERS.tolist()
