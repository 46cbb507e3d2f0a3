from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from snapshots import NOW, snapshot

import mlnb.widgets
from mlnb.errors import MlnbError
from mlnb.scaling.autoscale import Autoscale
from mlnb.scaling.policies.decision import ScalingDecision, ScalingSample
from mlnb.scaling.policies.schedule import Schedule
from mlnb.scaling.scaling_snapshot import ScalingSnapshot
from mlnb.widgets.scale_tab import ScaleTab, last_changes
from mlnb.workspace import Deployment, DeploymentSnapshot
from mlnb.workspace.scaling_history import ScalingHistory

START = NOW.timestamp()


def decision(after: float, *, desired: int = 1) -> ScalingDecision:
    sample = ScalingSample(at=after, wall=START + after, interval=0.5, desired=desired, ready=desired, requests=40)
    return ScalingDecision(
        sample=sample, metric="utilisation", value=0.5, target=0.7, wanted=desired, desired=desired,
        rule="target tracking", window=10.0, reason=f"{desired} of them", applied=desired,
    )  # fmt: skip


@dataclass
class Steered:
    """A deployment that does at once what it is told, and knows what it was asked."""

    replicas: int = 0
    autoscaled: Autoscale | None = None
    before: Autoscale | None = None
    decisions: list[ScalingDecision] = field(default_factory=list)
    asked: list[Any] = field(default_factory=list)

    def scale(self, replicas: int) -> None:
        self.replicas, self.before, self.autoscaled = replicas, self.autoscaled or self.before, None

    def autoscale(self, least: int, most: int, **rule: Any) -> None:
        self.autoscaled = Autoscale.of(least, most, **rule)
        self.replicas = max(1, least)

    def scaling_history(self, since: str | None = None) -> ScalingHistory:
        self.asked.append(since)
        autoscale = self.autoscaled or self.before
        if autoscale is None:
            raise MlnbError("It has not followed its load.")
        return ScalingHistory(tuple(self.decisions), name="tumour", autoscale=autoscale)

    def snapshot(self) -> DeploymentSnapshot:
        rule = self.autoscaled
        held = rule and ScalingSnapshot(least=rule.least, most=rule.most, policy=rule.policy.words, desired=1)
        return snapshot(scaling=held)


@pytest.fixture
def steered() -> Steered:
    return Steered()


@pytest.fixture
def tab(steered: Steered) -> ScaleTab:
    tab = ScaleTab(cast("Deployment", steered), redraw=lambda: None)
    tab.view(steered.snapshot())
    return tab


def do(tab: ScaleTab, steered: Steered, action: str, **payload: Any) -> str:
    deed = tab.deed(action, payload)
    assert deed is not None
    said = deed()
    tab.view(steered.snapshot())
    return said


def test_by_load_and_back_to_a_fixed_number(tab: ScaleTab, steered: Steered) -> None:
    assert do(tab, steered, "scale", to=3) == "Scaled from 0 to 3 replicas."
    assert do(tab, steered, "follow") == "1 to 3 replicas by load."
    assert do(tab, steered, "bounds", least=2, most=4) == "2 to 4 replicas by load."
    assert tab.view(steered.snapshot()).bounds == (2, 4)
    assert do(tab, steered, "fix") == "Fixed at 2 replicas."
    assert tab.view(steered.snapshot()).bounds is None
    assert do(tab, steered, "follow") == "2 to 4 replicas by load."  # as it was before


def test_the_first_bounds_leave_room(tab: ScaleTab, steered: Steered) -> None:
    assert do(tab, steered, "follow") == "1 to 2 replicas by load."


def test_other_bounds_keep_the_rule(tab: ScaleTab, steered: Steered) -> None:
    steered.autoscaled = before = Autoscale.of(1, 4, p95="50ms", idle="9m", schedules=[Schedule(2, days="weekdays")])
    do(tab, steered, "bounds", least=0, most=4)
    after = steered.autoscaled
    assert after is not None
    assert (after.least, after.policy, after.schedules, after.idle) == (0, before.policy, before.schedules, 540)


