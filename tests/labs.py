"""A JupyterLab to test in, and how to open and run a notebook there."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import nbformat
import psutil
from playwright.sync_api import Page
from waiting import free_port, wait_until

ROOT = Path(__file__).parents[1]
ARTIFACTS = ROOT / "test-artifacts"
SIDEBAR = ROOT / "mlnb" / "labextension" / "static"
APPS = {"jupyterlab": "LabApp", "notebook": "JupyterNotebookApp"}
NO_NEWS = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
READY = """async () => {
  const panel = jupyterapp.shell.currentWidget;
  await panel.context.ready;
  await panel.sessionContext.ready;
  await panel.sessionContext.session.kernel.info;
}"""


@dataclass
class Server:
    """The process of a JupyterLab, which can be ended and started again as it was."""

    command: list[str]
    environment: dict[str, str]
    address: str
    log: Path
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(lambda: answers(self.address, self.process), seconds=60)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


@dataclass(frozen=True)
class JupyterLab:
    """A running JupyterLab over a folder of its own."""

    url: str
    token: str
    folder: Path
    models: Path
    server: Server


@contextmanager
def running_jupyterlab(
    theme: str, *, base_url: str = "/", options: tuple[str, ...] = (), app: str = "jupyterlab"
) -> Iterator[JupyterLab]:
    """Run JupyterLab, or Notebook 7 as ``app``, with the sidebar of this checkout."""
    port, token = free_port(), secrets.token_hex(8)
    with tempfile.TemporaryDirectory() as home:
        places = {
            name: Path(home, name.lower())
            for name in ("CONFIG", "DATA", "RUNTIME", "SETTINGS", "WORKSPACES", "NOTEBOOKS")
        }
        for place in places.values():
            place.mkdir()
        labconfig = places["CONFIG"] / "labconfig"
        labconfig.mkdir()
        (labconfig / "page_config.json").write_text(json.dumps(NO_NEWS))
        write_setting(places["SETTINGS"] / "@jupyterlab/apputils-extension/themes", {"theme": f"JupyterLab {theme}"})
        write_setting(places["SETTINGS"] / "@jupyter-widgets/jupyterlab-manager/plugin", {"saveState": True})
        federated = Path(home, "share", "labextensions")
        federated.mkdir(parents=True)
        (federated / "mlnb").symlink_to(SIDEBAR)  # before what is installed, which may be older
        environment = os.environ | {
            "JUPYTER_PATH": str(federated.parent),
            "JUPYTER_CONFIG_DIR": str(places["CONFIG"]),
            "JUPYTER_DATA_DIR": str(places["DATA"]),
            "JUPYTER_RUNTIME_DIR": str(places["RUNTIME"]),
            "JUPYTERLAB_SETTINGS_DIR": str(places["SETTINGS"]),
            "JUPYTERLAB_WORKSPACES_DIR": str(places["WORKSPACES"]),
            "IPYTHONDIR": f"{home}/ipython",
            "MLNB_HOME": f"{home}/models",
            "MLNB_PROVE": "off",  # a proof is had by the button
        }
        trait = APPS[app]
        command = [
            sys.executable, "-m", app, "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
            "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}",
            f"--ServerApp.root_dir={places['NOTEBOOKS']}", f"--{trait}.expose_app_in_browser=True",
            "--LabApp.extension_manager=readonly", f"--ServerApp.base_url={base_url}", *options,
        ]  # fmt: skip
        ARTIFACTS.mkdir(exist_ok=True)
        log = ARTIFACTS / f"{app}-{theme.lower()}{base_url.replace('/', '-').rstrip('-')}.log"
        log.unlink(missing_ok=True)
        url = f"http://127.0.0.1:{port}{base_url.rstrip('/')}"
        server = Server(command, environment, f"{url}/api?token={token}", log)
        try:
            server.start()
            yield JupyterLab(url, token, places["NOTEBOOKS"], Path(home, "models"), server)
        finally:
            server.stop()


def write_setting(plugin: Path, values: dict[str, object]) -> None:
    plugin.parent.mkdir(parents=True)
    plugin.with_suffix(".jupyterlab-settings").write_text(json.dumps(values))


def answers(url: str, server: subprocess.Popen[bytes]) -> bool:
    if server.poll() is not None:
        raise RuntimeError(f"JupyterLab ended with {server.returncode}; see {ARTIFACTS}.")
    try:
        with urlopen(url, timeout=5) as answer:  # noqa: S310 - its own server
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def open_notebook(page: Page, lab: JupyterLab, name: str) -> None:
    """Open a notebook of the lab's folder and wait for its kernel: without that, a run is silently lost."""
    page.goto(f"{lab.url}/lab/tree/{name}?reset&token={lab.token}")
    page.wait_for_selector(".jp-Cell")
    page.evaluate(READY)


def write_notebook(path: Path, *cells: str) -> None:
    """Write a notebook of these code cells, for Python's kernel."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    nbformat.write(notebook, path)


def run_notebook(page: Page, lab: JupyterLab, name: str) -> None:
    """Run a notebook of the lab's folder, with nothing registered yet and the left area closed."""
    shutil.rmtree(lab.models, ignore_errors=True)
    open_notebook(page, lab, name)
    page.evaluate("() => jupyterapp.commands.execute('application:toggle-left-area')")
    run_all(page)


def run_cells(page: Page, lab: JupyterLab, name: str, *cells: str) -> None:
    """Write a notebook of these cells and run it, as :func:`run_notebook` does."""
    write_notebook(lab.folder / name, *cells)
    run_notebook(page, lab, name)


def stop_kernels(page: Page, lab: JupyterLab) -> None:
    """End every kernel of the lab."""
    headers = {"Authorization": f"token {lab.token}"}
    for session in page.request.get(f"{lab.url}/api/sessions", headers=headers).json():
        assert page.request.delete(f"{lab.url}/api/sessions/{session['id']}", headers=headers).ok


@contextmanager
def busy_kernels(lab: JupyterLab) -> Iterator[None]:
    """Let no kernel do anything until the block ends: a cell that computes leaves a panel's messages their subshell."""
    kernels = [
        one for one in psutil.Process(lab.server.process.pid).children() if "ipykernel_launcher" in one.cmdline()
    ]
    assert kernels
    for kernel in kernels:
        kernel.suspend()
    try:
        yield
    finally:
        for kernel in kernels:
            kernel.resume()


def run_all(page: Page) -> None:
    page.evaluate("() => jupyterapp.commands.execute('notebook:run-all-cells')")
