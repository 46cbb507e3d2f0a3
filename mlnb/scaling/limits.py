"""How many replicas a machine can hold, by its cores and its memory."""

from __future__ import annotations

from math import floor
from typing import NamedTuple

__all__ = ["MachineLimit", "machine_limit"]

_RESERVE, _RESERVED_PART = 0.5e9, 0.1  # bytes of memory that are left free, and the part of it where that is less
_WHOLE = 0.9  # of a core: what keeps as much busy keeps one busy, and 1.2 is still one
_LEAST = 0.01  # of a core: nothing needs less than is measured


class MachineLimit(NamedTuple):
    """How many replicas there may be, None if that is not known, and why, in words."""

    replicas: int | None = None
    reason: str = ""


def machine_limit(
    *, cores: float, cores_each: float | None, memory: int | None, memory_each: int | None, total: int | None,
    ready: int, measured: int, versions: int = 1,
) -> MachineLimit:  # fmt: skip
    """Return how many replicas of each version a machine can hold, at least 1.

    More that compute than there are cores only slow each other down; of those that wait for something else, such as
    a GPU or another service, a core can hold several. What memory is lacking for is not started; nothing that is there
    is ended for it.

    Parameters
    ----------
    cores : float
        That there are.
    cores_each : float or None
        That a replica keeps busy while it works; None if that was not measured.
    memory, memory_each, total : int or None
        Bytes that are free, that one replica takes, and that the machine has.
    ready, measured : int
        Replicas that are there, and that were when memory was measured, of all versions.
    versions : int
        That have as many replicas each.

    Examples
    --------
    >>> machine_limit(cores=2, cores_each=0.97, memory=None, memory_each=None, total=None, ready=1, measured=1)
    MachineLimit(replicas=2, reason='2 cores: each replica keeps 0.97 of one busy')
    >>> limit = machine_limit(
    ...     cores=8, cores_each=0.1, memory=8 * 10**8, memory_each=10**8, total=4 * 10**9, ready=3, measured=1
    ... )
    >>> limit.replicas, limit.reason
    (5, '0.8 GB of memory is free, a replica takes 0.1 GB')
    """
    found = [
        limit
        for limit in (_by_cores(cores, cores_each), _by_memory(memory, memory_each, total, ready, measured))
        if limit.replicas is not None
    ]
    if not found:
        return MachineLimit()
    replicas, reason = min(found, key=lambda limit: limit.replicas or 0)
    return MachineLimit(max(1, (replicas or 0) // versions), reason)


def _by_cores(cores: float, each: float | None) -> MachineLimit:
    if each is None or each <= 0:
        return MachineLimit()
    counted = max(1, round(each)) if each >= _WHOLE else max(each, _LEAST)
    words = f"{cores:g} core" if cores == 1 else f"{cores:g} cores"
    of_one = f"{each:.2f} of one busy" if each < 1 else f"{each:.1f} busy"
    return MachineLimit(max(1, floor(cores / counted + 1e-9)), f"{words}: each replica keeps {of_one}")


def _by_memory(free: int | None, each: int | None, total: int | None, ready: int, measured: int) -> MachineLimit:
    if free is None or not each:
        return MachineLimit()
    reserve = _RESERVE if total is None else min(_RESERVE, _RESERVED_PART * total)
    more = max(0, floor((free - reserve) / each))
    return MachineLimit(max(ready, measured + more), f"{_gb(free)} of memory is free, a replica takes {_gb(each)}")


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 5e7 else f"{size / 1e6:.0f} MB"  # noqa: PLR2004 - below it, 0.0 GB
