from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scaling.simulation.holding import Listed, held, listed

from mlnb.errors import InvalidInputError
from mlnb.scaling.autoscale import Autoscale
from mlnb.scaling.policies.decision import ScalingDecision, ScalingSample
from mlnb.scaling.policies.schedule import Schedule
from mlnb.scaling.service_time import ServiceTime
from mlnb.scaling.simulation.engine import Trace, run
from mlnb.scaling.simulation.load import Load

FAST = ServiceTime(fixed=0.02, per_row=0.002, spread=0.3, most_rows=8)
SLOW = ServiceTime(fixed=0.1)
Array = np.ndarray[Any, Any]
COUNTS = st.lists(st.integers(0, 5), min_size=1, max_size=12).map(tuple)


def same(one: Trace, other: Trace) -> bool:
    return (
        np.array_equal(one.latencies, other.latencies)
        and np.array_equal(one.timeline.desired, other.timeline.desired)
        and one.replica_seconds == other.replica_seconds
    )


def recount(trace: Trace) -> tuple[Array, Array, Array]:
    """Return arrived, answered and in-flight seconds of each interval, counted one request after the other."""
    line = trace.timeline
    ends = trace.arrivals + trace.latencies.astype(float)
    spans = list(zip(line.at - line.interval, line.at, strict=True))
    arrived = [np.count_nonzero((trace.arrivals > a) & (trace.arrivals <= b)) for a, b in spans]
    answered = [np.count_nonzero((ends > a) & (ends <= b)) for a, b in spans]
    present = [np.clip(np.minimum(ends, b) - np.maximum(trace.arrivals, a), 0, None).sum() for a, b in spans]
    return np.array(arrived), np.array(answered), np.array(present)


@settings(deadline=None, max_examples=40)
@given(counts=COUNTS, startup=st.sampled_from([0.0, 0.3, 1.0, 2.6]), rate=st.sampled_from([5.0, 40.0, 150.0]))
def test_whatever_is_decided_nothing_is_lost_or_counted_twice(
    counts: tuple[int, ...], startup: float, rate: float
) -> None:
    trace = listed(Load.steady(rate, seconds=8), counts, FAST, least=0, startup=startup)
    line = trace.timeline
    arrived, answered, present = recount(trace)
    assert line.requests == pytest.approx(arrived)
    assert np.abs(np.cumsum(line.answered) - np.cumsum(answered)).max() <= 1  # latencies are kept in 32 bits
    assert line.in_flight * line.interval == pytest.approx(present, abs=0.01)
    assert line.at[-1] == pytest.approx(8.0)
    assert line.interval.sum() == pytest.approx(8.0)
    assert (line.interval > 0).all()
    assert (trace.latencies[np.isfinite(trace.latencies)] > 0).all()
    known = line.utilisation[np.isfinite(line.utilisation)]
    assert (known >= -1e-9).all()
    assert (known <= 1 + 1e-9).all()
    before = np.concatenate([[trace.initial], line.desired[:-1]])
    assert np.array_equal(line.ready + line.starting, before)
    there = (before + line.leaving) * line.interval
    assert trace.replica_seconds == pytest.approx(there.sum(), abs=5 * 0.5 * (1 + len(trace.decisions)))
    assert len(trace.decisions) == np.count_nonzero(line.desired != before)
    if line.desired[-1] > 0:
        assert np.isfinite(trace.latencies).all()


@settings(deadline=None, max_examples=20)
@given(counts=COUNTS, least=st.integers(0, 1))
def test_how_many_intervals_are_simulated_at_a_time_changes_nothing(counts: tuple[int, ...], least: int) -> None:
    load = Load.step(5, 60, at=4, seconds=10)
    traces = []
    with pytest.MonkeyPatch.context() as patch:
        for longest in (1, 3, 128):
            patch.setattr("mlnb.scaling.simulation.engine._LONGEST", longest)
            patch.setattr("mlnb.scaling.simulation.engine._SHORTEST", min(8, longest))
            traces.append(listed(load, counts, FAST, least=least))
    assert same(traces[0], traces[1])
    assert same(traces[0], traces[2])
    assert traces[0].timeline.p95 == pytest.approx(traces[2].timeline.p95, nan_ok=True)


def test_the_same_seed_gives_the_same_and_another_one_does_not() -> None:
    load = Load.noise(60, seconds=60)
    assert same(held(load, 2, FAST, seed=3), held(load, 2, FAST, seed=3))
    assert not same(held(load, 2, FAST, seed=3), held(load, 2, FAST, seed=4))


def test_all_policies_get_the_same_arrivals_and_service_times() -> None:
    load = Load.steady(2, seconds=60)
    few, many = held(load, 4, replace(FAST, most_rows=1)), held(load, 8, replace(FAST, most_rows=1))
    assert np.array_equal(few.arrivals, many.arrivals)
    assert np.median(np.abs(few.latencies - many.latencies)) == 0


