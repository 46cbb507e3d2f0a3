from __future__ import annotations

import asyncio
import logging
import pickle
import random
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf, isfinite, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loops import until

from mlnb.errors import MlnbError
from mlnb.registry.rows.inference import infer_signature
from mlnb.scaling.autoscale import Autoscale
from mlnb.scaling.autoscaler import AutoScaler, ScaledPool
from mlnb.scaling.balancing import policy_named
from mlnb.scaling.batching import Job, Prediction, PredictTimes
from mlnb.scaling.machine import Machine, MachineReading
from mlnb.scaling.policies.decision import Controller, ScalingDecision, ScalingSample
from mlnb.scaling.pool import PoolReading, ReplicaPool

SIGNATURE = infer_signature(None, [[0.5]])
TIMES = PredictTimes()


@dataclass(frozen=True)
class Asked:
    """A policy that wants a replica for each request that is in flight, or raises."""

    words: str = "one for each request in flight"
    raises: bool = False

    def controller(self) -> Controller:
        return _AskedController(self)


class _AskedController:
    def __init__(self, policy: Asked) -> None:
        self._policy = policy
        self.seen: list[ScalingSample] = []

    def step(self, sample: ScalingSample) -> ScalingDecision:
        self.seen.append(sample)
        wanted = sample.desired
        if sample.in_flight is not None and isfinite(sample.in_flight):
            wanted = round(sample.in_flight)
        return ScalingDecision(
            sample=sample, metric="in-flight", value=sample.in_flight, target=1.0, wanted=wanted, desired=wanted,
            rule="asked", window=0.0, reason=f"{wanted} in flight",
        )  # fmt: skip


class Pool:
    """Has as many requests in flight as the test says."""

    def __init__(self, replicas: int = 1) -> None:
        self.desired = self.ready = replicas
        self.wake: Callable[[], None] = lambda: None
        self.in_flight: float = 0
        self.waiting = self.crashes = 0
        self.present = 0.0
        self.more = False

    def reading(self) -> PoolReading:
        return PoolReading(
            requests=0, answered=0, busy=0.0, present=self.present, crashes=self.crashes, waiting=self.waiting,
            queue_wait=0.0, desired=self.desired, ready=self.ready, starting=self.desired - self.ready, leaving=0,
            pids=(), times=TIMES,
        )  # fmt: skip

    def expect(self, *, more: bool) -> None:
        self.more = more


class Still(Machine):
    """A machine of two cores."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere"))
        self.looked = 0
        self.fails = False

    def read(self, pids: Any = ()) -> MachineReading:
        assert threading.current_thread() is not threading.main_thread()
        assert list(pids) == []
        self.looked += 1
        if self.fails:
            raise OSError("no such file")
        return MachineReading(cores=2)


class Scene:
    """A deployment of fake pools, whose clock is the test's."""

    def __init__(self, *, least: int = 1, most: int = 4, pools: int = 1, replicas: int = 1, **given: Any) -> None:
        self.pools: Sequence[ScaledPool] = [Pool(replicas) for _ in range(pools)]
        self.scaled: list[int] = []
        self.may_scale: Callable[[int], Awaitable[None] | None] = lambda _: None
        self.changed: list[ScalingDecision] = []
        self.now = 1000.0
        self.latency: float | None = None
        self.machine = Still()
        autoscale = Autoscale(least=least, most=most, policy=Asked(), **given)
        self.scaler = AutoScaler(
            self, autoscale, name="iris", machine=self.machine, changed=self.changed.append, clock=lambda: self.now,
            wall=lambda: 1e9 + self.now,
        )  # fmt: skip

    def p95(self) -> float | None:
        return self.latency

    async def scale(self, replicas: int) -> None:
        self.scaled.append(replicas)
        for pool in self.fakes:
            before, pool.desired = pool.desired, replicas
            try:
                waiting = self.may_scale(replicas)
                if waiting is not None:
                    await waiting
            except BaseException:
                pool.desired = before
                raise
            pool.ready = replicas

    @property
    def fakes(self) -> list[Pool]:
        return [pool for pool in self.pools if isinstance(pool, Pool)]

    async def go(self, *, in_flight: float = 0.0, after: float = 0.5) -> ScalingDecision:
        """Let time pass, then sample; what that comes to is done."""
        self.now += after
        for pool in self.fakes:
            pool.present += in_flight * max(after, 0)
        decision = self.scaler.step()
        assert decision is not None
        for _ in range(5):
            await asyncio.sleep(0)
        return decision


