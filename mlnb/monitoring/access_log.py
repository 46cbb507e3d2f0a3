"""One line of JSON for each request, where somebody asks for it."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from typing import TYPE_CHECKING, Protocol

import orjson

from mlnb.monitoring.metrics import kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlnb.events import PredictionEvent

__all__ = ["AccessLog", "EventLog", "NoAccessLog", "access_log_for", "on_stderr"]

_NAME = "mlnb.access"
_OFF = ("", "0", "false", "no", "off")
_ON = ("1", "true", "yes", "on")


class EventLog(Protocol):
    """Listens to predictions."""

    def observe(self, events: Sequence[PredictionEvent]) -> None:
        """Write of requests."""
        ...

    def close(self) -> None:
        """Write no more."""
        ...


class NoAccessLog:
    """What listens while the log is off."""

    def observe(self, events: Sequence[PredictionEvent]) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class AccessLog:
    """Writes requests to the logger ``mlnb.access``, those of one turn of the loop together: a line of JSON for each.

    It holds no inputs, no answers, no headers, and not what a model said when it failed.

    Parameters
    ----------
    handler : logging.Handler
        Where the lines go; the logger gets it until the log is closed.
    """

    def __init__(self, handler: logging.Handler) -> None:
        self._handler = handler
        self._log = logging.getLogger(_NAME)
        self._log.setLevel(logging.INFO)
        self._log.propagate = False  # it has a place of its own
        self._log.addHandler(handler)

    def observe(self, events: Sequence[PredictionEvent]) -> None:
        """Write of requests."""
        self._log.info("%s", "\n".join([_line(event) for event in events]))

    def close(self) -> None:
        """Write no more."""
        self._log.removeHandler(self._handler)
        self._handler.close()


def access_log_for(environ: Mapping[str, str]) -> EventLog:
    """Return what ``MLNB_ACCESS_LOG`` asks for: nothing, lines on stderr where it is 1, or in the file that it names.

    A file may be moved away (logrotate): the next line begins a new one. One that cannot be written is said once, on
    stderr. Each log is one more place for all requests of this process, so a process needs one.

    Parameters
    ----------
    environ : mapping of str to str
    """
    given = environ.get("MLNB_ACCESS_LOG", "").strip()
    if given.lower() in _OFF:
        return NoAccessLog()
    try:
        return AccessLog(_Stream() if given.lower() in _ON else _File(given))
    except OSError as error:
        _say(error)
        return NoAccessLog()


class _Survives(logging.Handler):
    """Says once that it cannot write, and tries again with the next lines."""

    said = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:  # of a file that cannot be opened anew
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - the standard library's name
        if not self.said:
            self.said = True
            _say(sys.exc_info()[1])


class _Stream(_Survives, logging.StreamHandler):  # type: ignore[type-arg]  # of whatever stderr is
    """Writes to stderr."""


class _File(_Survives, WatchedFileHandler):
    """Writes to a file, and to a new one when that was moved away."""


def _say(error: BaseException | None) -> None:
    print(f"mlnb: the access log cannot be written: {error}", file=sys.stderr)  # noqa: T201 - logging is what fails


def _line(event: PredictionEvent) -> str:
    return orjson.dumps({
        "time": datetime.fromtimestamp(event.at, UTC).isoformat(timespec="milliseconds"), "model": event.model,
        "version": event.version, "request_id": event.request_id, "status": event.status,
        "ms": round(event.seconds * 1e3, 3), "rows": event.rows, "replica": event.replica,
        "error": kind_of(event.status),
    }).decode()  # fmt: skip


def on_stderr(environ: Mapping[str, str]) -> bool:
    """Say whether ``MLNB_ACCESS_LOG`` asks for lines on stderr."""
    return environ.get("MLNB_ACCESS_LOG", "").strip().lower() in _ON
