from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from snapshots import HOSTILE, NOW, check, snapshot, version

from mlnb.monitoring.comparison import ComparisonSummary
from mlnb.monitoring.experiment import Experiment, evaluate
from mlnb.monitoring.guards import GuardReading
from mlnb.monitoring.tally import Tally
from mlnb.scaling.pool import ReplicaSnapshot
from mlnb.serving.canary import CanaryPlan
from mlnb.serving.rollout import CanarySnapshot, Change
from mlnb.serving.snapshots import ShadowSnapshot, TrafficSnapshot, VersionCount
from mlnb.widgets import render_traffic as tab
from mlnb.widgets.render import render, render_static
from mlnb.widgets.traffic_view import TrafficView
from mlnb.workspace import DeploymentSnapshot

ALONE = TrafficSnapshot(live=2, shares={2: 1.0}, counts={})
SPLIT = TrafficSnapshot(live=2, shares={2: 0.9, 1: 0.1}, counts={2: VersionCount(1234, 0), 1: VersionCount(99, 5)})
FOUND = ComparisonSummary(compared=1200, differing=24, dropped=3, failed=1, failure="ValueError: no", mean_distance=0.5)
SHADOW = ShadowSnapshot(version=1, share=100.0, summary=FOUND, replicas=())
READINGS = (
    GuardReading("errors", 0.05, 0.0, "holds", "errors 0 % of 30 requests, at most 5 % allowed"),
    GuardReading("p99", 0.01, 0.1, "violated", "p99: 10 % of 30 requests took over 50 ms, at most 1 % may"),
)
CANARY = CanarySnapshot(
    plan=CanaryPlan.of("a", 1, steps=(1, 5, 25, 100), hold="1m", guard=None),
    step=1, seconds=12.7, requests=30, readings=READINGS, note="48 s to go",
)  # fmt: skip
IDLE = TrafficView()


def shown(traffic: TrafficSnapshot | None = ALONE, **changes: Any) -> DeploymentSnapshot:
    return snapshot(traffic=traffic, **changes)


def trial(count: int = 0, *, champion: str = "champion", challenger: str = "challenger") -> Experiment:
    tallies = {champion: Tally(count, 0.5, 0.25 * count), challenger: Tally(count, 0.9, 0.09 * count)}
    return evaluate(
        tallies, versions={champion: 2, challenger: 1}, baseline=champion, metric="accuracy", goal="higher",
        proportion=True,
    )  # fmt: skip


def render_traffic(shown: DeploymentSnapshot, view: TrafficView = IDLE) -> str:
    """Return the whole tab."""
    return "".join(tab.render_traffic(shown, view).values())


def text(html: str) -> str:
    """Return what one reads."""
    check(html)
    return " ".join(unescape(re.sub("<[^>]+>", " ", html)).split())


def buttons(html: str) -> list[str]:
    return [" ".join(re.sub("<[^>]+>", "", one).split()) for one in re.findall("<button.*?</button>", html)]


def test_alone() -> None:
    versions = tuple(version(number, description=f"the {number}.") for number in range(12, 0, -1))
    html = render_traffic(shown(versions=versions))
    assert text(html).startswith("v2 answers all requests. Try out v12 · accuracy 0.97 · the 12. v11 ")
    assert re.findall('option value="([0-9]+)"', html) == ["12", "11", "10", "9", "8", "7", "6", "5"]
    assert buttons(html) == ["Split", "Canary", "Shadow"]
    assert "aria-disabled" not in html


def test_while_a_version_is_made_ready_no_other_one_is_taken() -> None:
    html = render_traffic(shown(), TrafficView(busy=True))
    assert html.count('<button type="button"') == html.count('aria-disabled="true"') == 3


def test_the_only_version_has_nothing_to_be_compared_with() -> None:
    html = render_traffic(shown(versions=(version(2),)))
    assert "Deploy another model under this name" in text(html)
    assert buttons(html) == []


def test_a_long_description_is_cut() -> None:
    html = render_traffic(shown(versions=(version(2), version(1, description="x" * 200))))
    (option,) = re.findall("<option[^>]*>(.*)</option>", html)
    assert len(option) == 70
    assert option.endswith("…")


def test_stopped() -> None:
    html = render_traffic(shown(None, state="stopped"))
    assert text(html) == "It is stopped: nothing answers."


