from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.events import PredictionEvent
from mlnb.monitoring import ModelMonitor


def event(at: float, *, milliseconds: float = 1.0, error: str | None = None) -> PredictionEvent:
    return PredictionEvent(
        model="iris", version=1, request_id="r", at=at, seconds=milliseconds / 1e3, rows=0 if error else 2,
        status=500 if error else 200, error=error,
    )  # fmt: skip


def test_without_requests_there_are_no_quantiles() -> None:
    snapshot = ModelMonitor().snapshot(now=100.0)
    assert (snapshot.requests, snapshot.p50, snapshot.rate, snapshot.last_error) == (0, None, 0.0, None)
    assert snapshot.recent == (0,) * 60


def test_counts_and_the_last_error() -> None:
    monitor = ModelMonitor()
    for one in (event(10.5), event(11.5, error="ValueError: no"), event(12.5)):
        monitor.observe([one])
    snapshot = monitor.snapshot(now=13.0)
    assert (snapshot.requests, snapshot.errors, snapshot.rows) == (3, 1, 4)
    assert (snapshot.last_error, snapshot.last_error_at) == ("ValueError: no", 11.5)
    assert snapshot.recent[-4:] == (1, 1, 1, 0)


def test_the_window_forgets_and_the_totals_do_not() -> None:
    monitor = ModelMonitor()
    monitor.observe([event(10.0, error="no")])
    monitor.observe([event(100.0)])
    snapshot = monitor.snapshot(now=100.0, window=60)
    assert (snapshot.requests, snapshot.window_requests, snapshot.window_errors) == (2, 1, 0)


def test_the_rate_is_over_the_last_ten_full_seconds() -> None:
    monitor = ModelMonitor()
    for tenth in range(800, 1000):
        monitor.observe([event(tenth / 10)])
    assert monitor.snapshot(now=100.0).rate == pytest.approx(10.0)


@given(st.lists(st.floats(0.01, 1e5), min_size=1, max_size=300), st.sampled_from(["p50", "p99"]))
def test_quantiles_over_many_seconds_are_within_one_per_cent(latencies: list[float], quantile: str) -> None:
    monitor = ModelMonitor()
    for number, milliseconds in enumerate(latencies):
        monitor.observe([event(1000.0 + number * 59 / 300, milliseconds=milliseconds)])
    exact = np.quantile(latencies, {"p50": 0.5, "p99": 0.99}[quantile], method="inverted_cdf")
    assert getattr(monitor.snapshot(now=1059.0), quantile) == pytest.approx(exact, rel=0.0101)


def test_the_series_are_of_one_length_and_leave_out_the_running_second() -> None:
    monitor = ModelMonitor()
    monitor.observe([event(97.2, milliseconds=5.0)])
    monitor.observe([event(98.2, error="no")])
    monitor.observe([event(99.9)])
    series = monitor.series(now=99.95, window=4)
    assert series.ago == (-3, -2, -1, 0)
    assert series.requests == (0, 0, 1, 1)
    assert series.errors == (0, 0, 0, 1)
    assert series.p50[:2] == (None, None)
    assert series.p50[2] == pytest.approx(5.0, rel=0.01)
    assert series.p99[3] is None


def test_an_event_that_comes_late_is_counted() -> None:
    monitor = ModelMonitor()
    monitor.observe([event(11.0)])
    monitor.observe([event(10.0)])
    assert monitor.snapshot(now=11.0).requests == monitor.snapshot(now=11.0).window_requests == 2


def test_memory_is_bounded() -> None:
    monitor = ModelMonitor(seconds=10)
    for at in range(1000):
        monitor.observe([event(float(at))])
    assert monitor.snapshot(now=999.0, window=60).window_requests == 10
    assert monitor.snapshot(now=999.0).requests == 1000


def test_the_p99_of_few_requests_is_the_slowest() -> None:
    monitor = ModelMonitor()
    for milliseconds in [1.0] * 20 + [500.0]:
        monitor.observe([event(10.0, milliseconds=milliseconds)])
    snapshot = monitor.snapshot(now=10.0)
    assert snapshot.p50 == pytest.approx(1.0, rel=0.01)
    assert snapshot.p99 == pytest.approx(500.0, rel=0.01)
