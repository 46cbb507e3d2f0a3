from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlnb.scaling.policies.decision import ScalingDecision, ScalingSample
from mlnb.scaling.scaling_record import ScalingRecord
from mlnb.scaling.service_time import ServiceTime


def decision(at: float, *, now: int = 1, desired: int = 1, applied: int | None = None) -> ScalingDecision:
    sample = ScalingSample(
        at=at, wall=at, interval=0.5, desired=now, ready=now, requests=7, answered=7, in_flight=0.4, waiting=0,
        queue_wait=0.0, utilisation=0.3, cpu=12.5, p95=0.01, service=ServiceTime(fixed=at, per_row=0.001), limit=2,
        limited_by="2 cores: each replica keeps 0.97 of one busy",
    )  # fmt: skip
    return ScalingDecision(
        sample=sample, metric="utilisation", value=at, target=0.7, wanted=desired, desired=desired,
        rule="target tracking", window=0.5, reason=f"utilisation {at} of 0.7: {now} to {desired}", applied=applied,
    )  # fmt: skip


def read(record: ScalingRecord) -> list[ScalingDecision]:
    """All of it, part by part."""
    found: list[ScalingDecision] = []
    since = -inf
    while part := record.since(since):
        assert len(part) <= 500
        found += part
        since = part[-1].sample.at
    return found


def day(*, changes_every: int = 200) -> ScalingRecord:
    """A day of decisions."""
    record = ScalingRecord()
    for tick in range(172_800):
        changes = tick % changes_every == 0
        record.note(decision(tick / 2, desired=2 if changes else 1, applied=2 if changes else 1))
    return record


def test_it_keeps_all_of_the_hour_and_the_changes_before() -> None:
    record = day()
    found = [one.sample.at for one in read(record)]
    assert found == sorted(set(found))
    assert len(found) == len(record) <= 8200
    end = found[-1]
    assert [at for at in found if at >= end - 3600] == [end - 3600 + step / 2 for step in range(7201)]
    changes = [at for at in found if at < end - 3600]
    assert len(changes) > 600
    assert all(at % 100 == 0 for at in changes)
    assert changes[-1] - changes[0] == (len(changes) - 1) * 100
    assert record.changed is not None
    assert record.changed.sample.at == 86300.0
    assert record.last is not None
    assert record.last.sample.at == end


def test_a_part_is_pickled_at_once() -> None:
    part = day().since()
    assert len(part) == 500
    took = []
    for _ in range(5):
        started = time.process_time()
        pickled = pickle.dumps(part)
        took.append(time.process_time() - started)
    assert pickle.loads(pickled) == part
    assert min(took) < 0.02  # 4 ms


def test_a_look_at_a_full_record_is_short() -> None:
    record = day()
    last = record.last
    assert last is not None

    def took(look: Callable[[], object]) -> float:
        spent = []
        for _ in range(5):
            started = time.process_time()
            look()
            spent.append(time.process_time() - started)
        return min(spent)

    assert took(lambda: record.since(last.sample.at - 60)) < 0.001  # 0.1 ms; all of them were sorted once, in 16 ms
    assert took(record.since) < 0.001
    assert took(lambda: ScalingRecord().take_over(record)) < 0.002  # 0.1 ms


def test_a_decision_that_is_not_newer_is_not_kept() -> None:
    record = ScalingRecord()
    for at in (1.0, 2.0, 2.0, -5.0, 3.0):
        record.note(decision(at, desired=int(at)))
    assert [one.sample.at for one in read(record)] == [1.0, 2.0, 3.0]


def test_a_decision_is_settled_when_it_is_done() -> None:
    record = ScalingRecord()
    up, next_one = decision(1.0, desired=3), decision(1.5, now=3, desired=3)
    record.note(up)
    assert record.changed is None
    record.note(next_one)
    settled = record.settle(up, 3)
    assert (settled.applied, settled.sample) == (3, up.sample)
    assert record.changed is settled
    assert record.since() == (settled, next_one)
    assert record.settle(next_one, 3).applied == 3
    assert record.changed is settled
    assert record.settle(decision(0.0), 1).applied == 1  # one that is not known any more
    assert len(record) == 2


def test_a_predecessors_decisions_come_before_ones_own() -> None:
    before = ScalingRecord()
    for tick in range(6000):
        before.note(decision(float(tick), desired=2, applied=2 if tick == 30 else None))
    known = read(before)
    after = ScalingRecord()
    after.note(decision(6002.0))
    after.take_over(before)
    assert read(after) == [one for one in known if one.sample.at == 30 or one.sample.at >= 2402] + [decision(6002.0)]
    assert after.changed is not None
    assert after.changed.sample.at == 30
    after.note(decision(6003.0))
    assert read(before) == known  # it stays as it was
    empty = ScalingRecord()
    empty.take_over(ScalingRecord())
    assert (empty.last, empty.changed, empty.since()) == (None, None, ())


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(0.001, 900), st.booleans()), max_size=400), st.floats(0, 5000))
def test_what_is_read_is_in_order_and_nothing_is_read_twice(steps: list[tuple[float, bool]], since: float) -> None:
    record, at = ScalingRecord(), 0.0
    noted = []
    for after, changes in steps:
        at += after
        noted.append(decision(at, desired=2 if changes else 1, applied=2))
        record.note(noted[-1])
    found = read(record)
    assert found == [one for one in noted if one in found]
    assert [one for one in noted if one.desired == 2] == [one for one in found if one.desired == 2]
    assert [one for one in found if one.sample.at >= at - 600] == [one for one in noted if one.sample.at >= at - 600]
    assert list(record.since(since, most=10**6)) == [one for one in found if one.sample.at > since]


@pytest.mark.parametrize("most", [1, 3])
def test_parts_may_be_small(most: int) -> None:
    record = ScalingRecord()
    for at in range(7):
        record.note(decision(float(at)))
    assert [one.sample.at for one in record.since(2.0, most=most)] == [3.0, 4.0, 5.0][:most]
