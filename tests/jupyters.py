"""A Jupyter server without its pages, as a hub starts one for a user: under a prefix, behind a token."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from waiting import free_port, wait_until

_ALONE = "{'jupyter_server_proxy': True, 'jupyterlab': False, 'notebook_shim': False, 'jupyter_lsp': False}"


@dataclass(frozen=True)
class Jupyter:
    """A running server; ``url`` ends with its prefix, without a slash."""

    url: str
    token: str

    @property
    def login(self) -> dict[str, str]:
        """What a program sends."""
        return {"Authorization": f"token {self.token}"}

    def through(self, port: int | str) -> str:
        """Return where another port of this machine is reached through it."""
        return f"{self.url}/proxy/{port}"


@contextmanager
def running_jupyter(folder: Path, *, base_url: str = "/user/ada") -> Iterator[Jupyter]:
    port, token = free_port(), secrets.token_hex(16)
    places = {f"JUPYTER_{kind}_DIR": str(folder / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    command = [
        sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", f"--ServerApp.base_url={base_url}/", f"--ServerApp.root_dir={folder}",
        f"--ServerApp.jpserver_extensions={_ALONE}",
    ]  # fmt: skip
    environment = os.environ | places | {"JUPYTER_TOKEN": token}
    with (folder / "jupyter.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            running = Jupyter(f"http://127.0.0.1:{port}{base_url}", token)
            wait_until(lambda: _is_ready(running, server), seconds=60)
            yield running
        finally:
            server.terminate()
            server.wait(30)


def _is_ready(running: Jupyter, server: subprocess.Popen[bytes]) -> bool:
    if server.poll() is not None:
        raise RuntimeError(f"Jupyter ended with {server.returncode}.")
    try:
        return httpx.get(f"{running.url}/api/status", headers=running.login, timeout=5).status_code == 200
    except httpx.TransportError:
        return False
