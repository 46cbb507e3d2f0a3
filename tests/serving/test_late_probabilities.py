from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest
from flowers import EXAMPLE, Flowers, SureFlowers, row
from gateways import ask, deployed, run
from loops import until

from mlnb import ModelRegistry
from mlnb.events import PredictionEvent
from mlnb.monitoring.outcomes import Label
from mlnb.serving import late_probabilities
from mlnb.serving.gateway import Gateway
from mlnb.serving.predicting import Served
from mlnb.serving.service import Query


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_probabilities, "_SOON", 0.02)


class Watched(SureFlowers):
    """Counts the rows whose probabilities it is asked for, and may fail at them."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []
        self.fails = False

    def predict_proba(self, rows: Any) -> Any:
        self.asked.append(len(rows))
        if self.fails:
            raise ValueError("no probabilities today")
        return super().predict_proba(rows)

    def __reduce__(self) -> Any:
        return SureFlowers, ()


class Slow(Watched):
    """Answers sizes above 100 when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go = threading.Event()

    def predict(self, rows: Any) -> Any:
        if np.any(np.asarray(rows["size"], float) > 100):
            self.may_go.wait(20)
        return super().predict(rows)


async def watched(gateway: Gateway, registry: ModelRegistry, model: Watched, *, fails: bool = False) -> Served:
    one = await deployed(gateway, registry, model)
    model.asked.clear()  # while it was registered
    model.fails = fails
    return one


async def asked(gateway: Gateway, count: int, *, first: float = 0.1) -> list[Label]:
    """Ask, and return the labels of what was asked."""
    sizes = np.linspace(first, 9.9, count).tolist()
    answers = [await ask(gateway, size) for size in sizes]
    return [
        Label(answer.request_id, label="rose" if size > 4 else "tulip")
        for answer, size in zip(answers, sizes, strict=True)
    ]


async def labelled(gateway: Gateway, count: int, *, first: float = 0.1) -> None:
    """Ask, and label what was asked."""
    await gateway.feedback("flowers", await asked(gateway, count, first=first))


def waiting(one: Served, version: int = 1) -> list[str]:
    return one.observer.outcomes.labelled.waiting(version, most=1000)


async def area(gateway: Gateway) -> Any:
    (report,) = await gateway.quality("flowers", "all time")
    return next((measure.value for measure in report.measures if measure.name == "ROC AUC"), None)


def test_they_come_and_nobody_has_asked(registry: ModelRegistry) -> None:
    async def test(gateway: Gateway) -> None:
        model = Watched()
        one = await watched(gateway, registry, model)
        await labelled(gateway, 40)
        assert len(waiting(one)) == 40
        await until(lambda: not waiting(one))
        assert await area(gateway) == 1.0
        assert sum(model.asked) == 40
        metrics = await gateway.metrics("flowers")
        assert (metrics.requests, metrics.rows, metrics.errors) == (40, 40, 0)
        assert len(one.observer.recent) == one.observer.rows.rows(1).rows == 40

    run(test)


def test_each_request_is_asked_for_once_however_the_labels_come(registry: ModelRegistry) -> None:
    async def test(gateway: Gateway) -> None:
        model = Watched()
        one = await watched(gateway, registry, model)
        for part in range(6):
            await labelled(gateway, 10, first=0.1 * part)
        await until(lambda: not waiting(one))
        assert sum(model.asked) == 60

    run(test)


def test_those_that_came_with_the_answer_are_not_asked_for(registry: ModelRegistry) -> None:
    async def test(gateway: Gateway) -> None:
        model = Watched()
        one = await watched(gateway, registry, model)
        answer = await gateway.answer("flowers", Query(EXAMPLE[:30], probabilities=True))
        await gateway.feedback("flowers", [Label(answer.request_id, label=list(answer.prediction))])
        assert not waiting(one)
        await labelled(gateway, 5)
        await until(lambda: not waiting(one))
        assert sum(model.asked) == 35

    run(test)


