from __future__ import annotations

import pytest

from mlnb.errors import InvalidInputError
from mlnb.scaling.policies.queueing import latency_quantile
from mlnb.scaling.service_time import ServiceTime
from mlnb.scaling.simulation.needs import Machine, needs

SERVICE = ServiceTime(fixed=0.02, spread=0.5)


def test_what_it_needs_answers_in_time_and_one_less_does_not() -> None:
    found = needs(SERVICE, objective=0.06, memory=150_000_000)
    assert [one.rate for one in found] == [10_000, 1_000_000]
    for one in found:
        assert one.replicas is not None
        assert one.machines is not None
        assert one.cores == one.replicas + one.machines
        assert one.memory == 150_000_000 * one.replicas
        each, rate = one.replicas // one.machines, one.rate / one.machines
        assert each <= 15  # a core is left to the gateway
        assert latency_quantile(rate, each, SERVICE, 0.95) <= 0.0601
        assert latency_quantile(rate, each - 1, SERVICE, 0.95) > 0.06
    assert found[1].replicas == pytest.approx(100 * (found[0].replicas or 0), rel=0.06)  # whole machines


def test_without_an_objective_replicas_work_70_percent_of_their_time() -> None:
    (one,) = needs(SERVICE, rates=[1000], machine=Machine(cores=64))
    assert (one.replicas, one.machines, one.memory) == (29, 1, None)


def test_a_gateway_takes_no_more_than_it_can() -> None:
    quick = ServiceTime(fixed=0.0001, per_row=0.000001, most_rows=1000)
    assert [one.machines for one in needs(quick, rates=[9_000, 95_000])] == [1, 10]


def test_memory_bounds_what_a_machine_holds() -> None:
    small = Machine(cores=64, memory=1_000_000_000)
    (one,) = needs(SERVICE, rates=[1000], memory=300_000_000, machine=small)
    assert one.machines == 10  # of three replicas


def test_the_table_says_what_is_assumed() -> None:
    found = needs(SERVICE, objective=0.06)
    lines = repr(found).splitlines()
    assert lines[0].split() == ["requests/s", "replicas", "cores", "memory", "machines"]
    assert lines[2].lstrip().startswith("1,000,000 ")
    assert lines[-1].startswith("Estimated for 95 % within 60 ms on machines of 16 cores and 64.0 GB")
    assert "1,000,000</td>" in found._repr_html_()
    assert len(found[:1]) == 1


def test_what_no_number_of_replicas_answers_is_said() -> None:
    found = needs(SERVICE, objective=0.01)
    assert found[0].replicas is None
    assert "—" in repr(found)
    assert "No number of replicas is fast enough" in repr(found)


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_a_rate_is_a_number(rate: float) -> None:
    with pytest.raises(InvalidInputError, match="requests per second above 0"):
        needs(SERVICE, rates=[rate])


def test_a_replica_that_fits_nowhere_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="does not fit into a machine of 16 cores"):
        needs(SERVICE, memory=100_000_000_000)
