"""Where more connections no longer bring more answers, only longer waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlnb.monitoring.load.step import Step

__all__ = ["BUSY", "Saturation", "find_saturation"]

BUSY = 0.9  # of a core: from here on the load generator itself may be the limit
_GROWTH = 1.1  # less is no growth: single runs differ by some per cent


@dataclass(frozen=True, slots=True, kw_only=True)
class Saturation:
    """The knee of the throughput curve.

    Attributes
    ----------
    connections : int
        The fewest at which the endpoint is busy all the time.
    throughput : float
        Good answers per second there.
    p99 : float
        Latency there, milliseconds.
    """

    connections: int
    throughput: float
    p99: float


def find_saturation(steps: Sequence[Step]) -> Saturation | None:
    """Return the first step after which throughput never grows by 10 % again while the median latency does.

    By Little's law (J. D. C. Little, Operations Research 9(3), 1961) the connections of a closed loop are throughput
    times mean latency. Below saturation more connections raise the first, above it the second. Asking for both keeps a
    step that hardly adds connections from looking like an end.

    Parameters
    ----------
    steps : sequence of Step
        With more connections from one to the next.

    Returns
    -------
    Saturation or None
        None if throughput still grows at the last step, or if the load generator was the limit from there on.
    """
    for at, step in enumerate(steps[:-1]):
        later = steps[at + 1 :]
        if step.p99 is not None and _stays(step, later) and _waits(step, later[-1]):
            limited = any(one.cpu >= BUSY for one in steps[at:])
            return (
                None if limited else Saturation(connections=step.connections, throughput=step.throughput, p99=step.p99)
            )
    return None


def _stays(step: Step, later: Sequence[Step]) -> bool:
    return max(one.throughput for one in later) < _GROWTH * step.throughput


def _waits(step: Step, last: Step) -> bool:
    """Say whether the median grew; a step without a good answer has waited for ever."""
    return last.p50 is None or last.p50 > _GROWTH * (step.p50 or 0.0)
