from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlnb.monitoring.prediction_log import LogSettings
from mlnb.monitoring.prediction_log.masking import Mask, hashed

NAMES = ("name", "age", "size")
MASK = Mask(LogSettings(leave_out=("age",), hashed=("name",)), salt="salt")
ANN = hashed("Ann", salt="salt")


@pytest.mark.parametrize(
    "inputs",
    [
        [["Ann", 33, 1.5]],
        [{"name": "Ann", "age": 33, "size": 1.5}],
        pd.DataFrame({"name": ["Ann"], "age": [33], "size": [1.5]}),
        np.array([["Ann", 33, 1.5]], dtype=object),
    ],
)
def test_fields_are_left_out_and_hashed(inputs: Any) -> None:
    assert MASK.apply(inputs, names=NAMES) == [{"name": ANN, "size": 1.5}]


def test_nothing_is_logged_where_the_names_are_not_known() -> None:
    assert MASK.apply([["Ann", 33, 1.5]], names=None) is None
    assert MASK.apply([["Ann", 33]], names=NAMES) is None
    assert MASK.apply(["Ann is 33"], names=NAMES) is None


def test_models_with_one_field() -> None:
    mask = Mask(LogSettings(hashed=("text",)), salt="salt")
    assert mask.apply(["Ann"], names=("text",)) == [{"text": ANN}]
    assert mask.apply([["Ann"]], names=("text",)) == [{"text": ANN}]
    tensor = Mask(LogSettings(leave_out=("tensor",)), salt="")
    assert tensor.apply(np.zeros((1, 2, 2)), names=("tensor",)) == [{}]


def test_inputs_off() -> None:
    mask = Mask(LogSettings(inputs=False), salt="")
    assert mask.apply([[1.0]], names=("x",)) is None
    assert mask.error("Row 0, field 'name': got 'Ann', needs a number.") == "Row 0, field 'name'"


def test_nothing_hidden_nothing_changed() -> None:
    mask, rows = Mask(LogSettings(), salt=""), [[1.0]]
    assert mask.apply(rows, names=None) is rows
    assert mask.error("a: b") == "a: b"


def test_errors_show_no_values() -> None:
    assert MASK.error("ValueError: could not convert 'Ann'") == "ValueError"
    assert MASK.error(None) is None


def test_a_hash_needs_the_salt_and_is_the_same_for_equal_numbers() -> None:
    assert hashed("Ann", salt="other") != ANN
    assert hashed(3, salt="s") == hashed(3.0, salt="s") == hashed(np.float64(3), salt="s")
    assert hashed(None, salt="s") is None
