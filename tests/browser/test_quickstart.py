"""What a person sees: JupyterLab opens the quickstart, runs it, and the panel does what it says."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator

import nbformat
import pytest
from labs import ARTIFACTS, ROOT, JupyterLab, busy_kernels, run_cells, run_notebook, stop_kernels
from playwright.sync_api import Locator, Page, expect
from waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

QUICKSTART = ROOT / "notebooks" / "01-quickstart.ipynb"
SHORT = """%load_ext mlnb
import mlnb
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

cancer = load_breast_cancer(as_frame=True)
diagnosis = cancer.target_names[cancer.target]
for strength in (0.1, 0.5):
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength)).fit(cancer.data, diagnosis)
    deployment = mlnb.deploy(model, name="tumour", example=cancer.data)
deployment"""
TOTAL = """%load_ext mlnb
class Total:
    def predict(self, rows):
        return rows.sum(axis=1)
%deploy_model Total() --name total"""


def run_quickstart(page: Page, lab: JupyterLab) -> Locator:
    """Open the quickstart, run all of it, and return the card under its last cell."""
    shutil.copy(QUICKSTART, lab.folder / "quickstart.ipynb")
    run_notebook(page, lab, "quickstart.ipynb")
    return card_of_last_cell(page)


def run_cell(page: Page, lab: JupyterLab, cell: str, name: str) -> Locator:
    """Run a notebook of one cell, and return the card under it."""
    run_cells(page, lab, name, cell)
    return card_of_last_cell(page)


def card_of_last_cell(page: Page) -> Locator:
    card = page.locator(".jp-Cell").last.locator(".mlnb-card")
    expect(card).to_be_visible(timeout=90_000)
    assert page.locator('[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0
    return card


@pytest.fixture
def quickstart(page: Page, jupyterlab: JupyterLab) -> Iterator[Locator]:
    yield run_quickstart(page, jupyterlab)
    stop_kernels(page, jupyterlab)


@pytest.fixture
def card(page: Page, jupyterlab: JupyterLab) -> Iterator[Locator]:
    """What the quickstart ends with, a card of a tumour model whose version 2 is live, without what comes before."""
    yield run_cell(page, jupyterlab, SHORT, "short.ipynb")
    stop_kernels(page, jupyterlab)


def picture(page: Page, card: Locator, name: str) -> None:
    """Keep what it looks like, for a person to look at."""
    card.scroll_into_view_if_needed()
    page.screenshot(path=ARTIFACTS / f"{name}.png")


def test_the_panel_does_what_it_says(page: Page, quickstart: Locator) -> None:
    card = quickstart
    header = card.locator(".mlnb-header")
    expect(header).to_contain_text("v2 live")

    card.get_by_role("button", name="Predict").click()
    answer = card.locator(".mlnb-answer output")
    expect(answer).to_have_text(re.compile("benign|malignant"))
    expect(card.locator(".mlnb-class")).to_have_count(2)
    expect(card.locator(".mlnb-try small")).to_contain_text("v2 · request")
    expect(card.locator(".mlnb-footer")).to_contain_text("req/s")
    first = answer.inner_text()
    picture(page, card, "panel-light-try")

    card.get_by_text("24 more").click()
    for name, value in {
        "worst radius": "30",
        "worst area": "3200",
        "worst perimeter": "220",
        "worst concave points": "0.3",
    }.items():
        card.locator(f'[name="{name}"]').fill(value)
    card.get_by_role("button", name="Predict").click()
    expect(answer).not_to_have_text(first)

    card.locator('[name="worst radius"]').fill("large")
    card.locator('[name="worst radius"]').press("Enter")
    expect(card.locator(".mlnb-failure").first).to_contain_text("field 'worst radius': got 'large', needs a number")
    assert card.locator('[name="worst radius"]').get_attribute("aria-invalid") is not None

    card.get_by_role("button", name="Roll back to v1").click()
    expect(header).to_contain_text("v1 live")
    expect(card.locator(".mlnb-notice")).to_have_text("v1 is live; v2 was before.")
    url = card.locator(".mlnb-url").inner_text()
    assert page.request.get(f"{url}/info").json()["description"] == "first forest"

    card.get_by_role("tab", name="Card").click()
    sheet = card.locator('[data-pane="card"]')
    expect(sheet).to_contain_text("tumour v1")
    expect(sheet.locator(".mlnb-proof")).to_contain_text(re.compile("Portable|Not proved yet"))
    picture(page, card, "panel-light-card")

    card.get_by_role("tab", name="Versions").click()
    rows = card.locator(".mlnb-versions tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.nth(1)).to_contain_text("● live")
    picture(page, card, "panel-light-versions")
    rows.nth(0).get_by_role("button", name="Make live").click()
    expect(header).to_contain_text("v2 live")
    expect(rows.nth(0)).to_contain_text("● live")

    card.get_by_role("button", name="Stop").click()
    expect(header).to_contain_text("v2 stopped")
    card.get_by_role("button", name="Deploy again").click()
    expect(header).to_contain_text("v2 live")
    assert page.request.get(f"{url}/info").json()["version"] == 2


def test_the_chart_is_live_and_the_snippets_work(page: Page, card: Locator) -> None:
    url = card.locator(".mlnb-url").inner_text()
    example = page.request.get(f"{url}/info").json()["example"]
    card.get_by_role("tab", name="Monitor").click()
    expect(card.locator(".mlnb-chart .main-svg").first).to_be_visible()
    newest = (
        "() => { const y = document.querySelector('.js-plotly-plot').data[0].y; return Math.max(...y.slice(-10)); }"
    )
    before = page.evaluate(newest)
    for _ in range(40 + int(before)):
        assert page.request.post(f"{url}/predict", data={"instances": [example]}).ok
    page.wait_for_function(f"() => ({newest})() > {before}")
    expect(card.locator('[data-region="activity"]')).to_contain_text("requests")
    picture(page, card, "panel-light-monitor")

    card.get_by_role("button", name="curl").click()
    expect(card.locator(".mlnb-notice")).to_have_text("Copied.")
    command = page.evaluate("() => navigator.clipboard.readText()")
    assert card.locator(".mlnb-snippet").inner_text() == command
    answered = json.loads(run_shell(command))
    assert answered["version"] == 2

    card.get_by_role("button", name="python").click()
    wait_until(lambda: "requests.post" in page.evaluate("() => navigator.clipboard.readText()"))
    scope: dict[str, object] = {}
    exec(page.evaluate("() => navigator.clipboard.readText()"), scope)  # noqa: S102 - the snippet that users copy
    assert scope["answer"]["prediction"] == answered["prediction"]  # type: ignore[index]  # JSON


def run_shell(command: str) -> str:
    import subprocess

    return subprocess.run(
        ["sh", "-c", f"curl --silent {command.removeprefix('curl')}"], check=True, capture_output=True, text=True
    ).stdout


def test_tabs_take_the_arrow_keys(card: Locator) -> None:
    card.get_by_role("tab", name="Try it").focus()
    card.get_by_role("tab", name="Try it").press("ArrowRight")
    expect(card.get_by_role("tab", name="Versions")).to_be_focused()
    expect(card.locator(".mlnb-versions")).to_be_visible()
    expect(card.locator("form[data-pane=try]")).to_be_hidden()


def test_in_the_dark_theme(page: Page, dark_jupyterlab: JupyterLab) -> None:
    card = run_quickstart(page, dark_jupyterlab)
    card.get_by_role("button", name="Predict").click()
    expect(card.locator(".mlnb-answer output")).to_be_visible()
    background = card.evaluate("card => getComputedStyle(card).backgroundColor")
    text = card.evaluate("card => getComputedStyle(card).color")
    assert brightness(background) < 80
    assert brightness(text) > 180
    picture(page, card, "panel-dark-try")
    card.get_by_role("tab", name="Monitor").click()
    expect(card.locator(".mlnb-chart .main-svg").first).to_be_visible()
    tick = card.locator(".x3tick text").first  # plotly makes it anew each second: between two it has no style
    wait_until(lambda: brightness(tick.evaluate("text => getComputedStyle(text).fill")) > 180)
    picture(page, card, "panel-dark-monitor")
    stop_kernels(page, dark_jupyterlab)


def brightness(colour: str) -> float:
    numbers = [float(number) for number in re.findall(r"[\d.]+", colour)[:3]]
    return sum(numbers) / 3


def test_the_endpoint_is_reached_through_jupyters_own_port(page: Page, jupyterlab: JupyterLab, card: Locator) -> None:
    """As on Binder: only Jupyter's port is open to the world."""
    port = re.search(r":(\d+)/", card.locator(".mlnb-url").inner_text()).group(1)  # type: ignore[union-attr]  # it is a URL
    base = f"{jupyterlab.url}/proxy/{port}"
    info = page.request.get(f"{base}/models/tumour/info").json()
    answer = page.request.post(f"{base}/models/tumour/predict", data={"instances": [info["example"]]})
    assert answer.json()["version"] == info["version"]
    page.goto(f"{base}/docs")
    expect(page.get_by_text("/models/tumour/predict")).to_be_visible()
    page.get_by_text("/models/tumour/predict").click()
    expect(page.get_by_text("mean radius").first).to_be_visible()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table .response .response-col_status")).to_contain_text("200")
    page.screenshot(path=ARTIFACTS / "docs-behind-the-proxy.png")