def play(story: Callable[[Scene], Awaitable[None]], **given: Any) -> Scene:
    """Let a story happen; nothing is left of it."""

    async def run() -> Scene:
        scene = Scene(**given)
        await story(scene)
        await scene.scaler.stop()
        await scene.scaler.stop()  # again is harmless
        assert not scene.scaler.running
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return scene

    return asyncio.run(run())


# ---- deciding and applying ----


def test_replicas_follow_the_load() -> None:
    async def story(scene: Scene) -> None:
        assert (await scene.go()).applied is None  # the first sample measures nothing
        assert (await scene.go(in_flight=3)).desired == 3
        assert (await scene.go(in_flight=3)).desired == 3
        assert (await scene.go(in_flight=9)).rule == "maximum"
        await scene.go(in_flight=1)
        assert scene.scaled == [3, 4, 1]
        assert [one.desired for one in scene.changed] == [3, 4, 1]
        assert [one.applied for one in scene.changed] == [3, 4, 1]
        record = scene.scaler.record()
        assert [one.desired for one in record] == [1, 3, 3, 4, 1]
        assert [one.applied for one in record] == [1, 3, 3, 4, 1]
        assert [one.sample.wall - 1e9 for one in record] == [one.sample.at for one in record]
        assert scene.scaler.record(record[2].sample.at) == record[3:]
        shown = scene.scaler.snapshot()
        assert (shown.least, shown.most, shown.desired, shown.policy) == (1, 4, 1, "one for each request in flight")
        assert (shown.last, shown.changed, shown.trouble) == (record[-1], record[-1], "")

    play(story)


def test_samples_go_on_while_a_replica_starts() -> None:
    async def story(scene: Scene) -> None:
        ready = asyncio.Event()
        scene.may_scale = lambda _: _wait(ready)
        await scene.go()
        await scene.go(in_flight=2)
        assert scene.scaler.snapshot().desired == 2
        waiting = [await scene.go(in_flight=2) for _ in range(4)]
        assert [(one.sample.desired, one.sample.ready, one.sample.starting) for one in waiting] == [(2, 1, 1)] * 4
        assert (await scene.go(in_flight=0)).rule == "starting"
        assert scene.scaled == [2]
        assert scene.changed == []
        ready.set()
        await until(lambda: len(scene.changed) == 1)
        assert scene.changed[0].sample.at == scene.scaler.record()[1].sample.at
        await scene.go(in_flight=4)
        assert scene.scaled == [2, 4]

    play(story)


def test_more_are_had_while_others_start_and_fewer_are_not() -> None:
    async def story(scene: Scene) -> None:
        ready = {2: asyncio.Event(), 4: asyncio.Event()}
        scene.may_scale = lambda replicas: _wait(ready[replicas])
        await scene.go()
        for in_flight, scaled in ((2, [2]), (2, [2]), (1, [2]), (4, [2, 4]), (4, [2, 4]), (3, [2, 4])):
            await scene.go(in_flight=in_flight)
            assert scene.scaled == scaled
        assert scene.scaler.snapshot().desired == 4
        ready[4].set()
        await until(lambda: len(scene.changed) == 1)
        assert scene.scaler.snapshot().desired == 2  # which is not over
        ready[2].set()
        await until(lambda: len(scene.changed) == 2)
        assert [(one.applied, one.sample.desired) for one in scene.changed] == [(4, 2), (2, 1)]
        assert [one.applied for one in scene.scaler.record()] == [1, 2, None, None, 4, None, None]

    play(story)


def test_a_second_step_that_fails_leaves_the_first_one(caplog: pytest.LogCaptureFixture) -> None:
    async def story(scene: Scene) -> None:
        ready = asyncio.Event()

        async def scale(replicas: int) -> None:
            if replicas > 2:
                raise MlnbError("no memory")
            await ready.wait()

        scene.may_scale = scale
        await scene.go()
        await scene.go(in_flight=2)
        for _ in range(20):
            decision = await scene.go(in_flight=4)
            assert (decision.desired, decision.sample.desired) == (4, 2)
        tried = len(scene.scaled)
        assert tried < 10
        assert scene.scaler.snapshot().trouble == "4 replicas cannot be had: no memory"
        ready.set()
        await until(lambda: len(scene.changed) == 1)
        assert scene.scaler.snapshot().trouble == "4 replicas cannot be had: no memory"
        scene.may_scale = lambda _: None
        await scene.go(in_flight=4, after=60.0)
        await scene.go(in_flight=4)
        assert [one.applied for one in scene.changed] == [2, 4]
        assert scene.scaler.snapshot().trouble == ""

    with caplog.at_level(logging.WARNING):
        play(story)
    assert len(caplog.records) == 1


