"""How the replicas of a deployment follow its load, as its user asked for it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, cast

from mlnb.durations import duration_text, seconds_of
from mlnb.errors import InvalidInputError, nearest
from mlnb.scaling.policies.schedule import Schedule, checked_bounds, whole_number
from mlnb.scaling.policies.stabilising import in_range

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlnb.scaling.policies.decision import ScalingPolicy
    from mlnb.scaling.policies.forecast import Forecast

__all__ = ["MOST_REPLICAS", "Autoscale", "replicas_of"]

MOST_REPLICAS = 64  # that one machine is asked for
_RANGE = re.compile(r"\s*([0-9]+)\s*(?::\s*([0-9]+)\s*)?", re.ASCII)
_PAIR = 2
_SHORTEST = 0.05  # seconds between two samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscale:
    """Bounds, and the rule between them.

    Attributes
    ----------
    least, most : int
        Replicas. With ``least`` 0 a deployment that nobody asks has none; the next request waits for one.
    policy : ScalingPolicy
    schedules : tuple of Schedule
        Other bounds at certain times; of several that hold, the last one.
    interval : float
        Seconds between two samples; 0.05 or more.
    idle : float
        Seconds without a request after which the last replica goes, where ``least`` is 0.

    Raises
    ------
    InvalidInputError
        If the bounds are no whole numbers, or the wrong way round, or another one is none that is accepted.

    Examples
    --------
    >>> Autoscale.of(1, 4, p95="50ms").words
    '1 to 4 replicas, p95 under 50 ms'
    """

    least: int
    most: int
    policy: ScalingPolicy
    schedules: tuple[Schedule, ...] = ()
    interval: float = 0.5
    idle: float = 300.0

    def __post_init__(self) -> None:
        least, most = checked_bounds(self.least, self.most)
        object.__setattr__(self, "least", least)
        object.__setattr__(self, "most", most)
        if not _is_policy(self.policy):
            raise InvalidInputError(
                f"policy={self.policy!r:.60}: a ScalingPolicy is needed; Autoscale.of takes names too."
            )
        in_range(self.interval, what="interval", least=_SHORTEST, unit="seconds")
        in_range(self.idle, what="idle", least=0, unit="seconds")

    @classmethod
    def of(
        cls,
        least: int,
        most: int,
        *,
        target: float | str | None = None,
        policy: ScalingPolicy | str | None = None,
        p95: float | str | None = None,
        p99: float | str | None = None,
        schedules: Iterable[Schedule] | Schedule = (),
        idle: float | str = "5m",
        forecast: bool = False,
    ) -> Autoscale:
        """Return what a user asks for; where nothing more is said, replicas are to work 70 % of their time.

        Parameters
        ----------
        least, most : int
            Replicas, from 0 and from 1 to 64.
        target : float, str or None
            What the metric of the policy is to be. "utilisation": a share from 0 to 1; "in-flight" and "ray": requests
            per replica; "queue wait": milliseconds, or text such as "20ms"; "cpu", "cpu threshold" and "kubernetes":
            percent of a core. None is the policy's own.
        policy : ScalingPolicy, str or None
            A policy, or the name of one: "utilisation", "in-flight", "queue wait", "cpu", "cpu threshold", "kubernetes"
            or "ray". None is "utilisation".
        p95, p99 : float, str or None
            Within which 95 or 99 % of the requests are to be answered: milliseconds, or text such as "50ms".
        schedules : iterable of Schedule, or Schedule
            Other bounds at certain times; of several that hold, the last one.
        idle : float or str
            Seconds without a request, or text such as "5m", after which the last replica goes, where ``least`` is 0.
        forecast : bool
            Whether steady ramps are followed ahead of time.

        Raises
        ------
        InvalidInputError
            If one of them is none that is accepted, or does not go together with another.
        """
        if isinstance(least, (str, tuple, list)):
            _refuse_pair(least)
        least, most = checked_bounds(least, most, highest=MOST_REPLICAS)
        objectives = {name: given for name, given in (("p95", p95), ("p99", p99)) if given is not None}
        others = {name: given for name, given in (("target", target), ("policy", policy)) if given is not None}
        if objectives and len(objectives) + len(others) > 1:
            names = " and ".join((*objectives, *others))
            raise InvalidInputError(f"{names} cannot be followed at once; give one of them.")
        if objectives:
            rule = _objective(*objectives.popitem(), forecast=forecast)
        else:
            rule = _policy(policy, target, forecast=forecast)
        return cls(
            least=least, most=most, policy=rule, schedules=_schedules(schedules, most),
            idle=seconds_of(idle, what="idle"),
        )  # fmt: skip

    @property
    def words(self) -> str:
        """What is asked for in words."""
        bounds = f"{self.least} to {self.most}" if self.least < self.most else f"{self.least}"
        said = [f"{bounds} replica{'' if self.least == self.most == 1 else 's'}", self.policy.words]
        said += [schedule.words for schedule in self.schedules]
        if self.least == 0:
            said.append(f"none after {duration_text(self.idle)} without a request")
        return ", ".join(said)


def replicas_of(given: Any) -> int | tuple[int, int]:
    """Read how many replicas there are to be: a number, or the least and the most.

    Parameters
    ----------
    given : int, str or pair of int
        ``3``, ``"3"``, ``"1:4"`` or ``(1, 4)``.

    Raises
    ------
    InvalidInputError
        If it is none of them, or out of range.

    Examples
    --------
    >>> replicas_of(3), replicas_of("3"), replicas_of("1:4"), replicas_of((1, 4))
    (3, 3, (1, 4), (1, 4))
    """
    found = _RANGE.fullmatch(given) if isinstance(given, str) else None
    read = given
    if found is not None:
        read = int(found[1]) if found[2] is None else (int(found[1]), int(found[2]))
    if isinstance(read, (tuple, list)) and len(read) == _PAIR:
        return checked_bounds(*read, highest=MOST_REPLICAS)
    count = whole_number(read)
    if count is None or not 0 <= count <= MOST_REPLICAS:
        raise InvalidInputError(
            f'replicas={given!r:.40}: a whole number from 0 to {MOST_REPLICAS} is needed, or least and most: "1:4".'
        )
    return count


def _refuse_pair(given: Any) -> None:
    """Refuse both bounds in one, as :func:`replicas_of` reads them."""
    read: Any = None
    with suppress(InvalidInputError):
        read = replicas_of(given)
    if isinstance(read, tuple):
        raise InvalidInputError(f"least={given!r:.40}: two numbers are meant: autoscale({read[0]}, {read[1]}).")


def _objective(name: str, given: Any, *, forecast: bool) -> ScalingPolicy:
    from mlnb.scaling.policies.latency import LatencyObjective

    quantile = int(name[1:]) / 100
    return LatencyObjective(seconds=_wait(name, given), quantile=quantile, forecast=_forecast() if forecast else None)


def _policy(policy: Any, target: Any, *, forecast: bool) -> ScalingPolicy:
    if policy is None or isinstance(policy, str):
        return _named(policy or "utilisation", target, forecast=forecast)
    if not _is_policy(policy):
        names = ", ".join((*_METRICS, *_OTHERS))
        raise InvalidInputError(f"policy={policy!r:.60} is none; give a ScalingPolicy, or the name of one: {names}.")
    if target is not None or forecast:
        raise InvalidInputError("A policy that is given whole has its own target and forecast; set them in it.")
    return cast("ScalingPolicy", policy)


def _is_policy(given: Any) -> bool:
    return not isinstance(given, type) and hasattr(given, "controller") and hasattr(given, "words")


def _named(name: str, target: Any, *, forecast: bool) -> ScalingPolicy:
    if name in _OBJECTIVES:
        raise InvalidInputError(f'policy={name!r}: it is an objective of its own; give {name}="50ms" instead.')
    if name not in _METRICS and name not in _OTHERS:
        raise InvalidInputError(
            f"policy={name!r:.40}: there is no such policy; {nearest(name, (*_METRICS, *_OTHERS))}."
        )
    value = None if target is None else _wait("target", target) if name == "queue wait" else _number(name, target)
    if name in _OTHERS:
        if forecast:
            raise InvalidInputError(
                f"forecast=True: {name!r} has none; there is one for {', '.join(_METRICS)}, p95 and p99."
            )
        return _OTHERS[name](value)
    from mlnb.scaling.policies.tracking import TargetTracking

    aimed = _METRICS[name] if value is None else value
    return TargetTracking(metric=cast("Any", name), target=aimed, forecast=_forecast() if forecast else None)


def _forecast() -> Forecast:
    from mlnb.scaling.policies.forecast import Forecast

    return Forecast()


def _kubernetes(target: float | None) -> ScalingPolicy:
    from mlnb.scaling.policies.known import KubernetesHPA

    return KubernetesHPA() if target is None else KubernetesHPA(target=target)


def _ray(target: float | None) -> ScalingPolicy:
    from mlnb.scaling.policies.known import RayServe

    return RayServe() if target is None else RayServe(target=target)


def _threshold(target: float | None) -> ScalingPolicy:
    from mlnb.scaling.policies.threshold import CpuThreshold

    return CpuThreshold() if target is None else CpuThreshold(threshold=target)


_OBJECTIVES = ("p95", "p99")
_METRICS = {"utilisation": 0.7, "in-flight": 2.0, "queue wait": 0.02, "cpu": 70.0}  # and what each is to be
_OTHERS: dict[str, Callable[[float | None], ScalingPolicy]] = {
    "cpu threshold": _threshold,
    "kubernetes": _kubernetes,
    "ray": _ray,
}


def _number(policy: str, given: Any) -> float:
    number = isinstance(given, Real) and not isinstance(given, bool)
    most = 1.0 if policy == "utilisation" else sys.float_info.max
    if not (number and 0 < given <= most):
        share = policy == "utilisation"
        accepted, example = ("a share above 0 and up to 1", ", such as 0.7") if share else ("a number above 0", "")
        raise InvalidInputError(f"target={given!r:.40}: {accepted} is needed for {policy!r}{example}.")
    return float(given)


def _wait(what: str, given: Any) -> float:
    """Return seconds of milliseconds, or of a text with a unit."""
    seconds = -1.0
    with suppress(InvalidInputError):
        seconds = seconds_of(given, what=what) / (1 if isinstance(given, str) else 1000)
    if seconds <= 0:
        raise InvalidInputError(
            f'{what}={given!r:.40}: milliseconds above 0 are needed, or text such as "50ms", "0.2s".'
        )
    return seconds


def _schedules(given: Any, most: int) -> tuple[Schedule, ...]:
    schedules = tuple(given) if isinstance(given, Iterable) else (given,)
    for schedule in schedules:
        if not isinstance(schedule, Schedule):
            raise InvalidInputError(f'schedules: {schedule!r:.60} is none; give Schedule(2, days="weekdays").')
        if schedule.most is None and schedule.least > most:
            raise InvalidInputError(
                f"A schedule asks for at least {schedule.least} replicas where there are at most {most}; give it most=."
            )
        checked_bounds(schedule.least, most if schedule.most is None else schedule.most, highest=MOST_REPLICAS)
    return schedules
