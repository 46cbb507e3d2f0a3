from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from sklearn.linear_model import LinearRegression, LogisticRegression

from mlnb.monitoring.drift import SampledRows, columns_of
from mlnb.registry.rows.inference import infer_signature


def sampled(*inputs: Any, predictions: tuple[Any, ...] = ()) -> SampledRows:
    return SampledRows(version=1, rows=1, since=0.0, until=0.0, inputs=inputs, predictions=predictions)


def test_rows_of_every_form_are_joined() -> None:
    signature = infer_signature(None, pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}))
    frame = pd.DataFrame({"a": [5.0], "b": ["x"]})
    window = columns_of(
        signature,
        sampled([[1, "x"]], [[2, "y"], [3, "y"]], [{"b": "x", "a": 4}], frame, pl.from_pandas(frame), pa.table(frame)),
    )
    assert window.columns["a"].tolist() == [1, 2, 3, 4, 5, 5, 5]
    assert window.columns["b"].tolist() == ["x", "y", "y", "x", "x", "x", "x"]
    assert window.prediction is None


def test_requests_that_do_not_fit_are_left_out() -> None:
    signature = infer_signature(None, np.array([[0.5, 1.0]]))
    window = columns_of(
        signature, sampled([[1, 2]], [[1, 2, 3]], [["no", 1]], np.array([[3.0, 4.0]]), np.zeros((1, 2)))
    )
    assert window.columns["x0"].tolist() == [1, 3, 0]
    assert columns_of(signature, sampled([["no", 1]])).columns == {}
    assert columns_of(infer_signature(None), sampled([[1, 2]])).columns == {}


def test_missing_values_booleans_and_categories_are_told_apart() -> None:
    frame = pd.DataFrame(
        {
            "whole": pd.array([1, None], dtype="Int64"), "yes": pd.array([True, None], dtype="boolean"),
            "kind": pd.Categorical(["u", None], categories=["u", "v"]), "at": pd.to_datetime(["2026-01-01", "NaT"]),
        }
    )  # fmt: skip
    window = columns_of(infer_signature(None, frame), sampled(frame))
    assert list(window.columns) == ["whole", "yes", "kind"]
    np.testing.assert_array_equal(window.columns["whole"], [1.0, np.nan])
    assert window.columns["yes"].tolist() == [True, None]
    assert window.columns["kind"].tolist() == ["u", None]


def test_texts_and_tensors_are_one_column() -> None:
    texts = columns_of(infer_signature(None, ["good", "bad"]), sampled(["so so"], ["fair", "poor"]))
    assert texts.columns["text"].tolist() == ["so so", "fair", "poor"]
    tensors = columns_of(infer_signature(None, np.zeros((2, 2, 2))), sampled([[[1, 2], [3, 4]]], np.ones((1, 2, 2))))
    assert tensors.columns["tensor"].tolist() == [2.5, 1.0]


def test_answers_are_categories_or_numbers_as_the_model_says() -> None:
    rows = np.array([[0.0], [1.0]])
    classes = infer_signature(LogisticRegression().fit(rows, [0, 1]), rows)
    given = sampled([[0.0]], [[1.0]], predictions=(np.array([0]), np.array([1])))
    read = columns_of(classes, given).prediction
    assert read is not None
    assert (read.dtype, read.tolist()) == (object, [0, 1])
    numbers = columns_of(infer_signature(LinearRegression().fit(rows, [0, 1]), rows), given).prediction
    assert numbers is not None
    assert (numbers.dtype, numbers.tolist()) == (float, [0.0, 1.0])
    assert columns_of(classes, sampled([[0.0]], predictions=(np.zeros((1, 3)), None))).prediction is None
    mixed = columns_of(infer_signature(None, rows), sampled([[0.0]], predictions=(np.array([0.5]), np.array(["a"]))))
    assert mixed.prediction is not None
    assert mixed.prediction.tolist() == [0.5, "a"]
