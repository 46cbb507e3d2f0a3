from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mlnb.events import PredictionEvent
from mlnb.monitoring.access_log import AccessLog, NoAccessLog, access_log_for


def event(**values: Any) -> PredictionEvent:
    known: dict[str, Any] = {
        "model": "iris", "version": 3, "request_id": "r1", "at": 1e9 + 0.25, "seconds": 0.0041234, "rows": 2,
        "status": 200, "replica": 1, "inputs": [["a secret"]],
    }  # fmt: skip
    return PredictionEvent(**(known | values))


def own_handlers() -> list[logging.Handler]:
    return [one for one in logging.getLogger("mlnb.access").handlers if type(one).__module__.startswith("mlnb")]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    assert own_handlers() == []


@pytest.mark.parametrize("given", [None, "", "0", "off", "No", " false "])
def test_off_unless_it_is_asked_for(given: str | None, capfd: pytest.CaptureFixture[str]) -> None:
    log = access_log_for({} if given is None else {"MLNB_ACCESS_LOG": given})
    assert isinstance(log, NoAccessLog)
    log.observe([event()])
    log.close()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("given", ["1", "true", "On"])
def test_a_line_of_json_for_each_request_on_stderr(given: str, capfd: pytest.CaptureFixture[str]) -> None:
    with closing(access_log_for({"MLNB_ACCESS_LOG": given})) as log:
        log.observe([event(), event(status=500, rows=0, error="ValueError: a secret")])
        log.observe([event(request_id="r\n3", model='i"ris', status=503)])
    out, written = capfd.readouterr()
    assert out == ""
    assert "secret" not in written
    first, second, third = map(json.loads, written.splitlines())
    assert first == {
        "time": "2001-09-09T01:46:40.250+00:00", "model": "iris", "version": 3, "request_id": "r1", "status": 200,
        "ms": 4.123, "rows": 2, "replica": 1, "error": "",
    }  # fmt: skip
    assert (second["status"], second["error"]) == (500, "model failed")
    assert (third["request_id"], third["model"], third["error"]) == ("r\n3", 'i"ris', "overloaded")


def test_a_file_that_is_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text("before\n")
    with closing(access_log_for({"MLNB_ACCESS_LOG": str(path)})) as log:
        log.observe([event()] * 3)
        path.rename(tmp_path / "access.log.1")
        log.observe([event()])
    assert (tmp_path / "access.log.1").read_text().splitlines()[0] == "before"
    assert len((tmp_path / "access.log.1").read_text().splitlines()) == 4
    assert json.loads(path.read_text())["model"] == "iris"


def test_a_file_that_cannot_be_opened_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = access_log_for({"MLNB_ACCESS_LOG": str(tmp_path / "none" / "access.log")})
    log.observe([event()])
    assert isinstance(log, NoAccessLog)
    assert capfd.readouterr().err.count("the access log cannot be written: [Errno 2] No such file") == 1


def test_a_full_disk_is_said_once_and_survived(capfd: pytest.CaptureFixture[str]) -> None:
    log = access_log_for({"MLNB_ACCESS_LOG": "/dev/full"})
    for _ in range(100):
        log.observe([event()] * 50)
    assert capfd.readouterr().err.count("cannot be written: [Errno 28] No space left") == 1
    assert isinstance(log, AccessLog)
    log.close()


def test_a_folder_that_vanishes_is_said_once_and_survived(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "access.log"
    with closing(access_log_for({"MLNB_ACCESS_LOG": str(path)})) as log:
        path.unlink()
        folder.rmdir()
        for _ in range(10):
            log.observe([event()])
        folder.mkdir()
        log.observe([event()])
    assert len(path.read_text().splitlines()) == 1
    assert capfd.readouterr().err.count("cannot be written") == 1


def test_what_it_writes_goes_to_no_other_handler(tmp_path: Path) -> None:
    others: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = others.append  # type: ignore[assignment, method-assign]
    logging.getLogger("mlnb").addHandler(handler)
    try:
        with closing(access_log_for({"MLNB_ACCESS_LOG": str(tmp_path / "log")})) as log:
            assert len(own_handlers()) == 1
            log.observe([event()])
    finally:
        logging.getLogger("mlnb").removeHandler(handler)
    assert others == []
