"""Other bounds at certain times of the day and week, in the time zone of whoever wrote them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from functools import lru_cache
from operator import index
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from mlnb.errors import InvalidInputError, nearest

__all__ = ["Schedule", "checked_bounds", "whole_number"]

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_GROUPS = {"every day": _DAYS, "weekdays": _DAYS[:5], "weekends": _DAYS[5:]}
_TIME = re.compile(r"([0-9]{1,2}):([0-9]{2})", re.ASCII)
_WHOLE_DAY = ("00:00", "24:00")
_MINUTES = 24 * 60  # of a day
_HOUR = 60  # minutes


@dataclass(frozen=True, slots=True)
class Schedule:
    """Bounds that hold at certain times.

    Parameters
    ----------
    least : int
        Replicas, 0 or more.
    most : int or None
        None: as at other times.
    days : str or sequence of str
        "every day", "weekdays" (Monday to Friday), "weekends", one day, or several: ``("mon", "wed")``.
    start, end : str
        Times of day, "HH:MM". An end before the start is on the next day; the whole time then counts for the day on
        which it starts.
    zone : str or None
        Name of a time zone, such as "Europe/Berlin"; None is the machine's own. Clocks that change between summer and
        winter are followed.

    Raises
    ------
    InvalidInputError
        If one of them is none that is accepted.

    Examples
    --------
    >>> office = Schedule(2, days="weekdays", start="08:00", end="18:00", zone="Europe/Berlin")
    >>> office.words
    'at least 2 on weekdays, 08:00 to 18:00 (Europe/Berlin)'
    >>> monday = 1_767_600_000  # 2026-01-05, 08:00 UTC
    >>> office.holds(monday), office.holds(monday - 86_400)
    (True, False)
    """

    least: int
    most: int | None = None
    days: str | Sequence[str] = "every day"
    start: str = "00:00"
    end: str = "24:00"
    zone: str | None = None

    def __post_init__(self) -> None:
        least, most = checked_bounds(self.least, sys.maxsize if self.most is None else self.most)
        object.__setattr__(self, "least", least)
        object.__setattr__(self, "most", None if self.most is None else most)
        days = self.days if isinstance(self.days, Iterable) else (self.days,)
        object.__setattr__(self, "days", days if isinstance(days, str) else tuple(days))  # a list could change
        for given in (*days, self.start, self.end, self.zone or ""):
            if not isinstance(given, str):
                raise InvalidInputError(f"{given!r:.40}: days, times and the zone of a schedule are given as text.")
        _days(self.days)
        if _minute("start", self.start) == _minute("end", self.end) or self.start == _WHOLE_DAY[1]:
            raise InvalidInputError(
                f"A schedule from {self.start} to {self.end} has no time in it; for the whole day leave both out."
            )
        _zone(self.zone)

    def holds(self, wall: float) -> bool:
        """Return whether these bounds hold at a moment.

        Parameters
        ----------
        wall : float
            Seconds since the epoch.
        """
        try:
            moment = datetime.fromtimestamp(wall, _zone(self.zone))
        except (ValueError, OverflowError, OSError):  # no moment that a calendar knows
            return False
        days, day, minute = _days(self.days), moment.weekday(), moment.hour * _HOUR + moment.minute
        start, end = _minute("start", self.start), _minute("end", self.end)
        if start < end:
            return day in days and start <= minute < end
        return (minute >= start and day in days) or (minute < end and (day - 1) % len(_DAYS) in days)

    @property
    def words(self) -> str:
        """The schedule in words."""
        bounds = f"at least {self.least}" if self.most is None else f"{self.least} to {self.most}"
        days = self.days if isinstance(self.days, str) else ", ".join(self.days)
        said = [bounds, days if days == "every day" else f"on {days}"]
        times = "" if (self.start, self.end) == _WHOLE_DAY else f", {self.start} to {self.end}"
        return " ".join(said) + times + (f" ({self.zone})" if self.zone else "")


def checked_bounds(least: Any, most: Any, *, highest: int | None = None) -> tuple[int, int]:
    """Return bounds, of whatever kind of whole number, and refuse those that cannot hold.

    Parameters
    ----------
    least, most : int
        Replicas.
    highest : int or None
        That ``most`` may be.

    Raises
    ------
    InvalidInputError
        If one is no whole number, or out of its range, or they are the wrong way round.
    """
    least = _checked_count("least", least, lowest=0, highest=highest)
    most = _checked_count("most", most, lowest=1, highest=highest)
    if least > most:
        raise InvalidInputError(
            f"At least {least} and at most {most} replicas cannot both hold; did you mean {most} to {least}?"
        )
    return least, most


def whole_number(given: Any) -> int | None:
    """Return a whole number of any kind, numpy's too; None if it is none."""
    try:
        return None if isinstance(given, bool) else index(given)
    except TypeError:
        return None


def _checked_count(what: str, given: Any, *, lowest: int, highest: int | None) -> int:
    count = whole_number(given)
    if count is None or count < lowest or (highest and count > highest):
        accepted = f"from {lowest} to {highest}" if highest else f"of {lowest} or more"
        raise InvalidInputError(f"{what}={given!r:.40} replicas: a whole number {accepted} is needed.")
    return count


@lru_cache
def _days(given: str | tuple[str, ...]) -> frozenset[int]:
    names = _GROUPS.get(given, (given,)) if isinstance(given, str) else given
    if not names:
        raise InvalidInputError('A schedule needs a day at least: days="weekdays", or ("mon", "fri").')
    for name in names:
        if name not in _DAYS:
            raise InvalidInputError(f"days: there is no day {name!r:.40}; {nearest(str(name), (*_DAYS, *_GROUPS))}.")
    return frozenset(map(_DAYS.index, names))


@lru_cache
def _minute(what: str, given: str) -> int:
    found = _TIME.fullmatch(given) if isinstance(given, str) else None
    minute = int(found[1]) * _HOUR + int(found[2]) if found is not None and int(found[2]) < _HOUR else _MINUTES + 1
    if minute > _MINUTES:
        raise InvalidInputError(f'{what}={given!r:.40}: a time of day is needed, from "00:00" to "24:00".')
    return minute


@lru_cache
def _zone(name: str | None) -> ZoneInfo | None:
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except Exception as error:  # of many kinds: unknown, a path, a folder, a file that is none
        raise InvalidInputError(f"zone={name!r:.60}: there is no such time zone; {_nearest_zone(name)}") from error


def _nearest_zone(name: str) -> str:
    cities = {zone.rpartition("/")[2].lower(): zone for zone in sorted(available_timezones())}
    close = get_close_matches(name.rpartition("/")[2].lower().replace(" ", "_"), cities, n=1)
    return f"did you mean {cities[close[0]]!r}?" if close else 'names are such as "Europe/Berlin".'
