"""The record that a process with deployments leaves: who it is, and where it is asked."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mlnb.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FORMAT", "MOST_BYTES", "ServerRecord"]

FORMAT = 1
MOST_BYTES = 256 * 1024  # of a record; a thousand deployments need 100 kB


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRecord:
    """A process that serves models, as its record in the runtime folder tells.

    Attributes
    ----------
    pid : int
    started : float
        When the process began, seconds since the epoch as psutil tells them: with the pid it names one process only.
    port : int
        Of the HTTP server, on loopback.
    socket : str
        Path of the Unix socket at which the process is asked what it serves, and told to stop or roll back.
    names : tuple of str
        What is live, sorted.
    kernel : str
        Id of the Jupyter kernel, "" outside of one.
    notebook : str
        Path of the notebook as the kernel was told at its start, "" where it was not.
    """

    pid: int
    started: float
    port: int
    socket: str
    names: tuple[str, ...]
    kernel: str = ""
    notebook: str = ""

    @property
    def id(self) -> str:
        """What names this process in a URL.

        Examples
        --------
        >>> ServerRecord(pid=7, started=1700000000.25, port=8000, socket="/tmp/s", names=("iris",)).id
        '7-1700000000250'
        """
        return f"{self.pid}-{round(self.started * 1000)}"

    def to_text(self) -> str:
        """Return it as it is written."""
        return json.dumps({"format": FORMAT} | asdict(self), indent=1)

    @classmethod
    def parse(cls, text: str) -> ServerRecord:
        """Return the record that ``text`` is.

        Raises
        ------
        InvalidInputError
            If it is half written, of another format, or no record at all.
        """
        try:
            told = json.loads(text)
        except ValueError as error:
            raise InvalidInputError(f"The record is not JSON: {error}.") from None
        if not isinstance(told, dict) or told.get("format") != FORMAT:
            raise InvalidInputError(f"The record is not of format {FORMAT}.")
        wrong = sorted(name for name, accepts in _ACCEPTS.items() if not accepts(told.get(name)))
        if wrong:
            raise InvalidInputError(f"The record has no proper {', '.join(wrong)}.")
        fields = {name: told[name] for name in _ACCEPTS}
        return cls(**fields | {"names": tuple(sorted(fields["names"])), "started": float(fields["started"])})


def _is_number(value: Any, *, least: int, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _is_text(value: Any, *, errors: str = "strict") -> bool:
    """Say whether it can be printed; a path may have bytes that Python escapes, as ``os.fsencode`` does."""
    if not isinstance(value, str):
        return False
    try:
        value.encode(errors=errors)
    except UnicodeEncodeError:
        return False
    return True


_LARGEST_PID, _LARGEST_PORT, _LARGEST_TIME = 2**31 - 1, 65_535, 1e11
_ACCEPTS: dict[str, Callable[[Any], bool]] = {
    "pid": lambda value: isinstance(value, int) and _is_number(value, least=1, most=_LARGEST_PID),
    "started": lambda value: _is_number(value, least=0, most=_LARGEST_TIME),
    "port": lambda value: isinstance(value, int) and _is_number(value, least=1, most=_LARGEST_PORT),
    "socket": lambda value: _is_text(value, errors="surrogateescape") and value.startswith("/") and "\0" not in value,
    "names": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    "kernel": _is_text,
    "notebook": _is_text,
}
