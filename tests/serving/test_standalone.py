"""`mlnb serve`, as a shell and a container start it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from fitted import Fitted
from waiting import free_port, is_open, wait_until

from mlnb import ModelRegistry
from mlnb.monitoring.prediction_log import LogSettings, read

SECRET = "correct-horse-battery-staple"  # noqa: S105 - of these tests


@contextmanager
def serving(
    registry: ModelRegistry, *options: str, environ: dict[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `mlnb serve tumour`; give the process and its address once it is ready."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "mlnb",
        "serve",
        "tumour",
        "--registry",
        registry.url,
        "--port",
        str(port),
        *options,
    ]
    own = os.environ | (environ or {})
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=own) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: process.poll() is not None or is_ready(url), seconds=60)
            yield process, url
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(30)


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def stored(registry: ModelRegistry, tumour: Fitted) -> ModelRegistry:
    registry.register(tumour.model, "tumour", example=tumour.rows)
    return registry


@pytest.mark.parametrize("options", [(), ("--replicas", "2", "--policy", "round_robin"), ("--accelerate",)])
def test_it_answers_and_ends_cleanly(stored: ModelRegistry, tumour: Fitted, options: tuple[str, ...]) -> None:
    with serving(stored, *options) as (process, url):
        answer = httpx.post(f"{url}/models/tumour/predict", json={"instances": tumour.lists}, timeout=30).json()
        assert answer["prediction"] == tumour.predictions.tolist()
        assert httpx.post(f"{url}/predict", json={"features": tumour.lists[0]}, timeout=30).status_code == 200
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) == (3 if "2" in options else 0)  # a zygote and two replicas
        process.terminate()
        assert process.wait(30) == 0
        assert process.stdout is not None
        said = process.stdout.read()
    assert f"tumour:1 answers at {url}/models/tumour/predict" in said
    assert ("ONNX" in said or "times" in said or "x faster" in said) is ("--accelerate" in options)
    assert not [one for one in family if one.is_running()]


def test_it_says_where_the_dashboard_is_and_where_it_logs(
    stored: ModelRegistry, tumour: Fitted, tmp_path: Path
) -> None:
    hidden, hashed, *_ = stored.version("tumour").signature.names
    options = ("--log-to", str(tmp_path / "log.sqlite"), "--leave-out", hidden, "--hash", hashed)
    with serving(stored, *options) as (process, url):
        httpx.post(f"{url}/models/tumour/predict", json={"instances": tumour.lists[:1]}, timeout=30).raise_for_status()
        assert httpx.get(f"{url}/dashboard", timeout=30).status_code == 200
        process.terminate()
        assert process.wait(30) == 0
        assert process.stdout is not None
        said = process.stdout.read()
    assert f"dashboard at {url}/dashboard, docs at {url}/docs; " in said
    assert f"predictions are logged to sqlite:///{tmp_path / 'log.sqlite'}\n" in said
    logged = read(LogSettings(url=str(tmp_path / "log.sqlite")), "tumour")
    assert len(logged) == 1
    assert hidden not in logged.columns or logged[hidden].isna().all()
    assert logged[hashed].iloc[0] != tumour.lists[0][1]


def test_readiness_turns_false_first_and_no_request_is_lost(stored: ModelRegistry, tumour: Fitted) -> None:
    answers: list[int] = []
    refused = threading.Event()

    def ask(url: str) -> None:
        while True:
            try:
                answers.append(httpx.post(f"{url}/predict", json={"features": tumour.lists[0]}, timeout=30).status_code)
            except httpx.ConnectError:
                refused.set()
                return

    with serving(stored, "--grace", "1") as (process, url):
        asking = threading.Thread(target=ask, args=(url,))
        asking.start()
        wait_until(lambda: len(answers) > 5)
        process.terminate()
        wait_until(lambda: httpx.get(f"{url}/readyz").status_code == 503)
        before = len(answers)
        wait_until(lambda: len(answers) > before)  # it still answers
        last = httpx.post(f"{url}/predict", json={"features": tumour.lists[0]})
        assert last.headers["connection"] == "close"  # so that a client's next request goes where it is awaited
        assert httpx.get(f"{url}/livez").status_code == 200
        assert process.wait(30) == 0
        asking.join(30)
    assert refused.is_set()
    assert set(answers) == {200}


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104 - with a token
def test_reached_from_elsewhere_it_asks_for_its_token(
    stored: ModelRegistry, tumour: Fitted, tmp_path: Path, host: str
) -> None:
    (file := tmp_path / "token").write_text(SECRET + "\n")
    told = ("--token-file", str(file)) if host == "::" else ("--replicas", "1")
    row = {"features": tumour.lists[0]}
    with serving(stored, "--host", host, *told, environ={"MLNB_TOKEN": SECRET}) as (process, url):
        places = ["/predict", "/models/tumour/predict", "/metrics", "/dashboard", "/models/tumour/info"]
        for auth, status in ((None, 401), (("", "a-guess-of-the-token"), 401), (("any", SECRET), 200)):
            for place in places:
                method, body = ("POST", row) if place.endswith("predict") else ("GET", None)
                assert httpx.request(method, url + place, json=body, auth=auth, timeout=30).status_code == status
        bearer = {"authorization": f"Bearer {SECRET}"}
        answer = httpx.post(f"{url}/predict", json=row, headers=bearer, timeout=30)
        assert answer.json()["prediction"] == [tumour.predictions.tolist()[0]]
        if host == "::":
            six = url.replace("127.0.0.1", "[::1]")
            assert httpx.post(f"{six}/predict", json=row, timeout=30).status_code == 401
            assert httpx.post(f"{six}/predict", json=row, headers=bearer, timeout=30).status_code == 200
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        assert not [one for one in family if SECRET in " ".join(one.cmdline())]
        metrics = httpx.get(f"{url}/metrics", headers=bearer, timeout=30).text
        process.terminate()
        assert process.wait(30) == 0
        assert process.stdout is not None
        said = process.stdout.read()
    assert f"tumour:1 answers at {url}/models/tumour/predict (" in said
    assert "), and on every address of this machine; dashboard at " in said
    assert "; it asks for the token\n" in said
    assert SECRET not in said + metrics


def test_the_end_of_its_parent_by_ctrl_c(stored: ModelRegistry) -> None:
    with serving(stored, "--replicas", "1") as (process, url):
        family = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(30) == 0
        assert not is_open(int(url.rpartition(":")[2]))
    wait_until(lambda: not any(one.is_running() for one in family))


def test_killed_it_leaves_no_replica(stored: ModelRegistry) -> None:
    with serving(stored, "--replicas", "2") as (process, _):
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait(30)
    wait_until(lambda: not any(one.is_running() for one in family))


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nothing"], 1, "There is no model 'nothing'"),
        (["tumour:7"], 1, "has no version 7"),
        (["tumour", "--replicas", "-1"], 2, "whole number from 0 to 64"),
        (["tumour", "--timeout", "soon"], 2, "number of seconds"),
        (["tumour", "--timeout", "0"], 2, "number of seconds above 0"),
        (["tumour", "--policy", "best"], 1, "There are: least_loaded"),
        (["tumour", "--port", "70000"], 1, "Port 70000 does not exist"),
        (["tumour", "--host", "::"], 1, "no token is given: --token-file FILE or MLNB_TOKEN."),
        (["tumour", "--token-file", os.devnull], 1, "The token file '/dev/null': the token is empty; a token is "),
    ],
)
def test_mistakes_are_said_in_one_line(stored: ModelRegistry, arguments: list[str], code: int, says: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "mlnb", "serve", *arguments, "--registry", stored.url],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == code
    assert says.lower() in ended.stderr.lower()
    assert len(ended.stderr.splitlines()) == 1
