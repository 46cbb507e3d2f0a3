"""Members of different frameworks, of different columns, and of labels in different orders."""

from __future__ import annotations

import pickle
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from lightgbm import LGBMClassifier
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from xgboost import Booster, DMatrix, XGBClassifier, train

from mlnb import Ensemble, ModelRegistry
from mlnb.errors import InvalidInputError, NotServableError
from mlnb.registry.predictors import predictor
from mlnb.registry.rows.inference import infer_signature

IRIS = load_iris(as_frame=True)
FRAME, NUMBERS = IRIS.data, IRIS.target.to_numpy()
ROWS = FRAME.to_numpy()
NAMES = IRIS.target_names[NUMBERS]
LENGTHS, WIDTHS = list(FRAME.columns[::2]), list(FRAME.columns[1::2])


def module(*, softmax: bool = True) -> torch.nn.Sequential:
    torch.manual_seed(0)
    layers = [torch.nn.Linear(4, 3), *([torch.nn.Softmax(dim=1)] if softmax else [])]
    return torch.nn.Sequential(*layers)


def shares(rows: Any) -> Any:
    """Probabilities by the third column."""
    far = np.abs(np.asarray(rows)[:, [2]] - [1.5, 4.3, 5.5])
    return np.exp(-far) / np.exp(-far).sum(axis=1, keepdims=True)


def booster() -> Booster:
    return train({"objective": "multi:softprob", "num_class": 3}, DMatrix(ROWS, NUMBERS), num_boost_round=2)


def members() -> dict[str, Any]:
    forest = RandomForestClassifier(5, random_state=0).fit(ROWS, NUMBERS)
    return {
        "forest": forest,
        "xgboost": XGBClassifier(n_estimators=2).fit(ROWS, NUMBERS),
        "lightgbm": LGBMClassifier(n_estimators=2, verbose=-1).fit(ROWS, NUMBERS),
        "booster": booster(),
        "net": module(),
        "graph": to_onnx(LogisticRegression(max_iter=500).fit(ROWS, NUMBERS), ROWS[:1], options={"zipmap": False}),
        "function": shares,
    }


@pytest.mark.parametrize("rows", [ROWS, FRAME])
def test_seven_kinds_together(rows: Any) -> None:
    given = members()
    ours = Ensemble(given, combine="mean")
    tables = [predictor(given["graph"]).probabilities(rows)]  # type: ignore[misc]
    tables += [given[name].predict_proba(ROWS) for name in ("forest", "xgboost", "lightgbm")]
    tables += [given["booster"].predict(DMatrix(ROWS)), shares(ROWS)]
    with torch.inference_mode():
        tables.append(given["net"](torch.tensor(ROWS, dtype=torch.float32)).numpy())
    assert np.allclose(ours.predict_proba(rows), np.mean(tables, axis=0), atol=1e-6)
    assert (ours.predict(rows) == ours.predict_proba(rows).argmax(axis=1)).all()
    hard = Ensemble(given, combine="vote")
    votes = np.array([table.argmax(axis=1) for table in tables])
    assert (hard.predict(rows) == [np.bincount(row).argmax() for row in votes.T]).all()
    assert ours.n_features_in_ == 4
    assert infer_signature(ours, rows).output == "class"
    assert infer_signature(ours, rows).labels == (0, 1, 2)


def test_a_copy_from_another_process_answers_the_same() -> None:
    ours = Ensemble(members(), combine=LogisticRegression(max_iter=500)).fit(ROWS, NAMES)
    again = cloudpickle.loads(cloudpickle.dumps(ours))
    assert (again.predict_proba(ROWS) == ours.predict_proba(ROWS)).all()
    assert again.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert list(pickle.loads(pickle.dumps(ours)).members) == list(ours.members)


