from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snapshots import snapshot

from mlnb.monitoring.comparison import ComparisonSummary
from mlnb.monitoring.experiment import Experiment, evaluate
from mlnb.monitoring.tally import Tally
from mlnb.serving.canary import CanaryPlan
from mlnb.serving.rollout import CanarySnapshot
from mlnb.serving.snapshots import ShadowSnapshot, TrafficSnapshot
from mlnb.widgets.traffic_view import chart_of, ended, points, roles, shadow_of, standing

NOTHING = ComparisonSummary(compared=0, differing=0, dropped=0, failed=0, failure=None, mean_distance=None)
SHADOW = ShadowSnapshot(version=1, share=100.0, summary=NOTHING, replicas=())
CANARY = CanarySnapshot(
    plan=CanaryPlan.of("a", 1, steps=(1, 5), hold=1, guard=None), step=1, seconds=0, requests=0, readings=(), note=""
)


def traffic(shares: dict[int, float], **changes: Any) -> TrafficSnapshot:
    return TrafficSnapshot(live=2, shares=shares, counts={}, **changes)


@pytest.mark.parametrize(
    ("now", "says", "does", "ends"),
    [
        (None, "v2 live", {2: "live"}, ""),
        (traffic({2: 1.0}), "v2 live", {2: "live"}, ""),
        (traffic({2: 0.9, 1: 0.1}), "v2 90 % · v1 10 % live", {2: "90 %", 1: "10 %"}, "the split has ended"),
        (
            traffic({2: 0.95, 1: 0.05}, canary=CANARY),
            "v2 live, v1 canary at 5 %",
            {2: "live", 1: "canary"},
            "the canary has ended",
        ),
        (traffic({2: 1.0}, shadow=SHADOW), "v2 live, v1 shadow", {2: "live", 1: "shadow"}, "the shadow has ended"),
        (
            traffic({2: 0.5, 3: 0.5}, shadow=SHADOW),
            "v2 50 % · v3 50 % live, v1 shadow",
            {2: "50 %", 3: "50 %", 1: "shadow"},
            "the split has ended and the shadow has ended",
        ),
    ],
)
def test_who_answers(now: TrafficSnapshot | None, says: str, does: dict[int, str], ends: str) -> None:
    shown = snapshot(traffic=now)
    assert (standing(shown), roles(shown), ended(shown)) == (says, does, ends)


def test_a_copy_that_only_compares_a_canary_is_no_shadow_of_its_own() -> None:
    shown = snapshot(traffic=traffic({2: 0.95, 1: 0.05}, canary=CANARY, shadow=SHADOW))
    assert shadow_of(shown) is None
    assert standing(shown) == "v2 live, v1 canary at 5 %"


def test_what_is_stopped_does_nothing() -> None:
    assert roles(snapshot(state="stopped")) == {}


@given(weights=st.lists(st.floats(0, 1e6), min_size=1, max_size=8).filter(lambda weights: sum(weights) > 1e-6))
def test_points_add_up(weights: list[float]) -> None:
    shares = [weight / sum(weights) for weight in weights]
    whole = points(shares)
    assert sum(whole) == 100
    assert all(abs(point - 100 * share) < 1 + 1e-9 for point, share in zip(whole, shares, strict=True))


def experiment(count: int) -> Experiment:
    tallies = {"champion": Tally(count, 0.9, 0.09 * count), "challenger": Tally(count, 0.5, 0.25 * count)}
    return evaluate(
        tallies, versions={"champion": 1, "challenger": 2}, baseline="champion", metric="accuracy", goal="higher",
        proportion=True,
    )  # fmt: skip


def test_the_chart_stands_below_its_verdict() -> None:
    assert chart_of(experiment(3)) is None
    chart = chart_of(experiment(400))
    assert [one.text for one in chart.layout.annotations] == ["accuracy, %"]
    assert [trace.name for trace in chart.data[2:]] == ["champion", "challenger"]
    assert chart.layout.height < 300
