"""A path that names a version is never answered by another one."""

from __future__ import annotations

import socket

import orjson
import pytest
from loading import Numbered

import mlnb


@pytest.mark.parametrize("rows", [1, 60_000])
def test_a_body_that_arrives_after_the_next_version_went_live(rows: int) -> None:
    one = mlnb.deploy(Numbered(1), name="numbered", example=[[0.5]])
    data = [7.0] * rows
    body = orjson.dumps({"inputs": [{"name": "x", "shape": [rows, 1], "datatype": "FP64", "data": data}]})
    port = int(one.url.split(":")[2].split("/")[0])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(
            b"POST /v2/models/numbered/versions/1/infer HTTP/1.1\r\nhost: here\r\nexpect: 100-continue\r\n"
            b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        )
        assert b"100 Continue" in client.recv(100)
        mlnb.deploy(Numbered(2), name="numbered", example=[[0.5]])
        client.sendall(body)
        answer = b"".join(iter(lambda: client.recv(2**16), b""))
    assert answer.startswith(b"HTTP/1.1 404 "), answer[:300]
    assert b"version 2 is" in answer
