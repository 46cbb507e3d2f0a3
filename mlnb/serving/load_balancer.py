"""Plain endpoints on other machines, served as one."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from html import escape
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from math import isfinite
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import orjson

from mlnb.errors import InvalidInputError, ReplicaError, StoppedError
from mlnb.registry.rows.frames import library_of
from mlnb.registry.tables import Cell, Column, lay_out
from mlnb.scaling.balancing import policy_named
from mlnb.scaling.members import EndpointSnapshot, Members, State
from mlnb.scaling.remote import TIMEOUT, RemoteReplica, checked_url
from mlnb.serving.access import Token
from mlnb.serving.codecs import to_json
from mlnb.serving.forwarding import REPEATABLE, Forwarder
from mlnb.serving.server import HOST, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["LoadBalancer"]

DRAIN = 30.0  # seconds
_GRACE = 3.0  # seconds that requests in flight get when all is closed, as the server gives them
_CLOSING = 5.0  # seconds to close connections, which takes none
_SLACK = 10.0  # seconds: what a client here waits longer than the balancer for its endpoints

_COLOURS: dict[State, str] = {
    "in": "color: var(--jp-success-color1, #388e3c)",
    "coming back": "color: var(--jp-warn-color1, #f57c00)",
    "out": "color: var(--jp-error-color1, #d32f2f)",
}
_NUMBER = "text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap"
_TEXT = "text-align: left; white-space: nowrap"
_MUTED = "color: var(--jp-content-font-color2, #767676)"


class LoadBalancer:
    """One address on this machine for endpoints on others, of mlnb or anything that speaks HTTP.

    Every request goes to one of them as it came, and its answer back, piece by piece. Who fails is left out for a time
    (see :mod:`mlnb.scaling.health`), asked by ``GET /readyz`` whether it is back, and then let in slowly. A request
    that had no effect where it failed goes to another endpoint, and so does one that may be repeated: what HTTP calls
    idempotent, and a POST to a path that ends in one of ``repeatable``, because predicting changes nothing. If nobody
    answers, the answer is a problem document (RFC 9457): 503 nobody can be reached, 502 it went away, 504 it took too
    long.

    Parameters
    ----------
    urls : iterable of str
        ``http`` or ``https``, with a path or without: ``http://10.0.0.7:8000/models/iris`` takes ``/predict``.
    policy : {'least_loaded', 'power_of_two', 'round_robin', 'random', 'weighted'}
    weights : sequence or mapping of str to float, optional
        Above 0, one for each URL. Default: all the same.
    port : int, optional
        Of this machine's loopback. Default: a free one.
    timeout : float
        Seconds that an endpoint may be silent once it has a request.
    repeatable : iterable of str
        Last parts of the paths whose POST may be sent twice.
    token : str, optional
        That of the endpoints, for instance of `mlnb serve --token-file` there: sent with requests that bring no
        ``Authorization`` of their own. Whoever reaches the balancer, which is on loopback, uses it so.
    clock : callable
        Seconds, of a clock that is never set back.
    rng : random.Random, optional

    Raises
    ------
    InvalidInputError
        If a URL, a weight or the policy cannot be; nothing was started then.
    PortInUseError

    Examples
    --------
    >>> with LoadBalancer(["http://127.0.0.1:9/a", "http://127.0.0.1:9/b"], policy="weighted", weights=[3, 1]) as one:
    ...     [endpoint.weight for endpoint in one.snapshot()]
    [3.0, 1.0]
    """

    def __init__(
        self,
        urls: Iterable[str],
        *,
        policy: str = "least_loaded",
        weights: Sequence[float] | Mapping[str, float] | None = None,
        port: int | None = None,
        timeout: float = TIMEOUT,
        repeatable: Iterable[str] = REPEATABLE,
        token: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._timeout = _positive(timeout, "The timeout")
        if token is not None:
            Token(token)  # which refuses what is none
        self._token = token or ""
        self._members = Members(policy_named(policy), rng=rng or random.Random(), clock=clock)  # noqa: S311 - no secret
        for url, weight in _weighed(urls, weights):
            self.add(url, weight=weight)
        self._forwarder = Forwarder(self._members, repeatable=repeatable)
        self._closed = False
        self._server = Server(self._forwarder, port=port or 0).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Its address."""
        return self._server.url

    def predict(self, rows: Any) -> np.ndarray[Any, Any]:
        """Predict, at one of the endpoints.

        Parameters
        ----------
        rows : array-like or DataFrame
            ``(n, features)``

        Returns
        -------
        ndarray
            ``(n, ...)``

        Raises
        ------
        InvalidInputError
            If the endpoint does not take these rows.
        ReplicaError
            If no endpoint gave an answer that holds one.
        StoppedError
            After :meth:`close`.
        """
        if self._closed:
            raise StoppedError("The load balancer was closed; make a new one.")
        status, answer = self._post("/predict", to_json({"instances": _plain(rows)}))
        if status >= HTTPStatus.BAD_REQUEST:
            kind = InvalidInputError if status < HTTPStatus.INTERNAL_SERVER_ERROR else ReplicaError
            raise kind(f"The answer was {status}: {_detail(answer)}")
        return _prediction(answer)

    def snapshot(self) -> tuple[EndpointSnapshot, ...]:
        """Return how each endpoint fares now."""
        return tuple(self._members.snapshot())

    def add(self, url: str, *, weight: float = 1.0) -> None:
        """Let another endpoint take its share, from the next request on.

        Raises
        ------
        InvalidInputError
            If it is there already, or cannot be.
        """
        self._members.add(
            RemoteReplica(url, timeout=self._timeout, token=self._token),
            weight=_positive(weight, f"The weight of {url}"),
        )

    def remove(self, url: str, *, timeout: float = DRAIN) -> bool:
        """Give an endpoint no more requests; return once what it has in flight is done.

        Parameters
        ----------
        url : str
        timeout : float
            Seconds to wait. What is not done then is broken off.

        Returns
        -------
        bool
            Whether all was done.

        Raises
        ------
        InvalidInputError
            If it is not there.
        """
        member = self._members.remove(checked_url(url))
        idle = self._members.wait_until_idle([member], timeout=timeout)
        self._forwarder.run(member.replica.close(), timeout=_CLOSING)
        return idle

    def close(self) -> None:
        """Finish the requests in flight, at most some seconds, and free the port. Again is harmless."""
        if self._closed:
            return
        self._closed = True
        self._members.wait_until_idle(self._members.all(), timeout=_GRACE)
        self._forwarder.run(self._forwarder.close(), timeout=_CLOSING)
        self._server.stop()

    def __repr__(self) -> str:
        endpoints = self.snapshot()
        columns = [
            Column("endpoint", tuple(Cell(one.url) for one in endpoints), least=20),
            Column("state", tuple(Cell(_state(one), mark="●") for one in endpoints)),
            *(
                Column(title, tuple(Cell(figure) for figure in figures), kind="number")
                for title, figures in _figures(endpoints).items()
            ),
        ]
        return "\n".join([self._headline(), *([lay_out(columns)] if endpoints else [])])

    def _repr_html_(self) -> str:
        endpoints = self.snapshot()
        figures = _figures(endpoints)
        head = "".join(f'<th style="{_TEXT}">{title}</th>' for title in ("endpoint", "state"))
        head += "".join(f'<th style="{_NUMBER}">{title}</th>' for title in figures)
        body = "".join(
            f'<tr><td style="{_TEXT}">{escape(one.url)}</td>'
            f'<td style="{_TEXT}"><span style="{_COLOURS[one.state]}">●</span> {_state(one)}</td>'
            + "".join(f'<td style="{_NUMBER}">{figure}</td>' for figure in row)
            + "</tr>"
            for one, row in zip(endpoints, zip(*figures.values(), strict=True), strict=True)
        )
        return (
            f'<div class="mlnb-load-balancer"><div style="{_MUTED}">{escape(self._headline())}</div>'
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def _headline(self) -> str:
        count = len(self._members)
        what = f"{count} endpoint{'' if count == 1 else 's'}, {self._members.policy.name}"
        return f"Load balancer, closed: {what}" if self._closed else f"{self.url} → {what}"

    def _post(self, path: str, body: bytes) -> tuple[int, bytes]:
        connection = HTTPConnection(HOST, self._server.port, timeout=self._timeout + _SLACK)
        try:
            connection.request("POST", path, body, {"content-type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, HTTPException) as error:
            raise ReplicaError(f"No answer came from {self.url}: {error}.") from error
        finally:
            connection.close()


def _weighed(urls: Iterable[str], weights: Sequence[float] | Mapping[str, float] | None) -> list[tuple[str, float]]:
    """Return each endpoint with its weight."""
    if isinstance(urls, str):
        raise InvalidInputError(f"The endpoints are a list of URLs: [{urls!r:.200}].")
    known = [checked_url(url) for url in urls]
    if not known:
        raise InvalidInputError("There are no endpoints; give at least one URL.")
    if weights is None:
        return [(url, 1.0) for url in known]
    if isinstance(weights, Mapping):
        given = {checked_url(url): weight for url, weight in weights.items()}
        if set(given) != set(known):
            raise InvalidInputError(f"There are weights for {sorted(given)}, and the endpoints are {sorted(known)}.")
        return [(url, given[url]) for url in known]
    if len(weights) != len(known):
        raise InvalidInputError(f"There are {len(weights)} weights for {len(known)} endpoints; give one for each.")
    return list(zip(known, weights, strict=True))


def _positive(value: float, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0.0
    if not (isfinite(number) and number > 0):
        raise InvalidInputError(f"{what} is a number above 0, not {value!r:.80}.")
    return number


def _state(endpoint: EndpointSnapshot) -> str:
    if endpoint.state == "out":
        return f"out for {endpoint.out_for:.0f} s more" if endpoint.out_for else "out until it answers"
    return endpoint.state


def _figures(endpoints: Sequence[EndpointSnapshot]) -> dict[str, list[str]]:
    """Return the columns of numbers."""
    return {
        "weight": [f"{one.weight:g}" for one in endpoints],
        "share": [f"{one.share:.0%}" for one in endpoints],
        "in flight": [f"{one.in_flight:,}" for one in endpoints],
        "requests": [f"{one.requests:,}" for one in endpoints],
        "failures": [f"{one.failures:,}" for one in endpoints],
    }


def _plain(rows: Any) -> Any:
    """Return rows as JSON can hold them: a frame's by the names of its columns."""
    library = library_of(rows)
    if library == "pandas":
        named = all(isinstance(name, str) for name in rows.columns)
        return rows.to_dict("records") if named else rows.to_numpy().tolist()
    if library is not None:
        return rows.to_dicts() if library == "polars" else rows.to_pylist()
    array = rows if isinstance(rows, np.ndarray) else None
    if array is None:
        return rows
    return np.ascontiguousarray(array) if array.dtype.kind in "fiub" and array.dtype.itemsize <= 8 else array.tolist()  # noqa: PLR2004 - bytes


def _prediction(answer: bytes) -> np.ndarray[Any, Any]:
    """Return what is predicted: ``prediction`` in mlnb's answers, ``predictions`` in those of others."""
    try:
        document = orjson.loads(answer)
        values = document["prediction"] if "prediction" in document else document["predictions"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise ReplicaError(f"The answer has no 'prediction': {answer[:200]!r}.") from None
    return np.asarray(values)


def _detail(answer: bytes) -> str:
    try:
        return str(orjson.loads(answer)["detail"])[:1000]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return answer[:200].decode(errors="replace")
