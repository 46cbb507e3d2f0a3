"""How long requests take on so many replicas at so many a second: formulas of queueing theory."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mlnb.errors import InvalidInputError

if TYPE_CHECKING:
    from mlnb.scaling.service_time import ServiceTime

__all__ = ["fraction_over", "latency_quantile", "most_rate", "replicas_for"]

_POINTS = 128  # that stand for the distribution of a service time
_GRID = 8192  # by which they are found
_PRECISION = 1e-3  # of a rate or a time that is searched for
_ROUNDS = 40  # of a fixed point


def fraction_over(rate: float, replicas: int, service: ServiceTime, *, seconds: float) -> float:
    """Return the part of the requests that take longer than so many seconds, wait and service together.

    One common queue; while all replicas are busy, the rows that arrive join the next batch. A row a batch: all are busy
    with the probability of Erlang's C formula, and those who wait do so for an exponential time, of the mean that Allen
    and Cunneen give ("Probability, Statistics, and Queueing Theory", 2nd edition, 1990, section 5.2.3; for Poisson
    arrivals). Batches: they grow until as many rows arrive while one is served as it has, a fixed point, and what
    waits is what did not fit. An approximation; tests compare it with the simulator.

    Parameters
    ----------
    rate : float
        Requests of one row per second.
    replicas : int
    service : ServiceTime
    seconds : float

    Returns
    -------
    float
        1.0 if more arrive than can be answered.
    """
    if rate > 0 and rate >= replicas * service.capacity:
        return 1.0
    queue = _queue(rate, replicas, service)
    left = seconds - queue.own * _factors(queue.spread)
    late = queue.busy * np.exp(np.minimum(0.0, -left / queue.wait)) if queue.wait > 0 else 0.0
    return float(np.where(left < 0, 1.0, late).mean())


def latency_quantile(rate: float, replicas: int, service: ServiceTime, quantile: float) -> float:
    """Return the seconds within which the part ``quantile`` of the requests is answered; infinity if overloaded.

    See :func:`fraction_over` for the parameters and the formulas.

    Raises
    ------
    InvalidInputError
        If the quantile does not lie between 0 and 1.

    Examples
    --------
    >>> from mlnb.scaling.service_time import ServiceTime
    >>> round(latency_quantile(25, 1, ServiceTime(fixed=0.02, spread=1.0), 0.95), 2)
    0.12
    """
    _check_quantile(quantile)
    if rate > 0 and rate >= replicas * service.capacity:
        return math.inf
    most = service.of(service.most_rows)
    while fraction_over(rate, replicas, service, seconds=most) > 1 - quantile:
        most *= 2
    least = 0.0
    while most - least > _PRECISION * most:
        middle = (least + most) / 2
        if fraction_over(rate, replicas, service, seconds=middle) > 1 - quantile:
            least = middle
        else:
            most = middle
    return most


def replicas_for(
    rate: float, service: ServiceTime, *, seconds: float, quantile: float = 0.95, most: int | None = None
) -> int | None:
    """Return the fewest replicas on which the part ``quantile`` of the requests is answered within so many seconds.

    Parameters
    ----------
    rate : float
        Requests of one row per second.
    service : ServiceTime
    seconds : float
    quantile : float
    most : int, optional
        Replicas that there may be.

    Returns
    -------
    int or None
        None if no number can, or none up to ``most``.

    Raises
    ------
    InvalidInputError
        If the quantile does not lie between 0 and 1.

    Examples
    --------
    >>> from mlnb.scaling.service_time import ServiceTime
    >>> replicas_for(200, ServiceTime(fixed=0.02, spread=0.5), seconds=0.1)
    5
    """
    _check_quantile(quantile)
    if fraction_over(0.0, 1, service, seconds=seconds) > 1 - quantile:
        return None
    below, step = int(rate / service.capacity), 1  # too few: those who come are more than are answered
    while fraction_over(rate, below + step, service, seconds=seconds) > 1 - quantile:
        below, step = below + step, 2 * step
    enough = below + step
    while enough - below > 1:
        middle = (below + enough) // 2
        if fraction_over(rate, middle, service, seconds=seconds) > 1 - quantile:
            below = middle
        else:
            enough = middle
    return enough if most is None or enough <= most else None


def most_rate(replicas: int, service: ServiceTime, *, seconds: float, quantile: float = 0.95) -> float:
    """Return how many requests a second so many replicas take with the part ``quantile`` within so many seconds.

    0.0 if even one row alone takes longer. See :func:`replicas_for` for the parameters.
    """
    _check_quantile(quantile)
    least, most = 0.0, replicas * service.capacity
    if fraction_over(0.0, replicas, service, seconds=seconds) > 1 - quantile:
        return 0.0
    while most - least > _PRECISION * most:
        middle = (least + most) / 2
        if fraction_over(middle, replicas, service, seconds=seconds) > 1 - quantile:
            most = middle
        else:
            least = middle
    return least


def _check_quantile(quantile: float) -> None:
    if not 0 < quantile < 1:
        raise InvalidInputError(f"quantile={quantile!r:.40}: a number between 0 and 1 is needed, such as 0.95.")


class _Queue(NamedTuple):
    """What a request meets: all busy with a probability, and then a mean wait; a mean service and its spread."""

    busy: float
    wait: float
    own: float
    spread: float


def _queue(rate: float, replicas: int, service: ServiceTime) -> _Queue:
    if rate <= 0:
        return _Queue(0.0, 0.0, service.of(1), service.spread)
    rows, varied = service.most_rows, service.spread**2
    joining, batch = _batch(rate, replicas, service)
    busy = _erlang_c(replicas, rate * service.of(batch) / batch)
    full = rate / (replicas * service.capacity)
    chance = 1 - 1 / replicas  # several replicas end at random moments, so batches differ as those moments do
    uneven = (service.per_row / service.of(batch)) ** 2 * (joining + chance * joining**2)
    again = min(1.0, rate * service.per_row / replicas)  # rows that come while one is served: they make the next batch
    uneven = min(uneven / max(_PRECISION, 1 - again**2 / replicas), rows / batch - 1)
    next_free = service.of(batch) * (1 + varied + uneven) / 2
    did_not_fit = service.of(rows) * (1 / rows + varied) / 2 * full**rows / (1 - full)
    larger = 1 + chance + (uneven + varied) / replicas  # batches, as their rows see them: more are in large ones
    joined = min(rows, 1 + busy * joining * larger)
    own = service.of(joined)
    differs = (service.per_row * (joined - 1) / own) ** 2 / 2 * (1 - joined / rows)
    return _Queue(busy, (next_free + did_not_fit) / replicas, own, math.ceil(20 * math.sqrt(varied + differs)) / 20)


def _batch(rate: float, replicas: int, service: ServiceTime) -> tuple[float, float]:
    """Return how many rows arrive between two ends of batches while all are busy, and the mean rows of a batch."""
    rows, batch, joining = service.most_rows, 1.0, 0.0
    if rows == 1:
        return rate * service.of(1) / replicas, 1.0
    for _ in range(_ROUNDS):
        joining = rate * service.of(batch) / replicas
        grown = min(rows, joining + math.exp(-joining))  # one at least; Poisson arrivals
        if abs(grown - batch) < _PRECISION * batch:
            break
        batch = grown
    return joining, batch


def _erlang_c(replicas: int, load: float) -> float:
    """Return the probability that all are busy, of Erlang's B by its recursion; ``load`` is in busy replicas."""
    if load >= replicas:
        return 1.0
    blocked = 1.0
    for count in range(1, replicas + 1):
        blocked = load * blocked / (count + load * blocked)
    return replicas * blocked / (replicas - load * (1 - blocked))


@lru_cache(maxsize=256)
def _factors(spread: float) -> Any:
    """Return points of a gamma distribution of mean 1, as the simulator has it, each as likely as the others."""
    if spread <= 0:
        return np.ones(1)
    shape = 1 / spread**2
    lowest = math.log(shape) - 8 * spread * max(1.0, spread)
    log = np.linspace(lowest, math.log(shape + 8 / spread + 12), _GRID)
    density = shape * log - np.exp(log)
    until = np.cumsum(np.exp(density - density.max()))
    return np.exp(np.interp((np.arange(_POINTS) + 0.5) / _POINTS, until / until[-1], log)) / shape
