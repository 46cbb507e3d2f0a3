"""Whether the clock may be believed when old requests are deleted by it."""

from __future__ import annotations

__all__ = ["ClockTrust"]

_DAY, _HOUR = 86_400.0, 3_600.0


class ClockTrust:
    """Says whether the clock may decide that something is old: not for a day after it jumped.

    Parameters
    ----------
    wall, monotonic : float
        Seconds, of both clocks at one moment.

    Examples
    --------
    >>> trust = ClockTrust(wall=1e9, monotonic=0.0)
    >>> trust.holds(wall=1e9 + 60, monotonic=60.0), trust.holds(wall=2e9, monotonic=61.0)
    (True, False)
    """

    def __init__(self, *, wall: float, monotonic: float) -> None:
        self._offset, self._since = wall - monotonic, monotonic

    def holds(self, *, wall: float, monotonic: float) -> bool:
        """Say whether it may, at this moment of both clocks."""
        offset = wall - monotonic
        if abs(offset - self._offset) > _HOUR:
            self._offset, self._since = offset, monotonic + _DAY
        return monotonic >= self._since
