from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from snapshots import HOSTILE, NOW, check, snapshot, text

from mlnb.scaling.policies.decision import ScalingDecision, ScalingSample
from mlnb.scaling.pool import ReplicaSnapshot
from mlnb.scaling.scaling_snapshot import ScalingSnapshot
from mlnb.widgets.render_replicas import render_changes
from mlnb.widgets.render_scale import render_scale
from mlnb.widgets.scale_view import ScaleView
from mlnb.workspace import DeploymentSnapshot

IN_KERNEL = ReplicaSnapshot(key=1, state="ready", rows=12, batches=3)
FIRST = ReplicaSnapshot(key=1, state="ready", pid=811, batches=1200, rows=48_000)
SECOND = ReplicaSnapshot(key=2, state="ready", pid=812, batches=300, rows=900)
REASON = "2 replicas: 180 requests/s, one replica takes 110 within 50 ms"
NO_MORE = "4 wanted, this machine holds 2: 2 cores"


def decision(reason: str, *, desired: int = 2) -> ScalingDecision:
    sample = ScalingSample(at=1.0, wall=NOW.timestamp(), interval=0.5, desired=desired, ready=desired)
    return ScalingDecision(
        sample=sample, metric="p95", value=0.03, target=0.05, wanted=desired, desired=desired, rule="latency",
        window=10.0, reason=reason,
    )  # fmt: skip


def scaling(**changes: Any) -> ScalingSnapshot:
    usual = ScalingSnapshot(least=1, most=4, policy="p95 under 50 ms", desired=2, last=decision(REASON))
    return replace(usual, **changes)


def by_load(**changes: Any) -> DeploymentSnapshot:
    return snapshot(place="2 processes", replicas=(FIRST, SECOND), scaling=scaling(**changes))


def controls(html: str) -> dict[str, str]:
    """Return what each button asks for, by its name."""
    found = re.findall(r'<button type="button" tabindex="-1"[^>]*? data-keep="([^"]+)" ([^>]*) aria-label', html)
    return {keep: re.sub(r'data-|"', "", asks) for keep, asks in found}


def checked(html: str) -> list[str]:
    return re.findall(r'aria-checked="true"[^>]*>([^<]+)<', html)


def test_a_fixed_number_or_by_load() -> None:
    html = render_scale(snapshot(replicas=(IN_KERNEL,)), ScaleView())["scale"]
    assert text(html) == "Replicas Fixed By load \N{MINUS SIGN} 0 + the kernel itself answers"
    assert checked(html) == ["Fixed"]
    assert 'data-keep="follow" data-action="follow"' in html
    assert 'data-action="fix"' not in html  # it is fixed
    html = render_scale(by_load(), ScaleView(wanted=2, bounds=(1, 4)))["scale"]
    assert checked(html) == ["By load"]
    assert 'data-keep="fix" data-action="fix"' in html
    assert 'data-action="follow"' not in html


def test_bounds_the_rule_and_the_reason() -> None:
    regions = render_scale(by_load(), ScaleView(wanted=2, bounds=(1, 4)))
    minus = "\N{MINUS SIGN}"
    assert text(regions["scale"]) == f"Replicas Fixed By load from {minus} 1 + to {minus} 4 + p95 under 50 ms"
    assert text(regions["reason"]) == REASON
    assert text(regions["answering"]).startswith("Answers come from 2 processes beside the kernel")
    assert controls(regions["scale"]) == {
        "least-fewer": "action=bounds least=0 most=4", "least-more": "action=bounds least=2 most=4",
        "most-fewer": "action=bounds least=1 most=3", "most-more": "action=bounds least=1 most=5",
    }  # fmt: skip
    assert 'aria-label="Replicas at least" aria-valuenow="1" aria-valuemin="0"' in regions["scale"]
    assert 'aria-label="Replicas at most" aria-valuenow="4" aria-valuemin="1"' in regions["scale"]


