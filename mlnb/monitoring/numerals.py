"""Shares, times and other figures as people read them, in one form wherever they are shown."""

from __future__ import annotations

from math import isfinite

__all__ = ["MEANINGS", "NONE", "duration", "figure", "milliseconds", "percent", "probability"]

NONE = "—"
MEANINGS = {
    "effect": "Kolmogorov-Smirnov distance of numbers, Cramér's V of categories",
    "outside": "share of values beyond the example's range, or that are no category of it",
    "Wasserstein": "how far the values moved, in standard deviations of the example",
}
_UNITS = ((86_400, "day"), (3_600, "h"), (60, "min"))  # seconds


def figure(value: float | None) -> str:
    """Write a number with three digits, one below 1 with two and at most four decimals; a dash for what is not known.

    Examples
    --------
    >>> [figure(value) for value in (1234.4, 12.345, 0.1234, 7e-5, None)]
    ['1,234', '12.3', '0.12', '0', '—']
    """
    if value is None or not isfinite(value):
        return NONE
    if abs(value) >= 100:  # noqa: PLR2004 - three digits
        return f"{value:,.0f}"
    if abs(value) < 0.0005:  # noqa: PLR2004 - 7e-05 is not read
        return "0"
    return f"{value:.3g}" if abs(value) >= 1 else f"{value:.2g}"


def milliseconds(value: float | None) -> str:
    """Write a time in milliseconds.

    Examples
    --------
    >>> milliseconds(2.444), milliseconds(None)
    ('2.44 ms', '—')
    """
    return NONE if value is None else f"{figure(value)} ms"


def percent(share: float) -> str:
    """Write a share, from 0 to 1.

    Examples
    --------
    >>> [percent(share) for share in (0.0, 0.0004, 0.0333, 0.15, 1.0)]
    ['0 %', '< 0.1 %', '3.3 %', '15 %', '100 %']
    """
    if not isfinite(share):
        return NONE
    if 0 < share < 0.001:  # noqa: PLR2004 - no more digits than are read
        return "< 0.1 %"
    return f"{100 * share:.2g} %" if share < 0.0995 else f"{100 * share:.0f} %"  # noqa: PLR2004 - two digits


def probability(value: float) -> str:
    """Write a p-value.

    Examples
    --------
    >>> probability(0.0312), probability(3e-8)
    ('0.031', '< 0.001')
    """
    if not isfinite(value):
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.2g}"  # noqa: PLR2004 - as they are commonly written


def duration(seconds: float) -> str:
    """Write how long something lasts, in its largest whole unit.

    Examples
    --------
    >>> duration(7.9), duration(200), duration(2 * 86_400)
    ('7 s', '3 min', '2 days')
    """
    for length, unit in _UNITS:
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''}"
    return f"{max(0, int(seconds))} s"
