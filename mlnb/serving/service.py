"""One deployment's answers: the versions that share its requests, changed between two of them."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from mlnb.errors import InvalidInputError, MlnbError, NotDeployedError, PredictionError, StoppedError
from mlnb.events import PredictionEvent
from mlnb.scaling.batching import Job
from mlnb.serving.traffic import key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np

    from mlnb.events import PredictionListener
    from mlnb.registry import ModelVersion
    from mlnb.registry.signature import Signature
    from mlnb.scaling.batching import Batch, Prediction
    from mlnb.scaling.pool import ReplicaPool
    from mlnb.serving.traffic import Split

__all__ = ["Answer", "Line", "ModelService", "Query", "not_live"]

_log = logging.getLogger(__name__)

_TABLES = ("array", "frame", "polars")
_ROWS = (list, dict)  # types of rows of which two lists make one
_ALIKE = tuple({kind} for kind in _ROWS)


class Query(NamedTuple):
    """Rows as they came, and what is asked about them.

    Attributes
    ----------
    rows : list, ndarray or table
        What :meth:`Signature.check` takes.
    probabilities : bool
    key : bytes
        What the body says that the request belongs to, for a split; empty if it says nothing.
    """

    rows: Any
    probabilities: bool = False
    key: bytes = b""

    def joins(self, signature: Signature) -> bool:
        """Say whether the rows may be in one list with those of other requests."""
        rows = self.rows
        if type(rows) is not list or signature.container not in _TABLES or not signature.plan.typed:
            return False
        return type(rows[0]) in _ROWS if len(rows) == 1 else {*map(type, rows)} in _ALIKE


class Answer(NamedTuple):
    """What one version said of a query.

    Attributes
    ----------
    prediction : ndarray
        ``(n, ...)``
    probabilities : ndarray or None
        ``(n, classes)``, when asked for.
    version : ModelVersion
    request_id : str
    seconds : float
        From the whole request to the answer.
    missing : tuple of str
        Members of an ensemble that failed, without which it answered.
    """

    prediction: np.ndarray[Any, Any]
    probabilities: np.ndarray[Any, Any] | None
    version: ModelVersion
    request_id: str
    seconds: float
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """A version with the replicas that answer for it."""

    version: ModelVersion
    pool: ReplicaPool


class _Asker:
    """One request, from when it is submitted until it is told."""

    __slots__ = ("answered", "parent", "received", "request_id", "service", "version")

    def __init__(
        self, service: ModelService, version: ModelVersion, answered: Callable[[Answer | MlnbError], None],
        received: float, request_id: str, parent: bytes,
    ) -> None:  # fmt: skip
        self.service = service
        self.parent = parent
        self.version = version
        self.answered = answered
        self.received = received
        self.request_id = request_id

    def failed(self, error: Prediction | BaseException) -> None:
        """Tell the error."""
        assert isinstance(error, BaseException)  # noqa: S101 - for the type checker: answers come in batches
        self.service.refuse(
            _told(error), received=self.received, answered=self.answered, version=self.version,
            request_id=self.request_id, parent=self.parent,
        )  # fmt: skip


class _Again:
    """A request that is asked again, for its probabilities: it is no request any more."""

    __slots__ = ("told",)

    def __init__(self, told: Callable[[np.ndarray[Any, Any] | None], None]) -> None:
        self.told = told

    def failed(self, _: Prediction | BaseException) -> None:
        """There are none."""
        self.told(None)


class ModelService:
    """Answers for one deployment, on its event loop.

    Parameters
    ----------
    line : Line
        The first version.
    listener : callable
        Given the :class:`~mlnb.events.PredictionEvent` of each request, those of one turn of the loop together. What
        it raises is logged.

    Attributes
    ----------
    live : Line
        The version that is live: alone, or with others that have a part of its requests.
    lines : dict of int to Line
        All that answer, by version number.
    split : Split or None
        Shares the requests out to them; None where the live one has all.
    traced : bool
        Whether somebody wants to know the header ``traceparent`` of requests.
    """

    def __init__(self, line: Line, *, listener: PredictionListener) -> None:
        self.live = line
        self.split: Split | None = None
        self.traced = False
        self.lines = {line.version.number: line}
        line.pool.answered = self._answered
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._events: list[PredictionEvent] = []
        self._random = random.Random()  # noqa: S311 - tells requests apart, keeps no secret

    @property
    def version(self) -> ModelVersion:
        """The live version."""
        return self.live.version

    @property
    def ready(self) -> bool:
        """Whether a replica is there to answer."""
        return self.live.pool.ready or self.live.pool.asleep

    @property
    def in_flight(self) -> int:
        """Requests that wait or are being answered."""
        return sum(line.pool.in_flight for line in self.lines.values())

    @property
    def shares(self) -> dict[int, float]:
        """The part of the requests that each version has, from 0 to 1."""
        return {self.version.number: 1.0} if self.split is None else self.split.shares

    def submit(
        self,
        query: Query,
        *,
        timeout: float,
        received: float,
        answered: Callable[[Answer | MlnbError], None],
        gone: Callable[[], bool],
        key: bytes = b"",
        number: int | None = None,
        parent: bytes = b"",
    ) -> None:
        """Let the live version answer, or the one that a split chooses.

        Parameters
        ----------
        query : Query
        timeout : float
            Seconds after which nobody waits any more.
        received : float
            When the request was whole, by ``time.perf_counter``.
        answered : callable
            Given the answer or the error, once; perhaps before this returns.
        gone : callable
            Says whether the client has left; then nothing is computed, and ``answered`` is not called.
        key : bytes
            What the request belongs to, for a split. Default: what the body says, else the request itself.
        number : int, optional
            The version to answer, whatever the split says.
        parent : bytes
            What the header ``traceparent`` says, where traces are on.
        """
        request_id = ""
        if number is not None and number not in self.lines:
            error = NotDeployedError(not_live(self.version.name, number, self.lines))
            self.refuse(error, received=received, answered=answered)
            return
        if number is not None:
            line = self.lines[number]
        elif self.split is None:
            line = self.live
        else:
            key = key or query.key or self._field_key(self.split, query)
            if not key:
                request_id = self._request_id()
            line = self.lines[self.split.choose(key or request_id.encode())]
        version = line.version
        if query.probabilities and not version.signature.probabilities:
            self.refuse(
                InvalidInputError(f"{version.model_type} gives no probabilities; leave 'probabilities' out."),
                received=received, answered=answered, version=version,
            )  # fmt: skip
            return

        rows = query.rows
        count = len(rows) if hasattr(rows, "__len__") else 1
        asker = _Asker(self, version, answered, received, request_id, parent)
        job = Job(
            rows, count, query.probabilities, self._loop.time() + timeout, asker.failed, gone, asker,
            alone=not query.joins(version.signature),
        )  # fmt: skip
        try:
            line.pool.submit(job)
        except MlnbError as error:
            asker.failed(error)

    def _answered(self, jobs: Sequence[Job], prediction: Prediction, batch: Batch) -> None:
        """Tell all those of a batch: one loop, because tens of thousands are told in a second."""
        values, probabilities, missing = prediction
        if len(jobs) == 1:
            jobs[0].count = len(values)  # the model knows better than the one who asked
        now, clock, bits = time.time(), time.perf_counter(), self._random.getrandbits
        version = self.version if type(jobs[0].asker) is _Again else jobs[0].asker.version
        name, number = version.name, version.number
        replica, rows, started = batch
        start = 0
        for job in jobs:
            end = start + job.count
            if job.told:  # that it was too late
                start = end
                continue
            asker = job.asker
            if type(asker) is _Again:
                asker.told(None if probabilities is None else probabilities[start:end])
                start = end
                continue
            request_id = asker.request_id or f"{bits(48):012x}"
            seconds = clock - asker.received
            own = values[start:end]
            part = None if probabilities is None else probabilities[start:end]
            waited = started - asker.received
            self._note(
                PredictionEvent(
                    name,
                    number,
                    request_id,
                    now,
                    seconds,
                    job.count,
                    200,
                    None,
                    job.rows,
                    own,
                    replica,
                    waited,
                    rows,
                    part,
                    asker.parent,
                )
            )
            asker.answered(Answer(own, part, version, request_id, seconds, missing))
            start = end

    def ask_again(
        self, number: int, rows: Any, count: int, told: Callable[[np.ndarray[Any, Any] | None], None]
    ) -> None:
        """Ask a version for the probabilities of rows that it has answered; ``told`` gets them, or None, once.

        They are a batch of their own, and nobody's request.
        """
        asker = _Again(told)
        job = Job(
            rows,
            count,
            probabilities=True,
            deadline=self._loop.time() + self.live.pool.timeout,
            done=asker.failed,
            gone=lambda: False,
            asker=asker,
            alone=True,
        )
        try:
            self.lines[number].pool.submit(job)
        except MlnbError as error:
            job.tell(error)

    def refuse(
        self,
        error: MlnbError,
        *,
        received: float,
        answered: Callable[[Answer | MlnbError], None],
        version: ModelVersion | None = None,
        request_id: str = "",
        parent: bytes = b"",
    ) -> None:
        """Answer with an error, and count it."""
        version = version or self.version
        request_id = request_id or self._request_id()
        error.details.setdefault("request_id", request_id)
        seconds = time.perf_counter() - received
        self._note(
            PredictionEvent(
                version.name,
                version.number,
                request_id,
                time.time(),
                seconds,
                0,
                error.status,
                _reason(error),
                parent=parent,
            )
        )
        answered(error)

    def route(self, live: Line, others: Sequence[Line] = (), *, split: Split | None = None) -> list[Line]:
        """Let these versions answer from the next request on; return the lines that answer no more, to be drained.

        Parameters
        ----------
        live : Line
            Ready.
        others : sequence of Line
            Ready, too.
        split : Split, optional
            Over the numbers of all of them. Default: the live one has all requests.
        """
        before, self.lines = self.lines, {line.version.number: line for line in (live, *others)}
        self.live, self.split = live, split
        for line in self.lines.values():
            line.pool.answered = self._answered
        return [line for line in before.values() if line not in self.lines.values()]

    def take_over(self, line: Line) -> None:
        """Let the live version answer what waits for another one and is not begun; their signatures must fit."""
        for job in line.pool.give_up_waiting():
            if type(job.asker) is _Again:
                job.tell(StoppedError("This version answers no more."))
                continue
            former, job.asker.version = job.asker.version, self.version
            job.alone |= not Query(job.rows, job.probabilities).joins(self.version.signature)
            try:
                self.live.pool.submit(job)
            except MlnbError:  # it has too much to do
                job.asker.version = former
                line.pool.enqueue(job)

    async def close(self, *, within: float) -> bool:
        """Answer what is queued and take no more; say whether that was done ``within`` as many seconds.

        What was not gets a StoppedError.
        """
        done = await asyncio.gather(*(line.pool.drain(within=within) for line in self.lines.values()))
        self._tell()
        return all(done)

    def _field_key(self, split: Split, query: Query) -> bytes:
        """Return the key that the split's field has in the first row, empty if there is none."""
        names = self.version.signature.names
        if split.key is None or split.key not in names:
            return b""
        return key_of(query.rows, split.key, names.index(split.key)) or b""

    def _request_id(self) -> str:
        return f"{self._random.getrandbits(48):012x}"

    def _note(self, event: PredictionEvent) -> None:
        if not self._events:
            self._loop.call_soon(self._tell)
        self._events.append(event)

    def _tell(self) -> None:
        events, self._events = self._events, []
        if not events:
            return
        try:
            self._listener(events)
        except Exception:  # noqa: BLE001 - a listener is somebody else's code
            _log.exception("A listener failed on predictions of %s", events[0].model)


def not_live(name: str, number: int | str, live: Iterable[int]) -> str:
    """Say that a version is not live, and which are."""
    numbers = sorted(live)
    there = f"version {numbers[0]} is" if len(numbers) == 1 else f"versions {' and '.join(map(str, numbers))} are"
    return f"Version {number} of {name!r} is not live; {there}."


def _told(error: BaseException) -> MlnbError:
    """Return the error that a client is told; what nobody foresaw is the model's."""
    if isinstance(error, MlnbError):
        return error
    wrapped = PredictionError(f"{type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


def _reason(error: MlnbError) -> str:
    """Return the reason for the person who runs the model."""
    text = error.reason if isinstance(error, PredictionError) else error.message
    return " ".join(text.split())[:300]
