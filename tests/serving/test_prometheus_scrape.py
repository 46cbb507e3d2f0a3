from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from fitted import Fitted
from jupyters import running_jupyter
from waiting import free_port, wait_until

import mlnb
from mlnb.monitoring.sketch import Sketch
from mlnb.serving.prometheus import Exposed, exposition

CONFIG = """
global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}
scrape_configs: [{{job_name: mlnb, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]
"""
THROUGH_JUPYTER = """
global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}
scrape_configs:
  - job_name: mlnb
    metrics_path: {path}
    authorization: {{type: token, credentials: {token}}}
    static_configs: [{{targets: ["{host}"]}}]
"""


class Prometheus:
    """One that scrapes a port of loopback twice a second."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self._url}/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def ask(self, expression: str) -> dict[str, float]:
        """Return the values by their labels, those that the test is not about left out."""
        result = httpx.get(f"{self._url}/api/v1/query", params={"query": expression}).json()["data"]["result"]
        return {_labels(one["metric"]): float(one["value"][1]) for one in result}


def _labels(metric: dict[str, str]) -> str:
    own = ("__name__", "instance", "job", "model")
    return ",".join(f"{key}={text}" for key, text in sorted(metric.items()) if key not in own)


@contextmanager
def prometheus(folder: Path, settings: str) -> Iterator[Prometheus]:
    own = free_port()
    config = folder / "prometheus.yml"
    config.write_text(settings)
    process = subprocess.Popen(
        ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
         f"--web.listen-address=127.0.0.1:{own}", "--log.level=error"],
    )  # fmt: skip
    try:
        server = Prometheus(own)
        wait_until(server.is_ready, seconds=30)
        yield server
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def serving(expose: Callable[[], list[Exposed]]) -> Iterator[tuple[int, list[str]]]:
    """Answer scrapes on a thread; note what was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers["Accept"])
            text, content_type = exposition(expose(), accept=self.headers["Accept"])
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1], asked
        finally:
            server.shutdown()
            thread.join()


def test_a_prometheus_reads_what_is_exposed(tmp_path: Path) -> None:
    counts = {(3, 1, 200): 0, (3, 1, 500): 0}
    latency = Sketch()

    def expose() -> list[Exposed]:
        counts[3, 1, 200] += 10
        latency.add([0.002] * 9 + [0.08])
        return [
            Exposed(model="iris", version=3, requests=dict(counts), latency={3: latency}, alerts={"p99 > 50 ms": True})
        ]

    with serving(expose) as (port, asked), prometheus(tmp_path, CONFIG.format(port=port)) as server:
        wait_until(lambda: server.ask("rate(mlnb_requests_total[2s])").get("replica=1,status=200,version=3", 0) > 5)
        assert server.ask("up") == {"": 1}
        assert "openmetrics" in asked[0]
        quantile = server.ask("histogram_quantile(0.5, rate(mlnb_request_duration_seconds_bucket[2s]))")
        assert quantile == {"version=3": pytest.approx(0.002, abs=0.0005)}
        assert server.ask("mlnb_alert_firing") == {"rule=p99 > 50 ms": 1}
        assert server.ask('mlnb_requests_total{status="500"}') == {"replica=1,status=500,version=3": 0}


def test_a_prometheus_scrapes_a_deployment(tumour: Fitted, tmp_path: Path) -> None:
    deployment = mlnb.deploy(tumour.model, name="tumour", example=tumour.rows)
    port = int(deployment.url.split(":")[2].split("/")[0])
    with prometheus(tmp_path, CONFIG.format(port=port)) as server:
        wait_until(lambda: server.ask("up") == {"": 1})
        for rows, status in [(tumour.lists[:2], 200)] * 20 + [([["no number"]], 422)] * 3:
            assert httpx.post(f"{deployment.url}/predict", json={"instances": rows}).status_code == status
        wait_until(lambda: sum(server.ask("mlnb_requests_total").values()) == 23)
        assert server.ask('sum by (status) (mlnb_requests_total{model="tumour"})') == {
            "status=200": 20,
            "status=422": 3,
        }
        assert server.ask("mlnb_rows_total") == {"version=1": 40}
        assert server.ask("mlnb_request_duration_seconds_count") == {"version=1": 20}
        assert sum(server.ask("mlnb_predictions_total").values()) == 40
        assert set(server.ask("mlnb_model_info")) == {f"type={type(tumour.model).__name__},version=1"}
        scraped = httpx.get(f"http://127.0.0.1:{port}/metrics").content
    said = subprocess.run(["promtool", "check", "metrics"], input=scraped, capture_output=True, timeout=60, check=False)
    assert (said.returncode, said.stdout, said.stderr) == (0, b"", b"")


def test_a_prometheus_scrapes_through_jupyter(digits: Fitted, tmp_path: Path) -> None:
    deployment = mlnb.deploy(digits.model, name="digits", example=digits.rows)
    assert httpx.post(f"{deployment.url}/predict", json={"instances": digits.lists[:1]}).status_code == 200
    with running_jupyter(tmp_path) as jupyter:
        url = urlsplit(jupyter.through(str(urlsplit(deployment.url).port)))
        settings = THROUGH_JUPYTER.format(path=f"{url.path}/metrics", token=jupyter.token, host=url.netloc)
        with prometheus(tmp_path, settings) as server:
            wait_until(lambda: server.ask("up") == {"": 1}, seconds=30)
            wait_until(lambda: server.ask("mlnb_rows_total") == {"version=1": 1}, seconds=30)
