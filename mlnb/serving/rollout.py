"""A canary under way: what happens to it is counted, and decided upon many times a second, on the server's own loop."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mlnb.monitoring.guards import Drift, Evidence, judge
from mlnb.serving.canary import CanaryProgress, decide

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlnb.events import PredictionEvent
    from mlnb.monitoring.guards import Guard, GuardReading
    from mlnb.monitoring.outcomes import Outcomes
    from mlnb.serving.canary import CanaryDecision, CanaryPlan
    from mlnb.serving.mirror import Mirror

__all__ = ["CanarySnapshot", "Change", "Rollout"]

_TICK = 0.1  # seconds between two decisions
_WINDOW = 250  # requests after which a step counts anew as well: what was good long ago must not hide what is bad now
_SAMPLE = 2000  # answers of each version that are kept to compare
_SERVER = 500  # the first status that is the server's fault
_LATE, _IMPATIENT = 504, 1.0  # status, and seconds: who waits less than that has to blame nobody else


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a canary came to.

    Attributes
    ----------
    number : int
        From 1.
    kind : {'advanced', 'promoted', 'taken back', 'ended'}
        ``ended``: by somebody else's decision, or with its server.
    version : int
    share : float
        That it has, or had at the end, in percent.
    at : float
        Seconds since the epoch.
    reason : str
    """

    number: int
    kind: Literal["advanced", "promoted", "taken back", "ended"]
    version: int
    share: float
    at: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CanarySnapshot:
    """A canary at one moment.

    Attributes
    ----------
    plan : CanaryPlan
    step : int
        From 0.
    seconds : float
        Since the step began.
    requests : int
        That the canary answered in this step.
    readings : tuple of GuardReading
    note : str
        What it waits for.
    """

    plan: CanaryPlan
    step: int
    seconds: float
    requests: int
    readings: tuple[GuardReading, ...]
    note: str


