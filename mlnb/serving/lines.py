"""Versions made ready to answer: their replicas started, in this process or in others, and ended."""

from __future__ import annotations

import asyncio
import os
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from mlnb.registry import ModelRegistry
from mlnb.registry.predictors import predictor
from mlnb.scaling.answering import Answering
from mlnb.scaling.balancing import policy_named
from mlnb.scaling.pool import ReplicaPool
from mlnb.scaling.preloading import modules_of
from mlnb.scaling.processes import Processes
from mlnb.scaling.replicas import KernelReplica
from mlnb.scaling.worker import Task
from mlnb.serving.service import Line

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Iterator, Sequence

    from mlnb.scaling.batching import PredictTimes
    from mlnb.scaling.preloading import Zygotes
    from mlnb.scaling.processes import ProcessReplica
    from mlnb.scaling.replicas import Replica
    from mlnb.scaling.spawner import Spawner
    from mlnb.serving.plan import Spec

_LIBRARIES = frozenset({"lightgbm", "onnx", "sklearn", "xgboost"})

__all__ = ["Lines", "drain", "share_cores", "threads_each"]


class Lines:
    """Starts versions, on the server's loop.

    Parameters
    ----------
    zygotes : Zygotes
        Fork the replica processes.
    rng : Random
        Shares out work.
    """

    def __init__(self, zygotes: Zygotes, *, rng: random.Random) -> None:
        self._zygotes = zygotes
        self._rng = rng
        self._processes: dict[Spawner, Processes] = {}
        self._coming: list[frozenset[str]] = []  # what those need that are on their way

    @contextmanager
    def coming(self, specs: Iterable[Spec]) -> Iterator[None]:
        """Keep the zygotes of versions that are on their way until the block ends."""
        modules = [modules_of(spec.version) for spec in specs]
        self._coming += modules
        try:
            yield
        finally:
            for one in modules:
                self._coming.remove(one)

    async def start(self, spec: Spec, model: Any = None) -> Line:
        """Return a version with its replicas, ready.

        Parameters
        ----------
        spec : Spec
        model : object, optional
            Loaded, for a replica in this process. Default: it is loaded here.

        Raises
        ------
        MlnbError
            If a replica cannot be started.
        """
        start = partial(self._in_process, spec) if spec.manner.replicas else partial(self._here, spec, model)
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

    async def _here(self, spec: Spec, model: Any, _: list[ReplicaPool], key: int, times: PredictTimes) -> Replica:
        if model is None:
            registry = ModelRegistry(spec.registry).assume_trusted()  # by the one who deployed it
            model = await asyncio.to_thread(registry.load, spec.reference, shared=True)
        answers = predictor(model) if spec.acceleration is None else spec.acceleration.restore(model)
        return KernelReplica(
            Answering(answers, spec.version.signature, name=str(spec.version)), loop=asyncio.get_running_loop(),
            times=times, key=key, name=f"mlnb {spec.version}", inline=_is_known(spec),
        )  # fmt: skip

    async def _in_process(self, spec: Spec, pools: list[ReplicaPool], key: int, _: PredictTimes) -> Replica:
        (pool,) = pools
        threads = 1 if spec.manner.background else threads_each(pool.desired)
        task = Task(spec.registry, spec.reference, threads, spec.acceleration, background=spec.manner.background)

        def lost(replica: ProcessReplica, reason: str) -> None:
            pool.lost(replica, reason)

        spawner = self._zygotes.start(modules_of(spec.version))
        if spawner not in self._processes:
            self._processes[spawner] = Processes(spawner)
        return await self._processes[spawner].start(key, task, ended=pool.suspend, lost=lost)

    async def rest(self, specs: Iterable[Spec]) -> None:
        """End the zygotes that none of the versions needs which run in processes, without keeping the loop."""
        needed = [modules_of(spec.version) for spec in specs]
        for spawner in self._zygotes.release([*needed, *self._coming]):
            self._processes.pop(spawner, None)
            try:
                await asyncio.to_thread(spawner.close)
            except RuntimeError:  # at the end of Python there are no new threads
                spawner.close()


async def drain(lines: Sequence[Line], *, within: float) -> None:
    """Answer what waits and end the replicas."""
    await asyncio.gather(*(line.pool.drain(within=within) for line in lines))


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


def share_cores(replicas: list[Any], *, versions: int) -> None:
    """Let replicas use as many threads as there are cores for each, where ``versions`` have as many replicas."""
    for replica in replicas:
        replica.limit_threads(threads_each(len(replicas) * versions))
