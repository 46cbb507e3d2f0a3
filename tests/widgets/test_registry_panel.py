from __future__ import annotations

import gc
import json
import shutil
import subprocess
import threading
import weakref
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from fitted import Fitted
from ipywidgets.widgets.widget import _instances
from threads import mlnb_threads

import mlnb
from mlnb import RegistryPanel
from mlnb.errors import RegistryUnavailableError
from mlnb.registry.proofs.proof import Proof


@pytest.fixture
def filled(registry: mlnb.ModelRegistry, tumour: Fitted, diabetes: Fitted) -> mlnb.ModelRegistry:
    registry.register(diabetes.model, "diabetes", example=diabetes.rows, metrics={"r2": 0.45})
    for number in (1, 2, 3):
        registry.register(tumour.model, "tumour", example=tumour.rows, metrics={"accuracy": 0.9 + number / 100})
    registry.set_alias("tumour", "champion", 2)
    return registry


@pytest.fixture
def panel(filled: mlnb.ModelRegistry) -> Iterator[RegistryPanel]:
    panel = RegistryPanel(filled)
    panel.refresh()
    yield panel
    panel.close()


def press(panel: RegistryPanel, action: str, **payload: Any) -> None:
    """Press a button as the browser does, and wait for what it does."""
    before = set(threading.enumerate())
    panel._handle_custom_msg({"action": action, **payload}, [])
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("mlnb panel"):  # not those that read for it
            thread.join(10)


def test_it_shows_the_model_registered_last(panel: RegistryPanel) -> None:
    assert panel.models.count("mlnb-model-name") == 2
    assert 'data-model="tumour" aria-current="true"' in panel.models
    assert panel.versions.count("data-tick=") == 3
    assert "@champion" in panel.versions


def test_it_looks_at_a_model_and_at_a_version(panel: RegistryPanel) -> None:
    press(panel, "open", reference="tumour:2")
    assert "RandomForestClassifier" in panel.detail
    assert "Not proved yet" in panel.detail
    press(panel, "compare", model="tumour", one="3", other="1")
    assert "tumour:1 → tumour:3" in panel.comparison
    press(panel, "uncompare")
    assert panel.comparison == ""
    press(panel, "choose", model="diabetes")
    assert panel.versions.count("data-tick=") == 1
    assert panel.detail == ""
    press(panel, "open", reference="tumour:3")  # of a page that shows the other model still
    assert "v3" in panel.detail
    press(panel, "close", reference="tumour:3")
    assert panel.detail == ""
    assert (panel.handled, panel.finished) == (6, 6)


def test_it_deploys_and_rolls_back(panel: RegistryPanel, filled: mlnb.ModelRegistry) -> None:
    press(panel, "deploy", reference="tumour:1")
    assert panel.notice.startswith("tumour v1 is live. ")
    press(panel, "deploy", reference="tumour:3")
    (deployment,) = mlnb.deployments()
    assert (str(deployment.version), deployment.registry) == ("tumour:3", filled)
    assert panel.notice.startswith("tumour v3 is live; v1 was before. ")
    assert deployment.url in panel.notice
    assert "● v3" in panel.models
    press(panel, "rollback", reference="tumour:1")
    assert panel.notice.startswith("tumour v1 is live; v3 was before. ")
    assert deployment.version.number == 1
    mlnb.stop()
    press(panel, "refresh")
    assert "●" not in panel.models
    assert panel.notice == ""
    press(panel, "rollback", reference="tumour:1")
    assert unescape(panel.notice).startswith("'tumour' is not deployed here")


def test_what_is_live_of_another_registry_is_not_its_own(panel: RegistryPanel, tumour: Fitted, tmp_path: Path) -> None:
    mlnb.deploy(tumour.model, name="tumour", registry=tmp_path / "other")
    press(panel, "refresh")
    assert "●" not in panel.models


def test_an_alias_is_set_and_a_bad_one_is_refused(panel: RegistryPanel, filled: mlnb.ModelRegistry) -> None:
    press(panel, "alias", reference="tumour:3", alias=" @challenger ", known={"champion": 2})
    assert panel.notice == "tumour@challenger means v3."
    press(panel, "alias", reference="tumour:3", alias="champion", known={"champion": 2})
    assert panel.notice == "tumour@champion means v3; it meant v2 before."
    before = panel.versions
    press(panel, "alias", reference="tumour:3", alias="<no>", known={"champion": 3})
    assert panel.notice.startswith("&#x27;&lt;no&gt;&#x27; is not a valid alias")
    assert panel.versions == before
    assert filled.aliases("tumour") == {"champion": 3, "challenger": 3}


