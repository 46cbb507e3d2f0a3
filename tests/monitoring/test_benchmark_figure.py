from __future__ import annotations

import json
from typing import Any

from mlnb.monitoring.figures import benchmark_figure
from mlnb.monitoring.load.result import BenchmarkResult
from mlnb.monitoring.load.step import Step


def drawn(*throughputs: int, rate: float | None = None, refused: int = 0) -> Any:
    steps = tuple(
        Step(
            connections=2**at, seconds=1.0, good=good, refused=refused, failed=0, unsent=0, p50=2.0**at, p90=3.0**at,
            p99=4.0**at, cpu=0.1, failure="",
        )
        for at, good in enumerate(throughputs)
    )  # fmt: skip
    return json.loads(benchmark_figure(BenchmarkResult(url="", steps=steps, rate=rate)).to_json())


def test_it_draws_throughput_and_latency_over_connections_with_units() -> None:
    figure = drawn(1000, 1900, 2000, 2000)
    traces = {trace["name"]: trace for trace in figure["data"]}
    assert {name: trace["y"] for name, trace in traces.items()} == {
        "requests": [1000, 1900, 2000, 2000], "p99": [1, 4, 16, 64], "p50": [1, 2, 4, 8],
    }  # fmt: skip
    assert all(trace["x"] == [1, 2, 4, 8] for trace in traces.values())
    layout = figure["layout"]
    assert [one["text"] for one in layout["annotations"][:2]] == ["good requests per second", "latency, ms"]
    assert layout["xaxis2"]["title"]["text"] == "connections"
    assert layout["paper_bgcolor"] == layout["plot_bgcolor"] == "rgba(0,0,0,0)"


def test_the_verdict_stands_above() -> None:
    figure, refused = drawn(1000, 1900, 2000, 2000)["layout"], drawn(1000, refused=7)["layout"]
    said = "Takes about 1,900 requests/s at 2 connections (p99 4.0 ms); more connections only wait longer."
    assert figure["annotations"][-1]["text"] == said
    more = "was not reached.<br>7 of 1,007 requests were refused (429 or 503)."
    assert refused["annotations"][-1]["text"].endswith(more)
    assert refused["height"] - refused["margin"]["t"] == figure["height"] - figure["margin"]["t"]


def test_a_line_marks_the_saturation_in_both_panes() -> None:
    lines = drawn(1000, 1900, 2000, 2000)["layout"]["shapes"]
    assert [(line["x0"], line["xref"]) for line in lines] == [(2, "x"), (2, "x2")]


def test_without_saturation_there_is_no_line() -> None:
    assert "shapes" not in drawn(1000, 2000, 4000)["layout"]
    assert "shapes" not in drawn(1000, 1000, 1000, rate=1000.0)["layout"]


def test_many_steps_share_the_ticks() -> None:
    assert len(drawn(*range(1, 40))["layout"]["xaxis"]["tickvals"]) <= 12