@pytest.mark.parametrize(
    ("bounds", "none"),
    [((0, 1), {"least-fewer", "most-fewer"}), ((2, 2), {"least-more", "most-fewer"}), ((0, 3), {"least-fewer"})],
)
def test_bounds_never_cross(bounds: tuple[int, int], none: set[str]) -> None:
    asked = controls(render_scale(by_load(), ScaleView(wanted=2, bounds=bounds))["scale"])
    assert {keep for keep, asks in asked.items() if asks == "aria-disabled=true"} == none


def test_bounds_of_a_schedule_are_told_apart_from_those_that_were_asked_for() -> None:
    html = render_scale(by_load(least=2), ScaleView(wanted=2, bounds=(1, 4)))["scale"]
    assert text(html).endswith("p95 under 50 ms; 2 to 4 by schedule")
    assert controls(html)["least-more"] == "action=bounds least=2 most=4"


def test_what_goes_wrong_is_said_instead_of_the_reason() -> None:
    html = render_scale(by_load(trouble=NO_MORE), ScaleView(bounds=(1, 4)))["reason"]
    assert text(html) == f"△ {NO_MORE}"
    assert 'data-look="warn"' in html
    nothing = render_scale(by_load(last=None), ScaleView(bounds=(1, 4)))["reason"]
    assert text(nothing) == "Nothing was decided yet."


def test_asleep() -> None:
    asleep = scaling(least=0, desired=0, last=decision("no request for 5m", desired=0))
    regions = render_scale(snapshot(place="no process", scaling=asleep), ScaleView(bounds=(0, 4)))
    assert text(regions["answering"]) == "No replica: the next request wakes one."
    assert text(regions["reason"]) == "no request for 5m"
    assert regions["replicas"] == ""


def test_while_it_is_switched() -> None:
    to_load = render_scale(snapshot(replicas=(IN_KERNEL,)), ScaleView(switching=True, bounds=(1, 2)))
    assert text(to_load["scale"]).endswith("starting…")
    assert checked(to_load["scale"]) == ["By load"]
    assert to_load["reason"] == ""
    to_fixed = render_scale(by_load(), ScaleView(wanted=2, coming=2, bounds=(1, 4)))
    assert text(to_fixed["scale"]).endswith("2 + no longer by load…")
    assert checked(to_fixed["scale"]) == ["Fixed"]
    assert to_fixed["reason"] == ""
    for regions in (to_load, to_fixed):
        assert "data-action" not in regions["scale"]


def test_what_changes_by_itself_leaves_the_controls_alone() -> None:
    before = render_scale(by_load(), ScaleView(wanted=2, bounds=(1, 4)))
    busier = by_load(desired=3, last=decision("3 replicas: 300 requests/s", desired=3))
    after = render_scale(replace(busier, replicas=(FIRST, SECOND, replace(FIRST, key=3))), ScaleView(bounds=(1, 4)))
    assert [name for name in before if before[name] != after[name]] == ["answering", "reason", "replicas"]


def test_stopped() -> None:
    regions = render_scale(snapshot(state="stopped"), ScaleView(bounds=(1, 4)))
    assert checked(regions["scale"]) == ["By load"]
    assert text(regions["scale"]).endswith("when it is live again")
    assert regions["reason"] == ""
    assert "data-action" not in regions["scale"]


def test_plain_html_has_the_last_changes_newest_first() -> None:
    changes = ((NOW.timestamp(), 2, "first"), (NOW.timestamp() + 9, 1, "second"))
    html = render_changes(scaling(trouble=NO_MORE), changes)
    assert text(html).startswith(f"1 to 4 replicas by load, p95 under 50 ms; now 2 {NO_MORE} time replicas why")
    assert re.search(r":09 1 second \S+ \S+:00 2 first$", text(html))
    assert check(render_changes(scaling(), ())) == ["p"]


def test_what_others_write_is_escaped() -> None:
    hostile = scaling(policy=HOSTILE, trouble=HOSTILE, last=decision(HOSTILE))
    for one in (hostile, replace(hostile, trouble="")):
        for html in render_scale(replace(by_load(), scaling=one), ScaleView(bounds=(1, 4))).values():
            check(html)
    check(render_changes(hostile, ((NOW.timestamp(), 2, HOSTILE),)))
