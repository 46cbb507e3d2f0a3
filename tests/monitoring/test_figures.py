from __future__ import annotations

import json

from mlnb.events import PredictionEvent
from mlnb.monitoring import ModelMonitor
from mlnb.monitoring.figures import plotly_javascript, traffic_figure


def test_the_figure_draws_rate_latency_and_errors() -> None:
    monitor = ModelMonitor()
    for at, error in ((998.0, None), (999.0, "no")):
        monitor.observe(
            [
                PredictionEvent(
                    model="m", version=1, request_id="r", at=at, seconds=0.004, rows=1, status=200, error=error
                )
            ]
        )
    figure = json.loads(traffic_figure(monitor.series(now=1000.0)).to_json())
    traces = {trace["name"]: trace for trace in figure["data"]}
    assert list(traces) == ["requests", "p99", "p50", "errors"]
    assert all(len(trace["x"]) == len(trace["y"]) == 300 for trace in traces.values())
    assert traces["requests"]["y"][-2:] == [1, 1]
    assert traces["errors"]["y"][-2:] == [0, 1]
    assert abs(traces["p50"]["y"][-2] - 4.0) < 0.05
    assert {trace["yaxis"] for trace in traces.values()} == {"y", "y2", "y3"}
    assert figure["layout"]["xaxis3"]["ticktext"][-2:] == ["1 min ago", "now"]


def test_it_is_small_enough_to_send_every_second() -> None:
    assert len(traffic_figure(ModelMonitor().series(now=1000.0)).to_json()) < 40_000


def test_plotly_javascript_is_the_packages_own() -> None:
    assert "plotly.js v" in plotly_javascript()[:200]
