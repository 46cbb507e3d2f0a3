from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import pytest
from endpoints import Endpoint, endpoints, hang_up, speaking
from waiting import free_port

from mlnb.errors import InvalidInputError
from mlnb.scaling.remote import RemoteReplica, checked_url, outcome_of

T = TypeVar("T")


def use(url: str, job: Callable[[RemoteReplica], Awaitable[T]], *, timeout: float = 5) -> T:
    """Run ``job`` with a replica; it leaves no task behind."""

    async def run() -> T:
        async with RemoteReplica(url, timeout=timeout) as replica:
            result = await job(replica)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    return asyncio.run(run())


async def read(replica: RemoteReplica, method: str = "GET", target: str = "/", **parts: Any) -> tuple[int, bytes]:
    answer = await replica.send(method, target, **parts)
    return answer.status, await answer.read()


@pytest.mark.parametrize(
    ("url", "checked"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("https://models.example/", "https://models.example"),
        ("http://[::1]:8000/models/iris//", "http://[::1]:8000/models/iris"),
    ],
)
def test_what_is_an_endpoint(url: str, checked: str) -> None:
    assert checked_url(url) == checked


@pytest.mark.parametrize(
    "url",
    ["", "iris", "127.0.0.1:8000", "ftp://a/b", "http://", "http://a:0", "http://a:x", "http://a:99999", "http://a/?q=1",
     "http://a/#b", "http://a b/", "http://a/\r\n", "http://ä/", "file:///etc/passwd", None, 5, b"http://a"],
)  # fmt: skip
def test_what_is_none(url: Any) -> None:
    with pytest.raises(InvalidInputError, match="is no endpoint; give it as http://HOST:PORT"):
        RemoteReplica(url)


@pytest.mark.parametrize(
    ("status", "retry_after", "outcome"),
    [
        (200, False, "answered"), (304, False, "answered"), (404, False, "answered"), (429, True, "answered"),
        (500, False, "failed"), (500, True, "failed"), (501, False, "answered"), (502, False, "failed"),
        (503, False, "failed"), (503, True, "overloaded"), (504, True, "failed"),
    ],
)  # fmt: skip
def test_what_a_status_tells(status: int, retry_after: bool, outcome: str) -> None:
    assert outcome_of(status, retry_after=retry_after) == outcome


def test_a_request_arrives_as_it_was_sent() -> None:
    async def send(replica: RemoteReplica) -> dict[str, Any]:
        headers = [(b"x-one", b"1"), (b"x-one", b"2"), (b"x-umlaut", "ü".encode()), (b"content-type", b"a/b")]
        _, body = await read(replica, "PUT", "/a%2fb/%2e?q=%20&q=+", headers=headers, body=b"hello")
        asked: dict[str, Any] = json.loads(body)
        return asked

    with endpoints(1) as [(_, server)]:
        asked = use(f"{server.url}/base/", send)
        port = server.port
    assert (asked["method"], asked["target"], asked["body"]) == ("PUT", "/base/a%2fb/%2e?q=%20&q=+", "hello")
    umlaut = "ü".encode().decode("latin-1")
    assert sorted(map(tuple, asked["headers"])) == sorted(
        [("host", f"127.0.0.1:{port}"), ("x-one", "1"), ("x-one", "2"), ("x-umlaut", umlaut), ("content-type", "a/b"),
         ("content-length", "5")]
    )  # fmt: skip


def test_a_body_may_come_in_pieces() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 50_000

    with endpoints(1) as [(_, server)]:
        status, body = use(server.url, lambda replica: read(replica, "POST", "/x", body=pieces()))
    assert (status, json.loads(body)["length"]) == (200, 5_000_000)


def test_an_answer_comes_in_pieces() -> None:
    async def pieces(replica: RemoteReplica) -> int:
        answer = await replica.send("GET", "/stream?chunks=50")
        assert answer.length is None
        total = 0
        while chunk := await answer.next_chunk():
            total += len(chunk)
        return total

    with endpoints(1) as [(_, server)]:
        assert use(server.url, pieces) == 50 * 64 * 2**10


def test_one_connection_serves_many_requests() -> None:
    connections: set[Any] = set()

    class Counting(Endpoint):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            connections.add(tuple(scope["client"]))
            await super().__call__(scope, receive, send)

    from mlnb.serving.server import Server

    async def several(replica: RemoteReplica) -> None:
        for _ in range(5):
            await read(replica)

    with Server(Counting(), port=0) as server:
        use(server.url, several)
    assert len(connections) == 1


def test_nobody_there_is_refused() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ConnectionRefusedError, match=f"No connection to {url}: "):
        use(url, read)


def test_after_closing_it_refuses() -> None:
    async def reopen(replica: RemoteReplica) -> None:
        await replica.close()
        await read(replica)

    with pytest.raises(ConnectionRefusedError, match="was closed here"):
        use("http://127.0.0.1:9", reopen)


def test_one_that_hangs_up_went_away() -> None:
    with speaking(hang_up) as url, pytest.raises(ConnectionError, match=f"{url} went away: ") as caught:
        use(url, read)
    assert not isinstance(caught.value, ConnectionRefusedError)


@pytest.mark.parametrize("answer", [b"what?\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
def test_what_is_no_whole_answer_is_an_error(answer: bytes) -> None:
    def speak(_: int, connection: socket.socket) -> None:
        connection.recv(2**16)
        connection.sendall(answer)

    with speaking(speak) as url, pytest.raises(ConnectionError, match="went away"):
        use(url, read)


def test_one_that_is_silent_takes_too_long() -> None:
    with endpoints(1) as [(_, server)], pytest.raises(TimeoutError, match="took too long to answer"):
        use(server.url, lambda replica: read(replica, "GET", "/hold"), timeout=0.2)


def test_readiness_is_asked_below_the_path_or_of_the_server() -> None:
    with endpoints(1) as [(app, server)]:
        assert use(server.url, lambda replica: replica.is_ready())
        app.ready = False
        assert not use(server.url, lambda replica: replica.is_ready())
        assert app.seen == {"/readyz": 2}


@pytest.mark.parametrize(
    ("statuses", "ready"), [((404, 503), False), ((404, 404), True), ((500,), True), ((503,), False)]
)
def test_without_the_route_an_answer_is_enough(statuses: tuple[int, ...], ready: bool) -> None:
    asked = []

    def speak(number: int, connection: socket.socket) -> None:
        asked.append(connection.recv(2**16).split()[1])
        connection.sendall(b"HTTP/1.1 %d .\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % statuses[number])

    with speaking(speak) as url:
        assert use(f"{url}/models/iris", lambda replica: replica.is_ready()) == ready
    assert asked == [b"/models/iris/readyz", b"/readyz"][: len(statuses)]


def test_nobody_there_is_not_ready() -> None:
    assert not use(f"http://127.0.0.1:{free_port()}", lambda replica: replica.is_ready())
    with speaking(hang_up) as url:
        assert not use(url, lambda replica: replica.is_ready())
