"""One request on the fast path, and its answer."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from typing import Protocol

__all__ = ["Connection", "Exchange", "Handler"]

_REMEMBERED = 2048  # bytes of a head, up to which its reading is kept


class Connection(Protocol):
    """Where answers go."""

    def flush(self) -> None:
        """Send the answers that are ready and whose turn it is."""


class Exchange:
    """One whole request, and its answer.

    Attributes
    ----------
    path, query : bytes
        As sent; the query without its question mark.
    body : bytes
    gone : bool
        The client went away: nobody waits for the answer.
    """

    __slots__ = ("_connection", "_fields", "answer", "body", "gone", "handler", "head", "last", "path", "query")

    def __init__(
        self, connection: Connection, handler: Handler, *, head: bytes = b"", path: bytes = b"", query: bytes = b""
    ) -> None:
        self._connection = connection
        self._fields = _fields_of(head)
        self.handler = handler
        self.head = head
        self.path = path
        self.query = query
        self.body = b""
        self.answer: tuple[int, bytes, bytes] | None = None
        self.last = False  # the connection closes behind it
        self.gone = False

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """All headers in their order, the names in lower case."""
        lines = (line.partition(b":") for line in self.head.split(b"\r\n")[1:-2])
        return [(name.lower(), value.strip(b" \t")) for name, _, value in lines]

    def header(self, name: bytes) -> bytes:
        """Return the value of the first header ``name`` (in lower case), ``b""`` without one."""
        return self._fields.get(name, b"")

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        r"""Answer, now or later, from the loop's thread; only the first answer counts.

        Answers of one connection leave in the order of its requests.

        Parameters
        ----------
        status : int
        headers : bytes
            Whole lines such as ``b"content-type: application/json\r\n"``; length, date and connection are added.
        body : bytes
        """
        if self.answer is None and not self.gone:
            self.answer = (status, headers, body)
            self._connection.flush()

    def refuse(self, status: int, detail: str) -> None:
        """Answer with a problem, behind which the connection closes."""
        self.last = True
        phrase = HTTPStatus(status).phrase
        body = f'{{"type":"about:blank","title":"{phrase}","status":{status},"detail":"{detail}"}}'
        self.respond(status, b"content-type: application/problem+json\r\n", body.encode())


def _fields_of(head: bytes) -> dict[bytes, bytes]:
    """Return the first header of each name, names in lower case."""
    return _remembered(head) if len(head) <= _REMEMBERED else _read(head)


def _read(head: bytes) -> dict[bytes, bytes]:
    lines = (line.partition(b":") for line in reversed(head.split(b"\r\n")[1:-2]))
    return {name.lower(): value.strip(b" \t") for name, _, value in lines}


_remembered = lru_cache(256)(_read)  # a client's requests begin alike


Handler = Callable[[Exchange], None]
