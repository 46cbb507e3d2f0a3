from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.errors import InvalidInputError
from mlnb.scaling.simulation.load import Load

SHAPES = [
    Load.steady(80), Load.step(10, 80), Load.ramp(0, 90), Load.sine(10, 70), Load.spike(20, 200), Load.noise(60),
    Load.day(100, lasts="20m"), Load.day(50, days=3, lasts=300), Load.ramp(90, 0),
]  # fmt: skip


def counts(load: Load, every: float, seed: int = 0) -> np.ndarray[Any, Any]:
    arrivals = load.arrivals(np.random.default_rng(seed))
    return np.histogram(arrivals, np.arange(0, load.seconds + every, every))[0]


@pytest.mark.parametrize("load", SHAPES, ids=lambda load: load.words)
def test_arrivals_come_in_order_and_as_often_as_the_rate_says(load: Load) -> None:
    arrivals = load.arrivals(np.random.default_rng(1))
    assert (np.diff(arrivals) >= 0).all()
    assert arrivals[0] >= 0
    assert arrivals[-1] <= load.seconds
    assert len(arrivals) == pytest.approx(load.requests, abs=5 * load.requests**0.5)
    middle = np.linspace(0, load.seconds, 2001)[1:] - load.seconds / 4000
    expected = np.interp(middle, load.knots, load.rates).reshape(20, 100).mean(1) * load.seconds / 20
    seen = np.histogram(arrivals, np.linspace(0, load.seconds, 21))[0]
    assert np.abs(seen - expected).max() <= 5 * expected.max() ** 0.5 + 0.01 * expected.max()


def test_arrivals_are_a_poisson_process() -> None:
    seen = counts(Load.steady(50, seconds=4000), 1.0)
    assert seen.mean() == pytest.approx(50, rel=0.02)
    assert seen.var() == pytest.approx(50, rel=0.1)
    gaps = np.diff(Load.steady(50, seconds=4000).arrivals(np.random.default_rng(3)))
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, rel=0.02)


def test_a_step_is_one_and_a_spike_is_short() -> None:
    step = counts(Load.step(10, 80, at="1m", seconds="2m"), 20.0)
    assert step[:3].max() < 300
    assert step[3:].min() > 1300
    spike = counts(Load.spike(10, 200, at=60, lasts=10, seconds=120), 10.0)
    assert np.argmax(spike) == 6
    assert spike[6] > 1800
    assert np.delete(spike, 6).max() < 200


def test_a_day_dips_at_lunch_and_sleeps_at_night() -> None:
    hours = counts(Load.day(100, lasts=2400), 100.0)
    assert hours[3] < 0.1 * hours[10]
    assert hours[12] < 0.75 * min(hours[10], hours[14])


def test_the_same_seed_gives_the_same_arrivals() -> None:
    load = Load.noise(40, seed=4)
    assert np.array_equal(counts(load, 1.0, 7), counts(Load.noise(40, seed=4), 1.0, 7))
    assert not np.array_equal(counts(load, 1.0, 7), counts(load, 1.0, 8))
    copy = pickle.loads(pickle.dumps(load))
    assert np.array_equal(counts(load, 1.0), counts(copy, 1.0))
    assert copy.words == "noise of 20 % around 40 requests/s"


@given(st.lists(st.floats(-1e6, 1e9), min_size=1, max_size=50))
def test_recorded_times_keep_their_distances(times: list[float]) -> None:
    load = Load.recorded(times)
    arrivals = load.arrivals(np.random.default_rng(0))
    assert np.diff(arrivals) == pytest.approx(np.diff(np.sort(times)), abs=1e-6)
    assert arrivals[0] >= 0
    assert load.seconds >= arrivals[-1]
    assert load.requests == len(times)


def test_a_recording_knows_when_it_began_if_that_can_be_told() -> None:
    assert Load.recorded([1_767_600_000.0, 1_767_600_010.0]).start == 1_767_600_000.0
    assert Load.recorded([0.0, 10.0]).start is None
    assert Load.recorded([0.0, 10.0, 90.0], seconds="1m").requests == 2


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_more_or_less_of_a_load_has_the_same_shape(factor: float) -> None:
    step = Load.step(10, 80, at=60, seconds=120)
    assert step.scaled(factor).requests == factor * step.requests
    recorded = Load.recorded(step.arrivals(np.random.default_rng(0)))
    more = recorded.scaled(factor)
    assert more.requests == pytest.approx(factor * recorded.requests, abs=1)
    assert counts(more, 20.0) == pytest.approx(counts(recorded, 20.0) * factor, rel=0.02, abs=3)
    assert more.words.endswith(f"x {factor:g}")
    assert recorded.scaled(1).words == recorded.words


def test_a_log_becomes_the_load_that_was() -> None:
    at = pd.to_datetime([1_767_600_001.25, 1_767_600_001.25, 1_767_600_002.5, 1_767_600_000.5], unit="s", utc=True)
    frame = pd.DataFrame({"at": at, "request_id": list("aabc"), "latency_ms": [250.0, 250.0, 500.0, None]})
    load = Load.of_log(frame)
    assert load.arrivals(np.random.default_rng(0)) == pytest.approx([0.0, 0.5, 1.5])
    assert load.start == pytest.approx(1_767_600_000.5)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Load.steady(-1), "rate=-1: a number from 0"),
        (lambda: Load.steady(float("nan")), "rate=nan"),
        (lambda: Load.steady("many"), "rate='many'"),  # type: ignore[arg-type]
        (lambda: Load.steady(0), "no requests at all"),
        (lambda: Load.steady(10, seconds=0), "a length above 0"),
        (lambda: Load.steady(10, seconds="soon"), "seconds='soon'"),
        (lambda: Load.step(1, 2, at=700), "lasts 10m only"),
        (lambda: Load.sine(1, 2, period=1e-9), "too short"),
        (lambda: Load.noise(10, every=1e-9), "too short"),
        (lambda: Load.noise(10, spread=-0.1), "spread=-0.1"),
        (lambda: Load.day(10, days=0), "days=0"),
        (lambda: Load.recorded([]), "There are no requests"),
        (lambda: Load.recorded([0.0, float("nan")]), "1 of the 2 times are no numbers"),
        (lambda: Load.recorded([20.0], seconds=10), "no requests in the first 10s"),
        (lambda: Load.recorded(["now"]), "a list of times"),  # type: ignore[list-item]
        (lambda: Load.steady(10).scaled(0), "factor=0"),
        (lambda: Load.recorded([1.0]).scaled(1e9), "1,000,000,000 requests"),
        (lambda: Load.steady(1e9).arrivals(np.random.default_rng(0)), "600,000,000,000 requests"),
        (lambda: Load.of_log(pd.DataFrame({"at": []})), "no column 'request_id'"),
        (lambda: Load.of_log(pd.DataFrame({"at": [], "request_id": [], "latency_ms": []})), "no requests in the log"),
    ],
)
def test_what_is_no_load_is_refused_in_words(make: Callable[[], Load], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        make()