def test_a_saved_notebook_stays_small_and_readable_without_a_kernel(
    page: Page, jupyterlab: JupyterLab, quickstart: Locator
) -> None:
    quickstart.get_by_role("tab", name="Monitor").click()
    expect(quickstart.locator(".mlnb-chart .main-svg").first).to_be_visible()
    path = jupyterlab.folder / "quickstart.ipynb"
    before = path.stat().st_mtime
    page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    wait_until(lambda: path.stat().st_mtime > before)
    assert path.stat().st_size < 300_000
    notebook = nbformat.read(path, as_version=4)
    assert "widgets" in notebook.metadata  # the state is saved with it, and small all the same
    (output,) = notebook.cells[-1].outputs
    assert "<table" in output.data["text/html"]


def test_a_page_that_is_loaded_anew_shows_the_panel_again(page: Page, card: Locator) -> None:
    page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    page.reload()
    again = page.locator(".jp-Cell").last.locator(".mlnb-card")
    expect(again.locator(".mlnb-header")).to_contain_text("v2 live")
    again.get_by_role("button", name="Predict").click()
    expect(again.locator(".mlnb-answer output")).to_be_visible()


def test_pressing_a_button_while_the_kernel_is_busy_says_so(page: Page, jupyterlab: JupyterLab, card: Locator) -> None:
    with busy_kernels(jupyterlab):
        card.get_by_role("button", name="Predict").click()
        notice = card.locator(".mlnb-notice")
        expect(notice).to_have_text("The kernel is busy; this happens when the running cell ends.")
        expect(card.locator(".mlnb-answer output")).to_be_hidden()
    expect(card.locator(".mlnb-answer output")).to_be_visible()
    expect(notice).to_have_text("")


