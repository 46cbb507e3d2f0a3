from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import views
from plotly.graph_objects import Figure

from mlnb.monitoring.figures_dashboard import (
    OTHERS,
    dashboard_data,
    dashboard_figure,
    dashboard_key,
    dashboard_spec,
    shares_of,
    shortened,
)
from mlnb.monitoring.metrics import Mark
from mlnb.monitoring.view import MonitorView

VIEWS = {
    "quiet": views.view(),
    "busy": views.busy_view(),
    "numbers": views.busy_view(numbers=True),
    "an hour": views.busy_view(step=60),
}


def classes(counts: dict[str, int]) -> MonitorView:
    quiet = views.quiet_series()
    return views.view(replace(quiet, classes={label: (count,) * 300 for label, count in counts.items()}))


@pytest.mark.parametrize("name", VIEWS)
def test_every_trace_has_as_many_values_as_there_are_steps(name: str) -> None:
    spec, data = dashboard_spec(VIEWS[name]), dashboard_data(VIEWS[name])
    assert {trace["uid"] for trace in spec["data"]} == set(data["y"])
    assert {len(values) for values in data["y"].values()} == {len(data["x"])} == {len(VIEWS[name].series.ago)}
    assert data["x"][-1] == 0


@pytest.mark.parametrize("name", VIEWS)
def test_plotly_takes_it_and_the_axes_are_linked(name: str) -> None:
    figure = dashboard_figure(VIEWS[name])
    assert isinstance(figure, Figure)
    assert {trace.xaxis for trace in figure.data} == {"x"}
    panes = 7 if name == "quiet" else 8  # in the kernel there are no replicas to count
    assert {trace.yaxis for trace in figure.data} == {"y", *(f"y{number}" for number in range(2, panes))}
    assert figure.layout.paper_bgcolor == "rgba(0,0,0,0)"
    json.loads(figure.to_json())


def test_panes_do_not_overlap() -> None:
    layout = dashboard_spec(VIEWS["busy"])["layout"]
    domains = [layout["yaxis" if number == 1 else f"yaxis{number}"]["domain"] for number in range(1, 7)]
    assert domains[0][1] == 1
    assert domains[-1][0] == 0
    assert all(upper[0] > lower[1] for upper, lower in pairwise(domains))


def test_nothing_is_told_apart_by_its_colour_alone() -> None:
    traces: dict[str, list[dict[str, Any]]] = {}
    for trace in dashboard_spec(VIEWS["busy"])["data"]:
        traces.setdefault(trace["legend"], []).append(trace)
    for group in traces.values():
        looks = [(trace["line"].get("dash"), trace.get("fillpattern", {}).get("shape")) for trace in group]
        assert len(set(looks)) == len(looks)


def test_the_form_is_the_same_while_only_values_change() -> None:
    assert dashboard_key(views.busy_view(seed=1)) == dashboard_key(views.busy_view(seed=2))
    assert len({dashboard_key(one) for one in VIEWS.values()}) == len(VIEWS)
    assert dashboard_spec(views.busy_view(seed=1)) == dashboard_spec(views.busy_view(seed=2))


def test_rates_are_per_second_in_steps_of_a_minute_too() -> None:
    series = replace(views.quiet_series(step=60), requests=(120,) * 60)
    assert dashboard_data(views.view(series))["y"]["requests"] == [2.0] * 60


def test_what_was_done_is_an_upright_line_with_a_label() -> None:
    data = dashboard_data(views.busy_view())
    lines, labels = data["layout"]["shapes"], [one["text"] for one in data["layout"]["annotations"]]
    assert len(lines) == 4
    assert all(line["path"].count("M") == 6 and line["yref"] == "paper" for line in lines)  # one part in each pane
    assert {"v3 deployed", "v4 deployed", "rolled back to v3", "▲ error rate"} <= set(labels)
    assert len({line["line"]["dash"] for line in lines}) == 3  # deployed, rolled back, alert


def test_marks_outside_the_window_are_left_out_and_one_of_this_second_is_not() -> None:
    marks = tuple(
        Mark(at=views.NOW + ago, kind="deployed", version=1, words=str(ago)) for ago in (-4000, -301, -10, 0.9, 5)
    )
    shapes = dashboard_data(views.view(marks=marks))["layout"]["shapes"]
    assert [shape["path"].partition(",")[0] for shape in shapes] == ["M10.00", "M0.00"]


