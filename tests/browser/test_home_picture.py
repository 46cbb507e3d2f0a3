"""README's picture of a panel and the sidebar in JupyterLab is made here, and shows what they show now.

The picture carries a digest of what it shows: the words of the panel and the sidebar, their numbers left out, and the
rules of style that draw them. With another digest the test fails, until `make pictures`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import struct
import time
import zlib
from collections.abc import Iterator

import httpx
import pytest
from labs import ARTIFACTS, READY, ROOT, JupyterLab, open_notebook, run_all, stop_kernels, write_notebook
from playwright.sync_api import Browser, Page, ViewportSize, expect

import mlnb

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

PICTURE = ROOT / "notebooks" / "home.png"
IS_WRITTEN = os.environ.get("MLNB_PICTURES") == "write"
SIZE: ViewportSize = {"width": 1280, "height": 800}
MOST_BYTES = 400_000
LOAD = 40 if IS_WRITTEN else 2  # seconds of requests, which only a picture needs more of
KEYWORD = b"mlnb"
SHOWN = "#mlnb-models, .jp-OutputArea .mlnb-card"
STYLES = [
    *(ROOT / "mlnb" / "widgets" / name for name in ("shared.css", "panel.css")),
    ROOT / "mlnb" / "labextension" / "style" / "base.css",
]
DRAWN = """selector => {
  try {
    return [...document.querySelectorAll(selector)].some(one => one.checkVisibility({ contentVisibilityAuto: false }));
  } catch {
    return false; // a state, as of an animation
  }
}"""

WINES = [
    """%load_ext mlnb
from sklearn.datasets import load_diabetes, load_wine
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

wine, diabetes = load_wine(as_frame=True), load_diabetes(as_frame=True)
grower = make_pipeline(StandardScaler(), LogisticRegression()).fit(wine.data, wine.target_names[wine.target])
ridge = Ridge(alpha=0.1).fit(diabetes.data, diabetes.target)""",
    '%deploy_model grower --name wine --input wine.data --metrics {"accuracy": 0.98} --no-panel',
    '%deploy_model ridge --name diabetes --input diabetes.data --metrics {"r2": 0.51} --no-panel',
]
TUMOUR = [
    """%load_ext mlnb
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

cancer = load_breast_cancer(as_frame=True)
diagnosis = cancer.target_names[cancer.target]
X_train, X_test, y_train, y_test = train_test_split(cancer.data, diagnosis, random_state=0)""",
    """few = RandomForestClassifier(3, max_depth=2, random_state=0).fit(X_train, y_train)
first = %deploy_model few --name tumour --input X_train --metrics {"accuracy": few.score(X_test, y_test)}""",
    """forest = RandomForestClassifier(random_state=0).fit(X_train, y_train)
scores = {"accuracy": forest.score(X_test, y_test)}
%deploy_model forest --name tumour --input X_train --metrics scores --description "a hundred trees\"""",
]


@pytest.fixture
def page(browser: Browser, jupyterlab: JupyterLab) -> Iterator[Page]:
    context = browser.new_context(viewport=SIZE, device_scale_factor=2)
    page = context.new_page()
    page.set_default_timeout(30_000)
    yield page
    stop_kernels(page, jupyterlab)
    context.close()


def test_the_picture_shows_what_there_is(page: Page, jupyterlab: JupyterLab) -> None:
    show(page, jupyterlab)
    expect(page.locator(".mlnb-side-live .mlnb-side-name")).to_have_text(["tumour", "diabetes", "wine"])
    now = digest_of(page)
    if IS_WRITTEN:
        picture = with_text(page.screenshot(animations="disabled", caret="hide"), now)
        assert len(picture) <= MOST_BYTES, len(picture)
        PICTURE.write_bytes(picture)
    page.screenshot(path=ARTIFACTS / "home.png")
    assert text_of(PICTURE.read_bytes()) == now, f"notebooks/home.png shows what was: make pictures\n{shown_in(page)}"


