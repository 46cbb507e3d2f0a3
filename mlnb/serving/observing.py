"""All that is learnt from the requests of one deployment, and told to whoever asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from mlnb.monitoring import ModelMonitor
from mlnb.monitoring.outcomes import Outcomes
from mlnb.monitoring.recent import RecentRequests

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlnb.events import PredictionEvent
    from mlnb.monitoring.comparison import Comparison
    from mlnb.registry.signature import Signature
    from mlnb.serving.canary import CanaryProgress
    from mlnb.serving.mirror import Mirror
    from mlnb.serving.rollout import Rollout

_CELLS = 500_000  # values of the requests that are kept

__all__ = ["Observed", "Observer", "Remembered", "VersionCount"]


@dataclass(slots=True)
class VersionCount:
    """What one version answered.

    Attributes
    ----------
    requests, errors : int
        Since it began to answer; errors are those of the server (status 500 and more).
    """

    requests: int = 0
    errors: int = 0


@dataclass(slots=True, kw_only=True)
class Observed:
    """What was learnt, as it goes to another process.

    Attributes
    ----------
    monitor : ModelMonitor
    outcomes : Outcomes
        Without the answers that wait for labels.
    counts : dict of int to VersionCount
    comparison : Comparison or None
    progress : CanaryProgress or None
    """

    monitor: ModelMonitor
    outcomes: Outcomes
    counts: dict[int, VersionCount]
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
    signature : Signature
        Of the live version: which labels there are.

    Attributes
    ----------
    mirror : Mirror or None
        Gets a copy of what was answered.
    rollout : Rollout or None
        Decides on a canary by it.
    """

    def __init__(self, signature: Signature) -> None:
        self.monitor = ModelMonitor()
        self.outcomes = Outcomes(signature.labels, signature.output)
        self.recent = RecentRequests(_CELLS)
        self.counts: dict[int, VersionCount] = {}
        self.mirror: Mirror | None = None
        self.rollout: Rollout | None = None

    def observe(self, events: Sequence[PredictionEvent]) -> None:
        """Learn from the requests of one turn of the loop."""
        self.monitor.observe(events)
        self.recent.extend(events)
        self.outcomes.remember(events)
        for event in events:
            count = self.counts.get(event.version)
            if count is None:
                count = self.counts[event.version] = VersionCount()
            count.requests += 1
            count.errors += event.status >= 500  # noqa: PLR2004 - of the server
        if self.mirror is not None:
            self.mirror.observe(events)
        if self.rollout is not None:
            self.rollout.observe(events)

    def observed(self) -> Observed:
        """Return what was learnt so far."""
        return Observed(
            monitor=self.monitor, outcomes=self.outcomes.without_answers(), counts=self.counts,
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
        for version, count in observed.counts.items():
            own = self.counts.setdefault(version, VersionCount())
            own.requests += count.requests
            own.errors += count.errors
        if self.mirror is not None and observed.comparison is not None:
            self.mirror.comparison = observed.comparison
