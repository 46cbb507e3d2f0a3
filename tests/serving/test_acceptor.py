from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path

import pytest
from fast_server import GET, TEXT, Client, Running, chunked, post, running
from waiting import wait_until

from mlnb.serving.acceptor import Acceptor


@pytest.fixture(params=["uvloop", "asyncio"], scope="module")
def loop(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture(scope="module")
def server(loop: str) -> Iterator[Running]:
    with running(loop) as server:
        yield server


@pytest.fixture
def here(server: Running) -> Iterator[Running]:
    server.seen.clear()
    yield server
    wait_until(lambda: not server.connections())


def handed_over(here: Running) -> list[tuple[int, bytes]]:
    """Take each connection of ``here`` as soon as it is free; the list fills."""
    taken: list[tuple[int, bytes]] = []
    here.call(lambda: [one.hand_over(lambda *what: taken.append(what)) for one in here.connections()])
    return taken


def adopt(here: Running, taken: list[tuple[int, bytes]]) -> None:
    for descriptor, leftover in taken:
        here.call(lambda descriptor=descriptor, leftover=leftover: here.server.acceptor.adopt(descriptor, leftover))  # type: ignore[misc]


def test_a_connection_goes_on_wherever_its_bytes_are_cut(here: Running) -> None:
    sent = chunked("/echo", b"1", b"22") + post("/echo", b"3") + GET + post("/echo", b"4") + chunked("/echo", b"\r\n")
    for cut in range(len(sent) + 1):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            client = Client(socket.create_connection(listening.getsockname(), timeout=10))
            accepted, _ = listening.accept()
        with client:
            adopt(here, [(accepted.detach(), sent[:cut])])
            client.send(sent[cut:])
            bodies = [client.read().body.removeprefix(b"asgi POST /echo ") for _ in range(5)]
            assert bodies == [b"122", b"3", b"asgi GET /other ", b"4", b"\r\n"], sent[:cut]


def test_an_idle_connection_is_handed_over_unnoticed(here: Running, loop: str) -> None:
    with here.connect() as client, here.connect() as fresh, running(loop) as there:
        assert client.ask(post("/echo", b"here")).body == b"here"
        wait_until(lambda: len(here.connections()) == 2)
        taken = handed_over(here)
        wait_until(lambda: len(taken) == 2 and not here.connections())
        client.send(post("/echo", b"in between"))
        client.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):  # neither an answer nor an end
            client.socket.recv(1)
        client.socket.settimeout(10)
        adopt(there, taken)
        assert Client(client.socket).read().body == b"in between"
        assert fresh.ask(post("/echo", b"fresh")).body == b"fresh"
        assert len(there.seen) == 2


def test_a_busy_connection_is_handed_over_behind_its_answers(here: Running, loop: str) -> None:
    with here.connect() as client, running(loop) as there:
        client.send(post("/held", b"1") + post("/held", b"2"))
        wait_until(lambda: len(here.seen) == 2)
        taken = handed_over(here)
        client.send(post("/echo", b"3") + post("/echo", b"4")[:-4])
        for exchange in here.seen:
            assert taken == []
            here.call(lambda exchange=exchange: exchange.respond(200, TEXT, exchange.body))  # type: ignore[misc]
        wait_until(lambda: len(taken) == 1)
        adopt(there, taken)
        client.send(post("/echo", b"4")[-4:])
        assert [client.read().body for _ in range(4)] == [b"1", b"2", b"3", b"4"]
        assert len(there.seen) == 2


def test_a_request_that_arrives_is_answered_before_its_connection_is_handed_over(here: Running, loop: str) -> None:
    part = post("/echo", b"hello")
    with here.connect() as head, here.connect() as body, running(loop) as there:
        head.send(part[:10])
        body.send(part[:-2])
        wait_until(lambda: sum(bool(one._unread) + bool(one._current) for one in here.connections()) == 2)
        taken = handed_over(here)
        wait_until(lambda: len(taken) == 1)
        assert taken[0][1] == part[:10]
        body.send(part[-2:])
        assert body.read().body == b"hello"
        wait_until(lambda: len(taken) == 2)
        assert taken[1][1] == b""
        adopt(there, taken)
        head.send(part[10:])
        assert head.read().body == body.ask(part).body == b"hello"
        assert (len(here.seen), len(there.seen)) == (1, 2)


