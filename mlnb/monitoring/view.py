"""All that a dashboard draws of one deployment, at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mlnb.monitoring.alerts import AlertState
    from mlnb.monitoring.drift import DriftReport
    from mlnb.monitoring.metrics import Mark, MetricsSnapshot, Series
    from mlnb.monitoring.prediction_log import LogState
    from mlnb.monitoring.quality import QualityReport

__all__ = ["MonitorView"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorView:
    """One deployment at one moment, as its monitor sees it.

    Attributes
    ----------
    name : str
    version : int
        The live one.
    state : {'live', 'stopped'}
    at : float
        Seconds since the epoch.
    place : str
        Where it runs, such as "in kernel" or "2 processes".
    metrics : MetricsSnapshot
    series : Series
    marks : tuple of Mark
        Oldest first.
    drift : DriftReport or None
        Of the live version; None before there was one.
    quality : tuple of QualityReport
        By version and window, where labels came.
    alerts : tuple of AlertState
    log : LogState or None
        None where predictions are not logged.
    in_flight : int
        Requests that wait or are being answered.
    replicas : int
        That are ready.
    """

    name: str
    version: int
    state: Literal["live", "stopped"]
    at: float
    place: str
    metrics: MetricsSnapshot
    series: Series
    marks: tuple[Mark, ...] = ()
    drift: DriftReport | None = None
    quality: tuple[QualityReport, ...] = ()
    alerts: tuple[AlertState, ...] = ()
    log: LogState | None = None
    in_flight: int = 0
    replicas: int = 0
