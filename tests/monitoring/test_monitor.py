from __future__ import annotations

import copy
import pickle
from typing import Any

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
    exact = np.quantile(latencies, {"p50": 0.5, "p99": 0.99}[quantile])
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


EVENTS = st.builds(
    event, st.floats(100, 130), milliseconds=st.floats(0.01, 1e4), error=st.sampled_from([None, None, "no", "never"])
)


def observed(events: list[PredictionEvent], *, seconds: int = 300) -> ModelMonitor:
    monitor = ModelMonitor(seconds=seconds)
    monitor.observe(sorted(events, key=lambda one: one.at))
    return monitor


@given(st.lists(EVENTS, max_size=40))
def test_many_events_at_once_are_the_same_as_one_by_one(events: list[PredictionEvent]) -> None:
    one_by_one = ModelMonitor()
    for one in sorted(events, key=lambda one: one.at):
        one_by_one.observe([one])
    assert observed(events).snapshot(now=130.0) == one_by_one.snapshot(now=130.0)
    assert observed(events).series(now=130.0) == one_by_one.series(now=130.0)


@given(st.lists(EVENTS, max_size=30), st.lists(EVENTS, max_size=30))
def test_what_was_observed_elsewhere_counts_as_if_it_had_been_here(
    here: list[PredictionEvent], elsewhere: list[PredictionEvent]
) -> None:
    monitor, other, together = observed(here), observed(elsewhere), observed(here + elsewhere)
    monitor.series(now=131.0)  # the quantiles of seconds that are over are kept
    before = other.snapshot(now=131.0), other.series(now=131.0)
    monitor.absorb(other)
    found, expected = monitor.snapshot(now=131.0), together.snapshot(now=131.0)
    assert (found.requests, found.errors, found.rows) == (expected.requests, expected.errors, expected.rows)
    assert (found.recent, found.window_errors, found.rate) == (expected.recent, expected.window_errors, expected.rate)
    assert found.last_error_at == expected.last_error_at
    assert found.p50 == (None if expected.p50 is None else pytest.approx(expected.p50, rel=0.01))
    assert monitor.series(now=131.0).p99 == together.series(now=131.0).p99
    monitor.observe([event(131.0, error="later")])
    assert (other.snapshot(now=131.0), other.series(now=131.0)) == before  # it shares nothing with the other


def test_what_was_observed_later_elsewhere_is_the_last_error() -> None:
    monitor = observed([event(100.0, error="first")])
    monitor.absorb(observed([event(101.0, error="last")]))
    monitor.absorb(observed([event(99.0, error="before")]))
    snapshot = monitor.snapshot(now=101.0)
    assert (snapshot.last_error, snapshot.last_error_at, snapshot.errors) == ("last", 101.0, 3)


def test_after_absorbing_it_goes_on_and_stays_within_its_memory() -> None:
    monitor = observed([event(float(at)) for at in range(100, 110)], seconds=10)
    monitor.absorb(observed([event(float(at)) for at in range(95, 115)]))
    assert monitor.snapshot(now=114.0).window_requests == 15  # 105 .. 114, and what was here up to 109
    monitor.observe([event(115.0), event(115.5)])
    assert monitor.snapshot(now=115.0).recent[-1] == 2
    assert monitor.snapshot(now=115.0).requests == 32


