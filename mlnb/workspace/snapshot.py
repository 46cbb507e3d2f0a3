"""One deployment at one moment: all that a panel draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datetime import datetime

    from mlnb.monitoring import MetricsSnapshot
    from mlnb.monitoring.alerts import AlertState
    from mlnb.monitoring.prediction_log import LogState
    from mlnb.registry import ModelVersion
    from mlnb.scaling.acceleration.acceleration import Acceleration
    from mlnb.scaling.pool import ReplicaSnapshot
    from mlnb.scaling.scaling_snapshot import ScalingSnapshot
    from mlnb.serving.snapshots import TrafficSnapshot

__all__ = ["DeploymentSnapshot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSnapshot:
    """One deployment at one moment: all that a panel draws.

    Attributes
    ----------
    name, url, docs_url, place : str
    state : {'live', 'stopped'}
    version : ModelVersion
        The live one.
    since : datetime
        When it became live, in UTC.
    at : datetime
        The moment of this snapshot, in UTC.
    versions : tuple of ModelVersion
        All of this model, newest first.
    previous : int or None
        The version number that a roll back would make live, alone.
    metrics : MetricsSnapshot
    replicas : tuple of ReplicaSnapshot
        None while it is stopped.
    trouble : str
        Why a replica ended by itself, "" if none did.
    acceleration : Acceleration or None
        The faster form of the model that answers, where it was asked for.
    traffic : TrafficSnapshot or None
        How the requests are shared out; None while it is stopped.
    alerts : tuple of AlertState
    log : LogState or None
        None where predictions are not logged.
    scaling : ScalingSnapshot or None
        How the replicas follow the load; None where their number is fixed, or it is stopped.
    """

    name: str
    url: str
    docs_url: str
    place: str
    state: Literal["live", "stopped"]
    version: ModelVersion
    since: datetime
    at: datetime
    versions: tuple[ModelVersion, ...]
    previous: int | None
    metrics: MetricsSnapshot
    replicas: tuple[ReplicaSnapshot, ...] = ()
    trouble: str = ""
    acceleration: Acceleration | None = None
    traffic: TrafficSnapshot | None = None
    alerts: tuple[AlertState, ...] = ()
    log: LogState | None = None
    scaling: ScalingSnapshot | None = None

    @property
    def dashboard_url(self) -> str:
        """Where a browser finds the live dashboard."""
        return f"{self.docs_url.removesuffix('/docs')}/dashboard?model={self.name}"
