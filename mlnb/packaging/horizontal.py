"""How a notebook's replicas follow their load, as a HorizontalPodAutoscaler, with what could not be translated."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import TYPE_CHECKING, Any

from mlnb.durations import duration_text
from mlnb.scaling.policies.known import KubernetesHPA, RayServe
from mlnb.scaling.policies.latency import LatencyObjective
from mlnb.scaling.policies.queueing import latency_quantile, most_rate
from mlnb.scaling.policies.threshold import CpuThreshold
from mlnb.scaling.policies.tracking import TargetTracking
from mlnb.scaling.service_time import ServiceTime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mlnb.packaging.subject import Measured
    from mlnb.scaling.autoscale import Autoscale
    from mlnb.scaling.policies.stabilising import Rate

__all__ = ["CURRENT", "Horizontal", "Pace", "ServedApis", "horizontal"]

_HPA = ("autoscaling/v2", "autoscaling/v2beta2", "autoscaling/v1")  # the best first; the first two are written alike
_PDB = ("policy/v1", "policy/v1beta1")
_IN_FLIGHT = "mlnb_in_flight_requests"  # as /metrics has it
_SHARE = 0.7  # of their time that replicas are to work, where nothing better is known
_UNMEASURED_SHARE = 0.5  # where there is an objective
_LEAST_SHARE, _MOST_SHARE = 0.1, 0.9
_ROOM = 1.1  # times what one row alone takes: the least that is planned for
_SPREAD = 0.5  # coefficient of variation of a service time, where only its mean is known
_SYNC = 15  # seconds between two looks of an HPA; what is shorter makes no difference
_LONGEST_WINDOW, _LONGEST_PERIOD = 3600, 1800  # seconds, by autoscaling/v2
_TOLERANCE = 0.1  # of an HPA
_ALL = 100  # percent
_LEAST_CORES = 0.001  # of one replica: a millicore, the least that Kubernetes counts


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedApis:
    """The versions of what more than one version is about, as a cluster serves them.

    Attributes
    ----------
    hpa, pdb : str
        For the HorizontalPodAutoscaler and the PodDisruptionBudget; "" where it serves none.
    """

    hpa: str = _HPA[0]
    pdb: str = _PDB[0]

    @classmethod
    def of(cls, served: Iterable[str]) -> ServedApis:
        """Return the best ones of those that a cluster serves.

        Parameters
        ----------
        served : iterable of str
            ``group/version``, as ``kubectl api-versions`` prints them.

        Examples
        --------
        >>> ServedApis.of(["apps/v1", "autoscaling/v1", "autoscaling/v2beta2", "policy/v1beta1"])
        ServedApis(hpa='autoscaling/v2beta2', pdb='policy/v1beta1')
        """
        known = frozenset(served)
        return cls(hpa=_first(_HPA, known), pdb=_first(_PDB, known))


CURRENT = ServedApis()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast the number of pods may change in one direction.

    Attributes
    ----------
    window : int
        Seconds that a recommendation must have lasted.
    percent, pods : int
        That may come, or go, within ``seconds``, whichever is more; 0 is none.
    seconds : int
    """

    window: int
    percent: int = _ALL
    pods: int = 0
    seconds: int = _SYNC

    @property
    def rules(self) -> dict[str, Any]:
        """The same as ``HPAScalingRules``."""
        named = (("Percent", self.percent), ("Pods", self.pods))
        policies = [{"type": kind, "value": value, "periodSeconds": self.seconds} for kind, value in named if value]
        return {"stabilizationWindowSeconds": self.window, "selectPolicy": "Max", "policies": policies}


_UP, _DOWN = Pace(window=0, pods=4), Pace(window=300)  # an HPA's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizontal:
    """A HorizontalPodAutoscaler, without what it scales.

    Attributes
    ----------
    least, most : int
        Pods.
    cpu : int
        Percent of the CPU that a pod asks for, from 1 to 100.
    up, down : Pace
    in_flight : float or None
        Requests in flight that each pod is to have, where an adapter tells the cluster.
    said : tuple of str
        What was translated to what, and what could not be; a sentence each.
    """

    least: int
    most: int
    cpu: int
    up: Pace = _UP
    down: Pace = _DOWN
    in_flight: float | None = None
    said: tuple[str, ...] = ()

    def spec(self, scaled: dict[str, str], *, api: str = CURRENT.hpa) -> dict[str, Any]:
        """Return the ``spec``.

        Parameters
        ----------
        scaled : dict
            The ``scaleTargetRef``.
        api : str
            ``"autoscaling/v1"`` knows the bounds and the CPU only.
        """
        bounds = {"scaleTargetRef": scaled, "minReplicas": self.least, "maxReplicas": self.most}
        if api == _HPA[-1]:
            return bounds | {"targetCPUUtilizationPercentage": self.cpu}
        behavior = {"scaleUp": self.up.rules, "scaleDown": self.down.rules}
        return bounds | {"metrics": self._metrics(), "behavior": behavior}

    def said_for(self, api: str) -> tuple[str, ...]:
        """Return what is to be said where a cluster serves this version."""
        if api != _HPA[-1]:
            return self.said
        return (*self.said, f"{api} has no windows, no rates and no metric but CPU: those are left out.")

    def _metrics(self) -> list[dict[str, Any]]:
        target = {"type": "Utilization", "averageUtilization": self.cpu}
        metrics: list[dict[str, Any]] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
        if self.in_flight is not None:
            average = {"type": "AverageValue", "averageValue": f"{max(1, round(1000 * self.in_flight))}m"}
            metrics.append({"type": "Pods", "pods": {"metric": {"name": _IN_FLIGHT}, "target": average}})
        return metrics


