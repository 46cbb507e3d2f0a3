from __future__ import annotations

import asyncio
import gc
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from fast_server import GET, MAX_BODY, TEXT, Running, chunked, post, running
from waiting import is_open, wait_until

from mlnb.serving.protocol import PredictProtocol


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


class Silent(asyncio.Protocol):
    """Answers nothing."""


def problem_status(answer: bytes) -> int:
    """Return the status of a problem, behind which the connection closes."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    status: int = json.loads(body)["status"]
    assert head.startswith(b"HTTP/1.1 %d " % status)
    return status


def test_a_request_is_answered(here: Running) -> None:
    with here.connect() as client:
        reply = client.ask(post("/echo?x=1&y=?", b"hello", "X-Some:  Thing ", "x-some: other", "Empty:"))
        assert (reply.status, reply.body) == (200, b"hello")
        assert set(reply.headers) == {"content-type", "content-length", "date"}
        (seen,) = here.seen
        assert (seen.path, seen.query, seen.body, seen.gone) == (b"/echo", b"x=1&y=?", b"hello", False)
        assert seen.header(b"x-some") == b"Thing"
        assert seen.header(b"empty") == seen.header(b"some") == seen.header(b"x") == b""
        assert seen.headers == [
            (b"host", b"test"), (b"content-length", b"5"),
            (b"x-some", b"Thing"), (b"x-some", b"other"), (b"empty", b""),
        ]  # fmt: skip


def test_a_connection_is_kept(here: Running) -> None:
    before = here.server.server_state.total_requests
    with here.connect() as client:
        for number in range(20):
            assert client.ask(post("/echo", b"%d" % number)).body == b"%d" % number
        assert client.ask(b"POST /echo HTTP/1.1\r\n\r\n").body == b""
        assert here.server.server_state.total_requests == before + 21
        assert len(here.connections()) == 1


def test_a_connection_closes_when_its_client_asks(here: Running) -> None:
    with here.connect() as client:
        client.send(post("/echo", b"a", "Connection: close") + post("/echo", b"never answered"))
        reply = client.read()
        assert (reply.body, reply.headers["connection"]) == (b"a", "close")
        assert client.rest() == b""
        assert len(here.seen) == 1


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (GET, b"asgi GET /other "),
        (post("/other", b"x"), b"asgi POST /other x"),
        (chunked("/other", b"x", b"yz"), b"asgi POST /other xyz"),
        (post("/ec%68o", b"x"), b"asgi POST /echo x"),
        (b"PUT /echo HTTP/1.1\r\n\r\n", b"asgi PUT /echo "),
        (b"\r\n" + post("/echo", b"x"), b"asgi POST /echo x"),
        (b"POST /echo HTTP/1.0\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\nx", b"asgi POST /echo x"),
    ],
)
def test_every_other_request_goes_to_uvicorn(here: Running, sent: bytes, said: bytes) -> None:
    with here.connect() as client:
        assert client.ask(sent).body == said
        assert here.seen == []


def test_a_head_request_goes_to_uvicorn(here: Running) -> None:
    with here.connect() as client:
        client.send(b"HEAD /echo HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert client.rest().endswith(b"\r\n\r\n")
        assert here.seen == []


def test_a_connection_comes_back_from_uvicorn(here: Running) -> None:
    with here.connect() as client:
        for number in range(5):
            assert client.ask(GET).body == b"asgi GET /other "
            assert client.ask(post("/echo", b"x")).body == b"x"
            assert len(here.seen) == number + 1
            wait_until(lambda: [type(one).__name__ for one in here.connections()] == ["Limited"])


def test_requests_sent_at_once_are_answered_in_order(here: Running) -> None:
    sent = post("/echo", b"1") + post("/echo", b"2") + GET + post("/echo", b"3") + post("/other", b"4")
    sent += chunked("/echo", b"5", b"\r\n\r\n6") + post("/echo", b"7")
    bodies = [b"1", b"2", b"asgi GET /other ", b"3", b"asgi POST /other 4", b"5\r\n\r\n6", b"7"]
    with here.connect() as client:
        client.send(sent * 5)
        received = [client.read().body for _ in range(7 * 5)]
    # What was sent behind a request for uvicorn in the same piece is answered by uvicorn
    assert [body.removeprefix(b"asgi POST /echo ") for body in received] == bodies * 5


def test_answers_leave_in_the_order_of_the_requests(here: Running) -> None:
    with here.connect() as client:
        client.send(b"".join(post("/held", b"%d" % number) for number in range(5)) + GET)
        wait_until(lambda: len(here.seen) == 5)
        for exchange in reversed(here.seen):
            here.call(lambda exchange=exchange: exchange.respond(200, TEXT, exchange.body))  # type: ignore[misc]
        bodies = [client.read().body for _ in range(6)]
    assert bodies == [b"0", b"1", b"2", b"3", b"4", b"asgi GET /other "]


def test_only_the_first_answer_counts(here: Running) -> None:
    with here.connect() as client:
        client.send(post("/held"))
        wait_until(lambda: len(here.seen) == 1)
        here.call(lambda: here.seen[0].respond(200, TEXT, b"first"))
        here.call(lambda: here.seen[0].respond(200, TEXT, b"second"))
        assert client.read().body == b"first"
        assert client.ask(post("/echo", b"third")).body == b"third"


def test_bodies_in_chunks_and_with_trailers(here: Running) -> None:
    with here.connect() as client:
        assert client.ask(chunked("/echo", b"a", b"\r\n\r\n", b"c" * 5000)).body == b"a\r\n\r\n" + b"c" * 5000
        assert client.ask(chunked("/echo")).body == b""
        trailer = chunked("/echo", b"x")[:-2] + b"X-Sum: 1\r\nX-Other: 2\r\n\r\n"
        assert client.ask(trailer + post("/echo", b"next")).body == b"x"
        assert client.read().body == b"next"
        assert len(here.seen) == 4


def test_a_client_that_asks_whether_to_go_on_is_told(here: Running) -> None:
    with here.connect() as client:
        head, body = post("/echo", b"hello", "Expect: 100-continue").split(b"\r\n\r\n")
        for _ in range(2):
            assert client.ask(head + b"\r\n\r\n").status == 100
            assert client.ask(body).body == b"hello"
        assert client.ask(head + b"\r\n\r\n" + body).body == b"hello"  # it did not wait
        assert len(here.seen) == 3


def test_a_client_that_offers_another_protocol_is_answered_in_this_one(here: Running) -> None:
    with here.connect() as client:
        for _ in range(2):
            offer = post(
                "/echo", b"x", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAAA"
            )
            assert client.ask(offer).body == b"x"
        assert len(here.seen) == 2


def test_a_body_up_to_the_limit_is_taken(here: Running) -> None:
    with here.connect() as client:
        assert client.ask(post("/length", bytes(MAX_BODY))).body == b"%d" % MAX_BODY
        assert client.ask(chunked("/length", bytes(MAX_BODY - 100))).body == b"%d" % (MAX_BODY - 100)
        assert len(here.seen) == 2


@pytest.mark.parametrize("make", [post, chunked])
def test_a_body_over_the_limit_is_refused(here: Running, make: type) -> None:
    with here.connect() as client:
        sending = threading.Thread(
            target=client.send, args=[post("/echo", b"before") + make("/echo", bytes(3_000_000))]
        )
        sending.start()
        assert client.read().body == b"before"
        reply = client.read()
        assert (reply.status, reply.body, reply.headers["connection"]) == (413, b"too large", "close")
        assert client.rest() == b""
        sending.join(10)
        assert len(here.seen) == 1


def test_a_client_that_asks_with_too_large_a_body_need_not_send_it(here: Running) -> None:
    with here.connect() as client:
        head = post("/echo", bytes(MAX_BODY + 1), "Expect: 100-continue")[: -MAX_BODY - 1]
        assert client.ask(head).status == 413
        assert client.rest() == b""
        assert here.seen == []


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /echo HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nA b: c\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nA: b\r\n folded\r\nContent-Length: 0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nContent-Length : 3\r\n\r\nabc",
        b"POST /echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nContent-Length: +1\r\n\r\na",
        b"POST /echo HTTP/1.1\r\nContent-Length: 1_0\r\n\r\n0123456789",
        b"POST /echo HTTP/1.1\r\nContent-Length: 9999999999999999999999\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /echo HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n",
        b"POST /echo HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\nz",
        b"POST /echo HTTP/1.1\r\nA: b\nContent-Length: 3\r\n\r\nabc",
        b"POST /echo HTTP/1.1\r\nA: b\x00\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused(here: Running, sent: bytes) -> None:
    with here.connect() as client:
        client.send(post("/echo", b"before") + sent)
        assert client.read().body == b"before"
        client.socket.shutdown(socket.SHUT_WR)
        assert problem_status(client.rest()) == 400
        assert len(here.seen) == 1


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /echo HTTP/1.1\r\nA: " + b"x" * 70_000,
        b"POST /" + b"x" * 70_000,
        post("/echo", b"", "A: " + "x" * 70_000),
    ],
)
def test_too_long_a_head_is_refused(here: Running, sent: bytes) -> None:
    with here.connect() as client:
        client.send(sent)
        client.socket.shutdown(socket.SHUT_WR)
        assert problem_status(client.rest()) == 431
    assert here.seen == []


def test_a_long_head_is_taken(here: Running) -> None:
    with here.connect() as client:
        assert client.ask(post("/echo", b"x", "A: " + "x" * 60_000)).body == b"x"


def test_a_handler_that_fails_is_an_error_of_the_server(here: Running, caplog: pytest.LogCaptureFixture) -> None:
    with here.connect() as client:
        client.send(post("/fails"))
        assert problem_status(client.rest()) == 500
        assert "ZeroDivisionError" in caplog.text
        with here.connect() as other:
            assert other.ask(post("/echo", b"x")).body == b"x"


@pytest.mark.parametrize("part", [b"P", b"POST /echo HTT", post("/echo", b"hello")[:-10], post("/echo", b"hello")[:-1]])
def test_a_request_that_does_not_arrive_is_given_up(loop: str, part: bytes) -> None:
    with running(loop, request_seconds=0.1, look_seconds=0.05, linger_seconds=0.1) as here, here.connect() as client:
        assert client.ask(post("/echo", b"x")).status == 200
        client.send(part)
        assert problem_status(client.rest()) == 408
        assert len(here.seen) == 1


def test_a_head_that_uvicorn_waits_for_is_given_up(loop: str) -> None:
    with running(loop, request_seconds=0.1, look_seconds=0.05) as here, here.connect() as client:
        assert client.ask(GET).status == 200
        client.send(GET[:-2])
        assert client.rest() == b""


def test_an_idle_connection_closes(loop: str) -> None:
    with (
        running(loop, idle_seconds=0.1, look_seconds=0.05, request_seconds=0.02) as here,
        here.connect() as silent,
        here.connect() as used,
        here.connect() as waiting,
    ):
        waiting.send(post("/held"))
        assert used.ask(post("/echo", b"x")).status == 200
        assert used.ask(GET).status == 200
        assert silent.rest() == used.rest() == b""
        assert len(here.connections()) == 1
        (held,) = [exchange for exchange in here.seen if exchange.path == b"/held"]
        here.call(lambda: held.respond(200, TEXT, b"in time"))
        assert waiting.read().body == b"in time"


def test_a_connection_that_became_another_protocol_is_left_alone(loop: str) -> None:
    with running(loop, idle_seconds=0.02, look_seconds=0.05) as here, here.connect() as client:
        wait_until(lambda: len(here.connections()) == 1)
        (connection,) = here.connections()
        here.call(lambda: connection._transport.set_protocol(Silent()))
        wait_until(lambda: connection._timer.when() + 0.2 < here.server.loop.time())
        client.socket.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.socket.recv(1)
        here.call(lambda: connection.connection_lost(None))


def test_a_client_that_does_not_read_is_given_up(loop: str) -> None:
    with running(loop, unread_seconds=0.2, look_seconds=0.05) as here, here.connect() as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.send(post("/big") * 30)
        wait_until(lambda: len(here.seen) > 0 and not here.connections())
        assert len(here.seen) < 30  # those behind were not computed


def test_a_client_that_reads_late_gets_all(here: Running) -> None:
    with here.connect() as client:
        client.send(post("/big") * 30)
        wait_until(lambda: len(here.seen) > 0)
        for _ in range(30):
            assert len(client.read().body) == 1_000_000
        assert client.ask(GET).status == 200


def test_so_many_requests_of_one_connection_wait_and_no_more(loop: str) -> None:
    with running(loop, in_flight=4) as here, here.connect() as client:
        client.send(b"".join(post("/held", b"%d" % number) for number in range(50)))
        for number in range(50):
            wait_until(lambda number=number: len(here.seen) > number)  # type: ignore[misc]
            assert len(here.seen) <= number + 4
            here.call(lambda number=number: here.seen[number].respond(200, TEXT, here.seen[number].body))  # type: ignore[misc]
            assert client.read().body == b"%d" % number


def test_it_is_seen_that_a_client_went_away(here: Running) -> None:
    with here.connect() as client:
        client.send(post("/held") * 2)
        wait_until(lambda: len(here.seen) == 2)
    wait_until(lambda: all(exchange.gone for exchange in here.seen))
    here.call(lambda: here.seen[1].respond(200, TEXT, b"to nobody"))


def stopping(stop: threading.Thread, port: int) -> None:
    stop.start()
    wait_until(lambda: not is_open(port))


def test_a_stop_answers_what_is_outstanding(loop: str) -> None:
    with running(loop) as here, here.connect() as idle, here.connect() as held, here.connect() as partly:
        assert idle.ask(post("/echo")).status == 200
        held.send(post("/held") * 2)
        partly.send(post("/echo", b"hello")[:-1])
        wait_until(lambda: len(here.seen) == 3)
        wait_until(lambda: any(one._current for one in here.connections()))
        stop = threading.Thread(target=here.stop)
        stopping(stop, here.port)
        assert idle.rest() == b""
        partly.send(b"o")
        reply = partly.read()
        assert (reply.body, reply.headers["connection"]) == (b"hello", "close")
        for exchange in here.seen[1:3]:
            here.call(lambda exchange=exchange: exchange.respond(200, TEXT, b"done"))  # type: ignore[misc]
        assert "connection" not in held.read().headers
        assert held.read().headers["connection"] == "close"
        assert held.rest() == partly.rest() == b""
        stop.join(10)


def protocols() -> int:
    gc.collect()
    return sum(issubclass(type(one), PredictProtocol) for one in gc.get_objects())  # isinstance asks proxies


def test_a_connection_leaves_nothing_behind(here: Running) -> None:
    before = protocols()  # a test that failed keeps its own
    for _ in range(20):
        with here.connect() as client:
            assert client.ask(post("/echo")).status == client.ask(GET).status == 200
    wait_until(lambda: not here.connections())
    here.seen.clear()
    assert protocols() <= before


def test_a_kept_connection_is_not_held_back(here: Running) -> None:
    with here.connect() as client:
        start = time.perf_counter()
        for _ in range(30):
            client.ask(post("/echo", b"x"))
        assert time.perf_counter() - start < 0.6  # 44 ms each without TCP_NODELAY
