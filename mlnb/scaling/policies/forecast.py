"""A forecast of the load for steady ramps: double exponential smoothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlnb.scaling.policies.stabilising import in_range

__all__ = ["Forecast", "Holt"]

_SURE = 2.0  # standard errors that a trend must have before it counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Act on the load that is to be expected when the replicas that start now are ready.

    Only a rise is foreseen, and only as far as it is no chance: so noise adds nothing, and nothing goes early.

    Attributes
    ----------
    ahead : float
        Seconds.
    level, trend : float
        Seconds over which the load and its rise are smoothed.

    Raises
    ------
    InvalidInputError
        If one is below 0, or is smoothed over no time.
    """

    ahead: float = 15.0
    level: float = 5.0
    trend: float = 30.0

    def __post_init__(self) -> None:
        in_range(self.ahead, what="ahead", least=0, unit="seconds")
        in_range(self.level, what="level", least=0.001, unit="seconds")
        in_range(self.trend, what="trend", least=0.001, unit="seconds")

    @property
    def words(self) -> str:
        """The forecast in a few words."""
        return f"{self.ahead:g} s ahead"

    def start(self) -> Holt:
        """Return the forecast with nothing seen yet."""
        return Holt(self)


class Holt:
    """Double exponential smoothing at work: a level and its trend.

    C. C. Holt, "Forecasting seasonals and trends by exponentially weighted moving averages", 1957, reprinted in the
    International Journal of Forecasting 20 (2004); https://otexts.com/fpp3/holt.html. The weights follow from the time
    since the last sample, so samples may be lost.

    Attributes
    ----------
    level : float
        Requests per second, smoothed.
    """

    def __init__(self, forecast: Forecast) -> None:
        self._forecast = forecast
        self._at: float | None = None
        self.level = self._trend = self._variance = 0.0

    def rise(self, at: float, rate: float) -> float:
        """Take in the load of now, and return how much more is to be expected, 0 or above.

        Parameters
        ----------
        at : float
            Seconds; later than before.
        rate : float
            Requests per second.
        """
        if self._at is None:
            self._at, self.level = at, rate
            return 0.0
        passed = at - self._at
        self._at = at
        alpha, beta = _weight(passed, self._forecast.level), _weight(passed, self._forecast.trend)
        expected = self.level + self._trend * passed
        error = rate - expected
        self.level = expected + alpha * error
        self._trend += alpha * beta * error / passed
        chance = _SURE * alpha * math.sqrt(self._variance * beta / 2) / passed
        self._variance += beta * (error * error - self._variance)  # what is known of chance before this sample counts
        return self._forecast.ahead * max(0.0, self._trend - chance)


def _weight(passed: float, over: float) -> float:
    return -math.expm1(-passed / over)
