from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.monitoring.load.saturation import Saturation, find_saturation
from mlnb.monitoring.load.step import Step


def step(connections: int, throughput: float, p50: float | None, *, cpu: float = 0.2) -> Step:
    good = 0 if p50 is None else round(throughput)
    p99 = None if p50 is None else 2 * p50
    return Step(
        connections=connections, seconds=1.0, good=good, refused=0, failed=0, unsent=0, p50=p50, p90=p99, p99=p99,
        cpu=cpu, failure="",
    )  # fmt: skip


def closed_loop(capacity: float, service_ms: float, connections: list[int]) -> list[Step]:
    """An ideal endpoint: each answer takes ``service_ms`` until ``capacity`` is reached, then Little's law holds."""
    throughputs = [min(capacity, number / service_ms * 1e3) for number in connections]
    return [
        step(number, throughput, number / throughput * 1e3)
        for number, throughput in zip(connections, throughputs, strict=True)
    ]


def test_the_knee_is_where_throughput_ends_to_grow() -> None:
    steps = closed_loop(5000, 1.0, [1, 2, 4, 8, 16])
    found = find_saturation(steps)
    assert found is not None
    assert (found.connections, found.throughput) == (8, 5000)
    assert found.p99 == pytest.approx(3.2)


@given(st.floats(500, 50_000), st.floats(0.1, 50))
def test_an_ideal_endpoint_is_saturated_at_the_first_step_that_has_its_capacity(
    capacity: float, service: float
) -> None:
    connections = [1, 2, 4, 8, 16, 32, 64]
    found = find_saturation(closed_loop(capacity, service, connections))
    needed = capacity * service / 1e3  # connections
    if needed > 64:
        assert found is None
    elif found is not None:
        assert found.connections >= needed / 1.1
        assert found.connections <= max(1, 2 * needed)
        assert found.throughput == pytest.approx(capacity, rel=0.1)
    else:
        assert needed > 32 / 1.1


def test_noise_of_some_per_cent_is_no_growth() -> None:
    steps = [step(1, 1000, 1), step(2, 2000, 1), step(4, 2100, 2), step(8, 1950, 4), step(16, 2150, 8)]
    assert find_saturation(steps) == Saturation(connections=2, throughput=2000, p99=2.0)


def test_a_dip_before_more_growth_is_no_knee() -> None:
    steps = [step(1, 1000, 1), step(2, 900, 2), step(4, 3000, 1), step(8, 6000, 1)]
    assert find_saturation(steps) is None


def test_hardly_more_connections_say_nothing() -> None:
    assert find_saturation([step(10, 1000, 10.0), step(11, 1090, 10.1)]) is None


def test_answers_that_end_are_saturation() -> None:
    found = find_saturation([step(8, 1000, 8.0), step(16, 0, None)])
    assert found is not None
    assert found.connections == 8


@pytest.mark.parametrize("at", [1, 2])
def test_a_busy_generator_proves_nothing(at: int) -> None:
    busy = [0.95 if index >= at else 0.5 for index in range(3)]
    steps = [step(2**index, 1000, 2.0**index, cpu=cpu) for index, cpu in enumerate(busy)]
    assert find_saturation(steps) is None


@pytest.mark.parametrize("steps", [[], [step(4, 100, 1.0)], [step(1, 0, None), step(2, 0, None)]])
def test_nothing_to_compare(steps: list[Step]) -> None:
    assert find_saturation(steps) is None