def show(page: Page, lab: JupyterLab) -> None:
    """Serve three models of two notebooks, ask them, and show the panel of one and the sidebar."""
    shutil.rmtree(lab.models, ignore_errors=True)
    write_notebook(lab.folder / "tumour.ipynb", *TUMOUR)
    write_notebook(lab.folder / "wines.ipynb", *WINES)
    open_notebook(page, lab, "wines.ipynb")
    run_all(page)
    page.evaluate("() => jupyterapp.commands.execute('docmanager:open', { path: 'tumour.ipynb' })")
    page.evaluate(READY)
    run_all(page)
    page.evaluate("() => jupyterapp.commands.execute('mlnb:show-models')")
    side, card = page.locator("#mlnb-models"), page.locator(".jp-OutputArea .mlnb-card")
    expect(side.locator(".mlnb-side-live .mlnb-side-row")).to_have_count(3, timeout=60_000)
    expect(card.locator(".mlnb-header")).to_contain_text("v2 live", timeout=60_000)
    mlnb.ModelRegistry(lab.models).set_alias("tumour", "champion", 2)
    page.evaluate("() => jupyterapp.commands.execute('docmanager:save-all')")
    side.get_by_role("button", name="Look again").click()
    send_for(LOAD, ports_of(page, lab))
    side.locator(".mlnb-side-model[data-name=tumour] .mlnb-side-head").click()
    card.get_by_role("button", name="Predict").click()
    expect(card.locator(".mlnb-class")).to_have_count(2)
    expect(side.locator(".mlnb-side-model[data-name=tumour] .mlnb-side-head .mlnb-side-tag")).to_have_text(["champion"])
    expect(card.locator(".mlnb-footer")).to_contain_text("0 errors")
    expect(card.locator(".mlnb-footer")).to_be_in_viewport(ratio=1)
    for name in ("diabetes", "wine", "tumour"):
        expect(side.locator(f".mlnb-side-row[data-name={name}] .mlnb-side-p99")).to_have_text(re.compile(r"p99 \d"))
    page.mouse.move(900, 760)


def ports_of(page: Page, lab: JupyterLab) -> dict[str, str]:
    headers = {"Authorization": f"token {lab.token}"}
    live = page.request.get(f"{lab.url}/mlnb/deployments", headers=headers).json()["deployments"]
    return {one["name"]: one["url"] for one in live}


def send_for(seconds: float, urls: dict[str, str]) -> None:
    """Ask each model its own example, each at a pace of its own."""
    with httpx.Client() as client:
        rows = {name: example_of(client, url) for name, url in urls.items()}
        begin = time.monotonic()
        while (passed := time.monotonic() - begin) < seconds:
            for name, url in urls.items():
                if name != "diabetes" or passed % 8 < 3:
                    client.post(f"{url}/predict", json=rows[name]).raise_for_status()


def example_of(client: httpx.Client, url: str) -> dict[str, object]:
    return {"instances": [client.get(f"{url}/info").json()["example"]]}


def digest_of(page: Page) -> str:
    return hashlib.sha256(shown_in(page).encode()).hexdigest()


def shown_in(page: Page) -> str:
    """Return the words and the rules of style that draw what is seen of mlnb; what differs from day to day left out."""
    words = [without_figures(text) for text in page.locator(SHOWN).all_inner_texts()]
    icon = page.locator(".jp-SideBar [data-id=mlnb-models] path").evaluate_all("all => all.map(one => one.outerHTML)")
    rules = [
        f"{selector} {{ {body} }}"
        for style in STYLES
        for selector, body in rules_of(style.read_text())
        if page.evaluate(DRAWN, selector)
    ]
    return "\n".join([*words, json.dumps(icon), *rules])


def without_figures(text: str) -> str:
    """Replace numbers with their units, times and identifiers.

    >>> without_figures("12.5 ms · v2 · request 5af7d444e8af, up less than a minute")
    '0 · v0 · request 0, up 0'
    """
    text = re.sub(r"request \w+", "request 0", text)
    text = re.sub(r"just now|\d+ (s|min|h) ago", "0 ago", text)
    return re.sub(r"less than a minute|\d+([.,]\d+)*( ?(k|µs|ms|s|min|h)\b)?", "0", " ".join(text.split()))


def rules_of(css: str) -> list[tuple[str, str]]:
    """Return selectors and bodies, those within a condition too; comments and the layout of the file say nothing.

    >>> rules_of("a { b: c; } /* d */ @media (e) { f, g { h:  i } }")
    [('a', 'b: c;'), ('f, g', 'h: i')]
    """
    css = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)
    return [(" ".join(one.split()), " ".join(body.split())) for one, body in re.findall(r"([^{}]+)\{([^{}]*)\}", css)]


def with_text(png: bytes, text: str) -> bytes:
    """Put a text into a PNG, before its end: https://www.w3.org/TR/png-3/#11tEXt ."""
    data = b"tEXt" + KEYWORD + b"\0" + text.encode("latin-1")
    end = png.rindex(b"IEND") - 4
    return png[:end] + struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data)) + png[end:]


def text_of(png: bytes) -> str:
    found = re.search(rb"tEXt" + KEYWORD + rb"\0([0-9a-f]{64})", png)
    return found[1].decode() if found else ""