def test_each_is_given_the_columns_it_knows() -> None:
    """Labels differ as well: one knows two of the three, another has them in another order."""
    few = NAMES != "virginica"
    lengths = LogisticRegression().fit(FRAME[LENGTHS][few], NAMES[few])
    widths = LogisticRegression().fit(FRAME[WIDTHS], NAMES)
    ours = Ensemble({"lengths": lengths, "widths": widths}, combine="mean")
    assert ours.feature_names_in_.tolist() == [*LENGTHS, *WIDTHS]
    wide = np.column_stack([lengths.predict_proba(FRAME[LENGTHS]), np.zeros(len(FRAME))])
    expected = (wide + widths.predict_proba(FRAME[WIDTHS])) / 2
    more = FRAME.assign(more=1.0)
    assert (ours.predict_proba(more) == expected).all()
    assert ours.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert np.allclose(ours.predict_proba(pl.DataFrame(FRAME.to_dict("list"))), expected)
    signature = infer_signature(ours, FRAME)
    assert set(signature.names) == set(FRAME.columns)
    assert np.allclose(ours.predict_proba(signature.coerce(FRAME)), expected)
    with pytest.raises(
        InvalidInputError, match=r"'lengths' takes the column 'sepal length \(cm\)', which is not there"
    ):
        ours.predict(FRAME[WIDTHS])
    with pytest.raises(InvalidInputError, match=r"'lengths' takes 2 columns, by name sepal length .* the rows have 4"):
        ours.predict(ROWS)


def test_names_are_in_an_order_only_where_one_member_knows_all() -> None:
    """A member that takes all by place would be given them in another order."""
    some = LogisticRegression().fit(FRAME[LENGTHS[::-1]], NUMBERS)
    ours = Ensemble({"some": some, "function": shares}, combine="mean")
    assert ours.feature_names_in_.tolist() == LENGTHS[::-1]  # the only names that anybody knows
    every = LogisticRegression(max_iter=500).fit(FRAME, NUMBERS)
    ours = Ensemble({"some": some, "every": every, "function": shares}, combine="mean")
    assert ours.feature_names_in_.tolist() == list(FRAME.columns)
    others = LogisticRegression().fit(FRAME[WIDTHS], NUMBERS)
    ours = Ensemble({"some": some, "others": others, "function": shares}, combine="mean")
    assert not hasattr(ours, "feature_names_in_")
    assert infer_signature(ours, FRAME).names == tuple(FRAME.columns)


def test_two_classes_of_a_module_in_the_order_that_was_named() -> None:
    def high(rows: Any) -> Any:
        chance = 1 / (1 + np.exp(-rows[:, 0]))
        return np.column_stack([chance, 1 - chance])

    def low(rows: Any) -> Any:
        return np.full((len(rows), 2), 0.5)

    ours = Ensemble([high, low], combine="mean", labels=["yes", "no"])
    assert ours.classes_.tolist() == ["no", "yes"]
    assert ours.predict(np.array([[4.0], [-4.0]])).tolist() == ["yes", "no"]
    assert Ensemble([high, low], combine="vote", labels=["yes", "no"]).predict(np.array([[4.0]])).tolist() == ["yes"]
    assert list(ours.members) == ["m1", "m2"]


@pytest.mark.parametrize("combine", ["mean", "cascade"])
def test_a_module_without_softmax_is_refused_but_may_vote(combine: str) -> None:
    forest = RandomForestClassifier(3, max_depth=1, random_state=0).fit(ROWS, NUMBERS)
    given = {"forest": forest, "net": module(softmax=False)}
    with pytest.raises(NotServableError, match=r"'net' answers with rows that are no probabilities.*0, 1, 2.*Softmax"):
        Ensemble(given, combine=combine).predict(ROWS)
    Ensemble(given, combine="vote").predict(ROWS)


@pytest.mark.parametrize(
    ("answer", "combine", "message"),
    [
        (lambda rows: np.full((len(rows), 2), 0.5), "mean", r"the shape \(2, 2\)"),
        (lambda rows: np.full((len(rows), 2), 0.5), "vote", r"the shape \(2, 2\)"),
        (lambda rows: np.zeros(len(rows)), "mean", r"the shape \(2,\)"),
        (lambda rows: np.full(len(rows), 9), "vote", r"9 is none of the labels 0, 1, 2"),
        (lambda rows: np.full(len(rows), "x"), "vote", r"'x' is none of the labels 0, 1, 2"),
    ],
)
def test_what_a_function_answers_that_cannot_be_combined(answer: Any, combine: str, message: str) -> None:
    forest = RandomForestClassifier(3, random_state=0).fit(ROWS, NUMBERS)
    with pytest.raises(NotServableError, match=f"Member 'f'.*{message}"):
        Ensemble({"forest": forest, "f": answer}, combine=combine).predict(ROWS[:2])


