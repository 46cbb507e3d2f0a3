from __future__ import annotations

import asyncio
import pickle
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flowers import EXAMPLE, Flowers, Prices, SureFlowers, row

from mlnb.errors import AlreadyLabelledError, UnknownRequestError
from mlnb.events import PredictionEvent
from mlnb.monitoring.alerts import AlertChange, AlertRule, Alerts, Reading
from mlnb.monitoring.metrics import Mark
from mlnb.monitoring.outcomes import Label
from mlnb.monitoring.prediction_log import LogSettings, PredictionLog
from mlnb.monitoring.quality import QualityReport
from mlnb.registry.rows.inference import infer_signature
from mlnb.registry.signature import Signature
from mlnb.serving.observing import Observer

CLASSES = infer_signature(Flowers(), EXAMPLE)
NUMBERS = infer_signature(Prices(), EXAMPLE)
RULE = AlertRule(metric="p99", above=50)


def observer(signature: Signature = CLASSES, *, version: int = 1, **options: Any) -> Observer:
    one = Observer("flowers", signature, **options)
    one.expect({version: signature})
    return one


def event(request_id: str, answer: Any = "rose", *, at: float = 1e9, **changes: Any) -> PredictionEvent:
    good = PredictionEvent(
        model="flowers", version=1, request_id=request_id, at=at, seconds=0.002, rows=1, status=200, inputs=[row()],
        prediction=np.array([answer]), replica=1, batch=1,
    )  # fmt: skip
    return good._replace(**changes)


def refused(request_id: str) -> PredictionEvent:
    return event(request_id, rows=0, status=422, error="no", inputs=None, prediction=None, replica=0, batch=0)


def label(one: Observer, *labels: Label) -> int:
    return asyncio.run(one.label(labels))


def change(number: int) -> AlertChange:
    return AlertChange(
        number=number, at=1e9, name="flowers", version=1, rule=RULE, state="firing", value=80.0, words="p99 is 80 ms"
    )


def quality(one: Observer, version: int = 1, **options: Any) -> QualityReport:
    """Return the report on one version over all time."""
    reports = one.quality("all time", **{"now": time.time()} | options)
    return next(report for report in reports if report.version == version)


class Heard:
    """Keeps the ids of what it was told."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def observe(self, events: Any) -> None:
        self.ids += [event.request_id for event in events]


# ---- requests ----


def test_all_who_want_to_know_are_told() -> None:
    heard, other = Heard(), Heard()
    one = observer(listeners=(heard, other))
    one.observe([event("a"), refused("b")])
    assert heard.ids == other.ids == ["a", "b"]
    assert (one.monitor.snapshot(now=1e9).requests, len(one.recent), one.rows.rows(1).rows) == (2, 1, 1)
    assert label(one, Label("a", label="rose")) == 1


def test_requests_and_labels_are_written_down(tmp_path: Path) -> None:
    from mlnb.monitoring.prediction_log import read

    settings = LogSettings(url=str(tmp_path / "log.sqlite"), keep_days=None)
    one = observer()
    with PredictionLog(settings) as log:
        one.log = log
        one.observe([event("a"), event("b", "tulip")])
        label(one, Label("a", label="tulip"))
        assert log.flush()
    table = read(settings, "flowers")
    assert table["request_id"].tolist() == ["a", "b"]
    assert table["label"].tolist()[0] == "tulip"


def test_answers_are_counted_as_what_the_live_version_gives() -> None:
    one = observer(CLASSES)
    one.observe([event("a", "rose")])
    one.expect({2: NUMBERS})
    one.observe([event(str(number), float(number), version=2) for number in range(100)])
    first, second = one.monitor.snapshot(now=1e9, windows=True).windows[0].answers
    assert (first.classes, first.numbers) == ({"rose": 1}, None)
    assert second.classes == {}
    assert second.numbers == pytest.approx([0, 5, 25, 50, 75, 94, 99], rel=0.02, abs=1.5)


# ---- labels ----


def test_labels_of_requests_that_are_only_in_the_log(tmp_path: Path) -> None:
    settings = LogSettings(url=str(tmp_path / "log.sqlite"), keep_days=None)
    with PredictionLog(settings) as log:
        before = observer()
        before.log = log
        before.observe([event(f"{number}", "rose" if number % 2 else "tulip") for number in range(40)])
        label(before, Label("0", label="tulip"))
        after = observer(version=2)
        after.log = log
        given = [Label(f"{number}", label="rose") for number in range(1, 40)]
        assert label(after, *given) == 39
        with suppress(AlreadyLabelledError, UnknownRequestError):
            label(after, Label("0", label="tulip"))
        with suppress(AlreadyLabelledError):
            label(after, given[0])
        with pytest.raises(UnknownRequestError):
            label(after, Label("nobody", label="rose"))
    report = quality(after)
    assert report.labels == 39
    assert report.measures[0].value == pytest.approx(20 / 39)


def test_a_log_that_cannot_be_read_knows_no_request(tmp_path: Path) -> None:
    file = tmp_path / "log.sqlite"
    file.write_text("no database at all, but a text that is long enough to be looked at" * 100)
    one = observer()
    with PredictionLog(LogSettings(url=str(file))) as log:
        one.log = log
        one.observe([event("a")])
        with pytest.raises(UnknownRequestError):
            label(one, Label("b", label="rose"))
        assert label(one, Label("a", label="rose")) == 1
        assert log.state().failure
        log.close(timeout=0.1)


def test_labels_wake_who_wants_to_know_of_them() -> None:
    one, heard = observer(), list[int]()
    one.labelled = lambda: heard.append(1)
    one.observe([event("a")])
    with pytest.raises(UnknownRequestError):
        label(one, Label("b", label="rose"))
    assert heard == []
    label(one, Label("a", label="rose"))
    assert heard == [1]


# ---- quality ----


def labelled(count: int = 40, **changes: Any) -> Observer:
    one = observer(**changes)
    one.observe([event(str(number)) for number in range(count)])
    label(one, *(Label(str(number), label="rose") for number in range(count)))
    return one


def test_a_report_may_be_as_old_as_is_said_and_no_older() -> None:
    one = labelled(40)
    now = time.time()
    before = one.quality("all time", now=now)
    one.observe([event("later", "tulip")])
    label(one, Label("later", label="rose"))
    assert one.quality("all time", now=now + 4, age=5.0) is before
    assert one.quality("all time", now=now + 6, age=5.0)[0].labels == 41
    one.quality("all time", now=now)
    one.observe([event("last")])
    label(one, Label("last", label="rose"))
    assert one.quality("all time", now=now - 3600, age=5.0)[0].labels == 42  # the clock was set back


def test_the_score_is_that_of_the_version_and_needs_labels() -> None:
    assert labelled(40).score(1, now=time.time()) == 1.0
    assert labelled(40).score(2, now=time.time()) is None
    assert labelled(5).score(1, now=time.time()) is None
    assert observer().score(1, now=time.time()) is None


def test_the_version_that_is_live_is_known_however_many_came() -> None:
    one = labelled(40)
    for version in range(2, 12):
        one.expect({1: CLASSES, version: NUMBERS})
    report = quality(one)
    assert (report.labels, report.task, report.classes) == (40, "classes", ("rose", "tulip"))


# ---- alerts ----


def test_changes_go_to_all_webhooks_and_are_kept() -> None:
    one, told = observer(), list[AlertChange]()
    one.webhooks = (told.append, told.append)  # type: ignore[assignment]
    one.changed([change(1), change(2)])
    assert told == [change(1), change(1), change(2), change(2)]
    assert list(one.changes) == [change(1), change(2)]


# ---- moving ----


def moved(old: Observer, new: Observer) -> Observer:
    """Let a new server's observer go on as the gateway does it."""
    new.absorb(pickle.loads(pickle.dumps(old.observed())))
    at = 0
    while (part := old.remembered(at, 7)) is not None:
        new.remember(pickle.loads(pickle.dumps(part)))
        at += 7
    return new


