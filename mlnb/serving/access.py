"""Who may ask a server: anybody who reaches its loopback address, or whoever has its token."""

from __future__ import annotations

import re
from binascii import Error, a2b_base64
from hmac import compare_digest
from ipaddress import ip_address
from typing import TYPE_CHECKING, Protocol

import orjson

from mlnb.errors import InvalidInputError, UnauthorizedError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from mlnb.serving.exchange import Exchange

__all__ = ["OPEN", "OPEN_PATHS", "Access", "Token", "refuse"]

OPEN_PATHS = frozenset(
    {"/livez", "/readyz", "/v2/health/live", "/v2/health/ready"}
)  # orchestrators ask without a token

_LEAST = 16  # characters of a token
_TOKEN = re.compile(rf"[!-~]{{{_LEAST},4096}}")  # what a header can hold as it is
_WANTED = f"a token is one line of {_LEAST} characters or more, ASCII letters, digits and signs, without white space"


class Access(Protocol):
    """What a server asks of those who ask it."""

    def admits(self, authorization: bytes) -> bool:
        """Say whether a request with this ``Authorization`` header is answered."""

    def guard(self, app: ASGIApp) -> ASGIApp:
        """Return the app that answers those who are admitted."""

    def check_host(self, address: str) -> None:
        """Refuse to listen on an IP address that more can reach than may.

        Raises
        ------
        InvalidInputError
        """


class _Open:
    """Asks nothing, and so is for loopback only."""

    def admits(self, authorization: bytes) -> bool:  # noqa: ARG002 - of Access
        return True

    def guard(self, app: ASGIApp) -> ASGIApp:
        return app

    def check_host(self, address: str) -> None:
        if not ip_address(address.partition("%")[0]).is_loopback:
            raise InvalidInputError(
                f"{address} can be reached from other machines, and no token is given: --token-file FILE or MLNB_TOKEN."
            )


OPEN: Access = _Open()


class Token:
    """Asks for a token: as ``Authorization: Bearer TOKEN``, or by HTTP Basic as the password of any user.

    Only the paths in :data:`OPEN_PATHS` need none.

    Parameters
    ----------
    text : str
        16 to 4096 printable ASCII characters. It is in no error and no ``repr``.

    Raises
    ------
    InvalidInputError
        If it is none that a header can hold, or too short.

    Examples
    --------
    >>> access = Token("correct-horse-battery")
    >>> access.admits(b"Bearer correct-horse-battery"), access.admits(b"Bearer correct-horse")
    (True, False)
    """

    __slots__ = ("_secret",)

    def __init__(self, text: str) -> None:
        if not _TOKEN.fullmatch(text):
            what = "is empty" if not text.strip() else f"has {len(text)} characters, or others than it may"
            raise InvalidInputError(f"The token {what}; {_WANTED}.")
        self._secret = text.encode()

    def admits(self, authorization: bytes) -> bool:
        """Say whether the header holds the token; how long that takes says nothing of it."""
        scheme, _, credentials = authorization.partition(b" ")
        if scheme.lower() == b"basic":
            credentials = _password(credentials)
        elif scheme.lower() != b"bearer":
            return False
        return compare_digest(credentials.strip(b" "), self._secret)

    def guard(self, app: ASGIApp) -> ASGIApp:
        """Return ``app`` for those who have the token, and 401 for the others, whose bodies are not read."""
        return _Guard(app, self)

    def check_host(self, address: str) -> None:
        """Accept every address."""


def refuse(exchange: Exchange) -> None:
    """Answer a request on the fast path that has no token."""
    lines = b"".join(b"%b: %b\r\n" % header for header in _HEADERS)
    exchange.respond(UnauthorizedError.status, lines, _document(exchange.path))


class _Guard:
    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"] in OPEN_PATHS or self._access.admits(_authorization(scope)):
            await self._app(scope, receive, send)
            return
        body = _document(scope["path"].encode())
        headers = [*_HEADERS, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": UnauthorizedError.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


_HEADERS = (
    (b"content-type", b"application/problem+json"),
    (b"www-authenticate", b"Bearer"),
    (b"www-authenticate", b'Basic realm="mlnb"'),  # a browser asks for it
)


def _document(path: bytes) -> bytes:
    return _V2_DOCUMENT if path.startswith(b"/v2") else _DOCUMENT


_DETAIL = (
    "This server answers whoever has its token: send 'Authorization: Bearer TOKEN', or the token as the password of "
    "HTTP Basic."
)
_PROBLEM = {
    "type": "about:blank",
    "title": UnauthorizedError.title,
    "status": UnauthorizedError.status,
    "detail": _DETAIL,
}
_DOCUMENT = orjson.dumps(_PROBLEM)
_V2_DOCUMENT = orjson.dumps(_PROBLEM | {"error": _DETAIL})  # which its clients look for


def _authorization(scope: Scope) -> bytes:
    found: bytes = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    return found


def _password(credentials: bytes) -> bytes:
    try:
        return a2b_base64(credentials.strip(b" "), strict_mode=True).partition(b":")[2]
    except Error:
        return b""
