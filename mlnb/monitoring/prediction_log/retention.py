"""What a log forgets: the oldest requests, by age and by size, in steps that keep nobody waiting."""

from __future__ import annotations

import sys
import time
from math import ceil
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select, text

from mlnb.monitoring.prediction_log.tables import batches, labels, predictions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import ColumnElement, Connection

    from mlnb.monitoring.prediction_log.settings import LogSettings

__all__ = ["trim"]

_STEP = 2000  # requests that are deleted at once
_BUDGET = 0.2  # seconds
_ROOM = 0.95  # of the size, that is left when there was too much
_PAGES = 500  # that are given back to the system at once
_DAY = 86_400.0
_OVERHEAD = 100  # bytes of a row and of its place in the index, of a server
_LOOKED_AT = 1000  # rows, to tell how large they are


def trim(connection: Connection, settings: LogSettings, *, models: Iterable[str], now: float | None) -> bool:
    """Delete what is too old or too much, for a fifth of a second at most; say whether there is more to do.

    Parameters
    ----------
    connection : Connection
    settings : LogSettings
    models : iterable of str
        Those whose requests may be too old: others may share the log, and keep theirs for longer.
    now : float or None
        Seconds since the epoch; None to let nothing be too old.
    """
    end = time.monotonic() + _BUDGET
    deleted = 0
    if settings.keep_days is not None and now is not None:
        for model in models:
            old = [predictions.c.model == model, predictions.c.at < now - settings.keep_days * _DAY]
            deleted += _delete(connection, old, end=end)
    if settings.keep_bytes is not None:
        most = _too_many(connection, settings.keep_bytes)
        deleted += _delete(connection, [], most=most, end=end)
    if deleted:
        _forget_indexes(connection)
        _give_back(connection)
    return time.monotonic() > end


def _delete(
    connection: Connection, conditions: Sequence[ColumnElement[bool]], *, end: float, most: int = sys.maxsize
) -> int:
    """Delete those that were written first, so many at most; return how many."""
    deleted = 0
    while deleted < most and time.monotonic() < end:
        first = select(predictions.c.id).where(*conditions).limit(min(_STEP, most - deleted))
        if not conditions:
            first = first.order_by(predictions.c.id)
        with connection.begin():
            count = connection.execute(delete(predictions).where(predictions.c.id.in_(first))).rowcount
        if not count:
            break
        deleted += count
    return deleted


def _too_many(connection: Connection, keep: int) -> int:
    """Return how many requests there are too many for the log to take ``keep`` bytes."""
    with connection.begin():
        rows = (connection.scalar(select(func.sum(func.length(batches.c.ids)))) or 0) // 4  # 4 bytes for each
        if not rows:
            return 0
        if connection.dialect.name == "sqlite":
            used = _used_in_file(connection)
        else:
            width = _width_on_server(connection)
            if rows * width > keep:  # a batch may be there for few of its requests
                rows = connection.scalar(select(func.count()).select_from(predictions)) or 1
            used = rows * width
    return ceil((1 - keep * _ROOM / used) * rows) if used > keep else 0


def _used_in_file(connection: Connection) -> float:
    """Return the bytes that rows take; what deleted ones took is used again, and does not count."""
    pages, free, size = (_pragma(connection, name) for name in ("page_count", "freelist_count", "page_size"))
    return (pages - free) * size


def _width_on_server(connection: Connection) -> float:
    """Return the bytes of one row, about: the size of a server's files says nothing, because it counts what is free."""
    newest = f"SELECT * FROM {predictions.name} ORDER BY id DESC LIMIT :most"  # noqa: S608 - a constant
    width = connection.scalar(text(f"SELECT avg(pg_column_size(one)) FROM ({newest}) AS one"), {"most": _LOOKED_AT})  # noqa: S608
    return float(width or 0) + _OVERHEAD


def _models(connection: Connection) -> list[str]:
    with connection.begin():
        return list(connection.scalars(select(batches.c.model).distinct()))


def _forget_indexes(connection: Connection) -> None:
    """Delete labels and batches of ids that are older than the oldest request of their model."""
    for model in _models(connection):
        with connection.begin():
            oldest = connection.scalar(select(func.min(predictions.c.at)).where(predictions.c.model == model))
            before = time.time() if oldest is None else oldest
            connection.execute(delete(batches).where(batches.c.model == model, batches.c.newest < before))
            connection.execute(delete(labels).where(labels.c.model == model, labels.c.at < before))


def _give_back(connection: Connection) -> None:
    """Make the file smaller where much of it is free; a server does that by itself."""
    if connection.dialect.name == "sqlite":
        with connection.begin():
            free, pages = _pragma(connection, "freelist_count"), _pragma(connection, "page_count")
            if free > max(_PAGES, pages // 10):
                cursor = connection.connection.cursor()
                cursor.execute(f"PRAGMA incremental_vacuum({_PAGES})")
                cursor.fetchall()  # each step gives one page back
                cursor.close()


def _pragma(connection: Connection, name: str) -> int:
    value = connection.exec_driver_sql(f"PRAGMA {name}").scalar()
    return int(value or 0)