def test_all_that_was_learnt_goes_to_another_process() -> None:
    old = labelled(40)
    old.observe([event(f"open {number}") for number in range(20)])
    old.marks.append(Mark(at=1.0, kind="deployed", version=1, words="v1 deployed"))
    old.alerts = Alerts([RULE], name="flowers")
    slow = Reading(at=1e9, version=1, requests=100, p99=80.0)
    old.changed([*old.alerts.step(slow, now=0.0), *old.alerts.step(slow, now=1.0)])
    new = observer()
    new.alerts = Alerts([RULE], name="flowers")
    new.observe([event("new")])
    moved(old, new)
    assert new.monitor.snapshot(now=1e9).requests == 61
    assert new.rows.rows(1).rows == 61
    assert [mark.words for mark in new.marks] == ["v1 deployed"]
    assert [one.state for one in new.alerts.states()] == ["firing"]
    assert list(new.changes) == list(old.changes) != []
    assert quality(new).labels == 40
    assert [one.request_id for one in new.recent.between(0, 2e9)][-2:] == ["open 19", "new"]
    assert len(new.recent) == 61
    assert (
        label(new, *(Label(f"open {number}", label="rose") for number in range(20)), Label("new", label="rose")) == 21
    )
    with suppress(AlreadyLabelledError):
        label(new, Label("3", label="rose"))
    assert quality(new).labels == 61


def test_the_old_one_is_none_the_worse() -> None:
    old = labelled(40)
    new = moved(old, observer())
    new.observe([event("more")])
    label(new, Label("more", label="rose"))
    assert old.monitor.snapshot(now=1e9).requests == 40
    assert quality(old).labels == 40
    assert old.rows.rows(1).rows == 40


def test_there_and_back_again_nothing_is_counted_twice() -> None:
    one = labelled(40, signature=infer_signature(SureFlowers(), EXAMPLE))
    for number in range(4):
        one = moved(one, observer(infer_signature(SureFlowers(), EXAMPLE)))
        one.observe([event(f"round {number}")])
    assert one.monitor.snapshot(now=1e9, windows=True).windows[-1].answers[0].classes == {"rose": 44}
    assert (len(one.recent), one.rows.rows(1).rows) == (44, 44)
    assert quality(one).labels == 40
