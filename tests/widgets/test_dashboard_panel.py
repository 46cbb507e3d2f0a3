from __future__ import annotations

import gc
import gzip
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
import views
from fitted import Fitted
from IPython.core.interactiveshell import InteractiveShell

import mlnb
from mlnb.errors import InvalidInputError, NotDeployedError
from mlnb.monitoring.view import MonitorView
from mlnb.widgets.dashboard_panel import DashboardPanel
from mlnb.widgets.ticker import Ticker
from mlnb.workspace.dashboard import Dashboard

SECONDS_AN_UPDATE = 0.03  # 3 % of a core at one update a second


class Shown:
    """A deployment as far as a dashboard needs one: each look at it is another second."""

    def __init__(self, name: str = "iris", *, changing: bool = False) -> None:
        self.name = name
        self.looks = 0
        self._given = [views.busy_view(name=name, seed=seed) for seed in range(10 if changing else 1)]

    def view(self, window: int = 300) -> MonitorView:
        self.looks += 1
        if window == 3600:
            return views.busy_view(name=self.name, step=60)
        return self._given[self.looks % len(self._given)]


class Hand(Ticker):
    """A second passes when the test says so."""

    def pass_a_second(self) -> None:
        self._round()

    @property
    def listeners(self) -> int:
        return len(self._subscribers)

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        self._subscribers[key := object()] = callback
        return lambda: self._subscribers.pop(key, None) and None


class Page:
    """A page that shows the panel: what it was sent."""

    def __init__(self, panel: DashboardPanel, name: str = "page") -> None:
        self._panel, self._name = panel, name
        self.sent: list[bytes] = []

    @property
    def told(self) -> list[dict[str, Any]]:
        return [json.loads(one) for one in self.sent]

    def look(self, *, model: str | None = None, window: int = 300) -> None:
        known = json.loads(self.sent[-1]).get("key", "") if self.sent else ""
        wanted = {"model": model, "window": window, "known": known}
        self._panel.act("look", viewer=self._name, looked_at=True, **wanted)

    def leave(self) -> None:
        self._panel.act("look", viewer=self._name, looked_at=False)

    def receive(self, content: dict[str, Any], buffers: list[bytes]) -> None:
        if content.get("viewer") == self._name:
            self.sent.append(buffers[0])


def join() -> None:
    """Wait for what was pressed."""
    for thread in threading.enumerate():
        if thread.name.startswith("mlnb panel"):
            thread.join(30)


def resident() -> int:
    """Return the bytes of memory that this process has."""
    size: int = psutil.Process().memory_info().rss
    return size


@pytest.fixture
def hand() -> Hand:
    return Hand()


def opened(shown: list[Shown], hand: Hand, *, name: str | None = None) -> tuple[DashboardPanel, Page, Page]:
    panel = DashboardPanel(Dashboard(name, deployments=lambda: shown), told=hand)  # type: ignore[arg-type, return-value]  # a stand-in
    first, second = Page(panel), Page(panel, "second")

    def send(content: dict[str, Any], buffers: list[bytes]) -> None:
        first.receive(content, buffers)
        second.receive(content, buffers)

    panel.send = send
    return panel, first, second


@pytest.fixture
def one(hand: Hand) -> Iterator[tuple[DashboardPanel, Page, Shown]]:
    shown = Shown()
    panel, page, _ = opened([shown], hand, name="iris")
    yield panel, page, shown
    panel.close()


def test_nothing_is_done_until_somebody_looks(one: tuple[DashboardPanel, Page, Shown], hand: Hand) -> None:
    panel, page, shown = one
    assert (hand.listeners, shown.looks, panel.looked_at) == (0, 0, False)
    page.look()
    join()
    assert (hand.listeners, shown.looks, panel.looked_at) == (1, 1, True)
    assert "spec" in page.told[0]
    hand.pass_a_second()
    assert len(page.told) == 2


def test_the_form_of_the_figure_is_sent_until_the_page_has_it(
    one: tuple[DashboardPanel, Page, Shown], hand: Hand
) -> None:
    _, page, _ = one
    page.look()
    join()
    hand.pass_a_second()
    page.look()
    join()
    hand.pass_a_second()
    assert ["spec" in told for told in page.told] == [True, True, False]


def test_it_stops_when_its_cell_is_cleared(one: tuple[DashboardPanel, Page, Shown], hand: Hand) -> None:
    panel, page, shown = one
    page.look()
    join()
    page.leave()  # which is what the page says when its cell is cleared
    join()
    hand.pass_a_second()
    assert (len(page.told), shown.looks, panel.looked_at, hand.listeners) == (1, 1, False, 0)
    page.look()
    join()
    assert (len(page.told), hand.listeners) == (2, 1)


def test_a_page_that_says_no_more_is_let_go(
    one: tuple[DashboardPanel, Page, Shown], hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, page, shown = one
    page.look()
    join()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 899)
    hand.pass_a_second()
    assert shown.looks == 2
    monkeypatch.setattr(time, "monotonic", lambda: now + 901)
    hand.pass_a_second()
    assert (shown.looks, hand.listeners) == (2, 0)


def test_two_pages_see_what_each_has_chosen(hand: Hand) -> None:
    panel, page, second = opened([Shown("iris"), Shown("prices")], hand)
    page.look()
    second.look(model="prices", window=3600)
    join()
    hand.pass_a_second()
    assert (page.told[-1]["model"], page.told[-1]["window"]) == (None, 300)
    assert (second.told[-1]["model"], second.told[-1]["window"]) == ("prices", 3600)
    assert "prices" in page.told[-1]["regions"]["glance"]
    page.leave()
    join()
    assert panel.looked_at
    panel.close()
    assert hand.listeners == 0


