from __future__ import annotations

from collections import deque
from dataclasses import replace
from itertools import pairwise
from math import inf, isfinite
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mlnb.scaling.batching import Admission, Job, Prediction, PredictTimes, Refusal, answer_each, take_batch


def job(count: int = 1, *, probabilities: bool = False, alone: bool = False, rows: Any = None) -> Job:
    return Job(
        [[0.0]] * count if rows is None else rows, count, probabilities, inf, lambda _: None, lambda: False, alone=alone
    )


def batches(jobs: list[Job], *, most: int) -> list[list[Job]]:
    waiting, taken = deque(jobs), []
    while waiting:
        taken.append(take_batch(waiting, most=most))
    return taken


JOBS = st.lists(st.builds(job, st.integers(0, 50), probabilities=st.booleans(), alone=st.booleans()), max_size=40)


@given(JOBS, st.integers(1, 100))
def test_every_job_is_in_one_batch_and_their_order_is_kept(jobs: list[Job], most: int) -> None:
    taken = batches(jobs, most=most)
    assert [one for batch in taken for one in batch] == jobs
    assert all(taken)


@given(JOBS, st.integers(1, 100))
def test_what_is_joined_is_asked_the_same_and_within_the_limit(jobs: list[Job], most: int) -> None:
    for batch in batches(jobs, most=most):
        if len(batch) > 1:
            assert sum(one.count for one in batch) <= most
            assert len({one.probabilities for one in batch}) == 1
            assert all(one.joins for one in batch)


@given(JOBS, st.integers(1, 100))
def test_no_batch_ends_earlier_than_it_must(jobs: list[Job], most: int) -> None:
    taken = batches(jobs, most=most)
    for batch, (following, *_) in pairwise(taken):
        first = batch[0]
        fits = sum(one.count for one in batch) + following.count <= most
        joins = first.joins and following.joins and first.probabilities is following.probabilities
        assert not (fits and joins)


def test_a_request_larger_than_the_limit_is_a_batch_of_its_own() -> None:
    assert [len(batch) for batch in batches([job(1), job(500), job(1), job(1)], most=64)] == [1, 1, 2]


def test_rows_that_are_no_plain_list_join_nothing() -> None:
    array = job(rows=np.zeros((1, 1)))
    assert [len(batch) for batch in batches([job(), array, job(), job()], most=64)] == [1, 1, 2]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=10), st.booleans())
def test_parts_are_the_rows_of_each_job(counts: list[int], probabilities: bool) -> None:
    values = np.arange(sum(counts))
    whole = Prediction(values, np.stack([values, values], axis=1) if probabilities else None)
    parts: list[Any] = []
    jobs = [replace(job(count), done=parts.append) for count in counts]
    answer_each(jobs, whole)
    assert [len(part.values) for part in parts] == counts
    assert np.concatenate([part.values for part in parts]).tolist() == values.tolist()
    assert all((part.probabilities is not None) is probabilities for part in parts)
    if probabilities:
        assert all(part.probabilities[:, 0].tolist() == part.values.tolist() for part in parts)


def test_the_only_one_gets_the_whole_answer() -> None:
    """Whatever was thought its count: a flat list of three values is one row."""
    parts: list[Any] = []
    whole = Prediction(np.zeros(1))
    answer_each([replace(job(3), done=parts.append)], whole)
    assert parts == [whole]


# ---- what predicting takes ----


COSTS = st.floats(1e-5, 1.0)


@given(COSTS, st.floats(1e-7, 1e-2), st.lists(st.integers(1, 4096), min_size=2, max_size=60, unique=True))
def test_a_line_is_recovered(fixed: float, per_row: float, sizes: list[int]) -> None:
    assume(max(sizes) > 2 * min(sizes))
    times = PredictTimes()
    for rows in sizes:
        times.observe(rows, fixed + per_row * rows)
    for rows in (min(sizes), max(sizes)):
        assert times.estimate(rows) == pytest.approx(fixed + per_row * rows, rel=1e-3)


@given(st.lists(st.tuples(st.integers(1, 100_000), st.floats(0, 100)), min_size=1, max_size=60), st.integers(1, 10_000))
def test_estimates_are_never_negative_and_batches_never_empty(seen: list[tuple[int, float]], rows: int) -> None:
    times = PredictTimes()
    for count, seconds in seen:
        times.observe(count, seconds)
    assert isfinite(times.estimate(rows))
    assert times.estimate(rows) >= 0
    assert times.estimate(2 * rows) >= times.estimate(rows)
    assert 1 <= times.most_rows <= 4096


