from __future__ import annotations

import gc
import gzip
import json
import os
import re
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fitted import Fitted
from ipywidgets.widgets.widget import _instances
from packages import package
from sklearn.linear_model import RidgeClassifier
from sklearn.svm import LinearSVC
from waiting import wait_until

import mlnb
from mlnb import Deployment, DeploymentPanel
from mlnb.packaging.package import Package, Target


@pytest.fixture
def deployment(tumour: Fitted) -> Deployment:
    mlnb.deploy(tumour.model, name="tumour", example=tumour.rows, metrics={"accuracy": 0.97}, description="first")
    return mlnb.deploy(tumour.model, name="tumour", example=tumour.rows, replicas=0)


@pytest.fixture
def panel(deployment: Deployment) -> Iterator[DeploymentPanel]:
    panel = DeploymentPanel(deployment)
    yield panel
    panel.close()


def press(panel: DeploymentPanel, action: str, **payload: Any) -> None:
    """Press a button as the browser does, and wait for what it does."""
    before = set(threading.enumerate())
    panel._handle_custom_msg({"action": action, **payload}, [])
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("mlnb panel"):
            thread.join(30)


def form_of(tumour: Fitted, row: int) -> dict[str, str]:
    return {name: str(value) for name, value in tumour.rows.iloc[row].to_dict().items()}


def test_it_builds_clicks_and_closes_without_a_kernel(panel: DeploymentPanel, tumour: Fitted) -> None:
    assert "v2 live" in panel.header
    assert "Roll back to v1" in panel.header
    press(panel, "predict", row=form_of(tumour, 0))
    assert f">{tumour.predictions[0]}</output>" in panel.result
    assert panel.result.count("<meter") == 2
    press(panel, "rollback", to=1)
    assert "v1 live" in panel.header
    assert panel.notice == "v1 is live; v2 was before."
    assert panel.result == ""
    press(panel, "stop")
    assert "v1 stopped" in panel.header
    assert mlnb.deployments() == []
    press(panel, "start")
    assert "v1 live" in panel.header
    assert panel.handled == 4


def test_a_handler_returns_at_once(panel: DeploymentPanel, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, may_go = threading.Event(), threading.Event()

    def slow(*_: Any, **__: Any) -> Any:
        entered.set()
        assert may_go.wait(10)

    monkeypatch.setattr(Deployment, "rollback", slow)
    thread = panel.act("rollback", to=1)
    assert thread is not None
    assert entered.wait(10)
    assert thread.is_alive()
    may_go.set()
    thread.join(10)


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"mean radius": "large"}, "mean radius", "got 'large', needs a number"),
        ({"mean area": ""}, "mean area", "got a missing value"),
        ({"mean area": "inf"}, "mean area", "needs a finite number"),
    ],
)
def test_a_bad_value_marks_its_field(
    panel: DeploymentPanel, tumour: Fitted, change: dict[str, str], field: str, says: str
) -> None:
    press(panel, "predict", row=form_of(tumour, 0) | change)
    assert f'data-field="{field}"' in panel.result
    assert says in unescape(panel.result)


def test_it_scales_and_says_so_meanwhile(panel: DeploymentPanel, monkeypatch: pytest.MonkeyPatch) -> None:
    may_go = threading.Event()
    scale = Deployment.scale

    def slow(deployment: Deployment, replicas: int) -> Deployment:
        assert may_go.wait(10)
        return scale(deployment, replicas)

    monkeypatch.setattr(Deployment, "scale", slow)
    assert "from this kernel" in panel.answering
    thread = panel.act("scale", to=2)
    assert thread is not None
    wait_until(lambda: "starting 2 replicas…" in panel.scale)
    assert panel.act("scale", to=1) is None  # pressed again, before the page heard of it
    may_go.set()
    thread.join(60)
    assert panel.notice == "Scaled from 0 to 2 replicas."
    assert "2 processes beside the kernel" in panel.answering
    assert "v2 live · 2 processes" in panel.header
    press(panel, "scale", to=0)
    assert panel.notice == "Scaled from 2 to 0 replicas."
    assert "from this kernel" in panel.answering


