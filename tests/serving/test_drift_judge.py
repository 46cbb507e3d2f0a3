from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest
from flowers import EXAMPLE, Flowers
from waiting import wait_until

from mlnb import ModelRegistry
from mlnb.errors import MlnbError
from mlnb.monitoring.drift import SampledRows
from mlnb.monitoring.drift.judging import Question
from mlnb.serving import drift_judge
from mlnb.serving.drift_judge import DriftJudge


@pytest.fixture
def judge() -> Iterator[DriftJudge]:
    one = DriftJudge()
    yield one
    one.close()


def question(registry: ModelRegistry, *, shift: float = 0.0, prediction: Any = "rose") -> Question:
    version = registry.register(Flowers(), "flowers", example=EXAMPLE)
    rows = (np.asarray(EXAMPLE) + shift).tolist()
    answers = np.full(len(rows), prediction)
    return Question(
        registry=registry.url, reference=str(version), digest=version.baseline_digest, signature=version.signature,
        sampled=SampledRows(version=1, rows=len(rows), since=1.0, until=2.0, inputs=(rows,), predictions=(answers,)),
        name="flowers",
    )  # fmt: skip


def process_of(judge: DriftJudge) -> psutil.Process:
    assert judge._process is not None
    return psutil.Process(judge._process.pid)


def test_it_judges_in_a_process_that_yields_to_all_others(judge: DriftJudge, registry: ModelRegistry) -> None:
    asked = question(registry, shift=9.0)
    report = judge.judge(asked)
    assert set(report.drifted) == set(asked.signature.names)
    assert (report.name, report.version, report.at) == ("flowers", 1, 2.0)
    process = process_of(judge)
    assert process.nice() == 19
    assert judge.judge(question(registry)).drifted == ()
    assert process_of(judge) == process


def test_a_process_that_ended_is_no_reason_not_to_answer(judge: DriftJudge, registry: ModelRegistry) -> None:
    asked = question(registry)
    before = judge.judge(asked)
    process = process_of(judge)
    os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: process.status() == psutil.STATUS_ZOMBIE)
    assert judge.judge(asked) == before
    assert judge.judge(asked) == before
    assert process_of(judge) != process


class Odd:
    """What only a notebook has."""

    def __reduce__(self) -> Any:
        return _only_here, (os.getpid(),)


def _only_here(pid: int) -> Odd:
    if pid != os.getpid():
        raise ImportError("no such module")
    return Odd()


def test_what_the_process_cannot_read_is_judged_here(judge: DriftJudge, registry: ModelRegistry) -> None:
    answers = np.empty(1, dtype=object)
    answers[0] = Odd()
    report = judge.judge(question(registry, prediction=answers[0]))
    assert report.rows == len(EXAMPLE)


def test_a_minute_without_questions_ends_it(
    judge: DriftJudge, registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge.judge(question(registry))
    process = process_of(judge)
    judge.rest()
    assert process.is_running()
    monkeypatch.setattr(drift_judge, "_IDLE", 0.0)
    judge.rest()
    wait_until(lambda: not process.is_running())
    assert judge.judge(question(registry)).rows == len(EXAMPLE)


def test_closing_ends_it_in_the_middle_of_a_question(judge: DriftJudge, registry: ModelRegistry) -> None:
    asked = question(registry)
    judge.judge(asked)
    process, refused = process_of(judge), []

    def ask() -> None:
        try:
            while True:
                judge.judge(asked)
        except MlnbError as error:
            refused.append(error.message)

    thread = threading.Thread(target=ask)
    thread.start()
    judge.close()
    thread.join(30)
    assert refused == ["The server was stopped."]
    assert not process.is_running()
    judge.close()
