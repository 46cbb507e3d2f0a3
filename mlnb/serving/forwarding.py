"""A request passed on to one of several endpoints, and to another one where the first fails."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from mlnb.serving.problems import problem

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Sequence

    from starlette.types import Receive, Scope, Send

    from mlnb.scaling.members import Member, Members
    from mlnb.scaling.remote import Header, RemoteAnswer

__all__ = ["REPEATABLE", "Body", "Forwarder", "answer_headers", "is_repeatable", "request_headers"]

_log = logging.getLogger(__name__)

REPEATABLE = ("infer", "invocations", "predict", "prediction", "predictions", "score")
"""Ends of the paths whose POST may be sent twice, because a prediction changes nothing."""

ATTEMPTS = 3
REPLAY_BYTES = 2**20  # of a body, kept to send it again
WHOLE_BYTES = 64 * 2**10  # of an answer, read to its end before it is passed on: until then another may give it
CHECK_EVERY = 0.5  # seconds between two looks at those that are out

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})  # RFC 9110, 9.2.2
# RFC 9110, 7.6.1. Upgrades and trailers end here.
_HOP_BY_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
        b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
_BODILESS = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)  # a length here is that of another answer
_VIA = b"1.1 mlnb"


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why an attempt gave no answer.

    Attributes
    ----------
    status : int
        Of the answer, if there is no further attempt.
    reason : str
    again : bool
        Whether another attempt may be made.
    refused : bool
        Whether the endpoint has not even seen it.
    """

    status: HTTPStatus
    reason: str
    again: bool
    refused: bool = False