def test_a_kernel_that_is_restarted_leaves_a_readable_page(page: Page, card: Locator) -> None:
    page.evaluate("async () => { await jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart(); }")
    expect(card.locator(".mlnb-name")).to_have_text("tumour")
    card.get_by_role("button", name="Predict").click()
    expect(card.locator('[data-region="notice"]')).to_have_text(
        "The kernel was started again and knows nothing of this panel: run its cell again."
    )
    expect(card.get_by_role("button", name="Predict")).not_to_have_attribute("aria-busy", "true")
    page.screenshot(path=ARTIFACTS / "panel-light-started-again.png", animations="disabled")
    card.get_by_role("tab", name="Monitor").click()
    card.get_by_role("tab", name="Try it").click()


def test_a_model_without_known_fields_is_tried_with_json(page: Page, jupyterlab: JupyterLab) -> None:
    card = run_cell(page, jupyterlab, TOTAL, "total.ipynb")
    card.get_by_role("button", name="Predict").click()
    expect(card.locator(".mlnb-failure").first).to_contain_text("Type one row as JSON")
    card.locator('[name="row"]').fill("[1, 2, 3]")
    card.get_by_role("button", name="Predict").click()
    expect(card.locator(".mlnb-answer output")).to_have_text("6")
    stop_kernels(page, jupyterlab)
