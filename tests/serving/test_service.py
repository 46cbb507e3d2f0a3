from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from mlnb import ModelRegistry, ModelVersion
from mlnb.errors import InvalidInputError, PredictionError, StoppedError
from mlnb.events import PredictionEvent
from mlnb.serving.service import Answer, ModelService, Query


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


@pytest.fixture
def versions(registry: ModelRegistry) -> list[ModelVersion]:
    return [registry.register(Model(float(number)), "constant", example=[[0.0]]) for number in (1, 2)]


@pytest.fixture
def events() -> list[PredictionEvent]:
    return []


@pytest.fixture
def service(versions: list[ModelVersion], events: list[PredictionEvent]) -> Iterator[ModelService]:
    service = ModelService(versions[0], Model(1.0), listener=events.append)
    yield service
    service.close(timeout=5)


def ask(service: ModelService, rows: Any = ((0.0,),), *, probabilities: bool = False) -> Answer:
    return service.submit(lambda signature: Query(rows=signature.coerce(rows), probabilities=probabilities)).result(5)


def test_an_answer_and_its_event(service: ModelService, events: list[PredictionEvent]) -> None:
    answer = ask(service, [[0.0], [1.0]])
    assert answer.prediction.tolist() == [1.0, 1.0]
    (event,) = events
    assert (event.model, event.version, event.rows, event.status, event.error) == ("constant", 1, 2, 200, None)
    assert event.request_id == answer.request_id
    assert event.seconds == answer.seconds > 0


def test_a_refused_row_is_an_event_too(service: ModelService, events: list[PredictionEvent]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        ask(service, [["x"]])
    assert (events[0].status, events[0].rows) == (422, 0)
    assert "got 'x'" in str(events[0].error)
    assert caught.value.details["request_id"] == events[0].request_id


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (ValueError("the secret\nreason"), "ValueError: the secret reason"),
        (SystemExit(3), "SystemExit: 3"),
        (np.ones(7), "ValueError: predict returned the shape (7,) for 1 rows"),
        (5.0, "ValueError: predict returned the shape () for 1 rows"),
    ],
)
def test_a_model_that_fails_is_reported_and_the_service_goes_on(
    versions: list[ModelVersion], events: list[PredictionEvent], failure: Any, reason: str
) -> None:
    service = ModelService(versions[0], Failing(failure), listener=events.append)
    with pytest.raises(PredictionError) as caught:
        ask(service)
    assert "secret" not in caught.value.message
    assert (events[0].status, events[0].error) == (500, reason)
    service.swap(versions[1], Model(2.0))
    assert ask(service).prediction.tolist() == [2.0]
    service.close(timeout=5)


def test_probabilities_of_a_model_that_has_none(service: ModelService) -> None:
    with pytest.raises(InvalidInputError, match="Model gives no probabilities"):
        ask(service, probabilities=True)


def test_a_listener_that_fails_fails_no_request(versions: list[ModelVersion], caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: PredictionEvent) -> None:
        raise RuntimeError("the listener's own")

    service = ModelService(versions[0], Model(), listener=fail)
    assert ask(service).prediction.tolist() == [1.0]
    assert "A listener failed on a prediction of constant" in caplog.text
    service.close(timeout=5)


def test_no_request_is_lost_while_versions_are_swapped(service: ModelService, versions: list[ModelVersion]) -> None:
    stop = threading.Event()
    models = {version.number: Model(float(version.number)) for version in versions}

    def ask_without_pause(_: int) -> list[Answer]:
        answers = []
        while not stop.is_set():
            answers.append(ask(service))
        return answers

    with ThreadPoolExecutor(4) as pool:
        asking = pool.map(ask_without_pause, range(4))
        for swap in range(200):
            version = versions[(swap + 1) % 2]
            service.swap(version, models[version.number])
            while ask(service).version.number != version.number:
                pass
        stop.set()
        answers = [answer for part in asking for answer in part]
    assert all(answer.prediction.tolist() == [float(answer.version.number)] for answer in answers)
    assert {answer.version.number for answer in answers} == {1, 2}


def test_after_close_it_says_so(service: ModelService) -> None:
    assert service.close(timeout=5)
    with pytest.raises(StoppedError):
        ask(service)


def test_what_is_still_running_when_patience_ends_is_told(versions: list[ModelVersion]) -> None:
    may_go = threading.Event()

    class Slow(Model):
        def predict(self, rows: Any) -> Any:
            may_go.wait(10)
            return super().predict(rows)

    service = ModelService(versions[0], Slow(), listener=lambda _: None)
    future = service.submit(lambda signature: Query(rows=signature.coerce([[0.0]])))
    assert not service.close(timeout=0.05)
    with pytest.raises(StoppedError):
        future.result(0)
    may_go.set()


def test_an_error_of_the_decoder_is_no_good_answer(service: ModelService, events: list[PredictionEvent]) -> None:
    def fail(_: Any) -> Query:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        service.submit(fail).result(5)
    assert (events[0].status, events[0].error) == (500, "ZeroDivisionError: a bug")
