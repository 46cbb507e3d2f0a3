"""The log read: as a table, by the ids of requests whose labels came late, and all that have a label."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson

from mlnb.durations import seconds_of
from mlnb.errors import InvalidInputError
from mlnb.events import PredictionEvent
from mlnb.monitoring.outcomes import Label
from mlnb.monitoring.prediction_log.documents import read_document
from mlnb.monitoring.prediction_log.keys import clean, key_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pandas as pd
    from sqlalchemy import ColumnElement, Connection, Row, Select

    from mlnb.monitoring.prediction_log.settings import LogSettings

__all__ = ["Logged", "Moment", "find", "labelled", "read", "seconds_at", "table_of"]

Moment = datetime | timedelta | float | str | None
"""A time, how long ago ("1h" or a timedelta), seconds since the epoch, or ISO 8601 text; without a zone it is local."""

_FIRST = ("at", "request_id", "version", "status", "latency_ms", "rows")
_LAST = ("prediction", "probabilities", "label", "outcome", "error")
_RARE = ("probabilities", "outcome")  # columns that are there if something is in them
_TOGETHER = 500  # ids of one question


class Logged(NamedTuple):
    """One request of the log.

    Attributes
    ----------
    event : PredictionEvent
        Without what the log does not keep; inputs as nested lists or dicts, answers as arrays.
    label : Label or None
        What became of it, where that is known.
    """

    event: PredictionEvent
    label: Label | None


def read(
    settings: LogSettings,
    model: str,
    *,
    since: Moment = None,
    until: Moment = None,
    version: int | None = None,
    limit: int | None = None,
) -> pd.DataFrame:
    """Return the log of a model as a table, oldest first; it may be written at the same time.

    Parameters
    ----------
    settings : LogSettings
    model : str
    since, until : datetime, timedelta, float or str, optional
        When the answers were ready; a timedelta and text like "1h" is how long ago.
    version : int, optional
        That answered.
    limit : int, optional
        The newest requests, as many at most.

    Returns
    -------
    DataFrame
        One row for each row of each request: ``at`` (UTC), ``request_id``, ``version``, ``status``, ``latency_ms``,
        ``rows`` (of the request), each field of the input, ``prediction``, ``label`` and ``error``; ``probabilities``
        and ``outcome`` where there are any. A field that is called like one of these is ``input NAME``. A cell without
        a value is None, NaN in a column of floats, and NA in one of whole numbers.

    Raises
    ------
    LogUnavailableError
        If the database cannot be reached. Where nothing was ever logged the table is empty.
    InvalidInputError
        If a time or the limit is none.
    """
    from mlnb.monitoring.prediction_log.tables import predictions

    first = None if since is None else seconds_at("since", since)
    last = None if until is None else seconds_at("until", until)
    conditions = _within(model, first, last)
    if version is not None:
        conditions.append(predictions.c.version == version)
    with _connected(settings) as connection:
        if connection is None:
            return table_of([], {})
        newest = predictions.c.at.desc(), predictions.c.id.desc()
        chosen = _joined(conditions).order_by(*newest).limit(_whole(limit))
        rows = connection.execute(chosen).all()
        return table_of(rows[::-1], _names(connection, model))


def find(settings: LogSettings, model: str, request_ids: Iterable[str]) -> dict[str, Logged]:
    """Return the requests of these ids that are in the log, by id; the last one of several with the same id.

    Raises
    ------
    LogUnavailableError
    """
    from mlnb.monitoring.prediction_log.tables import batches

    wanted = {clean(request_id): request_id for request_id in request_ids}
    by_key: dict[int, list[str]] = {}
    for one in wanted:
        by_key.setdefault(key_of(one), []).append(one)
    found: dict[str, Logged] = {}
    with _connected(settings) as connection:
        if connection is None or not wanted:
            return found
        newest_first = batches.select().where(batches.c.model == model).order_by(batches.c.newest.desc())
        sought = np.fromiter(by_key, np.uint32, len(by_key))
        for batch in connection.execute(newest_first):
            hits = np.intersect1d(np.frombuffer(batch.ids, np.uint32), sought)
            if len(hits):
                likely = [one for key in hits.tolist() for one in by_key[key] if wanted[one] not in found]
                for logged in _in_batch(connection, batch, likely):
                    found.setdefault(wanted[logged.event.request_id], logged)
                if len(found) == len(wanted):
                    break
    return found


def labelled(settings: LogSettings, model: str, *, since: Moment = None, limit: int | None = None) -> list[Logged]:
    """Return the requests whose label or outcome is known, oldest first.

    Parameters
    ----------
    settings : LogSettings
    model : str
    since : datetime, timedelta, float or str, optional
        When the answers were ready.
    limit : int, optional
        Those that were labelled last, as many at most.

    Raises
    ------
    LogUnavailableError, InvalidInputError
    """
    from sqlalchemy import select

    from mlnb.monitoring.prediction_log.tables import labels

    first = None if since is None else seconds_at("since", since)
    newest = select(labels.c.request_id).where(labels.c.model == model).order_by(labels.c.at.desc())
    with _connected(settings) as connection:
        known = [] if connection is None else list(connection.scalars(newest.limit(_whole(limit))))
    found = find(settings, model, known).values()
    return sorted((one for one in found if first is None or one.event.at >= first), key=lambda one: one.event.at)


@contextmanager
def _connected(settings: LogSettings) -> Iterator[Connection | None]:
    from mlnb.monitoring.prediction_log.opening import reading

    with reading(settings) as connection:
        yield connection


def _joined(conditions: Sequence[ColumnElement[bool]]) -> Select[Any]:
    """Return the question for requests with what became of them."""
    from sqlalchemy import and_, select

    from mlnb.monitoring.prediction_log.tables import labels, predictions

    same = and_(labels.c.model == predictions.c.model, labels.c.request_id == predictions.c.request_id)
    known = labels.c.at.label("labelled_at"), labels.c.label, labels.c.outcome
    return select(predictions, *known).select_from(predictions.outerjoin(labels, same)).where(*conditions)


def _in_batch(connection: Connection, batch: Row[Any], request_ids: Sequence[str]) -> Iterator[Logged]:
    from mlnb.monitoring.prediction_log.tables import predictions

    within = _within(batch.model, batch.oldest, batch.newest)
    for start in range(0, len(request_ids), _TOGETHER):
        these = _joined([*within, predictions.c.request_id.in_(request_ids[start : start + _TOGETHER])])
        for row in connection.execute(these.order_by(predictions.c.at.desc(), predictions.c.id.desc())):
            yield _logged(row)


def _within(model: str, first: float | None, last: float | None) -> list[ColumnElement[bool]]:
    """Return the conditions for the requests of a span, which an index finds."""
    from mlnb.monitoring.prediction_log.tables import predictions

    table = predictions.c
    conditions = [table.model == model]
    if first is not None:
        conditions.append(table.at >= first)
    if last is not None:
        conditions.append(table.at <= last)
    return conditions


def _names(connection: Connection, model: str) -> dict[int, list[str]]:
    from mlnb.monitoring.prediction_log.tables import fields

    rows = connection.execute(fields.select().where(fields.c.model == model))
    return {row.version: orjson.loads(row.names) for row in rows}


def _logged(row: Row[Any]) -> Logged:
    label = None
    if row.labelled_at is not None:
        label = Label(row.request_id, read_document(row.label), row.outcome)
    event = PredictionEvent(
        row.model, row.version, row.request_id, row.at, row.seconds, row.rows, row.status, row.error,
        read_document(row.inputs), _array(row.prediction), row.replica, probabilities=_array(row.probabilities),
    )  # fmt: skip
    return Logged(event, label)


def _array(text: str | None) -> np.ndarray[Any, Any] | None:
    values = read_document(text)
    if values is None:
        return None
    plain = all(isinstance(one, type(values[0])) for one in values) if values else True
    return np.asarray(values) if plain else np.array(values, dtype=object)


# ---- the table ----


def table_of(rows: Sequence[Any], names: dict[int, list[str]]) -> pd.DataFrame:
    """Return rows of the log as a table; ``names`` are those of the fields, by version."""
    import pandas as pd

    known: dict[str, list[Any]] = {name: [] for name in (*_FIRST, *_LAST)}
    inputs: list[dict[str, Any]] = []
    for row in rows:
        given = read_document(row.inputs) or []
        count = max(1, row.rows, len(given))
        inputs += [_named(one, names.get(row.version)) for one in given] + [{}] * (count - len(given))
        for name, values in _known(row, count).items():
            known[name] += values
    at = pd.to_datetime(pd.Series(known["at"], dtype=float), unit="s", utc=True)
    table = {name: _column(values) for name, values in known.items()} | {"at": at.dt.round("us")}
    fields = {
        f"input {name}" if name in known else name: _column([row.get(name) for row in inputs])
        for name in dict.fromkeys(name for row in inputs for name in row)
    }
    last = [name for name in _LAST if name not in _RARE or table[name].notna().any()]
    return pd.DataFrame(
        {name: table[name] for name in _FIRST} | fields | {name: table[name] for name in last},
    )


def _column(values: list[Any]) -> pd.Series[Any]:
    """Return a column in which whole numbers stay whole, and all but numbers lacks None where it lacks something."""
    import pandas as pd

    column = pd.Series(values, dtype=object)
    missing = column.isna()
    kind = column[~missing].infer_objects().dtype.kind
    if kind in "fmM" or not missing.any():
        return pd.Series(values)
    if kind == "i":
        return column.where(~missing, pd.NA).astype("Int64")
    return pd.Series([None if lost else value for value, lost in zip(values, missing, strict=True)], dtype=object)


def _known(row: Row[Any], count: int) -> dict[str, list[Any]]:
    """Return all but the inputs of one request, for each of its rows."""
    same = {
        "at": row.at, "request_id": row.request_id, "version": row.version, "status": row.status,
        "latency_ms": row.seconds * 1e3, "rows": row.rows, "outcome": row.outcome, "error": row.error,
    }  # fmt: skip
    by_row = {name: _spread(read_document(getattr(row, name)), count) for name in ("prediction", "probabilities")}
    label = read_document(row.label)
    by_row["label"] = _spread(label, count) if isinstance(label, list) else [label] * count
    return {name: [value] * count for name, value in same.items()} | by_row


def _spread(values: Any, count: int) -> list[Any]:
    return values if isinstance(values, list) and len(values) == count else [values] * count


def _named(row: Any, names: list[str] | None) -> dict[str, Any]:
    """Return the values of one row by the names of their fields, ``x0`` and on where those are not known."""
    if isinstance(row, dict):
        return row
    one_field = names is not None and len(names) == 1 and not (isinstance(row, list) and len(row) == 1)
    if one_field or not isinstance(row, list):
        return {names[0] if names else "text": row}
    if names is None or len(names) != len(row):
        names = [f"x{number}" for number in range(len(row))]
    return dict(zip(names, row, strict=True))


# ---- what was asked for ----


def seconds_at(name: str, given: Any) -> float:
    """Return the seconds since the epoch that a moment means.

    Parameters
    ----------
    name : str
        Of the argument, for the refusal.
    given : datetime, timedelta, float or str
        A :data:`Moment`.

    Raises
    ------
    InvalidInputError
    """
    if isinstance(given, str):
        with suppress(InvalidInputError):
            return time.time() - seconds_of(given, what=name)
    try:
        if isinstance(given, timedelta):
            return time.time() - given.total_seconds()
        moment = datetime.fromisoformat(given) if isinstance(given, str) else given
        seconds = float(moment.timestamp() if isinstance(moment, datetime) else moment)
    except (TypeError, ValueError, OverflowError):
        seconds = float("nan")
    if not isfinite(seconds) or isinstance(given, bool):
        raise InvalidInputError(
            f"The log's {name!r} is {given!r:.80}; it is a datetime, how long ago ('1h' or a timedelta), seconds "
            "since the epoch, or ISO 8601 text such as '2026-01-31 12:00'."
        )
    return seconds


def _whole(limit: Any) -> int | None:
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 0):
        raise InvalidInputError(f"The log's 'limit' is {limit!r:.80}; it is a number of requests, or None.")
    return limit
