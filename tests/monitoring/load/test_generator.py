from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from waiting import free_port

from mlnb.monitoring.load.benchmark import _target
from mlnb.monitoring.load.generator import measure
from mlnb.monitoring.load.step import Step


def load(
    url: str, *connections: int, seconds: float = 0.2, rate: float | None = None, patience: float = 5
) -> list[Step]:
    """Measure in this process, on the loop that is always there."""

    async def collected() -> list[Step]:
        steps = measure(
            _target(url, b'{"a": 1}', "a/b"), connections=connections, seconds=seconds, rate=rate, patience=patience
        )
        return [step async for step in steps]

    return asyncio.run(collected())


@contextmanager
def raw_server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """Hand each connection to ``serve``, one after the other."""
    listener = socket.create_server(("127.0.0.1", 0))

    def work() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                serve(connection)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
        assert not thread.is_alive()


@pytest.mark.parametrize("path", ["/", "/chunks"])
def test_good_answers_are_counted(url: str, path: str) -> None:
    one, four = load(url + path, 1, 4)
    assert (one.connections, four.connections) == (1, 4)
    for step in (one, four):
        assert step.good > 20
        assert (step.refused, step.failed, step.unsent, step.failure) == (0, 0, 0, "")
        assert step.p50 is not None and step.p90 is not None and step.p99 is not None  # noqa: PT018 - for mypy
        assert 0 < step.p50 <= step.p90 <= step.p99 < 200
        assert 0.2 <= step.seconds < 1
        assert 0 < step.cpu < 1.1


def test_what_was_asked_arrives(url: str, endpoint: object) -> None:
    (step,) = load(f"{url}/status/200?probabilities=1", 2)
    assert vars(endpoint)["body"] == b'{"a": 1}'
    headers = vars(endpoint)["headers"]
    assert headers[b"content-type"] == b"a/b"
    assert headers[b"host"].startswith(b"127.0.0.1:")
    assert vars(endpoint)["asked"] >= step.requests  # the warm-up is not counted


@pytest.mark.alone
def test_latency_is_that_of_the_answers(url: str) -> None:
    (step,) = load(f"{url}/slow/0.05", 4, seconds=0.5)
    assert step.p50 is not None
    assert 50 <= step.p50 < 500
    assert step.throughput == pytest.approx(4 / step.p50 * 1e3, rel=0.4)  # Little's law


def test_a_step_waits_until_as_many_answers_came_as_there_are_connections(url: str) -> None:
    (step,) = load(f"{url}/slow/0.5", 3, seconds=0.1)
    assert step.good == 3
    assert step.seconds > 0.4


def test_refused_is_not_failed(url: str) -> None:
    (step,) = load(f"{url}/busy", 1)
    assert step.failed == 0
    assert abs(step.refused - step.good) <= 1
    assert load(f"{url}/status/429", 1)[0].refused > 0


def test_other_answers_failed_and_end_the_test(url: str) -> None:
    steps = load(f"{url}/status/422", 1, 2, 4)
    assert len(steps) == 1
    assert (steps[0].good, steps[0].refused, steps[0].failure) == (0, 0, "status 422")
    assert steps[0].failed > 0
    assert steps[0].p50 is None


def test_a_connection_that_the_server_closes_is_opened_again(url: str) -> None:
    (step,) = load(f"{url}/breaks/5", 2)
    assert step.failure == "status 500"
    assert 3 * step.failed < step.good < 5 * step.failed + 5


def test_a_hanging_endpoint_ends_in_time(url: str) -> None:
    steps = load(f"{url}/hangs", 3, 4, seconds=0.1, patience=0.3)
    assert [(step.good, step.failed, step.failure) for step in steps] == [(0, 3, "no answer in time")]
    assert steps[0].seconds < 2


def test_nobody_listens() -> None:
    steps = load(f"http://127.0.0.1:{free_port()}", 2, 4, patience=0.2)
    assert len(steps) == 1
    assert steps[0].failed > 0
    assert steps[0].failure.startswith("no connection: ")


def test_answers_that_break_off() -> None:
    def half(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhal")

    with raw_server(half) as url:
        (step,) = load(url, 1)
    assert step.good == 0
    assert step.failed > 1
    assert step.failure == "the connection broke before the answer was complete"


def test_answers_that_are_not_http() -> None:
    def mumble(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"220 smtp ready\r\n\r\n")

    with raw_server(mumble) as url:
        (step,) = load(url, 1)
    assert (step.good, step.failure) == (0, "the answer was not HTTP")


@pytest.mark.alone
def test_a_rate_is_kept(url: str) -> None:
    (step,) = load(url, 8, seconds=0.5, rate=200)
    assert step.throughput == pytest.approx(200, rel=0.3)
    assert (step.failed, step.unsent) == (0, 0)


@pytest.mark.alone
def test_with_a_rate_the_wait_for_a_free_connection_counts(url: str) -> None:
    """Coordinated omission: one connection sends 20/s at most, 100/s are due, so the queue grows all the time."""
    (step,) = load(f"{url}/slow/0.05", 1, seconds=0.6, rate=100)
    assert step.p99 is not None
    assert step.throughput == pytest.approx(19, rel=0.3)
    assert step.p99 > 300
    assert 30 < step.unsent < 90
