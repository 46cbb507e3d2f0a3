"""A model that asks another deployment of the same kernel."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from loading import Numbered

import mlnb


def ask_base(rows: Any) -> Any:
    (base,) = (one for one in mlnb.deployments() if one.name == "base")
    return base.predict(rows)


def test_it_never_waits_for_the_loop_that_it_runs_on() -> None:
    mlnb.deploy(Numbered(1), name="base", example=[[0.5]])
    composed = mlnb.deploy(ask_base, name="composed", example=[[0.5]])
    with ThreadPoolExecutor(1) as pool:
        for number in range(200):
            asked = pool.submit(composed.predict, [[float(number)]])
            assert asked.result(20).tolist() == [1e6 + number]
