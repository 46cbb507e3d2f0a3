from __future__ import annotations

import logging
import pickle
from typing import Any

import numpy as np
import pytest

from mlnb import Ensemble
from mlnb.errors import PredictionError
from mlnb.registry.predictors import predictor
from mlnb.registry.rows.inference import infer_signature
from mlnb.scaling.answering import Answering
from mlnb.scaling.batching import Job, Prediction, answer_each

SIGNATURE = infer_signature(None, [[0.5]])


class Model:
    """Answers as it was told, however many rows there are."""

    def __init__(self, values: Any, probabilities: Any = None) -> None:
        self.values, self.chances = values, probabilities

    def predict(self, rows: Any) -> Any:  # noqa: ARG002 - as it was told
        if isinstance(self.values, BaseException):
            raise self.values
        return self.values

    def predict_proba(self, rows: Any) -> Any:  # noqa: ARG002 - as it was told
        return self.chances


def answer(model: Any, rows: int = 2, *, probabilities: bool = False) -> Prediction:
    answering = Answering(predictor(model), SIGNATURE, name="model:3")
    return answering(SIGNATURE.check([[0.5]] * rows), rows, probabilities=probabilities)


def test_values_and_what_was_asked_for() -> None:
    model = Model([1, 2], [[0.25, 0.75], [0.5, 0.5]])
    assert answer(model).values.tolist() == [1, 2]
    assert answer(model).probabilities is None
    found = answer(model, probabilities=True).probabilities
    assert found is not None
    assert found.tolist() == model.chances


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Model([1.0]), "ValueError: predict returned the shape (1,) for 2 rows"),
        (Model(np.zeros((3, 2))), "ValueError: predict returned the shape (3, 2) for 2 rows"),
        (Model(7.0), "ValueError: predict returned the shape () for 2 rows"),
        (Model([1, 2], [[1.0]]), "ValueError: predict returned the shape (1, 1) for 2 rows"),
        (Model(ValueError("a\n b")), "ValueError: a b"),
        (Model(SystemExit(3)), "SystemExit: 3"),
        (Model(MemoryError()), "MemoryError:"),
    ],
)
def test_what_a_model_does_wrong_is_its_failure(model: Model, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(PredictionError) as caught, caplog.at_level(logging.WARNING):
        answer(model, probabilities=model.chances is not None)
    assert caught.value.reason == reason
    if isinstance(model.values, BaseException):
        assert caught.value.__cause__ is model.values
        assert "model:3 failed to predict" in caplog.text


def test_an_interrupt_is_nobodys_failure() -> None:
    with pytest.raises(KeyboardInterrupt):
        answer(Model(KeyboardInterrupt()))


def test_members_of_an_ensemble_are_asked_once_and_those_that_failed_are_named() -> None:
    asked: list[str] = []

    def high(rows: Any) -> Any:
        asked.append("high")
        return np.tile([0.25, 0.75], (len(rows), 1))

    def low(rows: Any) -> Any:
        asked.append("low")
        return np.tile([0.5, 0.5], (len(rows), 1))

    def broken(rows: Any) -> Any:
        raise ValueError("gone")

    members = {"high": high, "low": low, "broken": broken}
    found = answer(Ensemble(members, combine="mean", labels=["no", "yes"], quorum=2), probabilities=True)
    assert found.values.tolist() == ["yes", "yes"]
    assert found.probabilities is not None
    assert found.probabilities.tolist() == [[0.375, 0.625]] * 2
    assert found.missing == ("broken",)
    assert sorted(asked) == ["high", "low"]
    assert pickle.loads(pickle.dumps(found)).missing == ("broken",)
    voted = Ensemble(members, combine="vote", labels=["no", "yes"], quorum=1)
    assert answer(voted).missing == ("broken",)
    assert answer(voted, probabilities=True).probabilities is None
    with pytest.raises(PredictionError) as caught:
        answer(Ensemble(members, combine="vote", labels=["no", "yes"]))
    assert caught.value.reason == "MemberError: Member 'broken' failed: ValueError: gone."


def test_each_job_of_a_batch_learns_who_is_missing() -> None:
    told: list[Any] = []
    jobs = [Job([[0.5]], 1, probabilities=False, deadline=0.0, done=told.append, gone=lambda: False) for _ in range(2)]
    answer_each(jobs, Prediction(np.array([1, 2]), None, ("broken",)))
    assert [(one.values.tolist(), one.missing) for one in told] == [([1], ("broken",)), ([2], ("broken",))]
