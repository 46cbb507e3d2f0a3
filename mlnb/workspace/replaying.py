"""Requests of the past through another version."""

from __future__ import annotations

from itertools import chain, groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from mlnb.errors import InvalidInputError, MissingLibraryError
from mlnb.monitoring.comparison import distances, row_of
from mlnb.registry.predictors import predictor
from mlnb.serving.service import Query

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from mlnb.events import PredictionEvent
    from mlnb.registry import ModelRegistry, ModelVersion
    from mlnb.registry.signature import Signature

__all__ = ["replay"]

_TOGETHER = 1000  # requests that are asked at once


def replay(registry: ModelRegistry, version: ModelVersion, events: Sequence[PredictionEvent]) -> pd.DataFrame:
    """Return what a version answers to requests of the past, beside what they were answered.

    Raises
    ------
    InvalidInputError
        If a row does not fit the version.
    MlnbError
        If it cannot be loaded.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingLibraryError("A replay is a DataFrame and needs pandas: pip install pandas.") from error
    from mlnb.serving.hosting import load

    predict = predictor(load(registry, version)).predict
    rows = [
        row
        for start in range(0, len(events), _TOGETHER)
        for row in _replayed(version, predict, events[start : start + _TOGETHER])
    ]
    columns = ["at", "request_id", "row", "version", "answered", "replayed", "distance"]
    frame = pd.DataFrame(rows, columns=columns)
    frame["at"] = pd.to_datetime(frame["at"], unit="s", utc=True)
    return frame


def _replayed(version: ModelVersion, predict: Any, events: Sequence[PredictionEvent]) -> Iterator[tuple[Any, ...]]:
    signature = version.signature
    for group in _groups(signature, events):
        rows = [event.inputs for event in group]
        given = rows[0] if len(rows) == 1 else list(chain.from_iterable(rows))
        try:
            checked = signature.coerce(given)
        except InvalidInputError as error:
            raise InvalidInputError(f"{version} does not take what was asked: {error}", **error.details) from None
        answers = np.asarray(predict(checked))
        start = 0
        for event in group:
            end = start + event.rows
            yield from _rows(signature.names, event, answers[start:end])
            start = end


def _groups(signature: Signature, events: Sequence[PredictionEvent]) -> Iterator[list[PredictionEvent]]:
    """Yield requests whose rows make one list, in order."""
    for kind, group in groupby(events, key=lambda event: _kind(signature, event)):
        together = list(group)
        yield from [[event] for event in together] if kind is None else [together]


def _kind(signature: Signature, event: PredictionEvent) -> type | None:
    """Return what the rows are that may be in one list with others, None if they may not."""
    return type(event.inputs[0]) if Query(event.inputs).joins(signature) else None


def _rows(names: tuple[str, ...], event: PredictionEvent, answers: np.ndarray[Any, Any]) -> Iterator[tuple[Any, ...]]:
    assert event.prediction is not None  # noqa: S101 - for the type checker: it was answered
    apart = distances(event.prediction, answers)
    for at in range(len(answers)):
        row = row_of(event.inputs, at, count=len(answers), names=names)
        yield (
            event.at,
            event.request_id,
            row,
            event.version,
            _plain(event.prediction[at]),
            _plain(answers[at]),
            apart[at],
        )


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value