def test_service_times_vary_as_much_as_they_are_said_to() -> None:
    latencies = held(Load.steady(1, seconds=6000), 20, ServiceTime(fixed=0.1, spread=0.5)).latencies
    assert latencies.mean() == pytest.approx(0.1, rel=0.03)
    assert latencies.std() == pytest.approx(0.05, rel=0.05)


def test_overhead_is_added_to_what_a_request_takes_and_to_nothing_else() -> None:
    load = Load.steady(30, seconds=60)
    plain, more = held(load, 2, FAST), held(load, 2, FAST, overhead=0.5)
    assert more.latencies - plain.latencies == pytest.approx(0.5, abs=1e-5)
    assert np.array_equal(plain.timeline.utilisation, more.timeline.utilisation)


def test_a_replica_that_starts_answers_when_it_is_ready() -> None:
    trace = listed(Load.recorded([0.1, 0.2, 0.3, 0.9, 4.0], seconds=5), (2,), ServiceTime(fixed=3.0), startup=1.0)
    assert trace.timeline.starting[:4].tolist() == [0, 1, 0, 0]  # decided at 0.5, ready at 1.5
    assert trace.timeline.ready[:4].tolist() == [1, 1, 2, 2]
    assert trace.latencies == pytest.approx([3.0, 4.3, 5.8, 6.6, 5.1])  # the second one begins at 1.5


def test_a_replica_that_leaves_ends_its_batch_and_is_paid_for_until_then() -> None:
    trace = listed(Load.recorded([0.1, 0.2], seconds=4), (2, 2, 2, 1), ServiceTime(fixed=2.05), startup=0.0)
    assert trace.latencies == pytest.approx([2.05, 2.35])  # the second waits until the decision at 0.5
    assert trace.timeline.leaving.tolist() == [0, 0, 0, 0, 1, 0, 0, 0]  # not dismissed before a decision at 2.0
    assert trace.replica_seconds == pytest.approx(0.5 + 2 * 1.5 + 2.0 + 0.55)


def test_what_waits_when_the_load_ends_is_still_answered() -> None:
    trace = held(Load.steady(50, seconds=10), 1, SLOW)
    assert np.isfinite(trace.latencies).all()
    assert trace.latencies.max() > 30
    assert trace.timeline.at[-1] == 10


class Watching:
    """Keeps the samples it is given."""

    words = "watching"

    def __init__(self, count: int = 1) -> None:
        self.samples: list[ScalingSample] = []
        self.count = count

    def controller(self) -> Watching:
        return self

    def step(self, sample: ScalingSample) -> ScalingDecision:
        self.samples.append(sample)
        return ScalingDecision(
            sample=sample, metric="", value=None, target=None, wanted=self.count, desired=self.count, rule="",
            window=0.0, reason="",
        )  # fmt: skip


def test_samples_are_as_they_are_live() -> None:
    policy = Watching(2)
    autoscale = Autoscale(least=2, most=2, policy=policy)
    run(
        Load.steady(40, seconds=20), autoscale, service=replace(FAST, cores=0.5), limit=7, limited_by="memory",
        start=1e9,
    )  # fmt: skip
    assert len(policy.samples) == 40
    last = policy.samples[-1]
    assert (last.at, last.wall, last.interval, last.desired, last.ready) == (20.0, 1e9 + 20, 0.5, 2, 2)
    assert (last.limit, last.limited_by, last.crashes) == (7, "memory", 0)
    assert last.service is not None
    assert last.service.cores == 0.5
    assert last.utilisation is not None
    assert last.cpu == pytest.approx(50 * last.utilisation)
    assert sum(one.requests or 0 for one in policy.samples) == pytest.approx(800, abs=150)
    busy = np.mean([one.utilisation for one in policy.samples if one.utilisation is not None])
    assert busy == pytest.approx(40 * 0.022 / 2, rel=0.15)


def test_p95_is_that_of_the_answers_of_the_last_five_seconds() -> None:
    trace = held(Load.step(10, 60, at=20, seconds=60), 2, FAST)
    ends = trace.arrivals + trace.latencies.astype(float)
    line = trace.timeline
    for at in (9, 30, 50, 100):
        recent = trace.latencies[(ends > line.at[at] - 5) & (ends <= line.at[at])]
        assert line.p95[at] == pytest.approx(np.quantile(recent, 0.95), rel=0.05)
    nothing = held(Load.recorded([3.0, 18.0], seconds=19), 1, SLOW).timeline
    assert np.isnan(nothing.p95[[0, 5, 30]]).all()  # before there was an answer, and five seconds after the last one
    assert nothing.p95[10] == pytest.approx(0.1, rel=0.05)


