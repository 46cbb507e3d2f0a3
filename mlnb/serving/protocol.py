"""Predict requests straight from the socket to their handler, without ASGI; every other request goes to uvicorn."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections import deque
from http import HTTPStatus
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mlnb.serving.access import OPEN, refuse
from mlnb.serving.exchange import Exchange

if TYPE_CHECKING:
    from collections.abc import Callable

    from uvicorn import Config
    from uvicorn.server import ServerState

    from mlnb.serving.access import Access
    from mlnb.serving.exchange import Handler

__all__ = ["PredictProtocol"]

_log = logging.getLogger(__name__)

_STATUS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_REQUEST_LINE = re.compile(rb"POST ([^ ?\r]*)(?:\?([^ \r]*))? HTTP/1\.1\r\n")
_OFFER = re.compile(rb"\r\nupgrade:[^\r]*", re.IGNORECASE)
_BLANK_LINE = re.compile(rb"\r\n\r\n")
_MOST_DIGITS = 15  # of a content-length


class PredictProtocol(asyncio.Protocol):
    """One connection: predict requests are handled here, the others by uvicorn's own protocol.

    The parser is fed one request at a time, cut where its length says; bytes that are not parsed yet stay as they came.

    Parameters
    ----------
    config, server_state, app_state, _loop
        What uvicorn gives a protocol.
    routes : callable
        Gives the handler of a POST to a path, None for what is not handled here.
    max_body : int
        Bytes; of a body in chunks, as it is sent.
    too_large : callable
        Answers a request with a larger body; the connection closes behind it.
    access : Access
        Whose requests are handled. Default: everybody's.
    retiring : callable
        Says whether connections are to end with the answer to what was asked on them: the server will soon be gone.
    """

    head_bytes = 65536  # of a request's line and headers
    in_flight = 32  # requests of one connection that wait for their answers
    request_seconds = 60.0  # for a request to arrive
    idle_seconds = 75.0  # without a request
    unread_seconds = 60.0  # while the client does not read its answers
    unadmitted_bytes = 65536  # of a body that is read although its request is refused, to keep the connection
    linger_seconds = 2.0  # for the client to read an answer that came before it had sent its whole request
    look_seconds = 5.0  # between two looks at these times

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        routes: Callable[[bytes], Handler | None],
        max_body: int,
        too_large: Handler,
        access: Access = OPEN,
        retiring: Callable[[], bool] = lambda: False,
    ) -> None:
        self._loop = _loop or asyncio.get_running_loop()
        self._state = server_state
        self._connections: set[Any] = server_state.connections
        self._settings = (config, server_state, app_state, self._loop)
        self._routes = routes
        self._max_body = max_body
        self._too_large = too_large
        self._admits = access.admits

        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # until connection_made
        self._timer: asyncio.TimerHandle | None = None
        self._other: _Uvicorn | None = None
        self._lent = False  # the transport is with the other protocol
        self._take: Callable[[int, bytes], None] | None = None
        self._stopping = False
        self._retiring = retiring
        self._over = False  # nothing more is read
        self._full_since: float | None = None  # the client does not read its answers
        self._since = 0.0  # when the last answer left, or the next request began

        self._unread = b""  # an incomplete head, or what waits for answers
        self._pending: deque[Exchange] = deque()  # not answered, oldest first
        self._current: Exchange | None = None  # the last of them while its body arrives
        self._left = 0  # bytes it may still bring
        self._chunked = self._whole = self._keep = False
        self._body: list[bytes] = []
        self._defaults: list[tuple[bytes, bytes]] | None = None
        self._default_lines = b""
        self.on_body = self._body.append
        self._parser = httptools.HttpRequestParser(self)

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to watch the time."""
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)
        self._since = self._loop.time()
        self._timer = self._loop.call_later(self.look_seconds, self._look)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Tell those who compute for this client."""
        self._connections.discard(self)
        self._over = True
        for exchange in self._pending:
            exchange.gone = True
        self._pending.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._take = self._current = self._other = None
        del self._parser  # which holds this object

    def data_received(self, data: bytes) -> None:
        """Handle the requests that are whole."""
        if self._unread:
            data, self._unread = self._unread + data, b""
        elif self._current is None:
            self._since = self._loop.time()
        self._unread = self._advance(data)

    def pause_writing(self) -> None:
        """Handle nothing more: the client does not read its answers."""
        self._full_since = self._loop.time()

    def resume_writing(self) -> None:
        """Go on."""
        self._full_since = None
        self._resume()

    # What a server calls

    @property
    def busy(self) -> bool:
        """Whether a request that has arrived waits for its answer."""
        return any(exchange is not self._current for exchange in self._pending)

    def shutdown(self) -> None:
        """Answer what is outstanding, then close; an idle connection closes at once."""
        self._stopping = True
        if not self._pending and not self._unread:
            self._close()

    def hand_over(self, take: Callable[[int, bytes], None]) -> None:
        """Give the connection away as soon as nothing is outstanding on it; its client notices nothing.

        Parameters
        ----------
        take : callable
            Given a descriptor of the socket, which is the taker's to close, and the bytes that were read from it and
            belong to the next request. If it raises, the descriptor is closed and the connection stays here. It is not
            called if the connection ends before.
        """
        self._take = take
        self._loop.call_soon(self._leave)

    # Reading

    def _advance(self, data: bytes) -> bytes:
        """Go through ``data``, request by request; return what has to wait."""
        while data and not self._over:
            if self._current is None and not self._open(data):
                break
            data = self._feed(data)
        return b"" if self._over or self._lent else data

    def _open(self, data: bytes) -> bool:
        """Begin the request at the start of ``data``; say whether it can be parsed."""
        if self._take or self._full_since is not None or len(self._pending) >= self.in_flight:
            return self._wait()
        line_end = data.find(b"\r\n")
        if line_end < 0 and data.startswith(b"POST "[: len(data)]):
            return self._wait_for_head(data)
        line = _REQUEST_LINE.match(data)
        if line is None or (handler := self._routes(line[1])) is None:
            return self._lend(data)
        blank = data.find(b"\r\n\r\n", line_end)
        if not 0 < blank <= self.head_bytes:
            return self._wait_for_head(data)
        self._current = Exchange(self, handler, head=data[: blank + 4], path=line[1], query=line[2] or b"")
        self._pending.append(self._current)
        return self._measure(self._current, blank + 4, arrived=len(data))

    def _measure(self, exchange: Exchange, head: int, *, arrived: int) -> bool:
        """Find out where the request ends; say whether it may go on."""
        length = exchange.header(b"content-length")
        self._chunked = not length and bool(exchange.header(b"transfer-encoding"))
        if length and (not length.isdigit() or len(length) > _MOST_DIGITS):
            return self._refuse(400, "The content-length is not a number of bytes.")
        size = self._max_body if self._chunked else int(length or 0)
        if not self._admits(exchange.header(b"authorization")):
            exchange.handler = refuse
            if size > self.unadmitted_bytes:
                return self._handle(exchange, refuse, last=True)
        if size > self._max_body:
            return self._handle(exchange, self._too_large, last=True)
        self._left = head + size
        if arrived == head and len(self._pending) == 1 and exchange.header(b"expect").lower() == b"100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _feed(self, data: bytes) -> bytes:
        """Give the parser what belongs to the current request; return the rest."""
        try:
            used = self._feed_chunks(data) if self._chunked else self._feed_counted(data)
        except httptools.HttpParserError:
            self._refuse(400, "This is not an HTTP request.")
            return b""
        self._left -= used
        exchange = cast("Exchange", self._current)
        if self._left < 0:
            self._handle(exchange, self._too_large, last=True)
        elif self._whole:
            exchange.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            self._body.clear()
            self._current, self._whole = None, False
            self._handle(exchange, exchange.handler, last=not self._keep)
        elif self._left == 0 and not self._chunked:
            self._refuse(400, "The request does not end where its content-length says.")
        return data[used:]

    def _feed_counted(self, data: bytes) -> int:
        used = min(self._left, len(data))
        self._parse(data if used == len(data) else memoryview(data)[:used])
        return used

    def _feed_chunks(self, data: bytes) -> int:
        """Parse up to the end of the request, which the parser does not tell: it is behind one of the blank lines."""
        view = memoryview(data)
        stops = (match.end() for match in _BLANK_LINE.finditer(data))
        for start, stop in pairwise((0, 1, 2, 3, *stops, len(data))):  # a blank line may have begun in earlier bytes
            self._parse(view[start:stop])
            if self._whole:
                return min(stop, len(data))
        return len(data)

    def _parse(self, data: bytes | memoryview) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:  # of HTTP/2, as Java makes it; the parser would skip the body
            self._whole = False
            self._parser.feed_data(_OFFER.sub(b"", cast("Exchange", self._current).head))
            self._parse(data[offer.args[0] :])

    def on_message_complete(self) -> None:
        """Note what the parser says."""
        self._whole = True
        self._keep = self._parser.should_keep_alive()

    def _handle(self, exchange: Exchange, handler: Handler, *, last: bool) -> bool:
        exchange.last = self._over = last
        try:
            handler(exchange)
        except Exception:  # noqa: BLE001 - a handler is somebody else's code
            _log.exception("A request failed")
            self._over = True
            exchange.refuse(500, "The server failed on this request; its owner sees the reason in the log.")
        return False

    # Waiting and refusing

    def _wait(self) -> bool:
        self._transport.pause_reading()
        return False

    def _wait_for_head(self, data: bytes) -> bool:
        if len(data) > self.head_bytes:
            self._refuse(431, f"The request line and headers have more than {self.head_bytes} bytes.")
        return False

    def _resume(self) -> None:
        if self._over or self._lent:
            return
        if self._take:
            self._loop.call_soon(self._leave)
            return
        self._transport.resume_reading()
        data, self._unread = self._unread, b""
        self._unread = self._advance(data)

    def _refuse(self, status: int, detail: str) -> bool:
        if self._current is None:
            self._current = Exchange(self, self._too_large)
            self._pending.append(self._current)
        self._over = True
        self._current.refuse(status, detail)
        return False

    def _look(self) -> None:
        """Close a connection that has kept us waiting."""
        if self._transport.get_protocol() not in (self, self._other):
            return  # a websocket
        self._timer = self._loop.call_later(self.look_seconds, self._look)
        now = self._loop.time()
        waited = now - self._since
        if self._full_since is not None:
            if now - self._full_since > self.unread_seconds:
                self._transport.abort()
        elif self._lent:
            if waited > self.request_seconds and cast("_Uvicorn", self._other).cycle is None:
                self._transport.abort()  # uvicorn would wait for the rest of the head without end
        elif self._current is not None or (self._unread and not self._pending):
            if waited > self.request_seconds and not self._over:
                self._refuse(408, f"The request did not arrive within {self.request_seconds:g} s.")
        elif not self._pending and waited > self.idle_seconds:
            self._transport.abort() if self._over else self._close()

    # Answering

    def flush(self) -> None:
        """Send the answers that are ready and whose turn it is."""
        pending, ready, last = self._pending, [], False
        while not last and pending and pending[0].answer is not None:
            exchange = pending.popleft()
            last = exchange.last or (not pending and not self._unread and (self._stopping or self._retiring()))
            ready.append(self._lines(*cast("tuple[int, bytes, bytes]", exchange.answer), last=last))
        if not ready:
            return
        self._state.total_requests += len(ready)
        self._since = self._loop.time()
        self._transport.write(ready[0] if len(ready) == 1 else b"".join(ready))
        if last:
            self._close()
        elif self._unread or self._take:
            self._resume()

    def _lines(self, status: int, headers: bytes, body: bytes, *, last: bool) -> bytes:
        if self._state.default_headers is not self._defaults:  # uvicorn renews them every second
            self._defaults = self._state.default_headers
            self._default_lines = b"".join(b"%b: %b\r\n" % header for header in self._defaults)
        close = b"connection: close\r\n" if last else b""
        return b"%b%b%b%bcontent-length: %d\r\n\r\n%b" % (
            _STATUS[status], self._default_lines, headers, close, len(body), body,
        )  # fmt: skip

    def _close(self) -> None:
        self._over = True
        if self._current is None:
            self._transport.close()
            return
        self._transport.write_eof()  # to close with bytes unread would reset the connection, and the answer be lost
        self._transport.resume_reading()
        self._loop.call_later(self.linger_seconds, self._transport.abort)

    # Giving the connection away

    def _leave(self) -> None:
        outstanding = self._pending or self._lent or self._over or self._transport.is_closing()
        if self._take is None or outstanding:
            return
        self._transport.pause_reading()
        if self._transport.get_write_buffer_size():
            self._loop.call_later(0.001, self._leave)
            return
        take, self._take = self._take, None
        descriptor = os.dup(self._transport.get_extra_info("socket").fileno())
        try:
            take(descriptor, self._unread)
        except Exception:  # noqa: BLE001 - whatever the way to the taker is
            _log.exception("A connection could not be handed over")
            os.close(descriptor)
            self._resume()
        else:
            self._over = True
            self._transport.abort()  # closes our descriptor only: nothing is sent

    def _lend(self, data: bytes) -> bool:
        if self._pending:
            return self._wait()
        self._lent = True
        self._connections.discard(self)
        if self._other is None:
            self._other = _Uvicorn(*self._settings)
            self._other.owner = self
            self._other.connection_made(self._transport)
        self._connections.add(self._other)
        self._other.cycle = None  # type: ignore[assignment]  # until it has read a head, as in a fresh one
        self._other.resume_writing()
        self._transport.set_protocol(self._other)
        self._other.data_received(data)
        if self._stopping:
            self._other.shutdown()
        return False

    def take_back(self, *, full: bool) -> None:
        """Go on with a connection that uvicorn's protocol has done its part on."""
        self._lent = False
        self._since = self._loop.time()
        self._full_since = self._since if full else None
        self._connections.add(self)
        self._transport.set_protocol(self)
        if self._take:
            self._loop.call_soon(self._leave)


class _Uvicorn(HttpToolsProtocol):
    """uvicorn's own protocol, which gives the connection back when it has answered and nothing else has begun."""

    owner: PredictProtocol
    between = True  # two requests

    @property
    def busy(self) -> bool:
        """Whether a request waits for its answer."""
        return self.cycle is not None and not self.cycle.response_complete

    def on_message_begin(self) -> None:
        self.between = False
        super().on_message_begin()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.between = True

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.between and self.cycle.response_complete and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self.connections.discard(self)
            self.owner.take_back(full=self.flow.write_paused)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.owner.connection_lost(exc)

    def hand_over(self, take: Callable[[int, bytes], None]) -> None:
        self.owner.hand_over(take)
