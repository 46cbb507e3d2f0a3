"""What a server tells of its deployments: at one moment, and when another server goes on with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlnb.monitoring import MetricsSnapshot
    from mlnb.monitoring.alerts import AlertState
    from mlnb.monitoring.comparison import ComparisonSummary
    from mlnb.monitoring.prediction_log import LogState
    from mlnb.scaling.pool import ReplicaSnapshot
    from mlnb.scaling.scaling_snapshot import ScalingSnapshot
    from mlnb.scaling.service_time import ServiceTime
    from mlnb.serving.rollout import CanarySnapshot, Change

__all__ = ["Handed", "ServiceSnapshot", "ShadowSnapshot", "TrafficSnapshot", "VersionCount"]


@dataclass(frozen=True, slots=True)
class VersionCount:
    """What one version answered.

    Attributes
    ----------
    requests, errors : int
        Since it began to answer; errors are those of the server (status 500 and more).
    """

    requests: int = 0
    errors: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowSnapshot:
    """A shadow at one moment.

    Attributes
    ----------
    version : int
    share : float
        Of the requests, in percent.
    summary : ComparisonSummary
    replicas : tuple of ReplicaSnapshot
    trouble : str
        Why the last replica ended by itself, "" if none did.
    """

    version: int
    share: float
    summary: ComparisonSummary
    replicas: tuple[ReplicaSnapshot, ...]
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficSnapshot:
    """How the requests of a deployment are shared out, at one moment.

    Attributes
    ----------
    live : int
    shares : dict of int to float
        By version number, from 0 to 1.
    counts : dict of int to VersionCount
        What each version answered.
    key : str or None
        The field that a split goes by.
    shadow : ShadowSnapshot or None
    canary : CanarySnapshot or None
    last : Change or None
        What the last canary came to.
    """

    live: int
    shares: dict[int, float]
    counts: dict[int, VersionCount]
    key: str | None = None
    shadow: ShadowSnapshot | None = None
    canary: CanarySnapshot | None = None
    last: Change | None = None

    @property
    def simple(self) -> bool:
        """Whether the live version is alone."""
        return len(self.shares) == 1 and self.shadow is None and self.canary is None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSnapshot:
    """One deployment at one moment, as its server sees it.

    Attributes
    ----------
    metrics : MetricsSnapshot
    replicas : tuple of ReplicaSnapshot
        Of the live version.
    traffic : TrafficSnapshot
    trouble : str
        Why the last replica ended by itself, "" if none did.
    alerts : tuple of AlertState
    log : LogState or None
        None where predictions are not logged.
    scaling : ScalingSnapshot or None
        None where the number of replicas is fixed.
    service : ServiceTime or None
        That batches of the live version took lately; None before there was one.
    startup : float or None
        Seconds that its last replica took to start.
    """

    metrics: MetricsSnapshot
    replicas: tuple[ReplicaSnapshot, ...]
    traffic: TrafficSnapshot
    trouble: str = ""
    alerts: tuple[AlertState, ...] = ()
    log: LogState | None = None
    scaling: ScalingSnapshot | None = None
    service: ServiceTime | None = None
    startup: float | None = None


@dataclass(slots=True, kw_only=True)
class Handed:
    """What one gateway tells another that goes on with its deployment.

    Attributes
    ----------
    observed : bytes
        An :class:`~mlnb.serving.observing.Observed`, pickled on the loop, where nothing changes it meanwhile.
    changes : list of Change
        That the last canary made.
    ended : dict of str to Change
        What became of canaries, by id.
    """

    observed: bytes
    changes: list[Change]
    ended: dict[str, Change]
