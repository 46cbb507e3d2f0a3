"""What a person sees of the dashboard: in a page of its own, and in a notebook."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx
import nbformat
import pytest
import uvicorn
import views
from fitted import Fitted
from labs import ARTIFACTS, JupyterLab, run_all, run_cells, stop_kernels
from playwright.sync_api import Browser, Locator, Page, expect
from starlette.applications import Starlette
from starlette.routing import Mount
from waiting import free_port, wait_until

import mlnb
from mlnb.monitoring.metrics import Mark
from mlnb.monitoring.view import MonitorView
from mlnb.serving.dashboard import add_dashboard

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

CURVE = "chart => chart.data?.find(trace => trace.uid === 'requests').y"
CELL = """%load_ext mlnb
import mlnb, threading, time, urllib.request, json
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

cancer = load_breast_cancer(as_frame=True)
rows, labels = cancer.data, cancer.target_names[cancer.target]
model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, labels)
mlnb.deploy(model, name="tumour", example=rows)
deployment = mlnb.deploy(model, name="tumour", example=rows)
mlnb.deploy(model, name="other", example=rows)

asked = threading.Event()

def ask():
    for turn in range(6000):
        deployment.predict(rows.iloc[turn % len(rows)].to_dict())
        if asked.wait(0.02):
            return

