"""JupyterLab and Chromium, for the tests that look at what a person sees."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest
from labs import JupyterLab, running_jupyterlab
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, expect, sync_playwright

CHROMIUM = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


expect.set_options(timeout=20_000)
KNOWN = re.compile("Canceled future|Failed to fetch|reading 'schema'")  # JupyterLab's and Notebook 7.6's own


@pytest.fixture(scope="session")
def jupyterlab() -> Iterator[JupyterLab]:
    with running_jupyterlab("Light") as lab:
        yield lab


@pytest.fixture(scope="session")
def dark_jupyterlab() -> Iterator[JupyterLab]:
    with running_jupyterlab("Dark") as lab:
        yield lab


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    executable = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=CHROMIUM)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of 1280 x 900; an exception in it, or what mlnb's sidebar complains about, fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.set_default_timeout(30_000)
    errors: list[str] = []

    def fail(error: Error) -> None:
        if "/extensions/mlnb/" in (error.stack or "") or not KNOWN.search(str(error)):
            errors.append(str(error))

    page.on("pageerror", fail)

    def hear(said: ConsoleMessage) -> None:
        if said.type in ("error", "warning") and "/extensions/mlnb/" in said.location.get("url", ""):
            errors.append(said.text)

    page.on("console", hear)
    yield page
    context.close()
    assert not errors, errors
