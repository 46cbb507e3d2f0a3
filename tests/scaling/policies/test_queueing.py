from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.errors import InvalidInputError
from mlnb.scaling.policies.queueing import fraction_over, latency_quantile, most_rate, replicas_for
from mlnb.scaling.service_time import ServiceTime
from mlnb.scaling.simulation.queue import Queue

ONE = ServiceTime(fixed=0.02, spread=0.5)
BATCHES = ServiceTime(fixed=0.01, per_row=0.002, spread=0.3, most_rows=20)
_services = st.builds(
    ServiceTime, fixed=st.floats(0.001, 0.1), per_row=st.floats(0, 0.01), spread=st.sampled_from([0.0, 0.3, 1.0]),
    most_rows=st.sampled_from([1, 4, 32]),
)  # fmt: skip


def _simulated(rate: float, replicas: int, service: ServiceTime, *, count: int = 60_000) -> Any:
    """Return the latency of each request, in seconds."""
    rng = np.random.default_rng(7)
    arrivals = np.cumsum(rng.exponential(1 / rate, count))
    factors = rng.gamma(1 / service.spread**2, service.spread**2, count) if service.spread else np.ones(count)
    queue = Queue(arrivals, factors, service)
    queue.add([0.0] * replicas)
    served = queue.serve(math.inf)
    rows = np.diff(served.stops, prepend=0)
    return np.repeat(served.ends, rows) - arrivals


@pytest.mark.parametrize("replicas", [1, 2, 4, 16])
@pytest.mark.parametrize("busy", [0.3, 0.6, 0.8, 0.9])
@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_one_row_a_batch_is_as_simulated(replicas: int, busy: float, spread: float) -> None:
    service = ServiceTime(fixed=0.02, spread=spread)
    rate = busy * replicas * service.capacity
    found = np.quantile(_simulated(rate, replicas, service), 0.95)
    assert latency_quantile(rate, replicas, service, 0.95) == pytest.approx(found, rel=0.15)


@pytest.mark.parametrize("replicas", [1, 2, 4, 16])
@pytest.mark.parametrize("busy", [0.3, 0.6, 0.8, 0.9])
@pytest.mark.parametrize("service", [BATCHES, ServiceTime(fixed=0.02, per_row=0.0005, spread=0.3, most_rows=64)])
def test_batches_are_much_as_simulated(replicas: int, busy: float, service: ServiceTime) -> None:
    rate = busy * replicas * service.capacity
    found = np.quantile(_simulated(rate, replicas, service), 0.95)
    assert latency_quantile(rate, replicas, service, 0.95) == pytest.approx(found, rel=0.3)


@pytest.mark.parametrize("busy", [0.3, 0.6, 0.8, 0.9])
@pytest.mark.parametrize(
    "service",
    [ServiceTime(fixed=0.0005, per_row=0.02, most_rows=8), ServiceTime(fixed=0.001, per_row=0.005, most_rows=64)],
)
def test_rows_that_cost_most_make_batches_that_differ_much(busy: float, service: ServiceTime) -> None:
    rate = busy * service.capacity
    found = np.quantile(_simulated(rate, 1, service), 0.95)
    assert latency_quantile(rate, 1, service, 0.95) == pytest.approx(found, rel=0.25)


@pytest.mark.parametrize("spread", [0.5, 1.0, 2.0])
def test_without_waiting_it_is_the_service_as_simulated(spread: float) -> None:
    service = ServiceTime(fixed=0.02, spread=spread)
    found = np.quantile(_simulated(1, 16, service), [0.5, 0.95, 0.99])
    assert [latency_quantile(1, 16, service, share) for share in (0.5, 0.95)] == pytest.approx(found[:2], rel=0.05)
    assert latency_quantile(1, 16, service, 0.99) == pytest.approx(found[2], rel=0.1)


def test_one_replica_and_random_service_is_the_textbook_s() -> None:
    service = ServiceTime(fixed=0.02, spread=1.0)  # M/M/1: -ln(0.05) / (50 - 25)
    assert latency_quantile(25, 1, service, 0.95) == pytest.approx(-math.log(0.05) / 25, rel=0.03)


def test_overload_has_no_end() -> None:
    assert latency_quantile(100, 2, ONE, 0.5) == math.inf
    assert fraction_over(150, 2, ONE, seconds=1e9) == 1.0
    assert latency_quantile(99, 2, ONE, 0.5) < math.inf


def test_without_requests_there_is_only_the_service() -> None:
    assert latency_quantile(0, 1, ServiceTime(fixed=0.02), 0.95) == pytest.approx(0.02, rel=0.01)
    assert most_rate(2, ServiceTime(fixed=0.08), seconds=0.05) == 0.0


def test_what_no_number_can_do_is_none() -> None:
    assert replicas_for(1, ServiceTime(fixed=0.08), seconds=0.05) is None
    assert replicas_for(400, ONE, seconds=0.1) == 9
    assert replicas_for(400, ONE, seconds=0.1, most=8) is None


def test_clusters_are_not_far() -> None:
    ten_thousand, million = (replicas_for(rate, ONE, seconds=0.1) for rate in (10_000, 1_000_000))
    assert ten_thousand is not None
    assert million is not None
    assert 200 < ten_thousand < 210
    assert 20_000 < million < 20_100


@pytest.mark.parametrize("quantile", [0, 1, -1, 2, float("nan")])
def test_quantiles_that_are_none(quantile: float) -> None:
    for ask in (
        lambda: latency_quantile(1, 1, ONE, quantile),
        lambda: replicas_for(1, ONE, seconds=1, quantile=quantile),
        lambda: most_rate(1, ONE, seconds=1, quantile=quantile),
    ):
        with pytest.raises(InvalidInputError, match="between 0 and 1"):
            ask()


@given(_services, st.floats(0, 500), st.floats(0.01, 1), st.sampled_from([0.5, 0.9, 0.99]))
def test_the_fewest_are_enough_and_one_fewer_is_not(
    service: ServiceTime, rate: float, seconds: float, quantile: float
) -> None:
    found = replicas_for(rate, service, seconds=seconds, quantile=quantile)
    if found is None:
        assert fraction_over(0, 1, service, seconds=seconds) > 1 - quantile
        return
    assert fraction_over(rate, found, service, seconds=seconds) <= 1 - quantile
    assert found == 1 or fraction_over(rate, found - 1, service, seconds=seconds) > 1 - quantile


@given(_services, st.integers(1, 20), st.floats(0.01, 0.95), st.floats(1.0, 1.05))
def test_more_requests_never_take_less(service: ServiceTime, replicas: int, busy: float, more: float) -> None:
    rates = busy * replicas * service.capacity, busy * more * replicas * service.capacity
    few, many = (fraction_over(rate, replicas, service, seconds=0.1) for rate in rates)
    assert few <= many + 0.02
