from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
from waiting import wait_until

from mlnb.errors import InvalidInputError, MlnbError
from mlnb.monitoring.load import benchmark
from mlnb.monitoring.load.benchmark import run

LOCAL = "http://127.0.0.1:1/x"
LONG = """
import sys
from mlnb.monitoring.load.benchmark import run
print("ready", flush=True)
run(sys.argv[1], b"{}", connections=[2], seconds=20)
"""


def test_a_run_from_a_child_process(url: str, endpoint: Any) -> None:
    before = psutil.Process().children()  # servers that other tests share
    result = run(f"{url}/", b'{"a": 1}', content_type="text/csv", connections=[4, 1, 2, 2], seconds=0.3)
    assert result.url == f"{url}/"
    assert [step.connections for step in result.steps] == [1, 2, 4]
    assert all(step.good > 20 and not step.failed for step in result.steps)
    assert endpoint.body == b'{"a": 1}'
    assert endpoint.headers[b"content-type"] == b"text/csv"
    assert result.verdict.startswith("Takes ")
    assert psutil.Process().children() == before


@pytest.mark.alone
def test_a_slow_endpoint_is_saturated_where_it_queues(url: str, endpoint: Any) -> None:
    result = run(f"{url}/queue/0.01", b"{}", connections=[1, 2, 8], seconds=0.5)
    assert result.saturation is not None
    assert result.saturation.connections in (1, 2)
    assert 30 < result.saturation.throughput < 100
    assert "more connections only wait longer" in repr(result)


def test_the_generator_is_a_program(url: str) -> None:
    """The caller keeps the standard input open: here the shell of a person would."""
    request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
    plan = {
        "host": "127.0.0.1", "port": int(url.rpartition(":")[2]), "size": len(request), "connections": [1, 2],
        "seconds": 0.1, "rate": None, "patience": 1,
    }  # fmt: skip
    command = [sys.executable, "-W", "error", "-m", "mlnb.monitoring.load.generator"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(plan).encode() + b"\n" + request)
        child.stdin.flush()
        steps = [json.loads(line) for line in child.stdout]
        assert child.wait(5) == 0
    assert [step["connections"] for step in steps] == [1, 2]
    assert all(step["good"] > 0 for step in steps)


@pytest.mark.alone
def test_a_rate_is_offered(url: str) -> None:
    result = run(f"{url}/", b"{}", connections=[8], seconds=0.5, rate=100)
    assert result.rate == 100
    assert result.steps[0].throughput == pytest.approx(100, rel=0.3)
    assert result.saturation is None


def test_localhost_by_name(url: str) -> None:
    result = run(url.replace("127.0.0.1", "localhost"), b"{}", connections=[1], seconds=0.1)
    assert result.steps[0].good > 0


def test_paths_and_queries_are_quoted(url: str) -> None:
    assert run(f"{url}/a b/ü?x=ä y", b"{}", connections=[1], seconds=0.1).steps[0].good > 0


@pytest.mark.parametrize(
    "url",
    ["http://example.com/x", "http://10.0.0.1/x", "http://localhost.example.com/", "https://127.0.0.1/", "127.0.0.1:1",
     "http://", "http://127.0.0.1@example.com/", ""],
)  # fmt: skip
def test_only_this_machine(url: str) -> None:
    with pytest.raises(InvalidInputError, match="only to http on this machine"):
        run(url, b"{}")


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/", "http://[::1/"])
def test_not_a_url(url: str) -> None:
    with pytest.raises(InvalidInputError, match="is no URL"):
        run(url, b"{}")


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ({"connections": []}, "from 1 to 256"),
        ({"connections": [0]}, "from 1 to 256"),
        ({"connections": [257]}, "from 1 to 256"),
        ({"connections": [1.5]}, "from 1 to 256"),
        ({"connections": [1, "2"]}, "from 1 to 256"),
        ({"seconds": 0}, "at most 30, not 0"),
        ({"seconds": 31}, "at most 30, not 31"),
        ({"seconds": float("nan")}, "at most 30, not nan"),
        ({"patience": 31}, "at most 30, not 31"),
        ({"rate": 0}, "at most 1,000,000, not 0"),
        ({"rate": -1.0}, "at most 1,000,000, not -1"),
        ({"connections": range(1, 50)}, "49 steps of 1 s, with 10 s for the last answers of each, may take"),
        ({"content_type": "a/b\r\nx: y"}, "is no content type"),
    ],
)
def test_bounds(bounds: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        run(LOCAL, b"{}", **bounds)


def test_the_longest_run_that_is_asked_for_by_default_is_accepted() -> None:
    assert benchmark._checked(benchmark._CONNECTIONS, seconds=30, rate=None, patience=10)


def test_a_generator_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "_PROGRAM", "raise SystemExit('no memory')")
    with pytest.raises(MlnbError, match=r"The load generator ended with 1; no memory\."):
        run(LOCAL, b"{}" * 100_000)


@contextmanager
def running(url: str) -> Iterator[tuple[subprocess.Popen[str], psutil.Process]]:
    """A Python that runs a long benchmark, and its load generator once it sends."""
    with subprocess.Popen(
        [sys.executable, "-c", LONG, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as caller:
        try:
            assert caller.stdout is not None
            assert caller.stdout.readline() == "ready\n"
            wait_until(lambda: bool(psutil.Process(caller.pid).children()))
            yield caller, psutil.Process(caller.pid).children()[0]
        finally:
            caller.kill()


def test_an_interrupt_ends_the_load_at_once(url: str, endpoint: Any) -> None:
    with running(url) as (caller, generator):
        wait_until(lambda: endpoint.asked > 10)
        caller.send_signal(signal.SIGINT)
        _, complaint = caller.communicate(timeout=5)
        assert caller.returncode != 0
        assert complaint.rstrip().endswith("KeyboardInterrupt")
        assert not generator.is_running()


def test_the_load_ends_with_its_caller(url: str, endpoint: Any) -> None:
    with running(url) as (caller, generator):
        wait_until(lambda: endpoint.asked > 10)
        caller.kill()
        caller.wait(5)
        wait_until(lambda: not generator.is_running(), seconds=3)


def test_a_generator_that_is_killed_is_an_error(url: str, endpoint: Any) -> None:
    with running(url) as (caller, generator):
        wait_until(lambda: endpoint.asked > 10)
        generator.kill()
        _, complaint = caller.communicate(timeout=5)
        assert complaint.rstrip().endswith("MlnbError: The load generator ended with SIGKILL.")
