"""Where predictions are logged, and what of them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote, urlsplit

from mlnb.errors import InvalidInputError, MissingLibraryError, nearest
from mlnb.registry.registry import default_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LogSettings", "LogState", "check_fields"]

_FORMS = (
    "a log is given as True, as the path of an SQLite file, as sqlite:///PATH, as postgresql://USER@HOST/DATABASE, "
    "or as a mapping with 'url', 'sample', 'keep_days', 'keep_bytes', 'leave_out', 'hashed' and 'inputs'"
)
_SECRET = re.compile(r"(?i)([?&](?:password|passfile|sslpassword)=)[^&]*")
_SQLITE, _POSTGRESQL = "sqlite:///", "postgresql+psycopg://"
_SCHEMES = {
    "postgresql": _POSTGRESQL,
    "postgres": _POSTGRESQL,
    "postgresql+psycopg": _POSTGRESQL,
    "sqlite": _SQLITE,
}
_LEAST_BYTES = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """Where the predictions of a deployment are logged, and what of them.

    Attributes
    ----------
    url : str
        ``sqlite:///PATH`` or ``postgresql+psycopg://...``; empty for the default place.
    sample : float
        The share of the requests that are logged, chosen by their ids: above 0, at most 1.
    keep_days : float or None
        Older ones are deleted; None keeps them whatever their age.
    keep_bytes : int or None
        The oldest ones are deleted where the log takes more; None for no limit, else at least 1 MiB.
    leave_out : tuple of str
        Fields that are not logged.
    hashed : tuple of str
        Fields of which a salted hash is logged: one can tell whether two are equal, and not what they are.
    inputs : bool
        Whether inputs are logged at all.

    Examples
    --------
    >>> LogSettings.of({"url": "postgres://me@db/logs", "sample": 0.1}).url
    'postgresql+psycopg://me@db/logs'
    """

    url: str = field(default="", repr=False)  # it may hold a password
    sample: float = 1.0
    keep_days: float | None = 30
    keep_bytes: int | None = 2**30
    leave_out: tuple[str, ...] = ()
    hashed: tuple[str, ...] = ()
    inputs: bool = True

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            object.__setattr__(self, name, check(getattr(self, name)))

    @classmethod
    def of(cls, given: Any) -> Self:
        """Return the settings that a user gave.

        Parameters
        ----------
        given : True, str, Path, mapping or LogSettings

        Raises
        ------
        InvalidInputError
            What was given, and what is accepted.
        MissingLibraryError
            If the library for that database is not installed.
        """
        if isinstance(given, cls):
            return given
        if given is True:
            return cls()
        if isinstance(given, (str, Path)):
            return cls(url=str(given))
        if not isinstance(given, Mapping):
            raise InvalidInputError(f"The log is {given!r:.80}; {_FORMS}.")
        names = {one.name for one in dataclasses.fields(cls)}
        for name in given:
            if name not in names:
                raise InvalidInputError(f"A log has no setting {name!r:.80}; {nearest(str(name), names)}.")
        return cls(**given)

    def beside(self, registry: str) -> Self:
        """Return the settings with a place of its own for each registry: its folder, unless another one was named.

        Parameters
        ----------
        registry : str
            A folder, or the URL of a bucket, whose log stands in the default folder.

        Examples
        --------
        >>> LogSettings().beside("/data/models").url
        'sqlite:////data/models/predictions.sqlite'
        """
        if self.url:
            return self
        folder = Path(registry).absolute()
        name = "predictions.sqlite"
        if "://" in registry:
            folder, name = (
                default_folder().absolute(),
                f"predictions-{sha256(registry.encode()).hexdigest()[:12]}.sqlite",
            )
        return dataclasses.replace(self, url=f"{_SQLITE}{folder / name}")

    @property
    def place(self) -> str:
        """The whole URL, with the password: of the default place, too."""
        return self.url or f"{_SQLITE}{default_folder().absolute() / 'predictions.sqlite'}"

    @property
    def file(self) -> Path | None:
        """The SQLite file; None where the log is on a server."""
        place = self.place
        return Path(place.removeprefix(_SQLITE)) if place.startswith(_SQLITE) else None

    @property
    def shown(self) -> str:
        """The URL for people, without the password."""
        secret = urlsplit(self.place).password if self.file is None else None
        shown = self.place.replace(f":{secret}@", ":***@", 1) if secret is not None else self.place
        return _SECRET.sub(r"\1***", shown)


@dataclass(frozen=True, slots=True)
class LogState:
    """How a log is.

    Attributes
    ----------
    url : str
        Without the password.
    written : int
        Requests.
    dropped : int
        Requests and labels that were lost, because too many waited or the database refused them.
    waiting : int
        Requests that are not written yet.
    failure : str
        Why nothing is written just now, in one line; empty while it works.
    opening : bool
        Whether the database has not answered yet, which a server that is away may take seconds for.
    """

    url: str
    written: int = 0
    dropped: int = 0
    waiting: int = 0
    failure: str = ""
    opening: bool = False

    @property
    def words(self) -> str:
        """How it is, in one line.

        Examples
        --------
        >>> LogState("sqlite:////data/predictions.sqlite", written=12, waiting=3).words
        '12 requests written, 3 wait'
        """
        if self.failure:
            return f"cannot be written: {self.failure}; {self.waiting:,} requests wait, {self.dropped:,} are lost"
        if self.opening:
            return "the database has not answered yet"
        parts = (("wait", self.waiting), ("are lost", self.dropped))
        return ", ".join(
            [f"{self.written:,} requests written", *(f"{count:,} {what}" for what, count in parts if count)]
        )

    def __str__(self) -> str:
        return f"{self.url}: {self.words}"


def check_fields(settings: LogSettings, names: Sequence[str]) -> None:
    """Refuse settings that hide fields which a version does not have: a slip there would log what is to be hidden.

    Parameters
    ----------
    settings : LogSettings
    names : sequence of str
        Of the version's fields; none where it does not know them.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> check_fields(LogSettings(leave_out=("age",)), ("age", "income"))
    """
    for name in (*settings.leave_out, *settings.hashed):
        if name in names:
            continue
        what = "leave out" if name in settings.leave_out else "hash"
        if not names:
            raise InvalidInputError(
                f"The log is to {what} {name!r:.80}, and the model does not say what its fields are called. Give "
                "example=, a table with names, or log no inputs at all: log={'inputs': False}."
            )
        raise InvalidInputError(
            f"The log is to {what} {name!r:.80}, which is no field of the model; {nearest(name, names)}. Give "
            "log= with its fields."
        )


def _url(given: Any) -> str:
    if not isinstance(given, str):
        raise InvalidInputError(f"The log's url is {given!r:.80}; {_FORMS}.")
    if not given:
        return ""
    scheme, separator, rest = given.partition("://")
    if not separator:
        return f"{_SQLITE}{Path(given).expanduser().absolute()}"
    prefix = _SCHEMES.get(scheme)
    if prefix is None:
        raise InvalidInputError(f"The log's url begins with {scheme[:40]!r}; {_FORMS}.")
    return _sqlite_url(rest) if prefix == _SQLITE else _postgresql_url(rest)


def _sqlite_url(rest: str) -> str:
    path = rest.removeprefix("/")
    if not rest.startswith("/") or not path or path == ":memory:" or "?" in path:
        raise InvalidInputError(f"The log's url names no file: 'sqlite://{rest[:80]}'; give sqlite:///PATH.")
    return f"{_SQLITE}{Path(path).expanduser().absolute()}"


def _postgresql_url(rest: str) -> str:
    try:
        parts = urlsplit(f"{_POSTGRESQL}{rest}")
        named = bool(unquote(parts.path).strip("/")) and (parts.port is None or parts.port > 0)
    except ValueError:
        named = False
    if not named:
        raise InvalidInputError("The log's url names no database; give postgresql://USER:PASSWORD@HOST:PORT/DATABASE.")
    if find_spec("psycopg") is None:
        raise MissingLibraryError("A log on PostgreSQL needs psycopg: pip install 'mlnb[postgresql]'.")
    return f"{_POSTGRESQL}{rest}"


def _number(name: str, value: Any, accepted: str, *, low: float, high: float) -> float:
    usable = (
        isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value) and low <= value <= high
    )
    if not usable:
        raise InvalidInputError(f"The log's {name!r} is {value!r:.80}; it is {accepted}.")
    number: float = value
    return number


def _sample(value: Any) -> float:
    return _number("sample", value, "a share above 0 and at most 1", low=1e-9, high=1)


def _keep_days(value: Any) -> float | None:
    return None if value is None else _number("keep_days", value, "a number of days, or None", low=1e-6, high=1e5)


def _keep_bytes(value: Any) -> int | None:
    if value is None:
        return None
    accepted = f"a number of bytes from {_LEAST_BYTES:,} on, or None"
    return int(_number("keep_bytes", value, accepted, low=_LEAST_BYTES, high=2**60))


def _names(name: str, value: Any) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, (list, tuple, set, frozenset)) or not all(isinstance(one, str) for one in listed):
        raise InvalidInputError(f"The log's {name!r} is {value!r:.80}; it is a list of names of fields.")
    return tuple(listed)


def _leave_out(value: Any) -> tuple[str, ...]:
    return _names("leave_out", value)


def _hashed(value: Any) -> tuple[str, ...]:
    return _names("hashed", value)


def _inputs(value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidInputError(f"The log's 'inputs' is {value!r:.80}; it is True or False.")
    return value


_CHECKS = {
    "url": _url,
    "sample": _sample,
    "keep_days": _keep_days,
    "keep_bytes": _keep_bytes,
    "leave_out": _leave_out,
    "hashed": _hashed,
    "inputs": _inputs,
}
