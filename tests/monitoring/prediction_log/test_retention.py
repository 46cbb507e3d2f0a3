from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from monitoring.prediction_log.events import NOW, event, events
from sqlalchemy import func, select

from mlnb.monitoring.outcomes import Label
from mlnb.monitoring.prediction_log import LogSettings, PredictionLog, find, read
from mlnb.monitoring.prediction_log.database import Database
from mlnb.monitoring.prediction_log.opening import engine_for
from mlnb.monitoring.prediction_log.retention import trim
from mlnb.monitoring.prediction_log.tables import METADATA

DAY = 86_400.0


def counts(settings: LogSettings) -> dict[str, int]:
    with engine_for(settings).connect() as connection:
        return {
            name.removeprefix("mlnb_"): connection.scalar(select(func.count()).select_from(table)) or 0
            for name, table in METADATA.tables.items()
        }


def filled(settings: LogSettings, *given: Any) -> None:
    with PredictionLog(replace(settings, keep_days=None, keep_bytes=None)) as log:
        log.put(given[: len(given) // 2])
        assert log.flush(timeout=30)
        log.put(given[len(given) // 2 :])
        log.put_labels("iris", [Label(given[0].request_id, label="setosa")], at=given[0].at + 1)
        log.put_labels("iris", [Label(given[-1].request_id, label="setosa")], at=given[-1].at + 1)
        assert log.flush(timeout=30)


def trimmed(settings: LogSettings, *, now: float | None, models: Sequence[str] = ("iris",)) -> int:
    """Trim until all is done, and return in how many visits."""
    database = Database(settings, salt="")
    visits = 1
    while trim(database.connection, settings, models=models, now=now):
        visits += 1
    database.close()
    return visits


def test_the_old_ones_go(settings: LogSettings) -> None:
    keep = replace(settings, keep_days=7)
    filled(settings, *events(5000, prefix="old", at=NOW - 8 * DAY), *events(5000))
    trimmed(keep, now=NOW + 60)
    assert counts(settings) | {"settings": 0} == {
        "predictions": 5000, "batches": 1, "labels": 1, "fields": 0, "settings": 0
    }  # fmt: skip
    assert set(find(settings, "iris", ["r1", "old1"])) == {"r1"}


def test_none_goes_while_the_clock_is_not_believed(file: LogSettings) -> None:
    filled(file, *events(10, at=NOW - 90 * DAY), event("new"))
    trimmed(file, now=None)
    assert counts(file)["predictions"] == 11
    trimmed(replace(file, keep_days=None), now=NOW)
    assert counts(file)["predictions"] == 11


def test_the_oldest_go_where_there_are_too_many(settings: LogSettings) -> None:
    keep = replace(settings, keep_bytes=2**20)
    filled(settings, *events(20_000))
    trimmed(keep, now=NOW)
    left = read(settings, "iris")["request_id"].tolist()
    assert 2_000 < len(left) < 12_000
    assert left == [f"r{number}" for number in range(20_000 - len(left), 20_000)]
    assert counts(settings)["labels"] == 1
    assert trimmed(keep, now=NOW) == 1
    assert len(read(settings, "iris")) == len(left)


def test_the_file_gets_smaller(file: LogSettings) -> None:
    filled(file, *(event(f"r{number}", inputs=[[0.5] * 100]) for number in range(20_000)))
    assert file.file is not None
    before = file.file.stat().st_size
    for _ in range(5):
        trimmed(replace(file, keep_bytes=2**20), now=NOW)
    database = Database(file, salt="")
    database.connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    assert file.file.stat().st_size < before


def test_a_log_trims_itself(settings: LogSettings) -> None:
    filled(settings, *events(5000, prefix="old", at=NOW - 90 * DAY))
    with PredictionLog(settings) as log:
        assert log.flush()
        log.put(events(1))
        assert log.flush()
    assert read(settings, "iris")["request_id"].tolist() == ["r0"]


@pytest.mark.parametrize("models", [3])
def test_each_model_has_its_own_age(file: LogSettings, models: int) -> None:
    names = [f"m{number}" for number in range(models)]
    filled(file, *(event(name, model=name, at=NOW - number * 10 * DAY) for number, name in enumerate(names)))
    trimmed(replace(file, keep_days=15), now=NOW, models=names)
    assert counts(file)["predictions"] == counts(file)["batches"] == 2


def test_other_models_of_the_same_log_keep_theirs(file: LogSettings) -> None:
    filled(file, event("old", model="theirs", at=NOW - 90 * DAY), event("older", model="iris", at=NOW - 99 * DAY))
    with PredictionLog(replace(file, keep_days=1)) as log:
        log.put([event("new", model="iris", at=NOW)])
    assert read(file, "theirs")["request_id"].tolist() == ["old"]
    assert read(file, "iris")["request_id"].tolist() == ["new"]