def test_labels_that_have_no_room_are_left_out_and_none_overlap() -> None:
    marks = tuple(
        Mark(at=views.NOW - 100 + at, kind="split", version=at, words=f"v{at} gets a half") for at in range(9)
    )
    layout = dashboard_data(views.view(marks=marks))["layout"]
    labels = [one for one in layout["annotations"] if "gets a half" in one["text"]]
    assert len(layout["shapes"]) == 9
    assert len(labels) == 4
    assert len({label["yshift"] for label in labels}) == 4


def test_what_was_done_has_its_label_before_the_alerts_of_that_moment() -> None:
    alerts = [
        Mark(at=views.NOW - 100 + at, kind="alert", version=2, words=f"p9{at} is 84 ms, above 50 ms") for at in range(6)
    ]
    done = Mark(at=views.NOW - 99, kind="rolled back", version=1, words="rolled back to v1")
    layout = dashboard_data(views.view(marks=(*alerts, done)))["layout"]
    assert "rolled back to v1" in [one["text"] for one in layout["annotations"]]
    assert len(layout["shapes"]) == 7


def test_above_the_panes_there_is_as_much_room_as_the_labels_need() -> None:
    def height(*ago: float) -> int:
        marks = tuple(Mark(at=views.NOW - at, kind="deployed", version=1, words="v1 deployed") for at in ago)
        room: int = dashboard_data(views.view(marks=marks))["layout"]["height"]
        return room

    assert height() == height(50) == height(50, 200) < height(50, 51) < height(50, 51, 52)


@pytest.mark.parametrize(
    ("kind", "words", "label"),
    [
        ("alert", "error rate is 10 %, above 5 % for 3s", "▲ error rate"),
        ("all clear", "error rate is 4.3 % again, below 4.5 %", "✓ error rate"),
        ("alert", "replica crashes: 2, above 0", "▲ replica crashes"),
        ("all clear", "replica crashes: 0 again", "✓ replica crashes"),
        ("all clear", "requests come again", "✓ requests come again"),
        ("alert", "5 % of the requests refused, above 3 %", "▲ requests refused"),
        ("all clear", "4.4 % of the requests refused again, below 4.5 %", "✓ requests refused"),
    ],
)
def test_the_label_of_an_alert_says_what_it_is_about(kind: str, words: str, label: str) -> None:
    view = views.view(marks=(Mark(at=views.NOW - 60, kind=kind, version=1, words=words),))
    assert label in [one["text"] for one in dashboard_data(view)["layout"]["annotations"]]


def test_a_label_at_the_edge_stays_inside() -> None:
    marks = tuple(Mark(at=views.NOW + ago, kind="deployed", version=1, words="v1 deployed") for ago in (-299, -1))
    labels = [one for one in dashboard_data(views.view(marks=marks))["layout"]["annotations"] if "v1" in one["text"]]
    assert [label["xanchor"] for label in labels] == ["left", "right"]


def test_panes_without_anything_say_so() -> None:
    def texts(view: MonitorView) -> list[str]:
        return [one["text"] for one in dashboard_data(view)["layout"]["annotations"]]

    assert {"no answers yet", "not judged yet: too few rows"} <= set(texts(VIEWS["quiet"]))
    assert not any("yet" in text for text in texts(VIEWS["busy"]))


def shares(no: dict[int, int], yes: dict[int, int]) -> dict[str, list[float | None]]:
    """Return the shares of two classes that were answered so often at these steps."""
    counts = {"no": no, "yes": yes}
    each = {label: tuple(found.get(at, 0) for at in range(300)) for label, found in counts.items()}
    return shares_of(replace(views.quiet_series(), classes=each))


def test_shares_of_the_classes_are_over_the_last_seconds() -> None:
    found = shares(dict.fromkeys(range(100), 1), dict.fromkeys(range(50, 100), 3))
    assert found["no"][:50] == [1.0] * 50
    assert found["no"][50:66] == sorted((share for share in found["no"][50:66] if share is not None), reverse=True)
    assert found["no"][64:100] == [0.25] * 36