def test_a_model_that_fails_at_them_is_asked_once(registry: ModelRegistry) -> None:
    async def test(gateway: Gateway) -> None:
        model = Watched()
        one = await watched(gateway, registry, model, fails=True)
        await labelled(gateway, 30)
        await until(lambda: sum(model.asked) >= 30)
        await labelled(gateway, 10)
        await until(lambda: sum(model.asked) >= 40)
        assert sum(model.asked) == 40
        assert len(waiting(one)) == 40
        assert (await gateway.metrics("flowers")).errors == 0
        assert await area(gateway) is None

    run(test)


def test_those_who_wait_come_first(registry: ModelRegistry) -> None:
    async def test(gateway: Gateway) -> None:
        model = Slow()
        one = await watched(gateway, registry, model)
        held = asyncio.ensure_future(ask(gateway, 200.0))
        await until(lambda: one.service.live.pool.in_flight == 1)
        name = "never asked"
        one.observer.observe([event(name)])
        await gateway.feedback("flowers", [Label(name, label="rose")])
        end = asyncio.get_running_loop().time() + 0.2
        await until(lambda: asyncio.get_running_loop().time() > end)
        assert (waiting(one), one.service.live.pool.in_flight) == ([name], 1)
        model.may_go.set()
        await held
        await until(lambda: not waiting(one))

    run(test)


def event(name: str) -> PredictionEvent:
    return PredictionEvent(
        model="flowers", version=1, request_id=name, at=1e9, seconds=0.001, rows=1, status=200, inputs=[row()],
        prediction=np.array(["rose"]), replica=1, batch=1,
    )  # fmt: skip


def test_rows_that_are_forgotten_stay_without(registry: ModelRegistry) -> None:
    async def test(gateway: Gateway) -> None:
        model = Watched()
        one = await watched(gateway, registry, model)
        answers = [await ask(gateway, float(size)) for size in range(10)]
        one.observer.recent._kept.clear()
        one.observer.recent._sizes.clear()
        one.observer.recent._cells = 0
        await gateway.feedback("flowers", [Label(each.request_id, label="rose") for each in answers])
        await labelled(gateway, 5)
        await until(lambda: len(waiting(one)) == 10)
        assert sum(model.asked) == 5

    run(test)


def test_a_version_that_answers_no_more_is_not_asked(registry: ModelRegistry) -> None:
    async def test(gateway: Gateway) -> None:
        model, other = Watched(), Watched()
        one = await watched(gateway, registry, model)
        labels = await asked(gateway, 5)
        await watched(gateway, registry, other)
        await gateway.feedback("flowers", labels)
        await labelled(gateway, 5)
        await until(lambda: not waiting(one, 2))
        assert (sum(model.asked), sum(other.asked), len(waiting(one, 1))) == (0, 5, 5)

    run(test)


def test_a_model_without_any_is_not_asked(
    registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(gateway: Gateway) -> None:
        one = await deployed(gateway, registry, Flowers())
        monkeypatch.setattr(one.service, "ask_again", lambda *_: 1 / 0)
        await labelled(gateway, 40)
        end = asyncio.get_running_loop().time() + 0.1
        await until(lambda: asyncio.get_running_loop().time() > end)
        assert len(waiting(one)) == 40
        assert await area(gateway) is None

    run(test)
    assert not caplog.records


def test_labels_just_before_the_end(registry: ModelRegistry, caplog: pytest.LogCaptureFixture) -> None:
    async def test(gateway: Gateway) -> None:
        await deployed(gateway, registry, Watched())
        await deployed(gateway, registry, Flowers(), name="other")
        await labelled(gateway, 5)
        await gateway.withdraw("flowers", within=1)
        end = asyncio.get_running_loop().time() + 0.1
        await until(lambda: asyncio.get_running_loop().time() > end)

    run(test)
    assert not caplog.records
