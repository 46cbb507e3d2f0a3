from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loops import until

from mlnb.errors import (
    DeadlineError,
    InvalidInputError,
    MlnbError,
    OverloadedError,
    PredictionError,
    StoppedError,
)
from mlnb.registry.rows.inference import infer_signature
from mlnb.registry.signature import Signature
from mlnb.scaling.balancing import policy_named
from mlnb.scaling.batching import Job, Prediction, PredictTimes
from mlnb.scaling.pool import ReplicaPool

SIGNATURE = infer_signature(None, [[0.5]])
LATE = 30.0  # seconds


class Fake:
    """A replica that doubles each row: at once, or where ``holds`` when the test says so."""

    weight = 1.0
    pid: int | None = None

    def __init__(self, key: int, *, holds: bool) -> None:
        self.key = key
        self.in_flight = 0
        self.holds = holds
        self.stopped = False
        self.batches: list[list[float]] = []
        self._held: list[Callable[[], None]] = []

    def run(
        self, checked: Any, rows: int, *, probabilities: bool, done: Callable[[Prediction | BaseException], None]
    ) -> None:
        values = checked[:, 0]
        assert len(values) == rows
        assert not self.stopped
        self.batches.append(values.tolist())
        outcome: Prediction | BaseException = Prediction(values * 2, checked if probabilities else None)
        if (values < 0).any():
            outcome = PredictionError("ValueError: below nothing")
        self.in_flight += 1
        self._held.append(lambda: self._answer(done, outcome))
        if not self.holds:
            asyncio.get_running_loop().call_soon(self.go_on)

    def _answer(self, done: Callable[[Prediction | BaseException], None], outcome: Prediction | BaseException) -> None:
        self.in_flight -= 1
        done(outcome)

    def go_on(self) -> None:
        """Answer the batch it has."""
        self._held.pop(0)()

    def limit_threads(self, count: int) -> None: ...

    def stop(self) -> None:
        self.stopped = True


class Scene:
    """A pool of fakes, and the outcomes of what is asked of it."""

    def __init__(self, *, holds: bool = False, timeout: float = LATE, signature: Signature = SIGNATURE) -> None:
        self.holds = holds
        self.started: list[Fake] = []
        self.may_start: Callable[[int], Awaitable[None] | None] = lambda _: None
        self.outcomes: dict[int, Any] = {}
        self.pool = ReplicaPool(
            signature, start=self._start, policy=policy_named("round_robin"), timeout=timeout,
            rng=random.Random(0),  # noqa: S311 - no secret
        )  # fmt: skip
        self._next = 0

    async def _start(self, key: int, times: PredictTimes) -> Fake:
        assert times is self.pool.times
        waiting = self.may_start(key)
        if waiting is not None:
            await waiting
        self.started.append(Fake(key, holds=self.holds))
        return self.started[-1]

    def ask(
        self, *rows: Any, given: Any = None, timeout: float = LATE, gone: Callable[[], bool] = lambda: False,
        probabilities: bool = False,
    ) -> int:  # fmt: skip
        """Submit a request of these values; return its number."""
        number, self._next = self._next, self._next + 1

        def done(outcome: Any) -> None:
            assert number not in self.outcomes
            self.outcomes[number] = outcome

        deadline = asyncio.get_running_loop().time() + timeout
        asked = [[row] for row in rows] if given is None else given
        self.pool.submit(Job(asked, len(asked), probabilities, deadline, done, gone, alone=len(asked) == 0))
        return number

    async def said(self, number: int) -> Any:
        """Return the answer as a list, or the error."""
        await until(lambda: number in self.outcomes)
        outcome = self.outcomes[number]
        return outcome.values.tolist() if isinstance(outcome, Prediction) else outcome

    def lose(self, fake: Fake, reason: str) -> None:
        """Let a replica end by itself."""
        fake.stopped = True
        self.pool.lost(fake, reason)

    def states(self) -> list[str]:
        return [one.state for one in self.pool.snapshot()]


def play(story: Callable[[Scene], Awaitable[None]], *, replicas: int = 1, **given: Any) -> Scene:
    """Let a story happen on a loop of its own; the pool is drained at its end, and leaves nothing."""

    async def run() -> Scene:
        scene = Scene(**given)
        await scene.pool.scale(replicas)
        await story(scene)
        await scene.pool.drain(within=0)
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
        assert scene.pool.snapshot() == ()
        assert all(fake.stopped for fake in scene.started)
        assert len(scene.outcomes) == scene._next
        return scene

    return asyncio.run(run())


async def answers(scene: Scene, numbers: Sequence[int]) -> list[Any]:
    return [await scene.said(number) for number in numbers]


# ---- batches ----


def test_what_arrives_while_a_replica_is_busy_is_its_next_batch() -> None:
    async def story(scene: Scene) -> None:
        numbers = [scene.ask(0.0)]
        await until(lambda: scene.started[0].in_flight == 1)
        numbers += [scene.ask(float(number), number + 0.5) for number in range(1, 10)]
        scene.started[0].go_on()
        await until(lambda: scene.started[0].in_flight == 1)
        scene.started[0].go_on()
        assert await answers(scene, numbers) == [[0.0], *([2.0 * n, 2.0 * n + 1] for n in range(1, 10))]
        assert [len(batch) for batch in scene.started[0].batches] == [1, 18]

    play(story, holds=True)


