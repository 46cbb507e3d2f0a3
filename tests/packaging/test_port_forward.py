"""A port of loopback that leads to pods; their ends are socket pairs here."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from threads import mlnb_threads
from waiting import wait_until

from mlnb.packaging.port_forward import forwarding


def _client(url: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), timeout=5)


@contextmanager
def _pods() -> Iterator[tuple[Callable[[], socket.socket], list[socket.socket]]]:
    """Yield what connects to a pod, and the pods' own ends of the connections."""
    ends: list[socket.socket] = []

    def connect() -> socket.socket:
        ours, its = socket.socketpair()
        ends.append(its)
        return ours

    yield connect, ends
    for end in ends:
        end.close()


def test_it_carries_both_ways_until_one_side_ends() -> None:
    with _pods() as (connect, ends), forwarding(connect) as url, _client(url) as client:
        client.sendall(b"asked")
        wait_until(lambda: bool(ends))
        assert ends[0].recv(100) == b"asked"
        ends[0].sendall(b"answered")
        assert client.recv(100) == b"answered"
        ends[0].close()
        assert client.recv(100) == b""


def test_the_end_does_not_wait_for_a_pod_that_says_nothing() -> None:
    with _pods() as (connect, ends):
        with forwarding(connect) as url:
            with _client(url) as client, _client(url):
                client.sendall(b"asked")
                wait_until(lambda: len(ends) == 2)
            started = time.monotonic()
        assert time.monotonic() - started < 2.5
        assert mlnb_threads() == []


def test_a_connection_that_opens_at_the_end_is_closed() -> None:
    asked, go_on = threading.Event(), threading.Event()
    with _pods() as (connect, ends):

        def slow() -> socket.socket:
            asked.set()
            go_on.wait(10)
            return connect()

        with forwarding(slow) as url, _client(url):
            assert asked.wait(5)
            threading.Timer(0.2, go_on.set).start()  # while the end waits
        assert mlnb_threads() == []
        assert ends[0].recv(100) == b""  # and is closed


def test_no_more_than_64_connections_at_once() -> None:
    with _pods() as (connect, ends), forwarding(connect) as url:
        clients = [_client(url) for _ in range(65)]
        assert clients[-1].recv(100) == b""
        assert len(ends) <= 64
        for client in clients:
            client.close()
        wait_until(lambda: len(ends) == 64)
        for end in ends:
            end.close()
        wait_until(lambda: len(mlnb_threads()) == 1)
        with _client(url) as client:
            wait_until(lambda: len(ends) == 65)
            ends[-1].sendall(b"again")
            assert client.recv(100) == b"again"


def test_a_pod_that_refuses_closes_the_connection() -> None:
    def refuse() -> socket.socket:
        raise ConnectionError

    with forwarding(refuse) as url, _client(url) as client:
        assert client.recv(100) == b""
    with pytest.raises(ConnectionRefusedError):
        _client(url)
