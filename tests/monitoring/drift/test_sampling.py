from __future__ import annotations

import pickle
import threading
from itertools import count
from typing import Any

import numpy as np
import pytest
from waiting import wait_until

from mlnb.events import PredictionEvent
from mlnb.monitoring.drift import RowSample


def event(at: float, *, rows: int = 1, version: int = 1, status: int = 200, inputs: Any = None) -> PredictionEvent:
    given = [[at, 0.0] for _ in range(rows)] if inputs is None else inputs
    answers = np.full(rows, at)
    return PredictionEvent("m", version, "r", at, 0.001, rows, status, None, given, answers)


def test_the_newest_rows_are_kept_with_their_answers() -> None:
    sample = RowSample(10)
    sample.observe([event(float(at)) for at in range(25)])
    kept = sample.rows(1)
    assert kept.rows == 10
    assert [rows[0][0] for rows in kept.inputs] == [float(at) for at in range(24, 14, -1)]
    assert [answer.tolist() for answer in kept.predictions] == [[float(at)] for at in range(24, 14, -1)]
    assert (kept.since, kept.until, kept.version) == (15.0, 24.0, 1)
    assert sample.rows(1, most=3).rows == 3


def test_nothing_is_known_of_other_versions() -> None:
    kept = RowSample().rows(7)
    assert (kept.rows, kept.inputs, kept.since, kept.until) == (0, (), None, None)


def test_refused_and_failed_requests_are_left_out() -> None:
    sample = RowSample()
    refused = PredictionEvent("m", 1, "r", 1.0, 0.0, 0, 422, "no")
    sample.observe([refused, event(1.0, status=500), event(2.0)])
    assert sample.rows(1).rows == 1


def test_a_burst_does_not_push_out_what_came_before() -> None:
    sample = RowSample(100, per_second=20)
    sample.observe([event(float(at)) for at in range(100)])
    sample.observe([event(200 + at / 1000) for at in range(999)])
    times = [answer[0] for answer in sample.rows(1).predictions]
    assert len(times) == 100
    assert sum(at >= 200 for at in times) == 20
    sample.observe([event(201.0)])
    assert sample.rows(1, most=1).until == 201.0


def test_the_first_burst_fills_an_empty_sample() -> None:
    sample = RowSample(100, per_second=20)
    sample.observe([event(5 + at / 1000) for at in range(500)])
    assert sample.rows(1).rows == 100


def test_a_clock_that_goes_back_stops_nothing() -> None:
    sample = RowSample(10, per_second=5)
    sample.observe([event(1e9 + at / 100) for at in range(50)])
    sample.observe([event(float(at)) for at in range(5)])
    assert sample.rows(1, most=1).until == 4.0


def test_versions_have_their_own_rows_and_at_most_eight_are_kept() -> None:
    sample = RowSample(10)
    sample.observe([event(float(at), version=at) for at in range(1, 10)])
    sample.observe([event(99.0, version=3)] * 5)
    assert sample.versions == tuple(range(2, 10))
    assert sample.rows(3).rows == 6
    assert sample.rows(1).rows == 0


def test_values_are_bounded_over_all_versions() -> None:
    sample = RowSample(values=1_000)
    for at in range(200):
        sample.observe([event(float(at), version=at % 2, inputs=[[0.0] * 99])])
        assert sample.cells <= 1_000
    assert sample.rows(0).rows == sample.rows(1).rows == 5
    sample.observe([event(300.0, inputs=[[0.0] * 600])])
    assert sample.rows(1).until == 199.0


@pytest.mark.parametrize("form", ["list", "array", "pandas", "polars", "arrow"])
def test_of_a_long_request_rows_are_picked_evenly_and_copied(form: str) -> None:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    table = np.arange(1000.0).reshape(-1, 1)
    inputs = {
        "list": table.tolist(), "array": table, "pandas": pd.DataFrame(table, columns=["a"]),
        "polars": pl.DataFrame({"a": table[:, 0]}), "arrow": pa.table({"a": table[:, 0]}),
    }[form]  # fmt: skip
    sample = RowSample(100)
    sample.observe([event(1.0, rows=1000, inputs=inputs)])
    kept = sample.rows(1)
    assert kept.rows == len(kept.inputs[0]) == len(kept.predictions[0]) == 100
    if form == "array":
        assert kept.inputs[0].base is None


def test_it_moves_to_another_process_and_goes_on() -> None:
    sample = RowSample(10)
    sample.observe([event(float(at)) for at in range(5)])
    moved = pickle.loads(pickle.dumps(sample))
    moved.observe([event(9.0)])
    assert moved.rows(1).rows == 6


def test_what_another_sample_kept_is_older() -> None:
    old, new = RowSample(10), RowSample(10)
    old.observe([event(float(at)) for at in range(9)] + [event(3.0, version=2)])
    new.observe([event(float(at)) for at in range(20, 23)])
    new.absorb(old)
    assert [answer[0] for answer in new.rows(1).predictions] == [22.0, 21.0, 20.0, *range(8, 1, -1)]
    assert new.rows(2).rows == 1
    assert new.cells == 11 * 3


def test_long_texts_take_room() -> None:
    sample = RowSample(values=1_000)
    for at in range(20):
        text = np.array(["y" * 1_600], dtype=object)
        sample.observe([event(float(at), inputs=[["short", 1.0]])._replace(prediction=text)])
        assert sample.cells <= 1_000
    assert sample.rows(1).rows == 4
    sample.observe([event(30.0, rows=2, inputs=[["short"], ["y" * 8_000]])])
    assert sample.rows(1).until == 19.0


def test_the_rest_of_a_batch_is_not_kept() -> None:
    batch, table = np.arange(1000.0), np.zeros((1000, 2))
    sample = RowSample()
    sample.observe([event(1.0, inputs=table[:1])._replace(prediction=batch[5:6])])
    kept = sample.rows(1)
    assert (kept.predictions[0].base, kept.predictions[0].tolist(), kept.inputs[0].base) == (None, [5.0], None)


def test_a_copy_stays_as_it_is_and_harms_nobody() -> None:
    sample = RowSample(10, per_second=5)
    sample.observe([event(float(at)) for at in range(9)] + [event(3.0, version=2)])
    copy = sample.copy()
    sample.observe([event(float(at)) for at in range(20, 30)] + [event(4.0, version=3)])
    assert (copy.versions, copy.rows(1).until, copy.rows(1).rows, copy.cells) == ((1, 2), 8.0, 9, 30)
    copy.observe([event(50.0 + at / 100) for at in range(50)])
    assert copy.rows(1).rows == 10  # as many rows a second as the one that it is of
    assert sample.rows(1).until == 29.0


def test_a_copy_is_pickled_while_events_come() -> None:
    sample, stop = RowSample(200), threading.Event()

    def go_on() -> None:
        for at in count():
            sample.observe([event(float(at), version=at % 5)])
            if stop.is_set():
                return

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        wait_until(lambda: len(sample.versions) == 5)
        copy = sample.copy()
        kept = {copy.rows(1).until for _ in range(50) if pickle.dumps(copy)}
    finally:
        stop.set()
        thread.join()
    assert len(kept) == 1
