from __future__ import annotations

import threading
import weakref
from concurrent.futures import Future
from typing import Any

import pytest

from mlnb.errors import StoppedError
from mlnb.scaling.replicas import KernelReplica


def test_jobs_are_done_in_order_one_at_a_time() -> None:
    running: list[int] = []
    most = 0

    def job(number: int) -> int:
        nonlocal most
        running.append(number)
        most = max(most, len(running))
        running.remove(number)
        return number

    with KernelReplica(None, name="test") as replica:
        futures = [replica.submit(lambda _, number=number: job(number)) for number in range(100)]  # type: ignore[misc]
        assert [future.result(5) for future in futures] == list(range(100))
    assert most == 1


def test_close_finishes_what_is_queued_and_takes_no_more() -> None:
    may_go = threading.Event()
    with KernelReplica("model", name="test") as replica:
        first = replica.submit(lambda _: may_go.wait(5))
        second = replica.submit(str.upper)
        replica.close()
        replica.close()
        with pytest.raises(StoppedError):
            replica.submit(str.upper)
        assert not replica.join(timeout=0)
        may_go.set()
        assert first.result(5)
        assert second.result(5) == "MODEL"


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
def test_whatever_a_job_raises_reaches_its_caller_and_the_thread_lives(error: BaseException) -> None:
    def fail(_: object) -> None:
        raise error

    with KernelReplica("model", name="test") as replica:
        with pytest.raises(type(error)):
            replica.submit(fail).result(5)
        assert replica.submit(str.upper).result(5) == "MODEL"


def test_a_cancelled_job_is_not_done() -> None:
    may_go = threading.Event()
    done: list[None] = []
    with KernelReplica(None, name="test") as replica:
        replica.submit(lambda _: may_go.wait(5))
        waiting: Future[Any] = replica.submit(done.append)
        assert waiting.cancel()
        may_go.set()
    assert done == []


def test_its_thread_is_a_daemon_so_that_a_hanging_predict_cannot_hold_the_kernel() -> None:
    with KernelReplica(None, name="a name of its own"):
        (thread,) = [thread for thread in threading.enumerate() if thread.name == "a name of its own"]
        assert thread.daemon


def test_an_answer_is_not_kept_alive() -> None:
    class Answer:
        pass

    with KernelReplica(None, name="test") as replica:
        answer = replica.submit(lambda _: Answer()).result(5)
        replica.submit(lambda _: None).result(5)
        kept = weakref.ref(answer)
        del answer
        assert kept() is None


def test_abandoned_jobs_are_answered_at_once() -> None:
    entered, may_go = threading.Event(), threading.Event()
    with KernelReplica(None, name="test") as replica:
        replica.submit(lambda _: entered.set())
        running = replica.submit(lambda _: may_go.wait(5))
        queued = replica.submit(lambda _: None)
        assert entered.wait(5)
        replica.abandon()
        for future in (running, queued):
            with pytest.raises(StoppedError, match="before it answered"):
                future.result(0)
        may_go.set()
