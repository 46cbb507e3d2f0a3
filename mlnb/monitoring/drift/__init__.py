"""Drift: whether requests still look like the example that a version was registered with."""

from __future__ import annotations

from mlnb.monitoring.drift.assessing import FEWEST, assess
from mlnb.monitoring.drift.reading import Window, columns_of
from mlnb.monitoring.drift.report import ColumnDrift, DriftReport
from mlnb.monitoring.drift.sampling import RowSample, SampledRows

__all__ = ["FEWEST", "ColumnDrift", "DriftReport", "RowSample", "SampledRows", "Window", "assess", "columns_of"]
