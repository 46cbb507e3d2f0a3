"""An HTTP endpoint on another machine: `mlnb serve` there, or any other."""

from __future__ import annotations

from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import urlsplit

from mlnb.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable, Iterator, Sequence

    import aiohttp

__all__ = ["Outcome", "RemoteAnswer", "RemoteReplica", "checked_url", "outcome_of"]

Header = tuple[bytes, bytes]
Outcome = Literal["answered", "overloaded", "failed"]

TIMEOUT = 30.0  # seconds
CONNECT_TIMEOUT = 2.0  # seconds: three tries of the system's one-second SYN timer would be 7, and others are waiting
CHECK_TIMEOUT = 2.0  # seconds
KEEP_ALIVE = 4.0  # seconds; below the 5 of uvicorn and Node, which would close the connection as we write to it
MAX_HEADERS = 64 * 2**10  # bytes of one line


def checked_url(url: str) -> str:
    """Return an endpoint's address without the slash at its end.

    Raises
    ------
    InvalidInputError
        If it is not the address of an HTTP server, with or without a path.

    Examples
    --------
    >>> checked_url("http://10.0.0.7:8000/models/iris/")
    'http://10.0.0.7:8000/models/iris'
    """
    try:
        parts = urlsplit(url)
        well = bool(parts.scheme in ("http", "https") and parts.hostname and parts.port != 0)
    except (AttributeError, TypeError, ValueError):  # not text, or a port that is no number
        well = False
    if not well or parts.query or parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidInputError(f"{url!r:.200} is no endpoint; give it as http://HOST:PORT, with a path if it has one.")
    return url.rstrip("/")


def outcome_of(status: int, *, retry_after: bool) -> Outcome:
    """Say what an answer's status tells of the endpoint.

    A 4xx is the client's mistake and a 501 a method that nobody has. A 503 with ``Retry-After`` comes from an endpoint
    that is well and has too much to do: another one may take the request, and this one is not at fault.

    Examples
    --------
    >>> [outcome_of(status, retry_after=True) for status in (200, 422, 500, 501, 503)]
    ['answered', 'answered', 'failed', 'answered', 'overloaded']
    """
    if status == HTTPStatus.SERVICE_UNAVAILABLE and retry_after:
        return "overloaded"
    failed = status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.NOT_IMPLEMENTED
    return "failed" if failed else "answered"


class RemoteReplica:
    """One endpoint and the connections to it, which are kept open between requests. Used on one event loop.

    Parameters
    ----------
    url : str
        ``http`` or ``https``, with a path or without.
    timeout : float
        Seconds that the endpoint may be silent once it has the request.
    token : str
        Sent as ``Authorization: Bearer`` with requests that have no such header of their own. Default: none is.

    Raises
    ------
    InvalidInputError
        If ``url`` is no such address.
    """

    def __init__(self, url: str, *, timeout: float = TIMEOUT, token: str = "") -> None:
        self.url = checked_url(url)
        self._timeout = timeout
        self._own_headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def send(
        self,
        method: str,
        target: str,
        *,
        headers: Iterable[Header] = (),
        body: bytes | AsyncIterable[bytes] | None = None,
    ) -> RemoteAnswer:
        """Send a request and return the answer as soon as its head is here. Close it, or read it to its end.

        Parameters
        ----------
        method : str
        target : str
            Path and query, quoted; it follows the endpoint's own path.
        headers : iterable of (bytes, bytes)
            Sent as they are. Only ``Host``, and the body's length where it is missing, are added.
        body : bytes, async iterable of bytes, or None

        Raises
        ------
        ConnectionRefusedError
            If there is no connection: nothing was sent.
        ConnectionError
            If the endpoint went away, or what it sent is not HTTP.
        TimeoutError
            If it was silent for too long.
        """
        return await self._send(method, self.url + target, headers=headers, body=body)

    async def is_ready(self) -> bool:
        """Ask ``/readyz``, below the endpoint's path or else of its server, whether it can be given work.

        Where there is no such route, that it answers is enough; only a 503 says that it is not ready.
        """
        parts = urlsplit(self.url)
        places = dict.fromkeys([f"{self.url}/readyz", f"{parts.scheme}://{parts.netloc}/readyz"])
        try:
            for place in places:
                answer = await self._send("GET", place, limit=CHECK_TIMEOUT)
                answer.close()
                if answer.status != HTTPStatus.NOT_FOUND:
                    break
        except OSError:
            return False
        return answer.status != HTTPStatus.SERVICE_UNAVAILABLE

    async def close(self) -> None:
        """Close its connections; further requests are refused. Again is harmless."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    async def _send(
        self,
        method: str,
        url: str,
        *,
        headers: Iterable[Header] = (),
        body: bytes | AsyncIterable[bytes] | None = None,
        limit: float | None = None,
    ) -> RemoteAnswer:
        import aiohttp
        from yarl import URL

        if self._closed:
            raise ConnectionRefusedError(f"{self.url} was closed here")
        if self._session is None:
            self._session = _session(self._own_headers)
        times = aiohttp.ClientTimeout(total=limit, sock_connect=CONNECT_TIMEOUT, sock_read=self._timeout)
        with _plain_errors(self.url):
            response = await self._session.request(
                method, URL(url, encoded=True), headers=[(_text(name), _text(value)) for name, value in headers],
                data=body, timeout=times, allow_redirects=False,
            )  # fmt: skip
        return RemoteAnswer(response, url=self.url)


class RemoteAnswer:
    """The head of an answer, and its body as it comes.

    Attributes
    ----------
    status : int
    headers : sequence of (bytes, bytes)
        As the endpoint sent them.
    length : int or None
        Bytes of the body, where the endpoint says so.
    outcome : {'answered', 'overloaded', 'failed'}
    """

    def __init__(self, response: aiohttp.ClientResponse, *, url: str) -> None:
        self.status = response.status
        self.headers: Sequence[Header] = response.raw_headers
        self.length = response.content_length
        self.outcome = outcome_of(response.status, retry_after="Retry-After" in response.headers)
        self._response = response
        self._url = url

    async def read(self) -> bytes:
        """Return the whole body; raises as :meth:`RemoteReplica.send` does."""
        with _plain_errors(self._url):
            return await self._response.read()

    async def next_chunk(self) -> bytes:
        """Return the next piece of the body, empty at its end; raises as :meth:`RemoteReplica.send` does.

        No more is read ahead than a buffer holds.
        """
        with _plain_errors(self._url):
            return await self._response.content.readany()

    def close(self) -> None:
        """Give up what was not read, and with it the connection. After the end it is harmless."""
        self._response.close()


def _session(headers: dict[str, str]) -> aiohttp.ClientSession:
    import aiohttp

    return aiohttp.ClientSession(
        headers=headers,
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE),  # who queues is the endpoint
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=["Accept", "Accept-Encoding", "Content-Type", "User-Agent"],
        max_line_size=MAX_HEADERS,
        max_field_size=MAX_HEADERS,
    )


@contextmanager
def _plain_errors(url: str) -> Iterator[None]:
    """Let aiohttp's many errors be three of Python's own."""
    import aiohttp

    try:
        yield
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise ConnectionRefusedError(f"No connection to {url}: {error or 'it took too long'}") from error
    except TimeoutError as error:
        raise TimeoutError(f"{url} took too long to answer") from error
    except (aiohttp.ClientError, OSError) as error:
        raise ConnectionError(f"{url} went away: {error or type(error).__name__}") from error


def _text(raw: bytes) -> str:
    """Decode a header so that aiohttp, which writes UTF-8, writes the same bytes again wherever that is possible."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
