from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from flowers import EXAMPLE, Flowers
from gateways import ask, deployed, plan, run
from loops import until

from mlnb import AlertRule, ModelRegistry
from mlnb.monitoring.drift import RowSample
from mlnb.monitoring.prediction_log.settings import LogState
from mlnb.serving import watching
from mlnb.serving.drift_judge import DriftJudge
from mlnb.serving.gateway import Gateway
from mlnb.serving.predicting import Served
from mlnb.serving.service import Query


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look a hundred times a second."""
    monkeypatch.setattr(watching, "_EVERY", 0.01)
    monkeypatch.setattr(watching, "_DRIFT_EVERY", 0.02)
    monkeypatch.setattr(watching, "_SHARE", 0)


async def looked(one: Served, times: int = 3) -> None:
    """Wait until it was looked at again."""
    seen, real = [0], one.observer.monitor.sample

    def sample(*given: Any, **named: Any) -> None:
        seen[0] += 1
        real(*given, **named)

    one.observer.monitor.sample = sample  # type: ignore[method-assign]
    await until(lambda: seen[0] >= times)
    one.observer.monitor.sample = real  # type: ignore[method-assign]


async def send(gateway: Gateway, *, by: float = 0.0, count: int = 400) -> None:
    """Ask rows of the example, with the heights moved."""
    for at in range(0, count, 40):
        rows = EXAMPLE.iloc[np.arange(at, at + 40) * 7 % len(EXAMPLE)]
        rows = rows.assign(height=rows["height"] + by)
        await gateway.answer("flowers", Query(rows))


def state(one: Served, at: int = 0) -> str:
    return one.observer.alerts.states()[at].state


class Log:
    """A log that has dropped some rows."""

    def __init__(self, dropped: int) -> None:
        self.dropped = dropped

    def state(self) -> LogState:
        return LogState("", dropped=self.dropped)

    def put(self, _: Any) -> None:
        """Take requests."""


# ---- looking ----


def test_replicas_and_requests_in_flight_are_noted(registry: ModelRegistry) -> None:
    async def test(gateway: Gateway) -> None:
        one = await deployed(gateway, registry, Flowers())
        await looked(one)
        view = await gateway.view("flowers", 300)
        hour = await gateway.view("flowers", 3600)
        assert (view.replicas, view.in_flight) == (1, 0)
        assert list(one.observer.monitor._samples)[-1].replicas == 1
        assert hour.series.replicas[-1] == 1

    run(test)


def test_one_that_cannot_be_looked_at_keeps_nobody_else(
    registry: ModelRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(gateway: Gateway) -> None:
        first = await deployed(gateway, registry, Flowers(), name="first")

        def fails(*_: Any, **__: Any) -> None:
            raise RuntimeError("not now")

        first.observer.monitor.sample = fails  # type: ignore[method-assign]
        second = await deployed(gateway, registry, Flowers(), name="second")
        await looked(second)
        await ask(gateway, 6.0, name="first")

    run(test)
    assert {record.getMessage() for record in caplog.records} == {"first could not be looked at"}


def test_after_the_last_one_is_gone_another_is_watched(registry: ModelRegistry) -> None:
    async def test(gateway: Gateway) -> None:
        await deployed(gateway, registry, Flowers())
        await gateway.withdraw("flowers", within=1)
        await looked(await deployed(gateway, registry, Flowers(), name="other"))

    run(test)


# ---- alerts ----


def test_crashes_count_for_a_while(registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(gateway: Gateway) -> None:
        rule = AlertRule(metric="crashes", above=1)
        one = await deployed(gateway, registry, Flowers(), rules=[rule])
        pool = one.service.live.pool
        pool.crashes += 1
        await looked(one)
        assert state(one) == "ok"
        pool.crashes += 1
        await until(lambda: state(one) == "firing")
        (change,) = one.observer.changes
        assert (change.value, change.words) == (2.0, "replica crashes: 2, above 1")
        assert [mark.words for mark in one.observer.marks] == [change.words]
        monkeypatch.setattr(watching, "_LATELY", 0.0)
        await until(lambda: [each.state for each in one.observer.changes] == ["firing", "resolved"])

    run(test)


def test_crashes_of_all_versions_count(registry: ModelRegistry) -> None:
    async def test(gateway: Gateway) -> None:
        rule = AlertRule(metric="crashes", above=1)
        one = await deployed(gateway, registry, Flowers(), rules=[rule])
        one.service.live.pool.crashes += 1
        await looked(one)
        await deployed(gateway, registry, Flowers(8), rules=[rule])
        await looked(one)
        assert state(one) == "ok"
        one.service.live.pool.crashes += 1
        await until(lambda: state(one) == "firing")

    run(test)


def test_rows_that_the_log_drops_are_counted_from_when_it_was_seen(registry: ModelRegistry) -> None:
    async def test(gateway: Gateway) -> None:
        one = await deployed(gateway, registry, Flowers(), rules=[AlertRule(metric="dropped", above=10)])
        await looked(one)
        assert state(one) == "no data"
        log = Log(0)
        one.observer.log = log  # type: ignore[assignment]
        await looked(one)
        assert (state(one), one.observer.alerts.states()[0].value) == ("ok", 0.0)
        log.dropped = 25
        await until(lambda: state(one) == "firing")
        assert one.observer.alerts.states()[0].value == 25.0
        one.observer.log = Log(3)  # type: ignore[assignment]
        await until(lambda: state(one) == "ok")
        assert one.observer.alerts.states()[0].value == 0.0
        one.observer.log = None

    run(test)


def test_those_who_wait_for_alerts_hear_the_end(registry: ModelRegistry) -> None:
    async def test(gateway: Gateway) -> None:
        one = await deployed(gateway, registry, Flowers())
        waiting = asyncio.ensure_future(gateway.follow_alerts("flowers", one.observer.id, 0))
        await asyncio.sleep(0)
        await gateway.withdraw("flowers", within=1)
        assert await waiting == ("", [])
        assert await gateway.follow_alerts("flowers", one.observer.id, 0) == ("", [])

    run(test)


def test_numbers_of_alerts_belong_to_the_one_who_counted_them(registry: ModelRegistry) -> None:
    async def test(gateway: Gateway) -> None:
        one = await deployed(gateway, registry, Flowers(), rules=[AlertRule(metric="rate", below=2)])
        who, (change,) = await asyncio.wait_for(gateway.follow_alerts("flowers", "another", 7), 10)
        assert (who, change.number) == (one.observer.id, 1)
        assert await gateway.follow_alerts("flowers", "", 0) == (who, [change])

    run(test)


def test_while_it_takes_over_from_another_server_nothing_is_judged(registry: ModelRegistry) -> None:
    async def test(gateway: Gateway) -> None:
        rule = AlertRule(metric="rate", below=2)
        await gateway.move()
        one = await deployed(gateway, registry, Flowers(), rules=[rule])
        other = await deployed(gateway, registry, Flowers(), name="other")
        end = asyncio.get_running_loop().time() + 0.2
        await until(lambda: asyncio.get_running_loop().time() > end)
        assert state(one) == "no data"
        assert not other.observer.monitor._samples
        await gateway.moved()
        await until(lambda: [change.number for change in one.observer.changes] == [1])

    run(test)


# ---- drift ----


def test_drift_is_judged_while_there_are_new_rows_and_not_else(
    registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[int] = []

    real = DriftJudge.judge

    def noted(self: DriftJudge, question: Any) -> Any:
        judged.append(1)
        return real(self, question)

    monkeypatch.setattr(DriftJudge, "judge", noted)

    async def test(gateway: Gateway) -> None:
        one = await deployed(gateway, registry, Flowers())
        await looked(one)
        assert not judged
        await send(gateway, by=1.5)
        await until(lambda: one.observer.drift is not None and one.observer.drift.drifted == ("height",))
        await until(lambda: not gateway._watcher._tasks)
        await looked(one, 5)
        await until(lambda: not gateway._watcher._tasks)
        count = len(judged)
        await looked(one, 10)
        assert len(judged) == count
        await ask(gateway, 6.0)
        await until(lambda: len(judged) == count + 1)

    run(test)


def test_drift_is_that_of_the_live_version(registry: ModelRegistry) -> None:
    async def test(gateway: Gateway) -> None:
        one = await deployed(gateway, registry, Flowers())
        await send(gateway, by=1.5)
        await until(lambda: one.observer.drift is not None)
        assert one.observer.drift is not None
        assert one.observer.drift.version == 1
        await deployed(gateway, registry, Flowers(8))
        await until(lambda: one.observer.drift is None)
        assert (await gateway.drift("flowers", 1000)).rows == 0
        await gateway.deploy(plan(registry, "flowers:1"))
        await until(lambda: one.observer.drift is not None)  # of the rows of before
        assert one.observer.drift.drifted == ("height",)

    run(test)


def test_one_whose_predictions_drift_does_harm_altogether(registry: ModelRegistry) -> None:
    async def test(gateway: Gateway) -> None:
        model = Flowers()
        one = await deployed(gateway, registry, model, rules=[AlertRule(metric="drift", above=0.9)])
        model.limit = 9.5
        await send(gateway)
        await until(lambda: state(one) == "firing")
        assert one.observer.alerts.states()[0].value == 1.0
        report = await gateway.drift("flowers", 1000)
        assert (report.drifted, report.share) == ((), 0.0)

    run(test)


def test_rows_that_cannot_be_judged_are_logged_and_tried_again(
    registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(gateway: Gateway) -> None:
        one = await deployed(gateway, registry, Flowers())
        with monkeypatch.context() as broken:
            broken.setattr(DriftJudge, "judge", lambda *_: 1 / 0)
            await send(gateway)
            await until(lambda: bool(caplog.records))
            await until(lambda: not gateway._watcher._tasks)
        await ask(gateway, 6.0)
        await until(lambda: one.observer.drift is not None)

    run(test)
    assert {record.getMessage() for record in caplog.records} == {"The drift of flowers could not be judged"}


@pytest.mark.parametrize("example", [None, [[0.5, 1.0, 2.0]]])
def test_with_no_example_or_a_single_row_nothing_drifts(registry: ModelRegistry, example: Any) -> None:
    class Rosy(Flowers):
        def predict(self, rows: Any) -> Any:
            return np.full(len(rows), "rose")

    async def test(gateway: Gateway) -> None:
        one = await deployed(gateway, registry, Rosy(), example=example)
        for number in range(300):
            await gateway.answer("flowers", Query([[float(number), 1.0, 2.0]]))
        await until(lambda: one.observer.drift is not None)
        assert one.observer.drift is not None
        assert (one.observer.drift.drifted, one.observer.drift.share) == ((), None)
        assert one.observer.drift.words

    run(test)


def test_only_the_newest_rows_are_judged(registry: ModelRegistry) -> None:
    async def test(gateway: Gateway) -> None:
        one = await deployed(gateway, registry, Flowers())
        one.observer.rows = RowSample(10_000, per_second=10_000)
        await send(gateway, by=1.5, count=400)
        await send(gateway, count=400)
        assert (await gateway.drift("flowers", 400)).drifted == ()
        assert (await gateway.drift("flowers", 800)).drifted == ("height",)

    run(test)


def test_ending_while_drift_is_judged(registry: ModelRegistry, caplog: pytest.LogCaptureFixture) -> None:
    async def test(gateway: Gateway) -> None:
        await deployed(gateway, registry, Flowers())
        await send(gateway)
        await until(lambda: bool(gateway._watcher._tasks))

    run(test)
    assert not caplog.records
