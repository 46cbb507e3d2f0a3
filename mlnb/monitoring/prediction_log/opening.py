"""Connections to the database of a prediction log."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, NullPool, create_engine, inspect, make_url
from sqlalchemy.exc import SQLAlchemyError

from mlnb.errors import MlnbError
from mlnb.monitoring.prediction_log.tables import predictions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection, Engine

    from mlnb.monitoring.prediction_log.settings import LogSettings

__all__ = ["LogUnavailableError", "engine_for", "one_line", "reading"]

_PATIENCE = 5  # seconds that a lock or a server is waited for
_STATEMENT = 60  # seconds that a statement may take
_LONGEST = 200  # characters of a failure


class LogUnavailableError(MlnbError, OSError):
    """The database of the prediction log cannot be reached, or is none."""

    title = "Prediction log cannot be reached"


def engine_for(settings: LogSettings) -> Engine:
    """Return the engine of a log; nothing is opened yet."""
    file = settings.file
    if file is not None:
        waiting: dict[str, Any] = {"timeout": _PATIENCE, "isolation_level": "IMMEDIATE"}
        return create_engine(URL.create("sqlite", database=str(file)), poolclass=NullPool, connect_args=waiting)
    limits = {
        "connect_timeout": _PATIENCE,
        "tcp_user_timeout": _PATIENCE * 1000,
        "options": f"-c statement_timeout={_STATEMENT}s -c lock_timeout={_PATIENCE}s",
        "application_name": "mlnb log",
        "client_encoding": "utf8",
    }
    return create_engine(make_url(settings.place), poolclass=NullPool, connect_args=limits)


@contextmanager
def reading(settings: LogSettings) -> Iterator[Connection | None]:
    """Connect to read; None where nothing was ever written.

    Raises
    ------
    LogUnavailableError
    """
    file: Path | None = settings.file
    if file is not None and not file.is_file():
        yield None
        return
    try:
        with engine_for(settings).connect() as connection:
            if file is not None:
                connection.exec_driver_sql("PRAGMA query_only = 1")
            yield connection if inspect(connection).has_table(predictions.name) else None
    except (SQLAlchemyError, OSError) as error:
        raise LogUnavailableError(f"The prediction log {settings.shown} cannot be read: {one_line(error)}.") from error


def one_line(error: BaseException) -> str:
    """Return what a database or the system said, without SQL and values."""
    said = str(getattr(error, "orig", None) or error) or type(error).__name__
    return " ".join(said.split())[:_LONGEST].rstrip(".")