def test_replicas_follow_the_load(panel: DeploymentPanel, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(type(panel), "send", lambda _, content, buffers=None: sent.append((content, buffers)))
    assert not panel.by_load
    press(panel, "follow")
    assert panel.notice == "1 to 2 replicas by load."
    assert panel.by_load
    wait_until(lambda: "utilisation" in panel.reason)
    assert sent == []  # nobody looks
    press(panel, "memory", looked_at=True)
    ((content, (chart,)),) = sent
    assert content == {"kind": "replicas"}
    assert "load" in [trace["name"] for trace in json.loads(chart)["data"]]
    assert len(json.dumps(panel.get_state(), default=str)) < 100_000
    assert "1 to 2 replicas by load, utilisation" in panel._repr_mimebundle_()[0]["text/html"]
    press(panel, "bounds", least=3, most=2)
    assert panel.notice == "At least 3 and at most 2 replicas cannot both hold; did you mean 2 to 3?"
    press(panel, "fix")
    assert panel.notice == "Fixed at 1 replica."
    assert not panel.by_load
    assert panel.reason == ""


def test_scaling_that_fails_leaves_all_as_it_was(panel: DeploymentPanel) -> None:
    press(panel, "scale", to=1000)
    assert panel.notice.startswith("replicas=1000: a whole number from 0 to 64")
    assert "from this kernel" in panel.answering
    assert 'data-to="1"' in panel.scale
    panel.deployment.stop()
    press(panel, "scale", to=1)
    assert "is not deployed here" in unescape(panel.notice)


def test_memory_is_measured_only_while_somebody_looks(panel: DeploymentPanel, monkeypatch: pytest.MonkeyPatch) -> None:
    panel.deployment.scale(1)
    panel.refresh()
    assert " MB</td>" not in panel.replicas
    press(panel, "memory", looked_at=True)
    assert re.search(r"\d+ MB</td></tr>", panel.replicas)
    press(panel, "memory", looked_at=False)
    now = time.monotonic()
    monkeypatch.setattr("mlnb.widgets.panel.time.monotonic", lambda: now + 60)
    monkeypatch.setattr("mlnb.scaling.memory._size", lambda _: pytest.fail("nobody looks"))
    panel.refresh()
    assert re.search(r"\d+ MB</td></tr>", panel.replicas)  # as it was


def test_a_replica_that_is_killed_is_explained(panel: DeploymentPanel) -> None:
    panel.deployment.scale(1)
    panel.refresh()
    (replica,) = panel.deployment.snapshot().replicas
    assert replica.pid is not None
    os.kill(replica.pid, signal.SIGKILL)
    wait_until(lambda: "Another took its place." in panel.replicas)
    says = rf"Replica 1 ended at \d\d:\d\d:\d\d: its process \({replica.pid}\) was ended by SIGKILL\. Another"
    assert re.search(says, panel.replicas)
    assert ">2</td>" in panel.replicas  # the one that took its place


def label_all(deployment: Deployment, tumour: Fitted, count: int) -> None:
    """Ask, and say what was right."""
    answers = [deployment.answer(tumour.rows[row : row + 1]) for row in range(count)]
    deployment.feedback(
        [{"request_id": one.request_id, "label": tumour.predictions[row]} for row, one in enumerate(answers)]
    )


def test_a_version_is_tried_out_in_a_split_and_promoted(panel: DeploymentPanel, tumour: Fitted) -> None:
    assert "v2 answers all requests." in panel.traffic
    press(panel, "add", manner="split", to=1)
    assert panel.notice == "v1 answers 10 % of the requests now, v2 90 %."
    assert "v2 90 % · v1 10 % live" in panel.header
    assert "Roll back to v2" in panel.header
    assert "deployment.feedback(" in panel.verdict
    press(panel, "share_out", weights={"2": 35, "1": 65})
    assert panel.notice == "Split: v2 35 %, v1 65 %."
    assert panel.shared == 1
    assert 'value="65" data-version="1"' in panel.traffic
    label_all(panel.deployment, tumour, 80)
    panel.refresh()
    assert sum(int(panel.counts[f"requests-{number}"]) for number in (1, 2)) == 80
    assert "deployment.feedback(" not in panel.verdict
    press(panel, "promote", to=1)
    assert panel.notice == "v1 is promoted; the split has ended."
    assert "v1 live" in panel.header
    assert (panel.verdict, panel.counts) == ("", {})
    (promoted,) = [event for event in panel.deployment.registry.history("tumour") if event.action == "promoted"]
    assert (promoted.version, promoted.reason) == (1, "in the panel")


def test_a_split_keeps_the_names_that_it_was_given(panel: DeploymentPanel) -> None:
    deployment = panel.deployment
    deployment.registry.set_alias("tumour", "champion", 2)
    deployment.registry.set_alias("tumour", "other", 1)
    deployment.split({"champion": 1, "other": 1}, key="mean radius")
    press(panel, "compare", looked_at=True)
    press(panel, "share_out", weights={"2": 100, "1": 0})
    assert [arm.name for arm in deployment.experiment().arms] == ["champion", "other"]
    assert 'aria-label="Share of other v1" aria-valuetext="0 %"' in panel.traffic  # one can give it some again
    deployment.registry.set_alias("tumour", "other", 2)
    press(panel, "share_out", weights={"2": 50, "1": 50})
    arms = {arm.version: arm.name for arm in deployment.experiment().arms}
    assert arms[2] == "champion"
    assert arms[1] != "other"  # which is another version by now
    traffic = deployment.traffic
    assert traffic is not None
    assert traffic.key == "mean radius"


def test_a_split_that_is_refused_puts_the_sliders_back(panel: DeploymentPanel) -> None:
    press(panel, "share_out", weights={"2": 40, "1": 60})
    assert "are not split" in panel.notice
    assert panel.shared == 1
    panel.deployment.split({2: 50, 1: 50})
    press(panel, "share_out", weights={"2": 40, "3": 60})  # of a page that has not heard of it
    assert panel.notice == "The split has changed meanwhile; move the sliders again."
    assert panel.shared == 2


def test_the_experiment_is_drawn_only_while_somebody_looks(panel: DeploymentPanel, tumour: Fitted) -> None:
    panel.deployment.split({2: 50, 1: 50})
    label_all(panel.deployment, tumour, 150)
    panel.refresh()
    assert panel.trial == ""
    press(panel, "compare", looked_at=True)
    assert json.loads(panel.trial)["data"]
    drawn = panel.trial
    panel.refresh()
    assert panel.trial is drawn  # nothing came back meanwhile
    label_all(panel.deployment, tumour, 5)
    panel.refresh()
    assert panel.trial != drawn
    press(panel, "rollback", to=2)
    assert panel.trial == ""
    assert panel.notice == "Rolled back to v2; the split has ended."
    press(panel, "compare", looked_at=False)


def test_a_canary_is_promoted_or_taken_back_by_hand(panel: DeploymentPanel) -> None:
    press(panel, "add", manner="canary", to=1)
    assert panel.notice == "v1 is a canary now; it steps up while its guards hold."
    assert "v2 live, v1 canary at 1 %" in panel.header
    assert "at most 5 % allowed" in panel.rollout
    press(panel, "rollback", to=2)
    assert panel.notice == "Rolled back to v2; the canary has ended."
    assert panel.rollout == ""
    press(panel, "add", manner="canary", to=1)
    press(panel, "promote", to=1)
    assert panel.notice == "v1 is promoted; the canary has ended."
    events = panel.deployment.registry.history("tumour")[-4:]
    assert [event.action for event in events] == ["canary", "rolled back", "canary", "promoted"]
    assert {event.reason for event in events} == {"", "in the panel"}


def test_a_shadow_begins_and_ends(panel: DeploymentPanel, tumour: Fitted) -> None:
    press(panel, "add", manner="shadow", to=1)
    assert panel.notice == "v1 sees a copy of all requests now."
    assert "v2 live, v1 shadow" in panel.header
    panel.deployment.predict(tumour.rows[:5])
    wait_until(lambda: ">5</td>" in panel.compared)
    press(panel, "end_shadow")
    assert panel.notice == "The shadow has ended."
    assert panel.shadow == panel.compared == ""
    press(panel, "end_shadow")  # pressed on another page
    assert panel.notice == "&#x27;tumour&#x27; has no shadow."


def test_while_a_version_is_made_ready_it_says_so(panel: DeploymentPanel, monkeypatch: pytest.MonkeyPatch) -> None:
    may_go = threading.Event()
    split = Deployment.split

    def slow(deployment: Deployment, weights: Any) -> Deployment:
        assert may_go.wait(10)
        return split(deployment, weights)

    monkeypatch.setattr(Deployment, "split", slow)
    thread = panel.act("add", manner="split", to=1)
    assert thread is not None
    wait_until(lambda: "aria-disabled" in panel.traffic)
    assert panel.notice == "Making v1 ready…"
    assert panel.act("add", manner="shadow", to=1) is None  # pressed before the page heard of it
    may_go.set()
    thread.join(30)
    assert "aria-disabled" not in panel.traffic
    assert panel.notice == "v1 answers 10 % of the requests now, v2 90 %."


def test_a_version_that_cannot_answer_is_refused_in_one_line(panel: DeploymentPanel) -> None:
    press(panel, "add", manner="split", to=9)
    assert unescape(panel.notice).startswith("'tumour' has no version 9; there are 1-2 (in ")
    assert "v2 answers all requests." in panel.traffic
    press(panel, "promote", to=1)
    assert panel.notice.startswith("v1 answers no requests here")


def test_it_is_packaged(panel: DeploymentPanel, monkeypatch: pytest.MonkeyPatch) -> None:
    may_go = threading.Event()

    def write(_: Deployment, to: str, *, target: Target) -> Package:
        assert may_go.wait(10)
        return package(folder=Path(to), target=target)

    monkeypatch.setattr(Deployment, "package", write)
    press(panel, "package_target", target="compose")
    thread = panel.act("package_write", folder="out")
    assert thread is not None
    wait_until(lambda: "aria-disabled" in panel.package_form)
    assert "Pinning what the model imports" in panel.package_steps
    assert panel.act("package_write", folder="out") is None  # pressed again, before the page heard of it
    may_go.set()
    thread.join(10)
    assert panel.notice == "Written to out."
    assert "tumour:2" in panel.package_files
    assert "FROM python:3.11-slim" in panel.package_files
    assert 'data-action="package_run"' in panel.package_deeds
    assert (panel.package_steps, panel.package_result) == ("", "")
    press(panel, "package_target", target="kubernetes")
    assert panel.package_files == ""


def test_a_mistake_is_said_in_one_line(panel: DeploymentPanel) -> None:
    press(panel, "rollback", to=9)
    assert unescape(panel.notice).startswith("'tumour' has no version 9; there are 1-2 (in ")
    assert "v2 live" in panel.header
    panel.deployment.stop()
    press(panel, "predict", row={})
    assert "was stopped" in panel.result


def test_booleans_choices_and_whole_numbers_of_the_form(registry: mlnb.ModelRegistry) -> None:
    import pandas as pd

    class Count:
        def predict(self, rows: Any) -> Any:
            return rows["age"].to_numpy() * rows["member"].to_numpy()

    frame = pd.DataFrame({"age": [41], "member": [True], "city": ["Delft"]})
    with mlnb.deploy(Count(), name="count", example=frame) as deployment:
        panel = DeploymentPanel(deployment)
        press(panel, "predict", row={"age": "7", "member": "true", "city": "Taipei"})
        assert ">7</output>" in panel.result
        press(panel, "predict", row={"age": "7.5", "member": "true", "city": "Taipei"})
        assert "needs a whole number" in panel.result
        panel.close()


def test_a_model_without_known_fields_takes_json() -> None:
    class Total:
        def predict(self, rows: Any) -> Any:
            return np.asarray(rows).sum(axis=1)

    with mlnb.deploy(Total(), name="total") as deployment:
        panel = DeploymentPanel(deployment)
        press(panel, "predict", row={"row": "[1, 2, 3]"})
        assert ">6</output>" in panel.result
        press(panel, "predict", row={"row": "[1, 2"})
        assert "Type one row as JSON" in panel.result
        panel.close()


def test_it_follows_what_happens_elsewhere(panel: DeploymentPanel, tumour: Fitted) -> None:
    panel.deployment.predict(tumour.rows[:5])
    wait_until(lambda: "req/s" in panel.footer)  # by the ticker
    mlnb.rollback("tumour")
    wait_until(lambda: "v1 live" in panel.header)


def test_an_idle_panel_sends_nothing(panel: DeploymentPanel) -> None:
    changes: list[Any] = []
    panel.observe(changes.append)
    for _ in range(5):
        panel.refresh()
    assert changes == []


def test_the_chart_is_drawn_only_while_somebody_looks(
    panel: DeploymentPanel, tumour: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel.deployment.predict(tumour.rows[:5])
    panel.refresh()
    assert (panel.figure, panel.series) == ("", {})
    press(panel, "chart", looked_at=True)
    traces = [trace["name"] for trace in json.loads(panel.figure)["data"]]
    assert set(traces) | {"ago"} == set(panel.series)
    assert {len(values) for values in panel.series.values()} == {300}
    press(panel, "chart", looked_at=False)
    now = time.monotonic()
    monkeypatch.setattr("mlnb.widgets.panel.time.monotonic", lambda: now + 60)
    drawn = panel.series
    panel.deployment.predict(tumour.rows[:5])
    panel.refresh()
    assert panel.series is drawn


def test_the_card_of_the_live_version_is_read_when_it_is_looked_at(panel: DeploymentPanel) -> None:
    assert panel.card == ""
    press(panel, "card")
    assert "tumour v2" in panel.card
    assert "Not proved yet" in panel.card
    press(panel, "rollback", to=1)
    assert panel.card == ""  # the page asks anew
    press(panel, "card")
    assert "tumour v1" in panel.card


def test_plotly_is_sent_on_request_and_is_no_part_of_the_state(
    panel: DeploymentPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[Any, Any]] = []
    monkeypatch.setattr(type(panel), "send", lambda _, content, buffers=None: sent.append((content, buffers)))
    assert panel.act("plotly") is None
    ((content, buffers),) = sent
    assert content == {"kind": "plotly"}
    assert b"plotly.js v" in gzip.decompress(buffers[0])[:200]
    press(panel, "chart", looked_at=True)
    assert len(json.dumps(panel.get_state(), default=str)) < 100_000


def test_twenty_panels_opened_and_closed_leave_none_alive(deployment: Deployment) -> None:
    before = len(_instances)
    panels = [DeploymentPanel(deployment) for _ in range(20)]
    for panel in panels:
        press(panel, "chart", looked_at=True)
    alive = [weakref.ref(panel) for panel in panels]
    for panel in panels:
        panel.close()
        panel.close()
        panel.refresh()
    del panels, panel
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name == "mlnb ticker"])
    gc.collect()
    assert [reference() for reference in alive if reference() is not None] == []
    assert len(_instances) == before


