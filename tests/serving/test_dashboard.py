from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import views
from fastapi import FastAPI
from snapshots import check

from mlnb.monitoring.metrics import Mark
from mlnb.monitoring.prediction_log.settings import LogState
from mlnb.monitoring.view import MonitorView
from mlnb.serving import problems
from mlnb.serving.dashboard import add_dashboard, compressed_plotly, page, pages
from mlnb.serving.dashboard.messages import message
from mlnb.serving.dashboard.regions import REGIONS, render_glance, render_regions

BUSY = views.busy_view()
ERROR = "ValueError: the customer's income is 1234"
HOSTILE = views.busy_view(
    name=views.HOSTILE,
    marks=(Mark(at=views.NOW, kind=views.HOSTILE, version=1, words=views.HOSTILE),),
    alerts=(views.alert("firing", words=views.HOSTILE),),
    drift=views.drift_report(
        columns=(
            views.column(views.HOSTILE, kind="categories", words=views.HOSTILE, edges=(views.HOSTILE,) * 5),
        ) * 12,
        words=views.HOSTILE,
    ),
    quality=(views.quality_report(classes=(views.HOSTILE,) * 3, words=views.HOSTILE),),
    metrics=views.metrics(views.busy_series(), last_error=views.HOSTILE),
    log=LogState(url="", failure=views.HOSTILE),
    place=views.HOSTILE,
)  # fmt: skip