class Forwarder:
    """An ASGI app that passes every request on to one of the members.

    A request goes to another member if it has had no effect at the first (there was no connection, or it answered
    503), and, where the request may be repeated, if that one went away before it answered or answered 502. One that
    took too long is not asked of others: it would take as long there.

    Parameters
    ----------
    members : Members
    repeatable : iterable of str
        Last parts of the paths whose POST may be sent twice.
    """

    def __init__(self, members: Members, *, repeatable: Iterable[str] = REPEATABLE) -> None:
        self._members = members
        self._repeatable = frozenset(repeatable)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._checking: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; what else ASGI knows is not served."""
        if scope["type"] != "http":
            return
        if not scope["raw_path"].startswith(b"/"):  # it follows the endpoint's host, and must not become part of it
            await problem(400, "Bad Request", "Only a path can be passed on.")(scope, receive, send)
            return
        self._loop = asyncio.get_running_loop()
        body = Body(receive)
        with suppress(ConnectionError):  # without a whole body there is nobody left to answer
            await body.begin()
            await self._while_there(scope, body, send)

    async def _while_there(self, scope: Scope, body: Body, send: Send) -> None:
        """Forward the request, until it is done or the client went away."""
        work = asyncio.create_task(self._forward(scope, body, send))
        gone = asyncio.create_task(body.client_gone())
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            done = work.done()
            work.cancel()
            results = await asyncio.gather(work, gone, return_exceptions=True)
        if done and isinstance(results[0], BaseException):
            raise results[0]

    def run(self, job: Coroutine[Any, Any, None], *, timeout: float) -> None:
        """Run ``job`` on the loop that serves, from another thread; where nothing was served yet, nothing is open."""
        if self._loop is None or self._loop.is_closed():
            job.close()
            return
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(job, self._loop).result(timeout)

    async def close(self) -> None:
        """End the checks, and close all connections."""
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.gather(self._checking, return_exceptions=True)
        for member in self._members.all():
            await member.replica.close()

    async def _forward(self, scope: Scope, body: Body, send: Send) -> None:
        tried: list[Member] = []
        failure = _Failure(HTTPStatus.SERVICE_UNAVAILABLE, "There is no endpoint to pass it on to", again=True)
        while failure.again and len(tried) < ATTEMPTS and (member := self._take(tried, failure)) is not None:
            tried.append(member)
            try:
                missed = await self._attempt(member, tried, scope, body, send)
            finally:
                self._members.release(member)
            if missed is None:
                return
            failure = missed
        await _refuse(failure, scope, body, send)

    def _take(self, tried: list[Member], failure: _Failure) -> Member | None:
        """Choose one that was not tried; of those that were, one that went away may only have closed an idle line."""
        member = self._members.take(besides=tried)
        if member is None and tried and not failure.refused:
            member = self._members.take()
        return member

    async def _attempt(
        self, member: Member, tried: list[Member], scope: Scope, body: Body, send: Send
    ) -> _Failure | None:
        """Pass the request on, and the answer back; or say why there is none."""
        answer = None
        try:
            answer = await member.replica.send(
                scope["method"], _target(scope), headers=request_headers(scope), body=body.from_the_start()
            )
            self._note(member, answer.outcome)
            if self._goes_elsewhere(answer, tried, scope, body):
                return _Failure(HTTPStatus(answer.status), f"{member.key} answered {answer.status}", again=True)
            start = await _head(answer, scope)
        except OSError as error:
            return self._missed(member, error, scope, body)
        else:
            await self._pass_back(member, answer, start, send)
            return None
        finally:
            if answer is not None:
                answer.close()

    async def _pass_back(self, member: Member, answer: RemoteAnswer, first: bytes | None, send: Send) -> None:
        """Send the answer to the client; what breaks off at the endpoint breaks off here, so that both see it."""
        headers = answer_headers(answer.headers, status=answer.status)
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        if first is not None:
            await send({"type": "http.response.body", "body": first})
            return
        try:
            while chunk := await answer.next_chunk():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except OSError as error:
            _log.warning("An answer broke off: %s", error)
            self._note(member, "failed")
            return
        await send({"type": "http.response.body", "body": b""})

    def _missed(self, member: Member, error: OSError, scope: Scope, body: Body) -> _Failure:
        refused = isinstance(error, ConnectionRefusedError)
        if not body.left:  # else it was the client that went away
            self._note(member, "failed", refused=refused)
        if refused:
            again = self._repeats(scope, body, unseen=True)
            return _Failure(HTTPStatus.SERVICE_UNAVAILABLE, str(error), again=again, refused=True)
        if isinstance(error, TimeoutError):
            return _Failure(HTTPStatus.GATEWAY_TIMEOUT, str(error), again=False)
        return _Failure(HTTPStatus.BAD_GATEWAY, str(error), again=self._repeats(scope, body, unseen=False))

    def _goes_elsewhere(self, answer: RemoteAnswer, tried: list[Member], scope: Scope, body: Body) -> bool:
        """Say whether to ask another one rather than pass on that this one cannot answer."""
        if answer.status not in (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE):
            return False
        again = self._repeats(scope, body, unseen=answer.status == HTTPStatus.SERVICE_UNAVAILABLE)
        return again and len(tried) < ATTEMPTS and bool(set(self._members.all()) - set(tried))

    def _repeats(self, scope: Scope, body: Body, *, unseen: bool) -> bool:
        """Say whether the request can be sent again, and may be; ``unseen``: it has had no effect."""
        return body.replayable and (unseen or is_repeatable(scope["method"], scope["path"], self._repeatable))

    def _note(self, member: Member, outcome: str, *, refused: bool = False) -> None:
        if outcome == "answered":
            self._members.succeeded(member)
        elif outcome == "failed":
            self._members.failed(member, refused=refused)
            if self._checking is None or self._checking.done():
                self._checking = asyncio.create_task(self._check())

    async def _check(self) -> None:
        """Ask those that are out whether they are back, until none is: no request has to try them."""
        while (found := self._members.out())[0]:
            await asyncio.gather(*map(self._check_one, found[1]))
            await asyncio.sleep(CHECK_EVERY)

    async def _check_one(self, member: Member) -> None:
        if await member.replica.is_ready():
            self._members.succeeded(member)


class Body:
    """What a client sends: read as it is asked for, and kept as long as it is small enough to be sent again.

    Attributes
    ----------
    replayable : bool
        Whether it can be read from the start.
    left : bool
        Whether the client went away before it was complete.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._kept: list[bytes] = []
        self._size = 0
        self._at = 0
        self._complete = asyncio.Event()
        self.replayable = True
        self.left = False

    async def begin(self) -> None:
        """Read the first piece, which mostly is all there is; raise ConnectionError if the client left before it."""
        await self._read()

    def from_the_start(self) -> bytes | Body | None:
        """Return what is to be sent: nothing, bytes, or this, which is iterated."""
        self._at = 0
        if not self._complete.is_set() or not self.replayable or len(self._kept) > 1:
            return self
        return self._kept[0] if self._kept else None

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> bytes:
        if self._at == len(self._kept) and not self._complete.is_set():
            await self._read()
        if self._at == len(self._kept):
            raise StopAsyncIteration
        self._at += 1
        chunk = self._kept[self._at - 1]
        if self._size > REPLAY_BYTES:
            self.replayable = False
            self._kept, self._at = self._kept[self._at :], 0
        return chunk

    async def client_gone(self) -> None:
        """Return when the client went away."""
        await self._complete.wait()
        while not self.left and (await self._receive())["type"] != "http.disconnect":
            pass

    async def _read(self) -> None:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.left = True
            self._complete.set()
            raise ConnectionError("The client went away before its body was complete")
        if message.get("body"):
            self._kept.append(message["body"])
            self._size += len(message["body"])
        if not message.get("more_body", False):
            self._complete.set()


