"""What the figures were measured on, in words that name no host and no folder."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import psutil

__all__ = ["machine"]


def machine() -> dict[str, str]:
    """Return the facts by name."""
    return {
        "cores": str(psutil.cpu_count()),
        "processor": _processor(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "Python": platform.python_version(),
        "wrk": _wrk(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _wrk() -> str:
    said = subprocess.run(["wrk", "-v"], check=False, capture_output=True, text=True)
    return (said.stdout + said.stderr).split(" [", maxsplit=1)[0].removeprefix("wrk ")
