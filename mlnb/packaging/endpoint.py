"""Questions to a server that runs elsewhere, over HTTP by the standard library: no proxy and no redirect."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from mlnb.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Endpoint", "Reply"]

_CONNECTIONS = {"http": HTTPConnection, "https": HTTPSConnection}


@dataclass(frozen=True, slots=True)
class Reply:
    """What was answered.

    Attributes
    ----------
    status : int
    document : object
        The JSON of the body; the text of one that is not JSON.
    """

    status: int
    document: Any

    @property
    def reason(self) -> str:
        """Why it was refused, in one line for a person."""
        said = self.document.get("detail") if isinstance(self.document, dict) else self.document
        return f"it answered {self.status}: {' '.join(str(said).split())[:300]}".rstrip(": ")


class Endpoint:
    """One connection, kept alive; it is opened with the first question.

    Parameters
    ----------
    url : str
        ``http://127.0.0.1:8000``, or ``https://..`` with a path before those that are asked.
    token : str
        That the server wants; "": none.
    timeout : float
        Seconds for each question.

    Raises
    ------
    InvalidInputError
        If the address is none of HTTP.
    """

    def __init__(self, url: str, *, token: str = "", timeout: float = 30.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in _CONNECTIONS or parts.hostname is None:
            raise InvalidInputError(f"{url!r} is no address of a server; give http://HOST:PORT.")
        self._path = parts.path.rstrip("/")
        self._connection = _CONNECTIONS[parts.scheme](parts.hostname, parts.port, timeout=timeout)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def get(self, path: str) -> Reply:
        """Ask for what is there.

        Raises
        ------
        OSError
            If nobody answers.
        """
        return self._ask("GET", path, None, {})

    def post(self, path: str, document: object) -> Reply:
        """Send JSON; arrays and numpy's numbers in it are taken too.

        Raises
        ------
        OSError
            If nobody answers.
        """
        body = json.dumps(document, default=_plain).encode()  # with NaN and Infinity, which mlnb's server reads
        return self._ask("POST", path, body, {"Content-Type": "application/json"})

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        try:
            self._connection.request(method, self._path + path, body, {**self._headers, **headers})
            response = self._connection.getresponse()
            return Reply(response.status, _parsed(response.read()))
        except HTTPException as error:
            self.close()
            raise ConnectionError(f"what came is no answer of HTTP: {error!r}") from error
        except OSError:
            self.close()  # the next question gets a new connection
            raise


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