def test_where_nothing_was_answered_there_is_no_share() -> None:
    found = shares({10: 1, 14: 1, 60: 1}, {12: 2, 60: 1})
    assert [at for at, share in enumerate(found["no"]) if share is not None] == [10, 11, 12, 13, 14, 60]
    assert found["no"][10:15] == [0.5] * 5  # at the edge of a gap, no one answer is all of them
    assert found["yes"][60] == 0.5
    assert dashboard_data(VIEWS["quiet"])["y"]["none"] == [None] * 300


def test_the_pointer_does_not_call_it_0_percent() -> None:
    counts: dict[str, tuple[int, ...]] = {
        label: (0,) * 100 + (count,) * 200 for label, count in (("no", 1), ("yes", 2))
    }
    drawn: Any = dashboard_figure(views.view(replace(views.quiet_series(), classes=counts)))
    (no,) = (trace for trace in drawn.data if trace.name == "no")
    assert (no.hovertemplate[99], no.hovertemplate[100]) == ("—<extra>no</extra>", "%{y:.3~g} %<extra>no</extra>")


def test_errors_that_there_were_none_of_are_not_in_the_legend() -> None:
    kinds = views.quiet_series().kinds | {"overloaded": (0,) * 299 + (5,)}
    one, none = views.view(replace(views.quiet_series(), kinds=kinds)), VIEWS["quiet"]
    names = [
        [trace["name"] for trace in dashboard_spec(view)["data"] if trace["yaxis"] == "y3"] for view in (one, none)
    ]
    assert names == [["overloaded"], ["errors"]]
    assert dashboard_key(one) != dashboard_key(none)
    assert dashboard_data(none)["y"]["errors"] == [0] * 300


@pytest.mark.parametrize(("share", "top"), [(0.0, "10 %"), (1 / 30, "10 %"), (0.12, "20 %"), (0.8, "100 %")])
def test_one_column_of_thirty_can_be_seen(share: float, top: str) -> None:
    data = dashboard_data(views.view(replace(views.quiet_series(), drift=(share,) * 300)))
    assert data["layout"]["yaxis5"]["ticktext"][-1] == top
    assert data["y"]["drift"][-1] == pytest.approx(100 * share, abs=0.01)


def test_in_the_kernel_no_replicas_are_counted() -> None:
    for place, counted in (("in kernel", False), ("in this process", False), ("1 process", True)):
        view = views.busy_view(place=place)
        assert ("replicas" in dashboard_data(view)["y"]) is counted
        assert any(trace["name"] == "replicas" for trace in dashboard_spec(view)["data"]) is counted


def test_rare_classes_are_one_area() -> None:
    many = classes({f"class {number}": 100 - number for number in range(50)} | {OTHERS: 7})
    found = shares_of(many.series)
    assert list(found) == ["class 0", "class 1", "class 2", "class 3", OTHERS]
    assert sum(values[-1] or 0 for values in found.values()) == pytest.approx(1, abs=0.001)
    assert dashboard_figure(many).data[-3].name == OTHERS


def test_a_value_between_two_gaps_is_a_point() -> None:
    lonely = (None,) * 150 + (3.0,) + (None,) * 149
    view = views.view(replace(views.quiet_series(), p50=lonely))
    assert dashboard_data(view)["points"] == ["p50"]
    assert {trace.name: trace.mode for trace in dashboard_figure(view).data}["p50"] == "lines+markers"
    assert dashboard_data(VIEWS["busy"])["points"] == []


def test_a_hostile_class_is_text() -> None:
    view = classes({views.HOSTILE: 1, "%{y}": 2, "<a href='javascript:alert(1)'>": 3})
    written = json.dumps(dashboard_spec(view) | dashboard_data(view))
    assert "<script" not in written
    assert "<a " not in written
    assert "class-0" in written  # no class is part of an id in the page


def test_long_names_lose_their_middle() -> None:
    assert shortened("short", 9) == "short"
    assert shortened("a very long name indeed", 9) == "a ve…deed"
    assert len(shortened("x" * 99, 10)) == 10