def horizontal(
    autoscale: Autoscale, measured: Measured, *, processes: int = 1, metrics_adapter: bool = False
) -> Horizontal:
    """Translate how replicas follow their load; a pod is as many replicas as it has processes.

    A pod is taken to ask for as much CPU as it uses while it works all the time
    (:func:`~mlnb.packaging.resources.resources_of`), so a percentage of that is the share of its time that it works.

    Parameters
    ----------
    autoscale : Autoscale
    measured : Measured
        Of which the cores and the service time count.
    processes : int
        Replicas in one pod.
    metrics_adapter : bool
        Whether the cluster is told the metrics of pods, as by prometheus-adapter.

    Examples
    --------
    >>> from mlnb.packaging.subject import Measured
    >>> from mlnb.scaling.autoscale import Autoscale
    >>> found = horizontal(Autoscale.of(0, 4, target=0.6), Measured(cores=0.9))
    >>> found.least, found.most, found.cpu
    (1, 4, 60)
    >>> found.said[-1]
    'Not translated: none after 5m without a request; there is 1 pod at least.'
    """
    known = _Known(max(_LEAST_CORES, measured.cores or 1.0), measured.service)
    found = _translated(autoscale.policy, known)
    cpu = min(_ALL, max(1, round(_ALL * found.share)))
    said = [f"{_capital(autoscale.policy.words)}: {found.words.format(cpu=cpu)}"]
    if found.share > 1:
        said.append(f"{_ALL * found.share:.0f} % is more than a pod that always works uses: {_ALL} % instead.")
    in_flight = found.in_flight if metrics_adapter else None
    if in_flight is not None:
        in_flight *= processes
        said.append(f"{_IN_FLIGHT} at {in_flight:g} per pod is followed too; an adapter has to tell the cluster.")
    least = max(1, math.ceil(autoscale.least / processes))
    return Horizontal(
        least=least, most=max(least, math.ceil(autoscale.most / processes)), cpu=cpu, up=found.up, down=found.down,
        in_flight=in_flight, said=(*said, *found.lost, *_bounds_lost(autoscale)),
    )  # fmt: skip


def _bounds_lost(autoscale: Autoscale) -> Iterable[str]:
    forecast = getattr(autoscale.policy, "forecast", None)
    if forecast is not None:
        yield f"Not translated: {forecast.words}; an HPA acts on what is."
    for schedule in autoscale.schedules:
        yield f"Not translated: {schedule.words}; an HPA has no times. A CronJob that patches its minReplicas would do."
    if autoscale.least == 0:
        idle = duration_text(autoscale.idle)
        yield f"Not translated: none after {idle} without a request; there is 1 pod at least."


@dataclass(frozen=True, slots=True)
class _Known:
    """What was measured: the cores of a replica that works, and seconds of one row."""

    cores: float
    service: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Translated:
    """What a policy comes to: the share of its time that a replica is to work, paces, and words."""

    share: float
    words: str  # with {cpu}
    up: Pace = _UP
    down: Pace = _DOWN
    in_flight: float | None = None
    lost: tuple[str, ...] = ()


@singledispatch
def _translated(policy: Any, known: _Known) -> _Translated:  # noqa: ARG001 - others need them
    words = "this rule is not known here; CPU at {cpu} % of what a pod asks for instead."
    return _Translated(share=_SHARE, words=words)


@_translated.register
def _(policy: TargetTracking, known: _Known) -> _Translated:
    found = _METRICS[policy.metric](policy.target, known)
    up = _pace(_UP, policy.up_window, policy.up, falls=False)
    down = _pace(_DOWN, policy.down_window, policy.down, falls=True)
    return replace(found, up=up, down=down, lost=_tolerance_lost(policy.tolerance))


@_translated.register
def _(policy: LatencyObjective, known: _Known) -> _Translated:
    down = replace(_DOWN, window=_seconds(policy.down_window, _LONGEST_WINDOW))
    if known.service is None:
        words = "an HPA knows no latency, and how long a row takes was not measured; CPU at {cpu} % instead."
        return _Translated(share=_UNMEASURED_SHARE, words=words, down=down)
    service = ServiceTime(fixed=known.service, spread=_SPREAD)
    alone = latency_quantile(0.0, 1, service, policy.quantile)
    if alone > policy.seconds:
        words = f"one row alone takes {_ms(alone)}, so no number of pods keeps it; CPU at {{cpu}} % instead."
        return _Translated(share=_SHARE, words=words, down=down)
    aimed = max(policy.aim * policy.seconds, alone * _ROOM)
    rate = most_rate(1, service, seconds=aimed, quantile=policy.quantile)
    words = (
        f"an HPA knows no latency; CPU at {{cpu}} %, up to which a pod keeps it by queueing theory, since a row takes "
        f"{_ms(known.service)}."
    )
    return _Translated(share=_bounded(rate / service.capacity), words=words, down=down)


