"""What a deployment tells of itself, end to end over HTTP: in the kernel, beside it, and on the way between."""

from __future__ import annotations

import dataclasses
import json
import socket
import sqlite3
import threading
import time
from collections import Counter
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import psutil
import pytest
from endpoints import speaking
from flowers import EXAMPLE, RELEASED, Flowers, Held, Prices, SureFlowers, row
from loading import Load, Numbered, failures, gateway, pids, processes
from postgres import running_postgres
from threads import mlnb_threads
from waiting import wait_until

import mlnb
from mlnb.errors import AlreadyLabelledError, InvalidInputError, StoppedError, UnknownRequestError
from mlnb.monitoring.alerts import AlertChange
from mlnb.monitoring.quality import QualityReport
from mlnb.serving import watching
from mlnb.workspace import _workspace

PLACES = pytest.mark.parametrize("replicas", [0, 1], ids=["in the kernel", "beside it"])


@pytest.fixture(autouse=True)
def afresh(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go to loopback without whatever proxy this machine has, and with names that nobody has used: they keep rules."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    _workspace._deployments.clear()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look twenty times a second, in the kernel."""
    monkeypatch.setattr(watching, "_EVERY", 0.05)
    monkeypatch.setattr(watching, "_DRIFT_EVERY", 0.1)


def flowers(model: Any = None, name: str = "flowers", **options: Any) -> mlnb.Deployment:
    return mlnb.deploy(Flowers() if model is None else model, name=name, example=EXAMPLE, **options)


def post(deployment: mlnb.Deployment, *sizes: float, path: str = "predict", **body: Any) -> httpx.Response:
    document = {"instances": [row(size) for size in sizes]} | body
    return httpx.post(f"{deployment.url}/{path}", json=document, timeout=20)


def ask(deployment: mlnb.Deployment, *sizes: float, **body: Any) -> dict[str, Any]:
    answer = post(deployment, *sizes, **body)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def ids(deployment: mlnb.Deployment, *sizes: float) -> dict[str, str]:
    """Ask each size by itself; return the answers by request id."""
    answers = [ask(deployment, size) for size in sizes]
    return {one["request_id"]: one["prediction"][0] for one in answers}


def told(deployment: mlnb.Deployment, labels: Any) -> httpx.Response:
    return httpx.post(f"{deployment.url}/feedback", json=labels, timeout=20)


def window(deployment: mlnb.Deployment, at: int = -1) -> Any:
    return deployment.metrics().windows[at]


def by_version(deployment: mlnb.Deployment) -> Counter[int]:
    found: Counter[int] = Counter()
    for part in window(deployment).parts:
        found[part.version] += part.requests
    return found


def measure(report: QualityReport, name: str) -> Any:
    found = report.measure(name)
    assert found is not None
    return found


def kinds(deployment: mlnb.Deployment) -> list[str]:
    return [mark.kind for mark in deployment.view().marks]


# ---- metrics ----


@PLACES
def test_metrics_tell_all_of_it(replicas: int) -> None:
    deployment = flowers(replicas=replicas)
    for size in (1.0, 6.0, 7.0, 8.0):
        ask(deployment, size, size)
    assert post(deployment, instances=[{"size": "large"}]).status_code == 422
    assert httpx.post(f"{deployment.url}/predict", content=b"{").status_code == 400
    metrics = deployment.metrics()
    assert (metrics.requests, metrics.errors, metrics.rows) == (6, 2, 8)
    assert [one.name for one in metrics.windows] == ["1 minute", "5 minutes", "1 hour", "all time"]
    for one in metrics.windows:
        assert (one.requests, one.errors, one.rows) == (6, 2, 8)
        assert one.statuses == {200: 4, 400: 1, 422: 1}
        assert [(part.version, part.replica, part.requests, part.errors) for part in one.parts] == [
            (1, 0, 2, 2),
            (1, 1, 4, 0),
        ]
        assert (one.latency.count, one.waited.count, one.batch.count) == (4, 4, 4)
        latency: Any = one.latency
        waited: Any = one.waited
        assert 0 < latency.p50 <= latency.p99 <= 1.01 * latency.largest
        assert 0 <= waited.p50 < latency.largest
        assert one.batch.largest == 2
        (answers,) = one.answers
        assert (answers.version, answers.count, answers.classes) == (1, 8, {"rose": 6, "tulip": 2})


def test_metrics_are_a_frozen_value_that_shows_itself() -> None:
    deployment = flowers(Prices())
    before = deployment.metrics()
    ask(deployment, 4.0)
    assert post(deployment, 2000.0).status_code == 500
    metrics = deployment.metrics()
    assert (before.requests, metrics.requests) == (0, 2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        metrics.requests = 5  # type: ignore[misc]
    html = metrics._repr_html_()
    assert all(words in html for words in ("1 minute", "all time", "too large", "8 (8 to 8)"))


def test_requests_in_flight_are_seen() -> None:
    deployment = flowers(Held())
    RELEASED.clear()
    asking = threading.Thread(target=ask, args=(deployment, 200.0))
    asking.start()
    try:
        wait_until(lambda: deployment.view().in_flight == 1)
        assert deployment.metrics().requests == 0
        wait_until(lambda: 1 in deployment.series().in_flight)
        exposed = httpx.get(f"{deployment.url.removesuffix('/models/flowers')}/metrics").text
        assert 'mlnb_in_flight_requests{model="flowers"} 1.0' in exposed
    finally:
        RELEASED.set()
        asking.join()
    wait_until(lambda: deployment.view().in_flight == 0)
    assert deployment.metrics().requests == 1


@pytest.mark.alone
def test_nothing_is_lost_or_counted_twice_whatever_is_done() -> None:
    deployment = mlnb.deploy(Numbered(1), name="numbered", example=[[0.5]])
    with Load(deployment.url, connections=16) as load:
        deployment.scale(1)
        load.more(100)
        mlnb.deploy(Numbered(2), name="numbered", example=[[0.5]])
        deployment.rollback()
        load.more(100)
        deployment.scale(0)
        deployment.split({1: 50, 2: 50})
        load.more(200)
        deployment.scale(2)
        load.more(100)
        deployment.promote(2)
        deployment.canary(1, steps=[20, 100], hold=3600)
        load.more(200)
        deployment.scale(0)
        load.more(100)
    answers = load.answers
    assert not failures(answers)
    wait_until(lambda: deployment.metrics().requests == len(answers))
    metrics = deployment.metrics()
    assert by_version(deployment) == Counter(one.version for one in answers)
    everything = metrics.windows[-1]
    assert metrics.errors == 0
    assert everything.statuses == {200: len(answers)}
    assert everything.latency.count == everything.waited.count == everything.batch.count == len(answers)
    assert sum(one.count for one in everything.answers) == everything.rows
    assert kinds(deployment) == [
        "deployed", "scaled", "deployed", "rolled back", "scaled", "split", "scaled", "promoted", "canary", "scaled",
    ]  # fmt: skip


@PLACES
def test_replicas_and_versions_are_told_apart(replicas: int) -> None:
    deployment = flowers()
    deployment.registry.register(Flowers(8), "flowers", example=EXAMPLE)
    deployment.scale(2 * replicas)
    deployment.split({1: 50, 2: 50})
    answers = Counter(ask(deployment, 6.0)["version"] for _ in range(60))
    everything = window(deployment)
    assert by_version(deployment) == answers
    assert {part.replica for part in everything.parts} <= {1, 2, 3, 4}
    assert {one.version: one.classes for one in everything.answers} == {
        1: {"rose": answers[1]},
        2: {"tulip": answers[2]},
    }


@PLACES
def test_what_was_done_stands_on_the_time_axis(replicas: int) -> None:
    began = time.time()
    deployment = flowers(replicas=replicas)
    flowers(Flowers(8))
    deployment.rollback()
    deployment.split({1: 90, 2: 10})
    deployment.promote(2)
    deployment.shadow(1)
    deployment.scale(replicas + 1)
    marks = deployment.view().marks
    assert [(mark.words, mark.version) for mark in marks] == [
        ("v1 deployed", 1), ("v2 deployed", 2), ("rolled back to v1", 1), ("requests split", 1), ("v2 promoted", 2),
        ("v1 as a shadow", 2), (f"scaled to {replicas + 1}", 2),
    ]  # fmt: skip
    times = [mark.at for mark in marks]
    assert began <= times[0]
    assert times == sorted(times)
    assert times[-1] <= time.time()


def test_the_series_go_back_five_minutes_or_an_hour() -> None:
    deployment = flowers()
    ask(deployment, 6.0)
    wait_until(lambda: sum(deployment.series().requests) == 1)
    short, long = deployment.series(), deployment.view(window=3600).series
    assert (short.step, len(short.ago), long.step, len(long.ago)) == (1, 300, 60, 60)
    assert sum(long.requests) == 1
    assert sum(short.classes["rose"]) == 1
    with pytest.raises(InvalidInputError, match="300 or 3600"):
        deployment.view(window=60)


@PLACES
def test_what_it_did_is_known_after_it_was_stopped(replicas: int) -> None:
    deployment = flowers(replicas=replicas)
    ask(deployment, 6.0)
    deployment.stop()
    view = deployment.view()
    assert (view.state, view.in_flight, view.replicas) == ("stopped", 0, 0)
    assert view.metrics.requests == 1
    assert deployment.metrics().windows[-1].answers[0].classes == {"rose": 1}
    flowers()
    assert deployment.metrics().requests == 0


def test_answers_that_are_nan_are_counted_and_shown() -> None:
    deployment = flowers(Prices())
    assert ask(deployment, 4.0, 200.0)["prediction"] == [8.0, None]
    (answers,) = window(deployment).answers
    assert (answers.count, answers.missing) == (2, 1)
    assert answers.numbers == pytest.approx([8.0] * 7, rel=0.01)
    assert "missing 50 %" in deployment.metrics()._repr_html_()
    exposed = httpx.get(f"{deployment.url.removesuffix('/models/flowers')}/metrics").text
    assert 'mlnb_prediction_missing_total{model="flowers",version="1"} 1.0' in exposed
    assert deployment.feedback(ask(deployment, 200.0)["request_id"], 400.0) == 1
    assert deployment.log()["prediction"].isna().sum() == 2


@pytest.mark.parametrize("jump", [-7200.0, 7200.0])
def test_a_clock_that_jumps_is_survived(quick: None, monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    deployment = flowers(log=True)
    deployment.watch("silence > 30m", "error rate > 5%")
    before = ids(deployment, *[6.0] * 5)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    after = ids(deployment, *[6.0] * 5)
    assert deployment.metrics().requests == 10
    assert window(deployment, 0).requests == (10 if jump < 0 else 5)
    wait_until(lambda: deployment.view().alerts[0].since > 0)
    assert {state.state for state in deployment.alerts()} <= {"ok", "no data"}
    assert deployment.feedback([{"request_id": one, "label": "rose"} for one in [*before, *after]]) == 10
    assert deployment.quality().labels == 10
    assert sum(deployment.series().requests) >= 0
    assert len(deployment.log()) == 10
    monkeypatch.undo()
    ask(deployment, 6.0)
    assert deployment.metrics().requests == 11


# ---- quality ----


@PLACES
def test_labels_come_one_by_one_in_bulk_and_over_http(replicas: int) -> None:
    deployment = flowers(replicas=replicas)
    answers = list(ids(deployment, *np.linspace(0.1, 9.9, 40)).items())
    for name, answer in answers[:5]:
        assert deployment.feedback(name, answer) == 1
    assert measure(deployment.quality(), "accuracy").words == "not enough labels yet: 5 of 30"
    assert deployment.feedback(pd.DataFrame(answers[5:20], columns=["request_id", "label"])) == 15
    rest = [{"request_id": name, "label": "rose" if answer == "tulip" else "tulip"} for name, answer in answers[20:]]
    assert told(deployment, {"feedback": rest}).status_code == 200
    report = deployment.quality()
    accuracy = measure(report, "accuracy")
    assert (report.version, report.labels, accuracy.value) == (1, 40, 0.5)
    assert 0.3 < accuracy.low < 0.5 < accuracy.high < 0.7
    assert [one.window for one in deployment.view().quality] == ["1 minute", "5 minutes", "1 hour", "all time"]
    assert "accuracy" in report._repr_html_()


@PLACES
def test_labels_that_are_none_are_refused_and_counted(replicas: int) -> None:
    deployment = flowers(replicas=replicas)
    first, second = ids(deployment, 6.0, 7.0)
    with pytest.raises(UnknownRequestError, match="nobody"):
        deployment.feedback("nobody", "rose")
    with pytest.raises(InvalidInputError, match="no label 'daisy'"):
        deployment.feedback(first, "daisy")
    with pytest.raises(InvalidInputError, match="finite"):
        deployment.feedback(first, outcome=float("nan"))
    with pytest.raises(UnknownRequestError):
        deployment.feedback([{"request_id": first, "label": "rose"}, {"request_id": "nobody", "label": "rose"}])
    with pytest.raises(AlreadyLabelledError):
        deployment.feedback([{"request_id": first, "label": "rose"}, {"request_id": first, "label": "tulip"}])
    assert deployment.feedback(first, "rose") == 1  # nothing of before was taken
    bodies: list[Any] = [
        {"request_id": "nobody", "label": "rose"},
        {"request_id": second, "label": 3},
        {"feedback": [{"request_id": second, "label": label} for label in ("rose", "tulip")]},
        {"request_id": second},
        [],
    ]
    assert [told(deployment, body).status_code for body in bodies] == [404, 422, 409, 422, 422]
    assert told(deployment, {"request_id": first, "label": "rose"}).status_code in (200, 409)  # which it has
    assert deployment.quality().labels == 1
    exposed = httpx.get(f"{deployment.url.removesuffix('/models/flowers')}/metrics").text
    for reason, count in {"unknown": 3, "twice": 2, "wrong type": 4}.items():
        assert f'mlnb_labels_refused_total{{model="flowers",reason="{reason}"}} {count}.0' in exposed


def test_without_labels_it_is_said_how_to_give_some() -> None:
    deployment = flowers()
    report = deployment.quality()
    assert (report.version, report.labels) == (1, 0)
    assert "label" in report.words
    deployment.feedback(*ids(deployment, 6.0).popitem())
    assert deployment.quality().labels == 1
    with pytest.raises(InvalidInputError, match=r"v1.*feedback"):
        deployment.quality(7)
    with pytest.raises(InvalidInputError, match="a week"):
        deployment.quality(window="a week")


@PLACES
def test_the_versions_of_a_split_are_judged_apart_and_move_along(replicas: int) -> None:
    deployment = flowers(replicas=replicas)
    deployment.registry.register(Flowers(8), "flowers", example=EXAMPLE)
    deployment.split({1: 50, 2: 50})
    answers = [ask(deployment, 6.0) for _ in range(120)]
    early, late = answers[:80], answers[80:]
    deployment.feedback([{"request_id": one["request_id"], "label": "rose"} for one in early])
    deployment.scale(1 - replicas)
    deployment.feedback([{"request_id": one["request_id"], "label": "rose"} for one in late])
    counts = Counter(one["version"] for one in answers)
    for version, accuracy in ((1, 1.0), (2, 0.0)):
        report = deployment.quality(version)
        assert (report.labels, measure(report, "accuracy").value) == (counts[version], accuracy)
    deployment.rollback()
    assert deployment.quality().labels == counts[1]
    assert deployment.quality(2).labels == counts[2]


def test_numbers_are_judged_as_numbers() -> None:
    deployment = flowers(Prices())
    sizes = np.linspace(0.1, 9.9, 40).tolist()
    names = [ask(deployment, size)["request_id"] for size in sizes]
    deployment.feedback([
        {"request_id": name, "label": 2 * size + 1} for name, size in zip(names, sizes, strict=True)
    ])  # fmt: skip
    report = deployment.quality()
    assert measure(report, "MAE").value == pytest.approx(1.0)
    assert measure(report, "RMSE").value == pytest.approx(1.0)


@PLACES
def test_probabilities_nobody_asked_for_come_by_themselves(replicas: int) -> None:
    deployment = flowers(SureFlowers(), replicas=replicas)
    sizes = np.linspace(0.1, 9.9, 60)
    names = list(ids(deployment, *sizes))
    requests = deployment.metrics().requests
    labels = ["rose" if size + 2 * np.sin(9 * size) > 5 else "tulip" for size in sizes]
    deployment.feedback([
        {"request_id": name, "label": label} for name, label in zip(names, labels, strict=True)
    ])  # fmt: skip
    wait_until(lambda: sum(one.count for one in deployment.quality().calibration) == 60)
    report = deployment.quality()
    assert 0.8 < measure(report, "ROC AUC").value < 1
    assert measure(report, "log loss").value is not None
    assert deployment.metrics().requests == requests  # nobody has asked
    assert (deployment.log()["status"] == 200).sum() == 60


def test_a_model_without_probabilities_is_not_asked_for_any(caplog: pytest.LogCaptureFixture) -> None:
    deployment = flowers()
    answers = ids(deployment, *np.linspace(0.1, 9.9, 40))
    deployment.feedback([{"request_id": name, "label": answer} for name, answer in answers.items()])
    report = deployment.quality()
    assert measure(report, "accuracy").value == 1
    assert "ROC AUC" not in {one.name for one in report.measures if one.value is not None}
    deployment.stop()
    assert not caplog.records


def test_stopping_just_after_labels_came_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    deployment = flowers(SureFlowers())
    other = flowers(name="other")  # which keeps the server
    deployment.feedback(*ids(deployment, 6.0).popitem())
    deployment.stop()
    end = time.monotonic() + 0.7
    wait_until(lambda: ask(other, 6.0) is not None and time.monotonic() > end)
    assert not caplog.records


@PLACES
def test_late_labels_are_found_in_the_log(replicas: int) -> None:
    deployment = flowers(replicas=replicas, log=True)
    answers = ids(deployment, *np.linspace(0.1, 9.9, 40))
    labelled = next(iter(answers))
    deployment.feedback(labelled, answers[labelled])
    deployment.stop()
    with pytest.raises(StoppedError):
        deployment.feedback(labelled, "rose")
    deployment.start()
    table = [{"request_id": name, "label": answer} for name, answer in answers.items() if name != labelled]
    assert deployment.feedback(table) == 39
    assert deployment.quality().labels == 39
    with pytest.raises(UnknownRequestError):
        deployment.feedback("nobody", "rose")
    with suppress(AlreadyLabelledError, UnknownRequestError):
        deployment.feedback(labelled, answers[labelled])
    assert deployment.quality().labels == 39
    assert (deployment.log()["label"] == deployment.log()["prediction"]).all()


def test_late_labels_of_a_version_that_was_before_are_its_own() -> None:
    deployment = flowers(log=True)
    answers = ids(deployment, *np.linspace(0.1, 9.9, 40))
    deployment.stop()
    flowers(Flowers(8), log=True)
    assert deployment.version.number == 2
    assert deployment.feedback([{"request_id": name, "label": one} for name, one in answers.items()]) == 40
    report = deployment.quality(1)
    assert (report.labels, measure(report, "accuracy").value) == (40, 1.0)


# ---- drift ----


def send(deployment: mlnb.Deployment, rows: pd.DataFrame) -> None:
    for part in range(0, len(rows), 50):
        body = {"instances": rows.iloc[part : part + 50].to_dict("records")}
        assert httpx.post(f"{deployment.url}/predict", json=body, timeout=20).status_code == 200


def sampled(count: int = 400, **shift: float) -> pd.DataFrame:
    chosen = EXAMPLE.sample(count, random_state=1, replace=True).reset_index(drop=True)
    return chosen.assign(**{name: chosen[name] + by for name, by in shift.items()})


@PLACES
def test_a_column_that_moved_is_named(replicas: int) -> None:
    deployment = flowers(replicas=replicas)
    send(deployment, sampled())
    steady = deployment.drift()
    assert (steady.drifted, steady.share) == ((), 0.0)
    assert steady.prediction is not None
    assert steady.prediction.verdict == "steady"
    send(deployment, sampled(2000, height=1.5))
    report = deployment.drift()
    assert (report.version, report.drifted, report.columns[0].name) == (1, ("height",), "height")
    assert "height" in report.words
    assert "height" in report._repr_html_()
    assert deployment.drift(rows=100).rows == 100


def test_predictions_that_moved_are_named(quick: None) -> None:
    deployment = flowers()
    deployment.watch("drift > 50%")
    send(deployment, sampled(1000, size=6.0))
    report = deployment.drift()
    assert report.prediction is not None
    assert report.prediction.verdict == "drifted"
    wait_until(lambda: deployment.alerts()[0].state == "firing", seconds=60)
    assert deployment.alerts()[0].value == 1.0


@PLACES
def test_an_alert_on_drift(quick: None, replicas: int) -> None:
    deployment = flowers(replicas=replicas)
    found: list[AlertChange] = []
    deployment.watch("drift > 10%", notify=found.append)
    send(deployment, sampled(600, height=1.5))
    wait_until(lambda: bool(found), seconds=20)
    assert (found[0].state, found[0].version) == ("firing", 1)
    assert found[0].value == pytest.approx(1 / 3)
    view = deployment.view()
    assert view.drift is not None
    assert view.drift.drifted == ("height",)
    assert (view.marks[-1].kind, view.marks[-1].words) == ("alert", found[0].words)
    wait_until(lambda: pytest.approx(1 / 3) in deployment.series().drift, seconds=20)


def test_without_an_example_there_is_nothing_to_compare_with(quick: None, caplog: pytest.LogCaptureFixture) -> None:
    deployment = mlnb.deploy(Numbered(1), name="numbered", example=[[0.5]])
    assert "example" in deployment.drift().words or "few" in deployment.drift().words.lower()
    for number in range(120):
        deployment.predict([[float(number)]])
    report = deployment.drift()
    assert (report.drifted, report.share) == ((), None)
    wait_until(lambda: deployment.view().drift is not None)
    assert not caplog.records


@pytest.mark.parametrize("rows", [0, -5, 2.5, True, "many"])
def test_the_number_of_rows_is_a_number(rows: Any) -> None:
    with pytest.raises(InvalidInputError, match="whole number"):
        flowers().drift(rows=rows)


def test_after_a_roll_back_drift_is_that_of_the_version_that_is_live(quick: None) -> None:
    deployment = flowers()
    flowers(Flowers(8))
    send(deployment, sampled(600, height=1.5))
    assert deployment.drift().version == 2
    wait_until(lambda: deployment.view().drift is not None)
    deployment.rollback()
    assert deployment.drift().rows == 0
    send(deployment, sampled(600))
    wait_until(lambda: deployment.view().drift.version == 1)  # type: ignore[union-attr]
    assert deployment.view().drift.drifted == ()  # type: ignore[union-attr]


# ---- alerts ----


class Receiver:
    """A webhook's server: keeps what is posted to it."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []

    def __call__(self, _: int, connection: socket.socket) -> None:
        file = connection.makefile("rb")
        length = 0
        while (line := file.readline().decode()).strip():
            if line.lower().startswith("content-length:"):
                length = int(line.split(":")[1])
        self.bodies.append(json.loads(file.read(length)))
        connection.sendall(b"HTTP/1.1 204 x\r\nConnection: close\r\n\r\n")


def fail(deployment: mlnb.Deployment, count: int = 40) -> None:
    for _ in range(count):
        assert post(deployment, 2000.0).status_code == 500


@PLACES
def test_callbacks_and_webhooks_are_told(replicas: int, caplog: pytest.LogCaptureFixture) -> None:
    deployment = flowers(Prices(), replicas=replicas)
    found: list[AlertChange] = []

    def fails(_: AlertChange) -> None:
        raise RuntimeError("this one fails")

    receiver = Receiver()
    with speaking(receiver) as url:
        deployment.watch("error rate > 5%", "p99 > 10 s", notify=[fails, found.append, f"{url}/hook"])
        fail(deployment)
        wait_until(lambda: bool(found and receiver.bodies))
    (change,) = found
    assert (change.name, change.version, change.state, change.number, change.value) == ("flowers", 1, "firing", 1, 1.0)
    assert receiver.bodies == [change.to_json()]
    assert [state.state for state in deployment.alerts()] == ["firing", "no data"]
    assert kinds(deployment)[-1] == "alert"
    failed = [record for record in caplog.records if "callback failed" in record.getMessage()]
    assert len(failed) == 1
    assert ask(deployment, 4.0)["prediction"] == [8.0]


@PLACES
def test_alerts_go_on_through_a_move_and_each_is_told_once(replicas: int) -> None:
    deployment = flowers(Prices(), replicas=replicas)
    found: list[AlertChange] = []
    deployment.watch("error rate > 5%", "quality > 3", notify=found.append)
    fail(deployment)
    wait_until(lambda: len(found) == 1)
    deployment.scale(1 - replicas)
    assert deployment.alerts()[0].state == "firing"
    names = [ask(deployment, 4.0)["request_id"] for _ in range(30)]
    deployment.feedback([{"request_id": name, "label": 88.0} for name in names])
    wait_until(lambda: len(found) == 2)
    deployment.scale(replicas)
    assert [(change.number, change.rule.metric) for change in found] == [(1, "error rate"), (2, "quality")]
    assert kinds(deployment).count("alert") == 2


def test_a_webhook_that_hangs_delays_nobody(quick: None) -> None:
    deployment = flowers(Prices())
    asked, over = threading.Event(), threading.Event()

    def hang(_: int, connection: socket.socket) -> None:
        connection.recv(2**16)
        asked.set()
        over.wait(30)

    with speaking(hang) as url:
        deployment.watch("error rate > 5%", notify=url)
        fail(deployment)
        try:
            assert asked.wait(10)
            began = time.monotonic()
            for _ in range(20):
                ask(deployment, 4.0)
            assert deployment.alerts()[0].state == "firing"
            deployment.stop()
            assert time.monotonic() - began < 4
        finally:
            over.set()


@PLACES
def test_rules_stay_with_another_version(replicas: int) -> None:
    deployment = flowers(Prices(), replicas=replicas)
    found: list[AlertChange] = []
    deployment.watch("error rate > 5%", notify=found.append)
    flowers(Prices())
    deployment.rollback()
    flowers(Prices(), replicas=replicas)
    assert [state.rule.name for state in deployment.alerts()] == [mlnb.AlertRule.of("error rate > 5%").name]
    fail(deployment)
    wait_until(lambda: bool(found))
    assert found[0].version == 3


def test_rules_and_callbacks_stay_after_a_stop(quick: None) -> None:
    deployment = flowers(Prices())
    found: list[AlertChange] = []
    deployment.watch("error rate > 5%", notify=found.append)
    for round_ in (1, 2, 3):
        fail(deployment)
        wait_until(lambda round_=round_: len(found) == round_)  # type: ignore[misc]
        deployment.stop()
        wait_until(lambda: "mlnb alerts flowers" not in mlnb_threads())
        deployment.start()


def test_a_callback_that_takes_its_time_hears_what_comes_after_a_stop_and_a_start(quick: None) -> None:
    deployment = flowers(Prices())
    may_go = threading.Event()
    found: list[AlertChange] = []

    def slow(change: AlertChange) -> None:
        found.append(change)
        may_go.wait(20)

    deployment.watch("error rate > 5%", notify=slow)
    fail(deployment)
    wait_until(lambda: len(found) == 1)
    deployment.stop()
    deployment.start()
    may_go.set()
    fail(deployment)
    wait_until(lambda: len(found) == 2)


def test_callbacks_go_on_after_a_stop_and_a_start_at_once(quick: None) -> None:
    deployment = flowers(Prices())
    other = flowers(name="other")  # which keeps the server
    found: list[AlertChange] = []
    deployment.watch("error rate > 5%", notify=found.append)
    for _ in range(10):
        deployment.stop()
        deployment.start()
    fail(deployment)
    wait_until(lambda: bool(found))
    assert other.state == "live"


def test_other_rules_change_nothing_else() -> None:
    deployment = flowers(replicas=1)
    deployment.registry.register(Flowers(8), "flowers", example=EXAMPLE)
    before = pids(deployment)
    deployment.watch("p99 > 1 s")
    assert pids(deployment) == before
    deployment.canary(2, steps=[50, 100], hold=3600)
    answers = [ask(deployment, 6.0) for _ in range(40)]
    deployment.feedback([{"request_id": one["request_id"], "label": "rose"} for one in answers])
    arms = deployment.experiment().arms
    assert sum(arm.tally.count for arm in arms) == 40
    before = pids(deployment)
    deployment.watch("p99 > 2 s")
    assert pids(deployment) == before
    traffic = deployment.traffic
    assert traffic is not None
    assert traffic.shares == {1: 0.5, 2: 0.5}
    assert traffic.canary is not None
    assert deployment.experiment().arms == arms
    assert [state.rule.name for state in deployment.alerts()] == [mlnb.AlertRule.of("p99 > 2 s").name]


@pytest.mark.parametrize(
    ("rules", "notify", "words"),
    [
        (["nonsense"], (), "no rule"),
        (["latency > 5"], (), "no metric"),
        (["error rate > 5 ms"], (), "not measured in ms"),
        (["error rate > 500%"], (), "share"),
        ([{"metric": "p99"}], (), "one limit"),
        ([mlnb.AlertRule(metric="p99", above=5, name="same"), mlnb.AlertRule(metric="p50", above=5, name="same")],
         (), "called 'same'"),
        ([], "ftp://example.org/secret", "no webhook"),
        ([], ["http://127.0.0.1/ok", 5], "function"),
    ],
)  # fmt: skip
def test_bad_rules_are_refused_and_nothing_changes(rules: list[Any], notify: Any, words: str) -> None:
    deployment = flowers()
    deployment.watch("p50 > 1 s", notify=print)
    with pytest.raises(InvalidInputError, match=words):
        deployment.watch(*rules, notify=notify)
    assert [state.rule.name for state in deployment.alerts()] == [mlnb.AlertRule.of("p50 > 1 s").name]
    assert deployment._callbacks == (print,)


def test_without_rules_the_usual_ones_hold() -> None:
    deployment = flowers()
    usual = [state.rule for state in deployment.alerts()]
    assert {rule.metric for rule in usual} == {"error rate", "crashes", "drift"}
    deployment.watch("p50 > 1 s").watch()
    assert [state.rule for state in deployment.alerts()] == usual


def test_a_replica_that_crashes_is_an_alert() -> None:
    deployment = flowers(replicas=1)
    found: list[AlertChange] = []
    deployment.watch(notify=found.append)
    psutil.Process(pids(deployment).pop()).kill()
    wait_until(lambda: bool(found), seconds=20)
    assert (found[0].rule.name, found[0].value) == ("a replica crashed", 1.0)


def test_callbacks_are_told_after_the_gateway_was_killed() -> None:
    deployment = flowers(Prices(), replicas=1)
    found: list[AlertChange] = []
    deployment.watch("error rate > 5%", notify=found.append)
    fail(deployment)
    wait_until(lambda: len(found) == 1)
    gateway(deployment).kill()
    wait_until(lambda: deployment.alerts()[0].state in ("no data", "ok"), seconds=20)
    fail(deployment)
    wait_until(lambda: deployment.alerts()[0].state == "firing", seconds=60)
    wait_until(lambda: len(found) == 2)


def test_silence(quick: None) -> None:
    deployment = flowers()
    found: list[AlertChange] = []
    deployment.watch("silence > 300 ms", notify=found.append)
    wait_until(lambda: len(found) == 1)
    wait_until(lambda: ask(deployment, 6.0) is not None and len(found) == 2)
    assert [change.state for change in found[:2]] == ["firing", "resolved"]


# ---- the prediction log ----


@PLACES
def test_the_log_in_its_default_place(replicas: int, home: Path) -> None:
    deployment = flowers(SureFlowers(), replicas=replicas, log=True)
    first = ask(deployment, 6.0, probabilities=True)
    ask(deployment, 1.0, 9.0)
    post(deployment, instances=[{"size": "large"}])
    table = deployment.log()
    assert list(home.rglob("predictions.sqlite")) == [home / "predictions.sqlite"]
    assert table["request_id"][0] == first["request_id"]
    good = table[table["status"] == 200]
    assert good["size"].tolist() == [6.0, 1.0, 9.0]
    assert good["prediction"].tolist() == ["rose", "tulip", "rose"]
    assert good["version"].tolist() == [1, 1, 1]
    assert (good["latency_ms"] > 0).all()
    assert table["status"].tolist() == [200, 200, 200, 422]
    state = deployment.view().log
    assert state is not None
    assert (state.written, state.dropped, state.waiting, state.failure) == (3, 0, 0, "")
    deployment.stop()
    assert len(deployment.log()) == 4


def test_the_log_by_time_version_and_number() -> None:
    deployment = flowers(log=True)
    ask(deployment, 1.0)
    between = time.time()
    flowers(Flowers(8))
    for size in (2.0, 3.0):
        ask(deployment, size)
    moment = datetime.fromtimestamp(between, UTC)
    assert deployment.log(since=moment)["size"].tolist() == [2.0, 3.0]
    assert deployment.log(until=moment.isoformat())["size"].tolist() == [1.0]
    assert deployment.log(version=1)["size"].tolist() == [1.0]
    assert deployment.log(limit=1)["size"].tolist() == [3.0]
    for bad in ({"since": "yesterday-ish"}, {"limit": True}, {"limit": -1}, {"limit": 1.5}):
        with pytest.raises(InvalidInputError):
            deployment.log(**bad)


@PLACES
def test_without_a_log_there_is_what_the_server_remembers(replicas: int, home: Path) -> None:
    deployment = flowers(replicas=replicas)
    for size in (1.0, 2.0, 3.0):
        ask(deployment, size)
    assert deployment.log()["size"].tolist() == [1.0, 2.0, 3.0]
    assert [len(deployment.log(limit=limit)) for limit in (0, 1, 3, 9)] == [0, 1, 3, 3]
    assert deployment.log(limit=2)["size"].tolist() == [2.0, 3.0]
    for bad in ({"since": "yesterday-ish"}, {"limit": True}, {"limit": -1}, {"limit": 1.5}):
        with pytest.raises(InvalidInputError):
            deployment.log(**bad)
    assert deployment.log(version=2).empty
    assert deployment.log(until="2020-01-01").empty
    assert deployment.view().log is None
    assert not list(home.rglob("*.sqlite"))
    deployment.stop()
    with pytest.raises(StoppedError):
        deployment.log()


@PLACES
def test_the_log_goes_elsewhere_and_off_again(replicas: int, tmp_path: Path) -> None:
    first, second = tmp_path / "first.sqlite", tmp_path / "second.sqlite"
    deployment = flowers(replicas=replicas, log=str(first))
    ask(deployment, 1.0)
    flowers(log={"url": f"sqlite:///{second}", "leave_out": ["height"]})
    ask(deployment, 2.0)
    table = deployment.log()
    assert table["size"].tolist() == [2.0]
    assert "height" not in table or table["height"].isna().all()
    flowers(log=False)
    ask(deployment, 3.0)
    assert deployment.view().log is None
    assert deployment.log()["size"].tolist()[-1] == 3.0
    wait_until(lambda: "mlnb log" not in mlnb_threads())
    with closing(sqlite3.connect(first)) as one, closing(sqlite3.connect(second)) as other:
        assert [each.execute("select count(*) from mlnb_predictions").fetchone()[0] for each in (one, other)] == [1, 1]


@pytest.mark.parametrize("log", [5, "ftp://example.org/x", {"sampel": 0.5}, {"sample": 2}, ["a"]])
def test_a_log_that_is_none_is_refused_before_anything_happens(log: Any, home: Path) -> None:
    with pytest.raises(InvalidInputError):
        flowers(log=log)
    assert not mlnb.deployments()
    assert not (home / "models").exists()


def test_after_kill_9_of_the_gateway_the_rows_are_there() -> None:
    deployment = flowers(replicas=1, log=True)
    for size in range(20):
        ask(deployment, float(size))
    wait_until(lambda: deployment.view().log.written == 20)  # type: ignore[union-attr]
    gateway(deployment).kill()
    assert deployment.predict(EXAMPLE[:1]).tolist() == ["tulip"]  # another one is there
    ask(deployment, 21.0)
    assert deployment.log()["size"].tolist() == [*map(float, range(20)), 0.0, 21.0]


@PLACES
def test_a_log_that_cannot_be_opened_stops_nothing(replicas: int, tmp_path: Path) -> None:
    (tmp_path / "no.sqlite").mkdir()
    deployment = flowers(replicas=replicas, log=str(tmp_path / "no.sqlite"))
    for size in (1.0, 6.0):
        ask(deployment, size)
    wait_until(lambda: bool(deployment.view().log.failure))  # type: ignore[union-attr]
    state = deployment.view().log
    assert state is not None
    assert (state.written, state.waiting) == (0, 2)
    assert deployment.metrics().requests == 2
    shown = httpx.get(f"{deployment.url.removesuffix('/models/flowers')}/dashboard/data").text
    assert "The prediction log cannot be written" in shown
    assert state.failure not in shown  # who looks from elsewhere need not know paths
    with pytest.warns(UserWarning, match="newest requests are not in the log"):
        assert deployment.log().empty
    assert deployment.predict(EXAMPLE[:1]).tolist() == ["tulip"]


def test_a_log_that_is_gone_is_written_anew(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "log.sqlite"
    deployment = flowers(log=str(file))
    ask(deployment, 1.0)
    wait_until(lambda: deployment.view().log.written == 1)  # type: ignore[union-attr]
    for one in file.parent.iterdir():
        one.unlink()
    ask(deployment, 2.0)
    wait_until(lambda: bool(deployment.view().log.failure) or file.exists())  # type: ignore[union-attr]
    wait_until(lambda: deployment.log()["size"].tolist() == [2.0], seconds=20)
    assert deployment.view().log.failure == ""  # type: ignore[union-attr]


def test_a_log_in_postgresql_that_goes_and_comes_back() -> None:
    with running_postgres() as server:
        deployment = flowers(replicas=1, log=server.url)
        names = [ask(deployment, 1.0)["request_id"]]
        assert deployment.log()["request_id"].tolist() == names
        server.stop()
        names.append(ask(deployment, 2.0)["request_id"])
        wait_until(lambda: bool(deployment.view().log.failure))  # type: ignore[union-attr]
        with pytest.raises(OSError, match="cannot be read") as refusal:
            deployment.log()
        assert "secret" not in str(refusal.value)
        assert deployment.feedback(names[1], "tulip") == 1
        server.start()
        wait_until(lambda: not deployment.view().log.failure, seconds=30)  # type: ignore[union-attr]
        names.append(ask(deployment, 3.0)["request_id"])
        state = deployment.view().log
        assert state is not None
        assert "secret" not in state.url
        table = deployment.log()
        assert table["request_id"].tolist() == names
        assert table["label"].tolist()[1] == "tulip"
        deployment.stop()


def test_labels_come_while_the_log_is_out_of_order(tmp_path: Path) -> None:
    (tmp_path / "no.sqlite").mkdir()
    deployment = flowers(log=str(tmp_path / "no.sqlite"))
    assert deployment.feedback(*ids(deployment, 6.0).popitem()) == 1
    with pytest.raises(UnknownRequestError):
        deployment.feedback("nobody", "rose")


# ---- several models, and the end ----


@PLACES
def test_two_models_on_one_server(replicas: int) -> None:
    first = flowers(name="my.flowers-2", replicas=replicas)
    second = flowers(Prices(), name="prices_1")
    ask(first, 6.0)
    ask(second, 4.0)
    ask(second, 200.0)
    base = first.url.removesuffix("/models/my.flowers-2")
    exposed = httpx.get(f"{base}/metrics").text
    for name, count in (("my.flowers-2", 1), ("prices_1", 2)):
        sample = f'mlnb_requests_total{{model="{name}",replica="1",status="200",version="1"}} {count}.0'
        assert sample in exposed
    assert exposed.count("# TYPE mlnb_requests_total counter") == 1
    page, data = httpx.get(f"{base}/dashboard"), httpx.get(f"{base}/dashboard/data")
    assert (page.status_code, data.status_code) == (200, 200)
    assert "my.flowers-2" in data.text
    assert "prices_1" in data.text
    chosen = httpx.get(f"{base}/dashboard/data", params={"name": "prices_1"})
    assert chosen.status_code == 200
    assert [first.metrics().requests, second.metrics().requests] == [1, 2]
    second.stop()
    assert "prices_1" not in httpx.get(f"{base}/metrics").text


def files_of(process: psutil.Process, ending: str) -> list[str]:
    return [one.path for one in process.open_files() if ending in one.path]


@PLACES
def test_nothing_is_left_after_the_end(replicas: int, home: Path, quick: None) -> None:
    own = psutil.Process()
    connections, descriptors = len(own.net_connections()), []
    receiver = Receiver()
    with speaking(receiver) as url:
        for turn in (1, 2, 3):
            deployment = flowers(Prices(), replicas=replicas, log=True)
            deployment.watch("error rate > 5%", notify=[url, print])
            fail(deployment)
            wait_until(lambda turn=turn: len(receiver.bodies) == turn)  # type: ignore[misc]
            ask(deployment, 4.0)
            deployment.log()
            deployment.drift()
            deployment.stop()
            wait_until(lambda: not mlnb_threads())
            wait_until(lambda: not processes())
            assert not files_of(own, "predictions.sqlite")
            descriptors.append(own.num_fds())
    assert descriptors[2] <= descriptors[1]
    wait_until(lambda: len(own.net_connections()) <= connections)
    assert [path.name for path in home.glob("predictions*")] == ["predictions.sqlite"]
    with closing(sqlite3.connect(home / "predictions.sqlite")) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)


def test_all_of_it_needs_a_live_deployment() -> None:
    deployment = flowers()
    deployment.stop()
    for reading in (deployment.drift, deployment.quality, deployment.watch):
        with pytest.raises(StoppedError):
            reading()
    assert "firing" not in {state.state for state in deployment.alerts()}
    assert deployment.series().requests == (0,) * 300
