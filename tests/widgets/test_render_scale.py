from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from snapshots import HOSTILE, NOW, check, snapshot, text

from mlnb.scaling.acceleration.acceleration import Acceleration
from mlnb.scaling.pool import ReplicaSnapshot
from mlnb.widgets import render_scale as tab
from mlnb.widgets.scale_view import Ended, ScaleView
from mlnb.workspace import DeploymentSnapshot

IN_KERNEL = ReplicaSnapshot(key=1, state="ready", rows=12, batches=3)
FIRST = ReplicaSnapshot(key=1, state="ready", pid=811, batches=1200, rows=48_000)
SECOND = ReplicaSnapshot(key=2, state="ready", pid=812, batches=300, rows=900)
COMING = ReplicaSnapshot(key=3, state="starting")
WAITING = ReplicaSnapshot(key=4, state="waiting", note="killed; the next start is in 2 s")


def beside(*replicas: ReplicaSnapshot, **changes: Any) -> DeploymentSnapshot:
    return snapshot(place="2 processes", replicas=replicas or (FIRST, SECOND), **changes)


def render_scale(shown: DeploymentSnapshot, view: ScaleView) -> str:
    """Return the whole tab."""
    return "".join(tab.render_scale(shown, view).values())


def disabled(html: str) -> list[str]:
    return re.findall(r'data-keep="(fewer|more|replicas)"[^>]* aria-disabled="true"', html)


def test_in_the_kernel() -> None:
    html = render_scale(snapshot(replicas=(IN_KERNEL,)), ScaleView())
    says = text(html)
    assert says.startswith("Answers come from this kernel: a cell that computes slows them. Replicas Fixed By load")
    assert "0 + the kernel itself answers" in says
    assert says.endswith("1 ready the kernel 3 12 \N{EN DASH}")
    assert disabled(html) == ["fewer"]
    assert 'data-keep="more" data-action="scale" data-to="1"' in html


def test_on_two_processes() -> None:
    html = render_scale(beside(), ScaleView(wanted=2, memory={811: 60_700_000, 812: 1_300_000_000, 99: 5}))
    says = text(html)
    assert says.startswith("Answers come from 2 processes beside the kernel; a busy cell does not slow them.")
    assert "2 + processes beside the kernel" in says
    assert "1 ready 811 1,200 48,000 61 MB 2 ready 812 300 900 1.3 GB together 1,500 48,900 1.4 GB" in says
    assert 'data-keep="fewer" data-action="scale" data-to="1"' in html
    assert 'data-keep="more" data-action="scale" data-to="3"' in html
    assert disabled(html) == []
    assert 'role="spinbutton"' in html
    assert 'aria-valuenow="2"' in html


def test_on_one_process_nothing_is_added_up() -> None:
    says = text(render_scale(beside(FIRST), ScaleView(wanted=1)))
    assert "Answers come from a process beside the kernel" in says
    assert "1 + process beside the kernel" in says
    assert "together" not in says


@pytest.mark.parametrize(
    ("wanted", "coming", "says"),
    [
        (0, 1, "starting a replica…"),
        (1, 4, "starting 3 replicas…"),
        (3, 2, "stopping a replica…"),
        (3, 1, "stopping 2 replicas…"),
        (1, 0, "moving into the kernel…"),
    ],
)
def test_while_it_works_it_says_so_and_takes_no_more(wanted: int, coming: int, says: str) -> None:
    html = render_scale(beside(), ScaleView(wanted=wanted, coming=coming))
    assert f"{coming} + {says}" in text(html)
    assert disabled(html) == ["fewer", "replicas", "more"]
    assert "data-to" not in html


def test_a_replica_on_its_way_has_no_figures_yet() -> None:
    html = render_scale(beside(FIRST, COMING), ScaleView(wanted=2))
    assert "Answers come from a process beside the kernel" in text(html)
    assert "3 starting \N{EN DASH} 0 0 \N{EN DASH}" in text(html)
    assert 'data-state="starting"' in html


