"""The sidebar "Models" in a page, and the notebooks whose models it shows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from labs import ARTIFACTS, JupyterLab, write_notebook
from notebook_servers import Kernel, NotebookServer
from playwright.sync_api import Locator, Page, Request, expect
from waiting import wait_until

SHOW = "() => void jupyterapp.commands.execute('mlnb:show-models')"
FLOWERS = """
class Picky(Times):
    def predict(self, rows):
        if np.min(rows) < 0:
            raise ArithmeticError("no model of negative lengths")
        return super().predict(rows)
for factor, accuracy in (2, 0.9333), (3, 0.9733):
    scores = {"accuracy": accuracy, "f1": accuracy - 0.01, "rows": 150}
    mlnb.deploy(Picky(factor), name="iris", example=[[1.0]], metrics=scores, description=f"times {factor}")
mlnb.ModelRegistry().set_alias("iris", "champion", 1)
deploy("wine", 5)
"""
NUMBERS = "deploy('digits', 7)"


@contextmanager
def notebooks_in(lab: JupyterLab) -> Iterator[NotebookServer]:
    """Give what opens notebooks of a lab; at the end their kernels are ended."""
    running = NotebookServer(lab.url, lab.token, lab.folder.parent, lab.server.process)
    try:
        yield running
    finally:
        for kernel in running.kernels:
            kernel.client.stop_channels()
            kernel.client.context.destroy(linger=0)
            httpx.delete(f"{lab.url}/api/sessions/{kernel.session}", headers=running.headers, timeout=30)


@contextmanager
def three_models_in(lab: JupyterLab) -> Iterator[NotebookServer]:
    """Let two notebooks serve three models: iris and wine, and digits."""
    shutil.rmtree(lab.models, ignore_errors=True)
    with notebooks_in(lab) as running:
        serve(running, "flowers.ipynb", FLOWERS, "iris", "wine")
        serve(running, "numbers.ipynb", NUMBERS, "digits")
        yield running


def serve(running: NotebookServer, notebook: str, code: str, *names: str) -> Kernel:
    """Let a new notebook serve what ``code`` deploys, and wait until it is listed."""
    kernel = running.open(notebook)
    write_notebook(running.home / "notebooks" / notebook, "x = 1")
    kernel.run(code)
    running.wait_for(*names)
    return kernel


def open_sidebar(page: Page, lab: JupyterLab, *, at: str = "/lab?reset") -> Locator:
    """Open the lab, and the sidebar in it."""
    visit(page, lab, at=at)
    page.evaluate(SHOW)
    side = page.locator("#mlnb-models")
    expect(side).to_be_visible()
    return side


def visit(page: Page, lab: JupyterLab, *, at: str = "/lab?reset") -> None:
    """Open the lab and wait until its extensions are there."""
    page.goto(f"{lab.url}{at}{'&' if '?' in at else '?'}token={lab.token}")
    page.wait_for_function("() => window.jupyterapp?.commands.hasCommand('mlnb:show-models')")
    page.evaluate("() => jupyterapp.restored")


def row(side: Locator, name: str) -> Locator:
    """Return the row of a deployment."""
    return side.locator(f'.mlnb-side-row[data-name="{name}"]')


def unfolded(side: Locator, name: str) -> Locator:
    """Unfold a row, and return it."""
    one = row(side, name)
    head = one.locator("[data-head]")
    if head.get_attribute("aria-expanded") == "false":
        head.click()
    return one


def ask(running: NotebookServer, name: str, rows: list[list[float]]) -> dict[str, Any]:
    """Send a request to a deployment."""
    answer = httpx.post(f"{running.rows()[name]['url']}/predict", json={"instances": rows}, timeout=30)
    document: dict[str, Any] = answer.json()
    return document


def info(running: NotebookServer, name: str) -> dict[str, Any]:
    """Return what the endpoint of a deployment says of it."""
    document: dict[str, Any] = httpx.get(f"{running.rows()[name]['url']}/info", timeout=30).json()
    return document


def counted(page: Page) -> Callable[[], int]:
    """Count how often a page asks what is live."""
    asked: list[str] = []

    def hear(request: Request) -> None:
        if request.url.partition("?")[0].endswith("mlnb/deployments"):
            asked.append(request.url)

    page.on("request", hear)
    return lambda: len(asked)


def turns(page: Page, number: int) -> None:
    """Wait until the page has been answered so many times more."""
    for _ in range(number):
        with page.expect_response(lambda answer: answer.url.partition("?")[0].endswith("mlnb/deployments")):
            pass


def quiet(page: Page, count: Callable[[], int], *, seconds: float = 3) -> None:
    """See that a page does not ask what is live, for a time in which it would have done so thrice."""
    before = count()
    page.wait_for_timeout(1000 * seconds)
    assert count() == before


def names_of(side: Locator) -> list[str]:
    """Return the names of the rows, in their order."""
    names: list[str] = side.locator(".mlnb-side-row").evaluate_all("rows => rows.map(row => row.dataset.name)")
    return names


def wait_for_names(side: Locator, *names: str) -> None:
    """Wait until these rows are there, and no others."""
    wait_until(lambda: names_of(side) == [*names], seconds=20)


def picture(page: Page, name: str) -> None:
    """Keep what it looks like, for a person to look at."""
    page.screenshot(path=ARTIFACTS / f"{name}.png", animations="disabled")


def cells_of(page: Page) -> list[str]:
    """Return the code in the notebook in front."""
    code = "() => jupyterapp.shell.currentWidget.content.widgets.map(cell => cell.model.sharedModel.getSource())"
    told: list[str] = json.loads(json.dumps(page.evaluate(code)))
    return told
