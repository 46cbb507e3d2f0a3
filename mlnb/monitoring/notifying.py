"""Tells of alerts: Python callbacks, and a webhook from a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import orjson

from mlnb.durations import seconds_of
from mlnb.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import aiohttp

    from mlnb.monitoring.alerts import AlertChange

    Callback = Callable[[AlertChange], object]

__all__ = ["Webhook", "WebhookState", "notify_all", "shown_url", "sorted_out"]

_log = logging.getLogger(__name__)

_ROOM = 100  # changes that wait
_PAUSES = (0.5, 2.0, 8.0)  # seconds before each further try
_PATIENCE = 0.9  # seconds to wait for the thread
_TOLD = "a function that takes the alert is needed, a webhook's URL, or a list of them"
_RETRIED = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)  # beside those of a server that fails


def notify_all(callbacks: Iterable[Callable[[AlertChange], object]], change: AlertChange) -> None:
    """Call each with a change; one that fails is logged, and the others are called all the same."""
    for callback in callbacks:
        try:
            callback(change)
        except Exception:  # noqa: BLE001 - somebody else's code
            _log.exception("A callback failed on an alert of %s: %s", change.name, change.words)


def sorted_out(notify: Callback | str | Iterable[Callback | str]) -> tuple[tuple[Callback, ...], tuple[str, ...]]:
    """Return who is told: the callbacks, and the URLs.

    Parameters
    ----------
    notify : callable, URL, or iterable of them

    Raises
    ------
    InvalidInputError
        If one is neither.

    Examples
    --------
    >>> sorted_out("https://chat.example.org/hook")
    ((), ('https://chat.example.org/hook',))
    """
    told = notify if isinstance(notify, Iterable) and not isinstance(notify, str) else (notify,)
    callbacks, urls = [], []
    for one in told:
        if isinstance(one, str):
            shown_url(one)  # which refuses what is none
            urls.append(one)
        elif callable(one):
            callbacks.append(one)
        else:
            raise InvalidInputError(f"notify={one!r:.60}: {_TOLD}.")
    return tuple(callbacks), tuple(urls)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookState:
    """How a webhook does.

    Attributes
    ----------
    url : str
        Only the host: what follows it is often a secret.
    sent : int
        Changes that arrived.
    failed : int
        That did not, after all tries.
    dropped : int
        For which there was no room.
    waiting : int
        With the one that is being posted.
    failure : str
        Why the last try failed; "" if it did not.
    """

    url: str
    sent: int = 0
    failed: int = 0
    dropped: int = 0
    waiting: int = 0
    failure: str = ""


class Webhook:
    """Posts changes as JSON, in their order, from a thread that begins with the first; a callback for alerts.

    A try that is not answered with 2xx is repeated three times, unless the answer is that it never will be. Redirects
    are not followed: they may lead to another host.

    Parameters
    ----------
    url : str
        ``http`` or ``https``.
    timeout : float or str
        Seconds for one try, from the connection to the end of the answer.
    pauses : sequence of float
        Seconds before each further try.

    Raises
    ------
    InvalidInputError
        If that is no URL of the web, or the timeout none.
    """

    def __init__(self, url: str, *, timeout: float | str = 5.0, pauses: Sequence[float] = _PAUSES) -> None:
        self._shown = shown_url(url)
        self._url = url
        self._timeout = seconds_of(timeout, what="timeout")
        self._pauses = tuple(pauses)
        self._lock = threading.Lock()
        self._waiting: deque[AlertChange] = deque()
        self._sent = self._failed = self._dropped = 0
        self._failure = ""
        self._closed = False
        self._thread: threading.Thread | None = None
        self._tell: Callable[[], object] = _nothing  # the thread's loop, while it runs
        self._stop: Callable[[], object] = _nothing

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, change: AlertChange) -> None:
        """Have it posted; where 100 wait, or after the end, it is dropped and counted."""
        with self._lock:
            if self._closed or len(self._waiting) >= _ROOM:
                self._dropped += 1
                return
            self._waiting.append(change)
            self._tell()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="mlnb-webhook", daemon=True)
                self._thread.start()

    def state(self) -> WebhookState:
        """Return how it does."""
        with self._lock:
            return WebhookState(
                url=self._shown, sent=self._sent, failed=self._failed, dropped=self._dropped,
                waiting=len(self._waiting), failure=self._failure,
            )  # fmt: skip

    def close(self) -> None:
        """End the thread, also in the middle of a try; what waits is dropped and counted."""
        with self._lock:
            self._closed = True
            self._dropped += len(self._waiting)
            self._waiting.clear()
            self._stop()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_PATIENCE)

    def _run(self) -> None:
        try:
            asyncio.run(self._post_all())
        except asyncio.CancelledError:  # it was closed
            pass
        except Exception:  # noqa: BLE001 - serving goes on without it
            _log.exception("The webhook at %s ended", self._shown)

    async def _post_all(self) -> None:
        """Post what comes until it is closed, which cancels this task wherever it is."""
        import aiohttp

        loop, task, came = asyncio.get_running_loop(), asyncio.current_task(), asyncio.Event()
        with self._lock:
            if self._closed or task is None:
                return
            self._tell = lambda: loop.call_soon_threadsafe(came.set)
            self._stop = lambda: loop.call_soon_threadsafe(task.cancel)
        times = aiohttp.ClientTimeout(total=self._timeout)
        try:
            async with aiohttp.ClientSession(timeout=times, trust_env=True) as session:
                while True:
                    came.clear()
                    for change in self._first():
                        self._done(change, await self._deliver(session, change))
                        came.set()
                    await came.wait()
        finally:
            with self._lock:
                self._tell = self._stop = _nothing

    async def _deliver(self, session: aiohttp.ClientSession, change: AlertChange) -> str:
        """Try until it arrived, or will not; return why it did not."""
        for pause in (0.0, *self._pauses):
            await asyncio.sleep(pause)
            self._failure, again = await self._try(session, change)
            if not again:
                break
        return self._failure

    def _first(self) -> list[AlertChange]:
        with self._lock:
            return list(self._waiting)[:1]

    def _done(self, change: AlertChange, failure: str) -> None:
        with self._lock:
            if self._closed:  # it was counted as dropped
                return
            self._waiting.popleft()
            self._sent += not failure
            self._failed += bool(failure)
        if failure:
            _log.warning("The webhook at %s did not take %r: %s", self._shown, change.words, failure)

    async def _try(self, session: aiohttp.ClientSession, change: AlertChange) -> tuple[str, bool]:
        """Return why it did not arrive, "" if it did, and whether another try may help."""
        import aiohttp

        try:
            async with session.post(
                self._url, data=orjson.dumps(change.to_json()), headers={"Content-Type": "application/json"},
                allow_redirects=False,
            ) as answer:  # fmt: skip
                return _judged(answer.status)
        except TimeoutError:
            return f"no answer within {self._timeout:g} s", True
        except OSError as error:
            return str(error), True
        except (aiohttp.ClientError, ValueError) as error:  # their text may hold the whole URL
            return type(error).__name__, True


def shown_url(url: str) -> str:
    """Return a URL without what may be secret.

    Raises
    ------
    InvalidInputError
        If it is no URL of the web.

    Examples
    --------
    >>> shown_url("https://user:password@hooks.example.org:8443/services/T0/secret?token=x")
    'https://hooks.example.org:8443/…'
    """
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
        well = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (AttributeError, TypeError, ValueError):  # not text, or a port that is no number
        well = False
    if not well or not url.isascii() or not url.isprintable() or " " in url:
        given = repr(re.split("[:/]", url)[0]) + " .." if isinstance(url, str) else f"{url!r:.40}"
        raise InvalidInputError(
            f"{given} is no webhook; give its whole URL: https://HOST/PATH, or http://HOST:PORT/PATH."
        )
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}{port}" + ("/…" if parts.path.strip("/") or parts.query else "")


def _judged(status: int) -> tuple[str, bool]:
    """Say what an answer's status means: why it did not arrive, and whether another try may help.

    Examples
    --------
    >>> _judged(204), _judged(500), _judged(404)
    (('', False), ('it answered 500', True), ('it answered 404', False))
    """
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return "", False
    if status < HTTPStatus.BAD_REQUEST:
        return f"it answered {status}, and redirects are not followed", False
    return f"it answered {status}", status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _RETRIED


def _nothing() -> None:
    """Do nothing: there is no loop."""
