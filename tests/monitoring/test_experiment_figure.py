from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from mlnb.errors import MissingLibraryError
from mlnb.monitoring.experiment import Experiment, evaluate
from mlnb.monitoring.tally import Tally


def share(successes: int, count: int) -> Tally:
    rate = successes / count
    return Tally(count, rate, count * rate * (1 - rate))


def experiment(*, count: int = 400, proportion: bool = True) -> Experiment:
    looks = [{"<a>": share(n // 2, n), "b": share(n // 4, n)} for n in (5, 50, 100, 200)]
    return evaluate(
        {"<a>": share(count // 2, count), "b": share(count // 4, count)}, versions={"<a>": 1, "b": 2}, baseline="<a>",
        metric="accuracy", goal="higher", proportion=proportion,
        history=[look for look in looks if look["b"].count < count],
    )  # fmt: skip


def drawn(shown: Experiment) -> Any:
    return json.loads(shown.figure().to_json())


def test_it_draws_a_band_and_a_line_for_each_arm() -> None:
    traces = {trace["name"]: trace for trace in drawn(experiment())["data"]}
    assert list(traces) == ["&lt;a&gt;, interval", "b, interval", "&lt;a&gt;", "b"]
    assert traces["b"]["x"] == [100, 200, 400, 800]
    assert traces["b"]["y"] == [24.0, 25.0, 25.0, 25.0]
    band = traces["b, interval"]
    assert band["fillcolor"] == traces["b"]["line"]["color"]
    assert band["x"] == [100, 200, 400, 800, 800, 400, 200, 100]
    assert band["y"][3] > 25.0 > band["y"][4]


def test_the_verdict_stands_above_on_a_ground_that_shows_the_page() -> None:
    layout = drawn(experiment())["layout"]
    title = layout["annotations"][-1]["text"].replace("<br>", " ")
    assert title.startswith("b is worse than &lt;a&gt;: accuracy 25.00 % against 50.00 %")
    assert layout["annotations"][0]["text"] == "accuracy, %"
    assert layout["paper_bgcolor"] == layout["plot_bgcolor"] == "rgba(0,0,0,0)"
    assert layout["xaxis"]["type"] == "log"


def test_before_there_is_anything_only_the_verdict_stands() -> None:
    figure = drawn(experiment(count=8))
    assert figure["layout"]["annotations"][-1]["text"].startswith("Too early to say")
    assert figure["layout"]["yaxis"]["visible"] is False


def test_other_scores_have_no_per_cent() -> None:
    figure = drawn(experiment(proportion=False))
    assert figure["layout"]["annotations"][0]["text"] == "accuracy"
    assert figure["data"][-1]["y"][-1] == 0.25


def test_without_plotly_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(MissingLibraryError, match="needs plotly"):
        experiment().figure()
