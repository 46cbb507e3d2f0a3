from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from loops import until
from waiting import wait_until

from mlnb import ModelRegistry, ModelVersion
from mlnb.errors import DeadlineError, InvalidInputError, MlnbError, OverloadedError, PredictionError, StoppedError
from mlnb.events import PredictionEvent
from mlnb.registry.predictors import predictor
from mlnb.scaling.answering import Answering
from mlnb.scaling.balancing import policy_named
from mlnb.scaling.batching import PredictTimes
from mlnb.scaling.pool import ReplicaPool
from mlnb.scaling.replicas import KernelReplica
from mlnb.serving.service import Answer, Line, ModelService, Query

PATIENCE = 20.0  # seconds


class Model:
    """Answers every row with one number."""

    def __init__(self, answer: float = 1.0) -> None:
        self.answer = answer

    def predict(self, rows: Any) -> Any:
        return np.full(len(rows), self.answer)


class Failing(Model):
    def __init__(self, failure: Any) -> None:
        super().__init__()
        self.failure = failure

    def predict(self, rows: Any) -> Any:  # noqa: ARG002 - it fails whatever it is given
        if isinstance(self.failure, BaseException):
            raise self.failure
        return self.failure


class Slow(Model):
    """Waits until it may answer."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.may_go = threading.Event(), threading.Event()

    def predict(self, rows: Any) -> Any:
        self.entered.set()
        self.may_go.wait(PATIENCE)
        return super().predict(rows)


@pytest.fixture
def versions(registry: ModelRegistry) -> list[ModelVersion]:
    return [registry.register(Model(float(number)), "constant", example=[[0.0]]) for number in (1, 2)]


@pytest.fixture
def events() -> list[PredictionEvent]:
    return []


async def line(version: ModelVersion, model: Any) -> Line:
    """Return a version with one replica, ready."""

    async def start(key: int, times: PredictTimes) -> KernelReplica:
        answering = Answering(predictor(model), version.signature, name=str(version))
        return KernelReplica(answering, loop=asyncio.get_running_loop(), times=times, key=key, name=f"mlnb {version}")

    pool = ReplicaPool(
        version.signature, start=start, policy=policy_named("random"), timeout=PATIENCE,
        rng=random.Random(0),  # noqa: S311 - no secret
    )  # fmt: skip
    await pool.scale(1)
    return Line(version, pool)


async def swap(service: ModelService, other: Line) -> None:
    """Let another version answer, alone, and the one before finish."""
    for gone in service.route(other):
        assert await gone.pool.drain(within=PATIENCE)


def serving(
    version: ModelVersion, model: Any, story: Callable[[ModelService], Awaitable[None]], *, listener: Any = None
) -> None:
    """Let a story happen to a service of that model; it is closed at its end, and leaves nothing."""

    async def run() -> None:
        service = ModelService(await line(version, model), listener=listener or (lambda _: None))
        try:
            await story(service)
        finally:
            await service.close(within=PATIENCE)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def submit(
    service: ModelService, rows: Any = None, *, probabilities: bool = False, timeout: float = PATIENCE,
    gone: Callable[[], bool] = lambda: False,
) -> asyncio.Future[Answer]:  # fmt: skip
    future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def answered(outcome: Answer | MlnbError) -> None:
        if isinstance(outcome, MlnbError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    query = Query([[0.0]] if rows is None else rows, probabilities)
    service.submit(query, timeout=timeout, received=time.perf_counter(), answered=answered, gone=gone)
    return future


async def ask(service: ModelService, rows: Any = None, *, probabilities: bool = False) -> Answer:
    return await submit(service, rows, probabilities=probabilities)


async def told(events: list[PredictionEvent], count: int) -> None:
    await until(lambda: len(events) >= count)


def test_an_answer_and_its_event(versions: list[ModelVersion], events: list[PredictionEvent]) -> None:
    async def story(service: ModelService) -> None:
        answer = await ask(service, [[0.0], [1.0]])
        assert answer.prediction.tolist() == [1.0, 1.0]
        assert answer.version is versions[0] is service.version
        await told(events, 1)
        (event,) = events
        assert (event.model, event.version, event.rows, event.status, event.error) == ("constant", 1, 2, 200, None)
        assert event.request_id == answer.request_id
        assert event.seconds == answer.seconds > 0
        assert event.at == pytest.approx(time.time(), abs=60)

    serving(versions[0], Model(), story, listener=events.extend)


def test_each_request_of_a_batch_is_an_event_and_they_are_told_together(versions: list[ModelVersion]) -> None:
    told_at_once: list[list[PredictionEvent]] = []

    async def story(service: ModelService) -> None:
        futures = [submit(service, [[float(number)]] * number) for number in range(1, 6)]
        answers = [await future for future in futures]
        assert len({answer.request_id for answer in answers}) == 5
        await until(lambda: bool(told_at_once))
        assert [[event.request_id for event in events] for events in told_at_once] == [
            [answer.request_id for answer in answers]
        ]
        assert [event.rows for event in told_at_once[0]] == [1, 2, 3, 4, 5]

    serving(versions[0], Model(), story, listener=told_at_once.append)


def test_a_refused_row_is_an_event_too(versions: list[ModelVersion], events: list[PredictionEvent]) -> None:
    async def story(service: ModelService) -> None:
        good, bad = submit(service), submit(service, [["x"]])
        assert (await good).prediction.tolist() == [1.0]
        with pytest.raises(InvalidInputError) as caught:
            await bad
        await told(events, 2)
        (event,) = (event for event in events if event.status != 200)
        assert (event.status, event.rows, event.version) == (422, 0, 1)
        assert "got 'x'" in str(event.error)
        assert caught.value.details["request_id"] == event.request_id

    serving(versions[0], Model(), story, listener=events.extend)


@pytest.mark.parametrize("rows", [[], [[]], [[1.0, 2.0]], [1.0, 2.0], "text", 5, None.__class__, {"x": 1}, [{"x": 1}]])
def test_rows_of_no_use_are_refused_and_the_service_goes_on(versions: list[ModelVersion], rows: Any) -> None:
    async def story(service: ModelService) -> None:
        bad, good = submit(service, rows), submit(service)
        with pytest.raises(MlnbError):
            await bad
        assert (await good).prediction.tolist() == [1.0]

    serving(versions[0], Model(), story)


@pytest.mark.parametrize("row", [[0.5], {"x0": 0.5}])
def test_one_row_may_come_by_itself(versions: list[ModelVersion], events: list[PredictionEvent], row: Any) -> None:
    async def story(service: ModelService) -> None:
        assert (await ask(service, row)).prediction.tolist() == [1.0]
        await told(events, 1)
        assert events[0].rows == 1

    serving(versions[0], Model(), story, listener=events.extend)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (ValueError("the secret\nreason"), "ValueError: the secret reason"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt("secret"), "KeyboardInterrupt: secret"),
        (np.ones(7), "ValueError: predict returned the shape (7,) for 1 rows"),
        (5.0, "ValueError: predict returned the shape () for 1 rows"),
        (None, "ValueError: predict returned the shape () for 1 rows"),
    ],
)
def test_a_model_that_fails_is_reported_and_the_service_goes_on(
    versions: list[ModelVersion], events: list[PredictionEvent], failure: Any, reason: str
) -> None:
    async def story(service: ModelService) -> None:
        with pytest.raises(PredictionError) as caught:
            await ask(service)
        assert "secret" not in caught.value.message
        assert "secret" not in str(caught.value.details)
        if isinstance(failure, Exception):
            assert caught.value.__cause__ is failure
        await told(events, 1)
        assert (events[0].status, events[0].error) == (500, reason)
        assert caught.value.details["request_id"] == events[0].request_id
        await swap(service, await line(versions[1], Model(2.0)))
        assert (await ask(service)).prediction.tolist() == [2.0]

    serving(versions[0], Failing(failure), story, listener=events.extend)


def test_the_requests_of_a_batch_that_fails_are_told_apart(
    versions: list[ModelVersion], events: list[PredictionEvent]
) -> None:
    async def story(service: ModelService) -> None:
        futures = [submit(service) for _ in range(5)]
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
        await told(events, 5)
        assert {type(outcome) for outcome in outcomes} == {PredictionError}
        identities = [outcome.details["request_id"] for outcome in outcomes if isinstance(outcome, MlnbError)]
        assert identities == [event.request_id for event in events]
        assert len(set(identities)) == 5

    serving(versions[0], Failing(KeyboardInterrupt("all")), story, listener=events.extend)


def test_probabilities_of_a_model_that_has_none(versions: list[ModelVersion], events: list[PredictionEvent]) -> None:
    async def story(service: ModelService) -> None:
        with pytest.raises(InvalidInputError, match="Model gives no probabilities"):
            await ask(service, probabilities=True)
        await told(events, 1)
        assert events[0].status == 422

    serving(versions[0], Model(), story, listener=events.extend)


def test_a_listener_that_fails_fails_no_request(versions: list[ModelVersion], caplog: pytest.LogCaptureFixture) -> None:
    calls = 0

    def fail(_: Sequence[PredictionEvent]) -> None:
        nonlocal calls
        calls += 1
        raise RuntimeError("the listener's own")

    async def story(service: ModelService) -> None:
        assert (await ask(service)).prediction.tolist() == [1.0]
        await until(lambda: calls == 1)
        assert (await ask(service)).prediction.tolist() == [1.0]
        await until(lambda: calls == 2)

    serving(versions[0], Model(), story, listener=fail)
    assert "A listener failed on predictions of constant" in caplog.text


def test_no_request_is_lost_while_versions_are_swapped(
    versions: list[ModelVersion], events: list[PredictionEvent]
) -> None:
    models = {version.number: Model(float(version.number)) for version in versions}
    answers: list[Answer] = []

    async def ask_without_pause(service: ModelService, stop: asyncio.Event) -> None:
        while not stop.is_set():
            answers.append(await ask(service))

    async def story(service: ModelService) -> None:
        stop = asyncio.Event()
        asking = [asyncio.create_task(ask_without_pause(service, stop)) for _ in range(4)]
        for turn in range(200):
            version = versions[(turn + 1) % 2]
            swapping = asyncio.create_task(swap(service, await line(version, models[version.number])))
            await asyncio.sleep(0)
            assert (await ask(service)).version.number == version.number  # from the next request on
            await swapping
        stop.set()
        await asyncio.gather(*asking)
        assert len(answers) >= 200
        await told(events, len(answers) + 200)

    serving(versions[0], models[1], story, listener=events.extend)
    assert all(answer.prediction.tolist() == [float(answer.version.number)] for answer in answers)
    assert {answer.version.number for answer in answers} == {1, 2}
    assert {event.status for event in events} == {200}
    assert len(events) == len(answers) + 200


def test_what_waits_for_the_old_version_is_answered_by_it(versions: list[ModelVersion]) -> None:
    slow = Slow()

    async def story(service: ModelService) -> None:
        futures = [submit(service)]
        await until(slow.entered.is_set)
        futures += [submit(service), submit(service)]
        swapping = asyncio.create_task(swap(service, await line(versions[1], Model(2.0))))
        await asyncio.sleep(0)
        assert (await ask(service)).prediction.tolist() == [2.0]
        slow.may_go.set()
        assert [(await future).version.number for future in futures] == [1, 1, 1]
        await swapping

    serving(versions[0], slow, story)


def test_after_close_it_says_so(versions: list[ModelVersion], events: list[PredictionEvent]) -> None:
    async def story(service: ModelService) -> None:
        assert service.ready
        await ask(service)
        assert await service.close(within=PATIENCE)
        assert not service.ready
        assert len(events) == 1  # told before it ends
        with pytest.raises(StoppedError):
            await ask(service)
        await told(events, 2)
        assert events[1].status == 503

    serving(versions[0], Model(), story, listener=events.extend)


def test_what_is_still_running_when_patience_ends_is_told(
    versions: list[ModelVersion], events: list[PredictionEvent]
) -> None:
    slow = Slow()

    async def story(service: ModelService) -> None:
        futures = [submit(service)]
        await until(slow.entered.is_set)
        futures.append(submit(service))
        assert not await service.close(within=0.05)
        for future in futures:
            with pytest.raises(StoppedError):
                future.result()
        assert [event.status for event in events] == [503, 503]
        slow.may_go.set()

    serving(versions[0], slow, story, listener=events.extend)


def test_nobody_waits_past_the_deadline(versions: list[ModelVersion], events: list[PredictionEvent]) -> None:
    slow = Slow()

    async def story(service: ModelService) -> None:
        first = submit(service)
        await until(slow.entered.is_set)
        with pytest.raises(DeadlineError):
            await submit(service, timeout=0.01)
        await told(events, 1)
        assert events[0].status == 504
        slow.may_go.set()
        await first

    serving(versions[0], slow, story, listener=events.extend)


def test_who_has_left_is_no_event(versions: list[ModelVersion], events: list[PredictionEvent]) -> None:
    async def story(service: ModelService) -> None:
        left = submit(service, gone=lambda: True)
        await ask(service)
        await told(events, 1)
        assert not left.done()

    serving(versions[0], Model(), story, listener=events.extend)
    assert len(events) == 1


def test_too_much_is_refused_at_once_and_is_an_event(
    versions: list[ModelVersion], events: list[PredictionEvent]
) -> None:
    slow = Slow()

    async def story(service: ModelService) -> None:
        first = submit(service)
        await until(slow.entered.is_set)
        waiting = submit(service, np.zeros((150_000, 1)))
        refused = submit(service, np.zeros((60_000, 1)))
        with pytest.raises(OverloadedError) as caught:
            refused.result()
        assert caught.value.retry_after >= 1
        await told(events, 1)
        assert (events[0].status, events[0].version) == (503, 1)
        slow.may_go.set()
        await asyncio.gather(first, waiting)

    serving(versions[0], slow, story, listener=events.extend)


@pytest.mark.parametrize(
    ("rows", "joins"),
    [
        ([[0.0]], True),
        ([{"x0": 0.0}, {"x0": 1.0}], True),
        ([], False),
        ([0.0], False),
        ([[0.0], {"x0": 0.0}], False),
        ([(0.0,)], False),
        (((0.0,),), False),
        (np.zeros((1, 1)), False),
    ],
)
def test_what_may_be_in_one_list_with_others(versions: list[ModelVersion], rows: Any, joins: bool) -> None:
    assert Query(rows).joins(versions[0].signature) is joins


def test_a_hanging_predict_that_is_given_up_leaves_the_thread_to_itself(versions: list[ModelVersion]) -> None:
    slow = Slow()

    async def story(service: ModelService) -> None:
        future = submit(service)
        await service.close(within=0)
        with pytest.raises(StoppedError):
            await future

    serving(versions[0], slow, story)
    slow.may_go.set()
    with suppress(TimeoutError):
        wait_until(lambda: not any(thread.name == "mlnb constant:1" for thread in threading.enumerate()), seconds=5)
    assert not any(thread.name == "mlnb constant:1" for thread in threading.enumerate())
