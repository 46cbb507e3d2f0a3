"""Requests that a server remembers, as the same table that the log gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlnb.monitoring.prediction_log.documents import write_document
from mlnb.monitoring.prediction_log.reading import table_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from mlnb.events import PredictionEvent

__all__ = ["frame_of"]


@dataclass(frozen=True, slots=True)
class _Row:
    """A request as the log has it."""

    at: float
    request_id: str
    version: int
    status: int
    seconds: float
    rows: int
    error: str | None
    inputs: str | None
    prediction: str | None
    probabilities: str | None
    label: None = None
    outcome: None = None


def frame_of(events: Sequence[PredictionEvent], names: Sequence[str]) -> pd.DataFrame:
    """Return requests as a table, a row for each of their rows; see :func:`mlnb.monitoring.prediction_log.read`.

    Parameters
    ----------
    events : sequence of PredictionEvent
    names : sequence of str
        Of the fields.
    """
    rows = [
        _Row(
            event.at, event.request_id, event.version, event.status, event.seconds, event.rows, event.error,
            write_document(event.inputs), write_document(event.prediction), write_document(event.probabilities),
        )
        for event in events
    ]  # fmt: skip
    return table_of(rows, {row.version: list(names) for row in rows})
