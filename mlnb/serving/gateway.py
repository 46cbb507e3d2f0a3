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
    from mlnb.serving.service import Answer

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

    Attributes
    ----------
    served : dict of str to Served
        Read by the routes.
    """

    def __init__(self) -> None:
        self.served: dict[str, Served] = {}
        self._entries: dict[str, _Entry] = {}
        self._spawning = _Spawning()
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
        async with entry.lock:
            line = await self._line(spec, model)
            one = self.served.get(name)
            if one is None:
                monitor = ModelMonitor()
                self.served[name] = Served(ModelService(line, listener=monitor.observe), monitor)
                self._entries[name] = entry
            else:
                await one.service.swap(line, within=spec.manner.timeout)
            entry.spec = spec
            self._spawning.keep(one.spec for one in self._entries.values())

    async def scale(self, name: str, replicas: int) -> None:
        """Have as many replica processes; return when those that are new are ready.

        Raises
        ------
        MlnbError
        """
        entry, one = self._entries[name], self._find(name)
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
        entry = self._entries.pop(name)
        async with entry.lock:
            done = await one.service.close(within=within)
        self._spawning.keep(other.spec for other in self._entries.values())
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
        self._spawning.close()

    def _find(self, name: str) -> Served:
        try:
            return self.served[name]
        except KeyError:
            raise NotDeployedError(f"{name!r} is not deployed here any more.") from None

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
            times=times, key=key, name=f"mlnb {spec.version}",
        )  # fmt: skip

    async def _start_process(self, spec: Spec, pools: list[ReplicaPool], key: int, _: PredictTimes) -> Replica:
        (pool,) = pools
        task = Task(spec.registry, spec.reference, threads_each(pool.desired), spec.acceleration)

        def lost(replica: ProcessReplica, reason: str) -> None:
            pool.lost(replica, reason)

        return await self._spawning.processes(spec).start(key, task, ended=pool.suspend, lost=lost)


class _Spawning:
    """The zygotes there are: deployments whose models need the same libraries share one."""

    def __init__(self) -> None:
        self._processes: dict[frozenset[str], Processes] = {}

    def processes(self, spec: Spec) -> Processes:
        """Return what starts replicas for a deployment."""
        from mlnb.scaling.spawner import Spawner

        modules = _modules(spec)
        if modules not in self._processes:
            self._processes[modules] = Processes(Spawner(preload=["mlnb.scaling.worker", *sorted(modules)]))
        return self._processes[modules]

    def keep(self, specs: Any) -> None:
        """End those that no deployment needs any more."""
        needed = {_modules(spec) for spec in specs if spec.manner.replicas}
        for modules in [modules for modules in self._processes if modules not in needed]:
            self._processes.pop(modules).close()

    def close(self) -> None:
        """End all."""
        self.keep(())


def _modules(spec: Spec) -> frozenset[str]:
    """Return what a zygote imports for a model: its class's module, and the packages it came from."""
    version = spec.version
    own = version.model_type.rpartition(".")[0]
    packages = version.environment.get("packages", {})
    return frozenset({*packages, *([own] if own.partition(".")[0] in packages else []), "mlnb.registry"})


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
