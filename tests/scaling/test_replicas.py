from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from loops import until
from waiting import wait_until

from mlnb.errors import PredictionError, StoppedError
from mlnb.scaling.batching import Prediction, PredictTimes
from mlnb.scaling.replicas import KernelReplica

NAME = "mlnb test replica"


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


def quick() -> PredictTimes:
    times = PredictTimes()
    for _ in range(5):
        times.observe(1, 1e-5)
    return times


def use(
    answering: Any,
    story: Callable[[KernelReplica], Awaitable[None]],
    *,
    times: PredictTimes | None = None,
) -> None:
    """Let a story happen to a replica, and stop it."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        replica = KernelReplica(answering, loop=loop, times=times or PredictTimes(), key=1, name=NAME)
        try:
            await story(replica)
        finally:
            replica.stop()

    asyncio.run(run())
    wait_until(lambda: not threads())


async def ask(replica: KernelReplica, rows: Any = "rows", **given: Any) -> Any:
    return await asked(replica, rows, **given)


def asked(replica: KernelReplica, rows: Any = "rows", *, probabilities: bool = False) -> asyncio.Future[Any]:
    """Start a batch; return a future of what it is answered."""
    loop = asyncio.get_running_loop()
    thread = threading.current_thread()
    future: asyncio.Future[Any] = loop.create_future()

    def done(outcome: Prediction | BaseException) -> None:
        assert threading.current_thread() is thread
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    replica.run(rows, 1, probabilities=probabilities, done=done)
    return future


def where(rows: Any, count: int, *, probabilities: bool) -> Any:
    return threading.current_thread().name, rows, count, probabilities


def held(event: threading.Event) -> Callable[..., bool]:
    """Answer when the event is set."""
    return lambda *_, **__: event.wait(10)


def test_it_answers_on_a_thread_of_its_own_until_predictions_are_known_to_be_quick() -> None:
    times = PredictTimes()

    async def story(replica: KernelReplica) -> None:
        for _ in range(5):
            assert await ask(replica, probabilities=True) == (NAME, "rows", 1, True)
            assert replica.in_flight == 0
            times.observe(1, 1e-5)
        assert await ask(replica) == (threading.current_thread().name, "rows", 1, False)
        assert replica.in_flight == 0
        for _ in range(50):
            times.observe(1, 0.1)
        assert (await ask(replica))[0] == NAME

    use(where, story, times=times)


def test_a_quick_answer_comes_before_run_returns() -> None:
    async def story(replica: KernelReplica) -> None:
        assert asked(replica).done()

    use(where, story, times=quick())


def test_while_it_works_the_loop_goes_on() -> None:
    may_go = threading.Event()

    async def story(replica: KernelReplica) -> None:
        future = asked(replica)
        assert replica.in_flight == 1
        await asyncio.sleep(0)
        assert not future.done()
        may_go.set()
        assert await future
        assert replica.in_flight == 0

    use(held(may_go), story)


@pytest.mark.parametrize("error", [PredictionError("no"), ValueError("no"), SystemExit(3), KeyboardInterrupt()])
def test_whatever_a_model_raises_reaches_its_caller_and_the_thread_lives(error: BaseException) -> None:
    def answer(rows: Any, _: int, *, probabilities: bool) -> Any:
        if rows == "bad":
            raise error
        return rows

    async def story(replica: KernelReplica) -> None:
        outcomes: list[Any] = []
        replica.run("bad", 1, probabilities=False, done=outcomes.append)
        await until(lambda: bool(outcomes))
        assert outcomes == [error]
        assert await ask(replica, "good") == "good"

    use(answer, story)


def test_a_model_that_fails_on_the_loop_is_asked_again_on_the_thread_and_then_only_there() -> None:
    def answer(*_: Any, probabilities: bool) -> Any:
        if threading.current_thread().name != NAME:
            raise RuntimeError("asyncio.run() cannot be called from a running event loop")
        return asyncio.run(asyncio.sleep(0, "slept"))

    async def story(replica: KernelReplica) -> None:
        assert await ask(replica) == "slept"
        assert not asked(replica).done()
        await asyncio.sleep(0)

    use(answer, story, times=quick())


def test_one_bad_request_does_not_make_the_others_slow_for_good() -> None:
    """Rows that a model fails on come every day; each is no reason to hand all batches to a thread."""

    def answer(rows: Any, _: int, *, probabilities: bool) -> Any:
        if rows == "bad":
            raise PredictionError("ValueError: bad")
        return threading.current_thread().name

    async def story(replica: KernelReplica) -> None:
        with pytest.raises(PredictionError):
            await ask(replica, "bad")
        assert await ask(replica) != NAME

    use(answer, story, times=quick())


def test_stopped_while_it_works_it_says_so_at_once_and_its_answer_is_dropped() -> None:
    entered, may_go = threading.Event(), threading.Event()

    def answer(*_: Any, probabilities: bool) -> Any:
        entered.set()
        return may_go.wait(10)

    async def story(replica: KernelReplica) -> None:
        future = asked(replica)
        assert entered.wait(5)
        replica.stop()
        replica.stop()
        with pytest.raises(StoppedError, match="before it answered"):
            await future
        assert replica.in_flight == 0
        may_go.set()
        replica.join(timeout=5)
        assert not threads()

    use(answer, story)


def test_an_answer_that_comes_after_the_loop_has_ended_harms_nobody() -> None:
    may_go = threading.Event()

    async def run() -> None:
        answering: Any = held(may_go)
        loop = asyncio.get_running_loop()
        asked(KernelReplica(answering, loop=loop, times=PredictTimes(), key=1, name=NAME))

    asyncio.run(run())
    may_go.set()
    wait_until(lambda: not threads())


def test_its_thread_is_a_daemon_so_that_a_hanging_predict_cannot_hold_the_kernel() -> None:
    async def story(replica: KernelReplica) -> None:
        (thread,) = threads()
        assert thread.daemon
        assert replica.pid is None

    use(where, story)


@pytest.mark.parametrize("times", [None, quick()])
def test_neither_rows_nor_answers_are_kept_alive(times: PredictTimes | None) -> None:
    class Large:
        pass

    async def story(replica: KernelReplica) -> None:
        rows = Large()
        answer = await ask(replica, rows)
        kept = [weakref.ref(rows), weakref.ref(answer)]
        del rows, answer
        await until(lambda: all(one() is None for one in kept))

    use(lambda *_, **__: Large(), story, times=times)


def test_its_threads_are_the_notebooks_own() -> None:
    import threadpoolctl

    def limits() -> list[int]:
        return [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]

    async def story(replica: KernelReplica) -> None:
        before = limits()
        replica.limit_threads(1)
        assert limits() == before

    use(where, story)
