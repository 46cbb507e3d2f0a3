"""Whether a model is still right: measures from the labels that came, by version and window, with their intervals."""

from __future__ import annotations

from mlnb.monitoring.quality.labelled import Labelled
from mlnb.monitoring.quality.report import CalibrationBin, Measure, QualityReport

__all__ = ["CalibrationBin", "Labelled", "Measure", "QualityReport"]