def is_repeatable(method: str, path: str, repeatable: Iterable[str] = REPEATABLE) -> bool:
    """Say whether a request may be sent twice.

    Examples
    --------
    >>> is_repeatable("POST", "/models/iris/predict"), is_repeatable("POST", "/v1/models/iris:predict")
    (True, True)
    >>> is_repeatable("POST", "/models/iris/feedback"), is_repeatable("GET", "/")
    (False, True)
    """
    last = path.rstrip("/").rpartition("/")[2].rpartition(":")[2]
    return method in _IDEMPOTENT or (method == "POST" and last in repeatable)


def request_headers(scope: Scope) -> list[Header]:
    """Return the client's headers for an endpoint: less those of this connection, and with who asked.

    ``Host`` is the endpoint's own; ``Expect`` was answered here.
    """
    known = dict(scope["headers"])
    client = scope["client"][0].encode() if scope.get("client") else b"unknown"
    headers = _end_to_end(scope["headers"], besides={b"host", b"expect", b"via", b"x-forwarded-for"})
    headers.append((b"via", _joined(scope["headers"], b"via", _VIA)))
    headers.append((b"x-forwarded-for", _joined(scope["headers"], b"x-forwarded-for", client)))
    asked = ((b"x-forwarded-host", known.get(b"host", b"")), (b"x-forwarded-proto", scope["scheme"].encode()))
    return headers + [(name, value) for name, value in asked if name not in known and value]


def answer_headers(headers: Iterable[Header], *, status: int) -> list[Header]:
    """Return an endpoint's headers for the client. The server here adds its own ``Date``."""
    lowered = [(name.lower(), value) for name, value in headers]
    besides = {b"date", b"via"} | ({b"content-length"} if status in _BODILESS else set())
    return [*_end_to_end(lowered, besides=besides), (b"via", _joined(lowered, b"via", _VIA))]


def _end_to_end(headers: Sequence[Header], *, besides: set[bytes]) -> list[Header]:
    named = {part.strip().lower() for name, value in headers if name == b"connection" for part in value.split(b",")}
    dropped = besides | named | _HOP_BY_HOP
    if any(name == b"transfer-encoding" for name, _ in headers):
        dropped.add(b"content-length")  # which it overrides: RFC 9112, 6.3
    return [(name, value) for name, value in headers if name not in dropped]


def _joined(headers: Iterable[Header], name: bytes, last: bytes) -> bytes:
    return b", ".join([*(value for one, value in headers if one == name), last])


def _target(scope: Scope) -> str:
    query = b"?" + scope["query_string"] if scope["query_string"] else b""
    target: bytes = scope["raw_path"] + query
    return target.decode("latin-1")


async def _head(answer: RemoteAnswer, scope: Scope) -> bytes | None:
    """Return a small answer's body, which is read while another endpoint could still give it; None for a large one."""
    if scope["method"] == "HEAD":
        return b""
    return await answer.read() if answer.length is not None and answer.length <= WHOLE_BYTES else None


async def _refuse(failure: _Failure, scope: Scope, body: Body, send: Send) -> None:
    if body.left:
        return
    unavailable = failure.status == HTTPStatus.SERVICE_UNAVAILABLE
    headers = {"retry-after": "1"} if unavailable else None
    answer = problem(failure.status, failure.status.phrase, f"{failure.reason}.", headers=headers)
    await answer(scope, body._receive, send)  # noqa: SLF001 - a plain response reads nothing
