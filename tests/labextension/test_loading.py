"""What Jupyter's start has of the extension: its name, and little time."""

from __future__ import annotations

import subprocess
import sys

from jupyter_server.extension.manager import ExtensionPackage

HEAVY = "{'numpy', 'scipy', 'orjson', 'psutil', 'mlnb.registry', 'mlnb.serving', 'fastapi', 'IPython'}"
LOADING = f"""
import sys
import jupyter_server.base.handlers
before = set(sys.modules)
import mlnb.labextension.handlers
assert not {HEAVY} & (set(sys.modules) - before), sorted(set(sys.modules) - before)
"""


def test_jupyter_knows_it_by_its_name() -> None:
    package = ExtensionPackage(name="mlnb", enabled=True)  # type: ignore[no-untyped-call]  # as Jupyter has it
    assert package.validate()  # type: ignore[no-untyped-call]
    assert list(package.extension_points) == ["mlnb"]


def test_jupyters_start_loads_nothing_heavy() -> None:
    subprocess.run([sys.executable, "-c", LOADING], check=True, timeout=60)