def test_before_anything_is_measured() -> None:
    times = PredictTimes()
    assert times.estimate(1) == inf
    assert times.most_rows == 64


def test_what_is_slow_per_row_gets_small_batches_and_a_fixed_cost_large_ones() -> None:
    slow, fixed, dear = PredictTimes(), PredictTimes(), PredictTimes()
    for rows in (1, 2, 4, 8):
        slow.observe(rows, 0.01 * rows)
        fixed.observe(rows, 0.004)
        dear.observe(rows, 0.1 + 0.01 * rows)
    assert slow.most_rows == 4
    assert fixed.most_rows == 4096
    assert dear.most_rows == 30  # which takes four times what one costs anyway


def test_it_follows_a_change() -> None:
    times = PredictTimes()
    for seconds in [0.001] * 500 + [0.010] * 500:
        times.observe(1, seconds)
    assert times.estimate(1) == pytest.approx(0.010, rel=0.01)


def test_the_service_time_with_how_much_it_varies() -> None:
    times, steady = PredictTimes(), PredictTimes()
    assert times.service() is None
    rng = np.random.default_rng(3)
    for rows in rng.integers(1, 40, 3000):
        steady.observe(int(rows), 0.004 + 0.0005 * rows)
        times.observe(int(rows), (0.004 + 0.0005 * rows) * rng.gamma(4.0, 0.25))
    exact, found = steady.service(cores=0.5), times.service()
    assert exact is not None
    assert found is not None
    assert [exact.fixed, exact.per_row] == pytest.approx([0.004, 0.0005])
    assert (exact.most_rows, exact.cores) == (steady.most_rows, 0.5)
    assert exact.spread == pytest.approx(0.0, abs=1e-5)
    assert found.spread == pytest.approx(0.5, abs=0.15)  # over the latest fifty
    assert found.of(20) == pytest.approx(0.014, rel=0.3)


def test_what_together_would_take_is_not_known_of_rows_that_came_one_by_one() -> None:
    times = PredictTimes()
    for _ in range(5):
        assert times.service() is None  # a few batches tell nothing
        times.observe(1, 0.02)
    service = times.service()
    assert service is not None
    assert (service.fixed, service.per_row) == pytest.approx((0.0, 0.02))
    assert service.capacity == pytest.approx(50.0)


@given(
    st.lists(st.tuples(st.integers(1, 100_000), st.floats(0, 100)), max_size=60), st.integers(0, 9), st.integers(0, 9)
)
def test_service_times_and_waits_make_sense(seen: list[tuple[int, float]], rows: int, replicas: int) -> None:
    times = PredictTimes()
    assert times.wait(0, replicas=replicas) == 0
    for count, seconds in seen:
        times.observe(count, seconds)
    service = times.service()
    if service is not None:
        assert service.fixed >= 0
        assert service.per_row >= 0
        assert isfinite(service.spread)
        assert service.spread >= 0
        assert service.capacity > 0
    assert times.wait(rows, replicas=replicas) >= 0
    assert not seen or isfinite(times.wait(rows, replicas=replicas))


# ---- who may wait ----


def known(seconds_per_row: float) -> PredictTimes:
    times = PredictTimes()
    for rows in (1, 10, 100, 10, 1):
        times.observe(rows, seconds_per_row * rows)
    return times


def refusal(
    admission: Admission, *, waiting: int, now: float = 0.0, rows: int = 1, per_row: float = 0.001, replicas: int = 1
) -> Refusal | None:
    return admission.refusal(now=now, waiting=waiting, rows=rows, times=known(per_row), replicas=replicas)


def test_a_burst_is_admitted_and_a_queue_that_stands_is_not() -> None:
    admission = Admission()
    admission.emptied(10.0)
    assert refusal(admission, waiting=900, now=10.05) is None
    late = refusal(admission, waiting=900, now=10.5)
    assert late is not None
    assert "900 rows wait already, for about 0.9 s" in late.reason
    assert late.retry_after == 1
    assert refusal(admission, waiting=40, now=10.5) is None  # two batches
    admission.emptied(11.0)
    assert refusal(admission, waiting=900, now=11.05) is None


def test_even_a_burst_has_its_limit() -> None:
    admission = Admission()
    admission.emptied(10.0)
    refused = refusal(admission, waiting=3500, now=10.0)
    assert refused is not None
    assert refused.retry_after == 4