class Rollout:
    """Decides on a canary.

    Parameters
    ----------
    plan : CanaryPlan
    live : int
        The version that is live meanwhile.
    outcomes : Outcomes
        Labels that come back.
    decided : callable
        Given each decision other than to hold, at once.
    """

    def __init__(
        self, plan: CanaryPlan, *, live: int, outcomes: Outcomes, decided: Callable[[CanaryDecision], None]
    ) -> None:
        self.plan = plan
        self._live = live
        self._outcomes = outcomes
        self._mirror: Mirror | None = None
        self._compared = (0, 0)  # rows, before the canary began; at 100 % there are none to compare any more
        self._decided = decided
        self._loop = asyncio.get_running_loop()
        self.progress = CanaryProgress(0, self._loop.time())
        self._limits = {name: getattr(plan.guard, name) for name in ("p95", "p99") if getattr(plan.guard, name)}
        self._answers: dict[int, deque[Any]] = {plan.version: deque(maxlen=_SAMPLE), live: deque(maxlen=_SAMPLE)}
        self._note, self._readings = "", judge(plan.guard, Evidence())
        self._windows = 0  # begun so far
        self._begin_step()
        self._ticking: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Decide from now on. Again is harmless."""
        if self._ticking is None:
            self._ticking = self._loop.call_later(_TICK, self._tick)

    @property
    def share(self) -> float:
        """Of the requests, in percent."""
        return self.plan.steps[self.progress.step]

    def observe(self, events: Sequence[PredictionEvent]) -> None:
        """Count what was answered, and decide at once where a request failed."""
        failed = False
        for event in events:
            if event.version == self.plan.version and (event.error is None or event.status >= _SERVER):
                failed |= event.error is not None
                self._count(event)
            if self.plan.guard.drift is not None and event.prediction is not None and event.version in self._answers:
                self._answers[event.version].extend(_sortable(event.prediction))
        if failed:
            self._decide()

    def watch(self, mirror: Mirror | None) -> None:
        """Take disagreements from what compares the canary's answers with those that were given, if it does."""
        own = mirror if mirror is not None and mirror.line.version.number == self.plan.version else None
        if own is not self._mirror:
            self._mirror = own
            self._compared = _rows_of(own)

    def advance(self) -> None:
        """Begin the next step."""
        self.progress = CanaryProgress(self.progress.step + 1, self._loop.time())
        self._begin_step()

    def resume(self, progress: CanaryProgress) -> None:
        """Go on from where another server was."""
        self.progress = progress
        self._begin_step()

    def stop(self) -> None:
        """Decide nothing more. Again is harmless."""
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None

    def snapshot(self) -> CanarySnapshot:
        """Return how it stands."""
        return CanarySnapshot(
            plan=self.plan, step=self.progress.step, seconds=self._loop.time() - self.progress.since,
            requests=self.progress.requests, readings=self._readings, note=self._note,
        )  # fmt: skip

    def _begin_step(self) -> None:
        self._before, self._now = _Window(), _Window()
        self._windows += 1

    def _count(self, event: PredictionEvent) -> None:
        if event.status == _LATE and event.seconds < _IMPATIENT:
            return
        if self._now.requests == _WINDOW:
            self._before, self._now = self._now, _Window()
            self._windows += 1
        now, good = self._now, event.error is None
        now.requests += 1
        now.errors += not good
        for name, limit in self._limits.items():
            now.slow[name] = now.slow.get(name, 0) + (event.seconds * 1e3 > limit)
        self.progress = replace(self.progress, requests=self.progress.requests + 1)

    def _tick(self) -> None:
        self._ticking = self._loop.call_later(_TICK, self._tick)
        self._decide()

    def _decide(self) -> None:
        if self._ticking is None:
            return  # it is over
        guard = self._guard()
        self._readings = judge(guard, self._evidence(self._now.joined(self._before)))
        lately = [one for one in judge(guard, self._evidence(self._now)) if one.state == "violated"]
        decision = decide(self.plan, self.progress, [*self._readings, *lately], now=self._loop.time())
        self._note = decision.reason
        if decision.kind != "hold":
            self._decided(decision)

    def _guard(self) -> Guard:
        """Return the guard with this window's part of its chance to be wrong: all parts, however many, sum to 1."""
        guard, number = self.plan.guard, self._windows
        part = 1 / 2 if number == 1 else 1 / (4 * number * (number - 1))  # a quarter each, for the window by itself too
        return replace(guard, alpha=guard.alpha * part)

    def _evidence(self, window: _Window) -> Evidence:
        compared, disagreeing = _rows_of(self._mirror)
        canary, outcomes = self.plan.version, self._outcomes
        return Evidence(
            requests=window.requests, errors=window.errors, slow=window.slow,
            compared=compared - self._compared[0], disagreeing=disagreeing - self._compared[1],
            drift=self._drift(), quality=outcomes.scores(canary), live_quality=outcomes.scores(self._live),
            goal=outcomes.goal, proportion=outcomes.proportion,
        )  # fmt: skip

    def _drift(self) -> Drift | None:
        if self.plan.guard.drift is None:
            return None
        return Drift.between(list(self._answers[self.plan.version]), list(self._answers[self._live]))


@dataclass(slots=True)
class _Window:
    """Requests that the canary answered, one after another."""

    requests: int = 0
    errors: int = 0
    slow: dict[str, int] = field(default_factory=dict)

    def joined(self, other: _Window) -> _Window:
        slow = {name: self.slow.get(name, 0) + other.slow.get(name, 0) for name in {*self.slow, *other.slow}}
        return _Window(self.requests + other.requests, self.errors + other.errors, slow)


def _sortable(answers: np.ndarray[Any, Any]) -> list[Any]:
    """Return numbers as they are, and everything else as text."""
    values: list[Any] = np.ravel(answers).tolist()
    return values if answers.dtype.kind in "fiub" else list(map(str, values))


def _rows_of(mirror: Mirror | None) -> tuple[int, int]:
    """Return the rows that were compared, and those answered otherwise; what the canary failed on is both."""
    if mirror is None:
        return 0, 0
    summary = mirror.comparison.summary()
    return summary.compared + summary.failed, summary.differing + summary.failed
