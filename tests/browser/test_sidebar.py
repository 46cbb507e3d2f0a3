"""What a person sees of the sidebar "Models" in JupyterLab: what is live, the registry, and what the buttons do."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import httpx
import pytest
from labs import JupyterLab, run_all
from notebook_servers import NotebookServer
from playwright.sync_api import Page, expect
from sidebars import (
    FLOWERS,
    NUMBERS,
    SHOW,
    ask,
    cells_of,
    counted,
    info,
    notebooks_in,
    open_sidebar,
    picture,
    quiet,
    row,
    serve,
    three_models_in,
    turns,
    unfolded,
    visit,
    wait_for_names,
)
from waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

WHAT_TO_TYPE = "%load_ext mlnb\n%deploy_model model --input X"
NO_P99 = "p99 \N{EN DASH}"
FOCUSED = "() => document.activeElement.getAttribute('aria-label')"


@pytest.fixture(scope="module")
def bench(jupyterlab: JupyterLab) -> Iterator[NotebookServer]:
    """Two notebooks that serve three models."""
    with three_models_in(jupyterlab) as running:
        yield running


def test_all_that_is_live_is_listed_and_its_figures_move(
    page: Page, jupyterlab: JupyterLab, bench: NotebookServer
) -> None:
    side = open_sidebar(page, jupyterlab)
    wait_for_names(side, "iris", "wine", "digits")
    groups = side.locator(".mlnb-side-group")
    expect(groups.locator("h3")).to_have_text(["flowers.ipynb", "numbers.ipynb"])
    expect(groups.nth(1).locator(".mlnb-side-name")).to_have_text(["digits"])
    expect(row(side, "iris").locator(".mlnb-side-version")).to_have_text("v2")
    wine = side.get_by_role("button", name="wine, version 1, live, flowers.ipynb", exact=True)
    expect(wine).to_have_accessible_description("")  # else it would be read out each second
    wine.focus()
    expect(wine).to_have_accessible_description(re.compile("^0 requests per second, no latency yet, 0 errors$"))

    curve = row(side, "iris").locator("polyline")
    flat = curve.get_attribute("points")
    assert row(side, "iris").get_by_text("p99").inner_text() == NO_P99
    for _ in range(20):
        assert ask(bench, "iris", [[2.0]])["prediction"] == [6.0]
    assert ask(bench, "iris", [[-1.0]])["status"] == 500
    expect(row(side, "iris").locator(".mlnb-side-rate")).to_have_text(re.compile(r"^[1-9][\d.]* req/s$"))
    expect(row(side, "iris").locator(".mlnb-side-p99")).to_have_text(re.compile(r"^p99 [\d.]+ m?s$"))
    expect(row(side, "iris").locator(".mlnb-side-errors")).to_have_text("1 error")
    assert curve.get_attribute("points") != flat
    expect(row(side, "wine").locator(".mlnb-side-errors")).to_have_text("0 errors")


def test_a_dashboard_is_a_tab_and_a_copied_url_is_the_port_itself_on_loopback(
    page: Page, jupyterlab: JupyterLab, bench: NotebookServer
) -> None:
    side = open_sidebar(page, jupyterlab)
    iris = unfolded(side, "iris")
    iris.get_by_role("button", name="Dashboard: iris").click()
    tab = page.locator("#jp-main-dock-panel .lm-TabBar-tab", has_text="iris")
    expect(tab).to_have_class(re.compile("lm-mod-current"))
    dashboard = page.frame_locator("iframe[title='Dashboard of iris']")
    expect(dashboard.locator(".main-svg").first).to_be_visible(timeout=60_000)
    picture(page, "sidebar-light-dashboard")
    iris.get_by_role("button", name="Dashboard: iris").click()
    expect(tab).to_have_count(1)
    tab.locator(".lm-TabBar-tabCloseIcon").click()
    expect(tab).to_have_count(0)
    iris.get_by_role("button", name="Dashboard: iris").click()  # closed, it opens anew
    expect(tab).to_have_count(1)

    iris.get_by_role("button", name="Copy URL: iris").click()
    url = bench.rows()["iris"]["url"]
    expect(side.get_by_role("status").last).to_have_text(f"Copied: {url}")
    assert page.evaluate("() => navigator.clipboard.readText()") == url
    assert httpx.get(f"{url}/info", timeout=30).json()["version"] == 2

    iris.get_by_role("button", name="Notebook: iris").click()
    front = page.locator("#jp-main-dock-panel .lm-TabBar-tab.lm-mod-current")
    expect(front).to_have_text("flowers.ipynb")


def test_it_rolls_back_and_stops_and_a_stop_is_undone(
    page: Page, jupyterlab: JupyterLab, bench: NotebookServer
) -> None:
    side = open_sidebar(page, jupyterlab)
    notice = side.get_by_role("status").last
    iris = unfolded(side, "iris")
    iris.get_by_role("button", name="Roll back to v1: iris").click()
    expect(notice).to_have_text("iris v1 is live; v2 was before.")
    expect(iris.locator(".mlnb-side-version")).to_have_text("v1")
    assert info(bench, "iris")["version"] == 1
    expect(iris.get_by_role("button", name=re.compile("^Roll back"))).to_have_count(0)  # nothing was before v1
    bench.kernels[0].run("mlnb.deploy('iris:2')")
    expect(iris.locator(".mlnb-side-version")).to_have_text("v2")

    url = bench.rows()["wine"]["url"]
    unfolded(side, "wine").get_by_role("button", name="Stop: wine").click()
    wait_for_names(side, "iris", "digits")
    expect(notice).to_have_text("wine v1 is stopped.")
    assert httpx.get(f"{url}/info", timeout=30).status_code == 404
    picture(page, "sidebar-light-stopped")
    undo = side.get_by_role("button", name="Undo: start wine again")
    undo.click()
    wait_for_names(side, "iris", "wine", "digits")
    expect(undo).to_have_count(0)
    assert httpx.get(f"{url}/info", timeout=30).json()["version"] == 1


def test_the_registry_inserts_the_cell_that_deploys(page: Page, jupyterlab: JupyterLab, bench: NotebookServer) -> None:
    side = open_sidebar(page, jupyterlab, at="/lab/tree/numbers.ipynb?reset")
    page.wait_for_selector(".jp-Cell")
    page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.ready")
    models = side.locator(".mlnb-side-model")
    expect(models.locator(".mlnb-side-name")).to_have_text(["digits", "iris", "wine"])
    iris = side.get_by_role("button", name=re.compile("^iris v2.*champion.*v2 live$"))
    iris.click()
    versions = side.get_by_role("list", name="Versions of iris").locator(".mlnb-side-number")
    expect(versions.locator(".mlnb-side-version")).to_have_text(["v2", "v1"])
    expect(versions.nth(0)).to_contain_text("accuracy 0.973")
    expect(versions.nth(0)).to_contain_text("live")
    expect(versions.nth(1).locator(".mlnb-side-tag")).to_have_text("champion")
    expect(versions.nth(1)).to_have_attribute("title", "times 2")

    side.get_by_role("button", name="Deploy iris version 1: insert the cell").click()
    expect(side.locator(".mlnb-side-notice")).to_contain_text("Inserted below the active cell; run it to deploy")
    assert cells_of(page) == ["x = 1", "%load_ext mlnb\n%deploy_model iris:1"]
    page.wait_for_timeout(500)
    assert len(bench.get("mlnb/deployments")["deployments"]) == 3  # nothing has run
    picture(page, "sidebar-light-inserted")
    run_all(page)
    wait_for_names(side, "iris", "wine", "digits", "iris")
    group = side.locator(".mlnb-side-group[data-notebook='numbers.ipynb']")
    expect(row(group, "iris").locator(".mlnb-side-version")).to_have_text("v1")
    side.get_by_role("button", name="Deploy iris version 2: insert the cell").click()
    assert cells_of(page)[-1] == "%deploy_model iris:2"  # it is loaded by now
    unfolded(group, "iris").get_by_role("button", name="Stop: iris").click()
    wait_for_names(side, "iris", "wine", "digits")


def test_it_is_used_by_keyboard(page: Page, jupyterlab: JupyterLab, bench: NotebookServer) -> None:
    visit(page, jupyterlab, at="/lab/tree/numbers.ipynb?reset")  # a launcher would take the focus
    page.wait_for_selector(".jp-Cell")
    page.evaluate(SHOW)  # as a shortcut or the palette does
    side = page.locator("#mlnb-models")
    wait_for_names(side, "iris", "wine", "digits")
    expect(row(side, "iris").locator("[data-head]")).to_be_focused()  # without a Tab
    for key, name in [
        ("ArrowDown", "wine"), ("ArrowDown", "digits"), ("ArrowDown", "digits"), ("Home", "iris"), ("End", "digits"),
        ("ArrowUp", "wine"),
    ]:  # fmt: skip
        page.keyboard.press(key)
        expect(row(side, name).locator("[data-head]")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(row(side, "wine").locator("[data-head]")).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("Tab")
    expect(side.get_by_role("button", name="Dashboard: wine")).to_be_focused()
    for _ in range(4):
        page.keyboard.press("Tab")
    stop = side.get_by_role("button", name="Stop: wine")
    expect(stop).to_be_focused()
    ask(bench, "wine", [[1.0]])
    expect(row(side, "wine").locator(".mlnb-side-p99")).not_to_have_text(NO_P99)
    expect(stop).to_be_focused()  # still, though the row has changed
    page.keyboard.press("Enter")
    wait_for_names(side, "iris", "digits")
    expect(row(side, "digits").locator("[data-head]")).to_be_focused()  # what stands there now
    wait_until(lambda: side.get_by_role("button", name="Undo: start wine again").count() == 1)
    for _ in range(20):
        page.keyboard.press("Tab")
        if str(page.evaluate(FOCUSED)).startswith("Undo"):
            break
    page.keyboard.press("Enter")
    wait_for_names(side, "iris", "wine", "digits")
    expect(row(side, "digits").locator("[data-head]")).to_be_focused()  # for the button is gone

    side.locator("#mlnb-side-registry").click()  # nothing that takes the focus itself
    expect(side).to_be_focused()
    ask(bench, "digits", [[1.0]])
    expect(row(side, "digits").locator(".mlnb-side-p99")).not_to_have_text(NO_P99)
    expect(side).to_be_focused()  # though a row has changed


def test_it_asks_only_while_it_is_seen(page: Page, jupyterlab: JupyterLab, bench: NotebookServer) -> None:
    asked = counted(page)
    visit(page, jupyterlab)
    quiet(page, asked, seconds=1)
    assert asked() == 0
    page.evaluate(SHOW)
    turns(page, 2)
    page.evaluate("() => jupyterapp.shell.activateById('filebrowser')")
    quiet(page, asked)
    page.evaluate(SHOW)
    turns(page, 2)
    page.evaluate("() => jupyterapp.shell.collapseLeft()")
    quiet(page, asked)
    page.evaluate("() => jupyterapp.shell.expandLeft()")
    turns(page, 2)


def test_both_themes_and_widths_are_looked_at(page: Page, jupyterlab: JupyterLab, bench: NotebookServer) -> None:
    look(page, jupyterlab, bench, "light")


def test_in_the_dark_it_says_what_to_type_and_shows_it(page: Page, dark_jupyterlab: JupyterLab) -> None:
    shutil.rmtree(dark_jupyterlab.models, ignore_errors=True)
    side = open_sidebar(page, dark_jupyterlab)
    expect(side.locator(".mlnb-side-empty pre")).to_have_text([WHAT_TO_TYPE, WHAT_TO_TYPE])
    expect(side.locator(".mlnb-side-empty p").first).to_have_text("Nothing is live. In a notebook:")
    picture(page, "sidebar-dark-empty")
    with notebooks_in(dark_jupyterlab) as running:
        serve(running, "flowers.ipynb", FLOWERS, "iris", "wine")
        serve(running, "numbers.ipynb", NUMBERS, "digits")
        look(page, dark_jupyterlab, running, "dark")


def look(page: Page, lab: JupyterLab, running: NotebookServer, theme: str) -> None:
    """Unfold what can be, send a few requests, and keep how it looks."""
    side = open_sidebar(page, lab, at="/lab/tree/flowers.ipynb?reset")
    for _ in range(30):
        ask(running, "iris", [[2.0]])
    ask(running, "iris", [[-1.0]])
    unfolded(side, "iris")
    side.locator(".mlnb-side-model[data-name='iris'] [data-head]").click()
    expect(row(side, "iris").locator(".mlnb-side-errors")).to_have_text(re.compile(r"[1-9]\d* errors?"))
    expect(row(side, "digits")).to_be_visible()
    for width, height in ((1280, 900), (800, 700)):
        page.set_viewport_size({"width": width, "height": height})
        panel = side.bounding_box()
        assert panel is not None
        for one in side.locator("button:visible").all():
            box = one.bounding_box()
            assert box is not None
            assert box["x"] >= panel["x"], one
            assert box["x"] + box["width"] <= panel["x"] + panel["width"] + 1, one
        picture(page, f"sidebar-{theme}-{width}")
