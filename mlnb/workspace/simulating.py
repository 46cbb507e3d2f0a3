"""What a policy would make of a load: ``mlnb.simulate``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from math import isfinite
from numbers import Real
from typing import TYPE_CHECKING, Any

from mlnb.durations import seconds_of
from mlnb.errors import InvalidInputError
from mlnb.scaling.autoscale import Autoscale, replicas_of
from mlnb.scaling.service_time import ServiceTime
from mlnb.scaling.simulation.engine import run
from mlnb.scaling.simulation.load import Load, whole_of
from mlnb.scaling.simulation.outcome import outcome_of
from mlnb.workspace.simulations import Simulation, SimulationTable

if TYPE_CHECKING:
    import pandas as pd

    from mlnb.scaling.policies.schedule import Schedule
    from mlnb.workspace.deployment import Deployment

__all__ = ["Simulation", "SimulationTable", "simulate"]

_MONDAY = datetime(2026, 1, 5)  # noqa: DTZ001 - midnight where the user is, as schedules have it


def simulate(
    load: Load | Deployment | pd.DataFrame | Iterable[float],
    policy: Any = None,
    *,
    replicas: Any = "1:4",
    service: ServiceTime | float | str | None = None,
    startup: float | str = 1.0,
    overhead: float | str = 0.0,
    p95: float | str | None = None,
    schedules: Sequence[Schedule] = (),
    idle: float | str = "5m",
    interval: float | str = 0.5,
    initial: int | None = None,
    limit: int | None = None,
    start: datetime | float | None = None,
    seed: int = 0,
) -> Simulation | SimulationTable:
    """Simulate how replicas follow a load: by one policy, or by several to compare them.

    The policies are the ones that run live, and see what they would see there.

    Parameters
    ----------
    load : Load, Deployment, DataFrame or iterable of float
        Requests over time; a deployment, or its :meth:`log`, for those that it had; or the seconds at which they
        arrive.
    policy : ScalingPolicy, str, int, Autoscale, or a sequence or mapping of these, optional
        A policy or the name of one, such as "utilisation", "kubernetes" or "ray"; a number of replicas that never
        changes; or an Autoscale with bounds of its own. Several are compared; the keys of a mapping are their names.
        Default: what keeps ``p95`` if that is given, else replicas that work 70 % of their time.
    replicas : str or (int, int)
        The least and the most: "1:4".
    service : ServiceTime, float or str
        What a request takes without waiting: milliseconds, or text such as "20ms". ``deployment.simulate`` takes it
        as it was measured.
    startup : float or str
        Seconds until a new replica is ready.
    overhead : float or str
        Seconds of each request beside waiting and service.
    p95 : float or str, optional
        Within which 95 % of the requests are to be answered: milliseconds, or text such as "50ms". Those that took
        longer are counted, whatever the policy.
    schedules : sequence of Schedule
    idle : float or str
        Without a request, after which the last replica goes if the least is 0.
    interval : float or str
        Seconds between two decisions.
    initial : int, optional
        Replicas at the beginning. Default: the least, 1 where that is 0.
    limit : int, optional
        Replicas that the machine can hold.
    start : datetime or float, optional
        When the load begins, which matters to schedules: seconds since the epoch. Default: when it was recorded, else
        on a Monday at midnight.
    seed : int
        The same one gives all policies the same arrivals and the same service times.

    Returns
    -------
    Simulation
        Of one policy.
    SimulationTable
        Of several.

    Raises
    ------
    InvalidInputError
        If an argument is none that is accepted, or there are no requests in the log.

    Examples
    --------
    >>> from mlnb.scaling.simulation.load import Load
    >>> simulate(Load.step(20, 120, seconds=120), 2, service="5ms", p95="10ms")
    Simulated: step from 20 to 120 requests/s for 2m, 8,502 requests, one takes 5 ms · 2 replicas
    <BLANKLINE>
    over 10 ms   p50      p95      p99  replicas  most  replica time  changes  turns
        0.47 %  5 ms  7.21 ms  9.16 ms         2     2         240 s        0      0
    """
    takes, given = _service(service, load), _load(load)
    objective = None if p95 is None else _milliseconds(p95, what="p95")
    simulated = partial(
        run, given, service=takes, startup=seconds_of(startup, what="startup"),
        overhead=seconds_of(overhead, what="overhead"), initial=_count(initial, what="initial"),
        limit=_count(limit, what="limit"), start=_start(given, start), seed=seed,
    )  # fmt: skip
    step = _positive(interval, what="interval")
    simulations = []
    for name, one in _policies(policy):
        autoscale = replace(_autoscale(one, replicas, p95=p95, schedules=schedules, idle=idle), interval=step)
        trace = simulated(autoscale)
        label = name or (f"{one} replicas" if whole_of(one) is not None else autoscale.policy.words)
        simulations.append(Simulation(label, outcome_of(trace, objective=objective), autoscale, takes))
    return SimulationTable(_distinct(simulations)) if _several(policy) else simulations[0]


# ---- what was given ----


def _load(given: Any) -> Load:
    if isinstance(given, Load):
        return given
    if callable(getattr(given, "log", None)):
        return Load.of_log(given.log())
    if hasattr(given, "columns"):
        return Load.of_log(given)
    if isinstance(given, Iterable) and not isinstance(given, str):
        return Load.recorded(given)
    raise InvalidInputError(
        f"{given!r:.60} is no load; give one such as mlnb.Load.step(10, 80), a deployment that was asked, or times."
    )


def _service(given: Any, load: Any) -> ServiceTime:
    if isinstance(given, ServiceTime):
        return given
    if given is None and callable(getattr(load, "simulate", None)):
        raise InvalidInputError(
            "What one request takes is measured by the deployment: use deployment.simulate(...), which knows it, "
            'or give service="20ms".'
        )
    if given is None:
        raise InvalidInputError('What one request takes is not known; give it: service="20ms", or a ServiceTime.')
    return ServiceTime(fixed=_milliseconds(given, what="service"))


def _milliseconds(given: Any, *, what: str) -> float:
    """Return seconds of milliseconds, or of text with a unit."""
    seconds = seconds_of(given, what=what) / (1 if isinstance(given, str) else 1e3)
    if not seconds:
        raise InvalidInputError(f'{what}={given!r:.40}: milliseconds above 0 are needed, or text such as "20ms".')
    return seconds


def _positive(given: float | str, *, what: str) -> float:
    seconds = seconds_of(given, what=what)
    if not seconds:
        raise InvalidInputError(f"{what}={given!r:.40}: more than 0 seconds are needed.")
    return seconds


def _count(given: Any, *, what: str) -> int | None:
    count = whole_of(given)
    if given is not None and (count is None or count < 0):
        raise InvalidInputError(f"{what}={given!r:.40}: a whole number of replicas is needed.")
    return count


def _start(load: Load, given: Any) -> float:
    if given is None:
        return _MONDAY.timestamp() if load.start is None else load.start
    if isinstance(given, datetime):
        return given.timestamp()
    if not isinstance(given, Real) or isinstance(given, bool) or not isfinite(given):
        raise InvalidInputError(f"start={given!r:.40}: a datetime is needed, or seconds since the epoch.")
    return float(given)


def _several(policy: Any) -> bool:
    return isinstance(policy, Mapping | Sequence) and not isinstance(policy, str)


def _policies(given: Any) -> list[tuple[str, Any]]:
    """Return policies with their names, "" where they are to be called by their own words."""
    if not _several(given):
        return [("", given)]
    named = list(given.items()) if isinstance(given, Mapping) else [("", one) for one in given]
    if not named:
        raise InvalidInputError("There are no policies to compare; give at least one.")
    return [(str(name), one) for name, one in named]


def _autoscale(
    policy: Any, replicas: Any, *, p95: float | str | None, schedules: Sequence[Schedule], idle: float | str
) -> Autoscale:
    if isinstance(policy, Autoscale):
        return policy
    if isinstance(policy, bool):
        raise InvalidInputError(f"{policy} is no policy.")
    fixed = whole_of(policy)
    counts = replicas_of(_plain(replicas if fixed is None else fixed))
    least, most = counts if isinstance(counts, tuple) else (counts, counts)
    if fixed is not None:
        return Autoscale.of(least, most)
    return Autoscale.of(least, most, policy=policy, p95=p95 if policy is None else None, schedules=schedules, idle=idle)


def _plain(replicas: Any) -> Any:
    """Turn whole numbers of other libraries into those of Python."""
    if isinstance(replicas, (tuple, list)):
        return tuple(map(_plain, replicas))
    count = whole_of(replicas)
    return replicas if count is None else count


def _distinct(simulations: Iterable[Simulation]) -> list[Simulation]:
    """Give those that have the same name a number."""
    seen: Counter[str] = Counter()
    named = []
    for one in simulations:
        seen[one.name] += 1
        named.append(replace(one, name=f"{one.name} ({seen[one.name]})") if seen[one.name] > 1 else one)
    return named
