"""The deployments of one server and their replicas, on its event loop: the same in the kernel and beside it."""

from __future__ import annotations

import asyncio
import pickle
import random
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from mlnb.errors import MlnbError, StoppedError
from mlnb.monitoring.comparison import Comparison
from mlnb.monitoring.metrics import Mark, words_of
from mlnb.registry.compatibility import misfit
from mlnb.scaling.preloading import Zygotes
from mlnb.serving.late_probabilities import LateProbabilities
from mlnb.serving.lines import Lines, drain, share_cores
from mlnb.serving.load_following import LoadFollowing
from mlnb.serving.mirror import Mirror
from mlnb.serving.observing import Observer
from mlnb.serving.predicting import Served
from mlnb.serving.readings import Readings
from mlnb.serving.recorders import Recorders
from mlnb.serving.rollout import Change, Rollout
from mlnb.serving.service import ModelService, Query
from mlnb.serving.snapshots import Handed, ServiceSnapshot, ShadowSnapshot, TrafficSnapshot, VersionCount
from mlnb.serving.traffic import Split
from mlnb.serving.watching import Watcher

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping, Sequence

    from mlnb.monitoring.alerts import AlertChange
    from mlnb.monitoring.drift import DriftReport
    from mlnb.registry.signature import Signature
    from mlnb.scaling.policies.decision import ScalingDecision
    from mlnb.serving.canary import CanaryDecision
    from mlnb.serving.observing import Observed
    from mlnb.serving.plan import Plan, Shadow, Spec
    from mlnb.serving.service import Answer, Line

_ALL = 100.0  # percent
_PATIENCE, _SOON = (
    1.0,
    0.005,
)  # seconds to wait for what is in flight when another server goes on, and between two looks

__all__ = ["Gateway"]


@dataclass(slots=True)
class _Entry:
    plan: Plan
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    specs: dict[int, Spec] = field(default_factory=dict)  # of the lines that answer
    shadow: Shadow | None = None
    changes: list[Change] = field(default_factory=list)  # of the last canary
    ended: dict[str, Change] = field(default_factory=dict)  # canaries, by id: what became of them
    news: asyncio.Event = field(default_factory=asyncio.Event)  # a change, or the end of a canary
    handed: bool = False  # to another gateway


