"""Run tutorials in the JupyterLab that ``binder/`` makes, as Binder does.

    PATH=ENVIRONMENT/bin:$PATH python tests/binder/run_tutorials.py NOTEBOOK ...

Each tutorial is a session of that JupyterLab, what it deploys is reached through Jupyter's port, and all of it stays
under 1 GB. Exits with 1 if anything is not so.
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nbformat
import psutil
import requests
from jupyter_client.manager import AsyncKernelManager
from waiting import free_port, wait_until

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "notebooks"))
from demo import PLACES, follow  # type: ignore[import-not-found, unused-ignore]  # noqa: E402 - it is a program too

LOG = ROOT / "test-artifacts" / "binder-jupyterlab.log"
PREFIX = "/user/ada/"  # what is not at the root shows each URL that forgets where it is
MOST_BYTES = 1e9


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="+", type=lambda given: Path(given).resolve())
    paths = parser.parse_args().notebooks
    with tempfile.TemporaryDirectory(prefix="mlnb-binder-") as home, running_jupyterlab(Path(home)) as lab:
        outcomes = [run(path, lab) for path in paths]
    say(f"\n{'tutorial':<32}{'seconds':>8}{'MB':>6}  reached through Jupyter's port")
    for outcome in outcomes:
        say(str(outcome))
    wrong = [f"{outcome.name}: {reason}" for outcome in outcomes for reason in outcome.wrong]
    for line in wrong:
        print(f"FAILED: {line}", file=sys.stderr)  # noqa: T201 - a program's output
    return 1 if wrong else 0


@dataclass(slots=True)
class Outcome:
    """What became of a tutorial."""

    name: str
    seconds: float = 0
    peak: int = 0
    reached: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def fail(self, reason: str) -> None:
        if reason not in self.wrong:
            self.wrong.append(reason)

    def __str__(self) -> str:
        return f"{self.name:<32}{self.seconds:>8.1f}{self.peak / 1e6:>6.0f}  {', '.join(self.reached) or '-'}"


@dataclass(frozen=True, slots=True)
class Lab:
    """A running JupyterLab, as the one who opened it may ask it."""

    url: str
    token: str
    runtime: Path
    process: psutil.Process

    def ask(self, method: str, path: str, body: Any = None) -> requests.Response:
        headers = {"Authorization": f"token {self.token}"}
        return requests.request(method, self.url + path, json=body, headers=headers, timeout=60)


def run(path: Path, lab: Lab) -> Outcome:
    outcome = Outcome(path.name)
    notebook: Any = nbformat.read(path, as_version=4)
    begin = time.monotonic()
    with session(path.relative_to(ROOT), lab) as opened, watched(lab.process) as memory:
        kernel = RunningKernel(lab.runtime, opened["kernel"]["id"])
        if not follow(notebook, path, kernel=kernel, after_cell=lambda: reach(opened, lab, outcome)):
            outcome.fail("a step failed")
    outcome.seconds, outcome.peak = time.monotonic() - begin, memory.peak
    if outcome.peak > MOST_BYTES:
        outcome.fail(f"it took {outcome.peak / 1e6:.0f} MB, more than {MOST_BYTES / 1e6:.0f}")
    if deploys(notebook) and not outcome.reached:
        outcome.fail("nothing that it deploys was listed after any of its steps")
    for process in left(lab.process):
        outcome.fail(f"it left {process} behind")
    return outcome


def deploys(notebook: Any) -> bool:
    return any("%deploy_model" in cell.source for cell in notebook.cells if cell.cell_type == "code")


def reach(opened: dict[str, Any], lab: Lab, outcome: Outcome) -> None:
    """Ask JupyterLab for what is live now, and through its port each deployment that was not live before."""
    listed = lab.ask("GET", "mlnb/deployments")
    if not listed.ok:
        outcome.fail(f"{listed.url} answered {listed.status_code}")
        return
    told = listed.json()
    if not told["proxy"]:
        outcome.fail("jupyter-server-proxy is not enabled")
    for one in told["deployments"]:
        if one["name"] in outcome.reached:
            continue
        outcome.reached.append(one["name"])
        answer = lab.ask("GET", f"proxy/{one['port']}/models/{quote(one['name'])}/info")
        if not (answer.ok and answer.json()["model"] == one["name"]):
            outcome.fail(f"{answer.url} answered {answer.status_code}: {answer.text[:200]}")
        if (one["kernel"], one["notebook"]) != (opened["kernel"]["id"], opened["path"]):
            outcome.fail(f"{one['name']} is listed as of {one['notebook']}, kernel {one['kernel']}")


def left(server: psutil.Process) -> list[psutil.Process]:
    with suppress(TimeoutError):
        wait_until(lambda: not server.children(recursive=True), seconds=30)
    return server.children(recursive=True)


class RunningKernel(AsyncKernelManager):
    """A kernel that a Jupyter server has started and will end: clients connect to it, and nothing else."""

    has_kernel = True

    def __init__(self, runtime: Path, kernel: str) -> None:
        super().__init__(connection_file=str(runtime / f"kernel-{kernel}.json"), owns_kernel=False)
        self.load_connection_file()


@contextmanager
def session(path: Path, lab: Lab) -> Iterator[dict[str, Any]]:
    """Open a notebook as JupyterLab does, and end its kernel."""
    body = {"path": str(path), "name": path.name, "type": "notebook", "kernel": {"name": "python3"}}
    answer = lab.ask("POST", "api/sessions", body)
    answer.raise_for_status()
    opened = answer.json()
    try:
        yield opened
    finally:
        lab.ask("DELETE", f"api/sessions/{opened['id']}").raise_for_status()


@dataclass(slots=True)
class Memory:
    """The most that a server, its kernels and all that they started took at once, in bytes."""

    peak: int = 0

    def read(self, server: psutil.Process) -> None:
        self.peak = max(self.peak, sum(size(process) for process in [server, *server.children(recursive=True)]))


def size(process: psutil.Process) -> int:
    """Return its proportional set size: what processes share is counted once."""
    with suppress(psutil.NoSuchProcess):
        return process.memory_full_info().pss
    return 0


@contextmanager
def watched(server: psutil.Process) -> Iterator[Memory]:
    memory, enough = Memory(), threading.Event()

    def watch() -> None:
        while not enough.wait(0.5):
            memory.read(server)

    thread = threading.Thread(target=watch, name="memory")
    thread.start()
    try:
        yield memory
    finally:
        enough.set()
        thread.join()


@contextmanager
def running_jupyterlab(home: Path) -> Iterator[Lab]:
    """Start it as Binder does: ``binder/start`` with the command, in the repository's folder."""
    port, token = free_port(), secrets.token_hex(16)
    command = [
        "binder/start", "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", f"--ServerApp.base_url={PREFIX}", f"--IdentityProvider.token={token}",
    ]  # fmt: skip
    LOG.parent.mkdir(exist_ok=True)
    with LOG.open("w") as log:
        server = psutil.Popen(command, cwd=ROOT, env=environment(home), stdout=log, stderr=log, start_new_session=True)
    lab = Lab(f"http://127.0.0.1:{port}{PREFIX}", token, home / "runtime", server)
    try:
        wait_until(lambda: answers(lab), seconds=60)
        yield lab
    finally:
        end(server)


def environment(home: Path) -> dict[str, str]:
    """Return what a server on Binder has: nothing of who runs this, and folders of its own."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "PYTHON", "MLNB"))}
    places = {name: str(home / folder) for name, folder in PLACES.items()}
    jupyter = {f"JUPYTER_{name.upper()}_DIR": str(home / name) for name in ("config", "data", "runtime")}
    return mine | places | jupyter | {"LOGNAME": "ada", "JUPYTERHUB_SERVICE_PREFIX": PREFIX}


def answers(lab: Lab) -> bool:
    if not lab.process.is_running() or lab.process.status() == psutil.STATUS_ZOMBIE:
        raise RuntimeError(f"JupyterLab ended: {LOG.read_text()[-2000:]}")
    with suppress(requests.ConnectionError):
        return lab.ask("GET", "api/status").ok
    return False


def end(server: psutil.Popen) -> None:
    processes = [server, *server.children(recursive=True)]
    server.terminate()
    with suppress(psutil.TimeoutExpired, subprocess.TimeoutExpired):
        server.wait(30)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a program's output


if __name__ == "__main__":
    sys.exit(main())