def test_with_none_that_is_ready() -> None:
    html = render_scale(beside(WAITING, trouble="killed"), ScaleView(wanted=1, ended=Ended(keys=(3,), at=NOW)))
    says = text(html)
    assert says.startswith("No replica is ready at the moment: requests wait for the next one.")
    assert f"Replica 3 ended at {NOW.astimezone():%H:%M:%S}: killed. That happened again and again" in says
    assert 'title="killed; the next start is in 2 s"' in html
    assert '<p class="mlnb-failure">' in html


@pytest.mark.parametrize(
    ("ended", "who"),
    [
        (None, "A replica ended: "),
        (Ended(), "A replica ended: "),
        (Ended(keys=(2,), at=NOW), "Replica 2 ended at "),
        (Ended(keys=(2, 5), at=NOW), "Replicas 2, 5 ended at "),
    ],
)
def test_a_replica_that_ended(ended: Ended | None, who: str) -> None:
    trouble = "its process (7) was ended by SIGKILL"
    html = render_scale(beside(trouble=trouble), ScaleView(wanted=2, ended=ended))
    assert who in text(html)
    assert f": {trouble}. Another took its place." in text(html)
    assert '<p class="mlnb-muted">' in html
    starting = render_scale(beside(FIRST, COMING, trouble=trouble), ScaleView(wanted=2, ended=ended))
    assert text(starting).endswith("Another is starting.")


def test_where_others_keep_the_server_beside_the_kernel() -> None:
    says = text(render_scale(beside(FIRST), ScaleView(wanted=0)))
    assert "This one needs none: other deployments have replicas, and they share a server." in says


def test_stopped() -> None:
    html = render_scale(snapshot(state="stopped"), ScaleView(wanted=2))
    assert text(html).startswith("It is stopped: nothing answers.")
    assert "2 + when it is live again" in text(html)
    assert "<table" not in html
    assert disabled(html) == ["fewer", "replicas", "more"]


def test_what_made_it_faster() -> None:
    tried = (("Trees directly", "2.1x faster; same labels"), ("ONNX Runtime", "41x faster for one row; same labels"))
    found = Acceleration(kind="onnx", reason="ONNX Runtime: 41x faster for one row; same labels.", tried=tried)
    html = render_scale(beside(acceleration=found), ScaleView(wanted=2))
    assert "Accelerated · ONNX Runtime: 41x faster for one row; same labels. What was tried" in text(html)
    assert '<details data-keep="tried">' in html
    none = replace(found, kind="none", reason="The model itself answers: no faster form was found (and so on).")
    says = text(render_scale(beside(acceleration=none), ScaleView(wanted=2)))
    assert "Not accelerated · No faster form of the model was found. What was tried Trees directly" in says
    untried = Acceleration(kind="none", reason="The model itself answers: there is no example.")
    says = text(render_scale(beside(acceleration=untried), ScaleView(wanted=2)))
    assert says.endswith("Not accelerated · The model itself answers: there is no example.")


def test_what_changes_under_load_has_no_buttons() -> None:
    before = tab.render_scale(beside(trouble="killed"), ScaleView(wanted=2))
    busy = replace(FIRST, batches=1201, rows=48_064, in_flight=1)
    after = tab.render_scale(beside(busy, SECOND, trouble="killed"), ScaleView(wanted=2, memory={811: 9}))
    assert [name for name in before if before[name] != after[name]] == ["replicas"]
    assert not {"button", "summary"} & set(check(after["replicas"]))


def test_what_others_write_is_escaped() -> None:
    hostile = Acceleration(kind="none", reason=HOSTILE, tried=((HOSTILE, HOSTILE),))
    for kind in ("none", "onnx"):
        shown = beside(FIRST, replace(WAITING, note=HOSTILE), trouble=HOSTILE, acceleration=replace(hostile, kind=kind))
        check(render_scale(shown, ScaleView(wanted=2)))
