from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from fitted import Fitted
from loops import until
from sklearn.linear_model import LogisticRegression
from waiting import wait_until

from mlnb import ModelRegistry, ModelVersion
from mlnb.errors import IntegrityError, MlnbError, PredictionError, ReplicaError
from mlnb.scaling.batching import Prediction
from mlnb.scaling.processes import Processes, ProcessReplica
from mlnb.scaling.spawner import Spawner
from mlnb.scaling.worker import Task

LARGE = 16_000_000  # numbers, 128 MB: far more than a process has by itself


class Temper:
    """Does what its first value says."""

    def predict(self, rows: Any) -> Any:
        return np.array([_ways()[row[0]](row) for row in rows])


def _ways() -> dict[float, Callable[[Any], Any]]:
    import threading

    import threadpoolctl

    return {
        0.0: lambda row: row[1] * 2,
        1.0: lambda _: ctypes.string_at(0),
        2.0: lambda _: threading.Event().wait(),
        3.0: lambda _: 1 / 0,
        4.0: lambda _: float(max(pool["num_threads"] for pool in threadpoolctl.threadpool_info())),
        5.0: lambda _: float(os.getpid()),
        6.0: lambda _: os._exit(7),
        7.0: lambda _: threading.Lock(),
    }


class Large:
    """Holds many numbers, which all replicas can share."""

    def __init__(self) -> None:
        self.numbers = np.arange(float(LARGE))

    def predict(self, rows: Any) -> Any:
        return self.numbers[rows[:, 0].astype(int)]


class Elsewhere:
    """Loads in the process that made it, and elsewhere does what its task is."""

    def __init__(self, task: str, *, marker: Path | None = None) -> None:
        self.task, self.home, self.marker = task, os.getpid(), str(marker)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if os.getpid() == self.home:
            return
        if self.task == "fails":
            raise ValueError("made elsewhere")
        if self.task == "hangs":
            Path(self.marker).touch()
            time.sleep(600)
        os.kill(os.getpid(), signal.SIGKILL)

    def predict(self, rows: Any) -> Any:
        return np.zeros(len(rows))


@pytest.fixture(scope="module")
def spawner() -> Iterator[Spawner]:
    with Spawner(preload=["mlnb.scaling.worker", "mlnb.registry", "sklearn.linear_model"]) as spawner:
        yield spawner


class Scene:
    """Replicas of one version, and what was said of those that ended."""

    def __init__(self, spawner: Spawner, version: ModelVersion, registry: ModelRegistry) -> None:
        self.processes = Processes(spawner)
        self.task = Task(registry.url, str(version), threads=1)
        self.ended: list[ProcessReplica] = []
        self.lost: list[tuple[ProcessReplica, str]] = []
        self.started: list[ProcessReplica] = []

    async def start(self, task: Task | None = None) -> ProcessReplica:
        replica = await self.processes.start(
            len(self.started) + 1, task or self.task, ended=self.ended.append,
            lost=lambda replica, reason: self.lost.append((replica, reason)),
        )  # fmt: skip
        self.started.append(replica)
        return replica

    async def loss(self) -> tuple[ProcessReplica, str]:
        await until(lambda: bool(self.lost))
        return self.lost.pop()


def play(
    spawner: Spawner, registry: ModelRegistry, version: ModelVersion, story: Callable[[Scene], Awaitable[None]]
) -> None:
    """Let a story happen; in the end all replicas are stopped, and their processes are gone."""

    async def run() -> list[ProcessReplica]:
        scene = Scene(spawner, version, registry)
        await story(scene)
        for replica in scene.started:
            replica.stop()
            replica.stop()
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
        assert scene.lost == []
        return scene.started

    started = asyncio.run(run())
    wait_until(lambda: not any(lives(replica.pid) for replica in started))


def lives(pid: int | None) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def asked(
    replica: ProcessReplica, checked: Any, rows: int = 1, *, probabilities: bool = False
) -> asyncio.Future[Prediction]:
    future: asyncio.Future[Prediction] = asyncio.get_running_loop().create_future()

    def done(outcome: Prediction | BaseException) -> None:
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    replica.run(checked, rows, probabilities=probabilities, done=done)
    return future


@pytest.fixture
def temper(registry: ModelRegistry) -> ModelVersion:
    return registry.register(Temper(), "temper", example=[[0.0, 1.5]])


def row(way: float, value: float = 0.0) -> Any:
    return np.array([[way, value]])


# ---- answers ----


