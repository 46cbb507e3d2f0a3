"""What a log forgets: the oldest requests, by age and by size, in steps that keep nobody waiting."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, literal, select, text

from mlnb.monitoring.prediction_log.tables import batches, labels, predictions

if TYPE_CHECKING:
    from sqlalchemy import Connection, Select

    from mlnb.monitoring.prediction_log.settings import LogSettings

__all__ = ["trim"]

_STEP = 2000  # requests that are deleted at once
_BUDGET = 0.2  # seconds
_ROOM = 0.95  # of the size, that is left when there was too much
_PAGES = 500  # that are given back to the system at once
_DAY = 86_400.0
_OVERHEAD = 100  # bytes of a row and of its place in the index, of a server
_LOOKED_AT = 1000  # rows, to tell how large they are


def trim(connection: Connection, settings: LogSettings, *, now: float | None) -> bool:
    """Delete what is too old or too much, for a fifth of a second at most; say whether there is more to do.

    Parameters
    ----------
    connection : Connection
    settings : LogSettings
    now : float or None
        Seconds since the epoch; None to let nothing be too old.
    """
    end = time.monotonic() + _BUDGET
    cutoff = None if settings.keep_days is None or now is None else now - settings.keep_days * _DAY
    deleted, more = _trim_old(connection, cutoff, end=end)
    if not more:
        by_size, more = _trim_large(connection, settings.keep_bytes, end=end)
        deleted += by_size
    if deleted:
        _forget_indexes(connection)
        _give_back(connection)
    return more


def _trim_old(connection: Connection, cutoff: float | None, *, end: float) -> tuple[int, bool]:
    deleted = 0
    for model in [] if cutoff is None else _models(connection):
        old = select(predictions.c.id).where(predictions.c.model == model, predictions.c.at < cutoff).limit(_STEP)
        while count := _delete(connection, old):
            deleted += count
            if time.monotonic() > end:
                return deleted, True
    return deleted, False


def _trim_large(connection: Connection, keep: int | None, *, end: float) -> tuple[int, bool]:
    if keep is None or _used(connection) <= keep:
        return 0, False
    deleted, oldest = 0, select(predictions.c.id).order_by(predictions.c.id).limit(_STEP)
    while _used(connection) > keep * _ROOM and (count := _delete(connection, oldest)):
        deleted += count
        if time.monotonic() > end:
            return deleted, True
    return deleted, False


def _delete(connection: Connection, chosen: Select[tuple[int]]) -> int:
    with connection.begin():
        return connection.execute(delete(predictions).where(predictions.c.id.in_(chosen))).rowcount


def _models(connection: Connection) -> list[str]:
    with connection.begin():
        return list(connection.scalars(select(batches.c.model).distinct()))


def _used(connection: Connection) -> float:
    """Return the bytes that rows take; what deleted ones took is used again, and does not count."""
    with connection.begin():
        return _USED[connection.dialect.name](connection)


def _used_in_file(connection: Connection) -> float:
    pages, free, size = (_pragma(connection, name) for name in ("page_count", "freelist_count", "page_size"))
    return (pages - free) * size


def _used_on_server(connection: Connection) -> float:
    """Return about how many: the size of its files counts what is free, and its statistics are late."""
    first, last = connection.execute(select(func.min(predictions.c.id), func.max(predictions.c.id))).one()
    newest = f"SELECT * FROM {predictions.name} ORDER BY id DESC LIMIT :most"  # noqa: S608 - a constant
    width = connection.scalar(text(f"SELECT avg(pg_column_size(one)) FROM ({newest}) AS one"), {"most": _LOOKED_AT})  # noqa: S608
    return 0.0 if last is None else (last - first + 1) * (float(width or 0) + _OVERHEAD)


_USED = {"sqlite": _used_in_file, "postgresql": _used_on_server}


def _forget_indexes(connection: Connection) -> None:
    """Delete labels and batches of ids that are older than the oldest request of their model."""
    for model in _models(connection):
        own = select(func.min(predictions.c.at)).where(predictions.c.model == model)
        with connection.begin():
            oldest = connection.scalar(own)
            before = literal(time.time() if oldest is None else oldest)
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
