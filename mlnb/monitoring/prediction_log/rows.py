"""Requests as rows of the log's table: column by column, because tens of thousands are written in a second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlnb.events import PredictionEvent
from mlnb.monitoring.prediction_log.documents import write_documents
from mlnb.monitoring.prediction_log.keys import clean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["rows_of"]


def rows_of(events: Sequence[PredictionEvent], ids: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Return what :data:`tables.WRITTEN` names, of each request.

    Parameters
    ----------
    events : sequence of PredictionEvent
    ids : sequence of str
        Theirs, as they are stored.
    """
    of = dict(zip(PredictionEvent._fields, zip(*events, strict=True), strict=True))
    errors = of["error"]
    if any(errors):
        errors = tuple(None if error is None else clean(error) for error in errors)
    return zip(
        of["model"], of["version"], ids, of["at"], of["seconds"], of["rows"], of["status"], errors, of["replica"],
        write_documents(of["inputs"]), write_documents(of["prediction"]), write_documents(of["probabilities"]),
        strict=True,
    )  # fmt: skip