def test_what_another_step_undid_is_not_said_to_be_done(caplog: pytest.LogCaptureFixture) -> None:
    async def story(scene: Scene) -> None:
        steps = {2: asyncio.Event(), 4: asyncio.Event()}
        target = scene.fakes[0]

        async def scale(replicas: int) -> None:
            await steps[replicas].wait()
            if replicas == 2:
                target.desired = target.ready = 3  # one fewer than the other one wants
                raise MlnbError("no memory")

        scene.scale = scale  # type: ignore[method-assign]
        await scene.go()
        await scene.go(in_flight=2)
        await scene.go(in_flight=4)
        steps[2].set()
        await until(lambda: scene.scaler.snapshot().trouble != "")
        steps[4].set()
        await until(lambda: scene.scaler.snapshot().desired == 3)
        assert scene.changed == []
        assert {one.applied for one in scene.scaler.record()[1:]} == {None}

    play(story)
    assert len(caplog.records) == 1


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


def test_all_versions_have_as_many_and_one_that_lags_behind_is_scaled_too() -> None:
    async def story(scene: Scene) -> None:
        await scene.go()
        await scene.go(in_flight=2)
        scene.fakes[1].desired = 1  # another version came in its place
        await scene.go(in_flight=2)
        assert [pool.desired for pool in scene.fakes] == [2, 2]
        assert scene.scaled == [2, 2]
        assert len(scene.changed) == 1

    play(story, pools=2)


def test_what_is_not_served_is_not_scaled() -> None:
    async def story(scene: Scene) -> None:
        scene.pools = []
        assert scene.scaler.step() is None
        assert scene.scaler.snapshot().desired == 0
        assert scene.scaler.record() == ()

    play(story)


def test_a_target_that_fails_is_shown_and_tried_again_ever_later(caplog: pytest.LogCaptureFixture) -> None:
    async def story(scene: Scene) -> None:
        def refuse(_: int) -> None:
            raise MlnbError("no memory")

        scene.may_scale = refuse
        await scene.go()
        for _ in range(40):
            decision = await scene.go(in_flight=2)
            assert (decision.desired, decision.sample.desired) == (2, 1)
        assert scene.scaler.snapshot().trouble == "2 replicas cannot be had: no memory"
        assert len(scene.scaled) < 10
        assert scene.changed == []
        assert {one.applied for one in scene.scaler.record()[1:]} == {None}
        scene.may_scale = lambda _: None
        await scene.go(in_flight=2, after=60.0)
        await scene.go(in_flight=2)
        assert scene.scaler.snapshot().trouble == ""
        assert len(scene.changed) == 1

    with caplog.at_level(logging.WARNING):
        play(story)
    assert [record.message for record in caplog.records] == ["iris cannot have 2 replicas: no memory"]


def test_no_more_while_replicas_keep_ending() -> None:
    async def story(scene: Scene) -> None:
        await scene.go()
        scene.fakes[0].crashes = 5
        assert (await scene.go(in_flight=3)).rule == "crash loop"
        for _ in range(118):
            await scene.go(in_flight=3)
        assert scene.scaled == []
        for _ in range(4):
            await scene.go(in_flight=3)
        assert scene.scaled == [3]

    play(story)


