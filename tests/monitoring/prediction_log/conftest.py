"""A log in SQLite, and the same one in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres import Postgres, find_programs, running_postgres

from mlnb.monitoring.prediction_log import LogSettings
from mlnb.monitoring.prediction_log.opening import engine_for
from mlnb.monitoring.prediction_log.tables import METADATA


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    if find_programs() is None:
        pytest.fail("PostgreSQL is not installed: sh tests/install-postgresql")
    with running_postgres() as postgres:
        yield postgres


@pytest.fixture
def file(tmp_path: Path) -> LogSettings:
    return LogSettings(url=f"{tmp_path}/log/log.sqlite")


@pytest.fixture
def database(server: Postgres) -> Iterator[LogSettings]:
    settings = LogSettings(url=server.url)
    yield settings
    engine = engine_for(settings)
    METADATA.drop_all(engine)


@pytest.fixture(params=["file", "database"])
def settings(request: pytest.FixtureRequest) -> LogSettings:
    """Both, one after the other."""
    chosen: LogSettings = request.getfixturevalue(request.param)
    return chosen
