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
    assert {trace.yaxis for trace in figure.data} == {"y", *(f"y{number}" for number in range(2, 8))}
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
    assert all(line["x0"] == line["x1"] and line["yref"] == "paper" for line in lines)
    assert {"v3 deployed", "v4 deployed", "rolled back to v3"} <= set(labels)
    assert len({line["line"]["dash"] for line in lines}) == 3  # deployed, rolled back, alert


def test_marks_outside_the_window_are_left_out_and_one_of_this_second_is_not() -> None:
    marks = tuple(
        Mark(at=views.NOW + ago, kind="deployed", version=1, words=str(ago)) for ago in (-4000, -301, -10, 0.9, 5)
    )
    shapes = dashboard_data(views.view(marks=marks))["layout"]["shapes"]
    assert [shape["x0"] for shape in shapes] == [10, 0]


def test_labels_that_have_no_room_are_left_out_and_none_overlap() -> None:
    marks = tuple(
        Mark(at=views.NOW - 100 + at, kind="split", version=at, words=f"v{at} gets a half") for at in range(9)
    )
    layout = dashboard_data(views.view(marks=marks))["layout"]
    labels = [one for one in layout["annotations"] if "gets a half" in one["text"]]
    assert len(layout["shapes"]) == 9
    assert 3 <= len(labels) < 9
    assert len({label["yshift"] for label in labels[:3]}) == 3


def test_a_label_at_the_edge_stays_inside() -> None:
    marks = tuple(Mark(at=views.NOW + ago, kind="deployed", version=1, words="v1 deployed") for ago in (-299, -1))
    labels = [one for one in dashboard_data(views.view(marks=marks))["layout"]["annotations"] if "v1" in one["text"]]
    assert [label["xanchor"] for label in labels] == ["left", "right"]


def test_panes_without_anything_say_so() -> None:
    def texts(view: MonitorView) -> list[str]:
        return [one["text"] for one in dashboard_data(view)["layout"]["annotations"]]

    assert {"no answers yet", "not judged yet: too few rows"} <= set(texts(VIEWS["quiet"]))
    assert not any("yet" in text for text in texts(VIEWS["busy"]))


def test_shares_of_the_classes_are_over_the_last_seconds() -> None:
    series = replace(views.quiet_series(), classes={"no": (3,) + (0,) * 299, "yes": (1,) + (0,) * 298 + (2,)})
    shares = shares_of(series)
    assert shares["no"][:16] == [0.75] * 15 + [0]
    assert (shares["no"][-1], shares["yes"][-1]) == (0, 1)


def test_rare_classes_are_one_area() -> None:
    many = classes({f"class {number}": 100 - number for number in range(50)} | {OTHERS: 7})
    shares = shares_of(many.series)
    assert list(shares) == ["class 0", "class 1", "class 2", "class 3", OTHERS]
    assert sum(values[-1] for values in shares.values()) == pytest.approx(1, abs=0.001)
    assert dashboard_figure(many).data[-4].name == OTHERS


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
