"""Binder: the files are what repo2docker takes; ``make tutorials`` runs everything in what they make."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "binder"
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def run(*command: str | Path, path: str = PATH, **given: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": path, "HOME": "/home/ada"} | given
    return subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True)


def started(**given: str) -> dict[str, str]:
    """Return the environment of a command that ``start`` becomes."""
    ended = run(FOLDER / "start", "env", "--null", **given)
    assert ended.returncode == 0, ended.stderr
    return dict(line.split("=", 1) for line in ended.stdout.split("\0") if line)


@pytest.mark.parametrize("name", ["postBuild", "start"])
def test_scripts_are_programs_of_bash(name: str) -> None:
    assert os.access(FOLDER / name, os.X_OK)
    assert (FOLDER / name).read_text().startswith("#!/bin/bash\n")
    assert run("bash", "-n", FOLDER / name).returncode == 0


def test_the_environment_is_a_python_that_mlnb_supports_and_mlnb_with_all_that_a_tutorial_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    minor = re.fullmatch(r"python-(3\.\d+)\n", (FOLDER / "runtime.txt").read_text())
    assert minor
    assert f"Programming Language :: Python :: {minor[1]}" in project["classifiers"]
    assert (FOLDER / "requirements.txt").read_text() == "--editable .[tutorials]\n"
    assert {file.name for file in FOLDER.iterdir()} == {"postBuild", "requirements.txt", "runtime.txt", "start"}


def test_start_becomes_the_command_with_the_settings_of_a_small_machine() -> None:
    environment = started()
    assert environment["MLNB_HOME"] == "/home/ada/.local/share/mlnb"
    assert environment["MALLOC_ARENA_MAX"] == "2"
    assert 1 <= int(environment["OMP_NUM_THREADS"]) <= (os.cpu_count() or 1)


def test_start_leaves_what_is_set_and_passes_arguments_and_statuses_on() -> None:
    environment = started(MLNB_HOME="/models", OMP_NUM_THREADS="7")
    assert (environment["MLNB_HOME"], environment["OMP_NUM_THREADS"]) == ("/models", "7")
    ended = run(FOLDER / "start", "sh", "-c", 'echo "$0"; exit 3', "two words")
    assert (ended.stdout, ended.returncode) == ("two words\n", 3)


def test_the_build_fails_in_words_where_jupyter_has_no_extension_of_mlnb(tmp_path: Path) -> None:
    jupyter = tmp_path / "jupyter"
    jupyter.write_text("#!/bin/sh\necho '    jupyter_server_proxy enabled\n      jupyter_server_proxy 4.6.0 OK'\n")
    jupyter.chmod(0o755)
    ended = run(FOLDER / "postBuild", path=f"{tmp_path}{os.pathsep}{PATH}")
    assert ended.returncode == 1
    assert "the server extension mlnb is not enabled" in ended.stderr


def test_every_notebook_is_run() -> None:
    told = run("make", "--dry-run", "tutorials").stdout
    (line,) = [line for line in told.splitlines() if "run_tutorials.py" in line]
    assert {path.name for path in (ROOT / "notebooks").glob("*.ipynb")} <= {Path(word).name for word in line.split()}
