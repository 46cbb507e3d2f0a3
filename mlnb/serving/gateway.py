"""The deployments of one server and their replicas, on its event loop: the same in the kernel and beside it."""

from __future__ import annotations

import asyncio
import os
import random
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from mlnb.errors import MlnbError, NotDeployedError
from mlnb.monitoring import ModelMonitor
from mlnb.registry.predictors import predictor
from mlnb.scaling.answering import Answering
from mlnb.scaling.balancing import policy_named
from mlnb.scaling.pool import ReplicaPool
from mlnb.scaling.preloading import Zygotes, modules_of
from mlnb.scaling.processes import Processes
from mlnb.scaling.replicas import KernelReplica
from mlnb.scaling.worker import Task
from mlnb.serving.predicting import DEFAULT_TIMEOUT, Served
from mlnb.serving.service import Line, ModelService, Query

if TYPE_CHECKING:
    from mlnb.monitoring import MetricsSnapshot
    from mlnb.monitoring.monitor import Series
    from mlnb.registry import ModelVersion
    from mlnb.scaling.acceleration.acceleration import Acceleration
    from mlnb.scaling.batching import PredictTimes
    from mlnb.scaling.pool import ReplicaSnapshot
    from mlnb.scaling.processes import ProcessReplica
    from mlnb.scaling.replicas import Replica
    from mlnb.scaling.spawner import Spawner
    from mlnb.serving.service import Answer

_LIBRARIES = frozenset({"lightgbm", "onnx", "sklearn", "xgboost"})

