from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.scaling.limits import MachineLimit, machine_limit


def limit(
    *, cores: float = 4, cores_each: float | None = None, memory: int | None = None, memory_each: int | None = None,
    total: int | None = None, ready: int = 1, measured: int | None = None, versions: int = 1,
) -> MachineLimit:  # fmt: skip
    return machine_limit(
        cores=cores, cores_each=cores_each, memory=memory, memory_each=memory_each, total=total, ready=ready,
        measured=ready if measured is None else measured, versions=versions,
    )  # fmt: skip


def test_nothing_measured_is_no_limit() -> None:
    assert limit() == (None, "")
    assert limit(memory=10**9) == (None, "")


@pytest.mark.parametrize(
    ("cores", "each", "replicas", "words"),
    [
        (2, 0.97, 2, "2 cores: each replica keeps 0.97 of one busy"),
        (2, 1.04, 2, "2 cores: each replica keeps 1.0 busy"),
        (16, 1.2, 16, "16 cores: each replica keeps 1.2 busy"),
        (2, 1.9, 1, "2 cores: each replica keeps 1.9 busy"),
        (1, 0.97, 1, "1 core: each replica keeps 0.97 of one busy"),
        (0.5, 1.0, 1, "0.5 cores: each replica keeps 1.0 busy"),
        (2, 0.1, 20, "2 cores: each replica keeps 0.10 of one busy"),
        (16, 0.97, 16, "16 cores: each replica keeps 0.97 of one busy"),
        (16, 4.2, 4, "16 cores: each replica keeps 4.2 busy"),
    ],
)
def test_by_cores(cores: float, each: float, replicas: int, words: str) -> None:
    assert limit(cores=cores, cores_each=each) == (replicas, words)


def test_by_memory_with_some_left_free() -> None:
    some = limit(memory=2 * 10**9, memory_each=3 * 10**8, total=16 * 10**9, ready=2)
    assert some == (7, "2.0 GB of memory is free, a replica takes 0.3 GB")
    assert limit(memory=4 * 10**8, memory_each=2 * 10**7, total=16 * 10**9, ready=3) == (
        3, "0.4 GB of memory is free, a replica takes 20 MB",
    )  # fmt: skip


@pytest.mark.parametrize(("ready", "replicas"), [(1, 3), (2, 3), (3, 3), (5, 5), (0, 3)])
def test_replicas_that_came_since_memory_was_measured_have_taken_of_it(ready: int, replicas: int) -> None:
    some = limit(cores=64, memory=3 * 10**9, memory_each=10**9, total=4 * 10**9, ready=ready, measured=1)
    assert some == (replicas, "3.0 GB of memory is free, a replica takes 1.0 GB")


def test_the_tighter_one_counts_and_versions_share_it() -> None:
    both = limit(cores=4, cores_each=1.0, memory=10**9, memory_each=10**8, total=2 * 10**9, ready=2, versions=2)
    assert both == (2, "4 cores: each replica keeps 1.0 busy")
    assert limit(cores=1, cores_each=1.0, versions=3).replicas == 1


@given(
    st.floats(0.01, 512), st.none() | st.floats(0, 600), st.none() | st.integers(0, 2**45),
    st.none() | st.integers(0, 2**45), st.none() | st.integers(0, 2**45), st.integers(0, 64), st.integers(1, 4),
)  # fmt: skip
def test_there_is_always_room_for_one_and_for_what_memory_holds_already(
    cores: float, each: float | None, memory: int | None, memory_each: int | None, total: int | None, ready: int,
    versions: int,
) -> None:  # fmt: skip
    found = limit(
        cores=cores, cores_each=each, memory=memory, memory_each=memory_each, total=total, ready=ready,
        versions=versions,
    )  # fmt: skip
    assert found.replicas is None or found.replicas >= 1
    assert bool(found.reason) == (found.replicas is not None)
    if found.replicas is not None and "memory" in found.reason:
        assert found.replicas >= ready // versions
