from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from mlnb.scaling.memory import MemoryGauge


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """Another one, until its input ends."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        if process.poll() is None:
            process.communicate(b"\n")


def test_what_processes_take(process: subprocess.Popen[bytes]) -> None:
    sizes = MemoryGauge().read([os.getpid(), process.pid])
    assert set(sizes) == {os.getpid(), process.pid}
    assert 1_000_000 < sizes[os.getpid()] <= psutil.Process().memory_info().rss * 1.1
    assert sizes[os.getpid()] > sizes[process.pid] > 0


def test_a_process_that_has_ended_is_left_out(process: subprocess.Popen[bytes]) -> None:
    process.communicate(b"\n")
    assert set(MemoryGauge().read([process.pid, os.getpid()])) == {os.getpid()}


def test_it_is_measured_no_more_often_than_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def size(pid: int) -> int:
        asked.append(pid)
        return 8 * pid

    monkeypatch.setattr("mlnb.scaling.memory._size", size)
    kept, always = MemoryGauge(kept=1000), MemoryGauge(kept=0)
    assert kept.read([1]) == {1: 8}
    assert kept.read([1, 2]) == {1: 8, 2: 16}  # one that is new is measured at once
    assert asked == [1, 2]
    always.read([1])
    always.read([1])
    assert asked == [1, 2, 1, 1]


def test_where_the_system_tells_no_share_it_is_the_resident_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: psutil.Process) -> None:
        raise psutil.AccessDenied(self.pid)

    monkeypatch.setattr(psutil.Process, "memory_full_info", refuse)
    (size,) = MemoryGauge().read([os.getpid()]).values()
    assert size == pytest.approx(psutil.Process().memory_info().rss, rel=0.1)