threading.Thread(target=ask, daemon=True).start()"""


class Source:
    """Deployments whose every look is another second."""

    def __init__(self) -> None:
        self.looks = 0
        self.changes: dict[str, Any] = {}
        self.others: list[MonitorView] = []

    def __call__(self, window: int) -> list[MonitorView]:
        self.looks += 1
        step = 1 if window == 300 else 60
        seen = views.busy_view(step=step, seed=self.looks)
        return [replace(seen, **self.changes), *self.others]


@contextmanager
def running(app: Starlette) -> Iterator[str]:
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def url(source: Source) -> Iterator[str]:
    app = Starlette()
    add_dashboard(app, source)
    with running(Starlette(routes=[Mount("/proxy/8000", app), Mount("/", app)])) as address:
        yield address


def chart(page: Page | Locator) -> Locator:
    figure = page.locator(".mlnb-figure")
    expect(figure.locator(".main-svg").first).to_be_visible(timeout=60_000)
    return figure


def moves(figure: Locator) -> bool:
    """Wait until the curve is another one."""
    before = figure.evaluate(CURVE)
    wait_until(lambda: figure.evaluate(CURVE) != before, seconds=15)
    return True


def photograph(page: Page, name: str) -> None:
    page.screenshot(path=ARTIFACTS / f"dashboard-{name}.png", full_page=True, animations="disabled")


# ---- a page of its own ----


@pytest.mark.parametrize(("scheme", "width"), [("light", 1100), ("dark", 1100), ("light", 600), ("dark", 600)])
def test_it_is_live_in_both_themes_and_at_600_pixels(
    browser: Browser, url: str, source: Source, scheme: Any, width: int
) -> None:
    source.others = [views.busy_view(name="house-prices", numbers=True), views.view(name="idle")]
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"{url}/dashboard#model=iris&window=300")
    assert moves(chart(page))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("summary").filter(has_text="Calibration").click()
    source.looks += 1
    assert moves(chart(page))
    expect(page.locator("figcaption")).to_be_visible()  # what was unfolded stays so
    photograph(page, f"{scheme}-{width}")
    context.close()
    assert said == []


def test_what_is_done_shows_as_a_mark_and_an_alert_appears(page: Page, url: str, source: Source) -> None:
    source.changes = {"marks": (), "alerts": (views.alert("ok"),)}
    page.goto(f"{url}/dashboard")
    figure = chart(page)
    expect(page.locator('[data-region="alerts"]')).to_contain_text("ok")
    source.changes = {
        "marks": (Mark(at=views.NOW - 3, kind="rolled back", version=2, words="rolled back to v2"),),
        "alerts": (views.alert("firing"),),
    }
    expect(figure.get_by_text("rolled back to v2")).to_be_visible()
    assert figure.evaluate("chart => chart.layout.shapes.length") == 1
    expect(page.locator('[data-region="alerts"]')).to_contain_text("p95 is 84 ms, above 50 ms")
    expect(page.locator('[data-region="history"]')).to_contain_text("rolled back to v2")


def test_it_goes_on_by_itself_after_the_network_was_away(page: Page, url: str) -> None:
    page.goto(f"{url}/dashboard")
    figure = chart(page)
    assert moves(figure)
    page.context.set_offline(True)
    told = page.locator('[data-region="told"]')
    expect(told).to_have_text("Connection lost, trying again.", timeout=15_000)
    photograph(page, "connection-lost")
    stands = figure.evaluate(CURVE)
    assert stands == figure.evaluate(CURVE)
    page.context.set_offline(False)
    expect(told).to_have_text("", timeout=15_000)
    assert moves(figure)


def test_it_rests_while_nobody_looks(page: Page, url: str, source: Source) -> None:
    page.goto(f"{url}/dashboard")
    figure = chart(page)
    hide = """hidden => {
        Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    with page.expect_response("**/dashboard/data*"):
        pass
    page.evaluate(hide, True)
    page.evaluate("() => new Promise((resolve) => setTimeout(resolve, 300))")  # what was on its way has come
    before, began = source.looks, time.monotonic()
    wait_until(lambda: time.monotonic() - began > 2.5)
    assert source.looks == before
    page.evaluate(hide, False)
    assert moves(figure)


def test_a_person_chooses_a_model_and_a_window(page: Page, url: str, source: Source) -> None:
    source.others = [views.busy_view(name="house-prices", numbers=True)]
    page.goto(f"{url}/dashboard")
    expect(page.get_by_text("Choose a model")).to_be_visible()
    expect(page.locator(".mlnb-figure")).to_be_hidden()
    page.get_by_role("button", name="iris").click()
    figure = chart(page)
    expect(page.locator('[data-region="status"]')).to_contain_text("iris")
    page.get_by_role("button", name="1 hour").click()
    wait_until(lambda: bool(figure.evaluate("chart => chart.data[0].x.length === 60")))
    page.reload()
    figure = chart(page)  # the address says what was chosen
    assert figure.evaluate("chart => chart.data[0].x.length") == 60
    assert page.title() == "iris · mlnb"
    page.get_by_role("button", name="house-prices").click()
    expect(page.locator('[data-region="status"]')).to_contain_text("house-prices")
    source.others = []
    expect(page.locator('[data-region="told"]')).to_have_text("house-prices is not served here any more.")


def test_it_asks_nobody_else_and_works_behind_a_proxy(page: Page, url: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{url}/proxy/8000/dashboard")
    assert moves(chart(page))
    assert len(asked) >= 5
    assert all(one.startswith((f"{url}/proxy/8000/dashboard", "data:", "blob:")) for one in asked)


def test_without_plotly_it_says_what_to_install_and_shows_the_tables(page: Page, url: str) -> None:
    page.route("**/plotly.js", lambda route: route.fulfill(status=404, body=""))
    page.goto(f"{url}/dashboard")
    expect(page.locator('[data-region="told"]')).to_contain_text("pip install plotly")
    expect(page.locator('[data-region="drift"]')).to_contain_text("petal length (cm)")
    expect(page.locator(".mlnb-figure")).to_be_hidden()


def test_hostile_names_are_only_text(page: Page, url: str, source: Source) -> None:
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    series = replace(views.busy_series(), classes={views.HOSTILE: (3,) * 300, "<b>bold</b>": (1,) * 300})
    source.changes = {"name": views.HOSTILE, "series": series}
    source.others = [views.busy_view()]
    page.goto(f"{url}/dashboard")
    page.get_by_role("button", name="script").click()
    figure = chart(page)
    assert figure.locator("b, img, script").count() == 0
    assert page.locator(".mlnb-board img").count() == 0
    photograph(page, "hostile")


# ---- the server of a deployment ----


def test_the_page_of_a_real_deployment(page: Page, tumour: Fitted) -> None:
    mlnb.deploy(tumour.model, name="tumour", example=tumour.rows, replicas=0)
    deployment = mlnb.deploy(tumour.model, name="tumour", example=tumour.rows, replicas=0)
    page.goto(f"{deployment.url.rpartition('/models/')[0]}/dashboard")
    figure = chart(page)
    asking = threading.Event()

    def load() -> None:
        with httpx.Client() as client:
            while not asking.wait(0.01):
                client.post(f"{deployment.url}/predict", json={"instances": tumour.lists[:2]})
                client.post(f"{deployment.url}/predict", json={"instances": [["no number"]]})

    thread = threading.Thread(target=load)
    thread.start()
    try:
        wait_until(lambda: max(figure.evaluate(CURVE)) > 0, seconds=20)
        assert moves(figure)
        wait_until(
            lambda: bool(
                figure.evaluate("chart => Math.max(...chart.data.find(one => one.uid === 'invalid-request').y) > 0")
            ),
            seconds=20,
        )
        deployment.watch("refused > 5%")
        deployment.rollback()
        expect(figure.locator(".annotation").filter(has_text="v1")).to_be_visible(timeout=15_000)
        expect(page.locator('[data-region="alerts"]')).to_contain_text("firing", timeout=30_000)
        photograph(page, "deployment")
    finally:
        asking.set()
        thread.join(30)


# ---- in a notebook ----


def notebook(page: Page, lab: JupyterLab, line: str) -> Locator:
    """Deploy two models, show them with ``line`` and return what the cell shows."""
    run_cells(page, lab, "dashboard.ipynb", CELL, line)
    board = page.locator(".mlnb-board")
    expect(board).to_be_visible(timeout=90_000)
    assert page.locator('[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0
    return board


def evaluate(page: Page, code: str) -> str:
    """Run code in the kernel, as a cell does, and return what it prints."""
    answer: str = page.evaluate(
        """async (code) => {
            const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
            const future = kernel.requestExecute({code});
            let printed = "";
            future.onIOPub = (message) => { printed += message.content.text ?? ""; };
            const status = (await future.done).content.status;
            return status === "ok" ? printed.trim() : `${status}: ${printed}`;
        }""",
        code,
    )
    return answer


def spent(page: Page, seconds: float = 4) -> float:
    """Return the share of a core that the kernel uses over some seconds."""
    cpu: list[float] = []
    clock: list[float] = []
    while len(clock) < 2:
        cpu.append(float(evaluate(page, "print(time.process_time())")))
        clock.append(time.monotonic())
        if len(clock) == 1:
            wait_until(lambda: time.monotonic() - clock[0] > seconds, seconds=2 * seconds)
    return (cpu[1] - cpu[0]) / (clock[1] - clock[0])


LOOKED_AT = """from mlnb.widgets.dashboard_panel import DashboardPanel
from ipywidgets.widgets.widget import _instances
print([one.looked_at for one in _instances.values() if isinstance(one, DashboardPanel)])"""


def test_a_notebook_shows_it_live_and_keeps_a_picture(page: Page, jupyterlab: JupyterLab) -> None:
    page.set_viewport_size({"width": 1280, "height": 1300})
    board = notebook(page, jupyterlab, "%model_monitor tumour")
    figure = chart(board)
    wait_until(lambda: max(figure.evaluate(CURVE)) > 0, seconds=30)
    assert moves(figure)
    assert evaluate(page, "deployment.rollback()").startswith("error") is False
    expect(figure.locator(".annotation").filter(has_text="v1").last).to_be_visible(timeout=15_000)
    assert evaluate(page, "deployment.watch('rate > 1/s')").startswith("error") is False
    expect(board.locator('[data-region="alerts"]')).to_contain_text("firing", timeout=30_000)
    board.get_by_role("button", name="1 hour").click()
    wait_until(lambda: bool(figure.evaluate("chart => chart.data[0].x.length === 60")))
    board.get_by_role("button", name="5 minutes").click()
    wait_until(lambda: bool(figure.evaluate("chart => chart.data[0].x.length === 300")))
    board.scroll_into_view_if_needed()
    page.screenshot(path=ARTIFACTS / "dashboard-notebook-light.png", animations="disabled")

    page.evaluate("() => jupyterapp.shell.currentWidget.context.save()")
    outputs = nbformat.read(jupyterlab.folder / "dashboard.ipynb", as_version=4).cells[1].outputs
    shown = outputs[0]["data"]
    assert shown["image/svg+xml"].startswith("<svg")
    assert "text/html" not in shown
    assert len(str(outputs)) < 60_000

    assert evaluate(page, LOOKED_AT) == "[True]"
    page.evaluate("() => jupyterapp.commands.execute('editmenu:clear-all')")
    expect(page.locator(".mlnb-board")).to_have_count(0)
    wait_until(lambda: evaluate(page, LOOKED_AT) == "[False]", seconds=15)
    stop_kernels(page, jupyterlab)


def test_a_notebook_shows_all_models_at_a_glance_in_the_dark(page: Page, dark_jupyterlab: JupyterLab) -> None:
    board = notebook(page, dark_jupyterlab, "%model_monitor")
    expect(board.get_by_text("Choose a model")).to_be_visible(timeout=30_000)
    board.get_by_role("button", name="tumour").click()
    assert moves(chart(board))
    page.screenshot(path=ARTIFACTS / "dashboard-notebook-dark.png", animations="disabled")
    evaluate(page, "asked.set()")
    looked = spent(page)
    page.evaluate("() => jupyterapp.commands.execute('editmenu:clear-all')")
    wait_until(lambda: evaluate(page, LOOKED_AT) == "[False]", seconds=15)
    waiting = spent(page)
    print(f"the kernel: {looked:.2%} of a core while looked at, {waiting:.2%} when cleared")  # noqa: T201 - to be read
    assert looked - waiting < 0.03
    run_all(page)
    expect(board.get_by_text("Choose a model")).to_be_visible(timeout=60_000)
    page.evaluate("async () => { await jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart(); }")
    expect(board).to_contain_text("The kernel was started again and knows nothing of this panel: run its cell again.")
    stop_kernels(page, dark_jupyterlab)