def drawn(given: Sequence[MonitorView], **asked: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(message(given, **asked))
    return document


class Client:
    """Asks the app itself."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def get(self, path: str, **given: Any) -> httpx.Response:
        return self.request("GET", path, **given)

    def request(self, method: str, path: str, **given: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as asking:
                return await asking.request(method, path, **given)

        with ThreadPoolExecutor(1) as pool:  # not on the main thread: Playwright keeps a loop there
            return pool.submit(asyncio.run, ask()).result()


@pytest.fixture
def client() -> Client:
    app = FastAPI()
    problems.install(app)
    asked: list[int] = []

    def give(window: int) -> list[MonitorView]:
        asked.append(window)
        step = 1 if window == 300 else 60
        return [
            views.busy_view(step=step, metrics=views.metrics(BUSY.series, last_error=ERROR)),
            views.view(views.quiet_series(step=step), name="other"),
        ]

    add_dashboard(app, give)
    return Client(app)


# ---- what is said ----


@pytest.mark.parametrize("owner", [True, False])
@pytest.mark.parametrize("view", [BUSY, HOSTILE, views.view(), views.view(state="stopped")])
def test_every_region_is_well_formed_and_has_no_script(view: MonitorView, owner: bool) -> None:
    regions = render_regions(view, owner=owner) | render_glance([view, BUSY], view)
    assert set(regions) == set(REGIONS)
    for html in regions.values():
        assert "img" not in check(html)
        assert "\x00" not in html


def test_only_the_owner_sees_what_the_model_said_and_was_sent() -> None:
    view = views.busy_view(
        metrics=views.metrics(BUSY.series, last_error=ERROR),
        log=LogState(url="", failure="cannot write to the customer's folder"),
        drift=views.drift_report(
            columns=(
                views.column("city", kind="categories", edges=("the customer's city",) * 5, words="the customer's"),
            ),
            words="the customer's city is new",
        ),
    )  # fmt: skip
    mine, theirs = (" ".join(render_regions(view, owner=owner).values()) for owner in (True, False))
    assert mine.count("customer") >= 4
    assert "customer" not in theirs
    assert "cannot be written" in theirs
    assert "city" in theirs  # a column's name is in /docs too


def test_the_last_error_says_when() -> None:
    failed = views.metrics(BUSY.series, last_error=ERROR, last_error_at=BUSY.at - 200)
    html = render_regions(views.busy_view(metrics=failed), owner=True)["figures"]
    assert '<span class="mlnb-muted">Last error, 3 min ago: ValueError' in html


def test_in_the_kernel_no_replicas_are_counted() -> None:
    for place, counted in (("in kernel", False), ("in this process", False), ("1 process", True)):
        assert ("replicas" in render_regions(views.busy_view(place=place), owner=True)["figures"]) is counted


def test_drift_is_told_in_the_same_words_to_all() -> None:
    steady = views.drift_report(columns=(views.column("x"), views.column("y", missing=0.0004)))
    mine, theirs = (render_regions(views.view(drift=steady), owner=owner)["drift"] for owner in (True, False))
    assert "None of 2 columns drifted." in theirs
    for html in (mine, theirs):
        assert "<td>prediction</td>" in html.replace(' title="prediction is steady"', "")
        assert "p, adjusted" in html
        assert "0 % → &lt; 0.1 %" in html


def test_alerts_that_fire_come_first() -> None:
    rules = tuple(views.alert(state) for state in ("ok", "no data", "pending", "firing"))
    html = render_regions(views.view(alerts=rules), owner=True)["alerts"]
    assert [html.index(f'data-state="{state}"') for state in ("firing", "pending", "ok", "no data")] == sorted(
        html.index(f'data-state="{one.state}"') for one in rules
    )
    assert "for 2 min" in html


def test_too_few_labels_are_said_in_words() -> None:
    html = render_regions(views.view(quality=(views.quality_report(enough=False),)), owner=True)["quality"]
    assert html == f"<h4>Quality</h4><p>{views.NONE_YET}</p>"
    html = render_regions(BUSY, owner=True)["quality"]
    assert "0.94 (0.91 to 0.96)" in html
    assert "v3, 1 hour" in html
    assert html.count("<circle") == 10


def test_columns_stand_in_order_of_harm_with_before_and_now() -> None:
    html = render_regions(BUSY, owner=True)["drift"]
    assert html.index("petal length") < html.index("species group") < html.index("column 3")
    assert html.count("mlnb-before") == 13
    assert "4 more" in html
    assert "mlnb-before" not in render_regions(BUSY, owner=False)["drift"]


def test_figures_that_are_not_known_are_dashes() -> None:
    nan = float("nan")
    unknown = {"effect": nan, "adjusted": nan, "psi": nan, "out_of_range": nan, "before": (), "now": ()}
    columns = (views.column("x", verdict="too few", **unknown), views.column("y"))
    html = render_regions(views.view(drift=views.drift_report(columns=columns, prediction=None)), owner=True)["drift"]
    assert "nan" not in html
    assert "too few rows" in html


def test_nothing_is_said_of_columns_before_there_are_enough_rows() -> None:
    report = views.drift_report(
        columns=(views.column("x", verdict="too few", effect=0.6),), prediction=None, words="Too few rows: 34 of 100."
    )
    mine, theirs = (render_regions(views.view(drift=report), owner=owner)["drift"] for owner in (True, False))
    assert "34 of 100" in mine
    assert "Too few rows to tell." in theirs
    assert "<table" not in mine + theirs


def test_a_model_alone_has_no_table_of_models() -> None:
    assert render_glance([BUSY], BUSY)["glance"] == ""
    assert "Nothing is deployed" in render_glance([], None)["glance"]
    glance = render_glance([BUSY, views.view(name="other", state="stopped")], None)["glance"]
    for told in ("Choose a model", "2 <span", "1 <span", "0.94", "stopped"):
        assert told in glance


# ---- what a page is told ----


def test_the_form_of_the_figure_comes_once() -> None:
    first = drawn([BUSY])
    again = drawn([views.busy_view(seed=3)], known=first["key"])
    assert "spec" in first
    assert "spec" not in again
    assert set(again["data"]["y"]) == {trace["uid"] for trace in first["spec"]["data"]}
    assert "spec" in drawn([views.busy_view(step=60)], known=first["key"])


def test_of_several_models_one_is_chosen() -> None:
    several = [BUSY, views.view(name="other")]
    assert drawn(several)["model"] is None
    assert "data" not in drawn(several)
    assert drawn(several, model="other")["model"] == "other"
    gone = drawn(several, model="third")
    assert (gone["gone"], gone["model"]) == (True, None)
    assert drawn([])["regions"]["glance"]


def test_an_update_is_small() -> None:
    key = drawn([BUSY])["key"]
    assert len(message([BUSY], known=key)) < 50_000


def test_a_server_does_not_load_what_draws_before_somebody_looks() -> None:
    program = "import sys, mlnb.serving.app; print([name for name in sys.modules if 'figures_dashboard' in name])"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


# ---- over HTTP ----


def test_the_page_and_its_parts_come_from_this_server_only(client: Client) -> None:
    answer = client.get("/dashboard")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "unsafe-eval" not in answer.headers["content-security-policy"]
    assert answer.content == page()
    assert "//" not in answer.text.replace("<!doctype", "")  # no URL of another server
    assert 'src="/' not in answer.text  # relative ones go through a proxy
    for part, kind in (("page.js", "text/javascript"), ("page.css", "text/css")):
        assert client.get(f"/dashboard/{part}").headers["content-type"].startswith(kind)


def test_data(client: Client) -> None:
    answer = client.get("/dashboard/data", params={"model": "iris", "window": "3600"})
    document = answer.json()
    assert (document["model"], document["window"], len(document["data"]["x"])) == ("iris", 3600, 60)
    assert answer.headers["cache-control"] == "no-store"
    assert "1234" not in answer.text
    assert len(client.get("/dashboard/data", params={"model": "iris", "window": "-1; drop"}).json()["data"]["x"]) == 300
    assert client.get("/dashboard/data").json()["model"] is None
    assert client.request("POST", "/dashboard/data").status_code == 405
    assert client.get("/dashboard/other").status_code == 404


def test_plotly_comes_compressed_and_once(client: Client) -> None:
    answer = client.get("/dashboard/plotly.js", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.text.startswith("/**\n* plotly.js")
    plain = client.get("/dashboard/plotly.js", headers={"Accept-Encoding": "identity"})
    assert plain.content == gzip.decompress(compressed_plotly()) == answer.content
    known = client.get("/dashboard/plotly.js", headers={"If-None-Match": answer.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")


def test_without_plotly_one_line_says_what_to_install(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    compressed_plotly.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "plotly"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "plotly", None)
    answer = client.get("/dashboard/plotly.js")
    assert answer.status_code == 404
    assert "pip install plotly" in answer.json()["detail"]
    assert client.get("/dashboard/data", params={"model": "iris"}).status_code == 200


def test_its_routes_are_not_in_the_schema(client: Client) -> None:
    assert not any("dashboard" in path for path in client.get("/openapi.json").json()["paths"])
    assert pages.WINDOWS == (300, 3600)
