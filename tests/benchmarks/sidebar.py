"""What the extension adds to JupyterLab's start, with and without it in turns, and to the start of the Jupyter server.

PYTHONPATH=tests python tests/benchmarks/sidebar.py [--pairs N]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from browser.conftest import CHROMIUM
from labs import ROOT, JupyterLab, running_jupyterlab
from playwright.sync_api import Browser, sync_playwright

STATIC = ROOT / "mlnb" / "labextension" / "static"
RESTORED = """async () => {
  while (!globalThis.jupyterapp) await new Promise(done => setTimeout(done, 1));
  await jupyterapp.restored;
  return performance.now();
}"""
FETCHED = """() => performance.getEntriesByType('resource')
  .filter(one => one.name.includes('/extensions/mlnb/'))
  .map(one => [one.encodedBodySize, one.duration])"""
SERVER = """
import sys, time
from jupyter_server.serverapp import ServerApp
import jupyter_server.services.sessions.handlers
begin = time.perf_counter()
ServerApp.instance().initialize(argv=[
    "--ServerApp.open_browser=False", "--allow-root", "--ip=127.0.0.1", "--port=0",
    "--ServerApp.jpserver_extensions={'jupyterlab': True, 'mlnb': " + sys.argv[1] + "}"])
print(1000 * (time.perf_counter() - begin))
"""


def restored(browser: Browser, lab: JupyterLab) -> tuple[float, list[list[float]]]:
    """Return milliseconds from navigation to the restored lab, and what was fetched of mlnb: bytes and milliseconds."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.goto(f"{lab.url}/lab?reset&token={lab.token}", wait_until="commit")
    taken, fetched = page.evaluate(RESTORED), page.evaluate(FETCHED)
    context.close()
    return taken, fetched


def without_mlnb(folder: Path) -> str:
    """Return the option of a JupyterLab that has all prebuilt extensions of this environment but mlnb's."""
    for package in Path(sys.prefix, "share/jupyter/labextensions").glob("*/package.json"):
        if package.parent.name != "mlnb":
            (folder / package.parent.name).symlink_to(package.parent)
    for scope in Path(sys.prefix, "share/jupyter/labextensions").glob("@*"):
        (folder / scope.name).symlink_to(scope)
    return f"--LabApp.labextensions_path={folder}"


def started(extension: bool) -> float:
    """Return milliseconds that a Jupyter server takes to begin in a fresh process, imports of its own before."""
    command = [sys.executable, "-c", SERVER, str(extension)]
    with tempfile.TemporaryDirectory() as folder:
        told = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return float(told.stdout)


def interval(differences: list[float]) -> str:
    """Return the median of paired differences and its 95% bootstrap interval."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(differences, (5000, len(differences))), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return f"{statistics.median(differences):+.0f} ms  (95% interval of the median: {low:+.0f} to {high:+.0f} ms)"


def pairs(number: int, without: Callable[[], float], with_it: Callable[[], float]) -> tuple[list[float], list[float]]:
    """Measure in turns; which one is first changes from pair to pair."""
    times: tuple[list[float], list[float]] = [], []
    for pair in range(number):
        for index in (0, 1) if pair % 2 else (1, 0):
            times[index].append((without, with_it)[index]())
    return times


def show(title: str, times: tuple[list[float], list[float]]) -> None:
    without, with_it = times
    print(f"{statistics.median(without):8.0f}  {title}, without mlnb")
    print(f"{statistics.median(with_it):8.0f}  {title}, with mlnb")
    print(f"          of {len(without)} pairs {interval([b - a for a, b in zip(*times, strict=True)])}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15)
    number = parser.parse_args().pairs
    with (
        running_jupyterlab("Light") as lab,
        tempfile.TemporaryDirectory() as others,
        running_jupyterlab("Light", options=(without_mlnb(Path(others)),)) as bare,
        sync_playwright() as playwright,
    ):
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM)
        for one in (lab, bare):
            restored(chromium, one)  # what is cached on the server's side is
        (_, fetched), (_, none) = restored(chromium, lab), restored(chromium, bare)
        assert not none, none
        assert fetched
        times = pairs(number, lambda: restored(chromium, bare)[0], lambda: restored(chromium, lab)[0])
        chromium.close()
    size = sum(one.stat().st_size for one in STATIC.rglob("*") if one.is_file())
    print(f"{size / 1e3:8.1f}  kB: the prebuilt extension")
    print(f"{sum(one for one, _ in fetched) / 1e3:8.1f}  kB: of that fetched at start, {len(fetched)} files")
    show("ms: navigation to JupyterLab restored", times)
    show(
        "ms: start of a Jupyter server",
        pairs(number, lambda: started(extension=False), lambda: started(extension=True)),
    )


if __name__ == "__main__":
    main()
