"""What happened: metrics and figures."""

from __future__ import annotations

from mlnb.monitoring.metrics import MetricsSnapshot
from mlnb.monitoring.monitor import ModelMonitor

__all__ = ["MetricsSnapshot", "ModelMonitor"]
