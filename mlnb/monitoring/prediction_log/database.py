"""The database that a log writes to: opened, filled and trimmed on the log's own thread."""

from __future__ import annotations

import os
from array import array
from contextlib import suppress
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING

import orjson
import psutil
from sqlalchemy import insert, select, update

from mlnb.monitoring.prediction_log.documents import write_document
from mlnb.monitoring.prediction_log.keys import clean, keys_of
from mlnb.monitoring.prediction_log.masking import Mask
from mlnb.monitoring.prediction_log.opening import LogUnavailableError, engine_for
from mlnb.monitoring.prediction_log.rows import values_of
from mlnb.monitoring.prediction_log.tables import (
    FORMAT,
    METADATA,
    PUT_FIELDS,
    PUT_LABELS,
    PUT_SETTING,
    batches,
    insertion,
)
from mlnb.monitoring.prediction_log.tables import (
    settings as stored,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy import Connection

    from mlnb.events import PredictionEvent
    from mlnb.monitoring.prediction_log.noted import Names, NotedLabel
    from mlnb.monitoring.prediction_log.settings import LogSettings

__all__ = ["Database"]

_TOGETHER = (128, 32, 8, 1)  # requests in one step: few sizes, because each is prepared once
_IDS = 4096  # of one batch
_SPAN = 600.0  # seconds of one batch
_JOURNAL = 16 * 2**20  # bytes that a write-ahead log keeps
_RANGE = 2**32
_SHARED = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "smb3", "smbfs", "sshfs"}
)


@dataclass(frozen=True, slots=True)
class _Batch:
    number: int
    oldest: float
    newest: float
    ids: bytes


