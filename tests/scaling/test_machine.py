from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from waiting import wait_until

from mlnb.scaling.machine import CpuGauge, Machine

ALLOWED = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def rooted(root: Path, files: dict[str, str]) -> Machine:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return Machine(root)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """Another one, that computes until it is ended."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        yield process
        process.kill()


def test_without_control_groups_it_is_the_machine(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert machine.cores() == ALLOWED
    free, total = machine.memory()
    assert 0 < free <= total == psutil.virtual_memory().total


def test_this_machine_is_measured() -> None:
    reading = Machine().read([os.getpid()])
    assert 0 < reading.cores <= (os.cpu_count() or 1)
    assert reading.free is not None
    assert reading.total is not None
    assert 0 < reading.free <= reading.total
    assert reading.sizes[os.getpid()] > 1_000_000


@pytest.mark.parametrize(
    "files",
    [
        {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "50000 100000"},
        {
            "proc/self/cgroup": "0::/a/b",
            "sys/fs/cgroup/a/cpu.max": "50000 100000",
            "sys/fs/cgroup/a/b/cpu.max": "max 1",
        },
        {
            "proc/self/cgroup": "4:memory:/\n2:cpu,cpuacct:/docker/1\n0::/",  # whose own folder is not to be seen
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        },
    ],
)
def test_a_quota_of_cores(tmp_path: Path, files: dict[str, str]) -> None:
    assert rooted(tmp_path, files).cores() == 0.5


def test_no_quota(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "1:cpu:/\n0::/", "sys/fs/cgroup/cpu.max": "max 100000",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
    }  # fmt: skip
    assert rooted(tmp_path, files).cores() == ALLOWED


@pytest.mark.parametrize(
    "files",
    [
        {
            "proc/self/cgroup": "0::/pod/x", "sys/fs/cgroup/pod/memory.max": "50000000",
            "sys/fs/cgroup/pod/memory.current": "40000000",
            "sys/fs/cgroup/pod/memory.stat": "anon 30000000\ninactive_file 5000000",
            "sys/fs/cgroup/pod/x/memory.max": "max", "sys/fs/cgroup/pod/x/memory.current": "7",
        },
        {
            "proc/self/cgroup": "9:memory:/\n0::/", "sys/fs/cgroup/memory/memory.limit_in_bytes": "50000000",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "40000000",
            "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 5000000",
        },
    ],
)  # fmt: skip
def test_a_limit_of_memory(tmp_path: Path, files: dict[str, str]) -> None:
    """What is only cached there counts as free."""
    assert rooted(tmp_path, files).memory() == (15_000_000, 50_000_000)


def test_what_says_nothing_is_no_limit(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "9:memory:/\n0::/", "sys/fs/cgroup/memory/memory.limit_in_bytes": str(2**63 - 4096),
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "1", "sys/fs/cgroup/memory.max": "?", "sys/fs/cgroup/cpu.max": "",
    }  # fmt: skip
    machine = rooted(tmp_path, files)
    assert machine.memory()[1] == psutil.virtual_memory().total
    assert machine.cores() == ALLOWED


def test_cpu_times(process: subprocess.Popen[bytes]) -> None:
    gauge = CpuGauge()
    first = gauge.read([process.pid, os.getpid()])
    assert set(first) == {process.pid, os.getpid()}
    wait_until(lambda: gauge.read([process.pid])[process.pid].used >= first[process.pid].used + 0.05)
    now = gauge.read([process.pid])[process.pid]
    assert now.waited >= first[process.pid].waited >= 0
    process.kill()
    process.wait()
    assert gauge.read([process.pid]) == {}


def test_cpu_times_are_cheap(process: subprocess.Popen[bytes]) -> None:
    gauge = CpuGauge()
    gauge.read([process.pid])
    started = time.process_time()
    for _ in range(100):
        gauge.read([process.pid])
    assert time.process_time() - started < 0.1  # some 3 ms
