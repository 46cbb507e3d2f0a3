"""The sidebar in Notebook 7, whose pages have one notebook each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from labs import JupyterLab, running_jupyterlab
from notebook_servers import NotebookServer
from playwright.sync_api import Page, expect
from sidebars import (
    cells_of,
    info,
    picture,
    three_models_in,
    unfolded,
    visit,
    wait_for_names,
)

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


@pytest.fixture
def lab() -> Iterator[JupyterLab]:
    with running_jupyterlab("Light", app="notebook") as lab:
        yield lab


@pytest.fixture
def bench(lab: JupyterLab) -> Iterator[NotebookServer]:
    with three_models_in(lab) as running:
        yield running


def test_it_is_shown_from_the_menu_and_does_all_in_a_notebooks_page(
    page: Page, lab: JupyterLab, bench: NotebookServer
) -> None:
    visit(page, lab, at="/notebooks/flowers.ipynb")
    page.wait_for_selector(".jp-Cell")
    side = page.locator("#mlnb-models")
    expect(side).to_be_hidden()
    page.get_by_role("menuitem", name="View", exact=True).click()
    page.locator(".lm-Menu-item", has_text="Left Sidebar").click()
    page.locator(".lm-Menu-item", has_text="Models").click()
    wait_for_names(side, "iris", "wine", "digits")

    iris = unfolded(side, "iris")
    side.locator(".mlnb-side-model[data-name='iris'] [data-head]").click()
    side.get_by_role("button", name="Deploy iris version 1: insert the cell").click()
    assert cells_of(page) == ["x = 1", "%load_ext mlnb\n%deploy_model iris:1"]
    picture(page, "sidebar-notebook7-1280")
    iris.get_by_role("button", name="Roll back to v1: iris").click()
    expect(side.get_by_role("status").last).to_have_text("iris v1 is live; v2 was before.")
    assert info(bench, "iris")["version"] == 1

    with page.context.expect_page() as opened:
        iris.get_by_role("button", name="Dashboard: iris").click()
    port = bench.rows()["iris"]["port"]
    assert opened.value.url == f"{lab.url}/proxy/{port}/dashboard#model=iris"
    expect(opened.value.locator(".main-svg").first).to_be_visible(timeout=60_000)
    opened.value.close()
    with page.context.expect_page() as opened:
        unfolded(side, "digits").get_by_role("button", name="Notebook: digits").click()
    assert opened.value.url.endswith("/notebooks/numbers.ipynb")
    opened.value.close()

    page.set_viewport_size({"width": 800, "height": 700})
    picture(page, "sidebar-notebook7-800")
    side.get_by_role("button", name="Stop: digits").click()
    wait_for_names(side, "iris", "wine")
    side.get_by_role("button", name="Undo: start digits again").click()
    wait_for_names(side, "iris", "wine", "digits")
