"""Who may list and stop: whom Jupyter has let in, from its own pages; and what a record must be to be believed."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from notebook_servers import Kernel, NotebookServer, running_notebook_server
from waiting import wait_until

import mlnb
from mlnb.serving.discovery.record import ServerRecord

pytestmark = [pytest.mark.kernel, pytest.mark.filterwarnings("ignore:.*TCP without encryption.*")]

ROUTES = [("GET", "deployments"), ("GET", "registry"), ("POST", "deployments/1-1/iris/stop")]


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("headers", [{}, {"Authorization": "token wrong"}], ids=["no token", "wrong token"])
def test_nobody_else_is_let_in(jupyter: NotebookServer, method: str, path: str, headers: dict[str, str]) -> None:
    answer = httpx.request(method, f"{jupyter.url}/mlnb/{path}", headers=headers, json={}, timeout=30)
    assert answer.status_code == 403
    assert set(answer.json()) == {"message"}


def test_a_page_of_another_origin_neither_lists_nor_stops(jupyter: NotebookServer, first: Kernel) -> None:
    process = jupyter.rows()["wine"]["process"]
    stop = f"{jupyter.url}/mlnb/deployments/{process}/wine/stop"
    with logged_in(jupyter) as browser:
        xsrf = {"X-XSRFToken": browser.cookies["_xsrf"]}
        foreign = {"Origin": "http://evil.example"}
        own = {"Origin": "http://{0.hostname}:{0.port}".format(urlsplit(jupyter.url))}
        assert browser.get(f"{jupyter.url}/mlnb/deployments", headers=own).json()["deployments"]
        for path in ("deployments", "registry"):
            refused = browser.get(f"{jupyter.url}/mlnb/{path}", headers=foreign)
            assert (refused.status_code, set(refused.json())) == (404, {"message"})
        assert browser.post(stop, json={}, headers=foreign).status_code == 404
        assert browser.post(stop, json={}, headers=foreign | xsrf).status_code == 404
        assert browser.post(stop, json={}, headers=own).status_code == 403, "without the XSRF token"
        let_in = browser.post(stop.replace("stop", "rollback"), json={}, headers=own | xsrf)
        assert let_in.status_code == 422, "a roll back needs a version"
        cookies = browser.cookies.jar
    assert "wine" in jupyter.rows()
    assert jupyter.token not in jupyter.log
    assert not any(cookie.value and cookie.value in jupyter.log for cookie in cookies)


def test_answers_are_kept_nowhere(jupyter: NotebookServer) -> None:
    answer = httpx.get(f"{jupyter.url}/mlnb/deployments", headers=jupyter.headers, timeout=30)
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "application/json"
    assert "ETag" not in answer.headers


GUARDED = """
from pathlib import Path
from jupyter_server.auth import Authorizer
from jupyter_server.services.sessions.sessionmanager import SessionManager
import mlnb.labextension

mlnb.labextension._SIDEBAR = Path("as in a checkout where no Node.js was")

class Onlookers(Authorizer):
    def is_authorized(self, handler, user, action, resource):
        return (action, resource) == ("read", "kernels")

class Fragile(SessionManager):
    async def list_sessions(self):
        if Path(__file__).with_name("broken").exists():
            raise RuntimeError("a secret")
        return []
