from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPMessage, IncompleteRead
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import psutil
import pytest
from endpoints import Process, endpoints, hang_up, speaking
from threads import mlnb_threads
from waiting import free_port, is_open, wait_until

from mlnb.errors import InvalidInputError, PortInUseError, ReplicaError, StoppedError
from mlnb.scaling.balancing import POLICIES
from mlnb.scaling.health import FIRST_SHARE, SLOW_START
from mlnb.scaling.members import EndpointSnapshot
from mlnb.serving.forwarding import REPLAY_BYTES, answer_headers, is_repeatable, request_headers
from mlnb.serving.load_balancer import LoadBalancer
from mlnb.serving.server import Server

ROWS = b'{"instances": [[1, 2]]}'


@contextmanager
def connected(balancer: LoadBalancer) -> Iterator[HTTPConnection]:
    connection = HTTPConnection("127.0.0.1", int(balancer.url.rpartition(":")[2]), timeout=20)
    try:
        yield connection
    finally:
        connection.close()


def ask(
    balancer: LoadBalancer, path: str = "/", *, method: str = "GET", body: Any = None, headers: Any = None
) -> tuple[int, HTTPMessage, bytes]:
    with connected(balancer) as connection:
        connection.request(method, path, body, headers or {}, encode_chunked=not isinstance(body, bytes | None))
        response = connection.getresponse()
        return response.status, response.headers, response.read()


def predict(connection: HTTPConnection) -> str:
    """Return which endpoint predicted, and that rightly."""
    connection.request("POST", "/predict", ROWS, {"content-type": "application/json"})
    response = connection.getresponse()
    body = response.read()
    assert response.status == 200, body
    answer = json.loads(body)
    assert answer["prediction"] == [3]
    by: str = answer["by"]
    return by


def predictions(balancer: LoadBalancer, count: int) -> list[str]:
    with connected(balancer) as connection:
        return [predict(connection) for _ in range(count)]


def state(balancer: LoadBalancer, url: str) -> EndpointSnapshot:
    return next(one for one in balancer.snapshot() if one.url == url)


def balanced(*servers: Server | str, **options: Any) -> LoadBalancer:
    urls = [one if isinstance(one, str) else one.url for one in servers]
    return LoadBalancer(urls, **{"policy": "round_robin"} | options)


