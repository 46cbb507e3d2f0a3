"""All that is learnt from the requests of one deployment, and told to whoever asks."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from mlnb.monitoring import ModelMonitor
from mlnb.monitoring.alerts import Alerts
from mlnb.monitoring.drift import RowSample
from mlnb.monitoring.metrics import WINDOWS
from mlnb.monitoring.outcomes import Outcomes
from mlnb.monitoring.quality.labelled import VERSIONS
from mlnb.monitoring.recent import RecentRequests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mlnb.events import PredictionEvent
    from mlnb.monitoring.alerts import AlertChange
    from mlnb.monitoring.comparison import Comparison
    from mlnb.monitoring.drift import DriftReport
    from mlnb.monitoring.metrics import Mark
    from mlnb.monitoring.notifying import Webhook
    from mlnb.monitoring.outcomes import Label
    from mlnb.monitoring.prediction_log import Logged, PredictionLog
    from mlnb.monitoring.quality import QualityReport
    from mlnb.registry.signature import Signature
    from mlnb.serving.canary import CanaryProgress
    from mlnb.serving.mirror import Mirror
    from mlnb.serving.rollout import Rollout

_CELLS = 500_000  # values of the requests that are kept
_log = logging.getLogger(__name__)

_AGE = 5.0  # seconds that a report on quality is good enough to be looked at
_PATIENCE = 2.0  # seconds that labels wait for the log
_MOST_SEEKING = 20  # labels that wait for it
_MARKS = 200  # on the time axis
_CHANGES = 1000  # of alerts

__all__ = ["Listener", "Observed", "Observer", "Remembered"]


class Listener(Protocol):
    """Somebody else who wants to know of each request: a trace, an access log."""

    def observe(self, events: Sequence[PredictionEvent]) -> None:
        """Take the requests of one turn of the loop."""
        ...


@dataclass(slots=True, kw_only=True)
class Observed:
    """What was learnt, as it goes to another process.

    Attributes
    ----------
    monitor : ModelMonitor
    outcomes : Outcomes
        Without the answers that wait for labels.
    rows : RowSample
    marks : list of Mark
    alerts : Alerts
    changes : list of AlertChange
    id : str
    drift : DriftReport or None
    comparison : Comparison or None
    progress : CanaryProgress or None
    """

    monitor: ModelMonitor
    outcomes: Outcomes
    rows: RowSample
    marks: list[Mark]
    alerts: Alerts
    changes: list[AlertChange]
    id: str
    drift: DriftReport | None = None
    comparison: Comparison | None = None
    progress: CanaryProgress | None = None


class Remembered(NamedTuple):
    """Requests that one server remembered, for another; newest first.

    Attributes
    ----------
    answers : list of (str, object)
        That wait for labels, by id.
    requests : list of PredictionEvent
    """

    answers: list[tuple[str, Any]]
    requests: list[PredictionEvent]


class Observer:
    """Listens to the predictions of one deployment, on its server's loop.

    Parameters
    ----------
    name : str
        Of the deployment.
    signature : Signature
        Of the live version: which labels there are.
    listeners : sequence of Listener
        Told of each request, too.

    Attributes
    ----------
    log : PredictionLog or None
        Writes requests and labels down.
    webhooks : tuple of Webhook
        Told of alerts.
    mirror : Mirror or None
        Gets a copy of what was answered.
    rollout : Rollout or None
        Decides on a canary by it.
    labelled : callable
        Called when labels came.
    id : str
        The numbers of alerts belong to it; it goes along when another server goes on.
    """

    def __init__(self, name: str, signature: Signature, *, listeners: Sequence[Listener] = ()) -> None:
        self.name = name
        self.monitor = ModelMonitor(numbers=_numbers(signature))
        self.outcomes = Outcomes(signature.labels, signature.output)
        self.recent = RecentRequests(_CELLS)
        self._signatures: dict[int, Signature] = {}
        self._live: tuple[int, ...] = ()
        self._quality: dict[str, tuple[float, tuple[QualityReport, ...]]] = {}
        self.rows = RowSample()
        self.marks: deque[Mark] = deque(maxlen=_MARKS)
        self.alerts = Alerts((), name=name)
        self.changes: deque[AlertChange] = deque(maxlen=_CHANGES)
        self.drift: DriftReport | None = None
        self.log: PredictionLog | None = None
        self.webhooks: tuple[Webhook, ...] = ()
        self.mirror: Mirror | None = None
        self.rollout: Rollout | None = None
        self.id = secrets.token_hex(8)
        self._turn, self._seeking = asyncio.Lock(), 0
        self.labelled: Callable[[], None] = _nobody
        self._listeners = tuple(listeners)

    def expect(self, signatures: Mapping[int, Signature]) -> None:
        """Learn which versions answer from now on, by number, the live one first."""
        self._live = tuple(signatures)
        before = {version: one for version, one in self._signatures.items() if version not in signatures}
        self._signatures = before | dict(reversed(list(signatures.items())))  # the live one is the newest
        while len(self._signatures) > VERSIONS:
            del self._signatures[next(iter(self._signatures))]
        self.monitor.numbers = _numbers(next(iter(signatures.values())))
        self.monitor.labels = _labels(signatures.values())
        widths = {_width(signature) for signature in signatures.values()}
        self.recent.width = widths.pop() if len(widths) == 1 else None

    @property
    def speaks_freely(self) -> bool:
        """Whether answers may be any text, which is for nobody but the person who runs the model."""
        return any(
            one.labels is None and one.output not in ("number", "cluster", "outlier")
            for one in self._signatures.values()
        )

    def observe(self, events: Sequence[PredictionEvent]) -> None:
        """Learn from the requests of one turn of the loop."""
        self.monitor.observe(events)
        self.recent.extend(events)
        self.outcomes.remember(events)
        self.rows.observe(events)
        if self.mirror is not None:
            self.mirror.observe(events)
        if self.rollout is not None:
            self.rollout.observe(events)
        if self.log is not None:
            self.log.put(events)
        for listener in self._listeners:
            listener.observe(events)

    async def label(self, labels: Sequence[Label]) -> int:
        """Take what became of requests, all of it or nothing; return how many.

        Requests that are not remembered any more are looked up in the log, where there is one.

        Raises
        ------
        MlnbError
        """
        log = self.log
        unknown = [] if log is None else self.outcomes.unknown([label.request_id for label in labels])
        if log is not None and unknown and self._seeking < _MOST_SEEKING:
            self._seeking += 1
            try:
                async with self._turn:  # one at a time, so that the threads are there for others
                    found = await asyncio.to_thread(_logged, log, self.name, unknown)
                    known = [one.label for one in found if one.label is not None]
                    self.outcomes.restore([one.event for one in found], known)
            finally:
                self._seeking -= 1
        count = self.outcomes.label(labels, at=time.time())
        self.labelled()
        if log is not None:
            log.put_labels(self.name, labels)
        return count

    def quality(self, window: str, *, now: float, age: float = 0.0) -> tuple[QualityReport, ...]:
        """Return how right each version was, by the labels that came in a window up to ``now``.

        What is worked out anew takes some milliseconds: reports may be as old as ``age`` seconds.
        """
        before = self._quality.get(window)
        if before is not None and 0 <= now - before[0] < age:
            return before[1]
        labelled, seconds = self.outcomes.labelled, WINDOWS[window]
        since = None if seconds is None else now - seconds
        versions = {*labelled.versions, *self._live}
        try:
            reports = tuple(
                labelled.report(version, window_name=window, since=since, labels=labels, output=output)
                for version in sorted(versions)
                for labels, output in [self._answers(version)]
            )
        except Exception:  # noqa: BLE001 - answers may be any objects, and all that is told of a server stands here
            _log.exception("The quality of %s could not be judged", self.name)
            reports = ()
        self._quality[window] = (now, reports)
        return reports

    def _answers(self, version: int) -> tuple[tuple[Any, ...] | None, str]:
        """Return the labels that a version knows, and what it answers with; of one in the log, as far as known."""
        known = self._signatures.get(version)
        if known is not None:
            return known.labels, known.output
        return None, next(reversed(self._signatures.values())).output if self._signatures else "any"

    def score(self, version: int, *, now: float) -> float | None:
        """Return the first measure of a version over all time, None without enough labels."""
        for report in self.quality("all time", now=now, age=_AGE):
            if report.version == version and report.measures:
                return report.measures[0].value
        return None

    def changed(self, changes: Sequence[AlertChange]) -> None:
        """Tell of alerts."""
        for change in changes:
            self.changes.append(change)
            for webhook in self.webhooks:
                webhook(change)

    def observed(self) -> Observed:
        """Return what was learnt so far."""
        return Observed(
            monitor=self.monitor, outcomes=self.outcomes.without_answers(), rows=self.rows, marks=list(self.marks),
            alerts=self.alerts, changes=list(self.changes), id=self.id, drift=self.drift,
            comparison=None if self.mirror is None else self.mirror.comparison,
            progress=None if self.rollout is None else self.rollout.progress,
        )  # fmt: skip

    def remembered(self, at: int, count: int) -> Remembered | None:
        """Return some of the requests that are remembered, from the ``at``-th newest on; None where there are none."""
        part = Remembered(self.outcomes.newest(at, count), self.recent.newest(at, count))
        return part if part.answers or part.requests else None

    def remember(self, part: Remembered) -> None:
        """Remember requests of before those that are known."""
        self.outcomes.prepend(part.answers)
        self.recent.prepend(part.requests)

    def absorb(self, observed: Observed) -> None:
        """Go on from what was learnt elsewhere."""
        self.monitor.absorb(observed.monitor)
        self.outcomes.join(observed.outcomes)
        self.rows.absorb(observed.rows)
        self.marks = deque([*observed.marks, *self.marks], maxlen=_MARKS)
        self.alerts.resume(observed.alerts)
        self.changes = deque([*observed.changes, *self.changes], maxlen=_CHANGES)
        self.drift = self.drift or observed.drift
        self.id = observed.id
        if self.mirror is not None and observed.comparison is not None:
            self.mirror.comparison = observed.comparison


def _logged(log: PredictionLog, name: str, request_ids: list[str]) -> list[Logged]:
    """Return requests that are in the log, unless it cannot be read just now."""
    from mlnb.monitoring.prediction_log import find

    if not log.state().failure:
        log.flush(timeout=_PATIENCE)
    try:
        return list(find(log.settings, name, request_ids).values())
    except OSError:
        return []


def _nobody() -> None:
    """Hear of labels and do nothing."""


def _labels(signatures: Iterable[Signature]) -> tuple[Any, ...] | None:
    """Return the classes that any of them knows; None where those of one are not known."""
    known = [signature.labels for signature in signatures]
    return None if None in known else tuple(dict.fromkeys(label for labels in known for label in labels or ()))


def _width(signature: Signature) -> int | None:
    """Return how many values a row has; None where some are text, or nothing is known."""
    known = signature.fields and not signature.shape
    return len(signature.fields) if known and all(one.kind != "text" for one in signature.fields) else None


def _numbers(signature: Signature) -> bool | None:
    """Return whether a model answers with numbers; None if that is not known."""
    return None if signature.output == "any" else signature.output == "number"