def test_no_more_pages_than_some_are_served(hand: Hand) -> None:
    panel, _, _ = opened([Shown()], hand)
    pages = [Page(panel, f"page {number}") for number in range(20)]
    for page in pages:
        page.look()
        join()
    assert len(panel._viewers) == 8
    panel.close()
    pages[0].look()
    join()
    assert not panel.looked_at


def test_the_owner_sees_what_the_model_said(one: tuple[DashboardPanel, Page, Shown]) -> None:
    _, page, shown = one
    shown._given = [views.busy_view(metrics=views.metrics(views.busy_series(), last_error="ValueError: too large"))]
    page.look()
    join()
    assert "ValueError: too large" in page.told[0]["regions"]["figures"]
    assert "mlnb-before" in page.told[0]["regions"]["drift"]


def test_plotly_comes_from_the_kernel(one: tuple[DashboardPanel, Page, Shown]) -> None:
    panel, _, _ = one
    sent: list[bytes] = []
    panel.send = lambda _, buffers: sent.extend(buffers)
    panel.act("plotly")
    join()
    assert gzip.decompress(sent[0]).startswith(b"/**\n* plotly.js")


def test_a_notebook_keeps_a_picture_and_no_html(one: tuple[DashboardPanel, Page, Shown]) -> None:
    panel, _, _ = one
    data, _ = panel._repr_mimebundle_()
    assert list(data)[-2:] == ["image/svg+xml", "text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in data
    assert "text/html" not in data
    assert data["image/svg+xml"].startswith("<svg")
    assert "iris v3 live" in data["text/plain"]


def test_1800_updates_leave_nothing_behind(hand: Hand) -> None:
    panel, page, _ = opened([Shown(changing=True)], hand)
    page.look()
    join()
    for _ in range(200):
        hand.pass_a_second()
    page.sent[:-1] = []
    gc.collect()
    state, blocks, memory = len(json.dumps(panel.get_state(), default=str)), sys.getallocatedblocks(), resident()
    for second in range(1800):
        if second % 5 == 0:
            page.look()
            join()
        hand.pass_a_second()
        page.sent[:-1] = []
    gc.collect()
    more = sys.getallocatedblocks() - blocks
    grown = (resident() - memory) / 2**10
    print(f"1,800 updates: {more} more blocks, {grown:.0f} KiB more memory")  # noqa: T201 - the figures
    assert more < 500
    assert grown < 8 * 2**10
    assert abs(len(json.dumps(panel.get_state(), default=str)) - state) < 10  # two counters
    assert len(json.dumps(panel.get_state(), default=str)) < 60_000
    panel.close()


@pytest.mark.alone
def test_an_update_costs_little(tumour: Fitted, hand: Hand) -> None:
    deployment = mlnb.deploy(tumour.model, name="tumour", example=tumour.rows, replicas=0)
    for row in range(60):
        deployment.predict(tumour.rows.iloc[row % len(tumour.rows)].to_dict())
    panel = DashboardPanel(Dashboard("tumour", deployments=lambda: [deployment]), told=hand)
    page = Page(panel)
    panel.send = page.receive
    page.look()
    join()
    hand.pass_a_second()
    began = time.process_time()
    for _ in range(50):
        hand.pass_a_second()
    spent = (time.process_time() - began) / 50
    print(f"an update: {spent:.2%} of a core at 1 Hz, {len(page.sent[-1]):,} bytes")  # noqa: T201 - the figures
    assert spent < SECONDS_AN_UPDATE
    panel.close()


# ---- the object ----


def test_a_dashboard_of_one_model() -> None:
    dashboard = Dashboard("iris", deployments=lambda: [Shown()])  # type: ignore[list-item]
    assert dashboard.view().name == "iris"
    assert len(dashboard.view(window=3600).series.ago) == 60
    assert {"requests", "p99", "drift"} <= {trace.uid for trace in dashboard.figure().data}
    assert "requests/s" in dashboard._repr_mimebundle_()["image/svg+xml"]


def test_a_dashboard_of_several_models() -> None:
    dashboard = Dashboard(deployments=lambda: [Shown("a"), Shown("b")])  # type: ignore[list-item]
    assert [view.name for view in dashboard.views()] == ["a", "b"]
    assert repr(dashboard).splitlines()[0] == "<Dashboard of all models>"
    with pytest.raises(NotDeployedError, match="there are: a, b"):
        dashboard.figure()
    with pytest.raises(NotDeployedError, match="nothing is deployed"):
        Dashboard(deployments=list).view()
    assert "Nothing is deployed" in Dashboard(deployments=list)._repr_mimebundle_()["image/svg+xml"]
    with pytest.raises(InvalidInputError, match="300 or 3600"):
        Dashboard(deployments=list, window=60)


def test_a_shell_shows_it_live_and_one_widget_for_all_cells(
    one: tuple[DashboardPanel, Page, Shown], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlnb.magics.display import DeploymentDisplay

    monkeypatch.delenv("VIRTUAL_ENV", raising=False)  # of another environment, of which IPython would warn
    InteractiveShell.clear_instance()
    shell: Any = InteractiveShell.instance()
    display = DeploymentDisplay()
    display.register(shell)
    format_ = shell.display_formatter.format
    first, second = (format_(Dashboard("iris", deployments=lambda: [Shown()]))[0] for _ in range(2))  # type: ignore[list-item]
    widget = "application/vnd.jupyter.widget-view+json"
    assert first[widget]["model_id"] == second[widget]["model_id"]
    assert first["image/svg+xml"].startswith("<svg")
    display.unregister(shell)
    plain = format_(Dashboard("iris", deployments=lambda: [Shown()]))[0]  # type: ignore[list-item]
    assert set(plain) == {"image/svg+xml", "text/plain"}
    shell.history_manager.end_session()
    InteractiveShell.clear_instance()