def test_a_split() -> None:
    view = TrafficView(experiment=trial())
    html = render_traffic(shown(SPLIT), view)
    says = text(html)
    assert "champion v2 90 % challenger v1 10 % Too early to say" in says
    assert "deployment.feedback(request_id, label) , or POST http://127.0.0.1:8000/models/tumour/feedback" in says
    assert re.findall('value="([0-9]+)" data-version="([0-9]+)"', html) == [("90", "2"), ("10", "1")]
    assert 'aria-label="Share of champion v2" aria-valuetext="90 %"' in html
    assert buttons(html) == ["Promote v1", "Promote v2", "Roll back to v1"]
    assert "mlnb-primary" not in html
    assert tab.render_counts(shown(SPLIT), view) == {
        "requests-2": "1,234", "errors-2": "0", "requests-1": "99", "errors-1": "5",
    }  # fmt: skip
    assert set(re.findall('data-value="([^"]+)"', html)) == set(tab.render_counts(shown(SPLIT), view))


def test_the_winner_is_offered_first() -> None:
    html = render_traffic(shown(SPLIT), TrafficView(experiment=trial(400)))
    assert "challenger is better than champion" in text(html)
    assert "deployment.feedback" not in html
    assert 'class="mlnb-primary" data-action="promote" data-to="1"' in html
    swapped = trial(400, champion="challenger", challenger="champion")
    worse = replace(swapped, verdict=replace(swapped.verdict, winner="challenger"))
    assert buttons(render_traffic(shown(SPLIT), TrafficView(experiment=worse)))[:2] == ["Promote v2", "Promote v1"]


@pytest.mark.parametrize(("name", "label"), [("2", "v2"), ("v2", "v2"), ("tumour:2", "v2"), ("ours", "ours v2")])
def test_what_a_version_is_called(name: str, label: str) -> None:
    html = render_traffic(shown(SPLIT), TrafficView(experiment=trial(champion=name)))
    assert f'aria-label="Share of {label}"' in html
    assert f"errors {label} 90 %" in text(html)


def test_a_version_without_weight_keeps_its_slider() -> None:
    view = TrafficView(experiment=trial())
    html = render_traffic(shown(ALONE), view)
    assert re.findall('value="([0-9]+)" data-version="([0-9]+)"', html) == [("100", "2"), ("0", "1")]
    assert tab.render_counts(shown(ALONE), view)["requests-1"] == "0"


def test_sliders_stand_on_whole_points() -> None:
    shares = replace(SPLIT, shares={2: 2 / 3, 1: 1 / 3}, key="customer")
    html = render_traffic(shown(shares), TrafficView(experiment=trial()))
    assert re.findall('value="([0-9]+)" data-version', html) == ["67", "33"]
    assert "66.7 %" in html
    assert "Requests with the same customer always meet the same version." in html


def test_what_changes_under_load_has_no_buttons() -> None:
    later = replace(SPLIT, counts={2: VersionCount(9999, 1)}, shadow=replace(SHADOW, version=3))
    first = replace(later, counts={}, shadow=replace(SHADOW, version=3, summary=replace(FOUND, compared=1)))
    before = tab.render_traffic(shown(first), TrafficView(experiment=trial()))
    after = tab.render_traffic(shown(later), TrafficView(experiment=trial(3)))
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"verdict", "compared"}
    canary = replace(SPLIT, canary=CANARY)
    before = tab.render_traffic(shown(canary), IDLE)
    later = replace(canary, canary=replace(CANARY, seconds=13.0, step=2), shares={2: 0.75, 1: 0.25})
    changed |= {name for name, html in tab.render_traffic(shown(later), IDLE).items() if before[name] != html}
    assert changed == {"verdict", "compared", "rollout"}
    assert not {"button", "input"} & {tag for name in changed for tag in check(after[name] + before[name])}


def test_a_canary() -> None:
    html = render_traffic(shown(replace(SPLIT, canary=CANARY)))
    assert text(html) == (
        "v1 is a canary; v2 answers the other requests. ✓ 1 % 5 % 12 s of 60 s 25 % 100 % 48 s to go. "
        "errors 0 % of 30 requests, at most 5 % allowed holds "
        "p99 10 % of 30 requests took over 50 ms, at most 1 % may violated Promote now Roll back to v1"
    )
    assert re.findall('li data-state="([a-z]+)"', html) == ["done", "now", "next", "next"]
    assert html.count('aria-current="step"') == 1
    assert 'data-state="violated"' in html


