"""The tables of a prediction log, the same in SQLite and in PostgreSQL."""

from __future__ import annotations

from functools import lru_cache

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

__all__ = [
    "FORMAT",
    "METADATA",
    "PUT_FIELDS",
    "PUT_LABELS",
    "PUT_SETTING",
    "WRITTEN",
    "batches",
    "fields",
    "insertion",
    "labels",
    "predictions",
    "settings",
]

FORMAT = "1"
METADATA = MetaData()
_WHOLE = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself for INTEGER alone

predictions = Table(
    "mlnb_predictions",
    METADATA,
    Column("id", _WHOLE, primary_key=True),
    Column("model", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("at", Double, nullable=False),  # seconds since the epoch
    Column("seconds", Double, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("status", Integer, nullable=False),
    Column("error", Text),
    Column("replica", Integer, nullable=False),
    Column("inputs", Text),  # these three are JSON; see documents.py
    Column("prediction", Text),
    Column("probabilities", Text),
    Index("mlnb_predictions_at", "model", "at"),
)
"""One row for each request. Nothing in it is sorted by their ids: that would cost as much as all else."""

batches = Table(
    "mlnb_batches",
    METADATA,
    Column("id", _WHOLE, primary_key=True),
    Column("model", Text, nullable=False),
    Column("oldest", Double, nullable=False),
    Column("newest", Double, nullable=False),
    Column("ids", LargeBinary, nullable=False),
)
"""Where a request's id is found: the CRC-32 of each that was answered from ``oldest`` to ``newest``, 4 bytes each."""

labels = Table(
    "mlnb_labels",
    METADATA,
    Column("model", Text, primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("at", Double, nullable=False),
    Column("label", Text),  # JSON
    Column("outcome", Double),
)

fields = Table(
    "mlnb_fields",
    METADATA,
    Column("model", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("names", Text, nullable=False),  # JSON
)
"""What the values of a row are called."""

settings = Table(
    "mlnb_settings", METADATA, Column("name", Text, primary_key=True), Column("content", Text, nullable=False)
)

WRITTEN = tuple(column.name for column in predictions.columns if column.name != "id")
"""The columns of a request, as :func:`insertion` takes them."""

PUT_LABELS = text(
    "INSERT INTO mlnb_labels (model, request_id, at, label, outcome) "
    "VALUES (:model, :request_id, :at, :label, :outcome) ON CONFLICT (model, request_id) "
    "DO UPDATE SET at = excluded.at, label = excluded.label, outcome = excluded.outcome"
)
PUT_FIELDS = text(
    "INSERT INTO mlnb_fields (model, version, names) VALUES (:model, :version, :names) "
    "ON CONFLICT (model, version) DO UPDATE SET names = excluded.names"
)
PUT_SETTING = text("INSERT INTO mlnb_settings (name, content) VALUES (:name, :content) ON CONFLICT (name) DO NOTHING")


@lru_cache(16)
def insertion(count: int, *, mark: str) -> str:
    """Return the SQL that inserts so many requests in one step, for which the database needs no GIL.

    Parameters
    ----------
    count : int
    mark : {'?', '%s'}
        What the driver takes for a value.
    """
    row = f"({', '.join([mark] * len(WRITTEN))})"
    return f"INSERT INTO {predictions.name} ({', '.join(WRITTEN)}) VALUES {', '.join([row] * count)}"  # noqa: S608 - of constants
