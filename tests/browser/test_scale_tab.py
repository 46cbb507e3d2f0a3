"""What a person sees and does in the Scale tab: more replicas, fewer, none, and one that is killed."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator

import nbformat
import pytest
from labs import ARTIFACTS, JupyterLab, run_cells, stop_kernels
from playwright.sync_api import Locator, Page, expect
from waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

CELL = """%load_ext mlnb
import mlnb
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier

cancer = load_breast_cancer(as_frame=True)
model = RandomForestClassifier(20, random_state=0).fit(cancer.data, cancer.target_names[cancer.target])
mlnb.deploy(model, name="tumour", example=cancer.data, accelerate=True)"""


def open_tab(page: Page, lab: JupyterLab, cell: str = CELL) -> Locator:
    """Deploy a forest, and return its card with the Scale tab open."""
    run_cells(page, lab, "scale.ipynb", cell)
    card = page.locator(".mlnb-card")
    expect(card).to_be_visible(timeout=90_000)
    assert page.locator('[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0
    card.get_by_role("tab", name="Scale").click()
    return card


@pytest.fixture
def card(page: Page, jupyterlab: JupyterLab) -> Iterator[Locator]:
    yield open_tab(page, jupyterlab)
    stop_kernels(page, jupyterlab)


def picture(page: Page, card: Locator, name: str) -> None:
    """Keep what it looks like, for a person to look at."""
    card.scroll_into_view_if_needed()
    page.screenshot(path=ARTIFACTS / f"{name}.png", animations="disabled")


def replicas(card: Locator) -> Locator:
    return card.locator(".mlnb-replicas tbody tr")


def top(node: Locator) -> float:
    """Return how far below the card's edge it begins."""
    return float(node.evaluate("node => node.offsetTop"))


def expect_scaled(card: Locator, *, to: int) -> None:
    """Wait until as many replicas answer, and that is said."""
    said = re.compile(rf"^Scaled from \d to {to} replicas?\.$")
    expect(card.locator(".mlnb-notice")).to_have_text(said, timeout=60_000)
    expect(card.locator(".mlnb-replicas").get_by_text("ready", exact=True)).to_have_count(max(1, to))


def step(card: Locator, which: str, *, to: int) -> None:
    """Press a button of the stepper, and wait until it has done what it says."""
    card.get_by_role("button", name=f"One replica {which}").click()
    expect_scaled(card, to=to)


def pid_of(card: Locator, replica: int) -> int:
    return int(replicas(card).nth(replica - 1).locator("td").nth(2).inner_text())


def test_a_person_scales_up_and_down_again(page: Page, card: Locator) -> None:
    header, answers = card.locator(".mlnb-header"), card.locator('[data-region="answering"] p')
    expect(answers).to_have_text("Answers come from this kernel: a cell that computes slows them.")
    expect(replicas(card)).to_contain_text(["the kernel"])
    expect(card.get_by_role("button", name="One replica fewer")).to_have_attribute("aria-disabled", "true")
    expect(card.locator('[data-region="faster"]')).to_contain_text("labels on")
    picture(page, card, "scale-light-kernel")

    card.get_by_role("button", name="One replica more").click()
    expect(card.locator(".mlnb-scaling")).to_contain_text("starting a replica…")
    expect(card.get_by_role("button", name="One replica more")).to_have_attribute("aria-disabled", "true")
    picture(page, card, "scale-light-starting")
    expect_scaled(card, to=1)
    expect(header).to_contain_text("1 process")
    step(card, "more", to=2)
    expect(header).to_contain_text("2 processes")
    expect(answers).to_have_text("Answers come from 2 processes beside the kernel; a busy cell does not slow them.")
    expect(replicas(card).nth(1).locator("td").last).to_have_text(re.compile(r"\d+ MB"))

    url = card.locator(".mlnb-url").inner_text()
    example = page.request.get(f"{url}/info").json()["example"]
    for _ in range(20):
        assert page.request.post(f"{url}/predict", data={"instances": [example] * 60}).ok
    expect(card.locator(".mlnb-replicas tfoot")).to_contain_text("1,200")
    card.locator('[data-region="faster"] summary').click()
    expect(card.locator(".mlnb-tried")).to_contain_text("ONNX Runtime")
    picture(page, card, "scale-light-two")

    step(card, "fewer", to=1)
    expect(replicas(card)).to_have_count(1)
    expect(card.locator(".mlnb-tried")).to_be_visible()  # still unfolded
    step(card, "fewer", to=0)
    expect(header).to_contain_text("in kernel")
    assert page.request.post(f"{url}/predict", data={"instances": [example]}).ok


