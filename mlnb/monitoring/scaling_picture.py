"""What is drawn of load, capacity and replicas."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ScalingFigures", "ScalingPicture"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPicture:
    """Load, capacity and replicas over time; all columns have the same length.

    Attributes
    ----------
    name : str
    at : tuple of float
        Seconds since the epoch, or since the beginning of a simulation.
    rate : tuple of float or None
        Requests per second that arrived.
    capacity : tuple of float or None
        Requests per second that the replicas which were ready could answer.
    ready, desired : tuple of int
    p95 : tuple of float or None
        Milliseconds.
    objective : float or None
        Milliseconds that p95 is to stay under.
    changes : tuple of (float, int, str)
        When the number of replicas changed, to which, and why.
    epoch : bool
        Whether ``at`` counts from the epoch.
    """

    name: str
    at: tuple[float, ...]
    rate: tuple[float | None, ...]
    capacity: tuple[float | None, ...]
    ready: tuple[int, ...]
    desired: tuple[int, ...]
    p95: tuple[float | None, ...] = ()
    objective: float | None = None
    changes: tuple[tuple[float, int, str], ...] = ()
    epoch: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingFigures:
    """What a policy made of a load, in figures.

    Attributes
    ----------
    name : str
        Of the policy.
    over : float
        Share of the requests, from 0 to 1, that took longer than the objective; NaN without one.
    replica_seconds : float
        Seconds that replicas were there, added up.
    turns : int
        How often the number of replicas began to move the other way.
    """

    name: str
    over: float
    replica_seconds: float
    turns: int = 0
