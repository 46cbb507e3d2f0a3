"""What happened: metrics and figures."""

from __future__ import annotations

from mlnb.monitoring.monitor import MetricsSnapshot, ModelMonitor

__all__ = ["MetricsSnapshot", "ModelMonitor"]
