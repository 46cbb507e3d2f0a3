from __future__ import annotations

import json
import sys
from dataclasses import replace
from itertools import pairwise
from math import inf, nan
from typing import Any

import pytest

from mlnb.errors import MissingLibraryError
from mlnb.monitoring.figures_scaling import comparison_figure, scaling_figure
from mlnb.monitoring.scaling_picture import ScalingFigures, ScalingPicture

EMPTY = ScalingPicture(name="iris", at=(), rate=(), capacity=(), ready=(), desired=())
CHANGES = {30: 2, 70: 3, 110: 1}  # sample: replicas


def picture(count: int = 150, *, times: int = 1, objective: float | None = 50.0) -> ScalingPicture:
    """Return load over so many samples of half a second, of which each is there so many times."""
    counts = [max([(at, to) for at, to in CHANGES.items() if at <= one], default=(0, 1))[1] for one in range(count)]
    wide = [one for one in counts for _ in range(times)]
    at = tuple(0.5 * one for one in range(len(wide)))
    return ScalingPicture(
        name="<iris>", at=at, rate=tuple(20.0 + one % 7 for one in range(len(wide))), ready=tuple(wide),
        capacity=tuple(30.0 * one for one in wide), desired=tuple(wide), p95=tuple(18.0 for _ in wide),
        objective=objective, epoch=False, changes=tuple(
            (at[one * times], to, f"<b>%{{y}}</b> {to} wanted, and this is a reason that one line has no room for")
            for one, to in CHANGES.items()
        ),
    )  # fmt: skip


def drawn(figure: Any) -> Any:
    return json.loads(figure.to_json())


def traces(shown: ScalingPicture) -> dict[str, Any]:
    return {trace["name"]: trace for trace in drawn(scaling_figure(shown))["data"]}


def test_load_capacity_replicas_and_latency_over_one_axis() -> None:
    shown = picture()
    found = traces(shown)
    assert list(found) == ["load", "capacity", "ready", "desired", "more", "fewer", "p95", "objective 50 ms"]
    assert {trace["xaxis"] for trace in found.values()} == {"x"}
    assert found["load"]["y"] == list(shown.rate)
    assert found["capacity"]["line"]["shape"] == found["ready"]["line"]["shape"] == "hv"
    assert found["ready"]["y"] == list(shown.ready)
    assert found["objective 50 ms"]["y"] == [50.0, 50.0]


def test_a_change_says_when_from_how_many_to_how_many_and_why() -> None:
    found = traces(picture())
    assert (found["more"]["y"], found["fewer"]["y"]) == ([2, 3], [1])
    assert found["more"]["x"] == ["1970-01-01T00:00:15.000", "1970-01-01T00:00:35.000"]
    first, second = found["more"]["text"]
    assert first.startswith("1 → 2: &lt;b&gt;% {y}&lt;/b&gt; 2 wanted")
    assert second.startswith("2 → 3")
    assert found["fewer"]["text"][0].startswith("3 → 1")
    assert "<br>" in first  # a long reason is wrapped
    assert {found[name]["marker"]["symbol"] for name in ("more", "fewer")} == {"triangle-up", "triangle-down"}


def test_the_first_decision_may_change_something() -> None:
    shown = replace(picture(), desired=(2,) * 150, ready=(1,) * 150, changes=((0.0, 2, "busy"),))
    assert traces(shown)["more"]["text"] == ["1 → 2: busy"]


def test_nothing_is_told_apart_by_its_colour_alone() -> None:
    panes: dict[str, list[Any]] = {}
    for trace in traces(picture(150, times=20)).values():
        look = trace["line"].get("dash") if "line" in trace else trace["marker"]["symbol"]
        panes.setdefault(trace["yaxis"], []).append(look)
    assert all(len(set(looks)) == len(looks) for looks in panes.values())
    assert len(panes) == 3


def test_many_samples_become_few_steps_and_no_change_is_lost() -> None:
    shown = picture(150, times=1000)
    found = traces(shown)
    assert len(found["load"]["x"]) < 620
    assert "peak" in found
    assert found["load"]["y"][5] == pytest.approx(23.0, abs=0.1)
    assert found["peak"]["y"][5] == 26.0
    ready = list(zip(found["ready"]["x"], found["ready"]["y"], strict=True))
    turns = [(x, count) for (_, before), (x, count) in pairwise(ready) if count != before]
    marks = [*zip(found["more"]["x"], found["more"]["y"], strict=True)]
    marks += zip(found["fewer"]["x"], found["fewer"]["y"], strict=True)
    assert turns == marks
    assert found["load"]["x"][-1] == "1970-01-01T20:49:59.500"


def test_a_flood_of_changes_is_thinned_out_and_it_says_so() -> None:
    count = 50_000
    desired = tuple(1 + at % 2 for at in range(count))
    flapping = ScalingPicture(
        name="iris", at=tuple(map(float, range(count))), rate=(None,) * count, capacity=(None,) * count, ready=desired,
        desired=desired, changes=tuple((float(at), desired[at], "flaps") for at in range(1, count)),
    )  # fmt: skip
    figure = drawn(scaling_figure(flapping))
    assert all(len(trace["x"]) < 5000 for trace in figure["data"])
    assert "49,999 changes in 13 h (the last 1,000 are marked)" in figure["layout"]["annotations"][0]["text"]


