"""Durations as people write them: "30s", "1m", "2 hours"."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from numbers import Real

from mlnb.errors import InvalidInputError

__all__ = ["UNITS", "duration_text", "seconds_of", "span_text"]

UNITS = {
    "ms": 0.001, "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "m": 60.0, "min": 60.0, "minute": 60.0,
    "minutes": 60.0, "h": 3600.0, "hour": 3600.0, "hours": 3600.0,
}  # fmt: skip
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)", re.ASCII)


def seconds_of(given: float | str, *, what: str) -> float:
    """Return a duration in seconds.

    Parameters
    ----------
    given : float or str
        Seconds, or a number with a unit: ms, s, m, min or h, or one written out, such as minutes.
    what : str
        Name of the argument, for the refusal.

    Raises
    ------
    InvalidInputError
        If it is none, or below 0.

    Examples
    --------
    >>> seconds_of("1m", what="hold"), seconds_of("5 minutes", what="hold"), seconds_of(20, what="hold")
    (60.0, 300.0, 20.0)
    """
    found = _DURATION.fullmatch(given.strip()) if isinstance(given, str) else None
    seconds = math.nan
    if found is not None:
        seconds = float(found[1]) * UNITS.get(found[2], math.nan)
    elif isinstance(given, Real) and not isinstance(given, bool):
        with suppress(OverflowError):  # of a whole number
            seconds = float(given)
    if not 0 <= seconds < math.inf:
        raise InvalidInputError(f'{what}={given!r:.40}: a number of seconds is needed, or text like "30s", "1m", "2h".')
    return seconds


def duration_text(seconds: float) -> str:
    """Write a duration in the largest unit that fits, as :func:`seconds_of` reads it.

    Examples
    --------
    >>> duration_text(60), duration_text(90), duration_text(7200), duration_text(0.5)
    ('1m', '90s', '2h', '0.5s')
    """
    for unit in ("h", "m"):
        if seconds and seconds % UNITS[unit] == 0:
            return f"{seconds / UNITS[unit]:g}{unit}"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


def span_text(seconds: float) -> str:
    """Write how long something has lasted: to the second below two minutes, to the minute below a day, else the hour.

    Examples
    --------
    >>> span_text(45.3), span_text(725), span_text(100_000)
    ('45s', '12m', '28h')
    """
    step = 1 if seconds < 120 else 60 if seconds < 86_400 else 3600  # noqa: PLR2004 - as said above
    return duration_text(round(seconds / step) * step)
