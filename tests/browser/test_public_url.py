"""Where a browser reaches what a notebook serves: behind a hub's name and prefix, and on the machine itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from labs import ARTIFACTS, JupyterLab, open_notebook, run_all, run_cells, running_jupyterlab, stop_kernels
from playwright.sync_api import Browser, Locator, Page, expect
from waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

HUB = "hub.example"  # not loopback, as far as the page knows
CHROMIUM = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    f"--host-resolver-rules=MAP {HUB} 127.0.0.1",
]
CELL = """%load_ext mlnb
import mlnb
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

iris = load_iris(as_frame=True)
model = LogisticRegression(max_iter=500).fit(iris.data, iris.target_names[iris.target])
deployment = mlnb.deploy(model, name="iris", example=iris.data)
deployment"""
ASK = """async (code) => {
  const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  let said = "";
  const asked = kernel.requestExecute({code});
  asked.onIOPub = (message) => { said += message.content.text ?? ""; };
  await asked.done;
  return said.trim();
}"""


@pytest.fixture(scope="module")
def hub() -> Iterator[JupyterLab]:
    """A lab as a hub has it for one user."""
    with running_jupyterlab("Light", base_url="/user/ada/", options=("--ServerApp.allow_remote_access=True",)) as lab:
        yield lab


@pytest.fixture(scope="module")
def hub_without_proxy() -> Iterator[JupyterLab]:
    without = "--ServerApp.jpserver_extensions={'jupyter_server_proxy': False}"
    options = ("--ServerApp.allow_remote_access=True", without)
    with running_jupyterlab("Dark", base_url="/user/eve/", options=options) as lab:
        yield lab


@pytest.fixture(scope="module")
def chromium(browser: Browser) -> Iterator[Browser]:
    """A browser that finds the hub by its name."""
    executable = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
    chromium = browser.browser_type.launch(executable_path=executable, args=CHROMIUM)
    yield chromium
    chromium.close()


@contextmanager
def page_of(chromium: Browser, lab: JupyterLab) -> Iterator[Page]:
    """A page; what it throws fails the test, and the kernels it has left end."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(60_000)
    thrown: list[str] = []
    page.on("pageerror", lambda error: None if "Canceled future" in str(error) else thrown.append(str(error)))
    yield page
    stop_kernels(page, lab)
    context.close()
    assert not thrown, thrown


def deployed(page: Page, lab: JupyterLab, *, host: str) -> Locator:
    """Deploy in a notebook of a lab that is reached by the name ``host``; return the panel."""
    there = replace(lab, url=lab.url.replace("127.0.0.1", host))
    run_cells(page, there, "public.ipynb", CELL, "mlnb.RegistryPanel()")
    card = page.locator(".jp-Cell").first.locator(".mlnb-card")
    expect(card).to_be_visible(timeout=90_000)
    return card


def public_url(page: Page) -> str:
    said: str = page.evaluate(ASK, "print(deployment.public_url)")
    return said


def reached(page: Page) -> str:
    """Return what a page has told the kernel, which it does after its probe only."""
    said: str = page.evaluate(ASK, "print(mlnb.workspace.surroundings._reached[1])")
    return said


def test_behind_a_hub_the_panel_leads_through_jupyter(chromium: Browser, hub: JupyterLab) -> None:
    with page_of(chromium, hub) as page:
        card = deployed(page, hub, host=HUB)
        shown = re.compile(rf"^{hub.url.replace('127.0.0.1', HUB)}/proxy/\d+/models/iris$")
        expect(card.locator(".mlnb-url")).to_have_text(shown)
        expect(card.locator(".mlnb-reach")).to_have_text(re.compile("^Asks for your Jupyter login"))
        url = card.locator(".mlnb-url").inner_text()
        wait_until(lambda: public_url(page) == url)
        expect(page.locator(".mlnb-registry .mlnb-title .mlnb-url")).to_have_text(url)

        card.get_by_role("button", name="curl").click()
        snippet = card.locator(".mlnb-snippet").inner_text()
        page.screenshot(path=ARTIFACTS / "panel-light-behind-a-hub.png")
        assert f"{url}/predict" in snippet
        assert '-H "Authorization: token $JUPYTER_TOKEN"' in snippet
        assert asked_as_written(snippet, hub)["model"] == "iris"
        card.get_by_role("button", name="python").click()
        expect(card.locator(".mlnb-snippet")).to_contain_text("os.environ['JUPYTER_TOKEN']")

        page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
        wait_until(lambda: "application/vnd.jupyter.widget-view+json" in (hub.folder / "public.ipynb").read_text())
        saved = (hub.folder / "public.ipynb").read_text()
        assert HUB not in saved
        assert hub.token not in saved

        docs = card.get_by_role("link", name="docs").get_attribute("href")
        dashboard = card.get_by_role("link", name="dashboard").get_attribute("href")
        other = page.context.new_page()
        try_it_out(other, str(docs))
        look_at_the_dashboard(other, str(dashboard))