@pytest.mark.parametrize("unknown", [None, nan, inf])
def test_what_is_not_known_is_a_gap(unknown: float | None) -> None:
    count = 3
    shown = ScalingPicture(
        name="iris", at=(1.0, 2.0, 3.0), rate=(unknown, 5.0, unknown), capacity=(unknown,) * count, ready=(0,) * count,
        desired=(0,) * count, p95=(unknown,) * count,
    )  # fmt: skip
    found = traces(shown)
    assert found["load"]["y"] == [None, 5.0, None]
    assert found["load"]["mode"] == "lines+markers"  # a line alone would not show it
    assert found["capacity"]["y"] == found["p95"]["y"] == [None] * count
    assert "objective" not in "".join(found)
    words = [one["text"] for one in drawn(scaling_figure(shown))["layout"]["annotations"]]
    assert "no answers yet" in words
    assert "not measured" not in words


def test_before_anything_is_decided_it_says_so() -> None:
    layout = drawn(scaling_figure(EMPTY))["layout"]
    words = [one["text"] for one in layout["annotations"]]
    assert words[0] == "iris: nothing decided yet"
    assert words.count("nothing yet") == 3
    assert not any(layout[axis]["showticklabels"] for axis in ("yaxis", "yaxis2", "yaxis3"))


@pytest.mark.parametrize("ready", [0, 1])
def test_one_point_is_seen(ready: int) -> None:
    one = ScalingPicture(name="iris", at=(1e9,), rate=(3.0,), capacity=(30.0,), ready=(ready,), desired=(ready,))
    found = traces(one)
    assert {found[name]["mode"] for name in ("load", "capacity", "ready", "desired")} == {"lines+markers"}
    axis = drawn(scaling_figure(one))["layout"]["xaxis"]
    assert axis["range"][0] < found["load"]["x"][0] < axis["range"][1]


def test_the_page_shows_through_and_the_title_is_no_markup() -> None:
    layout = drawn(scaling_figure(picture()))["layout"]
    assert layout["paper_bgcolor"] == layout["plot_bgcolor"] == "rgba(0,0,0,0)"
    assert layout["annotations"][0]["text"] == "&lt;iris&gt;: 1 to 3 replicas, 3 changes in 1 min"


def test_panes_do_not_overlap() -> None:
    layout = drawn(scaling_figure(picture()))["layout"]
    domains = [layout[axis]["domain"] for axis in ("yaxis", "yaxis2", "yaxis3")]
    assert domains[0][1] == 1
    assert domains[-1][0] == pytest.approx(0)
    assert all(upper[0] > lower[1] for upper, lower in pairwise(domains))


def test_latencies_far_above_all_others_press_none_to_the_ground() -> None:
    steep = replace(picture(), p95=(*(18.0,) * 149, 9000.0))
    assert drawn(scaling_figure(steep))["layout"]["yaxis3"]["type"] == "log"
    assert "type" not in drawn(scaling_figure(picture()))["layout"]["yaxis3"]


def figures(*names: str) -> list[ScalingFigures]:
    return [ScalingFigures(name=name, over=0.012, replica_seconds=1204.0, turns=at) for at, name in enumerate(names)]


def test_policies_side_by_side() -> None:
    shown = [replace(picture(), name=name) for name in ("ours", "theirs", "<another> one with a rather long name")]
    figure = drawn(comparison_figure(shown, figures(*(one.name for one in shown))))
    lines = [trace for trace in figure["data"] if trace["type"] == "scatter"]
    assert [trace["yaxis"] for trace in lines] == ["y", "y", "y2", "y2", "y3", "y3"]
    assert lines[1]["y"] == list(picture().ready)
    assert lines[0]["y"][0] == pytest.approx(20 / 30, abs=0.001)  # replicas that 20 requests/s need
    over, seconds = (trace for trace in figure["data"] if trace["type"] == "bar")
    assert over["text"] == ["1.2 %"] * 3
    assert seconds["text"] == ["1,204"] * 3
    layout = figure["layout"]
    words = [one["text"] for one in layout["annotations"]]
    assert {"ours", "theirs", "0 changes of direction", "1 change of direction", "replica-seconds"} <= set(words)
    assert layout["yaxis4"]["ticktext"] == ["ours", "theirs", "&lt;another&gt; o… long name"]
    domains = [layout[axis]["domain"] for axis in ("yaxis", "yaxis2", "yaxis3", "yaxis4")]
    assert all(upper[0] > lower[1] for upper, lower in pairwise(domains))


def test_long_times_are_hours_and_what_has_no_objective_has_no_share() -> None:
    day = ScalingFigures(name="day", over=nan, replica_seconds=90_000.0)
    figure = drawn(comparison_figure([picture()], [day]))
    over, hours = (trace for trace in figure["data"] if trace["type"] == "bar")
    assert (over["x"], over["text"], hours["text"]) == ([0.0], ["—"], ["25"])
    assert "replica-hours" in [one["text"] for one in figure["layout"]["annotations"]]


@pytest.mark.parametrize("shown", [[], [EMPTY], [replace(EMPTY, at=(1.0,), rate=(nan,), capacity=(None,),
                                                         ready=(0,), desired=(0,))]])  # fmt: skip
def test_a_comparison_of_nothing_is_harmless(shown: list[ScalingPicture]) -> None:
    figure = drawn(comparison_figure(shown, figures(*("iris" for _ in shown))))
    assert figure["layout"]["height"] > 0


def test_without_plotly_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(MissingLibraryError, match=r"pip install 'mlnb\[lab\]'"):
        scaling_figure(EMPTY)
