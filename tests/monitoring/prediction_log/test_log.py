from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monitoring.prediction_log import events as program
from monitoring.prediction_log.events import NOW, event, events
from postgres import Postgres
from threads import mlnb_threads
from waiting import wait_until

from mlnb.monitoring.outcomes import Label
from mlnb.monitoring.prediction_log import LogSettings, PredictionLog, find, labelled, read


def started(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, str(program.__file__), *arguments]
    return subprocess.Popen(command, text=True, stderr=subprocess.PIPE, **options)


def ended(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors


def ids(settings: LogSettings, model: str = "iris") -> list[str]:
    return list(read(settings, model)["request_id"])


def test_what_is_put_is_written(settings: LogSettings) -> None:
    with PredictionLog(settings) as log:
        log.name_fields("iris", 3, ("length", "width"))
        for start in range(0, 1000, 10):
            log.put(events(1000)[start : start + 10])
        assert log.flush()
        state = log.state()
        assert (state.written, state.dropped, state.waiting, state.failure) == (1000, 0, 0, "")
        assert state.url == settings.shown
        table = read(settings, "iris")
    assert list(table.columns) == [
        "at", "request_id", "version", "status", "latency_ms", "rows", "length", "width", "prediction", "label", "error"
    ]  # fmt: skip
    assert list(table["request_id"]) == [f"r{number}" for number in range(1000)]
    first = table.iloc[0]
    assert abs(first["at"].timestamp() - NOW) < 1e-3
    assert first["latency_ms"] == pytest.approx(1.5)
    assert (first["length"], first["width"], first["prediction"]) == (5.1, 3.5, "setosa")


def test_it_is_written_within_half_a_second_or_so(file: LogSettings) -> None:
    with PredictionLog(file) as log:
        assert log.flush()
        start = time.monotonic()
        log.put(events(1))
        wait_until(lambda: log.state().written == 1)
        assert time.monotonic() - start > 0.3, "together with what comes soon"


def test_many_are_written_at_once(file: LogSettings) -> None:
    with PredictionLog(file) as log:
        assert log.flush()
        log.put(events(5000))
        log.put(events(5000, prefix="other"))
        wait_until(lambda: log.state().written == 10_000)
    assert len(ids(file)) == 10_000


def test_after_writing_it_sleeps(file: LogSettings) -> None:
    with PredictionLog(file) as log:
        log.put(events(10))
        assert log.flush()
        wait_until(lambda: log._waiting.idle)
        assert log._waiting.signals.empty()


def test_requests_of_the_same_moment(settings: LogSettings) -> None:
    with PredictionLog(settings) as log:
        for turn in range(3):  # the second and third are what a clock that jumps back would make
            log.put([event(f"{turn}-{number}") for number in range(100)] + [event(f"{turn}", at=NOW + 60)])
            assert log.flush()
        assert log.state().dropped == 0
    assert len(ids(settings)) == 303


def test_labels_survive(settings: LogSettings) -> None:
    with PredictionLog(settings) as log:
        log.put([event("a"), event("b", rows=2, inputs=((1.0, 2.0), (3.0, 4.0)), prediction=("x", "y")), event("c")])
        log.put_labels("iris", [Label("a", label="virginica"), Label("b", label=["x", "z"])])
        log.put_labels("iris", [Label("a", label=np.str_("setosa")), Label("c", outcome=2.5)], at=NOW)
    table = read(settings, "iris")
    assert table["label"].tolist()[:3] == ["setosa", "x", "z"]
    assert table["outcome"].tolist()[3] == 2.5
    known = {one.event.request_id: one.label for one in labelled(settings, "iris")}
    assert known == {"a": Label("a", label="setosa"), "b": Label("b", label=["x", "z"]), "c": Label("c", outcome=2.5)}
    assert [one.event.request_id for one in labelled(settings, "iris", limit=1)] == ["b"]
    assert labelled(settings, "iris", since=NOW + 1) == []


def test_a_sample_is_chosen_by_the_ids(settings: LogSettings) -> None:
    few, more = (replace(settings, sample=share) for share in (0.1, 0.5))
    for one, model in ((few, "few"), (more, "more")):
        with PredictionLog(one) as log:
            log.put([event(f"r{number}", model=model) for number in range(2000)])
    logged, others = set(ids(few, "few")), set(ids(more, "more"))
    assert 150 < len(logged) < 250
    assert 900 < len(others) < 1100
    assert logged < others


def test_fields_are_left_out_and_hashed_with_a_salt_that_stays(settings: LogSettings) -> None:
    hidden = replace(settings, leave_out=("age",), hashed=("name",))
    for request_id in ("a", "b"):
        with PredictionLog(hidden) as log:
            log.name_fields("people", 3, ("name", "age", "size"))
            log.put([event(request_id, model="people", inputs=[["Ann", 33, 1.5]])])
            log.put([event(f"{request_id}2", model="people", inputs=None, status=422, error="Field 'age': got '33y'")])
    table = read(hidden, "people").sort_values("request_id")
    assert "age" not in table.columns
    assert table["size"].tolist()[0] == 1.5
    digits = table[table["status"] == 200]["name"].tolist()
    assert digits[0] == digits[1]
    assert len(digits[0]) == 16
    assert set(table["error"].dropna()) == {"Field 'age'"}
    assert "Ann" not in table.to_csv()
    assert "33" not in table[["error", "size"]].to_csv()


def test_inputs_off(file: LogSettings) -> None:
    with PredictionLog(replace(file, inputs=False)) as log:
        log.put([event("a")])
    assert "x0" not in read(file, "iris").columns


def test_what_the_database_refuses_keeps_nothing_else_from_it(settings: LogSettings) -> None:
    odd = [event("a\0b", error="half \ud800 a pair \0", status=500), event("large", version=2**70), *events(20)]
    with PredictionLog(settings) as log:
        log.put(odd)
        assert log.flush()
        state = log.state()
    assert (state.written, state.dropped, state.failure) == (21, 1, "")
    assert set(ids(settings)) == {"ab"} | {f"r{number}" for number in range(20)}
    assert find(settings, "iris", ["a\0b"])["a\0b"].event.error == "half ? a pair "


@pytest.mark.parametrize("content", [None, "not a database, only a text of some length" * 100])
def test_a_database_that_cannot_be_opened_and_comes_back(tmp_path: Path, content: str | None) -> None:
    place = tmp_path / "place"
    path = place / "log.sqlite"
    if content is None:
        place.write_text("a file where the folder should be")
    else:
        place.mkdir()
        path.write_text(content)
    settings = LogSettings(url=str(path))
    with PredictionLog(settings) as log:
        wait_until(lambda: bool(log.state().failure))
        assert "\n" not in log.state().failure
        log.put(events(100))
        assert not log.flush(timeout=0.1)
        assert log.state().waiting == 100
        (place if content is None else path).unlink()
        wait_until(lambda: log.state().written == 100 and not log.state().failure, seconds=30)
    assert len(ids(settings)) == 100


@pytest.mark.alone
def test_a_full_queue_drops_and_counts(tmp_path: Path) -> None:
    blocked = tmp_path / "place"
    blocked.write_text("")
    with PredictionLog(LogSettings(url=f"{blocked}/log.sqlite")) as log:
        start = time.monotonic()
        for number in range(60):
            log.put(events(1000, prefix=f"{number}-"))
        assert time.monotonic() - start < 5
        assert (log.state().waiting, log.state().dropped) == (50_000, 10_000)
    assert (log.state().waiting, log.state().dropped) == (0, 60_000)


@pytest.mark.skipif(sys.platform != "linux", reason="even root cannot write there on Linux")
def test_a_read_only_folder() -> None:
    with PredictionLog(LogSettings(url="/proc/log.sqlite")) as log:
        wait_until(lambda: "unable to open" in log.state().failure)
        log.put(events(10))
    assert log.state().dropped == 10
    assert not mlnb_threads()


def test_a_database_that_is_locked_for_a_while(file: LogSettings) -> None:
    with PredictionLog(file) as log:
        assert log.flush()
        assert file.file is not None
        other = sqlite3.connect(file.file, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        log.put(events(10))
        wait_until(lambda: "locked" in log.state().failure, seconds=20)
        other.execute("ROLLBACK")
        other.close()
        wait_until(lambda: log.state().written == 10, seconds=20)
    assert len(ids(file)) == 10


@pytest.mark.parametrize("whole", [True, False])
def test_a_database_that_is_removed_while_it_is_written(file: LogSettings, *, whole: bool) -> None:
    assert file.file is not None
    folder = file.file.parent
    with PredictionLog(file) as log:
        log.name_fields("iris", 3, ("a", "b"))
        log.put(events(10))
        assert log.flush()
        file.file.unlink()
        if whole:
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
        log.put(events(5, prefix="later"))
        assert log.flush()
        assert log.state().failure == ""
    table = read(file, "iris")
    assert list(table["request_id"]) == [f"later{number}" for number in range(5)]
    assert table["a"].tolist() == [5.1] * 5, "the names are written again"


def test_a_server_that_goes_and_comes_back(database: LogSettings, server: Postgres) -> None:
    with PredictionLog(database) as log:
        log.put(events(10))
        assert log.flush()
        server.stop()
        log.put(events(10, prefix="meanwhile"))
        wait_until(lambda: bool(log.state().failure), seconds=20)
        assert "secret" not in log.state().failure
        server.start()
        wait_until(lambda: log.state().written == 20 and not log.state().failure, seconds=30)
    assert len(ids(database)) == 20


def test_a_server_that_never_answers_is_said_to_be_awaited_and_then_to_be_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://me@127.0.0.1:{silent.getsockname()[1]}/logs"
        start = time.monotonic()
        with PredictionLog(LogSettings(url=url)) as log:
            assert time.monotonic() - start < 1
            assert (log.state().opening, log.state().words) == (True, "the database has not answered yet")
            wait_until(lambda: bool(log.state().failure), seconds=20)
            assert not log.state().opening
            assert str(log.state()).startswith(
                f"postgresql+psycopg://me@127.0.0.1:{silent.getsockname()[1]}/logs: cannot"
            )


def test_a_server_that_is_not_there_is_known_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with PredictionLog(LogSettings(url=f"postgresql://me@127.0.0.1:{port}/logs")) as log:
        wait_until(lambda: "refused" in log.state().failure, seconds=5)
        log.put(events(3))
        assert log.state().words.endswith("; 3 requests wait, 0 are lost")


@pytest.mark.alone
def test_after_kill_9_all_but_the_last_moment_is_there(file: LogSettings) -> None:
    process = started("go_on", file.place, stdout=subprocess.PIPE)
    assert process.stdout is not None
    told = []
    for line in process.stdout:
        told.append(line.split())
        if len(told) > 1000:
            break
    killed = time.time()
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()
    logged = set(ids(file))
    old = {number for number, at in told if float(at) < killed - 1.0}  # half of it, and a slow machine's half
    assert len(old) > 100
    assert old <= logged


def test_two_processes_at_once(settings: LogSettings) -> None:
    processes = [started("write", settings.place, prefix, "3000") for prefix in "ab"]
    for process in processes:
        ended(process)
    logged = ids(settings)
    assert len(logged) == len(set(logged)) == 6000
    found = find(settings, "iris", ["a0-0", "b2990-9", "c"])
    assert set(found) == {"a0-0", "b2990-9"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork(settings: LogSettings) -> None:
    ended(started("fork", settings.place))
    assert ids(settings) == [f"before{number}" for number in range(10)] + [f"parent{number}" for number in range(5)]


def test_what_waits_at_the_end_of_the_program_is_written(file: LogSettings) -> None:
    ended(started("leave", file.place))
    assert len(ids(file)) == 10


def test_closing(file: LogSettings) -> None:
    log = PredictionLog(file)
    assert mlnb_threads() == ["mlnb log"]
    log.put(events(10))
    log.close()
    log.close()
    assert not mlnb_threads()
    assert log.flush()
    log.put(events(3))
    log.put_labels("iris", [Label("a", label=1)])
    assert (log.state().written, log.state().dropped, log.state().waiting) == (10, 4, 0)
    assert not mlnb_threads()


def test_one_that_nobody_holds_ends(file: LogSettings) -> None:
    PredictionLog(file).put(events(10))
    wait_until(lambda: not mlnb_threads())
    assert len(ids(file)) == 10


def test_rows_of_any_type_raise_nothing(file: LogSettings) -> None:
    class Odd:
        @property
        def shape(self) -> Any:
            raise RuntimeError

    with PredictionLog(file) as log:
        log.put([event("a", inputs=Odd())])
        log.put(events(1))
    assert ids(file) == ["r0"]
    assert log.state().dropped == 1
