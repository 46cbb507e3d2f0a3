"""Durations as people write them: "30s", "1m", "2h"."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from numbers import Real

from mlnb.errors import InvalidInputError

__all__ = ["duration_text", "seconds_of"]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|min|m|h)")


def seconds_of(given: float | str, *, what: str) -> float:
    """Return a duration in seconds.

    Parameters
    ----------
    given : float or str
        Seconds, or a number with a unit: ms, s, m, min or h.
    what : str
        Name of the argument, for the refusal.

    Raises
    ------
    InvalidInputError
        If it is none, or below 0.

    Examples
    --------
    >>> seconds_of("1m", what="hold"), seconds_of("1.5 h", what="hold"), seconds_of(20, what="hold")
    (60.0, 5400.0, 20.0)
    """
    found = _DURATION.fullmatch(given.strip()) if isinstance(given, str) else None
    seconds = math.nan
    if found is not None:
        seconds = float(found[1]) * _UNITS[found[2]]
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
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{seconds / _UNITS[unit]:g}{unit}"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"