__all__ = ["Gateway", "Manner", "ServiceSnapshot", "Spec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a version is served.

    Attributes
    ----------
    replicas : int
        Processes; 0: in the process of the server itself.
    policy : str
        By which idle replicas are chosen; a key of :data:`~mlnb.scaling.balancing.POLICIES`.
    timeout : float
        Seconds after which a prediction is given up, and its replica replaced.
    """

    replicas: int = 0
    policy: str = "least_loaded"
    timeout: float = DEFAULT_TIMEOUT


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What is to be served, and how.

    Attributes
    ----------
    version : ModelVersion
    registry : str
        A folder on this machine that has the version's files.
    reference : str
        The version there.
    manner : Manner
    acceleration : Acceleration or None
    """

    version: ModelVersion
    registry: str
    reference: str
    manner: Manner
    acceleration: Acceleration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSnapshot:
    """One deployment at one moment, as its server sees it.

    Attributes
    ----------
    metrics : MetricsSnapshot
    replicas : tuple of ReplicaSnapshot
    trouble : str
        Why the last replica ended by itself, "" if none did.
    """

    metrics: MetricsSnapshot
    replicas: tuple[ReplicaSnapshot, ...]
    trouble: str = ""


@dataclass(slots=True)
class _Entry:
    spec: Spec
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Gateway:
    """Serves deployments; its coroutines run on the server's loop, one at a time for each name.

    Parameters
    ----------
    zygotes : Zygotes, optional
        Perhaps started already; ended with this.

    Attributes
    ----------
    served : dict of str to Served
        Read by the routes.
    """

    def __init__(self, zygotes: Zygotes | None = None) -> None:
        self.served: dict[str, Served] = {}
        self._entries: dict[str, _Entry] = {}
        self._zygotes = zygotes or Zygotes()
        self._processes: dict[Spawner, Processes] = {}
        self._coming: list[frozenset[str]] = []  # what those need that are on their way
        self._rng = random.Random()  # noqa: S311 - shares out work, keeps no secret

    async def deploy(self, spec: Spec, model: Any = None) -> None:
        """Serve a version under its name: a new deployment, or the next version of one.

        Parameters
        ----------
        spec : Spec
        model : object, optional
            The loaded model, for a replica in this process.

        Raises
        ------
        MlnbError
            If no replica can be started; what was live stays live.
        """
        name = spec.version.name
        entry = self._entries.get(name) or _Entry(spec)
        modules = modules_of(spec.version)
        async with entry.lock:
            self._coming.append(modules)
            try:
                line = await self._line(spec, model)
                one = self.served.get(name)
                if one is None:
                    monitor = ModelMonitor()
                    self.served[name] = Served(ModelService(line, listener=monitor.observe), monitor)
                    self._entries[name] = entry
                else:
                    await one.service.swap(line, within=spec.manner.timeout)
                entry.spec = spec
            finally:
                self._coming.remove(modules)
                await self._end_zygotes()

    async def scale(self, name: str, replicas: int) -> None:
        """Have as many replica processes; return when those that are new are ready.

        Raises
        ------
        MlnbError
        """
        one = self._find(name)
        entry = self._entries[name]
        async with entry.lock:
            pool = one.service.live.pool
            await pool.scale(replicas)
            entry.spec = replace(entry.spec, manner=replace(entry.spec.manner, replicas=replicas))
            _share_cores(pool.replicas)

    async def withdraw(self, name: str, *, within: float) -> bool:
        """Serve a name no more; say whether what was in flight was answered ``within`` as many seconds."""
        one = self.served.pop(name, None)
        if one is None:
            return True
        entry = self._entries[name]  # until its replicas have ended, so that their zygote lives on
        async with entry.lock:
            done = await one.service.close(within=within)
            del self._entries[name]
        await self._end_zygotes()
        return done

    async def answer(self, name: str, query: Query) -> Answer:
        """Return the live version's answer.

        Raises
        ------
        MlnbError
        """
        one = self._find(name)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def answered(outcome: Answer | MlnbError) -> None:
            if future.done():
                return
            if isinstance(outcome, MlnbError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        one.service.submit(
            query, timeout=self._entries[name].spec.manner.timeout, received=time.perf_counter(), answered=answered,
            gone=future.cancelled,
        )  # fmt: skip
        return await future

    async def snapshot(self, name: str) -> ServiceSnapshot:
        """Return metrics and replicas."""
        one = self._find(name)
        pool = one.service.live.pool
        return ServiceSnapshot(
            metrics=one.monitor.snapshot(now=time.time()), replicas=pool.snapshot(), trouble=pool.last_end
        )

    async def series(self, name: str) -> Series:
        """Return what happened second by second."""
        return self._find(name).monitor.series(now=time.time())

    async def monitor(self, name: str) -> ModelMonitor:
        """Return what was observed so far."""
        return self._find(name).monitor

    async def absorb(self, name: str, monitor: ModelMonitor) -> None:
        """Count what was observed elsewhere."""
        if name in self.served:
            self.served[name].monitor.absorb(monitor)

    async def close(self, *, within: float) -> None:
        """Answer what is in flight ``within`` as many seconds, and end all replicas."""
        await asyncio.gather(*(self.withdraw(name, within=within) for name in list(self.served)))
        await self._end_zygotes()

    def _find(self, name: str) -> Served:
        try:
            return self.served[name]
        except KeyError:
            raise NotDeployedError(f"{name!r} is not deployed here any more.") from None

    async def _end_zygotes(self) -> None:
        """End those that no deployment needs any more, without keeping the loop."""
        specs = [entry.spec for entry in self._entries.values()]
        needed = [modules_of(spec.version) for spec in specs if spec.manner.replicas]
        for spawner in self._zygotes.release([*needed, *self._coming]):
            self._processes.pop(spawner, None)
            await asyncio.to_thread(spawner.close)

    async def _line(self, spec: Spec, model: Any) -> Line:
        start = partial(self._start_process, spec) if spec.manner.replicas else partial(self._start_here, spec, model)
        pools: list[ReplicaPool] = []
        pool = ReplicaPool(
            spec.version.signature, start=partial(start, pools), policy=policy_named(spec.manner.policy), rng=self._rng,
            timeout=spec.manner.timeout,
        )  # fmt: skip
        pools.append(pool)
        try:
            await pool.scale(max(1, spec.manner.replicas))
        except BaseException:
            await pool.drain(within=0)
            raise
        return Line(spec.version, pool)

    async def _start_here(self, spec: Spec, model: Any, _: list[ReplicaPool], key: int, times: PredictTimes) -> Replica:
        answers = predictor(model) if spec.acceleration is None else spec.acceleration.restore(model)
        return KernelReplica(
            Answering(answers, spec.version.signature, name=str(spec.version)), loop=asyncio.get_running_loop(),
            times=times, key=key, name=f"mlnb {spec.version}", inline=_is_known(spec),
        )  # fmt: skip

    async def _start_process(self, spec: Spec, pools: list[ReplicaPool], key: int, _: PredictTimes) -> Replica:
        (pool,) = pools
        task = Task(spec.registry, spec.reference, threads_each(pool.desired), spec.acceleration)

        def lost(replica: ProcessReplica, reason: str) -> None:
            pool.lost(replica, reason)

        spawner = self._zygotes.start(modules_of(spec.version))
        if spawner not in self._processes:
            self._processes[spawner] = Processes(spawner)
        return await self._processes[spawner].start(key, task, ended=pool.suspend, lost=lost)


def _is_known(spec: Spec) -> bool:
    """Say whether a model's code is a library's, which computes and returns; one's own may hang, and a loop with it."""
    return spec.version.model_type.partition(".")[0] in _LIBRARIES or bool(
        spec.acceleration and spec.acceleration.kind != "none"
    )


def threads_each(replicas: int) -> int:
    """Return how many threads each of ``replicas`` processes may use without asking for more cores than there are.

    Examples
    --------
    >>> threads_each(10_000)
    1
    """
    return max(1, len(os.sched_getaffinity(0)) // max(1, replicas) if hasattr(os, "sched_getaffinity") else 1)


def _share_cores(replicas: list[Any]) -> None:
    for replica in replicas:
        replica.limit_threads(threads_each(len(replicas)))
