"""A Jupyter server with mlnb's extension and no other, its notebooks and their kernels."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from jupyter_client.blocking.client import BlockingKernelClient
from waiting import free_port, wait_until

MODEL = """
import mlnb
import numpy as np
class Times:
    "A class that only this notebook knows."
    def __init__(self, factor):
        self.factor = factor
    def predict(self, rows):
        return self.factor * np.asarray(rows)[:, 0]
def deploy(name, *factors):
    for factor in factors:
        last = mlnb.deploy(Times(factor), name=name, example=[[1.0]], metrics={"factor": factor})
    return last
"""
EMPTY = json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


@dataclass
class Kernel:
    """A kernel of a notebook, and a client that runs cells in it."""

    id: str
    session: str
    client: BlockingKernelClient

    def run(self, code: str) -> None:
        reply = self.client.execute(code, reply=True, timeout=60)
        assert reply["content"]["status"] == "ok", reply["content"]

    def value(self, expression: str) -> str:
        reply = self.client.execute("", user_expressions={"value": expression}, reply=True, timeout=60)
        text: str = reply["content"]["user_expressions"]["value"]["data"]["text/plain"]
        return text

    @property
    def pid(self) -> int:
        return int(self.value("__import__('os').getpid()"))


@dataclass
class NotebookServer:
    """A running Jupyter server whose folders are all in ``home``."""

    url: str
    token: str
    home: Path
    process: subprocess.Popen[bytes]
    kernels: list[Kernel] = field(default_factory=list)

    @property
    def runtime(self) -> Path:
        return self.home / "runtime"

    @property
    def models(self) -> Path:
        return self.home / "models"

    @property
    def log(self) -> str:
        return (self.home / "log").read_text()

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"token {self.token}"}

    def get(self, path: str) -> Any:
        """Return what a page reads whose user is logged in."""
        answer = httpx.get(f"{self.url}/{path}", headers=self.headers, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        return httpx.post(f"{self.url}/{path}", headers=self.headers, json=body or {}, timeout=60)

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return what is listed, by name."""
        return {row["name"]: row for row in self.get("mlnb/deployments")["deployments"]}

    def wait_for(self, *names: str) -> None:
        """Wait until deployments are listed."""
        wait_until(lambda: {*names} <= self.rows().keys(), seconds=20)

    def act(self, name: str, action: str, **body: Any) -> httpx.Response:
        """Do what a button of the sidebar does."""
        return self.post(f"mlnb/deployments/{self.rows()[name]['process']}/{name}/{action}", body)

    def open(self, notebook: str) -> Kernel:
        """Give a notebook a kernel in which models can be deployed."""
        (self.home / "notebooks" / notebook).write_text(EMPTY)
        body = {"path": notebook, "name": notebook, "type": "notebook", "kernel": {"name": "python3"}}
        session = self.post("api/sessions", body).json()
        file = self.runtime / f"kernel-{session['kernel']['id']}.json"
        client = BlockingKernelClient(connection_file=str(file))
        client.load_connection_file()
        client.start_channels()
        kernel = Kernel(session["kernel"]["id"], session["id"], client)
        self.kernels.append(kernel)
        client.kernel_info(reply=True, timeout=60)  # wait_for_ready gives up on a kernel that starts slowly
        kernel.run(MODEL)
        return kernel


@contextmanager
def running_notebook_server(home: Path, *options: str) -> Iterator[NotebookServer]:
    port, token = free_port(), secrets.token_hex(16)
    (home / "notebooks").mkdir()
    environment = os.environ | {
        "IPYTHONDIR": f"{home}/ipython",
        "JUPYTER_CONFIG_DIR": f"{home}/config",
        "JUPYTER_DATA_DIR": f"{home}/data",
        "JUPYTER_NO_CONFIG": "1",  # none of the extensions that are installed here
        "JUPYTER_RUNTIME_DIR": f"{home}/runtime",
        "MLNB_HOME": f"{home}/models",
        "MLNB_PROVE": "off",
        "PYTHONPATH": str(home),
        "XDG_CONFIG_HOME": f"{home}/trust",
    }
    command = [
        sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={home}/notebooks",
        "--ServerApp.jpserver_extensions=mlnb=True", "--ServerApp.base_url=/user/me/", *options,
    ]  # fmt: skip
    with (home / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    running = NotebookServer(f"http://127.0.0.1:{port}/user/me", token, home, process)
    try:
        wait_until(lambda: _answers(running), seconds=60)
        yield running
    finally:
        for kernel in running.kernels:
            kernel.client.stop_channels()
            kernel.client.context.destroy(linger=0)
        process.terminate()
        process.wait(60)


def _answers(running: NotebookServer) -> bool:
    assert running.process.poll() is None, running.log
    try:
        return httpx.get(f"{running.url}/api", timeout=5).status_code == 200
    except httpx.TransportError:
        return False