@pytest.mark.parametrize("gap", [-100.0, 0.0, 1e5])
def test_a_machine_that_slept_changes_nothing(gap: float) -> None:
    async def story(scene: Scene) -> None:
        await scene.go()
        await scene.go(in_flight=2)
        assert (await scene.go(in_flight=abs(4e3 / gap if gap else 0), after=gap)).desired == 2
        scene.now = max(scene.now, 1001.0)
        await scene.go(in_flight=2)
        assert scene.scaled == [2]

    play(story)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-1, 20), st.floats(0, 50) | st.just(nan) | st.just(inf), st.booleans()), max_size=40),
    st.integers(0, 2), st.integers(2, 5),
)  # fmt: skip
def test_whatever_happens_replicas_are_within_bounds(
    steps: list[tuple[float, float, bool]], least: int, most: int
) -> None:
    async def story(scene: Scene) -> None:
        for after, in_flight, fails in steps:
            scene.may_scale = partial(_refuse, fails)
            scene.latency = in_flight
            await scene.go(in_flight=in_flight, after=after)
        assert all(least <= desired <= most for desired in scene.scaled)
        record = scene.scaler.record()
        assert [one.sample.at for one in record] == sorted(one.sample.at for one in record)
        assert pickle.loads(pickle.dumps(record)) is not None

    play(story, least=least, most=most)


def _refuse(fails: bool, _: int) -> None:
    if fails:
        raise MlnbError("no")


# ---- the machine ----


def test_memory_is_measured_on_another_thread_and_seldom() -> None:
    async def story(scene: Scene) -> None:
        await scene.go()
        await until(lambda: scene.machine.looked == 1 and not scene.scaler._measuring)
        assert scene.scaler._meter.machine == MachineReading(cores=2)
        for _ in range(8):
            await scene.go(after=0.1)
        assert scene.machine.looked == 1

    play(story)


def test_a_machine_that_cannot_be_measured_is_no_limit(caplog: pytest.LogCaptureFixture) -> None:
    async def story(scene: Scene) -> None:
        scene.machine.fails = True
        await scene.go()
        await until(lambda: scene.machine.looked == 1 and not scene.scaler._measuring)
        assert (await scene.go(in_flight=2)).sample.limit is None

    with caplog.at_level(logging.ERROR):
        play(story)
    assert "The machine could not be measured" in caplog.text


def test_memory_is_measured_again_soon_after_replicas_came() -> None:
    async def story(scene: Scene) -> None:
        scene.pools = [Measured()]
        scene.scaler._machine = machine = Sized()
        await scene.go()
        await until(lambda: machine.asked == [(1,)] and not scene.scaler._measuring)
        for _ in range(6):
            await scene.go()
        assert machine.asked == [(1,)]
        scene.fakes[0].ready = 2
        await scene.go()
        await until(lambda: machine.asked == [(1,), (1, 2)] and not scene.scaler._measuring)
        for _ in range(6):
            await scene.go()
        assert machine.asked == [(1,), (1, 2)]

    play(story)


class Measured(Pool):
    """One whose replicas are processes."""

    def reading(self) -> PoolReading:
        return super().reading()._replace(pids=tuple(range(1, self.ready + 1)))


