"""What came of a simulation, in figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mlnb.scaling.policies.decision import ScalingDecision
    from mlnb.scaling.simulation.engine import Timeline, Trace

__all__ = ["Outcome", "outcome_of"]

_LONGEST = 1e38  # seconds, in 32 bits


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """What came of a simulation.

    Attributes
    ----------
    policy, load : str
        In words.
    seconds : float
        That the load lasted.
    requests : int
    p50, p95, p99 : float
        Milliseconds within which as many percent of the requests were answered; infinity if they were not.
    objective : float or None
        Milliseconds within which they were to be answered.
    over : int or None
        Requests that took longer; None without an objective.
    replica_seconds : float
        From the start of each replica, before it is ready, until it is gone.
    most : int
        Replicas that were wanted at a time.
    changes : int
        Decisions that changed the number of replicas.
    flaps : int
        How often such a change went the other way than the one before.
    woken : int
        Requests that arrived when there was no replica.
    unanswered : int
        Requests that waited to the end for a replica that never came.
    decisions : tuple of ScalingDecision
        Those that changed the number of replicas.
    timeline : Timeline
        What was measured and decided, interval by interval.
    """

    policy: str
    load: str
    seconds: float
    requests: int
    p50: float
    p95: float
    p99: float
    objective: float | None
    over: int | None
    replica_seconds: float
    most: int
    changes: int
    flaps: int
    woken: int
    unanswered: int
    decisions: tuple[ScalingDecision, ...] = field(repr=False)
    timeline: Timeline = field(repr=False)

    @property
    def over_share(self) -> float | None:
        """The part of the requests that took longer than they were to, from 0 to 1."""
        return None if self.over is None else self.over / max(1, self.requests)

    @property
    def mean_replicas(self) -> float:
        """Replicas on average, those that start included."""
        return self.replica_seconds / self.seconds


def outcome_of(trace: Trace, *, objective: float | None = None) -> Outcome:
    """Return what came of a simulation.

    Parameters
    ----------
    trace : Trace
    objective : float, optional
        Seconds within which requests are to be answered.
    """
    p50, p95, p99 = _quantiles(trace.latencies)
    counts = [trace.initial, *trace.timeline.desired.tolist()]
    return Outcome(
        policy=trace.autoscale.policy.words, load=trace.load.words, seconds=trace.load.seconds,
        requests=len(trace.latencies), p50=p50, p95=p95, p99=p99,
        objective=None if objective is None else objective * 1e3,
        over=None if objective is None else int(np.count_nonzero(trace.latencies > min(objective, _LONGEST))),
        replica_seconds=trace.replica_seconds, most=max(counts), changes=len(trace.decisions),
        flaps=_reversals(counts), woken=trace.woken, unanswered=int(np.count_nonzero(trace.latencies == inf)),
        decisions=trace.decisions, timeline=trace.timeline,
    )  # fmt: skip


def _quantiles(latencies: NDArray[np.float32]) -> tuple[float, float, float]:
    """Return three quantiles in milliseconds, each one that was measured; 0 if there were no requests."""
    if not len(latencies):
        return 0.0, 0.0, 0.0
    places = [int(np.ceil(share * len(latencies))) - 1 for share in (0.5, 0.95, 0.99)]
    found = np.partition(latencies, places)[places].astype(float) * 1e3
    return float(found[0]), float(found[1]), float(found[2])


def _reversals(counts: list[int]) -> int:
    """Return how often the direction of change reverses.

    Examples
    --------
    >>> _reversals([1, 2, 2, 3, 1, 1, 1, 2])
    2
    """
    steps = np.sign(np.diff(counts))
    steps = steps[steps != 0]
    return int(np.count_nonzero(steps[1:] != steps[:-1]))
