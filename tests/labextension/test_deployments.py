"""What the sidebar lists and does, against a real Jupyter server with real kernels."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from functools import partial
from pathlib import Path

import httpx
import pytest
from jupyter_server.services.sessions.sessionmanager import SessionManager
from notebook_servers import Kernel, NotebookServer
from waiting import wait_until

import mlnb
from mlnb.errors import DeadlineError
from mlnb.labextension.deployments import KernelDeployments

pytestmark = [pytest.mark.kernel, pytest.mark.filterwarnings("ignore:.*TCP without encryption.*")]


def test_all_kernels_deployments_are_listed(jupyter: NotebookServer, first: Kernel, second: Kernel) -> None:
    answer = jupyter.get("mlnb/deployments")
    assert (answer["trouble"], answer["proxy"]) == ("", False)
    rows = answer["deployments"]
    assert [(row["notebook"], row["name"], row["version"]) for row in rows] == [
        ("first.ipynb", "iris", 2),
        ("first.ipynb", "wine", 1),
        ("second.ipynb", "digits", 1),
    ]
    assert [row["kernel"] for row in rows] == [first.id, first.id, second.id]
    assert {row["state"] for row in rows} == {"live"}
    assert {row["registry"] for row in rows} == {str(jupyter.models)}
    for row in rows:
        answer = httpx.post(f"{row['url']}/predict", json={"features": [1.0]}, timeout=30)
        assert answer.json()["version"] == row["version"]


def test_a_renamed_notebook_is_followed(jupyter: NotebookServer, second: Kernel) -> None:
    def is_now(name: str) -> bool:
        return bool(jupyter.rows()["digits"]["notebook"] == name)

    for name in ("renamed.ipynb", "second.ipynb"):
        renamed = httpx.patch(
            f"{jupyter.url}/api/sessions/{second.session}", headers=jupyter.headers, json={"path": name, "name": name}
        )
        assert renamed.status_code == 200
        wait_until(partial(is_now, name))


def test_roll_back_and_stop_say_what_they_did(jupyter: NotebookServer, first: Kernel) -> None:
    first.run("deploy('mine', 1, 2, 3)")
    jupyter.wait_for("mine")
    row = jupyter.rows()["mine"]
    stale = jupyter.act("mine", "rollback", version=2)
    assert stale.status_code == 409, "the page saw another version live"
    assert (row["version"], row["previous"]) == (3, 2)
    done = jupyter.act("mine", "rollback", version=3)
    assert (done.status_code, set(done.json())) == (200, {"notice"})
    assert "2" in done.json()["notice"]
    assert jupyter.rows()["mine"]["version"] == 2
    assert first.value("[one.version.number for one in mlnb.deployments() if one.name == 'mine']") == "[2]"
    stopped = jupyter.act("mine", "stop")
    assert stopped.status_code == 200
    assert "mine" in stopped.json()["notice"]
    assert "mine" not in jupyter.rows()
    again = jupyter.post(f"mlnb/deployments/{row['process']}/mine/stop")
    assert again.status_code in (404, 409)
    assert "mine" in again.json()["message"]
    undone = jupyter.post(f"mlnb/deployments/{row['process']}/mine/start")
    assert undone.status_code == 200
    assert jupyter.rows()["mine"]["version"] == 2
    assert jupyter.act("mine", "stop").status_code == 200


def test_what_a_process_refuses_is_no_matter_of_the_login(jupyter: NotebookServer, first: Kernel) -> None:
    refuse = """
import mlnb.errors, mlnb.workspace.workspace as space
rollback = space.Workspace.rollback
def refused(*_, **__): raise mlnb.errors.UntrustedError("trust the registry first")
space.Workspace.rollback = refused
"""
    first.run(refuse)
    answer = jupyter.act("wine", "rollback", version=1)
    first.run("space.Workspace.rollback = rollback")
    assert (answer.status_code, answer.json()["message"]) == (409, "trust the registry first")


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("{process}/..%2F..%2Fetc/stop", "{}", 404, "is no model's name"),
        ("{process}/nothing/stop", "{}", 404, "nothing"),
        ("1-1/wine/stop", "{}", 404, "not served any more"),
        ("{process}/wine/rollback", "{}", 422, "version"),
        ("{process}/wine/rollback", '{"version": true}', 422, "version"),
        ("{process}/wine/rollback", '{"version": 1}', 409, "wine"),
        ("{process}/wine/stop", "[]", 400, "JSON object"),
        ("{process}/wine/stop", "{", 400, "JSON object"),
        ("{process}/wine/stop", "[" * 100_000, 400, "JSON object"),
        ("{process}/wine/explode", "{}", 404, ""),
    ],
)
def test_a_mistake_is_answered_in_words(
    jupyter: NotebookServer, first: Kernel, path: str, body: str, status: int, words: str
) -> None:
    url = f"{jupyter.url}/mlnb/deployments/{path.format(process=jupyter.rows()['wine']['process'])}"
    answer = httpx.post(url, headers=jupyter.headers, content=body, timeout=30)
    assert answer.status_code == status, answer.text
    assert words in answer.text
    assert "Traceback" not in answer.text
    assert "Traceback" not in jupyter.log


def test_a_kernel_that_hangs_is_silent_and_delays_nobody(
    jupyter: NotebookServer, first: Kernel, second: Kernel
) -> None:
    pid = second.pid
    before = jupyter.rows()["digits"]
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: jupyter.rows()["digits"]["state"] == "silent", seconds=20)
        began = time.monotonic()
        rows = jupyter.rows()
        assert time.monotonic() - began < 10
        assert (rows["digits"]["version"], rows["digits"]["notebook"]) == (before["version"], "second.ipynb")
        assert (rows["iris"]["state"], rows["wine"]["state"]) == ("live", "live")
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: jupyter.rows()["digits"]["state"] == "live", seconds=30)


def test_who_does_not_answer_an_order_is_not_waited_for_forever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    mlnb.deploy(lambda rows: [row[0] for row in rows], name="here", example=[[1.0]])
    (record,) = written(tmp_path / "mlnb")

    async def stop() -> None:
        sessions = SessionManager()  # type: ignore[no-untyped-call]  # as Jupyter has it
        hasty = KernelDeployments(lambda: [""], sessions, patience=0)  # the id of the kernel that this process is not
        await hasty.tell(record.stem, {"do": "stop", "name": "here"})

    with pytest.raises(DeadlineError, match="here has not answered for 0 s: its kernel is stopped or very busy"):
        asyncio.run(stop())


def written(folder: Path) -> list[Path]:
    """Return the records there, as soon as there are any."""
    wait_until(lambda: any(folder.glob("*.json")), seconds=20)
    return [*folder.glob("*.json")]


@pytest.mark.alone
def test_a_killed_kernels_rows_are_gone_and_nothing_else_changes(
    jupyter: NotebookServer, first: Kernel, second: Kernel
) -> None:
    before = jupyter.rows()
    os.kill(second.pid, signal.SIGKILL)
    wait_until(lambda: "digits" not in jupyter.rows(), seconds=3)
    after = jupyter.rows()
    assert after.keys() == before.keys() - {"digits"}
    for name, row in after.items():
        assert {key: row[key] for key in SAME} == {key: before[name][key] for key in SAME}


SAME = ("process", "url", "pid", "kernel", "notebook", "state", "version", "previous", "since")
