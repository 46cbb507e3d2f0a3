"""What a person sees and does in the Traffic tab: a split with sliders and a verdict, a shadow, a canary."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from labs import ARTIFACTS, JupyterLab, run_cells, stop_kernels
from playwright.sync_api import Locator, Page, expect
from sklearn.datasets import load_breast_cancer
from waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

CELL = """%load_ext mlnb
import mlnb
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

class Moody(DecisionTreeClassifier):
    def predict(self, rows):
        if len(rows) == 1 and rows.iloc[0, 0] > 14:
            raise ValueError("too large")
        return super().predict(rows)

cancer = load_breast_cancer(as_frame=True)
rows, labels = cancer.data, cancer.target_names[cancer.target]
stump = DecisionTreeClassifier(max_depth=1, random_state=0).fit(rows, labels)
linear = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, labels)
small = Moody(max_depth=2, random_state=0).fit(rows[rows["mean radius"] < 14], labels[rows["mean radius"] < 14])
deployment = mlnb.deploy(small, name="tumour", example=rows[rows["mean radius"] < 14], description="small ones only")
mlnb.deploy(linear, name="tumour", example=rows, metrics={"accuracy": 0.988}, description="logistic regression")
mlnb.deploy(stump, name="tumour", example=rows, metrics={"accuracy": 0.922}, description="a stump")
deployment"""

DATA = load_breast_cancer(as_frame=True)


def open_tab(page: Page, lab: JupyterLab) -> Locator:
    """Deploy three versions, and return the card with the Traffic tab open."""
    run_cells(page, lab, "traffic.ipynb", CELL)
    card = page.locator(".mlnb-card")
    expect(card).to_be_visible(timeout=90_000)
    assert page.locator('[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0
    card.get_by_role("tab", name="Traffic").click()
    return card


@pytest.fixture
def card(page: Page, jupyterlab: JupyterLab) -> Iterator[Locator]:
    yield open_tab(page, jupyterlab)
    stop_kernels(page, jupyterlab)


def picture(page: Page, card: Locator, name: str) -> None:
    """Keep what it looks like, for a person to look at."""
    card.scroll_into_view_if_needed()
    page.screenshot(path=ARTIFACTS / f"{name}.png", animations="disabled")


def execute(page: Page, code: str) -> None:
    """Run code in the kernel, as a cell does."""
    status = page.evaluate(
        """async (code) => {
            const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
            return (await kernel.requestExecute({code}).done).content.status;
        }""",
        code,
    )
    assert status == "ok"


def ask(page: Page, card: Locator, count: int, *, labelled: bool = False) -> list[int]:
    """Send as many rows, and say what was right; return the versions that answered."""
    url = card.locator(".mlnb-url").inner_text()
    answers: list[dict[str, Any]] = []
    for row in range(count):
        features = DATA.data.iloc[row % len(DATA.data)].tolist()
        answers.append(page.request.post(f"{url}/predict", data={"features": features}).json())
    if labelled:
        labels = [str(DATA.target_names[DATA.target[row % len(DATA.data)]]) for row in range(count)]
        feedback = [
            {"request_id": one["request_id"], "label": label} for one, label in zip(answers, labels, strict=True)
        ]
        assert page.request.post(f"{url}/feedback", data={"feedback": feedback}).ok
    return [one["version"] for one in answers if "version" in one]


def shares(card: Locator) -> list[int]:
    """Return where the sliders stand."""
    return [int(one.input_value()) for one in card.get_by_role("slider").all()]


def test_a_person_splits_the_traffic_and_promotes_the_winner(page: Page, card: Locator) -> None:
    expect(card.get_by_text("v3 answers all requests.")).to_be_visible()
    card.get_by_label("Try out").select_option("2")
    picture(page, card, "traffic-light-alone")
    card.get_by_role("button", name="Split").click()
    notice, header = card.locator(".mlnb-notice"), card.locator(".mlnb-header")
    expect(notice).to_have_text("v2 answers 10 % of the requests now, v3 90 %.")
    expect(header).to_contain_text("v3 90 % · v2 10 % live")
    expect(card.locator('[data-region="verdict"]')).to_contain_text("deployment.feedback(request_id, label)")
    assert shares(card) == [90, 10]

    slider = card.get_by_role("slider", name="Share of v2")
    box = slider.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + box["height"] / 2, steps=5)
    assert sum(shares(card)) == 100
    moved = shares(card)[1]
    assert 50 < moved < 70
    expect(card.locator('[data-share="3"]')).to_have_text(f"{100 - moved} %")
    expect(header).to_contain_text("v3 90 % · v2 10 % live")  # until it is let go of
    ask(page, card, 5)
    expect(card.locator('[data-value="requests-3"]')).not_to_have_text("0")
    assert shares(card)[1] == moved  # what is counted meanwhile moves no slider
    page.mouse.up()
    expect(notice).to_have_text(f"Split: v3 {100 - moved} %, v2 {moved} %.")
    expect(header).to_contain_text(f"v3 {100 - moved} % · v2 {moved} % live")

    versions = ask(page, card, 600, labelled=True)
    assert set(versions) == {2, 3}
    verdict = card.locator('[data-region="verdict"]')
    for _ in range(4):  # which version a request meets is chance, and so is how many it takes to tell them apart
        with suppress(AssertionError):
            expect(verdict).to_contain_text("is better than")
            break
        versions += ask(page, card, 600, labelled=True)
    expect(verdict).to_contain_text("is better than")
    expect(card.get_by_role("button", name="Promote v2")).to_have_class("mlnb-primary")
    expect(card.locator('[data-chart="traffic"] .main-svg').first).to_be_visible()
    picture(page, card, "traffic-light-split")
    before = page.evaluate("() => document.querySelector('[data-chart=traffic]').data[2].x.length")
    ask(page, card, 100, labelled=True)
    page.wait_for_function(f"() => document.querySelector('[data-chart=traffic]').data[2].x.length > {before}")

    card.get_by_role("button", name="Promote v2").click()
    expect(notice).to_have_text("v2 is promoted; the split has ended.")
    expect(header).to_contain_text("v2 live ·")
    expect(card.locator('[data-chart="traffic"]')).to_be_hidden()
    assert set(ask(page, card, 5)) == {2}
    header.get_by_role("button", name="Roll back to v3").click()
    expect(notice).to_have_text("v3 is live; v2 was before.")


def test_the_sliders_by_keyboard(page: Page, card: Locator) -> None:
    execute(page, "deployment.split({1: 20, 2: 40, 3: 40})")
    expect(card.get_by_role("slider")).to_have_count(3)
    slider = card.get_by_role("slider", name="Share of v1")
    slider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuetext", "30 %")
    assert sorted(shares(card)) == [30, 35, 35]
    expect(card.locator(".mlnb-notice")).to_have_text(re.compile(r"^Split: .*v1 30 %"))
    expect(slider).to_be_focused()  # still, though it was rendered anew
    page.keyboard.press("Home")
    expect(card.locator(".mlnb-notice")).to_have_text(re.compile(r"^Split: .*v1 0 %"))
    expect(slider).to_be_focused()  # and it can be given some again
    execute(page, "deployment.rollback()")
    expect(card.get_by_text("v3 answers all requests.")).to_be_visible()


def test_a_shadow_and_a_canary_in_the_dark_on_a_narrow_page_and_saved(page: Page, dark_jupyterlab: JupyterLab) -> None:
    card = open_tab(page, dark_jupyterlab)
    notice, header = card.locator(".mlnb-notice"), card.locator(".mlnb-header")
    card.get_by_label("Try out").select_option("2")
    card.get_by_role("button", name="Shadow").click()
    expect(notice).to_have_text("v2 sees a copy of all requests now.", timeout=60_000)
    ask(page, card, 60)
    expect(card.get_by_role("table", name="Comparison").locator("td").first).to_have_text("60")
    page.set_viewport_size({"width": 620, "height": 900})
    picture(page, card, "traffic-dark-shadow")
    card.get_by_role("button", name="End shadow").click()
    expect(header).not_to_contain_text("shadow")

    execute(page, "deployment.canary(1, steps=(50, 100), hold='1h', guard={'errors': 0.05, 'minimum': 5})")
    expect(header).to_contain_text("v3 live, v1 canary at 50 %")
    expect(card.get_by_role("list", name="Steps").locator('[aria-current="step"]')).to_contain_text("50 %")
    expect(card.get_by_role("table", name="Guards")).to_contain_text("at most 5 % allowed")
    picture(page, card, "traffic-dark-canary")
    ask(page, card, 100)
    taken = card.get_by_text(re.compile(r"^v1 was taken back at \d\d:\d\d at 50 %: errors "))
    expect(taken).to_be_visible()
    expect(header).to_contain_text("v3 live ·")
    picture(page, card, "traffic-dark-taken-back")

    execute(page, "deployment.split({3: 50, 2: 50})")
    ask(page, card, 150, labelled=True)
    expect(card.locator('[data-chart="traffic"] .main-svg').first).to_be_visible()
    picture(page, card, "traffic-dark-narrow")
    path = dark_jupyterlab.folder / "traffic.ipynb"
    before = path.stat().st_mtime
    page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    wait_until(lambda: path.stat().st_mtime > before)
    assert path.stat().st_size < 100_000
    stop_kernels(page, dark_jupyterlab)