def test_what_arrives_in_one_turn_of_the_loop_is_one_batch() -> None:
    async def story(scene: Scene) -> None:
        numbers = [scene.ask(float(number)) for number in range(5)]
        await answers(scene, numbers)
        assert scene.started[0].batches == [[0.0, 1.0, 2.0, 3.0, 4.0]]

    play(story)


def test_idle_replicas_share_what_arrives_in_one_turn_where_rows_take_long() -> None:
    async def story(scene: Scene) -> None:
        for rows in (1, 2, 3):
            scene.pool.times.observe(rows, 0.03 * rows)
        assert await answers(scene, [scene.ask(1.0), scene.ask(2.0)]) == [[2.0], [4.0]]
        assert [fake.batches for fake in scene.started] == [[[1.0]], [[2.0]], []]

    play(story, replicas=3)


def test_what_a_replica_takes_for_its_first_batch_is_not_what_it_takes() -> None:
    async def story(scene: Scene) -> None:
        counts = []
        for _ in range(3):
            assert await answers(scene, [scene.ask(1.0)]) == [[2.0]]
            counts.append(scene.pool.times.count)
        assert counts == [0, 1, 2]

    play(story)


def test_a_batch_keeps_to_the_limit_of_rows() -> None:
    async def story(scene: Scene) -> None:
        numbers = [scene.ask(*range(10)) for _ in range(20)]
        await answers(scene, numbers)
        assert scene.started[0].batches[0] == [*map(float, range(10))] * 6  # 64 rows, as long as nothing is measured

    play(story)


def test_those_who_come_back_together_are_one_batch_where_a_batch_is_costly() -> None:
    async def story(scene: Scene) -> None:
        for _ in range(5):
            scene.pool.times.observe(1, 0.5)
            scene.pool.times.observe(8, 0.5)
        assert await answers(scene, [scene.ask(1.0), scene.ask(2.0)]) == [[2.0], [4.0]]
        back = [scene.ask(3.0)]
        await asyncio.sleep(0.01)  # the other one is awaited
        assert scene.started[0].batches == [[1.0, 2.0]]
        back.append(scene.ask(4.0))
        await answers(scene, back)
        assert scene.started[0].batches == [[1.0, 2.0], [3.0, 4.0]]
        alone = scene.ask(5.0)  # comes alone after two: it is let go when the moment is over
        await scene.said(alone)
        assert scene.started[0].batches[-1] == [5.0]

    play(story)


def test_probabilities_are_another_batch_and_come_to_those_who_asked() -> None:
    async def story(scene: Scene) -> None:
        numbers = [scene.ask(1.0), scene.ask(2.0, probabilities=True), scene.ask(3.0)]
        await answers(scene, numbers)
        given = [scene.outcomes[number].probabilities for number in numbers]
        assert [None if one is None else one.tolist() for one in given] == [None, [[2.0]], None]

    play(story)


def test_an_array_is_a_batch_of_its_own() -> None:
    async def story(scene: Scene) -> None:
        numbers = [scene.ask(1.0), scene.ask(given=np.array([[2.0], [3.0]])), scene.ask(4.0)]
        assert await answers(scene, numbers) == [[2.0], [4.0, 6.0], [8.0]]
        assert scene.started[0].batches == [[1.0], [2.0, 3.0], [4.0]]

    play(story)


@pytest.mark.parametrize("rows", [1, 60_000])  # the latter are checked on another thread
def test_a_flat_list_is_one_row(rows: int) -> None:
    async def story(scene: Scene) -> None:
        number = scene.ask(given=[0.5] if rows == 1 else np.full((rows, 1), 0.5))
        assert await scene.said(number) == [1.0] * rows
        assert scene.pool.snapshot()[0].rows == rows

    play(story)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.one_of(st.floats(0, 100), st.just("x"), st.just(-1.0)), max_size=4), max_size=30),
    st.integers(1, 3),
)
def test_each_is_answered_for_its_own_rows_whatever_the_others_sent(requests: list[list[Any]], replicas: int) -> None:
    async def story(scene: Scene) -> None:
        numbers = [scene.ask(*rows) for rows in requests]
        for rows, said in zip(requests, await answers(scene, numbers), strict=True):
            if not rows or "x" in rows:
                assert isinstance(said, InvalidInputError)
                assert not rows or said.details["row"] == rows.index("x")
            elif -1.0 in rows:
                assert isinstance(said, PredictionError)
            else:
                assert said == [2 * row for row in rows]

    play(story, replicas=replicas)


def test_one_bad_row_fails_alone() -> None:
    async def story(scene: Scene) -> None:
        numbers = [scene.ask(1.0), scene.ask(2.0, "x"), scene.ask(3.0)]
        first, bad, last = await answers(scene, numbers)
        assert (first, last) == ([2.0], [6.0])
        assert isinstance(bad, InvalidInputError)
        assert bad.details["row"] == 1
        assert scene.started[0].batches == [[1.0, 3.0]]  # the others stay together

    play(story)


@pytest.mark.parametrize("check", ["raises", "cannot"])
def test_what_a_large_batch_is_refused_for_reaches_who_sent_it(check: str) -> None:
    async def story(scene: Scene) -> None:
        rows = np.full((60_000, 1), np.inf) if check == "raises" else np.zeros((60_000, 2))
        said = await scene.said(scene.ask(given=rows))
        assert isinstance(said, InvalidInputError)
        assert await scene.said(scene.ask(1.0)) == [2.0]

    play(story)


