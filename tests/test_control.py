"""What other programs of a user find of the deployments of a process, and do with them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from discovered import deploying, sockets_of
from loading import Numbered
from threads import mlnb_threads
from waiting import wait_until

import mlnb
from mlnb.errors import StoppedError
from mlnb.serving.discovery.asking import ask
from mlnb.serving.discovery.listing import list_live
from mlnb.serving.discovery.record import ServerRecord
from mlnb.serving.discovery.records import trusted
from mlnb.serving.hosting import Hosting
from mlnb.workspace import control, orders


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the records; at the end no socket of this process is left."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield tmp_path / "runtime" / "mlnb"
    mlnb.stop()
    assert list(tmp_path.glob("mlnb-*")) == []
    assert list(tmp_path.glob("runtime/mlnb/*")) == []


def deploy(name: str = "iris", number: int = 1) -> mlnb.Deployment:
    return mlnb.deploy(Numbered(number), name=name, example=[[0.5]])


def record_in(folder: Path, *names: str) -> ServerRecord:
    """Return the record, as soon as it names these."""
    wait_until(lambda: [one.names for one in trusted(folder)[0]] == [names], seconds=30)
    return trusted(folder)[0][0]


def order(record: ServerRecord, do: str, **details: Any) -> dict[str, Any]:
    return asyncio.run(ask(record, {"do": do, **details}, timeout=30))


def test_the_record_follows_what_is_live_and_ends_with_it(folder: Path) -> None:
    iris = deploy()
    record = record_in(folder, "iris")
    assert (record.pid, record.kernel, record.notebook) == (os.getpid(), "", "")
    assert iris.url == f"http://127.0.0.1:{record.port}/models/iris"
    digits = deploy("digits")
    assert record_in(folder, "digits", "iris").socket == record.socket
    iris.stop()
    record_in(folder, "digits")
    digits.stop()
    assert list(folder.iterdir()) == []
    assert not Path(record.socket).parent.exists()
    wait_until(lambda: not mlnb_threads())
    deploy()
    assert record_in(folder, "iris").socket != record.socket


def test_orders_from_outside(folder: Path) -> None:
    iris = deploy(number=1)
    deploy(number=2)
    record = record_in(folder, "iris")
    (told,) = order(record, "list")["deployments"]
    assert (told["version"], told["previous"], told["since"]) == (2, 1, iris.snapshot().since.isoformat())
    refused = order(record, "rollback", name="iris", version=1)
    assert refused == {"error": "iris v2 is live by now, not v1: nothing was rolled back.", "status": 409}
    notice = order(record, "rollback", name="iris", version=2)
    assert notice == {"notice": "iris v1 is live; v2 was before."}
    assert iris.predict([[7.0]]).tolist() == [1e6 + 7]
    assert order(record, "rollback", name="iris", version=1)["status"] == 409  # there is none before
    assert order(record, "start", name="iris") == {"error": "iris v1 is live already.", "status": 409}
    assert order(record, "stop", name="iris") == {"notice": "iris v1 is stopped."}
    assert order(record, "stop", name="iris")["status"] == 404
    assert record_in(folder).socket == record.socket  # it can still be undone
    assert list_live().deployments == ()
    assert order(record, "start", name="iris") == {"notice": "iris v1 is live again."}
    assert iris.predict([[7.0]]).tolist() == [1e6 + 7]
    assert order(record, "start", name="nothing")["status"] == 404
    iris.stop()
    assert list(folder.iterdir()) == []


def test_a_last_stop_from_outside_can_be_undone_for_a_while(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_LINGER", 0.5)
    iris = deploy()
    record = record_in(folder, "iris")
    assert "notice" in order(record, "stop", name="iris")
    wait_until(lambda: not mlnb_threads(), seconds=30)
    assert list(folder.iterdir()) == []
    monkeypatch.setattr(control, "_LINGER", 600.0)
    iris.start()
    assert "notice" in order(record_in(folder, "iris"), "stop", name="iris")
    assert mlnb.stop() == []  # and all is over at once
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"do": "dance"}, {"do": "stop"}, {"do": "stop", "name": 7}, {"do": ["list"]}, {}])
def test_what_is_no_order_is_refused(folder: Path, wrong: dict[str, Any]) -> None:
    deploy()
    answer = asyncio.run(ask(record_in(folder, "iris"), wrong, timeout=30))
    assert answer["status"] == 422


def test_what_cannot_be_read_is_not_answered_and_harms_nobody(folder: Path) -> None:
    deploy()
    record = record_in(folder, "iris")
    for said in (
        b"",
        b"\n",
        b"nothing\n",
        b"[" * 60_000 + b"\n",
        b"x" * 70_000 + b"\n",
        b'{"do": "stop", "name": "iris"}',
    ):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(30)
            sock.connect(record.socket)
            sock.sendall(said)
            sock.shutdown(socket.SHUT_WR)
            try:
                assert sock.recv(100) == b""
            except ConnectionResetError:  # it had not read all of it
                continue
    held = [socket.socket(socket.AF_UNIX) for _ in range(20)]  # which say nothing
    for sock in held:
        sock.connect(record.socket)
    assert [one.state for one in list_live().deployments] == ["silent"]  # there is no place, so it waits
    for sock in held:
        sock.close()
    wait_until(lambda: [one.state for one in list_live().deployments] == ["live"], seconds=30)


def test_nothing_is_done_for_those_who_have_gone(folder: Path) -> None:
    iris = deploy()
    record = record_in(folder, "iris")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(record.socket)
        sock.sendall(json.dumps({"do": "stop", "name": "iris"}).encode() + b"\n")
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(30)
        assert sock.recv(100) == b""
    assert iris.state == "live"


def test_a_failure_says_why_in_the_log_only(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a secret")

    deploy()
    monkeypatch.setitem(orders._VERBS, "stop", fail)
    answer = order(record_in(folder, "iris"), "stop", name="iris")
    assert answer == {"error": "It failed; why stands in the log of the process that serves.", "status": 500}
    assert "ValueError: a secret" in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_cannot_ask(folder: Path) -> None:
    deploy()
    record = record_in(folder, "iris")
    program = f"""