def test_nobody_asks_nobody_works_and_the_next_request_wakes_it_at_once() -> None:
    autoscale = Autoscale(least=0, most=3, policy=Listed((1,)), idle=30.0)
    load = Load.recorded([0.2, 100.2, 100.3, 100.5, 200.0], seconds=240)
    trace = run(load, autoscale, service=SLOW, startup=1.0)
    assert [one.desired for one in trace.decisions] == [0, 1, 0, 1, 0]
    assert trace.decisions[1].sample.at == pytest.approx(100.2)
    assert trace.latencies == pytest.approx([0.1, 1.1, 1.1, 1.0, 1.1], abs=1e-4)
    assert trace.woken == 4
    assert trace.replica_seconds < 110
    assert (np.diff(trace.timeline.at) > 0).all()


def test_a_schedule_holds_at_its_time_of_the_day() -> None:
    schedule = Schedule(3, days="weekdays", start="00:05", end="00:10", zone="UTC")
    autoscale = Autoscale(least=1, most=4, policy=Listed((1,)), schedules=(schedule,))
    line = run(Load.steady(2, seconds=900), autoscale, service=SLOW).timeline
    assert set(line.desired[(line.at > 300) & (line.at < 600)].tolist()) == {3}
    assert set(line.desired[(line.at < 300) | (line.at > 601)].tolist()) == {1}
    sunday = run(Load.steady(2, seconds=900), autoscale, service=SLOW, start=1_767_571_200.0 - 86_400)
    assert set(sunday.timeline.desired.tolist()) == {1}


def test_the_machine_holds_no_more_than_it_can() -> None:
    trace = run(
        Load.steady(5, seconds=10), Autoscale(least=1, most=9, policy=Listed((8,))), service=SLOW, limit=3,
        limited_by="2 cores",
    )  # fmt: skip
    assert trace.timeline.desired.max() == 3
    assert "2 cores" in trace.decisions[0].reason


def test_a_real_policy_follows_a_step() -> None:
    trace = run(Load.step(10, 90, at=30, seconds=120), Autoscale.of(1, 6), service=SLOW)
    line = trace.timeline
    assert line.desired[line.at == 30.0].tolist() == [2]
    assert line.desired[-1] == 6
    assert all(one.reason and one.applied == one.desired for one in trace.decisions)


@pytest.mark.parametrize(
    ("service", "given", "said"),
    [
        (ServiceTime(fixed=0.0), {}, "service time of 0"),
        (ServiceTime(fixed=-1.0), {}, r"service.fixed=-1.0"),
        (ServiceTime(fixed=float("nan")), {}, r"service.fixed=nan"),
        (ServiceTime(fixed=0.1, most_rows=0), {}, "one row at least"),
        (SLOW, {"startup": -1.0}, "startup=-1.0"),
        (SLOW, {"overhead": float("inf")}, "overhead=inf"),
        (SLOW, {"initial": -2}, "initial=-2"),
        (SLOW, {"initial": 10_001}, "initial=10001: a number from 0 to 10,000"),
        (ServiceTime(fixed=1e300), {}, r"service.fixed=1e\+300"),
        (ServiceTime(fixed=0.1, spread=1e6), {}, "service.spread=1000000.0"),
        (SLOW, {"seed": -1}, "seed=-1: a whole number from 0"),
        (SLOW, {"seed": "x"}, "seed='x'"),
        (SLOW, {"seed": None}, "seed=None"),
    ],
)
def test_what_cannot_be_simulated_is_refused(service: ServiceTime, given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        run(Load.steady(1), Autoscale(least=1, most=1, policy=Listed()), service=service, **given)


def test_too_many_intervals_are_refused() -> None:
    quiet = Load.steady(0.1, seconds=20 * 86_400)
    with pytest.raises(InvalidInputError, match=r"480h with a decision every 0.5 s: .* less often, interval=1, or"):
        run(quiet, Autoscale.of(0, 2), service=SLOW)


@pytest.mark.parametrize("spread", [2.0, 5.0, 50.0])
def test_services_that_vary_much_take_some_time_each(spread: float) -> None:
    service = ServiceTime(fixed=0.001, spread=spread)
    latencies = held(Load.steady(1000, seconds=60), 4, service).latencies
    assert latencies.min() > 0
    assert np.isfinite(latencies).all()


def test_many_replicas_at_the_beginning_are_gone_at_once() -> None:
    began = time.process_time()
    trace = run(Load.steady(10, seconds=60), Autoscale.of(1, 4), service=SLOW, initial=10_000)
    assert time.process_time() - began < 2  # 0.1, and 6 where they go one by one
    assert trace.decisions[0].desired == 4
    assert trace.timeline.desired[0] == 4
    assert trace.timeline.leaving[1:].max() <= 4
