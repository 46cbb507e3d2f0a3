"""Requests as rows of the log's table: column by column, because tens of thousands are written in a second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlnb.events import PredictionEvent
from mlnb.monitoring.prediction_log.documents import write_documents
from mlnb.monitoring.prediction_log.keys import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["values_of"]


def values_of(events: Sequence[PredictionEvent], ids: Sequence[str]) -> list[Any]:
    """Return what :data:`tables.WRITTEN` names, of each request, one after the other.

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
    columns = (
        of["model"], of["version"], ids, of["at"], of["seconds"], of["rows"], of["status"], errors, of["replica"],
        write_documents(of["inputs"]), write_documents(of["prediction"]), write_documents(of["probabilities"]),
    )  # fmt: skip
    values: list[Any] = [None] * (len(columns) * len(events))
    for at, column in enumerate(columns):
        values[at :: len(columns)] = column  # no tuple for each, which the garbage collector would count
    return values