import os, socket
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sock = socket.socket(socket.AF_UNIX)
try:
    sock.connect({record.socket!r})
    sock.sendall(b'{{"do": "list"}}\\n')
    print(sock.recv(100))
except OSError as error:
    print(type(error).__name__)
"""

    def tries() -> str:
        command = [sys.executable, "-S", "-c", program]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()

    assert tries() == "PermissionError"
    place = Path(record.socket)
    for path in (*place.parents[1:], place.parent):
        if path.stat().st_uid == 0 and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o011)
    place.chmod(0o777)
    assert tries() in ("b''", "ConnectionResetError", "BrokenPipeError")  # the process itself looks who it is
    place.parent.chmod(0o700)


def test_replicas_and_forked_children_do_not_hold_it(folder: Path) -> None:
    with deploying("iris", replicas=1) as process:
        record = record_in(folder, "iris")
        assert process.stdin is not None
        assert process.stdout is not None
        fork = "(lambda child: child or __import__('time').sleep(600))(os.fork())"
        process.stdin.write(f"{fork}\n")
        process.stdin.flush()
        child = psutil.Process(json.loads(process.stdout.readline()))
        try:
            family = psutil.Process(process.pid).children(recursive=True)
            assert len(family) >= 4  # a gateway, a zygote, a replica, and the child
            wait_until(lambda: record.socket not in sockets_of(child))
            held = [one.pid for one in family if record.socket in sockets_of(one)]
            assert held == []
            assert record.socket in sockets_of(psutil.Process(process.pid))
            process.kill()
            process.wait()
            assert trusted(folder) == ([], "")
            assert not Path(record.socket).exists()
        finally:
            child.kill()


def test_where_no_record_can_be_written_models_are_served_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runtime").mkdir(mode=0o500)
    with deploying("iris", bound=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("[mlnb.deploy('iris').predict([[0.0]]).tolist(), mlnb.stop() and mlnb.deployments()]\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline()) == [[0.0], []]
        _, complaints = process.communicate(timeout=60)
    assert process.returncode == 0
    (line,) = complaints.splitlines()  # once
    assert line.startswith("mlnb.workspace.control: What this process serves is not listed elsewhere")
    assert line.endswith(f"Permission denied: '{tmp_path}/runtime/mlnb'")


def test_a_record_that_was_cleaned_away_is_written_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_REFRESH", 0.1)
    deploy()
    record = record_in(folder, "iris")
    (folder / f"{record.id}.json").unlink()
    assert record_in(folder, "iris") == record


def test_it_is_written_again_however_often_somebody_asks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_REFRESH", 2.0)
    deploy()
    record = record_in(folder, "iris")
    path = folder / f"{record.id}.json"
    path.unlink()
    wait_until(lambda: "deployments" in order(record, "list") and path.exists(), seconds=20)


def test_it_is_written_as_soon_as_it_can_be(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(control, "_REFRESH", 0.1)
    folder.parent.mkdir()
    folder.write_text("in its place")
    deploy()
    wait_until(lambda: "is not listed elsewhere" in caplog.text, seconds=20)
    folder.unlink()
    record = record_in(folder, "iris")
    folder.chmod(0o2770)  # as Kubernetes does with a volume
    assert record_in(folder, "iris") == record
    assert len(caplog.records) == 1


def test_without_a_file_to_accept_it_waits(folder: Path) -> None:
    deploy()
    record = record_in(folder, "iris")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
        try:
            began = time.process_time()
            sock.connect(record.socket)
            time.sleep(2)
            assert time.process_time() - began < 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        sock.sendall(b'{"do": "list"}\n')
        assert b'"iris"' in sock.recv(1 << 16)


def test_without_a_thread_to_answer_no_place_is_lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        if thread.name == "mlnb control talk":
            raise RuntimeError("can't start new thread")
        begin(thread)

    begin = threading.Thread.start
    monkeypatch.setattr(control, "_PAUSE", 0.01)
    deploy()
    record = record_in(folder, "iris")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        for _ in range(control._MOST_AT_ONCE + 1):
            with pytest.raises(StoppedError):
                order(record, "list")
    assert len(order(record, "list")["deployments"]) == 1


def test_the_notebook_is_that_of_a_kernel_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    iris = deploy()
    iris.stop()
    monkeypatch.setenv("JPY_SESSION_NAME", "work/iris-\udcff.ipynb")
    iris.start()
    assert record_in(folder, "iris").notebook == ""  # of a kernel that started this process
    iris.stop()
    monkeypatch.setattr(control, "_kernel", lambda: "k")
    iris.start()
    assert record_in(folder, "iris").notebook == "work/iris-?.ipynb"


def test_no_record_without_a_port(folder: Path, tmp_path: Path) -> None:
    hosting = SimpleNamespace(port=None)
    workspace: Any = SimpleNamespace(deployments=lambda: [SimpleNamespace(name="iris")], _hosting=hosting)
    with control.Control(workspace) as serving:
        serving.heed()
        wait_until(lambda: bool(list(tmp_path.glob("mlnb-*/s"))), seconds=20)
        (path,) = tmp_path.glob("mlnb-*/s")
        wait_until(lambda: _answers(path), seconds=20)
        assert list(folder.glob("*")) == []
        hosting.port = 8000
        serving.heed()
        assert record_in(folder, "iris").port == 8000


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        if sock.connect_ex(str(path)):
            return False
        sock.sendall(b"{}\n")
        return bool(sock.recv(1 << 16))


def test_an_interrupt_while_the_server_ends_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(hosting: Hosting) -> None:
        rest(hosting)
        raise KeyboardInterrupt

    rest = Hosting.rest
    iris = deploy()
    record_in(folder, "iris")
    with monkeypatch.context() as patch:
        patch.setattr(Hosting, "rest", interrupted)
        with pytest.raises(KeyboardInterrupt):
            iris.stop()
    assert list(folder.iterdir()) == []


def test_without_jupyter_nothing_happens(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "jupyter_core.paths", None)
    with caplog.at_level(logging.DEBUG, logger="mlnb"):
        iris = deploy()
        wait_until(lambda: "mlnb control" not in mlnb_threads())
        assert iris.predict([[7.0]]).tolist() == [1e6 + 7]
        iris.stop()
    assert not folder.exists()
    assert "listed" not in caplog.text


def test_many_deploy_and_stop_at_once(folder: Path) -> None:
    def cycle(name: str) -> None:
        for _ in range(5):
            deploy(name).stop()

    threads = [threading.Thread(target=cycle, args=(f"m{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert list(folder.glob("*")) == []
    wait_until(lambda: not mlnb_threads())
    deploy()
    record_in(folder, "iris")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it may meet a callback of weakref
def test_interrupts_leave_nothing(folder: Path) -> None:
    deploy()
    mlnb.stop()
    for number in range(12):
        interrupting = threading.Timer(0.02 * number, os.kill, [os.getpid(), signal.SIGINT])
        try:
            interrupting.start()
            mlnb.deploy("iris")
            mlnb.stop()
            interrupting.join()
            time.sleep(1)  # in which it is met at the latest
        except KeyboardInterrupt:
            mlnb.stop()
        assert list(folder.iterdir()) == []
        wait_until(lambda: not mlnb_threads())
