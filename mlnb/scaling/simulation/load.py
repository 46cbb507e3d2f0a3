"""The load of a simulation: when requests arrive."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from math import ceil, inf, isfinite, pi
from operator import index
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from mlnb.durations import duration_text, seconds_of, span_text
from mlnb.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

__all__ = ["Floats", "Load", "rng_of", "whole_of"]

Floats = NDArray[np.float64]

_MOST = 50_000_000  # requests: what fits in memory, and ends within a minute
_PIECES = 60  # straight ones that make a wave
_MOST_KNOTS = 100_000
_DAY = 86_400.0
_EPOCH = 366 * _DAY  # what is later than that is no time from a beginning
_HOURS = (0, 3, 5, 7, 9, 11, 12, 12.5, 13.25, 14, 16, 18, 20, 22, 24)
_PARTS = (0.12, 0.05, 0.06, 0.30, 0.85, 1.0, 0.80, 0.60, 0.62, 0.92, 0.95, 0.60, 0.45, 0.25, 0.12)  # of the peak


@dataclass(frozen=True, slots=True, eq=False)
class Load:
    """Requests over time: a rate from which arrivals are drawn (a Poisson process), or arrivals that were recorded.

    Its constructors make one; they take lengths in seconds, or as text such as "10m".

    Attributes
    ----------
    words : str
        What it is, in a few words.
    seconds : float
        How long it lasts.
    knots, rates : ndarray of float
        The rate in requests per second is ``rates[i]`` at ``knots[i]`` seconds, and straight between them; two equal
        knots make a step. Empty if the arrivals were recorded.
    times : ndarray of float
        The arrivals that were recorded, in seconds from the beginning and in order.
    start : float or None
        Seconds since the epoch at which it began, where that is known.

    Examples
    --------
    >>> load = Load.step(10, 80, at="1m", seconds="5m")
    >>> load.words, load.seconds, load.requests
    ('step from 10 to 80 requests/s', 300.0, 19800.0)
    >>> load.arrivals(np.random.default_rng(0))[:3].round(2).tolist()
    [0.07, 0.17, 0.17]
    """

    words: str
    seconds: float
    knots: Floats
    rates: Floats
    times: Floats
    start: float | None = None

    # ---- shapes ----

    @classmethod
    def steady(cls, rate: float, *, seconds: float | str = 600.0) -> Self:
        """Return a load of one rate."""
        return cls._of(f"steady {rate} requests/s", [0.0, _length(seconds)], [rate, rate])

    @classmethod
    def step(cls, before: float, after: float, *, at: float | str = 60.0, seconds: float | str = 600.0) -> Self:
        """Return a load that goes from one rate to another all at once."""
        length = _length(seconds)
        moment = _within(at, length)
        words = f"step from {before} to {after} requests/s"
        return cls._of(words, [0.0, moment, moment, length], [before, before, after, after])

    @classmethod
    def ramp(cls, before: float, after: float, *, seconds: float | str = 600.0) -> Self:
        """Return a load that grows, or shrinks, in a straight line."""
        return cls._of(f"ramp from {before} to {after} requests/s", [0.0, _length(seconds)], [before, after])

    @classmethod
    def sine(cls, low: float, high: float, *, period: float | str = 600.0, seconds: float | str = 1800.0) -> Self:
        """Return a load that swings between two rates; it begins in the middle, on its way up."""
        length, wave = _length(seconds), _length(period, what="period")
        at = np.linspace(0.0, length, _count(length / wave * _PIECES, "period", period) + 1)
        middle, half = (_rate(low) + _rate(high)) / 2, (_rate(high) - _rate(low)) / 2
        words = f"sine of {span_text(wave)} between {low} and {high} requests/s"
        return cls._of(words, at, middle + half * np.sin(2 * pi * at / wave))

    @classmethod
    def spike(
        cls, level: float, peak: float, *, at: float | str = 60.0, lasts: float | str = 10.0,
        seconds: float | str = 300.0,
    ) -> Self:  # fmt: skip
        """Return a load with one short peak."""
        length, width = _length(seconds), _length(lasts, what="lasts")
        first = _within(at, length)
        last = min(first + width, length)
        words = f"spike of {span_text(width)} from {level} to {peak} requests/s"
        return cls._of(words, [0.0, first, first, last, last, length], [level, level, peak, peak, level, level])

    @classmethod
    def noise(
        cls, level: float, *, spread: float = 0.2, every: float | str = 5.0, seconds: float | str = 600.0,
        seed: int = 0,
    ) -> Self:  # fmt: skip
        """Return a load whose rate is drawn anew every few seconds.

        Parameters
        ----------
        level : float
            Mean requests per second.
        spread : float
            Standard deviation of the rate, as a part of the level.
        every, seconds : float or str
        seed : int
        """
        length, step = _length(seconds), _length(every, what="every")
        count = _count(length / step, "every", every)
        drawn = rng_of(seed).normal(1.0, _rate(spread, what="spread"), count) * _rate(level)
        knots = np.minimum(np.repeat(np.arange(count + 1) * step, 2)[1:-1], length)
        words = f"noise of {100 * spread:g} % around {level} requests/s"
        return cls._of(words, knots, np.repeat(np.maximum(drawn, 0.0), 2))

    @classmethod
    def day(cls, peak: float, *, days: int = 1, lasts: float | str = _DAY) -> Self:
        """Return days of an office, from midnight: a climb in the morning, a dip at lunch, quiet at night.

        Parameters
        ----------
        peak : float
            Most requests per second, at eleven o'clock.
        days : int
        lasts : float or str
            How long a day is: less than 24 hours for one that is told quickly.
        """
        count = whole_of(days)
        if count is None or not 1 <= count <= 366:  # noqa: PLR2004 - a year
            raise InvalidInputError(f"days={days!r:.40}: a whole number from 1 to 366 is needed.")
        hours = (np.arange(count)[:, None] * 24 + np.array(_HOURS)).ravel()
        knots = hours / 24 * _length(lasts, what="lasts")
        return cls._of(f"day with a peak of {peak} requests/s", knots, np.tile(_PARTS, count) * _rate(peak))

    # ---- what was ----

    @classmethod
    def recorded(cls, times: Iterable[float], *, seconds: float | str | None = None) -> Self:
        """Return a load of requests that arrived at given times.

        Parameters
        ----------
        times : iterable of float
            Seconds from the beginning, or since the epoch, in any order; the first one is the beginning then.
        seconds : float or str, optional
            How long it lasts; default: until the last request.

        Raises
        ------
        InvalidInputError
            If there are none, or one is no number.
        """
        at = _times(times)
        start = float(at[0]) if at[0] > _EPOCH else None
        at = at - (at[0] if start is not None or at[0] < 0 else 0.0)
        length = float(at[-1]) + 1e-3 if seconds is None else _length(seconds)
        if at[0] > length:
            raise InvalidInputError(f"There are no requests in the first {duration_text(length)}.")
        none = np.empty(0)
        return cls(f"{len(at):,} recorded requests", length, none, none, at[at <= length], start)

    @classmethod
    def of_log(cls, frame: pd.DataFrame) -> Self:
        """Return the load that a deployment had, by its :meth:`log`: each request when it arrived.

        A request with many rows counts as one, as if it had one row.

        Raises
        ------
        InvalidInputError
            If there are no requests in it, or it is no log.
        """
        lacking = [name for name in ("at", "request_id", "latency_ms") if name not in getattr(frame, "columns", ())]
        if lacking:
            raise InvalidInputError(f"No log of a deployment: it has no column {lacking[0]!r}.")
        if frame.empty:
            raise InvalidInputError("There are no requests in the log; ask the deployment something first.")
        once = frame.drop_duplicates(["at", "request_id"])
        ready = once["at"].to_numpy("datetime64[ns]").astype(np.int64) / 1e9
        return cls.recorded(ready - once["latency_ms"].fillna(0).to_numpy(float) / 1e3)

    # ---- more of it ----

    def scaled(self, factor: float) -> Load:
        """Return the same shape with ``factor`` times as many requests.

        Recorded arrivals are spread anew between those that there were: their bursts keep their place and length.
        """
        more = _rate(factor, what="factor")
        if not more:
            raise InvalidInputError("factor=0: nothing would be left of the load.")
        words = self.words if more == 1 else f"{self.words} x {more:g}"
        if not len(self.times):
            return replace(self, words=words, rates=self.rates * more)
        _fits(len(self.times) * more)
        count = max(1, round(len(self.times) * more))
        places = np.arange(count) * (len(self.times) / count)
        return replace(self, words=words, times=np.interp(places, np.arange(len(self.times)), self.times))

    @property
    def requests(self) -> float:
        """How many there are; on average, where they are drawn."""
        return float(len(self.times)) if len(self.times) else float(self._until_knots()[-1])

    def arrivals(self, rng: np.random.Generator) -> Floats:
        """Return when requests arrive: seconds from the beginning, in order.

        Raises
        ------
        InvalidInputError
            If they are more than a simulation can hold.
        """
        if len(self.times):
            return self.times
        until = self._until_knots()
        _fits(until[-1])
        return _inverse(self.knots, self.rates, until, _poisson(until[-1], rng))

    def _until_knots(self) -> Floats:
        """Return how many requests there are on average before each knot."""
        pieces = np.diff(self.knots) * (self.rates[1:] + self.rates[:-1]) / 2
        return np.concatenate([[0.0], np.cumsum(pieces)])

    @classmethod
    def _of(cls, words: str, knots: Any, rates: Any) -> Self:
        checked = np.array([_rate(rate) for rate in rates])
        if not checked.any():
            raise InvalidInputError(f"{words}: there would be no requests at all.")
        at = np.asarray(knots, dtype=float)
        return cls(words, float(at[-1]), at, checked, np.empty(0))


def rng_of(seed: int) -> np.random.Generator:
    """Return the random numbers of a seed.

    Raises
    ------
    InvalidInputError
        If it is no whole number from 0.
    """
    number = whole_of(seed)
    if number is None or number < 0:
        raise InvalidInputError(f"seed={seed!r:.40}: a whole number from 0 is needed.")
    return np.random.default_rng(number)


def whole_of(given: Any) -> int | None:
    """Return a whole number of any library as an int; None if it is none."""
    with suppress(TypeError):
        return None if isinstance(given, bool) else index(given)
    return None


def _poisson(mean: float, rng: np.random.Generator) -> Floats:
    """Return the points of a Poisson process of rate 1 on ``[0, mean]``."""
    count = int(mean + 6 * np.sqrt(mean) + 20)
    points = rng.standard_exponential(count)
    np.cumsum(points, out=points)
    while points[-1] < mean:  # once in a billion times
        points = np.concatenate([points, points[-1] + np.cumsum(rng.standard_exponential(count))])
    return points[: np.searchsorted(points, mean)]


def _inverse(knots: Floats, rates: Floats, until: Floats, points: Floats) -> Floats:
    """Turn ``points`` into when as many requests are to be expected: the inverse of the cumulative rate, in place."""
    places = np.searchsorted(points, until)
    for piece in np.flatnonzero(np.diff(places)):
        more = points[places[piece] : places[piece + 1]]  # a view
        more -= until[piece]
        slope = (rates[piece + 1] - rates[piece]) / (knots[piece + 1] - knots[piece])
        if slope:
            more /= (rates[piece] + np.sqrt(np.maximum(rates[piece] ** 2 + 2 * slope * more, 0.0))) / 2
        else:
            more /= rates[piece]
        more += knots[piece]
    return points


def _fits(requests: float) -> None:
    if requests > _MOST:
        raise InvalidInputError(
            f"{requests:,.0f} requests: a simulation holds {_MOST:,}; make the load shorter, or say less of it."
        )


def _times(given: Iterable[float]) -> Floats:
    try:
        at = np.asarray(given if isinstance(given, np.ndarray) else list(given), dtype=float).ravel()
    except (TypeError, ValueError):
        raise InvalidInputError(f"{given!r:.60}: a list of times in seconds is needed.") from None
    if not len(at):
        raise InvalidInputError("There are no requests; give at least one time.")
    if not np.isfinite(at).all():
        raise InvalidInputError(f"{int((~np.isfinite(at)).sum())} of the {len(at):,} times are no numbers.")
    _fits(len(at))
    return np.sort(at)


def _rate(given: float, *, what: str = "rate") -> float:
    try:
        number = float(given)
    except (TypeError, ValueError, OverflowError):
        number = inf
    if not isfinite(number) or number < 0 or isinstance(given, bool):
        raise InvalidInputError(f"{what}={given!r:.40}: a number from 0 is needed.")
    return number


def _length(given: float | str, *, what: str = "seconds") -> float:
    seconds = seconds_of(given, what=what)
    if not seconds:
        raise InvalidInputError(f"{what}={given!r:.40}: a length above 0 is needed.")
    return seconds


def _within(given: float | str, length: float) -> float:
    moment = seconds_of(given, what="at")
    if moment > length:
        raise InvalidInputError(f"at={given!r:.40}: the load lasts {duration_text(length)} only.")
    return moment


def _count(pieces: float, what: str, given: object) -> int:
    if pieces > _MOST_KNOTS:
        raise InvalidInputError(f"{what}={given!r:.40}: too short for so long a load.")
    return max(1, ceil(pieces))
