from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import pytest
from loops import until

from mlnb import ModelRegistry, ModelVersion
from mlnb.events import PredictionEvent
from mlnb.monitoring.comparison import Comparison
from mlnb.registry.predictors import predictor
from mlnb.scaling.answering import Answering
from mlnb.scaling.balancing import policy_named
from mlnb.scaling.batching import PredictTimes
from mlnb.scaling.pool import ReplicaPool
from mlnb.scaling.replicas import KernelReplica
from mlnb.serving.mirror import Mirror
from mlnb.serving.service import Line

MOST = 4096  # rows that wait


class Shadow:
    """Doubles the first value of each row, but fails on 13 and waits for ``may_go`` on 99."""

    def __init__(self) -> None:
        self.may_go = threading.Event()
        self.rows = 0

    def predict(self, rows: Any) -> Any:
        firsts = np.asarray(rows, float)[:, 0]
        if 13.0 in firsts:
            raise ValueError("thirteen")
        if 99.0 in firsts:
            self.may_go.wait(20)
        self.rows += len(firsts)
        return 2 * firsts


@pytest.fixture
def version(registry: ModelRegistry) -> ModelVersion:
    """Return a record for the line; versions of the events are others unless they say so."""
    registry.register(lambda rows: np.zeros(len(rows)), "shadow", example=[[0.0, 1.0]])
    return registry.register(lambda rows: np.zeros(len(rows)), "shadow", example=[[0.0, 1.0]])


def events(
    values: Sequence[float], *, rows: int = 1, answer: float = 2.0, version: int = 1, error: str | None = None
) -> list[PredictionEvent]:
    """Return requests that were answered with ``answer`` times their first value."""
    return [
        PredictionEvent(
            "shadow", version, f"id{number}", 5.0, 0.001, rows, 200 if error is None else 500, error,
            [[value, 1.0]] * rows, np.full(rows, value * answer),
        )
        for number, value in enumerate(values)
    ]  # fmt: skip


def mirroring(
    version: ModelVersion, story: Callable[[Mirror, Shadow], Awaitable[None]], *, share: float = 100.0,
    timeout: float = 20.0,
) -> None:  # fmt: skip
    """Let a story happen to a mirror whose shadow runs on a thread; at its end it is closed and leaves nothing."""
    shadow = Shadow()

    async def start(key: int, times: PredictTimes) -> KernelReplica:
        answering = Answering(predictor(shadow), version.signature, name="shadow")
        return KernelReplica(
            answering, loop=asyncio.get_running_loop(), times=times, key=key, name="mlnb shadow", inline=False
        )

    async def run() -> None:
        rng = random.Random(0)  # noqa: S311 - no secret
        pool = ReplicaPool(version.signature, start=start, policy=policy_named("random"), rng=rng, timeout=timeout)
        await pool.scale(1)
        mirror = Mirror(Line(version, pool), share=share, comparison=Comparison(names=["a", "b"]), rng=rng)
        try:
            await story(mirror, shadow)
        finally:
            shadow.may_go.set()
            await mirror.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def test_answers_are_compared(version: ModelVersion) -> None:
    async def story(mirror: Mirror, _: Shadow) -> None:
        mirror.observe(events([1.0, 2.0, 3.0]))
        mirror.observe(events([4.0], rows=3, answer=5.0))
        await until(lambda: mirror.comparison.summary().compared == 6)
        summary = mirror.comparison.summary()
        assert (summary.differing, summary.dropped, summary.failed) == (3, 0, 0)
        one = mirror.comparison.disagreements[0]
        assert (one.request_id, one.at, one.row, one.live, one.shadow) == ("id0", 5.0, {"a": 4.0, "b": 1.0}, 20.0, 8.0)

    mirroring(version, story)


def test_more_than_are_sent_together(version: ModelVersion) -> None:
    async def story(mirror: Mirror, shadow: Shadow) -> None:
        mirror.observe(events(range(100, 400)))
        await until(lambda: mirror.comparison.summary().compared == 300)
        assert shadow.rows == 300
        assert mirror.comparison.summary().differing == 0

    mirroring(version, story)