class Database:
    """The open database of a log; used on one thread only.

    Parameters
    ----------
    settings : LogSettings
    salt : str
        Of hashes, where the database has none yet.

    Raises
    ------
    LogUnavailableError, sqlalchemy.exc.SQLAlchemyError, OSError
        If it cannot be opened. What is missing, folders and tables, is made.
    """

    def __init__(self, settings: LogSettings, *, salt: str) -> None:
        self._file, self._most = settings.file, settings.sample * _RANGE
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with suppress(OSError):  # the database says what is wrong
                os.close(os.open(self._file, os.O_CREAT | os.O_WRONLY, 0o600))  # what people ask is nobody else's
        self.connection = engine_for(settings).connect()
        try:
            if self._file is not None:
                _prepare_file(self.connection, self._file)
            with self.connection.begin():
                METADATA.create_all(self.connection)
            salt = self._introduce(salt)
        except BaseException:
            self.connection.close()
            raise
        self._mask = Mask(settings, salt=salt)
        self._mark = "?" if self._file is not None else "%s"
        self._open: dict[str, _Batch] = {}
        self._identity = self._identify()

    @property
    def gone(self) -> bool:
        """Whether another file, or none, is where the database was: what is written would be lost."""
        return self._file is not None and self._identify() != self._identity

    def close(self) -> None:
        """Close the connection; what was not committed is undone."""
        self.connection.close()

    def write(self, events: Sequence[PredictionEvent], labels: Sequence[NotedLabel] = (), *, names: Names) -> int:
        """Write all of it, or with an error nothing; return how many requests were written.

        Parameters
        ----------
        events : sequence of PredictionEvent
            Those that the sample leaves out are not written.
        labels : sequence of NotedLabel
        names : Names
            For the settings that name fields.
        """
        ids = [event.request_id for event in events]
        if not "".join(ids).isalnum():
            ids = [clean(request_id) for request_id in ids]
        keys = keys_of(ids)
        if self._most < _RANGE:
            chosen = [key < self._most for key in keys]
            events, ids = list(compress(events, chosen)), list(compress(ids, chosen))
            keys = list(compress(keys, chosen))
        with self.connection.begin():
            self._write_rows(events, ids, names)
            opened = self._write_batches(events, keys)
            self._write_labels(labels)
        self._open |= opened
        return len(events)

    def write_names(self, names: Names) -> None:
        """Write what the values of a row are called."""
        if names:
            rows = [
                {"model": model, "version": version, "names": orjson.dumps(called).decode()}
                for (model, version), called in names.items()
            ]
            with self.connection.begin():
                self.connection.execute(PUT_FIELDS, rows)

    def _write_rows(self, events: Sequence[PredictionEvent], ids: Sequence[str], names: Names) -> None:
        start = 0
        for size in _TOGETHER:
            sql = insertion(size, mark=self._mark)
            while start + size <= len(events):
                part = events[start : start + size]
                if self._mask.active:
                    part = [self._hidden(event, names) for event in part]
                values = values_of(part, ids[start : start + size])
                self.connection.exec_driver_sql(sql, tuple(values))
                start += size

    def _hidden(self, event: PredictionEvent, names: Names) -> PredictionEvent:
        """Return the request without what the settings hide."""
        inputs = self._mask.apply(event.inputs, names=names.get((event.model, event.version)))
        return event._replace(inputs=inputs, error=self._mask.error(event.error))

    def _write_batches(self, events: Sequence[PredictionEvent], keys: Sequence[int]) -> dict[str, _Batch]:
        """Note where the requests are found by their ids: in the batch that is open, or in a new one."""
        opened = {}
        models, times = [event.model for event in events], [event.at for event in events]
        for model in set(models):
            own = [True] * len(models) if models.count(model) == len(models) else [one == model for one in models]
            ids = array("I", compress(keys, own)).tobytes()
            opened[model] = self._write_batch(model, list(compress(times, own)), ids)
        return opened

    def _write_batch(self, model: str, times: Sequence[float], ids: bytes) -> _Batch:
        oldest, newest = min(times), max(times)
        batch = self._open.get(model)
        if batch is not None:
            oldest, newest, ids = min(oldest, batch.oldest), max(newest, batch.newest), batch.ids + ids
            if len(ids) <= _IDS * 4 and newest - oldest <= _SPAN:
                changed = update(batches).where(batches.c.id == batch.number)
                if self.connection.execute(changed.values(oldest=oldest, newest=newest, ids=ids)).rowcount:
                    return _Batch(batch.number, oldest, newest, ids)
            oldest, newest, ids = min(times), max(times), ids[len(batch.ids) :]
        made = self.connection.execute(insert(batches).values(model=model, oldest=oldest, newest=newest, ids=ids))
        key = made.inserted_primary_key
        return _Batch(0 if key is None else key[0], oldest, newest, ids)

    def _write_labels(self, labels: Sequence[NotedLabel]) -> None:
        noted = {
            (one.model, one.label.request_id): {
                "model": one.model, "request_id": clean(one.label.request_id), "at": one.at,
                "label": write_document(one.label.label), "outcome": one.label.outcome,
            }
            for one in labels
        }  # fmt: skip
        if noted:
            self.connection.execute(PUT_LABELS, list(noted.values()))

    def _introduce(self, salt: str) -> str:
        """Write what every log says of itself, unless it is there; return its salt."""
        with self.connection.begin():
            rows = [{"name": "format", "content": FORMAT}, {"name": "salt", "content": salt}]
            self.connection.execute(PUT_SETTING, rows)
            found = {row.name: row.content for row in self.connection.execute(select(stored))}
        if found["format"] != FORMAT:
            raise LogUnavailableError(f"its format is {found['format'][:20]}, this mlnb writes {FORMAT}; update mlnb")
        return str(found["salt"])

    def _identify(self) -> tuple[int, int] | None:
        try:
            status = self._file.stat() if self._file is not None else None
        except OSError:
            return None
        return None if status is None else (status.st_dev, status.st_ino)


def _prepare_file(connection: Connection, file: Path) -> None:
    """Let several processes write one SQLite file: by a write-ahead log where one machine alone uses it.

    https://www.sqlite.org/wal.html: "does not work over a network filesystem".
    """
    mode = "TRUNCATE" if _is_shared(file) else "WAL"
    connection.exec_driver_sql("PRAGMA auto_vacuum = INCREMENTAL")  # of a new file only
    found = connection.exec_driver_sql(f"PRAGMA journal_mode = {mode}").scalar()
    connection.exec_driver_sql(f"PRAGMA synchronous = {'NORMAL' if found == 'wal' else 'FULL'}")
    connection.exec_driver_sql(f"PRAGMA journal_size_limit = {_JOURNAL}")
    connection.rollback()


def _is_shared(file: Path) -> bool:
    """Say whether other machines may have the file open, too."""
    parents = {str(parent) for parent in file.resolve().parents}
    mounts = [one for one in psutil.disk_partitions(all=True) if one.mountpoint in parents]
    nearest = max(mounts, key=lambda one: len(one.mountpoint), default=None)
    return nearest is not None and nearest.fstype.removeprefix("fuse.") in _SHARED