def test_a_connection_that_uvicorn_has_is_handed_over_behind_its_answer(here: Running, loop: str) -> None:
    with here.connect() as client, running(loop) as there:
        client.send(b"POST /other HTTP/1.1\r\nContent-Length: 5\r\n\r\nhe")
        wait_until(lambda: [type(one).__name__ for one in here.connections()] == ["_Uvicorn"])
        taken = handed_over(here)
        client.send(b"llo")
        assert client.read().body == b"asgi POST /other hello"
        wait_until(lambda: len(taken) == 1)
        adopt(there, taken)
        assert client.ask(post("/echo", b"there")).body == b"there"
        assert len(there.seen) == 1


def test_a_large_answer_leaves_before_its_connection(here: Running, loop: str) -> None:
    sizes: list[int] = []
    with here.connect() as client, running(loop) as there:
        client.send(post("/big") * 5)
        wait_until(lambda: len(here.seen) > 0)
        taken = handed_over(here)
        reading = threading.Thread(target=lambda: sizes.extend(len(client.read().body) for _ in range(5)))
        reading.start()
        wait_until(lambda: len(taken) == 1)
        adopt(there, taken)
        reading.join(10)
        assert sizes == [1_000_000] * 5
        assert len(here.seen) + len(there.seen) == 5


def test_a_connection_that_ends_is_not_handed_over(here: Running) -> None:
    with here.connect() as client:
        client.send(post("/held"))
        wait_until(lambda: len(here.seen) == 1)
        taken = handed_over(here)
    wait_until(lambda: not here.connections())
    assert taken == []


def test_a_connection_that_nobody_takes_stays(here: Running, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: int, leftover: bytes) -> None:
        raise BrokenPipeError(leftover)

    with here.connect() as client:
        client.send(post("/echo", b"hello")[:-1])
        wait_until(lambda: any(one._current for one in here.connections()))
        here.call(lambda: [one.hand_over(fail) for one in here.connections()])
        assert client.ask(b"o").body == b"hello"
        wait_until(lambda: "could not be handed over" in caplog.text)
        assert client.ask(post("/echo", b"still here")).body == b"still here"


def test_a_stopped_acceptor_leaves_the_socket_to_others(loop: str) -> None:
    with running(loop) as first, running(loop) as second:
        sock = first.server.acceptor._sock
        other = Acceptor(second.server.loop, sock, second.server.protocol)
        second.call(other.start)
        first.call(first.server.acceptor.stop)
        first.call(first.server.acceptor.stop)
        for _ in range(10):
            with first.connect() as client:
                assert client.ask(post("/echo")).status == 200
        assert (len(first.seen), len(second.seen)) == (0, 10)
        second.call(other.stop)
        first.call(first.server.acceptor.start)
        with first.connect() as client:
            assert client.ask(post("/echo")).status == 200
        assert len(first.seen) == 1


def test_at_its_end_it_accepts_those_that_wait(loop: str) -> None:
    clients: list[Client] = []

    def connect_and_finish() -> None:
        clients.extend(here.connect() for _ in range(20))  # which the system tells that they are connected
        acceptor.finish()
        acceptor._sock.close()

    with running(loop) as here:
        acceptor = here.server.acceptor
        acceptor.per_turn = 8
        here.call(connect_and_finish)
        with pytest.raises(ConnectionRefusedError):
            here.connect()
        for client in clients:
            with client:
                assert client.ask(post("/echo")).status == 200


def test_two_may_accept_on_one_socket(here: Running, loop: str) -> None:
    with running(loop) as second:
        other = Acceptor(second.server.loop, here.server.acceptor._sock, second.server.protocol)
        second.call(other.start)
        for _ in range(200):
            with here.connect() as client:
                assert client.ask(post("/echo")).status == 200
        assert len(here.seen) + len(second.seen) == 200
        second.call(other.stop)


def test_a_burst_of_connections_is_let_in_together(here: Running) -> None:
    """uvloop's own server lets one in per turn of the loop, however long a turn takes."""
    free, turns = threading.Event(), 0

    def turn() -> None:
        nonlocal turns
        free.wait(10)
        turns += 1
        if len(here.seen) < 256:
            here.server.loop.call_soon(turn)

    here.server.loop.call_soon_threadsafe(turn)
    with ExitStack() as connections:
        clients = [connections.enter_context(here.connect()) for _ in range(256)]
        for client in clients:
            client.send(post("/echo", b"x"))
        free.set()
        assert [client.read().body for client in clients] == [b"x"] * 256
    assert turns < 30


