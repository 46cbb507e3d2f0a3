"""What is installed of the sidebar: built into the wheel, and missed calmly where there is no Node.js."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest

import mlnb

ROOT = Path(__file__).parents[2]
SIDEBAR = ROOT / "mlnb" / "labextension"
SHARED = f"mlnb-{mlnb.__version__}.data/data"
MOST_BYTES = 150_000


def checkout(folder: Path, *left_out: str) -> Path:
    """Copy what a wheel is made of, with the times of its files."""
    ignored = shutil.ignore_patterns("__pycache__", "node_modules", *left_out)
    shutil.copytree(ROOT / "mlnb", folder / "mlnb", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", ".gitignore"):
        shutil.copy2(ROOT / name, folder)
    return folder


def build(folder: Path, target: str, *, path: str) -> tuple[Path, str]:
    """Return what hatchling made, and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target],
        cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return next(folder.glob("dist/mlnb-*")), said


def sizes(wheel: Path) -> dict[str, int]:
    with ZipFile(wheel) as archive:
        return {one.filename: one.file_size for one in archive.infolist()}


def test_a_wheel_brings_the_sidebar_and_what_enables_both_extensions(tmp_path: Path) -> None:
    if not shutil.which("npm"):
        pytest.skip("needs Node.js")
    wheel, _ = build(checkout(tmp_path), "wheel", path=os.environ["PATH"])
    files = sizes(wheel)
    shown = {
        name: size for name, size in files.items() if name.startswith(f"{SHARED}/share/jupyter/labextensions/mlnb/")
    }
    assert sum(shown.values()) < MOST_BYTES
    with ZipFile(wheel) as archive:
        package = json.loads(archive.read(f"{SHARED}/share/jupyter/labextensions/mlnb/package.json"))
        enabled = json.loads(archive.read(f"{SHARED}/etc/jupyter/jupyter_server_config.d/mlnb.json"))
    assert f"{SHARED}/share/jupyter/labextensions/mlnb/{package['jupyterlab']['_build']['load']}" in shown
    assert f"{SHARED}/share/jupyter/labextensions/mlnb/install.json" in shown
    assert enabled == {"ServerApp": {"jpserver_extensions": {"mlnb": True}}}
    assert "mlnb/labextension/static/package.json" in files  # by which the Jupyter server knows that it is built
    assert not [name for name in files if re.search(r"node_modules|\.tsx?$|package-lock|building\.py", name)]


def test_a_source_distribution_brings_the_sidebar_built(tmp_path: Path) -> None:
    if not shutil.which("npm"):
        pytest.skip("needs Node.js")
    distribution, _ = build(checkout(tmp_path), "sdist", path=os.environ["PATH"])
    with tarfile.open(distribution) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    folder = next((tmp_path / "unpacked").iterdir())
    assert folder.joinpath("mlnb/labextension/src/index.ts").is_file()
    assert not folder.joinpath("mlnb/labextension/node_modules").exists()
    wheel, said = build(folder, "wheel", path=str(tmp_path / "nothing"))
    assert f"{SHARED}/share/jupyter/labextensions/mlnb/package.json" in sizes(wheel)
    assert "without its sidebar" not in said


def test_without_node_all_but_the_sidebar_is_built_and_that_is_said(tmp_path: Path) -> None:
    wheel, said = build(checkout(tmp_path, "static"), "wheel", path=str(tmp_path / "nothing"))
    files = sizes(wheel)
    assert "mlnb is installed without its sidebar for JupyterLab; all else of it works." in said
    assert "have Node.js 20 or newer and npm in PATH" in said
    assert "mlnb/labextension/__init__.py" in files
    assert f"{SHARED}/etc/jupyter/jupyter_server_config.d/mlnb.json" in files
    assert not [name for name in files if name.endswith("labextensions/mlnb/package.json") or "/static/" in name]


def test_the_sidebar_has_mlnbs_version_and_its_lock_names_no_host() -> None:
    package = json.loads((SIDEBAR / "package.json").read_text())
    lock = json.loads((SIDEBAR / "package-lock.json").read_text())
    assert package["version"] == lock["version"] == mlnb.__version__
    assert not [name for name, one in lock["packages"].items() if "resolved" in one]
