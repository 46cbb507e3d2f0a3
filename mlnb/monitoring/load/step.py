"""One step of a load test: so many connections for so long, and what came back."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Step"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What came back while so many connections asked.

    Attributes
    ----------
    connections : int
    seconds : float
        How long it was counted.
    good : int
        Answers with a status of 200 to 299.
    refused : int
        Answers with 429 or 503.
    failed : int
        Other answers, connections that were refused or broke, and requests without an answer in time.
    unsent : int
        Requests that were due at the end and for which no connection was free; only with a rate.
    p50, p90, p99 : float or None
        Latency of the good answers in milliseconds; None if there was none. With a rate it counts from the moment when
        the request was due, else from when it was sent.
    cpu : float
        What the load generator itself used, as a share of one core. Near 1 it was the limit, not the endpoint.
    failure : str
        The first failure; "" if there was none.
    """

    connections: int
    seconds: float
    good: int
    refused: int
    failed: int
    unsent: int
    p50: float | None
    p90: float | None
    p99: float | None
    cpu: float
    failure: str

    @property
    def requests(self) -> int:
        """All that were answered or failed."""
        return self.good + self.refused + self.failed

    @property
    def throughput(self) -> float:
        """Good answers per second."""
        return self.good / self.seconds