@pytest.mark.parametrize(("seconds", "says"), [(59.9, "59 s of 60 s"), (75.0, "75 s"), (200.0, "3 min")])
def test_how_long_a_step_lasts(seconds: float, says: str) -> None:
    canary = replace(CANARY, seconds=seconds, note="", readings=())
    assert f"5 % {says} 25 %" in text(render_traffic(shown(replace(SPLIT, canary=canary))))


def test_a_canary_that_has_all_requests() -> None:
    everything = replace(SPLIT, shares={1: 1.0}, canary=replace(CANARY, step=3))
    assert text(render_traffic(shown(everything))).startswith("v1 is a canary and answers all requests. ✓ 1 %")


def test_a_canary_compared_by_a_copy_is_shown_as_one_thing() -> None:
    assert "shadow" not in render_traffic(shown(replace(SPLIT, canary=CANARY, shadow=SHADOW)))


def test_what_the_last_canary_came_to() -> None:
    at = NOW - timedelta(minutes=5)
    taken = Change(
        number=2, kind="taken back", version=1, share=25.0, at=at.timestamp(), reason="errors 18 % of 44 requests"
    )
    html = render_traffic(shown(replace(ALONE, last=taken)))
    clock = f"{at.astimezone():%H:%M}"
    assert text(html).endswith(f"v1 was taken back at {clock} at 25 %: errors 18 % of 44 requests.")
    assert 'class="mlnb-failure"' in html
    promoted = replace(taken, kind="promoted", reason="all guards held")
    assert text(render_traffic(shown(replace(ALONE, last=promoted)))).endswith(
        f"v1 was promoted at {clock}: all guards held."
    )
    days_ago = replace(taken, at=(NOW - timedelta(days=3)).timestamp())
    assert " on 2025-12-" in text(render_traffic(shown(replace(ALONE, last=days_ago))))
    by_hand = replace(taken, kind="advanced")
    assert text(render_traffic(shown(replace(ALONE, last=by_hand)))).endswith("nobody gets its answers")


def test_a_shadow() -> None:
    html = render_traffic(shown(replace(ALONE, shadow=SHADOW)))
    assert "v1 is a shadow: it sees a copy of all requests. End shadow" in text(html)
    assert "1,200 24 (2 %) 3 1 0.5 deployment.disagreements() shows where they differ." in text(html)
    assert text(html).endswith("It failed last with: ValueError: no")
    assert buttons(html) == ["Split", "Canary", "End shadow"]


def test_a_shadow_that_has_seen_nothing_yet() -> None:
    nothing = ComparisonSummary(compared=0, differing=0, dropped=0, failed=0, failure=None, mean_distance=None)
    html = render_traffic(shown(replace(ALONE, shadow=replace(SHADOW, share=12.5, summary=nothing))))
    assert "sees a copy of 12.5 % of the requests." in text(html)
    assert text(html).endswith("mean distance 0 0 0 0 \N{EN DASH}")


def test_a_shadow_whose_process_ended() -> None:
    starting = ReplicaSnapshot(key=2, state="starting")
    ended = replace(SHADOW, trouble="its process (7) was ended by SIGKILL", replicas=(starting,))
    html = render_traffic(shown(replace(ALONE, shadow=ended)))
    assert text(html).endswith("Its process ended: its process (7) was ended by SIGKILL. Another is starting.")


def test_the_header_the_versions_and_the_plain_form_say_who_answers() -> None:
    regions = render(shown(SPLIT))
    assert "v2 90 % · v1 10 % live · in kernel" in regions["header"]
    assert text(regions["versions"]).count("● 90 %") == text(regions["versions"]).count("● 10 %") == 1
    assert "v2 90 % · v1 10 % live" in text(render_static(shown(SPLIT)))
    assert "v2 live, v1 shadow" in render_static(shown(replace(ALONE, shadow=SHADOW)))


def test_what_others_write_is_escaped() -> None:
    hostile = replace(
        SPLIT, key=HOSTILE,
        shadow=replace(SHADOW, version=3, trouble=HOSTILE, summary=replace(FOUND, failure=HOSTILE)),
    )  # fmt: skip
    check(render_traffic(shown(hostile), TrafficView(experiment=trial(champion=HOSTILE))))
    reading = replace(READINGS[0], words=HOSTILE, name=HOSTILE)
    canary = replace(CANARY, note=HOSTILE, readings=(reading,))
    check(render_traffic(shown(replace(SPLIT, canary=canary))))
    last = Change(number=1, kind="promoted", version=1, share=100.0, at=NOW.timestamp(), reason=HOSTILE)
    check(render_traffic(shown(replace(ALONE, last=last), versions=(version(2), version(1, description=HOSTILE)))))
