"""The prediction log: what was asked and answered, in SQLite or PostgreSQL, to be read as a table."""

from __future__ import annotations

from mlnb.monitoring.prediction_log.log import PredictionLog
from mlnb.monitoring.prediction_log.reading import Logged, find, labelled, read
from mlnb.monitoring.prediction_log.settings import LogSettings, LogState, check_fields

__all__ = ["LogSettings", "LogState", "Logged", "PredictionLog", "check_fields", "find", "labelled", "read"]
