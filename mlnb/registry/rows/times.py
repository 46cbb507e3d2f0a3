"""Dates and times: ISO 8601 text, Python's objects and numpy's arrays, exact to the nanosecond."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime
from functools import singledispatch
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TimeDtype", "Times", "from_nanoseconds", "is_time_dtype", "moment", "moment_text", "rescaled", "time_dtype"]

_NANOSECONDS = {"D": 86_400 * 10**9, "h": 3_600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_DTYPES = (
    re.compile(r"datetime64\[(?P<unit>\w+)(?:, (?P<zone>.+))?\]"),  # numpy's and pandas'
    re.compile(r"timestamp\[(?P<unit>\w+)(?:, tz=(?P<zone>.+))?\]\[pyarrow\]"),  # pandas' over Arrow
    re.compile(r"Datetime\(time_unit='(?P<unit>\w+)', time_zone=(?:None|'(?P<zone>.+)')\)"),  # polars'
)
_FRACTION = re.compile(r"(.*?[Tt ](?:\d\d:\d\d:\d\d|\d{6}))[.,](\d+)(.*)", re.DOTALL)
_LONGEST = 64  # characters; longer text is no date, and need not be searched for one
_EPOCH = date(1970, 1, 1).toordinal()
_NAT = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Times:
    """A column of times as a frame holds them.

    Attributes
    ----------
    values : ndarray of datetime64, shape (n,)
        In UTC where they have a zone; NaT where missing.
    zoned : bool
    """

    values: np.ndarray[Any, Any]
    zoned: bool


@dataclass(frozen=True, slots=True)
class TimeDtype:
    """What the name of a date-and-time dtype says: its numpy unit, and its time zone if it has one."""

    unit: str
    zone: str | None = None

    @property
    def numpy(self) -> np.dtype[Any]:
        """The numpy dtype of the values, which are in UTC where there is a zone."""
        return np.dtype(f"datetime64[{self.unit}]")


def time_dtype(dtype: str) -> TimeDtype:
    """Read the name that numpy, pandas, polars or Arrow-backed pandas gives a dtype of times.

    Raises
    ------
    ValueError
        If it is none, or counts in months or years.

    Examples
    --------
    >>> time_dtype("datetime64[us, Europe/Berlin]")
    TimeDtype(unit='us', zone='Europe/Berlin')
    >>> time_dtype("Date")
    TimeDtype(unit='D', zone=None)
    """
    if dtype == "Date":
        return TimeDtype("D")
    found = next((match for pattern in _DTYPES if (match := pattern.fullmatch(dtype))), None)
    if found is None or found["unit"] not in _NANOSECONDS:
        raise ValueError(f"{dtype!r} is no dtype of dates and times")
    return TimeDtype(found["unit"], found["zone"])


def is_time_dtype(dtype: str) -> bool:
    """Say whether :func:`time_dtype` reads this name."""
    try:
        time_dtype(dtype)
    except ValueError:
        return False
    return True


@singledispatch
def moment(value: object) -> tuple[int, bool]:
    """Return nanoseconds since 1970 (in UTC where a zone is given), and whether a zone is given.

    Parameters
    ----------
    value : str, datetime.datetime (pandas' Timestamp is one), datetime.date or numpy.datetime64
        Text is ISO 8601, to nine digits of a second.

    Raises
    ------
    ValueError
        If it is none of these.

    Examples
    --------
    >>> moment("1970-01-01T00:00:01.000000001Z")
    (1000000001, True)
    >>> moment("1970-01-02")
    (86400000000000, False)
    """
    raise ValueError(f"{type(value).__name__} is no date and time")


@moment.register
def _of_text(value: str) -> tuple[int, bool]:
    if len(value) > _LONGEST:
        raise ValueError("the text is too long for a date")
    split = _FRACTION.fullmatch(value)
    if split is None:
        return moment(datetime.fromisoformat(value))
    digits = split[2].rstrip("0")
    if len(digits) > 9:  # noqa: PLR2004 - digits of a nanosecond
        raise ValueError("times are exact to the nanosecond")
    whole, zoned = moment(datetime.fromisoformat(split[1] + split[3]))  # which by itself cuts at the microsecond
    return whole + int(digits.ljust(9, "0")), zoned


@moment.register
def _of_datetime(value: datetime) -> tuple[int, bool]:
    if value != value:  # noqa: PLR0124 - pandas' NaT
        raise ValueError("NaT is no date and time")
    seconds = (value.toordinal() - _EPOCH) * 86_400 + value.hour * 3_600 + value.minute * 60 + value.second
    nanoseconds = seconds * 10**9 + value.microsecond * 1_000 + int(getattr(value, "nanosecond", 0))
    offset = value.utcoffset()
    if offset is None:
        return nanoseconds, False
    behind = (offset.days * 86_400 + offset.seconds) * 10**6 + offset.microseconds
    return nanoseconds - behind * 1_000, True


@moment.register
def _of_date(value: date) -> tuple[int, bool]:
    return (value.toordinal() - _EPOCH) * _NANOSECONDS["D"], False


@moment.register
def _of_numpy(value: np.datetime64) -> tuple[int, bool]:
    unit = np.datetime_data(value.dtype)[0]
    if unit not in _NANOSECONDS or np.isnat(value):
        raise ValueError(f"{value} has no exact date and time")
    return int(value.astype(f"datetime64[{unit}]").astype(np.int64)) * _NANOSECONDS[unit], False


def rescaled(values: np.ndarray[Any, Any], dtype: TimeDtype) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return times in another unit, and which of them it holds exactly; NaT stays NaT and counts as exact.

    numpy's own conversion rounds, and wraps around beyond its range, without a word.
    """
    unit = np.datetime_data(values.dtype)[0]
    if unit in ("Y", "M", "W"):
        return rescaled(values.astype("datetime64[D]"), dtype)
    if unit not in _NANOSECONDS:  # finer than a nanosecond, or of no unit at all
        return np.full(values.shape, _NAT).view(dtype.numpy), np.isnat(values)
    given, wanted = _NANOSECONDS[unit], _NANOSECONDS[dtype.unit]
    counts = values.astype(f"datetime64[{unit}]").astype(np.int64)
    missing = counts == _NAT
    if given >= wanted:
        factor = given // wanted
        exact = np.abs(np.where(missing, 0, counts)) <= (-_NAT - 1) // factor
        counts = np.where(missing | ~exact, _NAT, np.where(exact, counts, 0) * factor)
    else:
        factor = wanted // given
        exact = counts % factor == 0
        counts = np.where(missing, _NAT, counts // factor)
    return counts.astype(np.int64).view(dtype.numpy), exact | missing


def from_nanoseconds(values: Sequence[int | None], dtype: TimeDtype) -> tuple[np.ndarray[Any, Any], list[bool]]:
    """Return times from nanoseconds since 1970 (None: missing), and which of them the dtype holds exactly."""
    factor = _NANOSECONDS[dtype.unit]
    exact = [value is None or (value % factor == 0 and abs(value // factor) <= -_NAT - 1) for value in values]
    counts = [_NAT if value is None or not fits else value // factor for value, fits in zip(values, exact, strict=True)]
    return np.array(counts, dtype=np.int64).view(dtype.numpy), exact


def moment_text(value: np.datetime64, *, zoned: bool) -> str:
    """Write a time as ISO 8601, with a Z where it has a zone.

    Examples
    --------
    >>> moment_text(np.datetime64("2026-01-31T12:00:00.500", "ns"), zoned=True)
    '2026-01-31T12:00:00.5Z'
    """
    text = str(np.datetime_as_string(value))
    whole, dot, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    return whole + (dot + fraction if fraction else "") + ("Z" if zoned else "")
