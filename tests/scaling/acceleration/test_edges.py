"""Rows on the edge: they lie where forms differ, and every one is a row that the model may be sent."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.ensemble import BaggingRegressor, GradientBoostingRegressor, RandomForestRegressor
from sklearn.tree import DecisionTreeRegressor

from mlnb.registry.rows.inference import infer_signature
from mlnb.scaling.acceleration.edges import edge_rows
from mlnb.scaling.acceleration.forms import table_of

ROWS = np.random.default_rng(0).normal(size=(60, 3))
TARGET = ROWS[:, 0] + ROWS[:, 1] ** 2


def test_thresholds_are_met_on_rows_that_get_to_them() -> None:
    tree = DecisionTreeRegressor(max_depth=3, random_state=0).fit(ROWS, TARGET)
    edges = edge_rows(ROWS, infer_signature(None, ROWS).fields, tree)
    inner = np.flatnonzero(tree.tree_.children_left >= 0)
    paths = tree.decision_path(edges).tocsc()
    for node in inner:
        on = edges[paths.indices[paths.indptr[node] : paths.indptr[node + 1]], tree.tree_.feature[node]]
        threshold = tree.tree_.threshold[node]
        for value in (threshold, np.nextafter(threshold, 9), float(np.float32(threshold))):
            assert value in on


@pytest.mark.parametrize("model", [RandomForestRegressor(5), GradientBoostingRegressor(n_estimators=5)])
def test_forests_and_boosted_trees_give_more_edges(model: RandomForestRegressor) -> None:
    fields = infer_signature(None, ROWS).fields
    model.fit(ROWS, TARGET)
    assert len(edge_rows(ROWS, fields, model)) > len(edge_rows(ROWS, fields, None)) > 6 * len(ROWS)


def test_columns_hold_what_their_fields_may() -> None:
    place = np.arange(40)
    rows = pd.DataFrame({
        "whole": place.astype(np.uint8), "flag": place % 2 == 0, "small": place.astype(np.float16) * 1600,
        "gaps": np.where(place % 4, place * 1.0, np.nan), "huge": np.linspace(-1.7e308, 0, 40),
    })  # fmt: skip
    signature = infer_signature(None, rows)
    edges = edge_rows(table_of(rows), signature.fields, None)
    given = signature.coerce(edges)
    assert (given.dtypes == rows.dtypes).all()
    assert given["gaps"].isna().any()
    assert set(given["whole"]) >= {0, 39, 79}


@settings(max_examples=50, deadline=None)
@given(arrays(np.float64, (5, 2), elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_any_table_has_edges_that_fit_its_signature(table: np.ndarray) -> None:
    signature = infer_signature(None, table)
    edges = edge_rows(table, signature.fields, None)
    assert len(edges)
    signature.coerce(edges)


def test_wide_rows_are_fewer() -> None:
    wide = np.random.default_rng(0).normal(size=(50, 5000))
    edges = edge_rows(wide, infer_signature(None, wide).fields, None)
    assert 1e6 < edges.size < 1e7


def test_trees_of_some_of_the_columns_give_no_edges() -> None:
    fields = infer_signature(None, ROWS).fields
    bag = BaggingRegressor(n_estimators=3, max_features=2, random_state=0).fit(ROWS, TARGET)
    assert len(edge_rows(ROWS, fields, bag)) == len(edge_rows(ROWS, fields, None))
