"""What is served is right under any prefix, through a real Jupyter server, which takes the prefix away.

Jupyter hands its own token and cookies on to what is behind it; nothing of them stays there.
"""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from fitted import Fitted
from jupyters import Jupyter, running_jupyter

import mlnb

LOUD = "import logging; logging.basicConfig(level=logging.DEBUG)"  # in each process, before all else
SERVING = """
import sys
import mlnb

class Touchy:
    def predict(self, rows):
        if rows[0][0] > 100:
            raise ValueError("too hot")
        return rows[:, 0]

with mlnb.deploy(Touchy(), name="touchy", example=[[1.0, 2.0]], replicas=int(sys.argv[1]), log=True) as deployment:
    print(deployment.url, flush=True)
    sys.stdin.readline()
    print(deployment.log().to_json(), deployment.metrics(), deployment.info(), sep="\\n", flush=True)
"""


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    with running_jupyter(tmp_path_factory.mktemp("jupyter")) as running:
        yield running


@pytest.fixture
def browser(jupyter: Jupyter) -> Iterator[httpx.Client]:
    """What a browser is after the login: it has cookies, and sends them."""
    with httpx.Client(timeout=30, headers=jupyter.login) as client:
        client.get(f"{jupyter.url}/tree", params={"token": jupyter.token})
        assert client.cookies
        yield client


def port_of(url: str) -> int:
    return urlsplit(url).port or 0


def test_docs_dashboard_and_metrics_are_right_under_the_prefix(
    jupyter: Jupyter, browser: httpx.Client, tumour: Fitted
) -> None:
    deployment = mlnb.deploy(tumour.model, name="tumour", example=tumour.rows)
    root = jupyter.through(port_of(deployment.url))
    docs = browser.get(f"{root}/", follow_redirects=True)
    assert str(docs.url) == f"{root}/docs"
    for asset in re.findall(r'(?:src|href)="([^"]+)"', docs.text):
        assert browser.get(urljoin(f"{root}/docs", asset)).status_code == 200, asset

    schema_url = urljoin(f"{root}/docs", re.findall(r"url: '([^']+)'", docs.text)[0])
    schema = browser.get(schema_url).json()
    base = urljoin(schema_url, schema["servers"][0]["url"]).rstrip("/")  # as OpenAPI 3 says, section 4.6.1
    operation = schema["paths"]["/models/tumour/predict"]["post"]
    example = next(iter(operation["requestBody"]["content"]["application/json"]["examples"].values()))["value"]
    assert browser.post(f"{base}/models/tumour/predict", json=example).json()["model"] == "tumour"

    page = browser.get(f"{root}/dashboard").text
    for asset in re.findall(r'(?:src|href)="(?!data:)([^"#]+)"', page):
        assert browser.get(urljoin(f"{root}/dashboard", asset)).status_code == 200, asset
    assert browser.get(f"{root}/dashboard/data").json()
    assert 'mlnb_requests_total{model="tumour"' in browser.get(f"{root}/metrics").text
    assert httpx.get(f"{root}/metrics").status_code in (302, 403), "whoever is not logged in does not come here"


@contextmanager
def listening() -> Iterator[tuple[int, list[bytes]]]:
    """Answer with the headers that came, and keep what is sent, on a thread."""
    sent: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(str(self.headers).encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            sent.append(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self._answer(b"")

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1], sent
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def kernel(folder: Path, *, replicas: int, traces: int) -> Iterator[subprocess.Popen[str]]:
    """Serve in a process that logs all it can, and has written the URL."""
    (folder / "sitecustomize.py").write_text(LOUD)
    environment = os.environ | {
        "PYTHONPATH": str(folder), "MLNB_HOME": str(folder / "models"), "MLNB_DEBUG": "1", "MLNB_ACCESS_LOG": "1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{traces}", "no_proxy": "127.0.0.1",
    }  # fmt: skip
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVING, str(replicas)], env=environment, cwd=folder, stderr=log, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.communicate("\n", timeout=60)


@pytest.mark.parametrize("replicas", [0, 1])
def test_neither_token_nor_cookie_of_jupyter_stays_anywhere(
    jupyter: Jupyter, browser: httpx.Client, tmp_path: Path, replicas: int
) -> None:
    secrets = [jupyter.token, *(str(cookie.value) for cookie in browser.cookies.jar)]
    told = ""
    with listening() as (other, traces):
        handed_on = browser.get(f"{jupyter.through(other)}/").text
        assert all(secret.strip('"') in handed_on for secret in secrets), "else this test would show nothing"
        with kernel(tmp_path, replicas=replicas, traces=other) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            root = jupyter.through(port_of(process.stdout.readline()))
            told += "".join(answers(browser, root, token=jupyter.token))
            process.stdin.write("\n")
            process.stdin.flush()
            told += process.stdout.read()
    assert traces
    kept = {path.name: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    assert b'"status":500' in kept["log"].replace(b" ", b""), "the log is there"
    assert b"needs a number" in kept["predictions.sqlite"], "the prediction log is there, with what was refused"
    kept |= {"told": told.encode()} | {f"trace {number}": body for number, body in enumerate(traces)}
    found = [name for name, content in kept.items() for secret in secrets if secret.strip('"').encode() in content]
    assert found == []


def answers(client: httpx.Client, root: str, *, token: str) -> Iterator[str]:
    """Ask for all that there is, well and badly; yield what the server says of itself."""
    predict = f"{root}/models/touchy/predict"
    statuses = [
        client.post(predict, json={"instances": [[1.0, 2.0]]}).status_code,
        client.post(predict, params={"token": token}, json={"instances": [[2.0, 2.0]]}).status_code,
        client.post(predict, json={"instances": [["warm", 2.0]]}).status_code,
        client.post(predict, json={"instances": [[101.0, 2.0]]}).status_code,
        client.post(predict, content=b"{").status_code,
        client.post(f"{root}/models/nobody/predict", json={"instances": [[1.0, 2.0]]}).status_code,
        client.get(f"{root}/no/such", params={"token": token}).status_code,
    ]
    assert statuses == [200, 200, 422, 500, 400, 404, 404]
    for path in ("metrics", "dashboard/data", "models/touchy/stats", "models/touchy/info", "v2", "livez", "readyz"):
        yield client.get(f"{root}/{path}").raise_for_status().text
