"""What this machine has for replicas, by its control groups too, and what they take of it."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mlnb.scaling.memory import MemoryGauge

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["CpuGauge", "CpuTime", "Machine", "MachineReading"]

_UNLIMITED = 1 << 60  # bytes; version 1 of control groups says "none" by a number near 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineReading:
    """A machine at one moment.

    Attributes
    ----------
    cores : float
        That this process may use.
    free, total : int or None
        Bytes of memory.
    sizes : dict of int to int
        Bytes that processes take, by process id.
    """

    cores: float
    free: int | None = None
    total: int | None = None
    sizes: Mapping[int, int] = field(default_factory=dict)


class Machine:
    """Measures this machine, as far as this process may use it.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` are mounted.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._groups = root / "sys" / "fs" / "cgroup"
        self._own = root / "proc" / "self" / "cgroup"
        self._memory = MemoryGauge()

    def read(self, pids: Iterable[int] = ()) -> MachineReading:
        """Measure it, and processes; takes milliseconds for each process, so not for an event loop."""
        free, total = self.memory()
        return MachineReading(cores=self.cores(), free=free, total=total, sizes=self._memory.read(pids))

    def cores(self) -> float:
        """Return how many cores this process may use: by its affinity, and by the quotas of its control groups."""
        allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min([float(allowed), *self._quotas()])

    def memory(self) -> tuple[int, int]:
        """Return the bytes of memory that are free for this process, and how many there are for it."""
        import psutil

        machine = psutil.virtual_memory()
        found = [(int(machine.available), int(machine.total)), *self._memory_limits()]
        return min(free for free, _ in found), min(total for _, total in found)

    def _quotas(self) -> Iterator[float]:
        for group in self._of("", ""):
            quota, _, period = _text(group / "cpu.max").partition(" ")
            yield from _ratio(quota, period)
        for group in self._of("cpu", "cpu"):
            yield from _ratio(_text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us"))

    def _memory_limits(self) -> Iterator[tuple[int, int]]:
        for group in self._of("", ""):
            yield from _room(group, "memory.max", "memory.current", "inactive_file")
        for group in self._of("memory", "memory"):
            yield from _room(group, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")

    def _of(self, controller: str, mount: str) -> Iterator[Path]:
        """Return the groups of this process, itself and those around it, as far as they can be seen from here."""
        for line in _text(self._own).splitlines():
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                inner = Path(path.lstrip("/"))
                for group in (inner, *inner.parents) if inner.parts else (inner,):
                    yield self._groups / mount / group


def _room(group: Path, most: str, used: str, reclaimable: str) -> Iterator[tuple[int, int]]:
    """Return the free bytes of a control group and its limit, if it has one; what is only cached counts as free."""
    limit, taken = _text(group / most), _text(group / used)
    if not (limit.isdecimal() and taken.isdecimal()) or int(limit) >= _UNLIMITED:
        return
    cached = 0
    for line in _text(group / "memory.stat").splitlines():
        name, _, count = line.partition(" ")
        if name == reclaimable and count.isdecimal():
            cached = int(count)
    yield max(0, int(limit) - max(0, int(taken) - cached)), int(limit)


def _ratio(quota: str, period: str) -> Iterator[float]:
    if quota.isdecimal() and period.isdecimal() and int(quota) and int(period):
        yield int(quota) / int(period)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


class CpuTime(NamedTuple):
    """Seconds of a process: that it computed, on any core, and that it was ready to and had to wait for one."""

    used: float
    waited: float


class CpuGauge:
    """Reads the CPU time of processes, in some 20 microseconds each."""

    def __init__(self) -> None:
        self._processes: dict[int, Any] = {}

    def read(self, pids: Iterable[int]) -> dict[int, CpuTime]:
        """Return the CPU times so far by process id; a process that has ended, or is somebody else's, is left out."""
        import psutil

        known, self._processes = self._processes, {}
        found: dict[int, CpuTime] = {}
        for pid in pids:
            with suppress(psutil.Error):
                process = known.get(pid) or psutil.Process(pid)
                times = process.cpu_times()
                found[pid] = CpuTime(times.user + times.system, _waited(pid))
                self._processes[pid] = process
        return found


def _waited(pid: int) -> float:
    """Return the seconds that the first thread of a process waited for a core; 0 where the system does not tell."""
    # the second number: https://docs.kernel.org/scheduler/sched-stats.html#proc-pid-schedstat
    words = _text(Path(f"/proc/{pid}/schedstat")).split()
    return int(words[1]) / 1e9 if len(words) > 1 and words[1].isdecimal() else 0.0
