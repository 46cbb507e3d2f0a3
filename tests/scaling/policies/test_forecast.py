from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.errors import InvalidInputError
from mlnb.scaling.policies.forecast import Forecast


def test_a_steady_ramp_is_foreseen() -> None:
    holt = Forecast(ahead=10, level=5, trend=30).start()
    for number in range(1, 601):
        rise = holt.rise(number / 2, 20 + 2 * number / 2)
    assert rise == pytest.approx(20, rel=0.02)
    assert holt.level == pytest.approx(620, rel=0.01)


def test_a_ramp_of_random_arrivals_is_foreseen() -> None:
    rng, holt = np.random.default_rng(1), Forecast(ahead=10).start()
    rises = [holt.rise(number / 2, 2 * rng.poisson((50 + 3 * number / 2) / 2)) for number in range(1, 601)]
    assert 10 < np.mean(rises[400:]) < 32  # of 30, as far as it is sure


def test_noise_adds_little() -> None:
    rng, holt = np.random.default_rng(2), Forecast(ahead=10).start()
    rises = [holt.rise(number / 2, 2 * rng.poisson(100)) for number in range(1, 1201)]
    assert np.mean(rises[100:]) < 1  # of 200
    assert max(rises[100:]) < 20


def test_a_fall_is_not_foreseen() -> None:
    holt = Forecast().start()
    assert {holt.rise(float(number), 1000.0 - number) for number in range(1, 300)} == {0.0}


@given(st.lists(st.floats(0, 1e6), max_size=30), st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_larger_last_load_never_gives_less(before: list[float], last: float, more: float) -> None:
    found = []
    for final in (last, last + more):
        holt = Forecast().start()
        for number, rate in enumerate([*before, final]):
            rise = holt.rise(float(number), rate)
        found.append(holt.level + rise)
    assert found[0] <= found[1] * (1 + 1e-9)


@pytest.mark.parametrize("given", [{"ahead": -1}, {"level": 0}, {"trend": float("nan")}, {"ahead": float("inf")}])
def test_figures_that_are_none(given: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError, match="a number of seconds from"):
        Forecast(**given)
