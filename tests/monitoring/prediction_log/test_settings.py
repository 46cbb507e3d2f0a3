from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from mlnb.errors import InvalidInputError
from mlnb.monitoring.prediction_log import LogSettings, check_fields


def test_the_default_place_is_beside_the_registry(home: Path) -> None:
    settings = LogSettings.of(True)
    assert settings == LogSettings()
    assert settings.file == home / "predictions.sqlite"
    assert settings.shown == f"sqlite:///{home}/predictions.sqlite"


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ("postgres://me:s@h/d", "postgresql+psycopg://me:s@h/d"),
        ("postgresql://h:5433/d?sslmode=require", "postgresql+psycopg://h:5433/d?sslmode=require"),
        ("postgresql+psycopg://h/d", "postgresql+psycopg://h/d"),
        ("sqlite:////data/log 1%.sqlite", "sqlite:////data/log 1%.sqlite"),
        (Path("/data/log.sqlite"), "sqlite:////data/log.sqlite"),
        ("sqlite:///log.sqlite", f"sqlite:///{Path.cwd()}/log.sqlite"),
    ],
)
def test_urls(given: Any, place: str) -> None:
    settings = LogSettings.of(given)
    assert settings.place == place
    assert LogSettings.of(settings) is settings
    assert LogSettings.of({"url": str(given)}) == settings
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert hash(settings) == hash(LogSettings.of(given))


def test_the_password_is_shown_nowhere() -> None:
    settings = LogSettings.of("postgresql://me:secret@h:1/d")
    assert settings.shown == "postgresql+psycopg://me:***@h:1/d"
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (7, "The log is 7; a log is given as True"),
        (False, "The log is False"),
        ("mysql://h/d", "begins with 'mysql'"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:///a.sqlite?mode=ro", "names no file"),
        ("postgresql://h", "names no database"),
        ("postgresql://h:port/d", "names no database"),
        ({"url": 3}, "The log's url is 3"),
        ({"sampel": 0.5}, "did you mean 'sample'"),
        ({"sample": 0}, "'sample' is 0; it is a share above 0 and at most 1"),
        ({"sample": 1.5}, "'sample' is 1.5"),
        ({"sample": True}, "'sample' is True"),
        ({"sample": float("nan")}, "'sample' is nan"),
        ({"keep_days": -1}, "'keep_days' is -1; it is a number of days, or None"),
        ({"keep_bytes": 100}, "'keep_bytes' is 100; it is a number of bytes from 1,048,576 on"),
        ({"leave_out": 3}, "'leave_out' is 3; it is a list of names"),
        ({"hashed": [3]}, "'hashed' is [3]"),
        ({"inputs": "no"}, "'inputs' is 'no'; it is True or False"),
    ],
)
def test_wrong_settings_say_what_is_right(given: Any, says: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        LogSettings.of(given)
    assert says in str(caught.value)


def test_fields_may_be_one_name_or_many() -> None:
    assert LogSettings(leave_out="age", hashed=["name"]).leave_out == ("age",)  # type: ignore[arg-type]
    assert LogSettings.of({"keep_days": None, "keep_bytes": 2e6}).keep_bytes == 2_000_000
    assert os.fspath(LogSettings.of("~/log.sqlite").file or "").startswith(str(Path.home()))


@pytest.mark.parametrize(
    ("hidden", "names", "says"),
    [
        (
            {"leave_out": "agee"},
            ("age", "size"),
            "is to leave out 'agee', which is no field of the model; did you mean",
        ),
        (
            {"hashed": ("age", "mail")},
            ("age",),
            "is to hash 'mail', which is no field of the model; there are: age. Give",
        ),
        (
            {"leave_out": "age"},
            (),
            "leave out 'age', and the model does not say what its fields are called. Give example=",
        ),
    ],
)
def test_what_is_no_field_cannot_be_hidden(hidden: dict[str, Any], names: tuple[str, ...], says: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_fields(LogSettings(**hidden), names)
    assert says in str(caught.value)


@pytest.mark.parametrize(("hidden", "names"), [({}, ()), ({"leave_out": "age", "hashed": "x0"}, ("x0", "age"))])
def test_fields_that_can_be_hidden(hidden: dict[str, Any], names: tuple[str, ...]) -> None:
    check_fields(LogSettings(**hidden), names)
