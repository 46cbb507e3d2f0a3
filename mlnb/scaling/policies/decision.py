"""What scaling policies see and say: a sample of what replicas did, and a decision with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mlnb.scaling.service_time import ServiceTime

__all__ = ["Controller", "ScalingDecision", "ScalingPolicy", "ScalingSample"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingSample:
    """What the replicas of one deployment did during the last interval.

    What could not be measured is None; a policy takes NaN for that as well.

    Attributes
    ----------
    at : float
        When the interval ended: seconds of a clock that is never set back.
    wall : float
        The same moment in seconds since the epoch.
    interval : float
        Seconds.
    desired : int
        Replicas that were wanted last.
    ready, starting, leaving : int
        Replicas at the end of the interval. Those that wait to be started again count as starting.
    requests, answered : int or None
        That arrived, and that were answered, during the interval.
    in_flight : float or None
        Requests that waited or were being answered, on average.
    waiting : float or None
        Requests that wait at the end.
    queue_wait : float or None
        Seconds that a request which arrives now waits, as estimated.
    utilisation : float or None
        Part of their time that the ready replicas worked, from 0 to 1.
    cpu : float or None
        Percent of a core that each ready replica used, on average.
    p95 : float or None
        Seconds within which 95 % of the latest requests were answered.
    service : ServiceTime or None
        As measured lately.
    crashes : int
        Replicas that ended by themselves within the last minute.
    limit : int or None
        Replicas that this machine can hold; None if it was not measured.
    limited_by : str
        Why, in words.
    """

    at: float
    wall: float
    interval: float
    desired: int
    ready: int
    starting: int = 0
    leaving: int = 0
    requests: int | None = None
    answered: int | None = None
    in_flight: float | None = None
    waiting: float | None = None
    queue_wait: float | None = None
    utilisation: float | None = None
    cpu: float | None = None
    p95: float | None = None
    service: ServiceTime | None = None
    crashes: int = 0
    limit: int | None = None
    limited_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingDecision:
    """How many replicas there are to be, and why.

    Attributes
    ----------
    sample : ScalingSample
        What it was decided on.
    metric : str
        What the rule looks at, such as "in-flight per replica".
    value, target : float or None
        Of the metric: as it was, and as it is to be.
    wanted : int
        Replicas that the rule gives by itself.
    desired : int
        Replicas that there are to be: within windows, rates, bounds and the machine.
    rule : str
        What settled it, such as "target tracking", "stabilised", "maximum", "machine", "hold".
    window : float
        Seconds that it looked back.
    reason : str
        In words.
    applied : int or None
        Replicas that there were after it was applied; None before, or if that failed.
    """

    sample: ScalingSample
    metric: str
    value: float | None
    target: float | None
    wanted: int
    desired: int
    rule: str
    window: float
    reason: str
    applied: int | None = None


class Controller(Protocol):
    """A policy at work on one deployment: it remembers what it saw."""

    def step(self, sample: ScalingSample) -> ScalingDecision:
        """Decide. Samples may be lost or come late; one that is older than the last one seen changes nothing.

        Bounds are not its business: :class:`~mlnb.scaling.policies.bounded.BoundedController` knows them.
        """
        ...


class ScalingPolicy(Protocol):
    """A rule by which replicas follow load; a frozen value that can be pickled and compared."""

    @property
    def words(self) -> str:
        """The rule in a few words, such as "p95 under 50 ms"."""
        ...

    def controller(self) -> Controller:
        """Return it at work, with nothing seen yet."""
        ...
