"""A request of HTTP/1.0, as nginx and ab send it, that takes longer than a move waits for idle connections."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from loading import Numbered
from waiting import wait_until

import mlnb
from mlnb.serving import handover

BODY = b'{"features": [7.0]}'


def ask(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(
            b"POST /models/slow/predict HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (len(BODY), BODY)
        )
        return b"".join(iter(lambda: client.recv(2**16), b""))


def test_it_is_answered_before_the_old_server_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "_IDLE", 0.1)
    slow = mlnb.deploy(Numbered(1, seconds=3), name="slow", example=[[0.5]])
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask, int(slow.url.split(":")[2].split("/")[0]))
        wait_until(lambda: any(one.in_flight for one in slow.snapshot().replicas))
        slow.scale(1)
        answer = asking.result(20)
    assert b" 200 OK\r\n" in answer, answer
    assert b"1000007.0" in answer