def asked_as_written(snippet: str, lab: JupyterLab) -> dict[str, object]:
    """Run the snippet in a shell with a token; only the hub's name is found otherwise."""
    port = urlsplit(lab.url).port
    known = snippet.replace("curl", f"curl --silent --resolve {HUB}:{port}:127.0.0.1", 1)
    said = subprocess.run(
        ["sh", "-c", known], env=os.environ | {"JUPYTER_TOKEN": lab.token}, capture_output=True, check=True, timeout=60
    ).stdout
    document: dict[str, object] = json.loads(said)
    return document


def try_it_out(page: Page, docs: str) -> None:
    """Send the example that /docs offers."""
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    page.goto(docs)
    page.get_by_text("/models/iris/predict").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table .response .response-col_status")).to_contain_text("200")
    assert [one.partition("?")[0] for one in sent] == [f"{docs.removesuffix('/docs')}/models/iris/predict"]


def look_at_the_dashboard(page: Page, dashboard: str) -> None:
    """See that it is drawn, and drawn anew."""
    with page.expect_response(lambda answer: "/dashboard/data" in answer.url and answer.ok):
        page.goto(dashboard)
    expect(page.locator(".main-svg").first).to_be_visible(timeout=60_000)
    with page.expect_response(lambda answer: "/dashboard/data" in answer.url and answer.ok):
        pass


def test_where_nothing_leads_to_the_port_the_panel_says_what_to_install(
    chromium: Browser, hub_without_proxy: JupyterLab
) -> None:
    lab = hub_without_proxy
    with page_of(chromium, lab) as page:
        card = deployed(page, lab, host=HUB)
        expect(card.locator(".mlnb-reach")).to_contain_text("pip install jupyter-server-proxy, then restart Jupyter")
        expect(card.locator(".mlnb-url")).to_have_text(re.compile(r"^http://127\.0\.0\.1:\d+/models/iris$"))
        page.screenshot(path=ARTIFACTS / "panel-dark-no-way.png")

        page.goto("about:blank")
        open_notebook(page, lab, "public.ipynb")  # the same kernel, from this machine
        run_all(page)
        card = page.locator(".jp-Cell").first.locator(".mlnb-card")
        expect(card.locator(".mlnb-url")).to_have_text(re.compile(r"^http://127\.0\.0\.1:\d+/models/iris$"))
        wait_until(lambda: card.locator(".mlnb-url").inner_text() == f"{reached(page)}/models/iris" == public_url(page))
        expect(card.locator(".mlnb-reach")).to_be_hidden()
        page.screenshot(path=ARTIFACTS / "panel-dark-on-this-machine.png")


def test_another_server_on_the_port_of_the_browsers_own_machine_is_not_taken_for_ours(
    chromium: Browser, hub: JupyterLab
) -> None:
    """As through a tunnel to a Jupyter elsewhere: the page is on loopback, and the kernel's server is not."""
    with page_of(chromium, hub) as page:
        page.route(
            re.compile(r"^http://127\.0\.0\.1:\d+/livez"),
            lambda route: route.fulfill(json={"status": "live"}, headers={"Access-Control-Allow-Origin": "*"}),
        )
        card = deployed(page, hub, host="127.0.0.1")
        expect(card.locator(".mlnb-url")).to_have_text(re.compile(rf"^{hub.url}/proxy/\d+/models/iris$"))
