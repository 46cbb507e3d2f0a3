"""What the extension costs a JupyterLab in which nobody opens the sidebar: bytes, requests and time."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from labs import ROOT, JupyterLab
from playwright.sync_api import Page, expect
from sidebars import SHOW, visit
from waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.alone, pytest.mark.timeout(180)]

STATIC = ROOT / "mlnb" / "labextension" / "static"
MOST_BYTES, MOST_MS = 150_000, 50
REMOTE_ENTRY = r"/lab/extensions/mlnb/static/remoteEntry\.\w+\.js"
SAMPLED = 100  # µs


def test_a_start_costs_little_and_asks_for_nothing(page: Page, jupyterlab: JupyterLab) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(urlsplit(request.url).path) if "/mlnb/" in request.url else None)
    visit(page, jupyterlab)  # what JupyterLab itself has to make once is made
    asked.clear()
    spent = milliseconds_of_ours(page, jupyterlab)
    assert 0 < spent < MOST_MS, spent
    (entry, *chunks) = asked
    assert re.fullmatch(REMOTE_ENTRY, entry)
    assert all(re.fullmatch(r"/lab/extensions/mlnb/static/\d+\.\w+\.js", chunk) for chunk in chunks), chunks
    at_start = sum(size_of(path) for path in asked)

    asked.clear()
    page.evaluate(SHOW)
    expect(page.locator("#mlnb-models .mlnb-side-live")).to_be_visible()
    wait_until(lambda: {"/mlnb/deployments", "/mlnb/registry"} <= set(asked))
    later = sum(size_of(path) for path in asked if "/extensions/" in path)
    assert 0 < at_start < later, (at_start, later)


def test_all_of_the_extension_is_small() -> None:
    assert 0 < sum(one.stat().st_size for one in STATIC.rglob("*") if one.is_file()) < MOST_BYTES


def size_of(path: str) -> int:
    return (STATIC / "static" / path.rpartition("/")[2]).stat().st_size


def milliseconds_of_ours(page: Page, lab: JupyterLab) -> float:
    """Open the lab, and return how long it was in the extension's scripts, and in what these called."""
    session = page.context.new_cdp_session(page)
    session.send("Profiler.enable")
    session.send("Profiler.setSamplingInterval", {"interval": SAMPLED})
    session.send("Profiler.start")
    visit(page, lab)
    profile = session.send("Profiler.stop")["profile"]
    nodes = {node["id"]: node for node in profile["nodes"]}
    ours: set[int] = set()

    def take(node: dict[str, Any], *, within: bool) -> None:
        within = within or "/extensions/mlnb/" in node["callFrame"]["url"]
        if within:
            ours.add(node["id"])
        for child in node.get("children", []):
            take(nodes[child], within=within)

    take(profile["nodes"][0], within=False)
    taken = zip(profile["samples"], profile["timeDeltas"], strict=True)
    return float(sum(delta for node, delta in taken if node in ours)) / 1000