def test_a_row_that_the_model_fails_on_fails_alone() -> None:
    async def story(scene: Scene) -> None:
        numbers = [scene.ask(1.0), scene.ask(2.0, -1.0), scene.ask(3.0)]
        first, bad, last = await answers(scene, numbers)
        assert (first, last) == ([2.0], [6.0])
        assert isinstance(bad, PredictionError)
        assert scene.started[0].batches == [[1.0, 2.0, -1.0, 3.0], [1.0], [2.0, -1.0], [3.0]]

    play(story)


def test_those_who_waited_longer_are_not_overtaken_by_a_batch_that_is_asked_again() -> None:
    async def story(scene: Scene) -> None:
        numbers = [scene.ask(1.0), scene.ask(-1.0)]
        await until(lambda: scene.started[0].in_flight == 1)
        numbers.append(scene.ask(3.0))
        scene.started[0].holds = False
        scene.started[0].go_on()
        await answers(scene, numbers)
        assert scene.started[0].batches[1:] == [[1.0], [-1.0], [3.0]]

    play(story, holds=True)


# ---- who does not wait any more ----


def test_what_a_client_that_left_asked_is_not_computed() -> None:
    async def story(scene: Scene) -> None:
        gone = False
        first = scene.ask(1.0)
        await until(lambda: scene.started[0].in_flight == 1)
        scene.ask(2.0, gone=lambda: gone)
        last = scene.ask(3.0)
        gone = True
        scene.started[0].holds = False
        scene.started[0].go_on()
        assert await answers(scene, [first, last]) == [[2.0], [6.0]]
        assert scene.started[0].batches == [[1.0], [3.0]]
        scene.outcomes[1] = None  # whoever left is told nothing

    play(story, holds=True)


def test_when_all_have_left_the_pool_is_quiet() -> None:
    async def story(scene: Scene) -> None:
        scene.ask(1.0, gone=lambda: True)
        assert await scene.pool.drain(within=LATE)
        assert scene.started[0].batches == []
        scene.outcomes[0] = None

    play(story)


def test_who_waits_past_its_deadline_is_told_and_not_computed() -> None:
    async def story(scene: Scene) -> None:
        first = scene.ask(1.0)
        await until(lambda: scene.started[0].in_flight == 1)
        late, patient = scene.ask(2.0, timeout=0.01), scene.ask(3.0)
        assert isinstance(await scene.said(late), DeadlineError)
        scene.started[0].holds = False
        scene.started[0].go_on()
        assert await answers(scene, [first, patient]) == [[2.0], [6.0]]
        assert scene.started[0].batches == [[1.0], [3.0]]

    play(story, holds=True)


def test_who_is_computed_past_its_deadline_is_told_then_and_the_others_of_its_batch_are_answered() -> None:
    async def story(scene: Scene) -> None:
        hurried, patient = scene.ask(1.0, timeout=0.05), scene.ask(2.0)
        error = await scene.said(hurried)
        assert isinstance(error, DeadlineError)
        assert "had not answered" in str(error)
        assert patient not in scene.outcomes
        scene.started[0].go_on()
        assert await scene.said(patient) == [4.0]

    play(story, holds=True)


def test_deadlines_hold_while_no_replica_is_there() -> None:
    async def story(scene: Scene) -> None:
        assert isinstance(await scene.said(scene.ask(1.0, timeout=0.01)), DeadlineError)

    play(story, replicas=0)


# ---- replicas that hang or end ----


def test_a_replica_that_hangs_is_given_up_and_replaced() -> None:
    async def story(scene: Scene) -> None:
        scene.may_start = lambda _: setattr(scene, "holds", False)
        stuck = scene.ask(1.0)
        said = await scene.said(stuck)
        assert isinstance(said, DeadlineError)
        assert scene.started[0].stopped
        assert await scene.said(scene.ask(2.0)) == [4.0]
        assert scene.started[1].batches == [[2.0]]
        assert scene.pool.last_end == "predict did not end within 0.1 s"
        assert [one.key for one in scene.pool.snapshot()] == [2]
        scene.started[0].go_on()  # comes too late

    play(story, holds=True, timeout=0.1)


