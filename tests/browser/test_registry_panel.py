"""What a person sees of a registry: models, versions, a comparison, a card, and what the buttons do."""

from __future__ import annotations

import re
from collections.abc import Iterator

import nbformat
import pytest
from labs import ARTIFACTS, JupyterLab, busy_kernels, run_cells, stop_kernels
from playwright.sync_api import Locator, Page, expect
from waiting import wait_until

import mlnb

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

MODELS = """import mlnb
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

cancer = load_breast_cancer(as_frame=True)
diagnosis = cancer.target_names[cancer.target]
X_train, X_test, y_train, y_test = train_test_split(cancer.data, diagnosis, random_state=0)
X, y = load_diabetes(return_X_y=True, as_frame=True)

registry = mlnb.ModelRegistry()
registry.register(Ridge().fit(X, y), "diabetes", example=X, metrics={"r2": 0.4512, "mae": 49.37})
for model, description in [
    (make_pipeline(StandardScaler(), LogisticRegression()), "scaled, then linear"),
    (RandomForestClassifier(20, random_state=0), "first forest"),
    (RandomForestClassifier(60, max_depth=8, random_state=0), "more trees, none deeper than eight: <b>smaller</b>"),
]:
    model.fit(X_train, y_train)
    scores = {"accuracy": model.score(X_test, y_test), "train": model.score(X_train, y_train)}
    registry.register(model, "tumour", example=X_train, metrics=scores, description=description)
registry.set_alias("tumour", "champion", 2)
mlnb.deploy("tumour:1")
deployment = mlnb.deploy("tumour:2")"""