def test_numbers_of_a_module_and_a_regressor() -> None:
    torch.manual_seed(0)
    net, ridge = torch.nn.Linear(4, 1), Ridge().fit(ROWS, NUMBERS)
    ours = Ensemble({"net": net, "ridge": ridge, "zero": lambda rows: np.zeros((len(rows), 1))}, combine="median")
    with torch.inference_mode():
        said = net(torch.tensor(ROWS, dtype=torch.float32)).numpy().ravel()
    assert np.allclose(ours.predict(ROWS), np.median([said, ridge.predict(ROWS), np.zeros(len(ROWS))], axis=0))
    assert infer_signature(ours, ROWS).output == "number"
    assert not infer_signature(ours, ROWS).probabilities
    texts = Ensemble({"ridge": ridge, "names": lambda rows: np.full(len(rows), "a")}, combine="mean")
    with pytest.raises(NotServableError, match="'names' answers with <U1 values"):
        texts.predict(ROWS)


def test_fitted_weights_favour_the_better_member() -> None:
    good = LogisticRegression(max_iter=500).fit(FRAME, NAMES)
    bad = LogisticRegression(max_iter=500).fit(FRAME, np.roll(NAMES, 50))
    ours = Ensemble({"good": good, "bad": bad}, combine="weighted")
    with pytest.raises(NotServableError, match="no weights yet"):
        ours.predict(FRAME)
    assert ours.weights is None
    weights = ours.fit(FRAME, NAMES).weights
    assert weights is not None
    assert weights["good"] > 0.99
    assert (ours.predict(FRAME) == good.predict(FRAME)).all()
    half = Ensemble(
        {"one": Ridge().fit(ROWS, NUMBERS), "off": lambda rows: np.full(len(rows), 1.0)}, combine="weighted"
    )
    fitted = half.fit(ROWS, NUMBERS).weights
    assert fitted is not None
    assert sum(fitted.values()) == pytest.approx(1)


def test_a_cascade_asks_the_next_for_the_unsure_rows_only() -> None:
    asked: list[list[float]] = []

    def first(rows: Any) -> Any:
        sure = rows[:, [0]]
        return np.column_stack([sure, 1 - sure])

    def second(rows: Any) -> Any:
        asked.append(rows[:, 0].tolist())
        return np.tile([0.25, 0.75], (len(rows), 1))

    ours = Ensemble([first, second], combine="cascade", labels=["a", "b"])
    rows = np.array([[0.95], [0.6], [0.05], [0.9], [0.4]])
    assert ours.predict_proba(rows)[:, 0].tolist() == [0.95, 0.25, 0.05, 0.9, 0.25]
    assert asked == [[0.6, 0.4]]
    asked.clear()
    assert ours.predict(rows[[0, 2]]).tolist() == ["a", "b"]
    assert asked == []
    Ensemble([first, second], combine="cascade", labels=["a", "b"], threshold=1).predict(rows[:1])
    assert asked == [[0.95]]
    frame = pd.DataFrame(rows, columns=["x"], index=[5, 4, 3, 2, 1])
    by_name = Ensemble(
        [lambda rows: first(np.asarray(rows)), lambda rows: second(np.asarray(rows))],
        combine="cascade",
        labels=["a", "b"],
    )
    assert by_name.predict(frame).tolist() == ["a", "b", "b", "a", "b"]


def test_references_and_an_ensemble_of_ensembles(registry: ModelRegistry) -> None:
    models = [RandomForestClassifier(3, random_state=seed).fit(FRAME, NAMES) for seed in range(3)]
    for model in models:
        registry.register(model, "forest", example=FRAME)
    registry.set_alias("forest", "champion", 2)
    inner = Ensemble({"a": "forest:1", "b": "forest@champion"}, combine="mean")
    assert repr(inner) == "<Ensemble mean of forest:1, forest:2>"
    registry.register(inner, "inner", example=FRAME)
    outer = Ensemble({"inner": "inner", "last": registry.version("forest")}, combine="mean", registry=registry)
    first, second, third = (model.predict_proba(FRAME) for model in models)
    assert np.allclose(outer.predict_proba(FRAME), ((first + second) / 2 + third) / 2)
    registry.register(outer, "outer", example=FRAME)
    assert (registry.load("outer").predict_proba(FRAME) == outer.predict_proba(FRAME)).all()