def test_it_is_used_by_keyboard(page: Page, card: Locator) -> None:
    card.get_by_role("tab", name="Scale").focus()
    page.keyboard.press("Tab")
    expect(card.get_by_role("radio", name="Fixed")).to_be_focused()
    page.keyboard.press("Tab")
    count = card.get_by_role("spinbutton", name="Replicas")
    expect(count).to_be_focused()
    expect(count).to_have_attribute("aria-valuetext", "0 the kernel itself answers")
    page.keyboard.press("ArrowUp")
    expect(count).to_have_text("1")
    expect_scaled(card, to=1)
    expect(count).to_be_focused()  # still, though it was rendered anew
    expect(count).to_have_attribute("aria-valuetext", "1 process beside the kernel")
    page.keyboard.press("ArrowDown")
    expect_scaled(card, to=0)
    expect(count).to_have_text("0")
    expect(count).to_be_focused()


def test_a_replica_that_is_killed_is_explained(page: Page, card: Locator) -> None:
    step(card, "more", to=1)
    step(card, "more", to=2)
    killed = pid_of(card, 1)
    os.kill(killed, signal.SIGKILL)
    trouble = card.get_by_text(re.compile(r"^Replica 1 ended at "))
    expect(trouble).to_have_text(
        re.compile(rf"^Replica 1 ended at \d\d:\d\d:\d\d: its process \({killed}\) was ended by SIGKILL\. ")
    )
    expect(trouble).to_contain_text("Another took its place.")
    expect(replicas(card)).to_have_count(2)
    picture(page, card, "scale-light-killed")


def test_replicas_follow_the_load(page: Page, card: Locator) -> None:
    notice, chart = card.locator(".mlnb-notice"), card.locator('[data-chart="scale"]')
    card.get_by_role("radio", name="By load").click()
    expect(notice).to_have_text("1 to 2 replicas by load.", timeout=60_000)
    expect(card.get_by_role("radio", name="By load")).to_be_checked()
    expect(card.locator(".mlnb-scaling")).to_contain_text("utilisation")
    expect(chart.locator(".main-svg").first).to_be_visible()
    table = top(card.locator(".mlnb-replicas"))
    expect(card.locator(".mlnb-reason")).to_contain_text("utilisation")

    least, most = (card.get_by_role("spinbutton", name=f"Replicas at {which}") for which in ("least", "most"))
    card.get_by_role("button", name="At most one more").click()
    expect(notice).to_have_text("1 to 3 replicas by load.")
    least.focus()
    page.keyboard.press("ArrowUp")
    expect(notice).to_have_text("2 to 3 replicas by load.")
    expect(least).to_be_focused()
    expect(most).to_have_attribute("aria-valuenow", "3")
    expect(card.locator(".mlnb-replicas").get_by_text("ready", exact=True)).to_have_count(2, timeout=60_000)
    assert top(card.locator(".mlnb-replicas")) == table  # nothing jumps
    picture(page, card, "scale-light-by-load")

    card.get_by_role("radio", name="By load").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    expect(notice).to_have_text("Fixed at 2 replicas.")
    expect(chart).to_be_hidden()
    expect(card.locator(".mlnb-reason")).to_have_count(0)


def test_by_load_in_the_dark_theme_on_a_narrow_page_and_saved(page: Page, dark_jupyterlab: JupyterLab) -> None:
    page.set_viewport_size({"width": 600, "height": 1000})
    card = open_tab(page, dark_jupyterlab, CELL.replace("accelerate=True", 'replicas="0:2"'))
    expect(card.locator('[data-chart="scale"] .main-svg').first).to_be_visible()
    expect(card.get_by_role("button", name="At least one fewer")).to_have_attribute("aria-disabled", "true")
    picture(page, card, "scale-dark-by-load")
    path = dark_jupyterlab.folder / "scale.ipynb"
    before = path.stat().st_mtime
    page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    wait_until(lambda: path.stat().st_mtime > before)
    assert path.stat().st_size < 100_000  # the chart is no part of it
    notebook = nbformat.read(path, as_version=4)
    (output,) = notebook.cells[-1].outputs
    assert "0 to 2 replicas by load" in output.data["text/html"]
    stop_kernels(page, dark_jupyterlab)


def test_in_the_dark_theme_on_a_narrow_page_and_saved(page: Page, dark_jupyterlab: JupyterLab) -> None:
    card = open_tab(page, dark_jupyterlab)
    step(card, "more", to=1)
    step(card, "more", to=2)
    expect(replicas(card).last.locator("td").last).to_have_text(re.compile(r"\d+ MB"))
    picture(page, card, "scale-dark")
    page.set_viewport_size({"width": 560, "height": 900})
    os.kill(pid_of(card, 2), signal.SIGKILL)
    expect(card.get_by_text("Another took its place.")).to_be_visible()
    card.locator('[data-region="faster"] summary').click()
    picture(page, card, "scale-dark-narrow")
    path = dark_jupyterlab.folder / "scale.ipynb"
    before = path.stat().st_mtime
    page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    wait_until(lambda: path.stat().st_mtime > before)
    assert path.stat().st_size < 100_000
    notebook = nbformat.read(path, as_version=4)
    (output,) = notebook.cells[-1].outputs
    assert "in kernel" in output.data["text/html"]  # as it was when the cell ran
    stop_kernels(page, dark_jupyterlab)
