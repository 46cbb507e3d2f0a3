from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
from endpoints import speaking
from threads import mlnb_threads
from waiting import free_port, wait_until

from mlnb.errors import InvalidInputError
from mlnb.monitoring.alerts import AlertChange, AlertRule
from mlnb.monitoring.notifying import Webhook, notify_all, sorted_out

HIDDEN = "T000-secret"
RULE = AlertRule(metric="p99", above=50)


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Go to loopback without whatever proxy this machine has."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def change(number: int = 1) -> AlertChange:
    return AlertChange(
        number=number, at=1e9, name="iris", version=3, rule=RULE, state="firing", value=80.0, words="p99 is 80 ms"
    )


class Receiver:
    """Answers each post with the next of some statuses, then with 200."""

    def __init__(self, *statuses: int) -> None:
        self._statuses = list(statuses)
        self.bodies: list[Any] = []
        self.heads: list[str] = []

    def __call__(self, _: int, connection: socket.socket) -> None:
        file = connection.makefile("rb")
        head, length = "", 0
        while (line := file.readline().decode()).strip():
            head += line
            if line.lower().startswith("content-length:"):
                length = int(line.split(":")[1])
        if not head:
            return
        body = json.loads(file.read(length))
        status = self._statuses.pop(0) if self._statuses else 200
        connection.sendall(
            f"HTTP/1.1 {status} x\r\nLocation: /elsewhere\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )
        self.heads.append(head)
        self.bodies.append(body)


@contextmanager
def hanging(said: bytes = b"") -> Iterator[tuple[str, list[str]]]:
    """Take connections and never answer; note what happens to them."""
    seen: list[str] = []

    def hang(_: int, connection: socket.socket) -> None:
        connection.recv(2**16)
        seen.append("asked")
        connection.sendall(said)
        connection.settimeout(20)
        while connection.recv(2**16):
            pass
        seen.append("closed")

    with speaking(hang) as url:
        yield url, seen


def test_changes_arrive_as_json_in_their_order() -> None:
    receiver = Receiver()
    with speaking(receiver) as url, Webhook(f"{url}/hook?token={HIDDEN}") as webhook:
        for number in range(1, 6):
            webhook(change(number))
        wait_until(lambda: webhook.state().sent == 5)
    assert receiver.bodies == [change(number).to_json() for number in range(1, 6)]
    assert receiver.heads[0].startswith(f"POST /hook?token={HIDDEN} HTTP/1.1")
    assert "content-type: application/json" in receiver.heads[0].lower()
    state = webhook.state()
    assert (state.waiting, state.failed, state.dropped, state.failure) == (0, 0, 0, "")


def test_no_thread_before_the_first_change() -> None:
    with Webhook("http://127.0.0.1:9/") as webhook:
        assert mlnb_threads() == []
        assert webhook.state().url == "http://127.0.0.1:9"


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_a_server_that_fails_is_tried_again(status: int) -> None:
    receiver = Receiver(status, status, status)
    with speaking(receiver) as url, Webhook(url, pauses=(0, 0, 0)) as webhook:
        webhook(change())
        wait_until(lambda: webhook.state().sent == 1)
    assert len(receiver.bodies) == 4
    assert webhook.state().failure == ""


def test_one_that_always_fails_is_logged_and_the_next_is_tried(caplog: pytest.LogCaptureFixture) -> None:
    receiver = Receiver(500, 500, 500, 500)
    with speaking(receiver) as url, Webhook(f"{url}/{HIDDEN}", pauses=(0, 0, 0)) as webhook:
        webhook(change(1))
        wait_until(lambda: webhook.state().failed == 1)
        assert webhook.state().failure == "it answered 500"
        webhook(change(2))
        wait_until(lambda: webhook.state().sent == 1)
    assert [body["number"] for body in receiver.bodies] == [1, 1, 1, 1, 2]
    assert [record.levelname for record in caplog.records if record.name.startswith("mlnb")] == ["WARNING"]
    assert "did not take 'p99 is 80 ms': it answered 500" in caplog.text
    assert HIDDEN not in caplog.text


@pytest.mark.parametrize(
    ("status", "why"), [(404, "it answered 404"), (302, "it answered 302, and redirects are not followed")]
)
def test_an_answer_that_will_stay_the_same_is_final(status: int, why: str) -> None:
    receiver = Receiver(status)
    with speaking(receiver) as url, Webhook(url) as webhook:
        webhook(change())
        wait_until(lambda: webhook.state().failed == 1)
    assert len(receiver.bodies) == 1
    assert webhook.state().failure == why


def test_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    with Webhook(f"http://127.0.0.1:{free_port()}/{HIDDEN}", pauses=(0,)) as webhook:
        webhook(change())
        wait_until(lambda: webhook.state().failed == 1)
    assert "Cannot connect to host 127.0.0.1" in webhook.state().failure
    assert HIDDEN not in caplog.text + repr(webhook.state())


def test_an_answer_that_is_none() -> None:
    def rubbish(_: int, connection: socket.socket) -> None:
        connection.recv(2**16)
        connection.sendall(b"rubbish\r\n\r\n")

    with speaking(rubbish) as url, Webhook(f"{url}/{HIDDEN}", pauses=()) as webhook:
        webhook(change())
        wait_until(lambda: webhook.state().failed == 1)
    assert webhook.state().failure.endswith("Error")


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n"], ids=["silent", "half an answer"])
def test_one_that_hangs_is_given_up(said: bytes) -> None:
    with hanging(said) as (url, seen), Webhook(url, timeout="100ms", pauses=()) as webhook:
        webhook(change())
        wait_until(lambda: webhook.state().failed == 1)
        assert webhook.state().failure == "no answer within 0.1 s"
        wait_until(lambda: seen == ["asked", "closed"])


def test_one_that_hangs_delays_nothing_and_is_left_within_a_second() -> None:
    with hanging() as (url, seen):
        webhook = Webhook(url, timeout=60)
        webhook(change(1))
        wait_until(lambda: seen == ["asked"])
        began = time.perf_counter()
        for number in range(2, 152):
            webhook(change(number))
        assert time.perf_counter() - began < 0.5
        state = webhook.state()
        assert (state.waiting, state.dropped) == (100, 51)
        began = time.perf_counter()
        webhook.close()
        assert time.perf_counter() - began < 1
        assert mlnb_threads() == []
        port = int(url.rpartition(":")[2])
        assert [one for one in psutil.Process().net_connections() if one.raddr and one.raddr.port == port] == []
        wait_until(lambda: seen == ["asked", "closed"])
    state = webhook.state()
    assert (state.waiting, state.dropped, state.sent) == (0, 151, 0)
    webhook(change())
    assert webhook.state().dropped == 152
    webhook.close()
    assert mlnb_threads() == []


def test_closed_while_it_pauses_or_before_its_thread_runs() -> None:
    for _ in range(20):
        webhook = Webhook(f"http://127.0.0.1:{free_port()}", pauses=(60,))
        webhook(change())
        webhook.close()
        wait_until(lambda: not mlnb_threads(), seconds=1)
        assert webhook.state().dropped == 1


@pytest.mark.parametrize(
    "url",
    ["", "hooks.example.org/T000-secret", "ftp://example.org/T000-secret", "file:///T000-secret", "http://",
     "http:///T000-secret", "http://example.org:port/T000-secret", "http://example.org:0/", "http://exam ple.org/",
     "http://a/\r\nX: y", None, 5],
)  # fmt: skip
def test_what_is_no_url_of_the_web_is_refused_without_its_secret(url: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"is no webhook; give its whole URL: https://HOST/PATH") as refused:
        Webhook(url)
    assert HIDDEN not in str(refused.value)


def test_who_is_told_may_be_one_or_several() -> None:
    url = "https://chat.example.org/hook"
    assert sorted_out(()) == ((), ())
    assert sorted_out(print) == ((print,), ())
    assert sorted_out(url) == ((), (url,))
    assert sorted_out([url, print]) == ((print,), (url,))
    with Webhook(url) as webhook:
        assert sorted_out(iter([webhook])) == ((webhook,), ())


@pytest.mark.parametrize("notify", [3, None, [print, None], [3.5]])
def test_what_cannot_be_told_is_refused(notify: Any) -> None:
    with pytest.raises(
        InvalidInputError, match=r"^notify=(3|None|3\.5): a function that takes the alert is needed, a we"
    ):
        sorted_out(notify)
    with pytest.raises(InvalidInputError, match="is no webhook; give its whole URL"):
        sorted_out([print, "hook"])


def test_a_callback_that_fails_is_logged_and_the_others_are_called(caplog: pytest.LogCaptureFixture) -> None:
    called: list[int] = []

    def fails(_: AlertChange) -> None:
        raise RuntimeError("no")

    def notes(number: int) -> Callable[[AlertChange], object]:
        return lambda one: called.append(number * one.number)

    with caplog.at_level(logging.ERROR, logger="mlnb"):
        notify_all([notes(1), fails, notes(2)], change(7))
    assert called == [7, 14]
    assert "A callback failed on an alert of iris: p99 is 80 ms" in caplog.text
    assert "RuntimeError: no" in caplog.text


def test_a_webhook_is_a_callback_from_any_thread() -> None:
    receiver = Receiver()
    with speaking(receiver) as url, Webhook(url) as webhook:
        threads = [threading.Thread(target=notify_all, args=([webhook], change(number))) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(lambda: webhook.state().sent == 8)
    assert sorted(body["number"] for body in receiver.bodies) == list(range(8))
