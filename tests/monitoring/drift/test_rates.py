"""That drift is seldom raised where there is none, and found where there is; `make benchmark` takes more windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from monitoring.drift.rates import SETS, WAYS, found, raised

WINDOWS, SHIFTED = 20, 60


def usual_and_soaked(ways: Sequence[str]) -> list[Any]:
    """Return the ways to draw windows, all but the usual one for those who have time."""
    return [way if way == "bootstrap" else pytest.param(way, marks=pytest.mark.soak) for way in ways]


@pytest.mark.parametrize("way", usual_and_soaked(WAYS))
def test_of_windows_without_drift_at_most_5_percent_raise_anything(way: str) -> None:
    share = sum(raised(name, way, count=WINDOWS) for name in SETS) / (WINDOWS * len(SETS))
    print(f"{way}: {share:.2%} of {WINDOWS * len(SETS)} windows raise anything")  # noqa: T201 - the figures
    assert share <= 0.05


@pytest.mark.parametrize("way", usual_and_soaked(["bootstrap", "halves", "halves, resampled"]))
def test_half_a_deviation_in_one_of_30_columns_is_named_in_95_percent_of_windows(way: str) -> None:
    share = found(way, count=SHIFTED) / SHIFTED
    print(f"{way}: {share:.1%} of {SHIFTED} windows name the column that moved")  # noqa: T201 - the figures
    assert share >= 0.95
