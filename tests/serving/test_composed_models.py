"""A model that asks another deployment of the same kernel."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from loading import Numbered
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import mlnb


def ask_base(rows: Any) -> Any:
    (base,) = (one for one in mlnb.deployments() if one.name == "base")
    return base.predict(rows).reshape(-1, 1)


def test_it_never_waits_for_the_loop_that_it_runs_on() -> None:
    mlnb.deploy(Numbered(1), name="base", example=[[0.5]])
    model = make_pipeline(FunctionTransformer(ask_base), LinearRegression()).fit([[0.0], [1.0]], [0.0, 1.0])
    composed = mlnb.deploy(model, name="composed", example=[[0.5]])
    with ThreadPoolExecutor(1) as pool:
        for number in range(200):
            asked = pool.submit(composed.predict, [[float(number)]])
            np.testing.assert_allclose(asked.result(20), [number], atol=1e-6)
