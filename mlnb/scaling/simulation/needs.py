"""What a load needs beyond this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil
from typing import TYPE_CHECKING, overload

from mlnb.errors import InvalidInputError
from mlnb.registry.tables import Cell, Column, format_size, lay_out
from mlnb.scaling.policies.queueing import most_rate, replicas_for

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlnb.scaling.service_time import ServiceTime

__all__ = ["Machine", "Need", "Needs", "needs"]

_GATEWAY = 10_000.0  # requests per second that one gateway takes; measured on two cores
_FULL = 0.7  # of its capacity, where no objective says how much a replica may work
_STEPS = 4096  # replicas of one machine
_NUMBER = "text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap"
_MUTED = "color: var(--jp-content-font-color2, #767676)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One machine of a cluster.

    Attributes
    ----------
    cores : float
        One of them is left to the gateway.
    memory : int
        Bytes.
    """

    cores: float = 16
    memory: int = 64_000_000_000

    @property
    def words(self) -> str:
        """What it has."""
        return f"{self.cores:g} cores and {format_size(self.memory)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What one rate needs.

    Attributes
    ----------
    rate : float
        Requests per second.
    replicas, machines : int or None
        None if no number is enough.
    cores : float or None
        Of the replicas and one gateway for each machine.
    memory : int or None
        Bytes, of the replicas; None if what one takes is not known.
    """

    rate: float
    replicas: int | None = None
    machines: int | None = None
    cores: float | None = None
    memory: int | None = None


@dataclass(frozen=True, slots=True)
class Needs(Sequence[Need]):
    """What rates need, as a table.

    Attributes
    ----------
    rows : tuple of Need
    words : str
        Under which assumptions.
    """

    rows: tuple[Need, ...]
    words: str

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Need: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Need, ...]: ...
    def __getitem__(self, index: int | slice) -> Need | tuple[Need, ...]:
        return self.rows[index]

    def __repr__(self) -> str:
        columns = [Column(title, tuple(map(Cell, cells)), kind="number") for title, cells in self._columns().items()]
        return f"{lay_out(columns)}\n{self.words}"

    def _repr_html_(self) -> str:
        columns = self._columns()
        head = "".join(f'<th style="{_NUMBER}">{title}</th>' for title in columns)
        body = "".join(
            "<tr>" + "".join(f'<td style="{_NUMBER}">{cell}</td>' for cell in row) + "</tr>"
            for row in zip(*columns.values(), strict=True)
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return f'<div class="mlnb-needs">{table}<small style="{_MUTED}">{escape(self.words)}</small></div>'

    def _columns(self) -> dict[str, list[str]]:
        return {
            "requests/s": [f"{one.rate:,.0f}" for one in self.rows],
            "replicas": [_whole(one.replicas) for one in self.rows],
            "cores": [_whole(one.cores) for one in self.rows],
            "memory": ["—" if one.memory is None else format_size(one.memory) for one in self.rows],
            "machines": [_whole(one.machines) for one in self.rows],
        }


def needs(
    service: ServiceTime,
    *,
    rates: Iterable[float] = (10_000, 1_000_000),
    objective: float | None = None,
    quantile: float = 0.95,
    memory: int | None = None,
    machine: Machine | None = None,
) -> Needs:
    """Return what rates need on a cluster of equal machines.

    Each machine has a gateway with a queue of its own, as one of mlnb has, and an equal share of the requests, which
    arrive independently of each other. So many replicas stand behind each gateway that the objective holds by
    :func:`~mlnb.scaling.policies.queueing.replicas_for`; without one they work 70 % of their time at most. A gateway
    is taken to pass on 10,000 requests per second, as measured on two cores. It is an estimate for one row a request
    on machines as fast as this one; the network, a load balancer before the machines, what must be there for a machine
    that fails, and bursts beyond a Poisson process are not in it.

    Parameters
    ----------
    service : ServiceTime
    rates : iterable of float
        Requests per second.
    objective : float, optional
        Seconds within which the part ``quantile`` of the requests is answered.
    quantile : float
    memory : int, optional
        Bytes that one replica takes.
    machine : Machine, optional

    Raises
    ------
    InvalidInputError
        If a rate is not above 0, or no replica fits into a machine.

    Examples
    --------
    >>> from mlnb.scaling.service_time import ServiceTime
    >>> print(needs(ServiceTime(fixed=0.004, per_row=0.0001, most_rows=64), objective=0.05, memory=150_000_000))
    requests/s  replicas  cores   memory  machines
        10,000         2      3   300 MB         1
     1,000,000       200    300  30.0 GB       100
    Estimated for 95 % within 50 ms on machines of 16 cores and 64.0 GB, each with a gateway of its own.
    """
    box = machine or Machine()
    places = _places(service, memory, box)
    top = min(_GATEWAY, _most(places, service, objective, quantile))
    rows = tuple(_need(rate, service, top, objective, quantile, memory) for rate in rates)
    goal = (
        f"replicas that work {100 * _FULL:.0f} % of their time"
        if objective is None
        else f"{100 * quantile:g} % within {objective * 1e3:g} ms"
    )
    words = f"Estimated for {goal} on machines of {box.words}, each with a gateway of its own."
    return Needs(rows, f"{words} No number of replicas is fast enough for that." if top <= 0 else words)


def _places(service: ServiceTime, memory: int | None, machine: Machine) -> int:
    by_cores = int((machine.cores - 1) / service.cores) if service.cores > 0 else _STEPS
    by_memory = machine.memory // memory if memory else by_cores
    places = min(by_cores, by_memory, _STEPS)
    if places < 1:
        takes = f"{service.cores:g} cores" + (f" and {format_size(memory)}" if memory else "")
        raise InvalidInputError(f"One replica takes {takes}, and does not fit into a machine of {machine.words}.")
    return places


def _most(replicas: int, service: ServiceTime, objective: float | None, quantile: float) -> float:
    """Return how many requests per second the replicas of one machine take."""
    if objective is None:
        return _FULL * replicas * service.capacity
    return most_rate(replicas, service, seconds=objective, quantile=quantile)


def _need(
    rate: float, service: ServiceTime, top: float, objective: float | None, quantile: float, memory: int | None
) -> Need:
    if not 0 < rate < 1e12:  # noqa: PLR2004 - no number, or none that anybody has
        raise InvalidInputError(f"rate={rate!r:.40}: a number of requests per second above 0 is needed.")
    if top <= 0:
        return Need(rate=rate)
    machines = ceil(rate / top)
    share = rate / machines
    if objective is None:
        each: int | None = ceil(share / (_FULL * service.capacity))
    else:
        each = replicas_for(share, service, seconds=objective, quantile=quantile)
    if each is None:
        return Need(rate=rate)
    replicas = each * machines
    return Need(
        rate=rate, replicas=replicas, machines=machines, cores=replicas * service.cores + machines,
        memory=None if memory is None else replicas * memory,
    )  # fmt: skip


def _whole(value: float | None) -> str:
    return "—" if value is None else f"{ceil(value):,}"