def open_panel(page: Page, lab: JupyterLab, *, shown: str = "mlnb.RegistryPanel()") -> Locator:
    """Register a few models, and return the panel of their registry."""
    run_cells(page, lab, "registry.ipynb", MODELS, shown)
    card = page.locator(".mlnb-registry")
    expect(card).to_be_visible(timeout=90_000)
    assert page.locator('[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0
    return card


@pytest.fixture
def card(page: Page, jupyterlab: JupyterLab) -> Iterator[Locator]:
    yield open_panel(page, jupyterlab)
    stop_kernels(page, jupyterlab)


def picture(page: Page, card: Locator, name: str) -> None:
    """Keep what it looks like, for a person to look at."""
    card.scroll_into_view_if_needed()
    page.screenshot(path=ARTIFACTS / f"{name}.png", animations="disabled")


def _echo(rows: list[list[float]]) -> list[float]:
    return [row[0] for row in rows]


def row(card: Locator, version: int) -> Locator:
    return card.locator(".mlnb-table tbody tr").filter(
        has=card.page.get_by_role("button", name=f"v{version}", exact=True)
    )


def test_a_person_looks_around_and_compares(page: Page, card: Locator) -> None:
    expect(card.locator(".mlnb-model")).to_have_count(2)
    expect(row(card, 2)).to_contain_text("● live")
    expect(row(card, 3)).to_contain_text("<b>smaller</b>")
    picture(page, card, "registry-light")

    card.get_by_role("button", name="diabetes").click()
    expect(card.locator(".mlnb-title")).to_contain_text("diabetes")
    expect(card.locator(".mlnb-table tbody tr")).to_have_count(1)
    card.get_by_role("button", name="tumour").first.click()
    expect(card.locator(".mlnb-table tbody tr")).to_have_count(3)

    row(card, 1).get_by_role("checkbox").check()
    row(card, 3).get_by_role("checkbox").check()
    card.get_by_role("button", name="Compare v1 with v3").click()
    comparison = card.locator(".mlnb-comparison")
    expect(comparison).to_contain_text("tumour:1 → tumour:3")
    expect(comparison).to_contain_text("golden answers")
    picture(page, card, "registry-light-comparison")
    comparison.get_by_role("button", name="Close the comparison").click()
    expect(comparison).to_be_empty()
    expect(row(card, 3).get_by_role("checkbox")).to_be_checked()
    row(card, 2).get_by_role("checkbox").check()
    expect(card.get_by_role("button", name="Compare v2 with v3")).to_be_enabled()  # the one ticked first gives way
    expect(row(card, 1).get_by_role("checkbox")).not_to_be_checked()


def test_a_person_names_deploys_and_proves_a_version(page: Page, jupyterlab: JupyterLab, card: Locator) -> None:
    row(card, 3).get_by_role("button", name="v3", exact=True).click()
    detail = card.locator(".mlnb-detail")
    expect(detail).to_contain_text("RandomForestClassifier")
    notice = card.locator(".mlnb-notice")
    detail.get_by_label("Alias for v3").fill("next one")
    detail.get_by_role("button", name="Set alias").click()
    expect(notice).to_contain_text("'next one' is not a valid alias")
    expect(detail.get_by_label("Alias for v3")).to_have_value("next one")
    detail.get_by_label("Alias for v3").fill("challenger")
    detail.get_by_label("Alias for v3").press("Enter")
    expect(notice).to_have_text("tumour@challenger means v3.")
    expect(row(card, 3)).to_contain_text("@challenger")
    expect(detail.get_by_label("Alias for v3")).to_have_value("")
    picture(page, card, "registry-light-card")

    registry = mlnb.ModelRegistry(jupyterlab.models)
    registry.set_alias("tumour", "champion", 1)  # somebody else, meanwhile
    detail.get_by_label("Alias for v3").fill("champion")
    detail.get_by_role("button", name="Set alias").click()
    expect(notice).to_contain_text("tumour@champion means version 1, not version 2: it was moved by")
    expect(row(card, 1)).to_contain_text("@champion")
    assert registry.aliases("tumour") == {"champion": 1, "challenger": 3}

    row(card, 3).get_by_role("button", name="Deploy").click()
    expect(notice).to_contain_text("tumour v3 is live; v2 was before.")
    expect(row(card, 3)).to_contain_text("● live")
    url = card.locator(".mlnb-title .mlnb-url").inner_text()
    assert page.request.get(f"{url}/info").json()["version"] == 3
    picture(page, card, "registry-light-deployed")
    card.get_by_role("button", name="Roll back to v2").click()
    expect(notice).to_contain_text("tumour v2 is live; v3 was before.")
    assert page.request.get(f"{url}/info").json()["version"] == 2

    detail.get_by_role("button", name="Prove").click()
    expect(notice).to_contain_text("Proving tumour:3 in a process without this notebook…")
    expect(notice).to_contain_text("tumour:3 is portable, 32 golden rows answered alike.")
    expect(detail.locator(".mlnb-proof")).to_contain_text("✓ Portable")
    expect(row(card, 3)).to_contain_text("portable")
    picture(page, card, "registry-light-proved")


def test_it_is_used_by_keyboard(page: Page, card: Locator) -> None:
    card.locator(".mlnb-model[aria-current]").focus()
    expect(card.locator(".mlnb-model[aria-current]")).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(card.get_by_role("button", name="diabetes")).to_be_focused()
    page.keyboard.press("Enter")
    expect(card.locator(".mlnb-title")).to_contain_text("diabetes")
    expect(card.locator(".mlnb-model[aria-current]")).to_be_focused()  # still, though it was rendered anew
    page.keyboard.press("Tab")
    expect(row(card, 1).get_by_role("checkbox")).to_be_focused()
    page.keyboard.press("Tab")
    expect(row(card, 1).get_by_role("button", name="v1", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(card.locator(".mlnb-detail")).to_contain_text("Ridge")
    expect(row(card, 1).get_by_role("button", name="v1", exact=True)).to_be_focused()


def test_many_models_are_filtered(page: Page, jupyterlab: JupyterLab, card: Locator) -> None:
    expect(card.get_by_label("Filter models")).to_be_hidden()
    registry = mlnb.ModelRegistry(jupyterlab.models)
    for number in range(7):
        registry.register(_echo, f"lender-{number}", description="a function")
    card.get_by_role("button", name="Refresh").click()
    expect(card.locator(".mlnb-model")).to_have_count(9)
    card.get_by_label("Filter models").fill("TUM")
    expect(card.locator(".mlnb-model:visible")).to_have_count(1)
    card.get_by_label("Filter models").fill("none such")
    expect(card.get_by_text("No model is named like that.")).to_be_visible()
    card.get_by_label("Filter models").fill("lender")
    expect(card.locator(".mlnb-model:visible")).to_have_count(7)
    picture(page, card, "registry-light-filter")


def test_inside_another_widget_it_shows_itself_and_a_busy_kernel_is_said(page: Page, jupyterlab: JupyterLab) -> None:
    card = open_panel(page, jupyterlab, shown="import ipywidgets\nipywidgets.VBox([mlnb.RegistryPanel()])")
    expect(card.locator(".mlnb-model")).to_have_count(2)
    with busy_kernels(jupyterlab):
        card.get_by_role("button", name="diabetes").click()
        notice = card.locator(".mlnb-notice")
        expect(notice).to_have_text("The kernel is busy; this happens when the running cell ends.")
    expect(card.locator(".mlnb-title")).to_contain_text("diabetes")
    expect(card.locator(".mlnb-notice")).to_have_text("")
    page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    page.reload()
    expect(page.locator(".mlnb-registry .mlnb-title")).to_contain_text("diabetes")
    page.locator(".mlnb-registry").get_by_role("button", name="tumour").click()
    expect(page.locator(".mlnb-registry .mlnb-title")).to_contain_text("tumour")
    stop_kernels(page, jupyterlab)


def test_in_the_dark_theme_on_a_narrow_page_and_without_a_kernel(page: Page, dark_jupyterlab: JupyterLab) -> None:
    card = open_panel(page, dark_jupyterlab)
    row(card, 3).get_by_role("button", name="v3", exact=True).click()
    expect(card.locator(".mlnb-detail")).to_contain_text("RandomForestClassifier")
    picture(page, card, "registry-dark-card")
    background, text = (
        card.evaluate(f"card => getComputedStyle(card).{what}") for what in ("backgroundColor", "color")
    )
    assert brightness(background) < 80
    assert brightness(text) > 180
    page.set_viewport_size({"width": 700, "height": 900})
    picture(page, card, "registry-dark-narrow")
    path = dark_jupyterlab.folder / "registry.ipynb"
    before = path.stat().st_mtime
    page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    wait_until(lambda: path.stat().st_mtime > before)
    assert path.stat().st_size < 150_000
    notebook = nbformat.read(path, as_version=4)
    (output,) = notebook.cells[-1].outputs
    assert "<table" in output.data["text/html"]
    stop_kernels(page, dark_jupyterlab)


def brightness(colour: str) -> float:
    numbers = [float(number) for number in re.findall(r"[\d.]+", colour)[:3]]
    return sum(numbers) / 3
