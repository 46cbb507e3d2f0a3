"""What `make benchmark` prints of autoscaling, without the day: it takes seconds, and is the same every time."""

from __future__ import annotations

import pytest
from benchmarks.autoscaling import FIRST, ONCE, RIVALS, SEEDS, SHAPES, Figures, lost, simulated


def mean(shape: str, policy: str) -> Figures:
    found = [simulated("one row at a time", shape, policy, seed) for seed in range(FIRST, FIRST + SEEDS)]
    return sum(found[1:], found[0]).per(SEEDS)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape not in ONCE])
def test_half_as_many_requests_are_late_as_with_the_known_rules_at_no_more_cost(shape: str) -> None:
    ours, rivals = mean(shape, "ours"), {rival: mean(shape, rival) for rival in RIVALS}
    assert {rival: lost(ours, found) for rival, found in rivals.items()} == {rival: [] for rival in RIVALS}
    assert ours.over > 0, "a load that keeps everybody within the objective shows nothing"


def test_a_promise_can_be_lost() -> None:
    ours, rival = Figures(1000, 51, 111, 1), Figures(1000, 100, 100, 0)
    promises = ["half the requests over", "1.10x the replica-seconds", "no more direction changes"]
    assert lost(ours, rival) == promises
    assert lost(rival, ours)[0] == promises[0]
    assert lost(ours, ours.per(1)) == promises[:1]
