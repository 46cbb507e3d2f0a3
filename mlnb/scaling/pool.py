"""The replicas of one version and the requests that wait for them; all of it on one event loop."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from mlnb.errors import DeadlineError, InvalidInputError, OverloadedError, PredictionError, StoppedError
from mlnb.scaling.backoff import Backoff
from mlnb.scaling.batching import Admission, Batch, PredictTimes, answer_each, take_batch

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from mlnb.registry.signature import Signature
    from mlnb.scaling.balancing import Policy
    from mlnb.scaling.batching import Job, Prediction
    from mlnb.scaling.replicas import Replica

__all__ = ["PoolReading", "ReplicaPool", "ReplicaSnapshot"]

_log = logging.getLogger(__name__)

_TICK = 0.05  # seconds between two looks at who waits too long
_MANY = 50_000  # values from which a batch is checked on another thread, so that the loop goes on
_LACKING = 8  # jobs by themselves that a member failed on, after which it is taken to be down
_CRASHES = 2  # replicas that may end with one request


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSnapshot:
    """One replica at one moment.

    Attributes
    ----------
    key : int
        Its number, from 1; never given twice.
    state : {'ready', 'starting', 'waiting', 'leaving'}
        ``waiting``: it ended again and again, so the next start waits a little.
    pid : int or None
        None in the kernel.
    batches, rows : int
        Answered.
    in_flight : int
        Batches it works on.
    note : str
        Why it starts anew, "" if it does not.
    """

    key: int
    state: Literal["ready", "starting", "waiting", "leaving"]
    pid: int | None = None
    batches: int = 0
    rows: int = 0
    in_flight: int = 0
    note: str = ""


class PoolReading(NamedTuple):
    """What a pool did so far, and how it is.

    Attributes
    ----------
    requests, answered : int
        That arrived, those that were refused too, and that the model answered.
    busy : float
        Seconds that replicas worked, added up.
    present : float
        Seconds that requests waited or were being answered, added up.
    crashes : int
        Replicas that ended by themselves.
    waiting : int
        Requests, now.
    queue_wait : float or None
        Seconds that a request which arrives now waits, as estimated.
    desired, ready, starting, leaving : int
        Replicas.
    pids : tuple of int
        Of the processes of those that are ready.
    times : PredictTimes
    """

    requests: int
    answered: int
    busy: float
    present: float
    crashes: int
    waiting: int
    queue_wait: float | None
    desired: int
    ready: int
    starting: int
    leaving: int
    pids: tuple[int, ...]
    times: PredictTimes


def _nothing() -> None:
    """Do nothing."""


@dataclass(slots=True, eq=False)
class _Running:
    """A batch that a replica works on."""

    jobs: list[Job]
    rows: int
    since: float
    replica: Replica


@dataclass(slots=True, eq=False)
class _Count:
    batches: int = 0
    rows: int = 0


class ReplicaPool:
    """Shares batches out to replicas, replaces those that end, and tells those that wait.

    While all replicas are busy, requests that arrive join the next batch; an idle one starts at once. Several idle ones
    share what waits, where rows take long.

    Parameters
    ----------
    signature : Signature
    start : callable
        Given the number of a replica and the pool's PredictTimes, starts it; awaited until it is ready.
    policy : Policy
        Chooses among the idle replicas.
    rng : Random
    timeout : float
        Seconds that a prediction may take; a replica that takes longer hangs, and is replaced.

    Attributes
    ----------
    answered : callable
        Given the jobs of a batch, its answer and the :class:`~mlnb.scaling.batching.Batch`. Default: gives each job its
        part by ``done``.
    crashes : int
        Replicas that ended by themselves.
    wake : callable
        Called, again and again, while requests wait and no replica is desired. Default: nothing.
    """

    def __init__(
        self, signature: Signature, *, start: Callable[[int, PredictTimes], Awaitable[Replica]], policy: Policy,
        rng: random.Random, timeout: float,
    ) -> None:  # fmt: skip
        self.signature = signature
        self.times = PredictTimes()
        self.desired = 0
        self.last_end = ""
        self.crashes = 0
        self.startup: float | None = None
        self.answered: Callable[[list[Job], Prediction, Batch], None] = answer_each
        self.wake: Callable[[], None] = _nothing
        self._start = start
        self._policy = policy
        self._rng = rng
        self.timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._admission = Admission()
        self._backoff = Backoff()
        self._waiting: deque[Job] = deque()
        self._waiting_rows = 0
        self._running: dict[Replica, _Running] = {}
        self._idle: list[Replica] = []
        self._leaving: set[Replica] = set()
        self._starting: dict[int, tuple[Literal["starting", "waiting"], str]] = {}
        self._counts: dict[int, _Count] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._next_key = 1
        self._pump_due = False
        self._ticking: asyncio.TimerHandle | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._answered_at, self._answered_jobs = 0.0, 0  # the last batch that was answered
        self._lacking = 0  # jobs by themselves in a row that a member of an ensemble failed on
        self._requests = self._requests_answered = 0
        self._busy = self._present = 0.0  # seconds of replicas that worked; of requests that waited or were answered
        self._queued, self._queued_at = 0, 0.0  # requests that waited, and since when these
        self._wakes = False  # those who wait do so for the first replica
        self._more = False  # replicas may come
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._closed = False
        self._unanswered = False  # those who waited when it was closed, as no replica started

    @property
    def replicas(self) -> list[Replica]:
        """Those that are ready."""
        return [*self._idle, *(replica for replica in self._running if replica not in self._leaving)]

    @property
    def ready(self) -> bool:
        """Whether a replica is there to answer."""
        return bool(self._idle or self._running)

    @property
    def asleep(self) -> bool:
        """Whether no replica is wanted until a request comes."""
        return not self.desired and not self._closed

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        """Requests that wait or are being answered."""
        return len(self._waiting) + sum(len(running.jobs) for running in self._running.values())

    # ---- requests ----

    def submit(self, job: Job) -> None:
        """Let a job wait for the next replica that is free; its ``done`` is called later.

        Raises
        ------
        OverloadedError, StoppedError
        """
        if self._closed:
            raise StoppedError("The model was stopped.")
        self._requests += 1
        if self._waiting_rows > self.times.most_rows:  # else the next batch takes them all
            refusal = self._admission.refusal(
                now=self._loop.time(), waiting=self._waiting_rows, rows=job.count, times=self.times,
                replicas=0 if self._wakes or not self.desired else max(1, len(self._idle) + len(self._running)),
                more=self._more,
            )  # fmt: skip
            if refusal is not None:
                raise OverloadedError(
                    f"The model has more to do than it can: {refusal.reason}. Try again later.",
                    retry_after=refusal.retry_after,
                )
        self.enqueue(job)

    def enqueue(self, job: Job) -> None:
        """Let a job wait here, however many do."""
        self._waiting.append(job)
        self._waiting_rows += job.count
        self._quiet.clear()
        self._pump_soon()

    def give_up_waiting(self) -> list[Job]:
        """Return what waits and is not begun, for others to answer."""
        jobs = [job for job in self._waiting if not job.told]
        self._waiting.clear()
        self._waiting_rows = 0
        self._queues()
        self._rested()
        return jobs

    def _pump_soon(self) -> None:
        """Form a batch when this turn of the loop is over: what else has arrived in it joins."""
        if not self._pump_due:
            self._pump_due = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_due = False
        while self._waiting and self._idle:
            if self._lingers():
                break
            self._answered_jobs = 0
            jobs = [job for job in self._take() if not job.told and not job.gone()]
            if jobs:
                self._dispatch(jobs)
        if not self._waiting:
            self._rested()
        elif not self.desired:
            self._call_one()
        if self._waiting or self._queued:
            self._queues()
        if (self._waiting or self._running) and self._ticking is None:
            self._ticking = self._loop.call_later(_TICK, self._tick)

    def _call_one(self) -> None:
        """Have a replica come for those who wait, as none is desired."""
        self._wakes = True
        if self._closed:  # those who decide on it have gone
            self.desired = 1
            self._spawn(self._start_last())
        else:
            self.wake()

    def _queues(self) -> None:
        """Count how long requests waited."""
        now = perf_counter()
        self._present += self._queued * (now - self._queued_at)
        self._queued, self._queued_at = len(self._waiting), now

    def _lingers(self) -> bool:
        """Say whether those who were just answered are worth waiting for, a moment long; see PredictTimes.linger."""
        if len(self._waiting) >= self._answered_jobs:
            return False
        rest = self._answered_at + self.times.linger - self._loop.time()
        if rest <= 0:
            return False
        if self._lingering is None:
            self._lingering = self._loop.call_later(rest, self._lingered)
        return True

    def _lingered(self) -> None:
        self._lingering = None
        self._answered_jobs = 0
        self._pump_soon()

    def _take(self) -> list[Job]:
        idle = len(self._idle)
        most = self.times.most_rows if idle == 1 else self.times.share(self._waiting_rows, replicas=idle)
        jobs = take_batch(self._waiting, most=most)
        self._waiting_rows -= sum(job.count for job in jobs)
        return jobs

    def _dispatch(self, jobs: list[Job]) -> None:
        replica = self._policy.choose(self._idle, rng=self._rng) if len(self._idle) > 1 else self._idle[0]
        rows = sum(job.count for job in jobs)
        given = jobs[0].rows if len(jobs) == 1 else [row for job in jobs for row in job.rows]
        self._idle.remove(replica)
        running = self._running[replica] = _Running(jobs, rows, perf_counter(), replica)
        if rows * max(1, len(self.signature.fields)) >= _MANY:
            self._spawn(self._check_elsewhere(running, given))
            return
        try:
            checked = self.signature.check(given)
        except Exception as error:  # noqa: BLE001 - the one who sent the row gets it
            self._refused(running, error)
        else:
            self._run(running, checked)

    async def _check_elsewhere(self, running: _Running, given: Any) -> None:
        try:
            checked = await asyncio.to_thread(self.signature.check, given)
        except Exception as error:  # noqa: BLE001 - the one who sent the row gets it
            self._refused(running, error)
        else:
            if self._running.get(running.replica) is running:
                self._run(running, checked)

    def _run(self, running: _Running, checked: Any) -> None:
        if len(running.jobs) == 1:
            running.rows = len(checked[0].data if type(checked) is list else checked)
        started = perf_counter()

        def done(outcome: Prediction | BaseException) -> None:
            self._finished(running, outcome, started)

        running.replica.run(checked, running.rows, probabilities=running.jobs[0].probabilities, done=done)

    def _refused(self, running: _Running, error: Exception) -> None:
        """Say so to those whose rows do not fit; the others are the next batch."""
        if self._running.get(running.replica) is not running:
            return  # given up meanwhile
        try:
            if len(running.jobs) == 1:
                running.jobs[0].tell(error)
                return
            fitting = [job for job in running.jobs if self._fits(job)]
            self._again(fitting, alone=len(fitting) == len(running.jobs))
        finally:
            self._release(running)

    def _fits(self, job: Job) -> bool:
        try:
            self.signature.check(job.rows)
        except Exception as error:  # noqa: BLE001 - the one who sent the row gets it
            job.tell(error)
            return False
        return True

    def _finished(self, running: _Running, outcome: Prediction | BaseException, started: float) -> None:
        if self._running.get(running.replica) is not running:
            return  # given up meanwhile
        count = self._counts[running.replica.key]
        try:
            if isinstance(outcome, BaseException):
                self._failed(running, outcome)
                return
            if count.batches:  # a replica's first one takes what it has never done before
                self.times.observe(running.rows, perf_counter() - started)
            if self._spoilt(running, outcome):
                self._again(running.jobs)
                return
            self._requests_answered += len(running.jobs)
            count.batches += 1
            count.rows += running.rows
            self._answered_at, self._answered_jobs = self._loop.time(), len(running.jobs)
            self.answered(running.jobs, outcome, Batch(running.replica.key, running.rows, started))
        finally:
            self._release(running)

    def _spoilt(self, running: _Running, prediction: Prediction) -> bool:
        """Say whether jobs may lack a member of an ensemble only because another one's row made it fail.

        They are asked again one by one then, unless it failed on all of the last ones that were.
        """
        if not prediction.missing:
            self._lacking = 0
        elif len(running.jobs) == 1:
            self._lacking += 1
        return bool(prediction.missing) and len(running.jobs) > 1 and self._lacking < _LACKING

    def _failed(self, running: _Running, error: BaseException) -> None:
        if isinstance(error, PredictionError) and len(running.jobs) > 1:
            self._again(running.jobs)  # one by one, so that the row it failed on fails alone
            return
        for job in running.jobs:
            job.tell(error)

    def _again(self, jobs: list[Job], *, alone: bool = True) -> None:
        for job in jobs:
            job.alone = alone
        self._waiting.extendleft(reversed(jobs))
        self._waiting_rows += sum(job.count for job in jobs)
        self._quiet.clear()
        self._pump_soon()

    def _release(self, running: _Running) -> None:
        """Let the replica of a batch go on; after those who asked were told, who are the ones in a hurry."""
        replica = running.replica
        self._worked(running)
        if replica in self._leaving:
            self._dismiss(replica)
        else:
            self._idle.append(replica)
        if self._waiting:
            self._pump_soon()
        else:
            self._rested()

    def _worked(self, running: _Running) -> None:
        del self._running[running.replica]
        seconds = perf_counter() - running.since
        self._present += len(running.jobs) * seconds
        if running.jobs:
            self._busy += seconds

    def _rested(self) -> None:
        self._admission.emptied(self._loop.time())
        if not self._running:
            self._quiet.set()

    def _tick(self) -> None:
        """Tell those whose time is over, and give up replicas that hang."""
        self._ticking = None
        now = self._loop.time()
        late = [job for job in self._waiting if job.deadline <= now]
        if late:
            gone = set(map(id, late))
            self._waiting = deque(job for job in self._waiting if id(job) not in gone)
            self._waiting_rows -= sum(job.count for job in late)
            for job in late:
                job.tell(DeadlineError("The request waited past its deadline, and was not computed."))
        for running in list(self._running.values()):
            if perf_counter() - running.since > self.timeout:
                self._hangs(running)
                continue
            for job in running.jobs:
                if job.deadline <= now:
                    job.tell(DeadlineError("The model had not answered at the request's deadline."))
        self._pump_soon()

    def _hangs(self, running: _Running) -> None:
        replica = running.replica
        self._worked(running)
        self._leaving.discard(replica)
        message = f"predict did not end within {self.timeout:g} s"
        for job in running.jobs:
            job.tell(DeadlineError(f"The model did not answer within {self.timeout:g} s."))
        replica.stop()
        self._replace(replica, message)

    # ---- replicas ----

    async def scale(self, count: int) -> None:
        """Have ``count`` replicas: return when those that are new are ready; those too many finish what they do.

        More can be asked for while others start. Where one of those that are new does not start, none of them stays.

        Raises
        ------
        MlnbError
            If one cannot be started.
        """
        if count < 0:
            raise InvalidInputError(f"{count} replicas: a whole number from 0 is needed.")
        if self._closed:
            raise StoppedError("These replicas answer no more.")
        self.desired = count
        keys = [self._announce() for _ in range(count - self._size)]
        tasks = [self._spawn(self._add(key)) for key in keys]
        while self._size > count:
            self._dismiss_one()
        if self._waiting:
            self._pump_soon()
        if tasks:
            try:
                await asyncio.gather(*tasks)
            except BaseException:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                self._undo(keys)
                if self._closed:
                    raise StoppedError("These replicas answer no more.") from None
                raise

    def _undo(self, keys: list[int]) -> None:
        """Want as many fewer as there are of these, come or announced; not those that were too many meanwhile."""
        there = {replica.key for replica in self.replicas}
        undone = sum(self._starting.pop(key, None) is not None or key in there for key in keys)
        self.desired = max(0, self.desired - undone)
        while self._size > self.desired:
            self._dismiss_one()

    @property
    def _size(self) -> int:
        staying = sum(replica not in self._leaving for replica in self._running)
        return len(self._idle) + staying + len(self._starting)

    def _announce(self, *, waits: str = "") -> int:
        """Return the number of a replica that is to start, at once or after it ``waits``."""
        key, self._next_key = self._next_key, self._next_key + 1
        self._starting[key] = ("waiting", waits) if waits else ("starting", self.last_end)
        return key

    async def _add(self, key: int) -> None:
        """Start a replica that was announced; it stays announced if that fails."""
        began = perf_counter()
        replica = await self._start(key, self.times)
        self.startup = perf_counter() - began
        self._starting.pop(key, None)
        if self._size >= self.desired:
            replica.stop()
            return
        self._counts[key] = _Count()
        self._idle.append(replica)
        if self._wakes:
            self._wakes = False
            self._forgive()
        self._pump_soon()

    def _forgive(self) -> None:
        """Let what waits be a burst: it could not be answered before, and now it can."""
        wait = self.times.wait(self._waiting_rows, replicas=self.desired)
        self._admission.woken(self._loop.time(), wait=wait)

    def expect(self, *, more: bool) -> None:
        """Learn whether more replicas may come: then requests wait for them instead of being refused."""
        if self._more and not more and self._waiting:
            self._forgive()
        self._more = more

    def suspend(self, replica: Replica) -> None:
        """Give a replica nothing more to do: it has ended by itself, and :meth:`lost` will say why."""
        if replica in self._idle:
            self._idle.remove(replica)
            self._running[replica] = _Running([], 0, perf_counter(), replica)

    def lost(self, replica: Replica, reason: str) -> None:
        """Learn that a replica ended by itself; another takes its place, and what it worked on."""
        if replica in self._idle:
            self._idle.remove(replica)
        elif replica in self._running:
            running = self._running[replica]
            self._worked(running)
            self._retry(running.jobs, reason)
        else:
            return  # stopped by us
        if replica in self._leaving:
            self._leaving.discard(replica)
            self._counts.pop(replica.key, None)
            self._pump_soon()
            return
        self._replace(replica, reason)

    def _retry(self, jobs: list[Job], reason: str) -> None:
        for job in jobs:
            job.crashes += 1
            if job.crashes >= _CRASHES:
                job.tell(PredictionError(reason))
        self._again([job for job in jobs if job.crashes < _CRASHES])

    def _replace(self, replica: Replica, reason: str) -> None:
        self._counts.pop(replica.key, None)
        self.last_end = reason
        self.crashes += 1
        _log.warning("Replica %s ended: %s", replica.key, reason)
        if self._waiting or not self._closed:
            self._spawn(self._restart(reason))
        self._pump_soon()

    async def _restart(self, reason: str) -> None:
        """Start a replica in the place of one that ended; again, ever later, while that fails."""
        while self._size < self.desired:
            wait = self._backoff.ended(self._loop.time())
            if wait:
                await self._wait_to_start(wait, reason)
                if self._size >= self.desired:
                    return
            reason = await self._try_to_add()
            if not reason:
                return

    async def _try_to_add(self) -> str:
        """Start a replica, and return why that failed, "" if it did not."""
        key = self._announce()
        try:
            await self._add(key)
        except Exception as error:  # noqa: BLE001 - it is tried again or given up, and shown
            self.last_end = f"{type(error).__name__}: {error}"
            _log.warning("A replica did not start: %s", self.last_end)
            return self.last_end
        finally:
            self._starting.pop(key, None)
        return ""

    async def _start_last(self) -> None:
        """Start a replica for those who wait, or tell them that it cannot be."""
        reason = await self._try_to_add()
        if reason:
            self._unanswered = True
            for job in self.give_up_waiting():
                job.tell(StoppedError(f"The model was stopped before it answered: no replica started, {reason}"))
            self.desired = 0

    async def _wait_to_start(self, seconds: float, reason: str) -> None:
        key = self._announce(waits=f"{reason}; the next start is in {seconds:g} s")
        try:
            await asyncio.sleep(seconds)
        finally:
            self._starting.pop(key, None)

    def _dismiss_one(self) -> None:
        """Let the newest replica go, one that is not ready yet first, then an idle one."""
        if self._starting:
            self._starting.popitem()  # what is on its way sees that it is too many
        elif self._idle:
            self._dismiss(max(self._idle, key=lambda replica: replica.key))
        else:
            busy = (replica for replica in self._running if replica not in self._leaving)
            self._leaving.add(max(busy, key=lambda replica: replica.key))

    def _dismiss(self, replica: Replica) -> None:
        self._leaving.discard(replica)
        if replica in self._idle:
            self._idle.remove(replica)
        self._counts.pop(replica.key, None)
        replica.stop()

    # ---- the end ----

    async def drain(self, *, within: float) -> bool:
        """Answer what waits and take no more; say whether that was done ``within`` as many seconds.

        Where there is no replica for what waits, one is started. What was not answered gets a StoppedError.
        """
        self._closed = True
        self._pump_soon()
        try:
            await asyncio.wait_for(self._quiet.wait(), within)
        except TimeoutError:
            pass
        finally:
            done = not self._waiting and not self._running and not self._unanswered
            self._end()
        return done

    def _end(self) -> None:
        self._closed = True
        self.desired = 0
        for task in self._tasks:
            task.cancel()
        for timer in (self._ticking, self._lingering):
            if timer is not None:
                timer.cancel()
        jobs = [*self._waiting, *(job for running in self._running.values() for job in running.jobs)]
        replicas = [*self._idle, *self._running]
        self._waiting.clear()
        self._running.clear()
        self._idle.clear()
        self._starting.clear()
        for job in jobs:
            job.tell(StoppedError("The model was stopped before it answered."))
        for replica in replicas:
            replica.stop()

    def reading(self) -> PoolReading:
        """Return what was done so far; costs a few microseconds."""
        now, busy = perf_counter(), self._busy
        present = self._present + self._queued * (now - self._queued_at)
        for running in self._running.values():
            seconds = now - running.since
            present += len(running.jobs) * seconds
            busy += seconds if running.jobs else 0.0
        replicas, rows = self.replicas, self._waiting_rows
        wait = self.times.wait(rows, replicas=len(replicas)) if self.times.count else None
        return PoolReading(
            requests=self._requests, answered=self._requests_answered, busy=busy, present=present, crashes=self.crashes,
            waiting=len(self._waiting), queue_wait=wait if rows else 0.0, desired=self.desired, ready=len(replicas),
            starting=len(self._starting), leaving=len(self._leaving),
            pids=tuple(replica.pid for replica in replicas if replica.pid is not None), times=self.times,
        )  # fmt: skip

    def snapshot(self) -> tuple[ReplicaSnapshot, ...]:
        """Return the replicas, by number."""
        ready = [
            ReplicaSnapshot(
                key=replica.key, state="leaving" if replica in self._leaving else "ready", pid=replica.pid,
                batches=self._counts[replica.key].batches, rows=self._counts[replica.key].rows,
                in_flight=replica.in_flight,
            )
            for replica in (*self._idle, *self._running)
        ]  # fmt: skip
        coming = [ReplicaSnapshot(key=key, state=state, note=note) for key, (state, note) in self._starting.items()]
        return tuple(sorted(ready + coming, key=lambda one: one.key))

    def _spawn(self, coroutine: Any) -> asyncio.Task[Any]:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
