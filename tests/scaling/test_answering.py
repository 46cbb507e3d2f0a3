from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from mlnb.errors import PredictionError
from mlnb.registry.predictors import predictor
from mlnb.registry.rows.inference import infer_signature
from mlnb.scaling.answering import Answering
from mlnb.scaling.batching import Prediction

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
