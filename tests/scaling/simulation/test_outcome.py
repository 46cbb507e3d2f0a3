from __future__ import annotations

import numpy as np
import pytest
from scaling.simulation.holding import held, listed

from mlnb.scaling.service_time import ServiceTime
from mlnb.scaling.simulation.load import Load
from mlnb.scaling.simulation.outcome import outcome_of

FAST = ServiceTime(fixed=0.02, per_row=0.002, spread=0.3, most_rows=8)


def test_figures_are_those_of_the_requests() -> None:
    trace = held(Load.steady(60, seconds=60), 2, FAST)
    made = outcome_of(trace, objective=0.03)
    assert made.requests == len(trace.arrivals)
    assert [made.p50, made.p95, made.p99] == pytest.approx(
        1e3 * np.quantile(trace.latencies, [0.5, 0.95, 0.99]), rel=0.01
    )
    assert made.over == np.count_nonzero(trace.latencies > 0.03)
    assert made.over_share == pytest.approx(float((trace.latencies > 0.03).mean()))
    assert made.objective == pytest.approx(30)
    assert (made.most, made.changes, made.flaps, made.woken, made.unanswered) == (2, 0, 0, 0, 0)
    assert made.mean_replicas == pytest.approx(2)
    assert made.replica_seconds == pytest.approx(120)
    assert made.policy == "as listed"
    assert made.load == "steady 60 requests/s"


def test_turns_are_counted_and_without_an_objective_nothing_is_over_it() -> None:
    counts = (1, 2, 2, 3, 4, 4, 4, 4, 4, 3, 3, 2, 3, 3, 3, 3, 3, 3, 2)
    made = outcome_of(listed(Load.steady(5, seconds=12), counts, FAST, startup=0.0))
    assert made.flaps == 3
    assert made.changes == 7
    assert made.most == 4
    assert made.over is None
    assert made.over_share is None


def test_those_who_are_never_answered_took_forever() -> None:
    service = ServiceTime(fixed=1.0)
    made = outcome_of(listed(Load.steady(2, seconds=20), (0,), service, least=0), objective=1.0)
    assert made.unanswered == 0  # the last one stays while somebody asks
    assert made.over_share is not None
    assert made.over_share > 0.5
    assert made.p99 > 5000
