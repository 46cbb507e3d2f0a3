"""How much memory processes take, shared pages counted once for all who share them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MemoryGauge"]

_KEPT = 5.0  # seconds; the system walks through all pages of a process to tell its share, 4 ms for 170 MB


class MemoryGauge:
    """Measures processes of this machine, each at most once in ``kept`` seconds.

    Parameters
    ----------
    kept : float
        Seconds.
    """

    def __init__(self, *, kept: float = _KEPT) -> None:
        self._kept = kept
        self._known: dict[int, tuple[float, int]] = {}

    def read(self, pids: Iterable[int]) -> dict[int, int]:
        """Return the proportional set size of processes, in bytes by process id.

        A page that three processes map counts a third in each. Where the system does not tell that, it is the resident
        set size. A process that has ended, or is somebody else's, is left out.
        """
        now = time.monotonic()
        fresh = {pid: known for pid in pids if (known := self._measured(pid, now)) is not None}
        self._known = fresh
        return {pid: size for pid, (_, size) in fresh.items()}

    def _measured(self, pid: int, now: float) -> tuple[float, int] | None:
        known = self._known.get(pid)
        if known is not None and now - known[0] < self._kept:
            return known
        size = _size(pid)
        return None if size is None else (now, size)


def _size(pid: int) -> int | None:
    import psutil

    try:
        process = psutil.Process(pid)
        try:
            return int(process.memory_full_info().pss)
        except (psutil.AccessDenied, AttributeError):  # macOS has no such figure, and tells others to root only
            return int(process.memory_info().rss)
    except psutil.Error:
        return None