"""


def test_a_guarded_server_whose_sidebar_is_not_built(tmp_path: Path) -> None:
    (tmp_path / "guarded.py").write_text(GUARDED)
    options = [
        "--ServerApp.authorizer_class=guarded.Onlookers", "--ServerApp.session_manager_class=guarded.Fragile",
        "--ServerApp.jpserver_extensions=jupyter_server_proxy=True",
    ]  # fmt: skip
    with running_notebook_server(tmp_path, *options) as jupyter:
        assert jupyter.get("mlnb/deployments") == {"deployments": [], "proxy": True, "trouble": ""}
        assert jupyter.post("mlnb/deployments/1-1/iris/stop").status_code == 403
        assert httpx.get(f"{jupyter.url}/mlnb/registry", headers=jupyter.headers, timeout=30).status_code == 403
        (warning,) = (line for line in jupyter.log.splitlines() if "the sidebar is not built" in line)
        assert "Install Node.js 20 or newer, then run `pip install -e .`" in warning
        (tmp_path / "broken").touch()
        url = f"{jupyter.url}/mlnb/deployments?token={jupyter.token}"  # which is then in the request's address
        wait_until(lambda: httpx.get(url, timeout=30).status_code == 500)
        answer = httpx.get(url, timeout=30)
        assert answer.json() == {"message": "Something went wrong in mlnb; Jupyter's log says what."}
        assert "a secret" in jupyter.log
        assert jupyter.token not in jupyter.log


@pytest.mark.parametrize("forged", ["another's file", "another's socket", "a process that is gone", "a reused pid"])
def test_a_forged_record_is_not_believed(jupyter: NotebookServer, first: Kernel, forged: str) -> None:
    if forged == "another's file" and os.geteuid() != 0:
        pytest.skip("Only root can give a file away.")
    kernel, me = psutil.Process(first.pid), psutil.Process()
    with listening() as (path, heard):
        record = ServerRecord(
            pid=kernel.pid, started=kernel.create_time(), port=9, socket=path, names=("forged",), kernel=first.id,
            notebook="first.ipynb",
        )  # fmt: skip
        changes: dict[str, dict[str, Any]] = {
            "another's file": {"pid": me.pid, "started": me.create_time()},
            "another's socket": {},  # it takes the place of the kernel's own record
            "a process that is gone": {"pid": 2**22 - 7},
            "a reused pid": {"started": record.started - 100},
        }
        record = replace(record, **changes[forged])
        file = jupyter.runtime / "mlnb" / f"{record.id}.json"
        genuine = file.read_text() if file.exists() else None
        file.write_text(record.to_text())
        file.chmod(0o600)
        if forged == "another's file":
            os.chown(file, 65534, 65534)
        try:
            assert "forged" not in jupyter.rows()
            answer = jupyter.post(f"mlnb/deployments/{record.id}/forged/stop")
            assert (answer.status_code, set(answer.json())) == (404, {"message"})
            assert heard() == b"", "what it points to is told nothing"
        finally:
            file.unlink(missing_ok=True) if genuine is None else file.write_text(genuine)
    jupyter.wait_for("iris", "wine")


def test_a_process_that_is_no_kernel_of_this_server_is_not_shown(
    jupyter: NotebookServer, first: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(jupyter.runtime))
    rows = jupyter.rows()
    me = psutil.Process()
    record = jupyter.runtime / "mlnb" / f"{me.pid}-{round(me.create_time() * 1000)}.json"
    mlnb.deploy(lambda rows: [row[0] for row in rows], name="elsewhere", example=[[1.0]])
    wait_until(record.exists, seconds=20)
    assert jupyter.rows().keys() == rows.keys()
    answer = jupyter.post(f"mlnb/deployments/{record.stem}/elsewhere/stop")
    assert answer.status_code == 404
    assert [one.name for one in mlnb.deployments()] == ["elsewhere"]


@contextmanager
def logged_in(jupyter: NotebookServer) -> Iterator[httpx.Client]:
    """A browser whose user has typed the token: from then on it has a cookie."""
    with httpx.Client(timeout=30) as browser:
        browser.get(f"{jupyter.url}/login")
        form = {"password": jupyter.token, "_xsrf": browser.cookies["_xsrf"]}
        assert browser.post(f"{jupyter.url}/login", data=form).status_code == 302
        assert any(name.startswith("username-") for name in browser.cookies)
        yield browser


@contextmanager
def listening() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """A Unix socket in a folder of one's own, and what was sent to it so far."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = str(Path(folder, "socket"))
        listener.bind(path)
        listener.listen()
        listener.setblocking(False)

        def heard() -> bytes:
            told = b""
            while True:
                try:
                    connection, _ = listener.accept()
                except BlockingIOError:
                    return told
                with connection:
                    connection.settimeout(10)
                    told += connection.recv(4096)

        yield path, heard