class Gateway(Readings):
    """Serves deployments; its coroutines run on the server's loop, one at a time for each name.

    Parameters
    ----------
    zygotes : Zygotes, optional
        Perhaps started already; ended with this.

    Attributes
    ----------
    served : dict of str to Served
        Read by the routes.
    moving : bool
        Whether another server hands its deployments over to this one: canaries wait until :meth:`moved`.
    """

    def __init__(self, zygotes: Zygotes | None = None) -> None:
        super().__init__()
        self.moving = False
        self._entries: dict[str, _Entry] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._rng = random.Random()  # noqa: S311 - shares out work, keeps no secret
        self._lines = Lines(zygotes or Zygotes(), rng=self._rng)
        self._recorders = Recorders()
        self._following = LoadFollowing(self.served, resize=self._resize)
        self._watcher = Watcher(
            self.served, plan_of=lambda name: self._entries[name].plan, changed=self._alerted, resting=self._rests
        )

    async def deploy(self, plan: Plan, models: Mapping[int, Any] | None = None) -> None:
        """Serve what a plan says under its name: a new deployment, or a change of one.

        Versions that are served already, in the same manner, go on. The others are made ready first; then all changes
        between two requests. A canary that has ended is not begun again: what it came to is served.

        Parameters
        ----------
        plan : Plan
        models : mapping of int to object, optional
            The loaded models by version number, for replicas in this process; others are loaded when they are needed.

        Raises
        ------
        MlnbError
            If no replica can be started; what was live stays live.
        """
        name = plan.live.version.name
        entry = self._entries.get(name) or _Entry(plan)
        async with entry.lock:
            try:
                with self._lines.coming(plan.processed):
                    await self._change(name, entry, plan, models or {})
            finally:
                await self._rest()

    async def _change(self, name: str, entry: _Entry, wanted: Plan, models: Mapping[int, Any]) -> None:
        new: dict[int, Line] = {}
        mirrors: list[Mirror] = []
        try:
            while True:  # until nothing was awaited since it was last seen what is there: a canary may end meanwhile
                plan = self._sized(name, _as_it_ended(wanted, entry.ended))
                if missing := self._missing(name, plan, new):
                    new[missing.version.number] = await self._lines.start(missing, models.get(missing.version.number))
                elif (
                    plan.shadow is not None and not mirrors and (entry.shadow != plan.shadow or name not in self.served)
                ):
                    mirrors.append(await self._mirror(plan.shadow))
                else:
                    break
            there = {} if name not in self.served else dict(self.served[name].service.lines)
            lines = [(there | new)[spec.version.number] for spec in plan.specs]
            gone, old_mirror = self._go(name, entry, plan, lines, mirrors[0] if mirrors else None)
        except BaseException:
            await drain([*new.values(), *(mirror.line for mirror in mirrors)], within=0)
            raise
        unused = [line for line in new.values() if line not in lines]
        ending = self._clear(self.served[name].service, [*gone, *unused], old_mirror, within=plan.live.manner.timeout)
        if len(there) <= 1:
            await ending  # what is in flight ends before the next version is said to be live
        else:  # back from several: nobody waits for one that hangs
            self._spawn(ending)

    def _sized(self, name: str, plan: Plan) -> Plan:
        """Return a plan with as many replicas as the load has brought, where it is to bring them."""
        one = self.served.get(name)
        return plan if one is None or plan.autoscale is None else plan.scaled(max(1, one.service.live.pool.desired))

    def _missing(self, name: str, plan: Plan, new: Mapping[int, Line]) -> Spec | None:
        """Return the first spec of a plan for which nothing is ready, None if all is."""
        return next(
            (one for one in plan.specs if one.version.number not in new and not self._is_there(name, one)), None
        )

    def _is_there(self, name: str, spec: Spec) -> bool:
        """Say whether a version answers already as its spec says."""
        one, number = self.served.get(name), spec.version.number
        if one is None or self._entries[name].specs.get(number) != spec:
            return False
        pool = one.service.lines[number].pool if number in one.service.lines else None
        return pool is not None and (pool.ready or pool.asleep)

    def _go(
        self, name: str, entry: _Entry, plan: Plan, lines: Sequence[Line], mirror: Mirror | None
    ) -> tuple[list[Line], Mirror | None]:
        """Let versions that are ready answer; return what answers no more, and the mirror that is over."""
        if name not in self.served:
            tracer, access_log = self._recorders.listeners(name)
            observer = Observer(name, lines[0].version.signature, listeners=(tracer, access_log))
            self.served[name] = Served(ModelService(lines[0], listener=observer.observe), observer)
            self.served[name].service.traced = tracer.wants_parent
            observer.labelled = LateProbabilities(self.served[name]).wanted
            self._entries[name] = entry
            self._watcher.start()
        one, before = self.served[name], entry.plan.canary
        observer = one.observer
        if observer.rollout is not None and before is not None and (plan.canary is None or plan.canary.id != before.id):
            self._note(entry, "ended", observer.rollout, "somebody decided otherwise")
            self._end_rollout(entry, one)
        gone = one.service.route(lines[0], lines[1:], split=plan.split)
        entry.plan, entry.specs = plan, {spec.version.number: spec for spec in plan.specs}
        over = observer.mirror if entry.shadow != plan.shadow else None
        if entry.shadow != plan.shadow or mirror is not None:
            observer.mirror, entry.shadow = mirror, plan.shadow
        self._begin(name, entry, one)
        self._following.follow(name, plan.autoscale, paused=self.moving)
        self._recorders.attach(observer, plan.watching, [spec.version for spec in plan.specs])
        self._watcher.look(name)
        self._spawn(self._recorders.rest([served.observer for served in self.served.values()]))
        self._tell(entry)
        return gone, over

    def _begin(self, name: str, entry: _Entry, one: Served) -> None:
        """Begin the canary and the trial of a plan, unless they are on."""
        plan, observer = entry.plan, one.observer
        numbers = [spec.version.number for spec in plan.specs]
        baseline = numbers[0]
        observer.expect({spec.version.number: spec.version.signature for spec in plan.specs})
        observer.outcomes.expect(*_outputs([spec.version.signature for spec in plan.specs]))
        names = {number: plan.names.get(number, f"v{number}") for number in numbers}
        observer.outcomes.trial(names if len(numbers) > 1 else None, baseline=baseline)
        if plan.canary is None:
            return
        if observer.rollout is None:
            entry.changes = []
            observer.rollout = Rollout(
                plan.canary, live=baseline, outcomes=observer.outcomes, decided=partial(self._decided, name)
            )
            if not self.moving:
                observer.rollout.start()
        observer.rollout.watch(observer.mirror)
        one.service.split = _canary_split(plan, observer.rollout.share)

    def _end_rollout(self, entry: _Entry, one: Served) -> None:
        rollout, one.observer.rollout = one.observer.rollout, None
        if rollout is not None:
            rollout.stop()
            entry.ended[rollout.plan.id] = entry.changes[-1]

    def _decided(self, name: str, decision: CanaryDecision) -> None:
        """Do at once what was decided on a canary: nobody is asked, and nothing is awaited."""
        one, entry = self.served[name], self._entries[name]
        rollout = one.observer.rollout
        assert rollout is not None  # noqa: S101 - for the type checker
        if decision.kind == "advance":
            rollout.advance()
            one.service.split = _canary_split(entry.plan, rollout.share)
            self._note(entry, "advanced", rollout, decision.reason)
            return
        self._note(entry, "promoted" if decision.kind == "promote" else "taken back", rollout, decision.reason)
        self._finish(name)

    def _finish(self, name: str) -> None:
        """End a canary as its last change says."""
        one, entry = self.served[name], self._entries[name]
        self._end_rollout(entry, one)
        plan = entry.plan
        entry.plan = _as_it_ended(plan, entry.ended)
        (spec,) = entry.plan.specs
        entry.specs = {spec.version.number: spec}
        gone = one.service.route(one.service.lines[spec.version.number])
        one.observer.outcomes.trial(None)
        mirror = None
        if entry.shadow != entry.plan.shadow:
            mirror, one.observer.mirror, entry.shadow = one.observer.mirror, None, None
        self._tell(entry)
        self._spawn(self._clear(one.service, gone, mirror, within=plan.live.manner.timeout))

    async def _clear(
        self, service: ModelService, gone: Sequence[Line], mirror: Mirror | None, *, within: float
    ) -> None:
        """End what answers no more; what waits for it goes to the live version, where it fits."""
        if mirror is not None:
            await mirror.close()
        for line in gone:
            if misfit(line.version.signature, service.live.version.signature) is None:
                service.take_over(line)
        await drain(gone, within=within)
        await self._rest()

    def _note(self, entry: _Entry, kind: Any, rollout: Rollout, reason: str) -> None:
        number = entry.changes[-1].number + 1 if entry.changes else 1
        version, share = rollout.plan.version, rollout.share
        change = Change(number=number, kind=kind, version=version, share=share, at=time.time(), reason=reason)
        entry.changes.append(change)
        name = entry.plan.live.version.name
        self.served[name].observer.marks.append(
            Mark(at=change.at, kind=kind, version=version, words=words_of(kind, version))
        )
        self._tell(entry)

    def _rests(self, name: str) -> bool:
        """Say whether another server watches over a deployment: it goes on with it, or has not handed it over yet."""
        return self.moving or self._entries[name].handed

    def _alerted(self, name: str) -> None:
        if name in self._entries:
            self._tell(self._entries[name])

    async def follow_alerts(self, name: str, who: str, after: int) -> tuple[str, list[AlertChange]]:
        """Wait for alerts that begin or are over, and return those with a number above ``after``.

        Parameters
        ----------
        name : str
        who : str
            Whose numbers those are, as it was returned before; of another one all are new. Empty: nothing is waited
            for, and the newest one is returned.
        after : int

        Returns
        -------
        str, list of AlertChange
            Whose numbers they have. Empty: the deployment is no more.

        Raises
        ------
        StoppedError
            If another server goes on with this.
        """
        while name in self.served:
            entry = self._entries[name]
            if entry.handed:
                raise StoppedError("Another server goes on with this.")
            observer = self.served[name].observer
            if not who:
                return observer.id, list(observer.changes)[-1:]
            changes = [change for change in observer.changes if observer.id != who or change.number > after]
            if changes:
                return observer.id, changes
            await entry.news.wait()
        return "", []

    async def drift(self, name: str, rows: int) -> DriftReport:
        """Judge the newest rows that the live version answered."""
        return await self._watcher.drift(name, self._find(name), rows=rows)

    def _tell(self, entry: _Entry) -> None:
        """Wake those who follow."""
        entry.news.set()
        entry.news = asyncio.Event()

    async def follow(self, name: str, canary: str, after: int) -> list[Change]:
        """Wait for changes that a canary makes, and return those with a number above ``after``.

        An empty list says that nobody here knows it.
        """
        while True:
            entry = self._entries.get(name)
            if entry is None:
                return []
            if entry.handed:
                raise StoppedError("Another server goes on with this.")
            if canary in entry.ended and entry.ended[canary].number > after:
                return [entry.ended[canary]]
            if entry.plan.canary is None or entry.plan.canary.id != canary:
                return []
            if changes := [change for change in entry.changes if change.number > after]:
                return changes
            await entry.news.wait()

    async def scale(self, name: str, replicas: int) -> None:
        """Have as many replica processes of each version that answers, whatever the load.

        It returns when those that are new are ready.

        Raises
        ------
        MlnbError
        """
        self._find(name)
        entry = self._entries[name]
        async with entry.lock:
            self._following.pause(name)
            try:
                await self._resize(name, replicas)
            except BaseException:
                self._following.resume(name)
                raise
            entry.plan = replace(entry.plan, autoscale=None)
            await self._following.forget(name)

    async def _resize(self, name: str, replicas: int) -> None:
        """Have as many replica processes of each version that answers; none: the next request waits for one.

        A deployment may change meanwhile, and more replicas may be asked for.
        """
        one, entry = self._find(name), self._entries[name]
        lines = list(one.service.lines.values())
        self._planned(entry, replicas)
        try:
            await _all(self._scale(one.service, line, replicas) for line in lines)
        except BaseException:  # those that could not be had are wanted no more; the others are to have no more of them
            fewest = min(line.pool.desired for line in lines)
            for line in lines:
                await self._scale(one.service, line, fewest)
            raise
        finally:
            self._planned(entry, one.service.live.pool.desired)
        pools = [line.pool for line in one.service.lines.values()]
        for pool in pools:
            share_cores(pool.replicas, versions=len(pools))

    def _planned(self, entry: _Entry, replicas: int) -> None:
        entry.plan = entry.plan.scaled(max(1, replicas))  # where there is none, all is ready to have one again
        entry.specs = {spec.version.number: spec for spec in entry.plan.specs}

    async def _scale(self, service: ModelService, line: Line, replicas: int) -> None:
        """Scale a line as long as it answers: a canary may be taken back meanwhile."""
        try:
            await line.pool.scale(replicas)
        except StoppedError:
            if line in service.lines.values():
                raise

    async def withdraw(self, name: str, *, within: float) -> bool:
        """Serve a name no more; say whether what was in flight was answered ``within`` as many seconds."""
        one = self.served.pop(name, None)
        if one is None:
            return True
        entry = self._entries[name]  # until its replicas have ended, so that their zygote lives on
        if one.observer.rollout is not None:
            one.observer.rollout.stop()
        self._following.pause(name)
        async with entry.lock:
            done = await one.service.close(within=within)
            await self._following.forget(name)
            if one.observer.mirror is not None:
                await one.observer.mirror.close()
            del self._entries[name]
        await self._recorders.rest([other.observer for other in self.served.values()])
        self._tell(entry)
        await self._rest()
        return done

    async def answer(self, name: str, query: Query) -> Answer:
        """Return the live version's answer.

        Raises
        ------
        MlnbError
        """
        one = self._find(name)
        query = query._replace(rows=_copied(query.rows))  # what is remembered must not change in the notebook
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def answered(outcome: Answer | MlnbError) -> None:
            if future.done():
                return
            if isinstance(outcome, MlnbError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome._replace(prediction=outcome.prediction.copy()))

        timeout = self._entries[name].plan.live.manner.timeout
        one.service.submit(
            query, timeout=timeout, received=time.perf_counter(), answered=answered, gone=future.cancelled
        )
        return await future

    async def move(self) -> None:
        """Learn that another server hands its deployments over."""
        self.moving = True

    async def snapshot(self, name: str) -> ServiceSnapshot:
        """Return metrics, replicas and traffic."""
        one = self._find(name)
        pool = one.service.live.pool
        return ServiceSnapshot(
            metrics=one.observer.monitor.snapshot(now=time.time()), replicas=pool.snapshot(), trouble=pool.last_end,
            traffic=self._traffic(one, self._entries[name]), alerts=one.observer.alerts.states(),
            log=None if one.observer.log is None else one.observer.log.state(), scaling=self._following.snapshot(name),
            service=pool.times.service(), startup=pool.startup,
        )  # fmt: skip

    def _traffic(self, one: Served, entry: _Entry) -> TrafficSnapshot:
        service, observer = one.service, one.observer
        counts = {
            number: VersionCount(*count)
            for number, count in observer.monitor.counts().items()
            if number in service.lines
        }
        return TrafficSnapshot(
            live=service.version.number, shares=service.shares, counts=counts,
            key=None if service.split is None else service.split.key,
            shadow=None if observer.mirror is None else _shadow_snapshot(observer.mirror),
            canary=None if observer.rollout is None else observer.rollout.snapshot(),
            last=next((change for change in entry.changes[-1:] if change.kind != "ended"), None),
        )  # fmt: skip

    async def scaling_record(self, name: str, since: float) -> tuple[ScalingDecision, ...]:
        """Return the first decisions on the number of replicas after a time; see :meth:`LoadFollowing.record`."""
        self._find(name)
        return self._following.record(name, since)

    async def hand(self, name: str) -> Handed:
        """Return what was observed so far; a canary decides nothing more here."""
        one = self._find(name)
        if one.observer.rollout is not None:
            one.observer.rollout.stop()
        entry = self._entries[name]
        entry.handed = True
        self._following.pause(name)
        self._tell(entry)
        end = time.monotonic() + _PATIENCE
        while one.service.in_flight and time.monotonic() < end:  # noqa: ASYNC110 - what is in flight is counted, too
            await asyncio.sleep(_SOON)
        return Handed(observed=pickle.dumps(one.observer.observed()), changes=entry.changes, ended=entry.ended)

    async def absorb(self, name: str, handed: Handed) -> None:
        """Go on from what was observed elsewhere."""
        if name not in self.served:
            return
        one, entry = self.served[name], self._entries[name]
        observed: Observed = pickle.loads(handed.observed)
        one.observer.absorb(observed)
        entry.changes, entry.ended = handed.changes, handed.ended | entry.ended
        rollout = one.observer.rollout
        if rollout is None:
            return
        if rollout.plan.id in handed.ended:
            entry.changes = [handed.ended[rollout.plan.id]]
            self._finish(name)
        elif observed.progress is not None:
            rollout.resume(observed.progress)
            one.service.split = _canary_split(entry.plan, rollout.share)

    async def moved(self) -> None:
        """Decide on canaries from now on: all that was known elsewhere is known here."""
        self.moving = False
        self._following.resume_all()
        for one in self.served.values():
            if one.observer.rollout is not None:
                one.observer.rollout.start()

    async def close(self, *, within: float) -> None:
        """Answer what is in flight ``within`` as many seconds, and end all replicas."""
        await asyncio.gather(*(self.withdraw(name, within=within) for name in list(self.served)))
        await self._watcher.stop()
        await self._following.close()
        self._recorders.close()
        await asyncio.gather(*self._tasks)
        await self._rest()

    async def _rest(self) -> None:
        """End what no deployment needs any more."""
        await self._lines.rest([spec for entry in self._entries.values() for spec in entry.plan.processed])

    async def _mirror(self, shadow: Shadow) -> Mirror:
        line = await self._lines.start(shadow.spec)
        comparison = Comparison(names=shadow.spec.version.signature.names)
        return Mirror(line, share=shadow.share, comparison=comparison, rng=self._rng)

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _all(coroutines: Iterable[Awaitable[None]]) -> None:
    """Do all at once, and raise the first failure when the others are over, too."""
    outcomes = await asyncio.gather(*coroutines, return_exceptions=True)
    if (failure := next(filter(None, outcomes), None)) is not None:
        raise failure