def test_an_alias_that_somebody_moved_meanwhile_stays_and_is_shown(
    panel: RegistryPanel, filled: mlnb.ModelRegistry
) -> None:
    assert "@champion v2" in panel.models
    filled.set_alias("tumour", "champion", 1)
    press(panel, "alias", reference="tumour:3", alias="champion", known={"champion": 2})
    assert "means version 1, not version 2: it was moved by" in panel.notice
    assert filled.aliases("tumour") == {"champion": 1}
    assert "@champion v1" in panel.models


def test_it_proves_a_version(panel: RegistryPanel, filled: mlnb.ModelRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    proof = Proof(portable=False, reason="it needs <x>.", rows=0, requirements=(), python="3.11", seconds=1.0)
    said: list[str] = []

    def prove(url: str, reference: str) -> Proof:
        said.append(panel.notice)
        return proof

    monkeypatch.setattr("mlnb.registry.registry.prove_in_child", prove)
    press(panel, "prove", reference="tumour:3")
    assert said == ["Proving tumour:3 in a process without this notebook…"]
    assert panel.notice == "tumour:3 is not portable: it needs &lt;x&gt;."
    assert "✗ not portable" in panel.versions
    assert filled.proof("tumour:3") == proof


def test_a_proof_that_never_comes_is_said(panel: RegistryPanel, monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up(*_: Any) -> Any:
        raise subprocess.TimeoutExpired(["python", "-c", "…"], 300.0)

    monkeypatch.setattr(mlnb.ModelRegistry, "prove", give_up)
    press(panel, "prove", reference="tumour:3")
    assert panel.notice == "tumour:3 could not be proved: the process had not answered after 300 s."


def test_fifty_more(registry: mlnb.ModelRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in range(120):
        registry.register(_Constant(value), "constant")
    panel = RegistryPanel(registry)
    panel.refresh()
    assert panel.versions.count("data-tick=") == 50
    press(panel, "more")
    assert panel.versions.count("data-tick=") == 100
    press(panel, "more")
    assert panel.versions.count("data-tick=") == 120
    press(panel, "choose", model="constant")
    assert panel.versions.count("data-tick=") == 50
    assert len(json.dumps(panel.get_state(), default=str)) < 120_000
    panel.close()


class _Constant:
    def __init__(self, value: int) -> None:
        self.value = value

    def predict(self, rows: Any) -> Any:
        return [self.value] * len(rows)


def test_a_damaged_record_and_a_damaged_card_are_said_where_they_belong(
    panel: RegistryPanel, filled: mlnb.ModelRegistry
) -> None:
    folder = Path(filled.url)
    record = folder / "models" / "diabetes" / "versions" / "00000001.json"
    record.chmod(0o644)
    record.write_bytes(record.read_bytes().replace(b"0.45", b"0.99"))
    golden = filled.version("tumour:3").golden_digest
    assert golden is not None
    blob = next(folder.glob(f"blobs/**/{golden}"))
    blob.chmod(0o644)
    blob.write_bytes(b"{}")
    fresh = RegistryPanel(folder)
    press(fresh, "open", reference="tumour:3")
    assert "cannot be read" in fresh.models
    assert fresh.versions.count("data-tick=") == 3
    assert "mlnb-failure" in fresh.detail
    press(fresh, "choose", model="diabetes")
    assert "mlnb-failure" in fresh.versions
    fresh.close()


def test_a_registry_that_is_not_there_or_cannot_be_reached_is_said_calmly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = RegistryPanel(tmp_path / "new")
    panel.refresh()
    assert "No models yet" in panel.versions
    assert not (tmp_path / "new").exists()

    def refuse(*_: Any) -> Any:
        raise RegistryUnavailableError("s3://models cannot be reached.")

    monkeypatch.setattr("mlnb.widgets.registry_panel.ModelRegistry.__init__", refuse)
    far = RegistryPanel("s3://models")
    data, _ = far._repr_mimebundle_()
    assert "s3://models cannot be reached." in far.versions
    assert "s3://models cannot be reached." in data["text/html"]
    press(far, "deploy", reference="iris:1")
    assert far.notice == "s3://models cannot be reached."
    far.close()
    panel.close()


def test_a_store_with_errors_of_its_own_is_said_in_one_line(
    panel: RegistryPanel, filled: mlnb.ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> Any:
        raise ConnectionResetError("by <peer>")

    monkeypatch.setattr(filled, "names", fail)
    press(panel, "refresh")
    assert "ConnectionResetError: by &lt;peer&gt;" in panel.versions


def test_a_registry_that_comes_to_be_later_can_be_deployed_from(home: Path, tumour: Fitted) -> None:
    panel = RegistryPanel()
    panel.refresh()
    mlnb.ModelRegistry(home).register(tumour.model, "tumour", example=tumour.rows)
    press(panel, "refresh")
    press(panel, "deploy", reference="tumour:1")
    assert panel.notice.startswith("tumour v1 is live")
    panel.close()


def test_a_registry_that_is_not_trusted_deploys_nothing(filled: mlnb.ModelRegistry, tmp_path: Path) -> None:
    stranger = RegistryPanel(shutil.copytree(filled.url, tmp_path / "copy"))
    stranger.refresh()
    assert "not trusted" in stranger.header
    press(stranger, "deploy", reference="tumour:1")
    assert "was not loaded" in stranger.notice
    assert mlnb.deployments() == []
    stranger.close()


def test_a_slow_reading_does_not_undo_a_later_one(
    panel: RegistryPanel, filled: mlnb.ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, entered, may_go = filled.names, threading.Event(), threading.Event()

    def slow() -> list[str]:
        monkeypatch.setattr(filled, "names", names)
        found = names()
        entered.set()
        assert may_go.wait(10)
        return found

    monkeypatch.setattr(filled, "names", slow)
    first = panel.act("choose", model="tumour")
    assert first is not None
    assert entered.wait(10)
    press(panel, "choose", model="diabetes")
    assert 'data-model="diabetes" aria-current="true"' in panel.models
    may_go.set()
    first.join(10)
    assert 'data-model="diabetes" aria-current="true"' in panel.models
    assert panel.finished == 2


def test_whatever_a_deed_raises_is_said(
    panel: RegistryPanel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError("<img src=x>")

    monkeypatch.setattr(mlnb.ModelRegistry, "set_alias", fail)
    press(panel, "alias", reference="tumour:1", alias="a", known={})
    assert panel.notice == "OSError: &lt;img src=x&gt;"
    assert panel.finished == 1
    assert "failed" in caplog.text


def test_an_idle_panel_has_no_thread_and_sends_nothing(panel: RegistryPanel) -> None:
    press(panel, "open", reference="tumour:3")
    assert mlnb_threads() == []
    changes: list[Any] = []
    panel.observe(lambda change: changes.append(change["name"]))
    panel.refresh()
    assert set(changes) <= {"read"}


def test_it_is_displayed_as_a_widget_first_and_as_plain_html_for_readers_without_a_kernel(
    filled: mlnb.ModelRegistry,
) -> None:
    panel = RegistryPanel(filled)
    assert panel.models == ""
    data, _ = panel._repr_mimebundle_()
    assert list(data) == ["application/vnd.jupyter.widget-view+json", "text/html", "text/plain"]
    assert "<table" in data["text/html"]
    assert "diabetes" in data["text/html"]
    assert data["text/plain"] == f"<RegistryPanel of {filled.url}>"
    assert "tumour" in panel.models
    filled.delete("tumour:1")
    panel._repr_mimebundle_()
    assert panel.versions.count("data-tick=") == 2
    assert len(json.dumps(panel.get_state(), default=str)) < 60_000
    panel.close()


def test_a_model_that_was_deleted_meanwhile(panel: RegistryPanel, filled: mlnb.ModelRegistry) -> None:
    press(panel, "choose", model="diabetes")
    filled.delete("diabetes:1")
    press(panel, "open", reference="diabetes:1")
    assert 'data-model="tumour" aria-current="true"' in panel.models
    assert panel.detail == ""


def test_twenty_panels_opened_and_closed_leave_none_alive(filled: mlnb.ModelRegistry) -> None:
    before = len(_instances)
    panels = [RegistryPanel(filled) for _ in range(20)]
    for panel in panels:
        press(panel, "open", reference="tumour:1")
    alive = [weakref.ref(panel) for panel in panels]
    for panel in panels:
        panel.close()
        panel.close()
        panel.refresh()
    assert panels[0].closed
    del panels, panel
    gc.collect()
    assert [reference() for reference in alive if reference() is not None] == []
    assert len(_instances) == before
    assert mlnb_threads() == []


def test_the_javascript_is_a_valid_module(panel: RegistryPanel) -> None:
    checked = subprocess.run(
        ["node", "--input-type=module", "--check"], check=False, input=panel._esm, text=True, capture_output=True
    )
    assert checked.returncode == 0, checked.stderr
