"""Who may be given work: failing replicas are ejected for a time, and let back in slowly."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FAILURES", "FIRST_EJECTION", "FIRST_SHARE", "LONGEST_EJECTION", "SLOW_START", "Health", "available"]

# Envoy's defaults, for fleets that nobody watches: 5 failures, 30 s, 300 s (ours are few, and a person waits).
# https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/cluster/v3/outlier_detection.proto
FAILURES = 3
"""In a row, that eject."""
FIRST_EJECTION = 1.0
"""Seconds; each further one takes twice as long."""
LONGEST_EJECTION = 30.0
"""Seconds."""
# https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/slow_start
FIRST_SHARE = 0.1
"""Of its weight, for who comes back: Envoy's ``min_weight_percent``."""
SLOW_START = 10.0
"""Seconds from the first share to the whole; Envoy has no default."""


class Health:
    """Of one replica, as far as its answers tell.

    It is in; or out after some failures in a row, or at the first refused connection; or coming back, when its share
    grows with time and a single failure ejects it again. Times are seconds of one clock, whichever it is.

    Parameters
    ----------
    checked : bool
        Whether somebody looks after those that are out: then time alone does not bring it back, but the first success
        once it is :meth:`due`, so that no request has to try.

    Examples
    --------
    >>> health = Health()
    >>> health.failed(0.0, refused=True)
    >>> health.is_in(0.5), health.share(1.0), health.share(6.0), health.share(11.0)
    (False, 0.1, 0.55, 1.0)
    """

    __slots__ = ("_back_at", "_checked", "_failed_at", "_failures", "_next_ejection", "_out_until")

    def __init__(self, *, checked: bool = False) -> None:
        self._checked = checked
        self._failures = 0
        self._failed_at = -inf
        self._next_ejection = FIRST_EJECTION
        self._out_until = -inf
        self._back_at = -inf  # inf: when a check says so

    @property
    def failed_at(self) -> float:
        """When it last failed; ``-inf`` if never."""
        return self._failed_at

    @property
    def out_until(self) -> float:
        """When its last ejection ends; ``-inf`` if there was none."""
        return self._out_until

    def is_in(self, now: float) -> bool:
        """Say whether it may be given work."""
        return now >= self._back_at

    def is_due(self, now: float) -> bool:
        """Say whether its ejection is over, and a check is to tell whether it is back."""
        return not self.is_in(now) and now >= self._out_until

    def share(self, now: float) -> float:
        """Return the part of its weight that it is to be given, 0 to 1."""
        if not self.is_in(now):
            return 0.0
        return min(1.0, FIRST_SHARE + (1 - FIRST_SHARE) * (now - self._back_at) / SLOW_START)

    def failed(self, now: float, *, refused: bool = False) -> None:
        """Count a failure; ``refused`` is one that needs no second: nobody listens there."""
        self._failed_at = now
        self._failures += 1
        share = self.share(now)
        if share and (refused or share < 1 or self._failures >= FAILURES):
            self._eject(now)

    def succeeded(self, now: float) -> None:
        """Count a success."""
        self._failures = 0
        if self.is_due(now):
            self._back_at = now
        elif self.share(now) == 1:
            self._next_ejection = FIRST_EJECTION

    def _eject(self, now: float) -> None:
        self._failures = 0
        self._out_until = now + self._next_ejection
        self._back_at = inf if self._checked else self._out_until
        self._next_ejection = min(2 * self._next_ejection, LONGEST_EJECTION)


class Member(Protocol):
    """What has a health."""

    @property
    def health(self) -> Health:
        """Its own."""


M = TypeVar("M", bound=Member)


def available(members: Iterable[M], *, now: float) -> list[M]:
    """Return those who may be given work; if all are out, those whose last failure is the longest ago.

    That is never none, if there is any: a refusal is not surer than a try, and where all fail each is tried in turn.
    Envoy calls it the panic mode, and gives the work to all then:
    https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/panic_threshold
    """
    members = list(members)
    able = [member for member in members if member.health.is_in(now)]
    if able or not members:
        return able
    first = min(member.health.failed_at for member in members)
    return [member for member in members if member.health.failed_at == first]