def test_memory_has_its_limit_before_anything_is_measured() -> None:
    assert Admission().refusal(now=0, waiting=199_999, rows=1, times=PredictTimes(), replicas=1) is None
    refused = Admission().refusal(now=0, waiting=200_000, rows=1, times=PredictTimes(), replicas=1)
    assert refused is not None
    assert "at most 200,000 may" in refused.reason


def test_with_no_replicas_all_may_wait_for_the_first_and_be_answered_by_it() -> None:
    admission = Admission()
    assert refusal(admission, waiting=9000, now=10.0, replicas=0) is None
    assert refusal(admission, waiting=200_000, now=10.0, replicas=0) is not None
    admission.woken(10.0, wait=2.0)
    assert refusal(admission, waiting=3900, now=13.9) is None
    assert refusal(admission, waiting=4100, now=13.9) is not None
    assert refusal(admission, waiting=3900, now=14.2) is not None
    admission.emptied(15.0)
    assert refusal(admission, waiting=3900, now=15.0) is not None


def test_more_replicas_admit_more() -> None:
    assert refusal(Admission(), waiting=150) is not None
    assert refusal(Admission(), waiting=150, replicas=4) is None


@given(st.floats(0, 1e6), st.integers(1, 10**9), st.floats(1e-6, 1e3), st.integers(0, 64))
def test_who_comes_first_is_always_admitted(now: float, rows: int, per_row: float, replicas: int) -> None:
    assert refusal(Admission(), now=now, waiting=0, rows=rows, per_row=per_row, replicas=replicas) is None


@given(st.floats(0, 1e6), st.integers(1, 10**6), st.floats(1e-6, 1e3), st.integers(0, 64))
def test_who_is_refused_is_told_why_and_when_to_come_again(
    now: float, waiting: int, per_row: float, replicas: int
) -> None:
    refused = refusal(Admission(), now=now, waiting=waiting, per_row=per_row, replicas=replicas)
    assert refused is None or (refused.retry_after >= 1 and "rows wait already" in refused.reason)


def test_a_few_noisy_batches_do_not_end_in_batches_of_one_row_for_good() -> None:
    times = PredictTimes()
    for _ in range(50):
        times.observe(1, 0.016)
    for _ in range(2):
        times.observe(2, 0.034)  # as if there were no fixed cost
    assert times.most_rows >= 2
    for _ in range(30):  # what it is really like
        times.observe(times.most_rows, 0.016 + 0.0001 * times.most_rows)
    assert times.most_rows > 64


def test_one_pause_of_the_machine_is_not_taken_for_a_slow_model() -> None:
    times = PredictTimes()
    for rows in (1, 3, 1, 2, 1, 3):
        times.observe(rows, 0.001 * rows)
    times.observe(2, 2.0)
    assert times.estimate(30) < 0.1
    times.observe(2, 2.0)  # it was no pause
    assert times.estimate(2) > 0.1


def test_a_queue_is_not_judged_by_a_few_batches() -> None:
    times, admission = PredictTimes(), Admission()

    def refused() -> bool:
        return admission.refusal(now=60.0, waiting=9, rows=1, times=times, replicas=1) is not None

    for rows in (1, 16):
        times.observe(rows, 0.1 * rows)
    assert not refused()
    for rows in (1, 16, 1):
        times.observe(rows, 0.1 * rows)
    assert refused()


@pytest.mark.parametrize(("per_row", "least", "most"), [(0.001, 4, 100), (0.02, 4, 4), (3.0, 2, 2)])
def test_slow_rows_are_still_tried_a_few_together(per_row: float, least: int, most: int) -> None:
    times = PredictTimes()
    for rows in (1, 2) * 30:
        times.observe(rows, per_row * rows)
    assert least <= times.most_rows <= most


def test_idle_replicas_share_rows_that_take_long() -> None:
    times = PredictTimes()
    for rows in (1, 2, 3):
        times.observe(rows, 0.001 + 0.03 * rows)
    assert [times.share(rows, replicas=3) for rows in (1, 2, 3, 4, 6)] == [3, 1, 1, 2, 2]


@pytest.mark.parametrize(("fixed", "per_row"), [(0.01, 0.00001), (0.02, 0.004), (0.0001, 0.00001)])
def test_rows_stay_together_where_a_batch_costs_more_than_they_do(fixed: float, per_row: float) -> None:
    times = PredictTimes()
    for rows in (1, 4, 8):
        times.observe(rows, fixed + per_row * rows)
    assert times.share(4, replicas=2) == times.most_rows