@pytest.mark.parametrize("kind", ["digits", "diabetes", "tumour"])
def test_answers_are_those_of_the_model(
    spawner: Spawner, registry: ModelRegistry, request: pytest.FixtureRequest, kind: str
) -> None:
    fitted: Fitted = request.getfixturevalue(kind)
    version = registry.register(fitted.model, kind, example=fitted.rows)
    wanted = version.signature.probabilities

    async def story(scene: Scene) -> None:
        replica = await scene.start()
        for rows in (1, 7, 300):
            assert replica.in_flight == 0
            answering = asked(replica, version.signature.check(fitted.lists[:rows]), rows, probabilities=wanted)
            assert replica.in_flight == 1
            answer = await answering
            np.testing.assert_array_equal(answer.values, fitted.predictions[:rows])
            if wanted:
                np.testing.assert_array_equal(answer.probabilities, fitted.model.predict_proba(fitted.rows[:rows]))
            else:
                assert answer.probabilities is None

    play(spawner, registry, version, story)


def test_large_batches_and_answers(spawner: Spawner, registry: ModelRegistry) -> None:
    version = registry.register(Large(), "large", example=[[0.0]])

    async def story(scene: Scene) -> None:
        replica = await scene.start()
        checked = np.random.default_rng(0).integers(0, LARGE, (100_000, 1)).astype(float)
        answer = await asked(replica, checked, len(checked))
        np.testing.assert_array_equal(answer.values, checked[:, 0])

    play(spawner, registry, version, story)


def test_a_replica_is_a_process_of_its_own(spawner: Spawner, registry: ModelRegistry, temper: ModelVersion) -> None:
    async def story(scene: Scene) -> None:
        one, other = await scene.start(), await scene.start()
        pids = [int((await asked(replica, row(5.0))).values[0]) for replica in (one, other)]
        assert pids == [one.pid, other.pid]
        assert len({os.getpid(), *pids}) == 3
        one.stop()
        await until(lambda: not lives(one.pid))
        assert (await asked(other, row(0.0, 4.0))).values.tolist() == [8.0]

    play(spawner, registry, temper, story)


def test_a_model_that_fails_says_why_and_goes_on(
    spawner: Spawner, registry: ModelRegistry, temper: ModelVersion
) -> None:
    async def story(scene: Scene) -> None:
        replica = await scene.start()
        with pytest.raises(PredictionError) as caught:
            await asked(replica, row(3.0))
        assert caught.value.reason == "ZeroDivisionError: division by zero"
        assert "division" not in caught.value.message
        with pytest.raises(PredictionError) as caught:
            await asked(replica, row(7.0))
        assert "its answer cannot be sent" in caught.value.reason
        assert (await asked(replica, row(0.0, 4.0))).values.tolist() == [8.0]

    play(spawner, registry, temper, story)


# ---- ends ----


def test_a_replica_that_is_killed_is_lost(spawner: Spawner, registry: ModelRegistry, temper: ModelVersion) -> None:
    async def story(scene: Scene) -> None:
        for _ in range(3):
            replica = await scene.start()
            assert replica.pid is not None
            os.kill(replica.pid, signal.SIGKILL)
            assert await scene.loss() == (replica, f"its process ({replica.pid}) was ended by SIGKILL")
        assert scene.ended == scene.started

    play(spawner, registry, temper, story)


@pytest.mark.parametrize(
    ("way", "says"), [(1.0, "was ended by SIGSEGV: Fatal Python error: Segmentation fault"), (6.0, "ended with code 7")]
)
def test_a_predict_that_ends_its_process_is_a_loss_with_the_reason(
    spawner: Spawner, registry: ModelRegistry, temper: ModelVersion, way: float, says: str
) -> None:
    async def story(scene: Scene) -> None:
        replica = await scene.start()
        outcomes: list[Any] = []
        replica.run(row(way), 1, probabilities=False, done=outcomes.append)
        lost, reason = await scene.loss()
        assert lost is replica
        assert says in reason
        assert len(reason) < 400
        assert outcomes == []

    play(spawner, registry, temper, story)


def test_a_predict_that_hangs_ends_when_it_is_stopped(
    spawner: Spawner, registry: ModelRegistry, temper: ModelVersion
) -> None:
    async def story(scene: Scene) -> None:
        replica = await scene.start()
        replica.run(row(2.0), 1, probabilities=False, done=lambda _: None)
        await until(lambda: psutil.Process(replica.pid).status() == psutil.STATUS_SLEEPING)
        replica.stop()
        await until(lambda: not lives(replica.pid))

    play(spawner, registry, temper, story)


