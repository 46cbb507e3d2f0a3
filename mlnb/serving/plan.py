"""What is to be served under a name: versions, how each runs, and how the requests are shared out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mlnb.monitoring.alerts import DEFAULT_RULES
from mlnb.serving.predicting import DEFAULT_TIMEOUT

if TYPE_CHECKING:
    from mlnb.monitoring.alerts import AlertRule
    from mlnb.monitoring.prediction_log import LogSettings
    from mlnb.registry import ModelVersion
    from mlnb.scaling.acceleration.acceleration import Acceleration
    from mlnb.scaling.autoscale import Autoscale
    from mlnb.serving.canary import CanaryPlan
    from mlnb.serving.traffic import Split

__all__ = ["Manner", "Plan", "Shadow", "Spec", "Watching"]


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
    background : bool
        Whether its processes run only when nothing else on the machine wants to.
    """

    replicas: int = 0
    policy: str = "least_loaded"
    timeout: float = DEFAULT_TIMEOUT
    background: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One version that is to be served, and how.

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
class Shadow:
    """A version that sees a copy of the requests, and answers nobody.

    Attributes
    ----------
    spec : Spec
    share : float
        Of the requests, in percent.
    """

    spec: Spec
    share: float = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """How a deployment is watched.

    Attributes
    ----------
    log : LogSettings or None
        Where its predictions are logged.
    rules : tuple of AlertRule
        What is not to happen.
    webhooks : tuple of str
        Who is told, by URL.
    """

    log: LogSettings | None = None
    rules: tuple[AlertRule, ...] = DEFAULT_RULES
    webhooks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that is to be served under one name.

    Attributes
    ----------
    live : Spec
    others : tuple of Spec
        Further versions that answer.
    split : Split or None
        Over the numbers of all of them.
    shadow : Shadow or None
    canary : CanaryPlan or None
        For the one of the others that is to become live step by step.
    names : dict of int to str
        What people call versions that share the requests, by number.
    watching : Watching
    autoscale : Autoscale or None
        How the replicas follow the load; None where their number is fixed.
    """

    live: Spec
    others: tuple[Spec, ...] = ()
    split: Split | None = None
    shadow: Shadow | None = None
    canary: CanaryPlan | None = None
    names: dict[int, str] = field(default_factory=dict)
    watching: Watching = field(default_factory=Watching)
    autoscale: Autoscale | None = None

    @property
    def specs(self) -> tuple[Spec, ...]:
        """Return the versions that answer, the live one first."""
        return (self.live, *self.others)

    @property
    def processed(self) -> list[Spec]:
        """Return what runs in processes of its own."""
        shadow = [] if self.shadow is None else [self.shadow.spec]
        return [spec for spec in (*self.specs, *shadow) if spec.manner.replicas]

    def alone(self, number: int) -> Plan:
        """Return the plan in which one of the versions that answer is alone, with the shadow that is another."""
        shadow = self.shadow
        if shadow is not None and any(spec.version.number == shadow.spec.version.number for spec in self.specs):
            shadow = None
        return Plan(live=self.of(number), shadow=shadow, watching=self.watching, autoscale=self.autoscale)

    def scaled(self, replicas: int) -> Plan:
        """Return the plan with as many replicas of each version that answers."""

        def scaled(spec: Spec) -> Spec:
            return replace(spec, manner=replace(spec.manner, replicas=replicas))

        return replace(self, live=scaled(self.live), others=tuple(map(scaled, self.others)))

    def of(self, number: int) -> Spec:
        """Return the spec of a version that answers."""
        return next(spec for spec in self.specs if spec.version.number == number)