def test_what_is_on_its_way_is_shown_and_takes_no_more(tab: ScaleTab, steered: Steered) -> None:
    deed = tab.deed("follow", {})
    assert tab.view(steered.snapshot()).switching
    assert tab.deed("scale", {"to": 2}) is tab.deed("bounds", {"least": 1, "most": 2}) is None
    assert deed is not None
    deed()
    assert not tab.view(steered.snapshot()).busy
    deed = tab.deed("fix", {})
    assert tab.view(steered.snapshot()).coming == 1
    assert deed is not None
    deed()
    assert not tab.view(steered.snapshot()).busy


def test_what_fails_is_no_longer_on_its_way(tab: ScaleTab, steered: Steered, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise MlnbError("No replica starts.")

    monkeypatch.setattr(steered, "scale", fail)
    monkeypatch.setattr(steered, "autoscale", fail)
    for action in ("fix", "follow"):
        with pytest.raises(MlnbError, match="No replica starts"):
            do(tab, steered, action)
        assert not tab.view(steered.snapshot()).busy
        assert tab.view(steered.snapshot()).bounds is None


def test_the_chart_is_read_only_while_somebody_looks(
    tab: ScaleTab, steered: Steered, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [time.monotonic()]
    monkeypatch.setattr("mlnb.widgets.scale_tab.time.monotonic", lambda: now[0])
    steered.autoscale(1, 4, p95="50ms")
    steered.decisions = [decision(0.5 * at) for at in range(20)]
    tab.view(steered.snapshot())
    steered.asked.clear()
    assert tab.chart() is None
    tab.look(900)
    first = tab.chart()
    assert first is not None
    figure = json.loads(first)
    assert len(figure["data"][0]["x"]) == 20
    assert tab.chart() is None  # a moment later
    assert tab.view(steered.snapshot()).bounds == (1, 4)
    steered.decisions.append(decision(10.0, desired=2))
    now[0] += 2
    second = tab.chart()
    assert second is not None
    assert len(json.loads(second)["data"][0]["x"]) == 21
    assert steered.asked == ["10m", "10m"]
    now[0] += 1000
    assert tab.chart() is None
    assert len(steered.asked) == 2


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_the_page_keeps_room_for_the_chart(tab: ScaleTab, steered: Steered, count: int) -> None:
    steered.autoscale(1, 4)
    style = Path(mlnb.widgets.__file__).with_name("panel.css").read_text(encoding="utf-8")
    room = re.search(r'data-chart="scale"\] \{ min-height: (\d+)px', style)
    assert room is not None
    steered.decisions = [decision(0.5 * at, desired=1 + at % 2) for at in range(count)]
    tab.view(steered.snapshot())
    tab.look(900)
    chart = tab.chart()
    assert chart is not None
    assert json.loads(chart)["layout"]["height"] == int(room[1])


def test_a_schedule_holds_bounds_that_were_not_asked_for(tab: ScaleTab, steered: Steered) -> None:
    steered.autoscale(1, 4)
    held = ScalingSnapshot(least=2, most=4, policy="utilisation", desired=2)
    assert tab.view(snapshot(scaling=held)).bounds == (2, 4)  # nobody looks
    tab.look(900)
    tab.chart()
    assert tab.view(snapshot(scaling=held)).bounds == (1, 4)
    assert tab.view(snapshot(state="stopped")).bounds == (1, 4)  # it will be so again
    assert tab.view(snapshot()).bounds is None


def test_a_deployment_that_stopped_meanwhile_has_no_chart(tab: ScaleTab, steered: Steered) -> None:
    steered.autoscale(1, 4)
    tab.view(steered.snapshot())
    steered.autoscaled = None
    tab.look(900)
    assert tab.chart() is None


def test_the_last_changes_for_readers_without_a_kernel(steered: Steered) -> None:
    deployment = cast("Deployment", steered)
    assert last_changes(deployment) == ()
    steered.autoscale(1, 4)
    steered.decisions = [decision(float(at), desired=1 + at % 2) for at in range(30)]
    changes = last_changes(deployment)
    assert [count for _, count, _ in changes] == [2, 1, 2, 1, 2]
    assert changes[-1] == (START + 29, 2, "2 of them")
