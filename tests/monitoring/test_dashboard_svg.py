from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
import views

from mlnb.monitoring.dashboard_svg import dashboard_svg, figures_of, overview_svg
from mlnb.monitoring.metrics import Mark
from mlnb.monitoring.view import MonitorView

VIEWS = {
    "quiet": views.view(),
    "busy": views.busy_view(),
    "numbers": views.busy_view(numbers=True),
    "an hour": views.busy_view(step=60),
    "stopped": views.busy_view(state="stopped"),
    "hostile": views.view(
        replace(views.quiet_series(), classes={f"{views.HOSTILE}\x00\x1b": (1,) * 300}), name=views.HOSTILE
    ),
    "negative": views.view(
        replace(views.quiet_series(), numbers=dict.fromkeys(("p5", "p50", "p95"), (-3.5,) * 300))
    ),
}  # fmt: skip


def texts(picture: str) -> list[str]:
    return [one.text or "" for one in ET.fromstring(picture).iter() if one.tag.endswith("text")]  # noqa: S314 - our own


@pytest.mark.parametrize("name", VIEWS)
def test_it_is_a_small_picture_that_needs_nothing(name: str) -> None:
    picture = dashboard_svg(VIEWS[name])
    root = ET.fromstring(picture)  # noqa: S314 - our own
    assert len(picture) < 40_000
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert {one.tag.rpartition("}")[2] for one in root.iter()} <= {
        "svg", "g", "text", "path", "polyline", "polygon", "circle", "rect", "defs", "pattern",
    }  # fmt: skip
    assert "nan" not in picture
    assert {"requests/s", "latency, ms", "errors/s", "answers", "columns that drifted", "load"} <= set(texts(picture))


def test_it_says_what_the_deployment_is_and_did() -> None:
    words = " ".join(texts(dashboard_svg(VIEWS["busy"])))
    for told in ("iris v3", "live · 2 processes", "req/s", "p95 is 84 ms, above 50 ms", "2 of 12 columns drifted",
                 "accuracy 0.94 (0.91 to 0.96)", "rolled back to v3", "5 min ago", "now", "setosa", "UTC"):  # fmt: skip
        assert told in words


def test_errors_have_a_legend_only_where_there_were_some() -> None:
    assert "overloaded" in texts(dashboard_svg(VIEWS["busy"]))
    assert "overloaded" not in texts(dashboard_svg(VIEWS["quiet"]))


def test_of_quality_one_sentence_is_enough() -> None:
    few, none = (views.busy_view(quality=(views.quality_report(enough=False, **one),)) for one in ({}, {"labels": 0}))
    assert [words for words in texts(dashboard_svg(few)) if "enough" in words] == [f"Quality of {views.NONE_YET}"]
    assert not any("Quality" in words for words in texts(dashboard_svg(none)))


def test_in_the_kernel_no_replicas_are_drawn() -> None:
    assert "replicas" in texts(dashboard_svg(VIEWS["busy"]))
    assert "replicas" not in texts(dashboard_svg(VIEWS["quiet"]))


def test_a_line_stops_at_a_gap() -> None:
    gap = dashboard_svg(VIEWS["numbers"]).count("<polyline")
    whole = views.busy_series(numbers=True)
    filled = replace(whole, p50=(1.0,) * 300, p95=(2.0,) * 300, p99=(3.0,) * 300)
    assert gap == dashboard_svg(views.busy_view(numbers=True, series=filled)).count("<polyline") + 3


def test_a_young_deployment_fills_the_picture() -> None:
    def begins(*, first: int, step: int = 1) -> str:
        quiet = views.quiet_series(step=step)
        asked = replace(quiet, requests=tuple(int(at >= first) for at in range(len(quiet.ago))))
        return next(words for words in texts(dashboard_svg(views.view(asked))) if words.endswith(" ago"))

    assert begins(first=0) == begins(first=300) == "5 min ago"
    assert [begins(first=first) for first in (30, 260, 298)] == ["4.5 min ago", "40 s ago", "20 s ago"]
    assert begins(first=0, step=60) == "60 min ago"
    assert begins(first=59, step=60) == "20 min ago"


def test_each_line_says_what_it_is_in_each_plot() -> None:
    shown = texts(dashboard_svg(VIEWS["busy"]))
    assert [shown.count(words) for words in ("v3", "v4")] == [12, 6]
    alert = Mark(at=views.NOW - 50, kind="alert", version=3, words="p95 is 84 ms, above 50 ms")
    over = replace(alert, at=views.NOW - 20, kind="all clear", words="p95 is 3 ms again, below 45 ms")
    done = Mark(at=views.NOW - 51, kind="deployed", version=4, words="v4 deployed")
    shown = texts(dashboard_svg(views.busy_view(marks=(done, alert, over), alerts=())))
    assert [shown.count(words) for words in ("v4", "▲", "✓")] == [6, 0, 6]  # for the first alert there is no room


def test_answers_stop_at_a_gap() -> None:
    def areas(*busy: range) -> int:
        counts = tuple(int(any(at in one for one in busy)) for at in range(300))
        quiet = replace(views.quiet_series(), requests=(1,) * 300)
        return dashboard_svg(views.view(replace(quiet, classes={"a": counts, "b": counts}))).count("<polygon")

    assert areas(range(300)) == 3  # the second area has a pattern
    assert areas(range(100), range(200, 300)) == 6


def test_no_models_one_and_many() -> None:
    assert texts(overview_svg([])) == ["Nothing is deployed."]
    assert "iris v3" in texts(overview_svg([VIEWS["busy"]]))
    many = texts(overview_svg([views.view(name=f"model-{number}") for number in range(60)]))
    assert many[-1] == "and 20 more"
    assert "stopped" in texts(overview_svg([VIEWS["stopped"]]))


def test_figures_in_one_line() -> None:
    assert figures_of(VIEWS["quiet"]) == "0 req/s · 0 errors"
    one: MonitorView = replace(
        VIEWS["quiet"], metrics=replace(VIEWS["quiet"].metrics, window_errors=1, rate=1234.4, p50=0.51)
    )
    assert figures_of(one) == "1,234 req/s · p50 0.51 ms · 1 error"