def test_a_connection_without_a_protocol_is_closed(here: Running, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> asyncio.Protocol:
        raise RuntimeError("no protocol")

    with socket.create_server(("127.0.0.1", 0)) as sock:
        acceptor = Acceptor(here.server.loop, sock, fail)
        here.call(acceptor.start)
        with Client(socket.create_connection(sock.getsockname(), timeout=10)) as client:
            assert client.rest() == b""
        here.call(acceptor.stop)
    wait_until(lambda: "no protocol" in caplog.text)


def test_a_stop_while_it_waits_for_descriptors_holds(here: Running) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock, socket.create_connection(sock.getsockname()):
        acceptor = Acceptor(here.server.loop, sock, here.server.protocol)
        acceptor.pause_seconds = 0.05
        here.call(lambda: acceptor._pause(OSError(errno.EMFILE, "Too many open files")))
        pausing = acceptor._pausing
        here.call(acceptor.stop)
        assert pausing is not None
        assert pausing.cancelled()
        assert acceptor._descriptor is None
        here.call(acceptor.start)
        wait_until(lambda: len(here.connections()) == 1)
        here.call(acceptor.stop)


def test_without_descriptors_it_waits_and_says_so_once(here: Running, caplog: pytest.LogCaptureFixture) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as open_:
        clients = [open_.enter_context(socket.socket()) for _ in range(3)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(client.fileno() for client in clients) + 1, hard))
        try:
            fillers: list[int] = []
            while len(fillers) < 1000:
                try:
                    fillers.append(os.open(os.devnull, os.O_RDONLY))
                except OSError:
                    break
            for client in clients:
                client.settimeout(10)
                client.connect(("127.0.0.1", here.port))
            wait_until(lambda: "No connection can be accepted for now" in caplog.text)
            for filler in fillers:
                os.close(filler)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for client in clients:
            client.sendall(post("/echo", b"x"))
            assert client.recv(1000).endswith(b"x")
    assert caplog.text.count("No connection can be accepted") == 1


class Asking(threading.Thread):
    """Asks on and on which process answers, on one connection or on a new one each time."""

    def __init__(self, port: int, stop: threading.Event, *, kept: bool) -> None:
        super().__init__(daemon=True)
        self._connection = HTTPConnection("127.0.0.1", port, timeout=10)
        self._stop_it = stop
        self._kept = kept
        self.processes: list[int] = []
        self.failure: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            while not self._stop_it.is_set():
                self._ask("POST", "/process")
                self._ask("GET", "/other")
        except Exception as error:
            self.failure = error
        self._connection.close()

    def _ask(self, method: str, path: str) -> None:
        self._connection.request(method, path)
        reply = self._connection.getresponse()
        body = reply.read()
        assert reply.status == 200
        if method == "POST":
            self.processes.append(int(body))
        if not self._kept:
            self._connection.close()


def test_another_process_takes_over_under_load_and_no_request_fails(loop: str) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    program = "import sys, socket, fast_server as f; f.take_over(sys.argv[1], socket.socket(fileno=int(sys.argv[2])))"
    command = [sys.executable, "-c", program, loop, str(theirs.fileno())]
    paths = os.pathsep.join(path for path in [str(Path(__file__).parents[1]), *sys.path] if path)
    stop = threading.Event()
    with (
        running(loop) as here,
        subprocess.Popen(command, pass_fds=[theirs.fileno()], env=os.environ | {"PYTHONPATH": paths}) as child,
        theirs, ours,
    ):  # fmt: skip
        theirs.close()
        asking = [Asking(here.port, stop, kept=number > 1) for number in range(8)]

        def give(descriptor: int, leftover: bytes) -> None:
            socket.send_fds(ours, [b"+" + leftover], [descriptor])
            os.close(descriptor)

        def give_all() -> None:
            for one in here.connections():
                one.hand_over(give)

        def given() -> bool:
            here.call(give_all)
            return not here.connections()

        wait_until(lambda: all(len(one.processes) > 20 for one in asking))
        socket.send_fds(ours, [b"+"], [here.server.acceptor._descriptor or -1])
        assert ours.recv(10) == b"ready"
        here.call(here.server.acceptor.stop)
        wait_until(given)
        counts = [len(one.processes) for one in asking]
        wait_until(lambda: all(len(one.processes) > count + 20 for one, count in zip(asking, counts, strict=True)))
        stop.set()
        for one in asking:
            one.join(10)
        ours.close()
        assert child.wait(10) == 0
    assert [one.failure for one in asking] == [None] * 8
    for one in asking:
        assert set(one.processes) == {os.getpid(), child.pid}
        assert one.processes[-1] == child.pid