def _copied(rows: Any) -> Any:
    if isinstance(rows, list):
        return [row.copy() if hasattr(row, "copy") else row for row in rows]
    for copy in ("copy", "clone"):  # of numpy and pandas, of polars
        if hasattr(rows, copy):
            return getattr(rows, copy)()
    return rows


def _as_it_ended(plan: Plan, ended: Mapping[str, Change]) -> Plan:
    """Return a plan, or what its canary came to."""
    if plan.canary is None or plan.canary.id not in ended:
        return plan
    good = ended[plan.canary.id].kind == "promoted"
    return plan.alone(plan.canary.version if good else plan.live.version.number)


def _outputs(signatures: Sequence[Signature]) -> tuple[tuple[Any, ...] | None, str]:
    """Return the labels that any of several versions knows, and what they answer with."""
    known = [signature.labels for signature in signatures]
    labels = None if None in known else tuple(dict.fromkeys(label for labels in known for label in labels or ()))
    return labels, signatures[0].output


def _canary_split(plan: Plan, share: float) -> Split:
    """Return the split in which a plan's canary has a share, in percent."""
    assert plan.canary is not None  # noqa: S101 - for the type checker
    version = plan.live.version
    return Split.of({version.number: _ALL - share, plan.canary.version: share}, salt=version.name)


def _shadow_snapshot(mirror: Mirror) -> ShadowSnapshot:
    pool = mirror.line.pool
    return ShadowSnapshot(
        version=mirror.line.version.number, share=mirror.share, summary=mirror.comparison.summary(),
        replicas=pool.snapshot(), trouble=pool.last_end,
    )  # fmt: skip