class Sized(Machine):
    """Says how large they are, and notes who was asked for."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere"))
        self.asked: list[tuple[int, ...]] = []

    def read(self, pids: Any = ()) -> MachineReading:
        self.asked.append(tuple(pids))
        return MachineReading(cores=64, free=10**10, total=10**10, sizes=dict.fromkeys(self.asked[-1], 10**9))


# ---- the loop ----


def test_it_goes_on_by_itself_until_it_is_paused() -> None:
    async def story(scene: Scene) -> None:
        scene.scaler.wake()  # not yet
        scene.scaler.start()
        scene.scaler.start()
        assert scene.scaler.running
        await until(lambda: len(scene.scaler.record()) >= 1)
        scene.now += 1
        await until(lambda: scene.scaler.record()[-1].sample.at == 1001.0)
        scene.scaler.pause()
        scene.scaler.pause()
        scene.now += 1
        known = scene.scaler.record()
        scene.scaler.wake()
        await asyncio.sleep(0.2)  # several intervals
        assert scene.scaler.record() == known
        scene.scaler.start()
        await until(lambda: scene.scaler.record()[-1].sample.at == 1002.0)

    play(story, interval=0.05)


def test_a_step_that_fails_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    async def story(scene: Scene) -> None:
        fakes, scene.pools = scene.pools, [Broken()]
        scene.scaler.start()
        await until(lambda: "Nothing could be decided: OSError: broken" in scene.scaler.snapshot().trouble)
        await asyncio.sleep(0.2)  # several intervals
        scene.pools = fakes
        await until(lambda: len(scene.scaler.record()) > 0)
        assert scene.scaler.snapshot().trouble == ""

    with caplog.at_level(logging.ERROR):
        play(story, interval=0.05)
    assert len(caplog.records) == 1


class Broken(Pool):
    def reading(self) -> PoolReading:
        raise OSError("broken")


def test_stopping_gives_up_what_is_being_applied() -> None:
    async def story(scene: Scene) -> None:
        scene.may_scale = lambda _: _wait(asyncio.Event())
        await scene.go()
        await scene.go(in_flight=2)
        assert scene.scaled == [2]
        await scene.scaler.stop()
        assert scene.fakes[0].desired == 1
        assert scene.changed == []

    play(story)


def test_a_pool_is_left_as_it_was_found() -> None:
    async def run() -> None:
        scene, pool = Scene(), Real().pool
        await pool.scale(1)
        scene.pools, asleep = [pool], pool.wake
        scene.scaler.start()
        await until(lambda: pool._more)
        assert pool.wake == scene.scaler.wake
        scene.scaler.pause()
        assert not pool._more
        scene.scaler.start()
        await until(lambda: pool._more)
        scene.pools = []  # it is served no more
        await scene.scaler.stop()
        assert not pool._more
        assert pool.wake != scene.scaler.wake
        assert pool.wake() is asleep() is None
        await pool.drain(within=0)

    asyncio.run(run())


def test_a_pool_that_a_successor_follows_is_left_to_it() -> None:
    async def story(scene: Scene) -> None:
        await scene.go()
        other = Scene()
        other.pools = scene.pools
        await other.go()
        await scene.scaler.stop()
        assert scene.fakes[0].wake == other.scaler.wake
        assert scene.fakes[0].more
        await other.scaler.stop()
        assert not scene.fakes[0].more

    play(story)


def test_a_successor_knows_what_was_before() -> None:
    async def story(scene: Scene) -> None:
        await scene.go()
        for _ in range(5):
            await scene.go(in_flight=3)
        before = scene.scaler.record()
        other = Scene(replicas=3)
        other.now = scene.now + 2
        other.scaler.take_over(scene.scaler)
        assert other.scaler.record() == before
        assert other.scaler.snapshot().changed == before[1]
        seen = other.scaler._controller._controller.seen  # type: ignore[attr-defined]
        assert seen == [one.sample for one in before]
        await other.go()
        assert len(other.scaler.record()) == 7
        assert other.scaled == []
        await other.scaler.stop()

    play(story)


class Changed(Asked):
    """Another policy."""


@pytest.mark.parametrize("policy", [Asked(), Changed("another one")])
def test_a_successor_knows_since_when_nobody_asks(policy: Asked) -> None:
    async def story(scene: Scene) -> None:
        await scene.go(in_flight=1)
        for _ in range(1000):
            await scene.go()
        other = Scene(least=0, idle=510.0)
        other.pools = scene.pools
        other.scaler = AutoScaler(other, replace(other.scaler.autoscale, policy=policy), clock=lambda: other.now)
        other.now = scene.now
        started = time.process_time()
        other.scaler.take_over(scene.scaler)
        assert time.process_time() - started < 0.01
        for _ in range(30):
            await other.go()
        assert other.scaled == [0]
        await other.scaler.stop()

    play(story, least=0, idle=600.0)


# ---- none, and back ----


def test_the_last_one_goes_when_nobody_asks_and_comes_back_at_once() -> None:
    async def story(scene: Scene) -> None:
        for _ in range(22):
            await scene.go()
        assert scene.scaled == [0]
        scene.scaler.start()
        await until(lambda: scene.fakes[0].desired == 0)
        scene.fakes[0].waiting = 1
        scene.now += 0.01
        scene.fakes[0].wake()
        scene.fakes[0].wake()
        await until(lambda: scene.scaled == [0, 1], seconds=1)
        assert scene.changed[-1].rule == "wake-up"

    play(story, least=0, idle=10.0, interval=0.5)


def test_waking_what_cannot_start_is_no_busy_loop() -> None:
    async def story(scene: Scene) -> None:
        scene.may_scale = partial(_refuse, True)
        scene.fakes[0].waiting = 1
        scene.scaler.start()
        await until(lambda: scene.scaled != [])
        for _ in range(100):
            scene.now += 0.05
            scene.fakes[0].wake()
            await asyncio.sleep(0.001)
        assert len(scene.scaled) <= 8
        assert len(scene.scaler.record()) <= 12
        assert "1 replicas cannot be had: no" in scene.scaler.snapshot().trouble

    play(story, least=0, replicas=0, interval=0.5)


# ---- with real pools ----


class Slow:
    """A replica that takes some milliseconds for each batch."""

    weight = 1.0
    pid: int | None = None

    def __init__(self, key: int) -> None:
        self.key = key
        self.in_flight = 0

    def run(self, checked: Any, rows: int, *, probabilities: bool, done: Callable[[Any], None]) -> None:
        assert len(checked) == rows
        self.in_flight += 1

        def answer() -> None:
            self.in_flight -= 1
            done(Prediction(np.zeros(rows), np.zeros((rows, 2)) if probabilities else None))

        asyncio.get_running_loop().call_later(0.01, answer)

    def limit_threads(self, count: int) -> None: ...

    def stop(self) -> None: ...


class Real:
    """A deployment with one real pool."""

    def __init__(self, *, starts_in: float = 0.0) -> None:
        self.told: list[Any] = []
        self.asked = 0
        self._starts_in = starts_in
        self.pool = ReplicaPool(
            SIGNATURE, start=self._start, policy=policy_named("round_robin"), timeout=20.0,
            rng=random.Random(0),  # noqa: S311 - no secret
        )  # fmt: skip

    @property
    def pools(self) -> list[ReplicaPool]:
        return [self.pool]

    async def _start(self, key: int, _: PredictTimes) -> Slow:
        await asyncio.sleep(self._starts_in)
        return Slow(key)

    async def scale(self, replicas: int) -> None:
        await self.pool.scale(replicas)

    def p95(self) -> float | None:
        return None

    def ask(self) -> None:
        self.asked += 1
        rows = np.zeros((1, 1))  # a batch of its own
        deadline = asyncio.get_running_loop().time() + 20.0
        self.pool.submit(Job(rows, 1, False, deadline, self.told.append, lambda: False, alone=True))


def test_real_replicas_follow_real_load_and_none_of_it_is_lost() -> None:
    async def run() -> None:
        target = Real(starts_in=0.05)
        autoscale = Autoscale(least=0, most=4, policy=Asked(), interval=0.05, idle=0.3)
        threads = threading.active_count()
        scaler = AutoScaler(target, autoscale, machine=Still())
        scaler.start()
        target.ask()
        await until(lambda: len(target.told) == 1)  # there was no replica
        for _ in range(60):
            for _ in range(3):
                target.ask()
            await asyncio.sleep(0.01)
        await until(lambda: len(target.told) == target.asked)
        assert max(one.desired for one in scaler.record()) >= 3
        await until(lambda: target.pool.asleep)
        assert target.pool.snapshot() == ()
        target.ask()
        await until(lambda: len(target.told) == target.asked)
        assert all(isinstance(outcome, Prediction) for outcome in target.told)
        busy = [one.sample for one in scaler.record() if one.sample.utilisation]
        assert all(0 < (sample.utilisation or 0) <= 1 for sample in busy)
        assert sum(one.sample.requests or 0 for one in scaler.record()) >= target.asked - 2
        await scaler.stop()
        await target.pool.drain(within=0)
        await asyncio.get_running_loop().shutdown_default_executor()
        assert threading.active_count() == threads
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def test_what_an_idle_deployment_costs() -> None:
    """It is 0.1 % of a core, and a replica's memory in addition."""

    async def run() -> float:
        target = Real()
        await target.pool.scale(2)
        scaler = AutoScaler(target, Autoscale.of(1, 4), machine=Still())
        started = time.process_time()
        for _ in range(1000):
            scaler.step()
        cost = (time.process_time() - started) / 1000
        await scaler.stop()
        await target.pool.drain(within=0)
        return cost

    assert asyncio.run(run()) / 0.5 < 0.003


def test_a_decision_can_be_replayed() -> None:
    async def story(scene: Scene) -> None:
        await scene.go()
        for in_flight in (1, 3, 3, 2, 4, 0, 1):
            await scene.go(in_flight=in_flight)
        again = Scene()
        controller = again.scaler._controller
        for one in scene.scaler.record():
            assert replace(controller.step(one.sample), applied=one.applied) == one

    play(story)
