from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scaling.policies.samples import anything, followed, sample

from mlnb.errors import InvalidInputError
from mlnb.scaling.policies.decision import ScalingSample
from mlnb.scaling.policies.threshold import CpuThreshold


def test_one_more_above_and_one_fewer_below_half() -> None:
    policy = CpuThreshold(threshold=70, pause=0)
    found = followed(policy.controller(), [{"cpu": cpu} for cpu in (71, 70, 35, 34, 10, 10)])
    assert [decision.desired for decision in found] == [2, 2, 2, 1, 1, 1]
    assert found[0].reason == "CPU of 71 % is above 70 %: one more"


def test_there_is_a_pause_after_a_change() -> None:
    found = followed(CpuThreshold(pause=2).controller(), [{"cpu": 100}] * 9)
    assert [decision.desired for decision in found] == [2, 2, 2, 2, 3, 3, 3, 3, 4]
    assert (found[1].rule, found[1].wanted) == ("pause", 3)
    assert found[1].reason == "CPU of 100 % is above 70 %: one more, but the last change was less than 2s ago"


@pytest.mark.parametrize("cpu", [None, float("nan"), float("inf"), -3.0])
def test_without_a_measurement_nothing_changes(cpu: float | None) -> None:
    (found,) = followed(CpuThreshold().controller(), [{"cpu": cpu}], desired=3)
    assert (found.desired, found.rule, found.reason) == (3, "hold", "CPU was not measured, so nothing changes")


@pytest.mark.parametrize("given", [{"threshold": 0}, {"threshold": -5}, {"pause": -1}, {"pause": float("nan")}])
def test_figures_that_are_none(given: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError, match="needed"):
        CpuThreshold(**given)


def test_it_is_a_value() -> None:
    assert CpuThreshold() == CpuThreshold(threshold=70)
    assert CpuThreshold(threshold=55).words == "CPU under 55 %"


@given(anything())
def test_it_never_raises(samples: list[ScalingSample]) -> None:
    controller = CpuThreshold(pause=1).controller()
    assert all(controller.step(one).desired >= 0 for one in samples)


@given(st.lists(st.floats(0, 200), max_size=20), st.floats(0, 200), st.floats(0, 200))
def test_more_cpu_never_gives_fewer(before: list[float], last: float, more: float) -> None:
    found = []
    for final in (last, last + more):
        controller = CpuThreshold(pause=1).controller()
        desired = followed(controller, [{"cpu": cpu} for cpu in before])[-1].desired if before else 1
        found.append(controller.step(sample(100, desired=desired, cpu=final)).desired)
    assert found[0] <= found[1]
