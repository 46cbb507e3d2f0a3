"""What a person sees and does in the Package tab: writes the files, reads one, copies it, finds them on disk."""

from __future__ import annotations

import pytest
from labs import ARTIFACTS, JupyterLab, run_cells, stop_kernels
from playwright.sync_api import Locator, Page, expect
from waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

CELL = """%load_ext mlnb
import mlnb
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

X, y = load_iris(return_X_y=True, as_frame=True)
mlnb.deploy(LogisticRegression(max_iter=500).fit(X, y), name="iris", example=X)"""


def open_tab(page: Page, lab: JupyterLab) -> Locator:
    """Deploy a model, and return its card with the Package tab open, reached by keyboard."""
    run_cells(page, lab, "package.ipynb", CELL)
    card = page.locator(".mlnb-card")
    expect(card).to_be_visible(timeout=90_000)
    card.get_by_role("tab", name="Try it").focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    expect(card.get_by_role("tab", name="Package")).to_be_focused()
    return card


def pictures(page: Page, card: Locator, name: str) -> None:
    """Keep what it looks like on a wide and on a narrow page, for a person to look at."""
    for width, height in ((600, 1250), (1280, 900)):
        page.set_viewport_size({"width": width, "height": height})
        card.scroll_into_view_if_needed()
        card.screenshot(path=ARTIFACTS / f"package-{name}-{width}.png", animations="disabled")
        assert card.evaluate("node => node.scrollWidth <= node.clientWidth")


def test_files_are_written_read_and_copied(page: Page, jupyterlab: JupyterLab) -> None:
    card = open_tab(page, jupyterlab)
    page.keyboard.press("Tab")
    expect(card.get_by_role("radio", name="Docker")).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(card.get_by_role("radio", name="Compose")).to_be_checked()
    folder = card.get_by_role("textbox", name="Folder")
    expect(folder).to_have_value("build/iris")
    folder.fill("out")
    page.keyboard.press("Enter")
    expect(card.locator(".mlnb-notice")).to_have_text("Written to out.", timeout=90_000)
    expect(folder).to_have_value("out")

    card.locator("summary", has_text="compose.yaml").click()
    shown = card.get_by_role("region", name="compose.yaml")
    expect(shown).to_contain_text("services:")
    card.get_by_role("button", name="copy").and_(card.get_by_title("Copy compose.yaml")).click()
    expect(card.locator(".mlnb-notice")).to_have_text("Copied.")
    written = jupyterlab.folder / "out"
    assert page.evaluate("navigator.clipboard.readText()") == (written / "compose.yaml").read_text()
    expect(card.get_by_role("button", name="Run here")).to_be_visible()
    pictures(page, card, "light")

    path = jupyterlab.folder / "package.ipynb"
    before = path.stat().st_mtime
    page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    wait_until(lambda: path.stat().st_mtime > before)
    assert (written / "secrets" / "token").read_text().strip() not in path.read_text()
    assert path.stat().st_size < 200_000
    stop_kernels(page, jupyterlab)
