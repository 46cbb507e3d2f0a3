"""What the sidebar shows when something is wrong: calm words, what is known still, and no spinner without end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from discovered import put, record_of
from labs import JupyterLab, running_jupyterlab
from notebook_servers import NotebookServer
from playwright.sync_api import Locator, Page, Route, expect
from sidebars import (
    FLOWERS,
    NUMBERS,
    ask,
    counted,
    notebooks_in,
    open_sidebar,
    picture,
    row,
    serve,
    turns,
    unfolded,
    wait_for_names,
)
from waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

LISTING = re.compile(r"/mlnb/(deployments|registry)(\?|$)")
MOVING = """side => [...side.querySelectorAll('*')].filter(one =>
  one.getAttribute('role') === 'progressbar' || /spin/i.test(one.getAttribute('class') ?? '') ||
  one.getAnimations().some(animation => animation.effect.getComputedTiming().iterations === Infinity)).length"""


@pytest.fixture(scope="module")
def lab() -> Iterator[JupyterLab]:
    """A lab of its own, since it is started again meanwhile."""
    with running_jupyterlab("Light", base_url="/trouble/") as lab:
        yield lab


@pytest.fixture(scope="module")
def bench(lab: JupyterLab) -> Iterator[NotebookServer]:
    with notebooks_in(lab) as running:
        serve(running, "flowers.ipynb", FLOWERS, "iris", "wine")
        serve(running, "numbers.ipynb", NUMBERS, "digits")
        yield running


def trouble(side: Locator) -> Locator:
    return side.locator(".mlnb-side-live .mlnb-side-trouble")


def calm(side: Locator) -> None:
    """See that nothing turns, and nothing is being looked for."""
    side.page.wait_for_timeout(5000)
    assert side.evaluate(MOVING) == 0
    expect(side.get_by_text("Looking…")).to_have_count(0)


def test_records_that_are_stale_or_half_written_or_name_a_port_of_another_are_not_shown(
    page: Page, lab: JupyterLab, bench: NotebookServer, tmp_path: Path
) -> None:
    records = bench.runtime / "mlnb"
    kernel = bench.kernels[0].id
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        stale = replace(record_of(os.getpid(), tmp_path / "s", names=("stale",), port=port, kernel=kernel), started=1.0)
        left = put(records, stale)
        half = put(records, stale, name="1-1.json", text=stale.to_text()[:60])
        old = put(records, stale, name="2-2.json", text="{", age=120)
        side = open_sidebar(page, lab)
        wait_for_names(side, "iris", "wine", "digits")
        wait_until(lambda: not left.exists() and not old.exists(), seconds=20)
        assert half.exists()  # somebody may be writing it
        turns(page, 2)
        wait_for_names(side, "iris", "wine", "digits")
        expect(trouble(side)).to_have_count(0)
        other.settimeout(0)
        with pytest.raises(BlockingIOError):
            other.accept()  # nobody has asked the program that has the port now
    half.unlink()


def test_a_kernel_that_does_not_answer_is_said_and_comes_back(
    page: Page, lab: JupyterLab, bench: NotebookServer
) -> None:
    side = open_sidebar(page, lab)
    wait_for_names(side, "iris", "wine", "digits")
    version = row(side, "iris").locator(".mlnb-side-version").inner_text()
    unfolded(side, "digits")
    kernel = psutil.Process(bench.kernels[0].pid)
    kernel.send_signal(signal.SIGSTOP)
    try:
        expect(row(side, "iris")).to_have_attribute("data-state", "silent")
        expect(row(side, "wine")).to_contain_text("does not answer now")
        expect(row(side, "iris").locator(".mlnb-side-version")).to_have_text(version)  # as it said last
        expect(row(side, "digits")).to_have_attribute("data-state", "live")
        before = bench_rate(side)
        for _ in range(20):
            ask(bench, "digits", [[1.0]])
        wait_until(lambda: bench_rate(side) != before, seconds=20)  # who answers is not held up
        picture(page, "sidebar-light-silent")
        wait_for_names(side, "iris", "wine", "digits")
    finally:
        kernel.send_signal(signal.SIGCONT)
    expect(row(side, "iris")).to_have_attribute("data-state", "live")
    expect(row(side, "wine")).to_contain_text("0 req/s")
    expect(row(side, "digits").locator("[data-head]")).to_have_attribute("aria-expanded", "true")


def bench_rate(side: Locator) -> str:
    return row(side, "digits").locator(".mlnb-side-rate").inner_text()


def test_a_runtime_folder_that_others_may_write_is_said(page: Page, lab: JupyterLab, bench: NotebookServer) -> None:
    side = open_sidebar(page, lab)
    wait_for_names(side, "iris", "wine", "digits")
    folder = bench.runtime / "mlnb"
    folder.chmod(0o777)
    try:
        expect(trouble(side)).to_contain_text("nothing that stands in it is believed: chmod 700 it.")
        wait_for_names(side)
        expect(side.get_by_text("Nothing is live")).to_have_count(0)  # that is not known
        picture(page, "sidebar-light-distrusted")
    finally:
        folder.chmod(0o700)
    expect(trouble(side)).to_have_count(0)
    wait_for_names(side, "iris", "wine", "digits")
    away = folder.with_name("away")
    folder.rename(away)
    folder.write_text("no folder")
    try:
        expect(trouble(side)).to_contain_text("cannot be read")
    finally:
        folder.unlink()
        away.rename(folder)
    wait_for_names(side, "iris", "wine", "digits")


def test_without_the_server_extension_or_a_login_it_says_what_to_do(
    page: Page, lab: JupyterLab, bench: NotebookServer
) -> None:
    def unknown(route: Route) -> None:
        route.continue_(url=route.request.url.replace("/mlnb/", "/not-mlnb/"))

    def stranger(route: Route) -> None:
        route.continue_(headers={"Accept": "application/json", "Authorization": ""})

    page.route(LISTING, unknown)
    side = open_sidebar(page, lab)
    expect(trouble(side)).to_contain_text("This Jupyter server does not know mlnb.")
    expect(trouble(side).locator("code")).to_have_text("jupyter server extension enable mlnb")
    calm(side)
    picture(page, "sidebar-light-no-extension")
    page.unroute(LISTING)
    wait_for_names(side, "iris", "wine", "digits")
    expect(trouble(side)).to_have_count(0)

    page.route(LISTING, stranger)
    cookies = page.context.cookies()
    page.context.clear_cookies()
    expect(trouble(side)).to_have_text(re.compile("^Your login has ended"))
    picture(page, "sidebar-light-no-login")
    wait_for_names(side, "iris", "wine", "digits")  # what was known stands, dimmed
    page.context.add_cookies([{key: one[key] for key in ("name", "value", "domain", "path")} for one in cookies])  # type: ignore[misc]
    page.unroute(LISTING)
    expect(trouble(side)).to_have_count(0)


def test_an_answer_that_never_comes_is_said(page: Page, lab: JupyterLab, bench: NotebookServer) -> None:
    def hold(_: Route) -> None:
        """Answer nothing."""

    page.clock.install()
    page.route(LISTING, hold)
    asked = counted(page)
    side = open_sidebar(page, lab)
    expect(side.get_by_text("Looking…").first).to_be_visible()
    page.wait_for_timeout(2500)
    assert asked() == 1  # one question at a time
    page.clock.fast_forward(20_000)
    expect(trouble(side)).to_contain_text("Jupyter does not answer")
    expect(side.get_by_text("Looking…")).to_have_count(0)


def test_answers_that_are_no_list_are_said_and_a_lost_order_is_not_asked_again(
    page: Page, lab: JupyterLab, bench: NotebookServer
) -> None:
    side = open_sidebar(page, lab)
    wait_for_names(side, "iris", "wine", "digits")
    page.route(LISTING, lambda route: route.fulfill(json={}))
    expect(trouble(side)).to_have_text(re.compile("^The list cannot be shown; trying again"))
    wait_for_names(side, "iris", "wine", "digits")
    page.unroute(LISTING)
    page.route(LISTING, lambda route: route.fulfill(json={"deployments": [{"name": "odd", "state": "live"}]}))
    expect(side).to_contain_text("This part cannot be shown; trying again.")
    page.unroute(LISTING)
    wait_for_names(side, "iris", "wine", "digits")
    expect(trouble(side)).to_have_count(0)

    page.route(re.compile(r"/stop(\?|$)"), lambda route: route.abort())
    unfolded(side, "wine").get_by_role("button", name="Stop: wine").click()
    notice = side.get_by_role("status").last
    expect(notice).to_have_text("Jupyter does not answer; the list shows whether it was done.")


def test_jupyter_started_again_is_found_again(page: Page, lab: JupyterLab, bench: NotebookServer) -> None:
    side = open_sidebar(page, lab)
    wait_for_names(side, "iris", "wine", "digits")
    lab.server.stop()
    expect(trouble(side)).to_contain_text("Jupyter does not answer; trying again.")
    wait_for_names(side, "iris", "wine", "digits")
    calm(side)
    picture(page, "sidebar-light-jupyter-gone")
    shutil.rmtree(bench.runtime / "mlnb", ignore_errors=True)
    lab.server.start()
    expect(trouble(side)).to_have_count(0, timeout=60_000)
    wait_for_names(side)  # its kernels ended with it
    expect(side.locator(".mlnb-side-live")).to_contain_text("Nothing is live.")
    bench.kernels.clear()
    serve(bench, "again.ipynb", NUMBERS, "digits")
    wait_for_names(side, "digits")
    picture(page, "sidebar-light-jupyter-again")
