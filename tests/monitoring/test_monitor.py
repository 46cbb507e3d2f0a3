from __future__ import annotations

import copy
import pickle
import threading
import time
from collections.abc import Callable
from itertools import count
from math import inf
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
    monitor.observe([event(130.5), event(131.0, error="later")])
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
    assert (windows[-1].requests, len(windows[-1].parts), len(windows[-2].parts)) == (8_000, 18, 17)
    assert windows[-1].parts[-1].replica == 7_999


def test_after_very_many_versions_the_new_ones_are_counted_as_theirs() -> None:
    monitor = ModelMonitor()
    for version in range(1, 71):
        monitor.observe([answered(1_000.0 + version, ["a"], version=version, replica=1)] * 10)
    assert monitor.counts()[70] == (10, 0)
    assert [one.version for one in monitor.snapshot(now=1_071.0, windows=True).windows[-1].answers] == [
        0, *range(39, 71),
    ]  # fmt: skip
    assert set(monitor.by_version()) == {key for key, _ in monitor.totals()} == {0, *range(39, 71)}


def test_long_texts_take_no_memory() -> None:
    monitor = ModelMonitor()
    for second in range(100):
        monitor.observe([answered(1_000.0 + second, [f"{second} {'y' * 20_000}"])])
    assert size(monitor) < 100_000
    assert monitor.series(now=1_100.0).classes == {"others": (0,) * 200 + (1,) * 100}


def test_where_the_classes_are_known_all_else_is_others() -> None:
    monitor = ModelMonitor()
    monitor.observe([answered(10.0, ["a", "secret"])])
    (free,) = monitor.answers()
    monitor.labels = ("a", "b")
    monitor.observe([answered(11.0, ["a", "secret"], version=2)])
    first, second = monitor.answers()
    assert (free.classes, free.named) == ({"a": 1, "secret": 1}, False)
    assert (first.named, second.classes, second.named) == (False, {"a": 1, "others": 1}, True)
    assert (first, second) == monitor.snapshot(now=12.0, windows=True).windows[-1].answers
    assert pickle.loads(pickle.dumps(monitor)).labels == monitor.labels == ("a", "b")
    monitor.labels = None
    assert not monitor.answers()[1].named


def test_the_total_by_version_is_that_of_now() -> None:
    monitor = ModelMonitor()
    monitor.observe([event(10.0)])
    before = monitor.by_version()
    monitor.observe([event(10.1)])
    assert (before[1].requests, monitor.by_version()[1].requests) == (1, 2)
    monitor.absorb(observed([event(9.0)]))
    assert monitor.by_version()[1].requests == monitor.totals()[1, 0].requests == 3


@pytest.mark.parametrize("past", [0.5, 30.0, 59.5])
def test_the_rate_of_a_window_is_over_the_time_that_it_has(past: float) -> None:
    now = 36_000.0 + 4_740 + past
    monitor = observed([event(36_000.0 + tenth / 10) for tenth in range(int((4_740 + past) * 10))])
    assert [window.rate for window in monitor.snapshot(now=now, windows=True).windows] == pytest.approx(
        [10.0] * 4, 0.01
    )


def test_after_the_clock_was_set_back_the_rate_is_what_it_was() -> None:
    monitor = observed([event(10_000.0 + tenth / 10) for tenth in range(1_200)])
    assert monitor.snapshot(now=6_401.0, windows=True).windows[-1].rate == pytest.approx(10.0, rel=0.02)
    monitor.sample(
        6_400.5, replicas=1, in_flight=0, drift=None
    )  # the monitor learns of it, though there are no requests
    rates = [window.rate for window in monitor.snapshot(now=6_400.5, windows=True).windows]
    assert rates == pytest.approx([10.0] * 4, rel=0.02)


def test_after_a_move_it_learns_that_the_clock_was_set_back() -> None:
    monitor = ModelMonitor()
    monitor.absorb(observed([event(10_000.0 + at) for at in range(100)]))
    monitor.observe([event(6_400.0)])
    assert monitor.snapshot(now=6_400.0).window_requests == 60


@given(st.lists(st.tuples(st.integers(0, 150), st.integers(1, 3)), max_size=60), st.integers(100, 160))
def test_what_is_kept_to_be_quick_changes_nothing(given_events: list[tuple[int, int]], until: int) -> None:
    exact = {"seconds": 2.0**-10, "waited": 2.0**-12}  # sums of these do not depend on their order
    events = [answered(7_200.0 + at, ["a"], version=part, **exact) for at, part in sorted(given_events)]
    often, once = ModelMonitor(seconds=90), ModelMonitor(seconds=90)
    for one in events:
        often.observe([one])
        often.snapshot(now=one.at + 0.5, windows=True)
        often.by_version()
        once.observe([one])
    for now in range(7_300, 7_200 + until, 7):
        assert often.snapshot(now=now, windows=True) == once.snapshot(now=now, windows=True)
    assert often.snapshot(now=7_400.0, windows=True) == pickle.loads(pickle.dumps(once)).snapshot(
        now=7_400.0, windows=True
    )


def busy(*, pairs: int) -> ModelMonitor:
    """Return a monitor that saw an hour of eight replicas, with latencies as they are."""
    monitor, rng = ModelMonitor(), np.random.default_rng(0)
    for second in [*range(0, 3_600, 10), *range(3_600, 3_660)]:
        for pair in range(pairs):
            monitor.observe([
                answered(36_000.0 + second, [f"class {rng.integers(10)}"], version=1 + pair % 2, replica=1 + pair // 2,
                         seconds=seconds, waited=seconds / 3, batch=4)
                for seconds in rng.lognormal(-6, 0.8, 20).tolist()
            ])  # fmt: skip
    return monitor


def spent(work: Callable[[], Any]) -> float:
    """Return seconds of CPU of this thread, at best."""
    best = inf
    for _ in range(8):
        begun = time.thread_time()
        work()
        best = min(best, time.thread_time() - begun)
    return best


@pytest.mark.alone
def test_reading_and_moving_do_not_hold_up_the_server() -> None:
    one, eight = busy(pairs=1), busy(pairs=8)
    assert spent(lambda: one.snapshot(now=39_660.0, windows=True)) < 0.006  # about 1.2 ms where nothing else runs
    assert spent(lambda: eight.snapshot(now=39_660.0, windows=True)) < 0.020  # about 5 ms
    assert spent(eight.by_version) < 0.002
    assert spent(eight.totals) < 0.001
    assert spent(lambda: ModelMonitor().absorb(eight)) < 0.015  # about 3 ms
    assert spent(lambda: pickle.dumps(eight)) < 0.080  # about 20 ms


def test_it_is_pickled_while_another_thread_observes() -> None:
    monitor, stop = ModelMonitor(), threading.Event()

    def go_on() -> None:
        for number in count():
            monitor.observe([answered(1_000.0 + number / 7, [f"c{number % 60}"], replica=number % 40)])
            if stop.is_set():
                return

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        copies = [pickle.loads(pickle.dumps(monitor)) for _ in range(8)]
    finally:
        stop.set()
        thread.join()
    for copy_ in copies:
        snapshot = copy_.snapshot(now=1e6, windows=True)
        assert snapshot.requests == sum(part.requests for part in snapshot.windows[-1].parts) == snapshot.rows // 2
    assert copies[-1].snapshot(now=1e6).requests > copies[0].snapshot(now=1e6).requests
