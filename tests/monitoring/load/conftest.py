"""A small server that answers well, slowly, in chunks, too often, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from mlnb.serving.server import Server


class Endpoint:
    """An ASGI app that behaves as its path says, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.body = b""
        self.headers: dict[bytes, bytes] = {}
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.body, self.headers = await read(receive), dict(scope["headers"])
        self.asked += 1
        kind, _, amount = scope["path"].strip("/").partition("/")
        if kind == "slow":
            await asyncio.sleep(float(amount))
        elif kind == "queue":  # one at a time
            async with self._turn:
                await asyncio.sleep(float(amount))
        elif kind == "hangs":
            await asyncio.Event().wait()
        elif kind == "breaks" and self.asked % int(amount) == 0:
            raise ConnectionResetError  # uvicorn answers 500 and closes
        status = int(amount) if kind == "status" else 200
        turned_away = kind == "busy" and self.asked % 2 == 0
        await answer(send, 503 if turned_away else status, chunks=[b"{", b"}"] if kind == "chunks" else [b"{}"])


async def read(receive: Any) -> bytes:
    body: bytes = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message["more_body"]:
            return body


async def answer(send: Any, status: int, *, chunks: list[bytes]) -> None:
    headers = [(b"content-length", b"2")] if len(chunks) == 1 else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for chunk in chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


@pytest.fixture
def url(endpoint: Endpoint) -> Iterator[str]:
    with Server(endpoint, port=0) as server:
        yield server.url