def test_whatever_a_deed_raises_is_said_and_the_button_is_free_again(
    panel: DeploymentPanel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError("<img src=x>")

    monkeypatch.setattr(Deployment, "rollback", fail)
    press(panel, "rollback", to=1)
    assert panel.notice == "OSError: &lt;img src=x&gt;"
    assert panel.finished == 1
    assert "The panel of tumour failed" in caplog.text


def test_the_same_refusal_twice_frees_the_button_twice(panel: DeploymentPanel) -> None:
    for done in (1, 2):
        press(panel, "predict", row={"mean radius": "1"})
        assert panel.finished == done
        assert "lacks the field" in panel.result


def test_a_form_of_an_older_version_is_refused_by_name(panel: DeploymentPanel, tumour: Fitted) -> None:
    press(panel, "predict", row=form_of(tumour, 0) | {"gone": "1"})
    assert "unknown field 'gone'" in unescape(panel.result)


def test_the_form_as_it_stands_is_the_example_itself() -> None:
    class Echo:
        def predict(self, rows: Any) -> Any:
            return rows[:, 0]

    for value in (1700000123.0, 123456.789, 0.1234567891234, 1e-7, 1e22, -3.0):
        with mlnb.deploy(Echo(), name="echo", example=[[value, 1.0]]) as deployment:
            panel = DeploymentPanel(deployment)
            (shown,) = re.findall(r'name="x0" value="([^"]*)"', panel.form)
            assert float(shown) == value
            panel.close()


@pytest.mark.parametrize("model", [LinearSVC(), RidgeClassifier()])
def test_a_classifier_without_probabilities_can_be_tried(digits: Fitted, model: Any) -> None:
    model.fit(digits.rows[:200], digits.predictions[:200])
    with mlnb.deploy(model, name="svc", example=digits.rows) as deployment:
        panel = DeploymentPanel(deployment)
        press(panel, "predict", row={f"x{i}": str(value) for i, value in enumerate(digits.rows[0])})
        assert f">{model.predict(digits.rows[:1])[0]}</output>" in panel.result
        panel.close()


def test_it_is_displayed_as_a_widget_first_and_as_plain_html_for_readers_without_a_kernel(
    panel: DeploymentPanel,
) -> None:
    data, _ = panel._repr_mimebundle_()
    assert list(data) == ["application/vnd.jupyter.widget-view+json", "text/html", "text/plain"]
    assert "<table" in data["text/html"]
    assert data["text/plain"].startswith("<Deployment tumour:2, live at ")


def test_the_javascript_is_a_valid_module(panel: DeploymentPanel) -> None:
    checked = subprocess.run(
        ["node", "--input-type=module", "--check"], check=False, input=panel._esm, text=True, capture_output=True
    )
    assert checked.returncode == 0, checked.stderr