@pytest.mark.parametrize("rows", [60_000, 2])
def test_a_replica_that_ends_while_its_rows_are_still_checked(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large batch, on another thread: the check may then come to a refusal."""

    async def story(scene: Scene) -> None:
        number = scene.ask(given=np.full((rows, 1), np.inf))
        await until(lambda: bool(scene.pool._running) or number in scene.outcomes)
        if number not in scene.outcomes:
            scene.lose(scene.started[0], "killed")
        assert isinstance(await scene.said(number), InvalidInputError)
        assert await scene.said(scene.ask(2.0)) == [4.0]

    play(story)


def test_a_batch_whose_replica_ended_is_answered_by_another() -> None:
    async def story(scene: Scene) -> None:
        numbers = [scene.ask(1.0), scene.ask(2.0)]
        first, second = scene.started
        await until(lambda: first.in_flight == 1)
        second.holds = False
        scene.holds = False
        scene.lose(first, "its process was ended by SIGKILL")
        assert await answers(scene, numbers) == [[2.0], [4.0]]
        await until(lambda: scene.states() == ["ready", "ready"])
        assert [one.key for one in scene.pool.snapshot()] == [2, 3]
        assert scene.pool.last_end == "its process was ended by SIGKILL"
        first.go_on()  # what a replica says that is lost counts no more

    play(story, holds=True, replicas=2)


def test_a_replica_that_ends_while_it_is_idle_is_replaced() -> None:
    async def story(scene: Scene) -> None:
        scene.lose(scene.started[0], "memory")
        assert await scene.said(scene.ask(1.0)) == [2.0]
        scene.lose(scene.started[0], "again")  # once is enough
        assert scene.states() == ["ready"]

    play(story)


def test_a_replica_that_is_known_to_have_ended_gets_nothing_more() -> None:
    """The reason comes a moment after the end; what is asked meanwhile is not charged with it."""

    async def story(scene: Scene) -> None:
        first, second = scene.started
        scene.pool.suspend(first)
        numbers = [scene.ask(1.0), scene.ask(2.0)]
        assert await answers(scene, numbers) == [[2.0], [4.0]]
        assert first.batches == []
        scene.pool.suspend(second)
        numbers = [scene.ask(3.0), scene.ask(-4.0)]
        scene.lose(first, "killed")
        scene.lose(second, "killed too")
        good, bad = await answers(scene, numbers)
        assert good == [6.0]
        assert isinstance(bad, PredictionError)
        await until(lambda: scene.states() == ["ready", "ready"])
        assert [one.key for one in scene.pool.snapshot()] == [3, 4]

    play(story, replicas=2)


def test_fewer_are_wanted_before_a_loss_is_told() -> None:
    async def story(scene: Scene) -> None:
        scene.pool.suspend(scene.started[1])
        await scene.pool.scale(1)
        scene.lose(scene.started[1], "killed")
        assert await scene.said(scene.ask(1.0)) == [2.0]
        assert scene.states() == ["ready"]

    play(story, replicas=2)


def test_a_pool_whose_last_replica_has_ended_is_drained_at_once_where_nothing_waits() -> None:
    async def story(scene: Scene) -> None:
        scene.pool.suspend(scene.started[0])
        draining = asyncio.create_task(scene.pool.drain(within=LATE))
        await asyncio.sleep(0)
        scene.lose(scene.started[0], "killed")
        assert await draining

    play(story)


def test_the_row_that_ends_replicas_fails_and_the_others_are_answered() -> None:
    async def story(scene: Scene) -> None:
        numbers = [scene.ask(float(number)) for number in range(8)]
        deadly = 3.0
        while len(scene.outcomes) < len(numbers):
            await until(lambda: any(fake.in_flight for fake in scene.started) or len(scene.outcomes) == 8)
            for fake in scene.started:
                if fake.in_flight and deadly in fake.batches[-1]:
                    fake.in_flight = 0
                    scene.lose(fake, "SIGSEGV in predict")
                elif fake.in_flight:
                    fake.go_on()
        said = await answers(scene, numbers)
        bad = said.pop(3)
        assert said == [[2.0 * number] for number in range(8) if number != 3]
        assert isinstance(bad, PredictionError)
        assert bad.reason == "SIGSEGV in predict"
        assert "SIGSEGV" not in bad.message
        ended = [fake for fake in scene.started if deadly in fake.batches[-1]]
        assert len(ended) == 2

    play(story, holds=True, replicas=2)


def test_a_crash_loop_backs_off_and_says_so() -> None:
    async def story(scene: Scene) -> None:
        for number in range(4):
            await until(lambda number=number: len(scene.started) == number + 1)  # type: ignore[misc]
            scene.lose(scene.started[-1], "its process (7) was ended by SIGSEGV")
        await until(lambda: scene.states() == ["waiting"])
        (one,) = scene.pool.snapshot()
        assert one.note == "its process (7) was ended by SIGSEGV; the next start is in 0.5 s"
        assert not scene.pool.ready
        number = scene.ask(1.0)
        assert await scene.said(number) == [2.0]
        assert scene.states() == ["ready"]

    play(story)


def test_a_replica_that_cannot_be_started_again_is_tried_later() -> None:
    async def story(scene: Scene) -> None:
        tries = []

        def refuse(key: int) -> None:
            tries.append(key)
            if len(tries) < 3:
                raise MlnbError("no memory")

        scene.may_start = refuse
        scene.lose(scene.started[0], "killed")
        assert await scene.said(scene.ask(1.0)) == [2.0]
        assert len(tries) == 3
        assert scene.pool.last_end == "MlnbError: no memory"

    play(story)


def test_a_waiting_start_is_not_waited_for_when_fewer_are_wanted() -> None:
    async def story(scene: Scene) -> None:
        for number in range(4):
            await until(lambda number=number: len(scene.started) == 2 + number)  # type: ignore[misc]
            scene.lose(scene.started[-1], "no")
        await until(lambda: sorted(scene.states()) == ["ready", "waiting"])
        await scene.pool.scale(1)
        assert scene.states() == ["ready"]
        assert not scene.started[0].stopped

    play(story, replicas=2)


# ---- how many ----


def test_scaling_while_busy_loses_nothing() -> None:
    async def story(scene: Scene) -> None:
        numbers: list[int] = []
        for count in (3, 1, 4, 2, 1, 3):
            numbers += [scene.ask(float(len(numbers))) for _ in range(5)]
            scaling = asyncio.create_task(scene.pool.scale(count))
            numbers += [scene.ask(float(len(numbers))) for _ in range(5)]
            await scaling
            assert len(scene.pool.replicas) == count
        assert [len(said) for said in await answers(scene, numbers)] == [1] * len(numbers)
        await until(lambda: scene.states() == ["ready"] * 3)
        assert sum(not fake.stopped for fake in scene.started) == 3

    play(story)


def test_a_busy_replica_that_is_too_many_finishes_what_it_does() -> None:
    async def story(scene: Scene) -> None:
        numbers = [scene.ask(1.0)]
        await until(lambda: scene.started[0].in_flight == 1)
        numbers.append(scene.ask(2.0))
        await until(lambda: scene.started[1].in_flight == 1)
        await scene.pool.scale(1)
        assert scene.states() == ["ready", "leaving"]
        assert not scene.started[1].stopped
        scene.started[1].go_on()
        assert scene.started[1].stopped
        assert scene.states() == ["ready"]
        scene.started[0].go_on()
        assert await answers(scene, numbers) == [[2.0], [4.0]]

    play(story, holds=True, replicas=2)


@pytest.mark.parametrize("end", ["is lost", "hangs"])
def test_a_replica_that_ends_while_it_leaves_is_not_replaced(end: str) -> None:
    async def story(scene: Scene) -> None:
        scene.ask(1.0)
        await until(lambda: scene.started[0].in_flight == 1)
        scene.ask(2.0)
        await until(lambda: scene.started[1].in_flight == 1)
        await scene.pool.scale(1)
        scene.started[0].go_on()
        scene.started[0].holds = False
        if end == "is lost":
            scene.lose(scene.started[1], "killed")
        await scene.said(1)
        assert scene.states() == ["ready"]
        assert len(scene.started) == 2
        assert not scene.pool._leaving

    play(story, holds=True, replicas=2, timeout=LATE if end == "is lost" else 0.1)


def test_a_replica_that_is_too_many_before_it_is_ready_is_stopped() -> None:
    async def story(scene: Scene) -> None:
        may_start = asyncio.Event()
        scene.may_start = lambda _: _wait(may_start)
        scaling = asyncio.create_task(scene.pool.scale(3))
        await until(lambda: scene.states() == ["ready", "starting", "starting"])
        await scene.pool.scale(1)
        assert scene.pool.ready  # the one that was ready stays
        assert await scene.said(scene.ask(1.0)) == [2.0]
        may_start.set()
        await scaling
        await until(lambda: len(scene.started) == 3)
        assert scene.states() == ["ready"]
        assert [fake.stopped for fake in scene.started] == [False, True, True]

    play(story)


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


@pytest.mark.parametrize("failing", [2, 3])
def test_if_one_does_not_start_all_stays_as_it_was(failing: int) -> None:
    async def story(scene: Scene) -> None:
        never = asyncio.Event()

        def start(key: int) -> Awaitable[None] | None:
            if key == failing:
                raise MlnbError("no memory")
            return None if key < failing else _wait(never)

        scene.may_start = start
        with pytest.raises(MlnbError, match="no memory"):
            await scene.pool.scale(4)
        await until(lambda: scene.states() == ["ready"])
        assert (scene.pool.desired, [one.key for one in scene.pool.snapshot()]) == (1, [1])
        scene.may_start = lambda _: None
        scene.lose(scene.started[0], "killed")
        assert await scene.said(scene.ask(1.0)) == [2.0]
        assert scene.states() == ["ready"]

    play(story)


def test_fewer_than_none_is_refused() -> None:
    async def story(scene: Scene) -> None:
        with pytest.raises(InvalidInputError, match="-1 replicas: a whole number from 0"):
            await scene.pool.scale(-1)

    play(story)


# ---- too much, and the end ----


def test_what_cannot_be_answered_in_time_is_refused_at_once() -> None:
    async def story(scene: Scene) -> None:
        for rows in (1, 10, 100):
            scene.pool.times.observe(rows, 0.01 * rows)
        first = scene.ask(0.0)
        await until(lambda: scene.started[0].in_flight == 1)
        numbers = [scene.ask(float(number)) for number in range(1, 90)]
        refused = None
        while refused is None:
            try:
                numbers.append(scene.ask(1.0))
            except OverloadedError as error:
                refused = error
        scene._next -= 1
        assert refused.details["retry_after"] == refused.retry_after >= 1
        assert 100 <= len(numbers) <= 102  # a second's worth
        scene.started[0].holds = False
        scene.started[0].go_on()
        assert await answers(scene, [first, *numbers[:3]]) == [[0.0], [2.0], [4.0], [6.0]]
        await answers(scene, numbers)

    play(story, holds=True)


def test_draining_answers_what_waits_and_takes_no_more() -> None:
    async def story(scene: Scene) -> None:
        numbers = [scene.ask(1.0)]
        await until(lambda: scene.started[0].in_flight == 1)
        numbers.append(scene.ask(2.0))
        draining = asyncio.create_task(scene.pool.drain(within=LATE))
        await asyncio.sleep(0)
        with pytest.raises(StoppedError):
            scene.ask(3.0)
        scene._next -= 1
        scene.started[0].holds = False
        scene.started[0].go_on()
        assert await draining
        assert await answers(scene, numbers) == [[2.0], [4.0]]
        assert await scene.pool.drain(within=LATE)  # again is harmless

    play(story, holds=True)


def test_what_is_not_done_when_patience_ends_is_told() -> None:
    async def story(scene: Scene) -> None:
        numbers = [scene.ask(1.0)]
        await until(lambda: scene.started[0].in_flight == 1)
        numbers.append(scene.ask(2.0))
        assert not await scene.pool.drain(within=0.02)
        for said in await answers(scene, numbers):
            assert isinstance(said, StoppedError)
            assert "before it answered" in said.message
        scene.started[0].go_on()
        assert await scene.pool.drain(within=LATE)

    play(story, holds=True)


def test_a_replica_that_ends_while_the_pool_is_drained_loses_nothing() -> None:
    async def story(scene: Scene) -> None:
        numbers = [scene.ask(1.0)]
        await until(lambda: scene.started[0].in_flight == 1)
        numbers.append(scene.ask(2.0))
        draining = asyncio.create_task(scene.pool.drain(within=LATE))
        await asyncio.sleep(0)
        scene.holds = False
        scene.lose(scene.started[0], "killed")
        assert await answers(scene, numbers) == [[2.0], [4.0]]
        assert await draining

    play(story, holds=True)


def test_a_start_that_is_under_way_ends_with_the_pool() -> None:
    async def story(scene: Scene) -> None:
        scene.may_start = lambda _: _wait(asyncio.Event())
        scaling = asyncio.create_task(scene.pool.scale(2))
        await until(lambda: scene.states() == ["ready", "starting"])
        await scene.pool.drain(within=0)
        with pytest.raises(StoppedError, match="answer no more"):
            await scaling

    play(story)


def test_the_snapshot_says_what_each_did() -> None:
    async def story(scene: Scene) -> None:
        await scene.said(scene.ask(1.0, 2.0))
        await scene.said(scene.ask(3.0))
        scene.holds = scene.started[0].holds = scene.started[1].holds = True
        scene.ask(4.0)
        await until(lambda: any(fake.in_flight for fake in scene.started))
        one, other = scene.pool.snapshot()
        assert (one.key, one.state, one.pid, one.batches, one.rows, one.in_flight) == (1, "ready", None, 1, 2, 1)
        assert (other.key, other.batches, other.rows, other.in_flight, other.note) == (2, 1, 1, 0, "")

    play(story, replicas=2)


# ---- none, and what a meter reads ----


def test_who_asks_while_no_replica_is_wanted_wakes_one_and_is_answered() -> None:
    async def story(scene: Scene) -> None:
        woken: list[asyncio.Task[None]] = []

        def wake() -> None:
            woken.append(asyncio.create_task(scene.pool.scale(1)))

        scene.pool.wake = wake
        assert scene.pool.asleep
        numbers = [scene.ask(1.0), scene.ask(2.0)]
        assert await answers(scene, numbers) == [[2.0], [4.0]]
        assert len(woken) == 1
        assert not scene.pool.asleep
        assert scene.started[0].batches == [[1.0, 2.0]]

    play(story, replicas=0)


def test_it_wakes_again_and_again_while_somebody_waits() -> None:
    async def story(scene: Scene) -> None:
        woken: list[int] = []
        scene.pool.wake = lambda: woken.append(len(woken))
        number = scene.ask(1.0)
        await until(lambda: len(woken) > 3)
        await scene.pool.scale(1)
        assert await scene.said(number) == [2.0]
        known = len(woken)
        await answers(scene, [scene.ask(1.0) for _ in range(5)])
        assert len(woken) == known

    play(story, replicas=0)


def test_all_who_wait_for_the_first_replica_are_let_in_and_those_behind_them_too() -> None:
    async def story(scene: Scene) -> None:
        for rows in (1, 10, 100):
            scene.pool.times.observe(rows, 0.01 * rows)
        await scene.pool.scale(0)
        numbers = [scene.ask(float(number)) for number in range(300)]  # three seconds' worth
        await asyncio.sleep(0.15)  # no burst any more
        numbers += [scene.ask(1.0) for _ in range(50)]
        await scene.pool.scale(1)
        await asyncio.sleep(0.15)
        numbers += [scene.ask(1.0) for _ in range(50)]
        scene.started[-1].holds = False
        await until(lambda: scene.started[-1].in_flight == 1)
        scene.started[-1].go_on()
        await answers(scene, numbers)
        assert all(isinstance(outcome, Prediction) for outcome in scene.outcomes.values())

    play(story, holds=True)


def test_to_none_finishes_what_is_in_flight_and_wakes_for_what_waits() -> None:
    async def story(scene: Scene) -> None:
        woken: list[int] = []
        first = scene.ask(1.0)
        await until(lambda: scene.started[0].in_flight == 1)
        await scene.pool.scale(0)
        assert scene.states() == ["leaving"]
        scene.pool.wake = lambda: woken.append(1)
        last = scene.ask(2.0)
        await until(lambda: bool(woken))
        scene.started[0].go_on()
        assert await scene.said(first) == [2.0]
        assert scene.started[0].stopped
        assert scene.states() == []
        assert last not in scene.outcomes
        scene.holds = False
        await scene.pool.scale(1)
        assert await scene.said(last) == [4.0]

    play(story, holds=True)


def test_what_waits_when_the_last_one_goes_wakes_another() -> None:
    async def story(scene: Scene) -> None:
        woken: list[int] = []
        numbers = [scene.ask(1.0)]
        await until(lambda: scene.started[0].in_flight == 1)
        numbers.append(scene.ask(2.0))
        scene.pool.wake = lambda: woken.append(1)
        await scene.pool.scale(0)
        await until(lambda: bool(woken))
        scene.lose(scene.started[0], "killed")  # what it worked on waits, too
        scene.holds = False
        await scene.pool.scale(1)
        assert await answers(scene, numbers) == [[2.0], [4.0]]

    play(story, holds=True)


def test_a_pool_that_is_drained_asleep_starts_one_for_those_who_wait() -> None:
    async def story(scene: Scene) -> None:
        scene.pool.wake = lambda: pytest.fail("woken")
        numbers = [scene.ask(1.0), scene.ask(2.0)]
        assert await scene.pool.drain(within=LATE)
        assert await answers(scene, numbers) == [[2.0], [4.0]]
        assert len(scene.started) == 1
        assert scene.pool.snapshot() == ()

    play(story, replicas=0)


def test_a_pool_that_is_drained_asleep_starts_none_for_nobody() -> None:
    async def story(scene: Scene) -> None:
        assert await scene.pool.drain(within=LATE)
        assert scene.started == []

    play(story, replicas=0)


def test_a_drained_pool_waits_for_the_replica_that_is_on_its_way() -> None:
    async def story(scene: Scene) -> None:
        may_start = asyncio.Event()
        scene.may_start = lambda _: _wait(may_start)
        number = scene.ask(1.0)
        scaling = asyncio.create_task(scene.pool.scale(1))
        await until(lambda: scene.states() == ["starting"])
        draining = asyncio.create_task(scene.pool.drain(within=LATE))
        await asyncio.sleep(0.12)  # several ticks
        may_start.set()
        assert await draining
        await scaling
        assert await scene.said(number) == [2.0]
        assert len(scene.started) == 1

    play(story, replicas=0)


def test_a_drained_pool_whose_last_replica_does_not_start_is_done_at_once() -> None:
    async def story(scene: Scene) -> None:
        tried: list[int] = []

        def start(key: int) -> None:
            tried.append(key)
            raise MlnbError("no memory")

        scene.may_start = start
        number = scene.ask(1.0)
        started = perf_counter()
        assert not await scene.pool.drain(within=LATE)
        assert perf_counter() - started < LATE / 10
        assert len(tried) == 1
        said = await scene.said(number)
        assert isinstance(said, StoppedError)
        assert said.message == "The model was stopped before it answered: no replica started, MlnbError: no memory"

    play(story, replicas=0)


def test_a_drained_pool_gives_up_a_start_that_takes_too_long() -> None:
    async def story(scene: Scene) -> None:
        scene.may_start = lambda _: _wait(asyncio.Event())
        number = scene.ask(1.0)
        assert not await scene.pool.drain(within=0.1)
        assert isinstance(await scene.said(number), StoppedError)
        assert scene.started == []

    play(story, replicas=0)


def test_what_the_last_one_that_leaves_lost_is_still_answered_when_the_pool_is_drained() -> None:
    async def story(scene: Scene) -> None:
        number = scene.ask(1.0)
        await until(lambda: scene.started[0].in_flight == 1)
        await scene.pool.scale(0)
        draining = asyncio.create_task(scene.pool.drain(within=LATE))
        await asyncio.sleep(0)
        scene.holds = False
        scene.lose(scene.started[0], "killed")
        assert await scene.said(number) == [2.0]
        assert await draining

    play(story, holds=True)


# ---- more, while more are on their way ----


class Starts:
    """Replicas whose starts end as the test says."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.ends: dict[int, asyncio.Future[None]] = {}
        scene.may_start = self._start

    async def _start(self, key: int) -> None:
        self.ends[key] = asyncio.get_running_loop().create_future()
        await self.ends[key]

    async def scale(self, count: int, *, starts: int) -> asyncio.Task[None]:
        known = len(self.ends)
        scaling = asyncio.create_task(self.scene.pool.scale(count))
        await until(lambda: len(self.ends) == known + starts)
        return scaling

    def end(self, *keys: int) -> None:
        for key in keys:
            self.ends[key].set_result(None)

    def fail(self, key: int) -> None:
        self.ends[key].set_exception(MlnbError("no memory"))


def counts(scene: Scene) -> tuple[int, int, int]:
    now = scene.pool.reading()
    return now.desired, now.ready, now.starting


def test_more_can_be_had_while_others_start() -> None:
    async def story(scene: Scene) -> None:
        starts = Starts(scene)
        first = await starts.scale(2, starts=1)
        second = await starts.scale(4, starts=2)
        assert counts(scene) == (4, 1, 3)
        starts.end(3, 4)
        await second
        assert counts(scene) == (4, 3, 1)
        starts.end(2)
        await first
        assert counts(scene) == (4, 4, 0)

    play(story)


def test_two_that_ask_for_more_in_one_turn_of_the_loop_start_no_more_than_that() -> None:
    async def story(scene: Scene) -> None:
        await asyncio.gather(scene.pool.scale(2), scene.pool.scale(4))
        assert counts(scene) == (4, 4, 0)
        assert len(scene.started) == 4

    play(story)


@pytest.mark.parametrize(("failing", "left"), [([2], 3), ([3], 2), ([2, 3], 1), ([3, 2], 1)])
def test_a_start_that_fails_undoes_what_it_was_a_part_of_and_nothing_else(failing: list[int], left: int) -> None:
    async def story(scene: Scene) -> None:
        starts = Starts(scene)
        scalings = [await starts.scale(2, starts=1), await starts.scale(4, starts=2)]
        for key in failing:
            starts.fail(key)
            await asyncio.sleep(0)
        failed = [scalings[0 if key == 2 else 1] for key in failing]
        for scaling in failed:
            with pytest.raises(MlnbError, match="no memory"):
                await scaling
        starts.end(*(key for key, end in starts.ends.items() if not end.done()))
        await asyncio.gather(*(scaling for scaling in scalings if scaling not in failed))
        assert counts(scene) == (left, left, 0)
        assert await scene.said(scene.ask(1.0)) == [2.0]
        assert sum(not fake.stopped for fake in scene.started) == left

    play(story)


def test_who_is_cancelled_undoes_only_what_it_asked_for() -> None:
    async def story(scene: Scene) -> None:
        starts = Starts(scene)
        first = await starts.scale(3, starts=2)
        second = await starts.scale(4, starts=1)
        starts.end(2)
        await until(lambda: counts(scene) == (4, 2, 2))
        first.cancel()
        await asyncio.wait([first])
        assert counts(scene)[0] == 2
        starts.end(4)
        await second
        assert counts(scene) == (2, 2, 0)
        assert sum(not fake.stopped for fake in scene.started) == 2

    play(story)


def test_a_start_that_is_too_many_may_fail_and_undoes_nothing() -> None:
    async def story(scene: Scene) -> None:
        starts = Starts(scene)
        first = await starts.scale(3, starts=2)
        await scene.pool.scale(1)
        second = await starts.scale(2, starts=1)
        starts.fail(3)
        with pytest.raises(MlnbError, match="no memory"):
            await first
        starts.end(4)
        await second
        assert counts(scene) == (2, 2, 0)

    play(story)


def test_a_meter_reads_what_was_done_and_for_how_long() -> None:
    async def story(scene: Scene) -> None:
        started = perf_counter()
        numbers = [scene.ask(1.0)]
        await until(lambda: scene.started[0].in_flight == 1)
        first = scene.pool.reading()
        assert (first.requests, first.answered, first.waiting, first.queue_wait) == (1, 0, 0, 0.0)
        assert (first.desired, first.ready, first.starting, first.leaving) == (1, 1, 0, 0)
        numbers += [scene.ask(2.0), scene.ask(3.0)]
        await asyncio.sleep(0.1)
        now = scene.pool.reading()
        assert (now.requests, now.answered, now.waiting, now.queue_wait) == (3, 0, 2, None)
        passed = perf_counter() - started
        assert 0.1 <= now.busy - first.busy <= passed
        assert 0.3 <= now.present - first.present <= 3 * passed
        scene.started[0].holds = False
        scene.started[0].go_on()
        await answers(scene, numbers)
        await until(lambda: scene.started[0].in_flight == 0)
        done = scene.pool.reading()
        assert (done.requests, done.answered, done.waiting) == (3, 3, 0)
        assert done.busy >= now.busy
        assert done.present >= now.present
        await asyncio.sleep(0.05)
        assert scene.pool.reading() == done  # nothing happens

    play(story, holds=True)


def test_what_was_refused_counts_as_asked() -> None:
    async def story(scene: Scene) -> None:
        for rows in (1, 10, 100):
            scene.pool.times.observe(rows, 0.01 * rows)
        scene.ask(0.0)
        await until(lambda: scene.started[0].in_flight == 1)
        with pytest.raises(OverloadedError):
            [scene.ask(1.0) for _ in range(200)]
        scene._next -= 1
        reading = scene.pool.reading()
        assert reading.requests == reading.waiting + 2
        assert reading.queue_wait == pytest.approx(reading.waiting * 0.01)

    play(story, holds=True)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(["ask", "bad", "lose", "up", "down", "pass"]), max_size=25))
def test_what_is_read_never_goes_back_and_adds_up(steps: list[str]) -> None:
    async def story(scene: Scene) -> None:
        last = scene.pool.reading()
        for step in steps:
            if step in {"ask", "bad"}:
                scene.ask(1.0 if step == "ask" else -1.0)
            elif step == "lose" and scene.pool.crashes < 2 and scene.pool.replicas:
                scene.lose(scene.pool.replicas[0], "killed")  # type: ignore[arg-type]
            elif step in {"up", "down"}:
                await scene.pool.scale(max(1, scene.pool.desired + (1 if step == "up" else -1)))
            await asyncio.sleep(0.001)
            now = scene.pool.reading()
            for before, after in zip(last[:5], now[:5], strict=True):
                assert after >= before - 1e-9
            last = now
        await until(lambda: len(scene.outcomes) == scene._next)
        done = scene.pool.reading()
        assert done.answered == sum(isinstance(outcome, Prediction) for outcome in scene.outcomes.values())
        assert done.requests == scene._next

    play(story)
