from __future__ import annotations

import asyncio
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from waiting import free_port, is_open, wait_until

from mlnb.errors import PortInUseError, ServerStartError
from mlnb.serving.server import Server

hello = PlainTextResponse("hello")


def get(port: int) -> bytes:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read()
    finally:
        connection.close()


@pytest.fixture
def holder() -> Iterator[tuple[int, int]]:
    """Another program that listens: its port and process id."""
    program = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process.pid
        process.communicate("\n", timeout=5)


def test_it_answers_and_frees_its_port() -> None:
    with Server(hello) as server:
        assert get(server.port) == b"hello"
    assert not is_open(server.port)
    server.stop()


def test_the_same_port_can_be_taken_again_at_once() -> None:
    port = free_port()
    for _ in range(3):
        with Server(hello, port=port) as server:
            assert server.port == port
            assert get(port) == b"hello"


def test_a_kept_connection_is_not_held_back_by_nagle() -> None:
    with Server(hello) as server:
        assert server._socket.proto == socket.IPPROTO_TCP
        connection = HTTPConnection("127.0.0.1", server.port)
        times = []
        for _ in range(30):
            start = time.perf_counter()
            connection.request("POST", "/", body=b"x" * 10)
            connection.getresponse().read()
            times.append(time.perf_counter() - start)
        connection.close()
    assert statistics.median(times) < 0.02  # 44 ms without TCP_NODELAY


def test_a_taken_port_is_refused_and_its_holder_named(holder: tuple[int, int]) -> None:
    port, process = holder
    with pytest.raises(
        PortInUseError, match=rf"Port {port} cannot be used: python.*\(process {process}\) listens on it"
    ):
        Server(hello, port=port)
    assert is_open(port)


@pytest.mark.parametrize("port", [70000, -1])
def test_a_port_that_does_not_exist_is_refused(port: int) -> None:
    with pytest.raises(PortInUseError, match="does not exist"):
        Server(hello, port=port)


def test_without_a_port_a_free_one_is_found() -> None:
    with Server(hello) as first, Server(hello) as second:
        assert first.port != second.port
        assert get(first.port) == get(second.port) == b"hello"


def test_a_server_that_ends_before_it_is_ready_is_an_error_and_not_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        sys.exit(3)  # what uvicorn does when it cannot bind

    monkeypatch.setattr(uvicorn.Server, "startup", fail)
    port = free_port()
    with pytest.raises(ServerStartError, match=r"did not start.*SystemExit\(3\)"):
        Server(hello, port=port).start()
    assert not is_open(port)


def test_an_interrupt_of_the_main_thread_does_not_stop_it() -> None:
    with Server(hello) as server:
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - the signal arrives in between
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)  # ended by the signal
        assert get(server.port) == b"hello"


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_forked_child_keeps_no_copy_of_the_socket() -> None:
    reading, writing = os.pipe()
    with Server(hello) as server:
        child = os.fork()
        if child == 0:  # the child does nothing but outlive the server
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
        os.close(reading)
    try:
        wait_until(lambda: not is_open(server.port))  # the child closes it as it begins
    finally:
        os.close(writing)
        os.waitpid(child, 0)


def test_requests_in_flight_are_finished_before_it_stops() -> None:
    entered, may_go = threading.Event(), threading.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        entered.set()
        await asyncio.to_thread(may_go.wait, 5)
        await hello(scope, receive, send)

    answers: list[bytes] = []
    server = Server(slow).start()
    asking = threading.Thread(target=lambda: answers.append(get(server.port)))
    asking.start()
    assert entered.wait(5)
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    wait_until(lambda: not is_open(server.port))
    may_go.set()
    asking.join(5)
    stopping.join(5)
    assert answers == [b"hello"]


def test_a_client_that_goes_away_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with Server(hello) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"nonsense\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 400")
        assert get(server.port) == b"hello"
    assert capfd.readouterr() == ("", "")


INTERRUPTED = """
import asyncio, os, signal, sys, threading
import uvicorn
from starlette.responses import PlainTextResponse
from mlnb.serving.server import Server

start, port = uvicorn.Server.startup, int(sys.argv[1])

async def interrupted(self, sockets=None):
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.sleep(0.2)
    await start(self, sockets)

uvicorn.Server.startup = interrupted
try:
    Server(PlainTextResponse("hello"), port=port).start()
except KeyboardInterrupt:
    print("interrupted", [thread.name for thread in threading.enumerate()])
"""


def test_an_interrupt_while_it_starts_leaves_nothing() -> None:
    """In a process of its own: the loop that Playwright leaves on this one's main thread would get the signal too."""
    port = free_port()
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(port)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "interrupted ['MainThread']"
    assert not is_open(port)