def test_what_failed_and_its_own_answers_are_not_copied(version: ModelVersion) -> None:
    async def story(mirror: Mirror, shadow: Shadow) -> None:
        mirror.observe(events([1.0], error="it failed"))
        mirror.observe(events([2.0], version=version.number))
        mirror.observe(events([3.0], version=version.number + 1))
        await until(lambda: mirror.comparison.summary().compared == 1)
        assert shadow.rows == 1

    mirroring(version, story)


def test_a_share(version: ModelVersion) -> None:
    async def story(mirror: Mirror, _: Shadow) -> None:
        mirror.observe(events(range(100, 1100)))
        await until(lambda: mirror._asked == 0 and not mirror._waiting)
        assert 60 < mirror.comparison.summary().compared < 140

    mirroring(version, story, share=10.0)


def test_a_row_it_fails_on_is_counted_and_the_others_are_compared(version: ModelVersion) -> None:
    async def story(mirror: Mirror, _: Shadow) -> None:
        mirror.observe(events([1.0, 13.0, 2.0]))
        mirror.observe(events([13.0], rows=2))
        await until(lambda: mirror._asked == 0 and not mirror._waiting)
        summary = mirror.comparison.summary()
        assert (summary.compared, summary.differing, summary.failed, summary.dropped) == (2, 0, 3, 0)
        assert summary.failure == "ValueError: thirteen"

    mirroring(version, story)


def test_rows_that_do_not_fit_are_failures(version: ModelVersion) -> None:
    async def story(mirror: Mirror, _: Shadow) -> None:
        bad = events([1.0])[0]._replace(inputs=[["text", 1.0]])
        mirror.observe([bad, *events([2.0])])
        await until(lambda: mirror._asked == 0 and not mirror._waiting)
        summary = mirror.comparison.summary()
        assert (summary.compared, summary.failed) == (1, 1)
        assert "'text'" in str(summary.failure)

    mirroring(version, story)


def test_one_that_does_not_keep_up_gets_less_and_its_queue_stays_short(version: ModelVersion) -> None:
    async def story(mirror: Mirror, shadow: Shadow) -> None:
        mirror.observe(events([99.0]))
        await until(lambda: mirror._asked == 1)
        for _ in range(6):
            mirror.observe(events(range(100, 1100)))
        assert len(mirror._waiting) == MOST
        assert mirror.comparison.summary().dropped == 6000 - MOST
        mirror.observe(events([1.0], rows=MOST + 1))
        assert mirror.comparison.summary().dropped == 6000 + 1
        shadow.may_go.set()
        await until(lambda: mirror._asked == 0 and not mirror._waiting)
        summary = mirror.comparison.summary()
        assert (summary.compared, summary.failed) == (1 + MOST, 0)

    mirroring(version, story)


def test_one_that_hangs_is_given_up_and_goes_on(version: ModelVersion) -> None:
    async def story(mirror: Mirror, _: Shadow) -> None:
        mirror.observe(events([99.0]))
        await until(lambda: mirror.comparison.summary().dropped == 1)
        mirror.observe(events([1.0]))
        await until(lambda: mirror.comparison.summary().compared == 1)

    mirroring(version, story, timeout=0.2)


def test_the_loop_is_never_kept_for_long(version: ModelVersion) -> None:
    """Whatever waits, those who are served have their turn: no turn takes as long as a hundred comparisons."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.thread_time()  # not the time that others were given meanwhile
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - before)

    async def story(mirror: Mirror, _: Shadow) -> None:
        mirror.observe(events(range(100, 4100), answer=3.0))
        watching = asyncio.create_task(watch())
        await until(lambda: mirror.comparison.summary().compared > 1000)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        turns.append(longest)

    turns: list[float] = []
    for _ in range(3):
        longest = 0.0
        mirroring(version, story)
    assert min(turns) < 0.005


def test_after_the_end_nothing_is_taken_or_counted(version: ModelVersion) -> None:
    async def story(mirror: Mirror, shadow: Shadow) -> None:
        mirror.observe(events([99.0, 98.0]))
        await until(lambda: mirror._asked > 0)
        await mirror.close()
        shadow.may_go.set()
        mirror.observe(events([1.0]))
        assert mirror._sending is None
        await mirror.close()
        summary = mirror.comparison.summary()
        assert (summary.compared, summary.failed) == (0, 0)

    mirroring(version, story)