@_translated.register
def _(policy: CpuThreshold, known: _Known) -> _Translated:
    found = _cpu(policy.threshold, known)
    seconds = _seconds(max(policy.pause, _SYNC), _LONGEST_PERIOD)
    one = Pace(window=0, percent=0, pods=1, seconds=seconds)
    lost = ("Not translated: one fewer only below half of it; an HPA goes down as soon as fewer are enough.",)
    return replace(found, up=one, down=replace(one, window=_seconds(policy.pause, _LONGEST_WINDOW)), lost=lost)


@_translated.register
def _(policy: KubernetesHPA, known: _Known) -> _Translated:
    found = _cpu(policy.target, known)
    up = Pace(window=0, percent=round(_ALL * (policy.factor - 1)), pods=int(policy.replicas))
    down = replace(_DOWN, window=_seconds(policy.stabilisation, _LONGEST_WINDOW))
    defaults = KubernetesHPA()
    same = (policy.sync, policy.resolution) == (defaults.sync, defaults.resolution)
    lost = () if same else ("Not translated: how often it looks; that is set for the whole cluster.",)
    return replace(found, up=up, down=down, lost=(*_tolerance_lost(policy.tolerance), *lost))


@_translated.register
def _(policy: RayServe, known: _Known) -> _Translated:
    found = _in_flight(policy.target, known)
    up = replace(_UP, window=_seconds(policy.up_delay, _LONGEST_WINDOW))
    down = replace(_DOWN, window=_seconds(policy.down_delay, _LONGEST_WINDOW))
    whole = policy.up_factor == policy.down_factor == 1
    lost = () if whole else ("Not translated: factors of the difference; an HPA makes up for all of it.",)
    return replace(found, up=up, down=down, lost=lost)


def _utilisation(target: float, _: _Known) -> _Translated:
    words = "CPU at {cpu} % of what a pod asks for, which is what it uses while it works all the time."
    return _Translated(share=target, words=words)


def _cpu(target: float, known: _Known) -> _Translated:
    words = f"CPU at {{cpu}} % of what a pod asks for, since a replica that always works uses {known.cores:.2g} cores."
    return _Translated(share=target / _ALL / known.cores, words=words)


def _in_flight(target: float, _: _Known) -> _Translated:
    words = "an HPA knows no requests in flight; CPU at {cpu} %, at which one queue has so many on average."
    return _Translated(share=_bounded(target / (1 + target)), words=words, in_flight=target)


def _queue_wait(target: float, known: _Known) -> _Translated:
    if known.service is None:
        words = "an HPA knows no queue, and how long a row takes was not measured; CPU at {cpu} % instead."
        return _Translated(share=_SHARE, words=words)
    words = (
        f"an HPA knows no queue; CPU at {{cpu}} %, at which one queue waits so long on average, since a row takes "
        f"{_ms(known.service)}."
    )
    return _Translated(share=_bounded(target / (target + known.service)), words=words)


# Of one queue with chance arrivals (M/M/1): L = r / (1 - r), W = S r / (1 - r); Allen, "Probability, Statistics, and
# Queueing Theory", 2nd edition, 1990, section 5.2.1.
_METRICS: dict[str, Callable[[float, _Known], _Translated]] = {
    "utilisation": _utilisation,
    "cpu": _cpu,
    "in-flight": _in_flight,
    "queue wait": _queue_wait,
}


def _pace(default: Pace, window: float, rate: Rate | None, *, falls: bool) -> Pace:
    held = _seconds(window, _LONGEST_WINDOW)
    if rate is None:
        return replace(default, window=held)
    percent = round(_ALL * (1 - 1 / rate.factor if falls else rate.factor - 1))
    pods = int(rate.replicas)
    seconds = max(1, _seconds(rate.seconds, _LONGEST_PERIOD))
    return Pace(window=held, percent=percent, pods=pods if percent else max(1, pods), seconds=seconds)


def _tolerance_lost(tolerance: float) -> tuple[str, ...]:
    if tolerance == _TOLERANCE:
        return ()
    return (
        f"Not translated: a tolerance of {tolerance:.0%}; it is set for the whole cluster, {_TOLERANCE:.0%} usually.",
    )


def _bounded(share: float) -> float:
    return min(_MOST_SHARE, max(_LEAST_SHARE, share))


def _seconds(given: float, most: int) -> int:
    return min(most, round(given))


def _first(known: tuple[str, ...], served: frozenset[str]) -> str:
    return next((api for api in known if api in served), "")


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"