def test_one_that_ended_as_the_owner_stops_it_is_no_loss(
    spawner: Spawner, registry: ModelRegistry, temper: ModelVersion
) -> None:
    async def story(scene: Scene) -> None:
        replica = await scene.start()
        assert replica.pid is not None
        os.kill(replica.pid, signal.SIGKILL)
        replica.stop()
        await until(lambda: not lives(replica.pid))

    play(spawner, registry, temper, story)


# ---- starts ----


def test_what_cannot_be_loaded_is_told_to_who_starts_it(spawner: Spawner, registry: ModelRegistry) -> None:
    version = registry.register(Elsewhere("fails"), "unloadable")

    async def story(scene: Scene) -> None:
        with pytest.raises(MlnbError, match="made elsewhere"):
            await scene.start()

    play(spawner, registry, version, story)


def test_a_damaged_file_is_not_loaded(spawner: Spawner, registry: ModelRegistry, home: Path) -> None:
    version = registry.register(LogisticRegression().fit([[0.0], [1.0]], [0, 1]), "damaged")
    digest = version.files[0].digest
    (blob,) = (path for path in home.rglob("*") if path.name in (digest, digest[2:]))
    blob.chmod(0o600)
    blob.write_bytes(b"x" + blob.read_bytes()[1:])

    async def story(scene: Scene) -> None:
        with pytest.raises(IntegrityError):
            await scene.start()

    play(spawner, registry, version, story)


def test_a_process_that_ends_while_it_loads_is_told_to_who_starts_it(spawner: Spawner, registry: ModelRegistry) -> None:
    version = registry.register(Elsewhere("dies"), "deadly")

    async def story(scene: Scene) -> None:
        with pytest.raises(
            ReplicaError, match=r"ended before it was ready: its process \(\d+\) was ended by SIGKILL\."
        ):
            await scene.start()

    play(spawner, registry, version, story)


def test_a_start_that_is_given_up_leaves_no_process(spawner: Spawner, registry: ModelRegistry, tmp_path: Path) -> None:
    marker = tmp_path / "it loads"
    version = registry.register(Elsewhere("hangs", marker=marker), "hanging")
    zygote = psutil.Process(spawner.pid)
    before = set(zygote.children())

    async def story(scene: Scene) -> None:
        starting = asyncio.create_task(scene.start())
        await until(marker.exists)
        await asyncio.sleep(0)
        assert set(zygote.children()) - before
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

    play(spawner, registry, version, story)
    wait_until(lambda: not set(zygote.children()) - before)


# ---- sharing ----


def maps(pid: int | None) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads /proc")
def test_large_arrays_are_mapped_from_the_registrys_files_and_shared(
    spawner: Spawner, registry: ModelRegistry, home: Path
) -> None:
    version = registry.register(Large(), "large", example=[[0.0]])
    (digest,) = (file.digest for file in version.files if file.size > LARGE)

    async def story(scene: Scene) -> None:
        replicas = [await scene.start() for _ in range(3)]
        for replica in replicas:
            await asked(replica, np.arange(0.0, LARGE, 100)[:, None], LARGE // 100)  # touches every page
            assert digest[2:] in maps(replica.pid)
        size = LARGE * 8
        private = [psutil.Process(replica.pid).memory_full_info().uss for replica in replicas]
        assert max(private) < size

    play(spawner, registry, version, story)


def test_threads_are_limited_from_the_start_and_later(
    spawner: Spawner, registry: ModelRegistry, temper: ModelVersion
) -> None:
    async def story(scene: Scene) -> None:
        replica = await scene.start()
        assert (await asked(replica, row(4.0))).values.tolist() == [1.0]
        replica.limit_threads(2)
        assert (await asked(replica, row(4.0))).values.tolist() == [2.0]
        other = await scene.start(Task(scene.task.registry, scene.task.reference, threads=2))
        assert (await asked(other, row(4.0))).values.tolist() == [2.0]

    play(spawner, registry, temper, story)


def test_many_starts_and_stops_leave_nothing(spawner: Spawner, registry: ModelRegistry, temper: ModelVersion) -> None:
    own = psutil.Process()
    counts: list[int] = []

    async def story(scene: Scene) -> None:
        for _ in range(12):
            replica = await scene.start()
            await asked(replica, row(0.0))
            replica.stop()
            await until(lambda: not lives(replica.pid))  # noqa: B023 - looked at once, here
            spawner.exits()
            counts.append(own.num_fds())

    play(spawner, registry, temper, story)
    assert counts[-1] <= counts[1]