class Clock:
    """The real one, which can be set forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


def test_a_request_and_its_answer_go_through_as_they_are() -> None:
    with endpoints(1) as [(app, server)], balanced(server) as balancer:
        app.headers = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"content-encoding", b"gzip"),
                       (b"keep-alive", b"timeout=5"), (b"x-secret", b"hop"), (b"connection", b"x-secret")]  # fmt: skip
        headers = {"x-one": "1", "accept-encoding": "gzip", "te": "trailers", "connection": "keep-alive, x-mine",
                   "x-mine": "hop", "x-forwarded-for": "10.0.0.9", "via": "1.0 fred", "host": "a.example"}  # fmt: skip
        status, answered, body = ask(balancer, "/a%2fb?q=%20", method="PATCH", body=b"hello", headers=headers)
        host = server.url.removeprefix("http://")
    asked = json.loads(body)
    assert (status, asked["method"], asked["target"], asked["body"]) == (200, "PATCH", "/a%2fb?q=%20", "hello")
    assert dict(asked["headers"]) == {
        "host": host, "x-one": "1", "accept-encoding": "gzip", "content-length": "5", "via": "1.0 fred, 1.1 mlnb",
        "x-forwarded-for": "10.0.0.9, 127.0.0.1", "x-forwarded-host": "a.example", "x-forwarded-proto": "http",
    }  # fmt: skip
    assert answered.get_all("set-cookie") == ["a=1", "b=2"]
    assert (answered["content-encoding"], answered["via"]) == ("gzip", "1.1 mlnb")
    assert len(answered.get_all("date", [])) == 1
    assert not {"x-secret", "keep-alive"} & set(answered.keys())


def test_any_method_goes_through() -> None:
    with endpoints(1) as [(_, server)], balanced(server) as balancer:
        for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "QUERY"):
            assert json.loads(ask(balancer, "/x", method=method)[2])["method"] == method
        status, headers, body = ask(balancer, "/x", method="HEAD")
        assert (status, body, int(headers["content-length"]) > 0) == (200, b"", True)


def test_any_status_goes_through() -> None:
    statuses = [201, 204, 302, 304, 404, 422, 429, 500, 501]
    with endpoints(2) as [(_, a), (_, b)], balanced(a, b) as balancer:
        assert [ask(balancer, f"/status/{status}")[0] for status in statuses] == statuses
        assert sum(one.requests for one in balancer.snapshot()) == len(statuses)


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"304 Not Modified\r\nContent-Length: 99\r\n\r\n", 304, b""),
        (b"200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 200, b"hello"),
        (b"200 OK\r\n\r\nuntil the end", 200, b"until the end"),
        (b"103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
    ],
)
def test_any_way_to_say_where_an_answer_ends(answer: bytes, status: int, body: bytes) -> None:
    def speak(_: int, connection: socket.socket) -> None:
        connection.recv(2**16)
        connection.sendall(b"HTTP/1.1 " + answer)

    with speaking(speak) as url, balanced(url) as balancer:
        assert ask(balancer)[::2] == (status, body)


def test_a_length_beside_chunks_is_not_passed_on() -> None:
    both = [(b"content-length", b"3"), (b"transfer-encoding", b"chunked"), (b"x-a", b"1")]
    scope = {"headers": both, "scheme": "http", "client": None}
    assert request_headers(scope) == [
        (b"x-a", b"1"), (b"via", b"1.1 mlnb"), (b"x-forwarded-for", b"unknown"), (b"x-forwarded-proto", b"http")
    ]  # fmt: skip
    assert answer_headers(both, status=200) == [(b"x-a", b"1"), (b"via", b"1.1 mlnb")]


def test_what_is_no_path_is_not_passed_on() -> None:
    with endpoints(1) as [(_, server)], balanced(server) as balancer:
        status, headers, _ = ask(balancer, "*", method="OPTIONS")
        assert (status, headers["content-type"]) == (400, "application/problem+json")
        for path in ("//other.example/x", "/@other.example", "/a|b^{}", "/%zz", "/../x"):
            assert json.loads(ask(balancer, path)[2])["target"] == f"{path}?"
        assert balancer.snapshot()[0].failures == 0


def test_a_path_below_the_url_is_kept() -> None:
    with endpoints(1) as [(app, server)], LoadBalancer([f"{server.url}/models/iris/"]) as balancer:
        assert balancer.predict([[1, 2]]).tolist() == [3]
        assert app.seen == {"/models/iris/predict": 1}


def test_weights_hold_in_every_cycle() -> None:
    with endpoints(2) as [(_, a), (_, b)], balanced(a, b, policy="weighted", weights=[3, 1]) as balancer:
        answered = predictions(balancer, 40)
    assert all(Counter(answered[at : at + 4]) == {"a": 3, "b": 1} for at in range(37))


def test_weights_go_by_url_too() -> None:
    with endpoints(2) as [(_, a), (_, b)]:
        weights = {b.url + "/": 2, a.url: 1}
        with balanced(a, b, policy="weighted", weights=weights) as balancer:
            assert Counter(predictions(balancer, 30)) == {"a": 10, "b": 20}


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_uses_every_endpoint(policy: str) -> None:
    with endpoints(3) as running, balanced(*(server for _, server in running), policy=policy) as balancer:
        assert set(predictions(balancer, 60)) == {"a", "b", "c"}


def test_an_endpoint_killed_under_load_costs_no_answer_and_comes_back_slowly() -> None:
    clock, processes = Clock(), [Process() for _ in range(3)]
    victim = processes[0]
    stop, killed, answered = threading.Event(), threading.Event(), Counter[tuple[str, bool]]()
    try:
        with LoadBalancer([one.url for one in processes], policy="round_robin", clock=clock) as balancer:

            def load() -> None:
                with connected(balancer) as connection:
                    while not stop.is_set():
                        answered[predict(connection), killed.is_set()] += 1

            with ThreadPoolExecutor(16) as clients:
                working = [clients.submit(load) for _ in range(16)]
                try:
                    wait_until(lambda: sum(answered.values()) > 200)
                    victim.kill()
                    killed.set()
                    wait_until(lambda: state(balancer, victim.url).state == "out")
                    after = sum(answered.values())
                    wait_until(lambda: sum(answered.values()) > after + 200)
                    requests = state(balancer, victim.url).requests
                    clock.ahead += 100
                    wait_until(lambda: sum(answered.values()) > after + 400)
                    assert state(balancer, victim.url).requests == requests  # none was sacrificed to look
                    victim.start()
                    wait_until(lambda: state(balancer, victim.url).state == "coming back")
                    assert state(balancer, victim.url).share < 0.5
                    before = balancer.snapshot()
                    wait_until(lambda: state(balancer, victim.url).requests > requests + 5)
                    slow = [now.requests - then.requests for now, then in zip(balancer.snapshot(), before, strict=True)]
                    clock.ahead += SLOW_START
                    wait_until(lambda: state(balancer, victim.url).state == "in")
                finally:
                    stop.set()
                for client in working:
                    client.result(20)  # any failed answer is an error here
            assert slow[0] < 0.6 * slow[1]
            assert state(balancer, victim.url).failures > 0
            assert sum(one.failures for one in balancer.snapshot()) == state(balancer, victim.url).failures
    finally:
        for one in processes:
            one.kill()


def test_with_all_killed_it_says_so_and_is_back_by_itself() -> None:
    process = Process()
    try:
        with LoadBalancer([process.url]) as balancer:
            assert ask(balancer)[0] == 200
            process.kill()
            status, headers, body = ask(balancer)
            assert (status, headers["content-type"]) == (503, "application/problem+json")
            assert int(headers["retry-after"]) >= 1
            problem = json.loads(body)
            assert (problem["status"], problem["title"]) == (503, "Service Unavailable")
            assert process.url in problem["detail"]
            process.start()
            wait_until(lambda: state(balancer, process.url).state == "coming back")
            assert ask(balancer)[0] == 200
    finally:
        process.kill()


def test_one_that_answers_again_before_anybody_looked_is_used_at_once() -> None:
    port = free_port()
    with LoadBalancer([f"http://127.0.0.1:{port}"]) as balancer:
        assert ask(balancer)[0] == 503
        with speaking(hang_up):
            pass
        assert balancer.snapshot()[0].state == "out"
        assert ask(balancer)[0] == 503  # it was asked all the same: there is no other
        assert balancer.snapshot()[0].failures == 2


def test_one_that_is_not_ready_stays_out() -> None:
    clock = Clock()
    with endpoints(2) as [(broken, a), (_, b)], balanced(a, b, clock=clock) as balancer:
        broken.status, broken.ready = 500, False
        wait_until(lambda: ask(balancer)[0] in (200, 500) and state(balancer, a.url).state == "out")
        clock.ahead += 100
        wait_until(lambda: broken.seen["/readyz"] > 1)
        assert state(balancer, a.url).state == "out"
        broken.status, broken.ready = None, True
        wait_until(lambda: state(balancer, a.url).state == "coming back")
        assert FIRST_SHARE <= state(balancer, a.url).share < 1


def test_an_overloaded_one_is_not_at_fault() -> None:
    with endpoints(2) as [(busy, a), (_, b)], balanced(a, b) as balancer:
        busy.status, busy.headers = 503, [(b"retry-after", b"7")]
        assert predictions(balancer, 20) == ["b"] * 20
        assert (state(balancer, a.url).state, state(balancer, a.url).failures) == ("in", 0)
        balancer.remove(b.url)
        status, headers, body = ask(balancer)
        assert (status, headers["retry-after"], body) == (503, "7", b"as told")  # its own word, if there is no other


def test_what_must_not_be_sent_twice_is_not() -> None:
    with endpoints(1) as [(app, server)], speaking(hang_up) as broken, balanced(broken, server) as balancer:
        status, headers, body = ask(balancer, "/feedback", method="POST", body=b"x")
        assert (status, headers["content-type"]) == (502, "application/problem+json")
        assert f"{broken} went away" in json.loads(body)["detail"]
        assert not app.seen
    with (
        endpoints(1) as [(app, server)],
        speaking(hang_up) as broken,
        balanced(broken, server, repeatable=["feedback"]) as balancer,
    ):
        assert ask(balancer, "/feedback", method="POST", body=b"x")[0] == 200


def test_what_did_not_arrive_may_be_sent_elsewhere_whatever_it_is() -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with endpoints(1) as [(app, server)], balanced(nobody, server) as balancer:
        assert ask(balancer, "/feedback", method="POST", body=[b"x" * 10**6] * 5)[0] == 200
        assert app.seen == {"/feedback": 1}


@pytest.mark.parametrize(
    ("method", "path", "repeatable"),
    [("POST", "/predict", True), ("POST", "/predict/", True), ("POST", "/v2/models/m/infer", True),
     ("POST", "/v1/models/m:predict", True), ("POST", "/", False), ("POST", "/unpredict", False),
     ("PATCH", "/predict", False), ("PUT", "/x", True), ("DELETE", "/x", True)],
)  # fmt: skip
def test_what_may_be_sent_twice(method: str, path: str, repeatable: bool) -> None:
    assert is_repeatable(method, path) == repeatable


def test_a_half_answer_is_asked_for_again_while_nothing_of_it_was_passed_on() -> None:
    def half(_: int, connection: socket.socket) -> None:
        connection.recv(2**16)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")

    with endpoints(1) as [(_, server)], speaking(half) as broken, balanced(broken, server) as balancer:
        assert predictions(balancer, 3) == ["a"] * 3


def test_a_body_in_pieces_is_sent_again_from_its_start() -> None:
    def read_some(_: int, connection: socket.socket) -> None:
        connection.recv(100_000)

    with (
        endpoints(1) as [(_, server)],
        speaking(read_some) as broken,
        balanced(broken, server, repeatable=["x"]) as balancer,
    ):
        asked = json.loads(ask(balancer, "/x", method="POST", body=[b"%06d" % at * 10_000 for at in range(10)])[2])
        assert (asked["by"], asked["length"], asked["body"]) == ("a", 600_000, "000000000000" * 83 + "0000")


def test_an_upload_too_large_to_keep_is_not_sent_again() -> None:
    def read_some(_: int, connection: socket.socket) -> None:
        for _ in range(40):
            connection.recv(100_000)

    with (
        endpoints(1) as [(app, server)],
        speaking(read_some) as broken,
        balanced(broken, server, repeatable=["x"]) as balancer,
        connected(balancer) as connection,
    ):
        connection.putrequest("POST", "/x")
        connection.putheader("content-length", str(10 * REPLAY_BYTES))
        connection.endheaders()
        with suppress(ConnectionError):
            for _ in range(10):
                connection.send(bytes(REPLAY_BYTES))
        assert connection.getresponse().status == 502
        assert not app.seen


def test_an_answer_may_come_before_the_whole_question() -> None:
    def refuse(_: int, connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 413 .\r\nContent-Length: 2\r\n\r\nno")
        while connection.recv(2**16):
            pass

    with speaking(refuse) as url, balanced(url) as balancer, connected(balancer) as connection:
        connection.putrequest("POST", "/x")
        connection.putheader("content-length", "1000000")
        connection.endheaders(bytes(500_000))
        response = connection.getresponse()
        assert (response.status, response.read()) == (413, b"no")
        assert balancer.snapshot()[0].failures == 0


def test_an_answer_that_breaks_off_breaks_off_for_the_client() -> None:
    def half(_: int, connection: socket.socket) -> None:
        connection.recv(2**16)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + bytes(10**6))

    with speaking(half) as url, balanced(url) as balancer:
        with pytest.raises(IncompleteRead):
            ask(balancer)
        assert balancer.snapshot()[0].failures == 1


def test_an_idle_connection_that_the_endpoint_closed_costs_no_answer() -> None:
    def once(number: int, connection: socket.socket) -> None:
        connection.recv(2**16)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        if number % 2 == 0:
            connection.recv(2**16)  # the next request on it gets no answer

    with speaking(once) as url, balanced(url) as balancer:
        assert [ask(balancer, "/predict", method="POST", body=ROWS)[0] for _ in range(4)] == [200] * 4


def test_one_that_takes_too_long_is_not_asked_of_others() -> None:
    with endpoints(2) as [(a, one), (b, two)], balanced(one, two, timeout=0.2) as balancer:
        status, headers, body = ask(balancer, "/hold", method="GET")
        assert (status, headers["content-type"]) == (504, "application/problem+json")
        assert "took too long to answer" in json.loads(body)["detail"]
        assert a.seen["/hold"] + b.seen["/hold"] == 1
        assert sum(one.failures for one in balancer.snapshot()) == 1


def test_bodies_of_any_size_go_through_in_pieces() -> None:
    with endpoints(1) as [(_, server)], balanced(server) as balancer:
        for size in (0, 1, REPLAY_BYTES, 3 * REPLAY_BYTES):
            assert json.loads(ask(balancer, "/x", method="POST", body=bytes(size))[2])["length"] == size
        chunked = ask(balancer, "/x", method="POST", body=[bytes(1000)] * 5000)
        assert json.loads(chunked[2])["length"] == 5_000_000
        assert len(ask(balancer, "/stream?chunks=100")[2]) == 100 * 64 * 2**10


def test_a_slow_reader_holds_the_endpoint_back() -> None:
    with endpoints(1) as [(app, server)], balanced(server) as balancer, connected(balancer) as connection:
        connection.request("GET", "/stream?chunks=4000")  # 250 MiB
        connection.getresponse().read(1000)
        seen = -1

        def stands() -> bool:
            nonlocal seen
            before, seen = seen, app.sent
            return before == seen

        for _ in range(10):  # looks in a row
            wait_until(stands)
        assert app.sent < 40 * 2**20


def test_a_large_upload_is_not_held_in_memory() -> None:
    def pieces() -> Iterable[bytes]:
        for _ in range(1000):
            yield bytes(10**5)
            peak.append(psutil.Process().memory_info().rss)

    peak: list[int] = []
    process = Process()
    try:
        with LoadBalancer([process.url]) as balancer:
            before = psutil.Process().memory_info().rss
            status, _, body = ask(balancer, "/x", method="POST", body=pieces())
        assert (status, json.loads(body)["length"]) == (200, 100_000_000)
        assert max(peak) - before < 40 * 2**20
    finally:
        process.kill()


def test_a_client_that_goes_away_is_gone_at_the_endpoint_too() -> None:
    with endpoints(1) as [(app, server)], balanced(server) as balancer:
        with connected(balancer) as connection:
            connection.request("GET", "/hold")
            wait_until(lambda: app.holding == 1)
            assert balancer.snapshot()[0].in_flight == 1
        wait_until(lambda: app.left == 1)
        wait_until(lambda: balancer.snapshot()[0].in_flight == 0)
        assert balancer.snapshot()[0].failures == 0


def test_a_client_that_goes_away_amid_its_body_is_not_the_endpoints_fault() -> None:
    with endpoints(1) as [(app, server)], balanced(server) as balancer:
        with connected(balancer) as connection:
            connection.putrequest("POST", "/x")
            connection.putheader("content-length", "1000000")
            connection.endheaders(bytes(500_000))
            wait_until(lambda: app.seen["/x"] == 1)
        wait_until(lambda: balancer.snapshot()[0].in_flight == 0)
        assert balancer.snapshot()[0].failures == 0


def test_removing_waits_for_what_is_in_flight() -> None:
    with endpoints(2) as [(a, one), (_, two)], balanced(one) as balancer, ThreadPoolExecutor(2) as pool:
        held = pool.submit(ask, balancer, "/hold")
        wait_until(lambda: a.holding == 1)
        balancer.add(two.url)
        removed = pool.submit(balancer.remove, one.url)
        wait_until(lambda: len(balancer.snapshot()) == 1)
        assert predictions(balancer, 5) == ["b"] * 5
        assert not removed.done()
        a.release.set()
        assert removed.result(10)
        assert held.result(10)[::2] == (200, b"a")


def test_removing_breaks_off_what_takes_longer_than_it_may() -> None:
    with endpoints(1) as [(app, server)], balanced(server) as balancer:
        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(ask, balancer, "/hold")
            wait_until(lambda: app.holding == 1)
            assert not balancer.remove(server.url, timeout=0.1)
            assert held.result(10)[0] in (502, 503)
        assert ask(balancer)[0] == 503


def test_endpoints_come_and_go_under_load() -> None:
    stop = threading.Event()
    with endpoints(3) as [(_, a), (_, b), (_, c)], balanced(a) as balancer:

        def load() -> set[str]:
            answered = set()
            with connected(balancer) as connection:
                while not stop.is_set():
                    answered.add(predict(connection))
            return answered

        with ThreadPoolExecutor(8) as clients:
            working = [clients.submit(load) for _ in range(8)]
            try:
                for _ in range(5):
                    for server in (b, c):
                        balancer.add(server.url)
                        wait_until(lambda server=server: state(balancer, server.url).requests > 5)  # type: ignore[misc]
                    for server in (b, c):
                        assert balancer.remove(server.url)
            finally:
                stop.set()
            assert set().union(*(one.result(20) for one in working)) == {"a", "b", "c"}


def test_predict_takes_what_a_model_takes() -> None:
    rows = np.array([[1.0, 2.0], [3.0, 4.0]])
    with endpoints(1) as [(_, server)], balanced(server) as balancer:
        named = pd.DataFrame(rows, columns=["x", "y"])
        for one in (rows, rows.tolist(), rows.T.copy().T, named, pd.DataFrame(rows), pl.DataFrame(named)):
            predicted = balancer.predict(one)
            assert isinstance(predicted, np.ndarray)
            assert predicted.tolist() == [3.0, 7.0]


def test_predict_says_what_went_wrong() -> None:
    with endpoints(1) as [(app, server)], balanced(server) as balancer:
        for status, error in ((422, InvalidInputError), (500, ReplicaError)):
            app.status = status
            with pytest.raises(error, match=f"The answer was {status}: as told"):
                balancer.predict([[1]])
        app.status = 200
        with pytest.raises(ReplicaError, match="The answer has no 'prediction': b'as told'"):
            balancer.predict([[1]])
    with pytest.raises(StoppedError, match="was closed"):
        balancer.predict([[1]])


def test_predictions_of_others_are_read_too() -> None:
    def plain(_: int, connection: socket.socket) -> None:
        connection.recv(2**16)
        connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{"predictions": [1]}')

    with speaking(plain) as url, balanced(url) as balancer:
        assert balancer.predict([[1]]).tolist() == [1]


URL = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("urls", "options", "says"),
    [
        ([], {}, "There are no endpoints; give at least one URL"),
        (URL, {}, "The endpoints are a list of URLs"),
        (["ftp://a"], {}, "'ftp://a' is no endpoint"),
        ([URL, URL + "/"], {}, "is balanced already"),
        ([URL], {"policy": "wheighted"}, "No load balancing policy 'wheighted'; did you mean 'weighted'"),
        ([URL], {"weights": [1, 2]}, "There are 2 weights for 1 endpoints"),
        ([URL], {"weights": {"http://other": 1}}, "There are weights for"),
        ([URL], {"weights": [0]}, f"The weight of {URL} is a number above 0, not 0"),
        ([URL], {"weights": [float("inf")]}, "is a number above 0, not inf"),
        ([URL], {"weights": ["heavy"]}, "is a number above 0, not 'heavy'"),
        ([URL], {"timeout": -1}, "The timeout is a number above 0, not -1"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_started(urls: Any, options: Any, says: str) -> None:
    before = mlnb_threads()
    with pytest.raises(InvalidInputError) as caught:
        LoadBalancer(urls, **options)
    assert says in str(caught.value)
    assert mlnb_threads() == before


def test_a_taken_port_is_said() -> None:
    with LoadBalancer([URL]) as balancer, pytest.raises(PortInUseError):
        LoadBalancer([URL], port=int(balancer.url.rpartition(":")[2]))


def test_a_port_can_be_named() -> None:
    port = free_port()
    with LoadBalancer([URL], port=port) as balancer:
        assert balancer.url == f"http://127.0.0.1:{port}"


def test_one_that_is_not_there_cannot_be_removed() -> None:
    with LoadBalancer([URL]) as balancer, pytest.raises(InvalidInputError, match=f"did you mean '{URL}'"):
        balancer.remove(URL + "9")


def test_it_shows_itself() -> None:
    odd = {"policy": "weighted", "weights": [2, 0.5]}
    with endpoints(1) as [(_, server)], balanced(server, URL + "/<b>", **odd) as balancer:
        wait_until(lambda: ask(balancer)[0] == 200 and balancer.snapshot()[1].state == "out")
        text, html = repr(balancer), balancer._repr_html_()
    lines = text.splitlines()
    assert lines[0] == f"{balancer.url} → 2 endpoints, weighted"
    assert lines[1].split() == ["endpoint", "state", "weight", "share", "in", "flight", "requests", "failures"]
    assert lines[2].split()[:5] == [server.url, "●", "in", "2", "100%"]
    assert "● out for 1 s more     0.5     0%" in lines[3]
    assert "/&lt;b&gt;" in html
    assert "<b>" not in html
    assert html.count("<tr>") == 3
    assert repr(balancer).startswith("Load balancer, closed: 2 endpoints")


def test_closing_twice_is_harmless_and_finishes_what_is_in_flight() -> None:
    with endpoints(1) as [(app, server)], ThreadPoolExecutor(2) as pool:
        balancer = balanced(server)
        held = pool.submit(ask, balancer, "/hold")
        wait_until(lambda: app.holding == 1)
        closing = pool.submit(balancer.close)
        app.release.set()
        closing.result(10)
        assert held.result(10)[0] == 200
        balancer.close()
        assert not is_open(int(balancer.url.rpartition(":")[2]))


def test_nothing_is_left_behind() -> None:
    process = psutil.Process()

    def cycle(broken: str) -> None:
        with balanced(server, broken) as balancer:
            predictions(balancer, 4)
            assert balancer.snapshot()[1].failures
            balancer.remove(server.url)

    with endpoints(1) as [(_, server)]:
        nobody = f"http://127.0.0.1:{free_port()}"
        cycle(nobody)
        wait_until(lambda: len(mlnb_threads()) == 1)  # the endpoint's own
        threads, files = threading.active_count(), process.num_fds()
        for _ in range(10):
            cycle(nobody)
        assert threading.active_count() == threads
        wait_until(lambda: process.num_fds() <= files)