@pytest.mark.parametrize("moved", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_it_goes_to_another_process_and_goes_on_there(moved: Any) -> None:
    monitor = observed([event(100.5, milliseconds=3.0), event(101.5, error="no")], seconds=17)
    other = moved(monitor)
    assert other.snapshot(now=102.0) == monitor.snapshot(now=102.0)
    assert other.series(now=102.0) == monitor.series(now=102.0)
    other.observe([event(102.0)])
    assert (other.snapshot(now=102.0).requests, monitor.snapshot(now=102.0).requests) == (3, 2)
    other.observe([event(float(at)) for at in range(200, 300)])
    assert other.snapshot(now=299.0, window=100).window_requests == 17


def test_a_clock_that_is_set_back_loses_nothing() -> None:
    monitor = ModelMonitor()
    for at in range(100):
        monitor.observe([event(10_000.0 + at)])
    monitor.observe([event(6_400.0)])  # an hour earlier
    monitor.observe([event(6_401.0)])
    snapshot = monitor.snapshot(now=6_401.0, windows=True)
    assert snapshot.requests == 102
    assert snapshot.window_requests == 60
    assert snapshot.recent == (1,) * 60
    assert [window.requests for window in snapshot.windows] == [60, 102, 102, 102]


def test_a_clock_that_is_set_forward_is_a_pause() -> None:
    monitor = ModelMonitor()
    monitor.observe([event(100.0), event(9_000.0), event(9_001.0)])
    snapshot = monitor.snapshot(now=9_001.0, windows=True)
    assert [window.requests for window in snapshot.windows] == [2, 2, 2, 3]


def answered(at: float, prediction: Any, **changes: Any) -> PredictionEvent:
    return event(at)._replace(prediction=np.asarray(prediction), **changes)


def test_windows_tell_all_of_it_by_version_and_replica() -> None:
    monitor = ModelMonitor()
    for second in range(600):
        version, replica = (1, 1) if second < 300 else (2, 1 + second % 2)
        monitor.observe([answered(1_200.0 + second, ["a"], version=version, replica=replica, waited=0.004, batch=8)])
    minute, five, hour, ever = monitor.snapshot(now=1_799.5, windows=True).windows
    assert (minute.requests, five.requests, hour.requests, ever.requests) == (60, 300, 600, 600)
    assert [(part.version, part.replica, part.requests) for part in ever.parts] == [
        (1, 1, 300),
        (2, 1, 150),
        (2, 2, 150),
    ]
    assert ever.statuses == {200: 600}
    assert minute.rate == pytest.approx(60 / 59.5)
    assert minute.waited.p50 == pytest.approx(4.0, rel=0.01)
    assert minute.batch.mean == 8
    assert [(one.version, one.classes) for one in ever.answers] == [(1, {"a": 300}), (2, {"a": 300})]


def test_answers_that_are_numbers_have_quantiles_and_nan_is_counted() -> None:
    monitor = ModelMonitor(numbers=True)
    monitor.observe([answered(10.0, np.arange(100.0)), answered(10.5, [np.nan, np.inf])])
    (found,) = monitor.snapshot(now=11.0, windows=True).windows[0].answers
    assert (found.count, found.missing) == (102, 2)
    assert found.numbers == pytest.approx(np.quantile(np.arange(100.0), [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]), rel=0.01)


def test_answers_may_be_anything() -> None:
    monitor = ModelMonitor()
    odd = np.empty(2, dtype=object)
    odd[:] = [[1], {"a": 2}]
    monitor.observe(
        [answered(10.0, odd), answered(10.0, np.zeros((2, 3))), answered(10.0, [f"c{i}" for i in range(90)])]
    )
    monitor.observe([answered(10.0, np.array([None, float("nan"), "x"], dtype=object))])
    (found,) = monitor.snapshot(now=11.0, windows=True).windows[0].answers
    assert (found.count, found.missing, len(found.classes), sum(found.classes.values())) == (95, 2, 51, 93)


def test_the_last_hour_is_told_in_minutes() -> None:
    monitor = ModelMonitor()
    for second in range(7_200):
        monitor.observe([event(36_000.0 + second, error="no" if second % 2 else None)])
        monitor.sample(36_000.0 + second, replicas=2, in_flight=second % 7, drift=0.25)
    series = monitor.series(now=43_199.0, window=3600)
    assert (series.step, series.ago[0], series.ago[-1]) == (60, -3540, 0)
    assert series.requests == (60,) * 60
    assert series.kinds["model failed"] == (30,) * 60
    assert set(series.replicas) == {2}
    assert set(series.drift) == {0.25}
    assert monitor.series(now=43_199.0).requests == (1,) * 300


def test_samples_are_in_the_place_of_their_second() -> None:
    monitor = ModelMonitor()
    monitor.sample(100.2, replicas=1, in_flight=3, drift=None)
    monitor.sample(101.9, replicas=2, in_flight=0, drift=0.5)
    series = monitor.series(now=103.0, window=4)
    assert series.replicas == (None, 1, 2, None)
    assert series.drift == (None, None, 0.5, None)


def size(monitor: ModelMonitor) -> int:
    return len(pickle.dumps(monitor))


def test_it_takes_no_more_memory_however_many_replicas_come_and_go() -> None:
    monitor = ModelMonitor()
    for second in range(4_000):
        monitor.observe([answered(7_200.0 + second, [f"class {second % 300}"], replica=second)])
    before = size(monitor)
    for second in range(4_000, 8_000):
        monitor.observe([answered(7_200.0 + second, [f"class {second % 300}"], replica=second)])
    assert size(monitor) < 1.05 * before
    windows = monitor.snapshot(now=15_199.0, windows=True).windows
    assert (windows[-1].requests, len(windows[-1].parts)) == (8_000, 65)
