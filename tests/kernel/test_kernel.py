"""A real Jupyter kernel: what serves there survives an interrupt, and is gone when the kernel is, however it ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from waiting import free_port, is_open, wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.filterwarnings("ignore:.*TCP without encryption.*")]

DEPLOY = """
%load_ext mlnb
from sklearn.dummy import DummyRegressor
import numpy as np
class Twice:
    "A class that only this notebook knows."
    def predict(self, rows):
        return 2 * np.asarray(rows)[:, 0]
deployment = %deploy_model Twice() --name twice --input [[1.0]]
deployment
"""


class Kernel:
    """A kernel and the one client that talks to it."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager = manager
        self.client = client

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self.manager.provisioner.pid)  # type: ignore[union-attr]  # the local one has it

    def run(self, code: str, *, timeout: float = 60) -> list[dict[str, Any]]:
        """Run a cell; return the contents of its outputs. An error of the cell fails the test."""
        outputs: list[dict[str, Any]] = []
        reply = self.client.execute_interactive(
            code, timeout=timeout, output_hook=lambda message: outputs.append(message["content"]), store_history=True
        )
        assert reply["content"]["status"] == "ok", reply["content"]
        return outputs

    def value(self, expression: str) -> str:
        reply = self.client.execute("", user_expressions={"value": expression}, reply=True, timeout=30)
        text: str = reply["content"]["user_expressions"]["value"]["data"]["text/plain"]
        return text


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    manager = KernelManager()
    manager.start_kernel(cwd=str(tmp_path))
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        if manager.is_alive():
            manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
        manager.context.destroy(linger=0)


@pytest.fixture
def served(kernel: Kernel) -> tuple[Kernel, int]:
    outputs = kernel.run(DEPLOY.replace("--name twice", f"--name twice --port {free_port()}"))
    data = [output["data"] for output in outputs if "data" in output]
    assert any("application/vnd.jupyter.widget-view+json" in one for one in data)
    port = int(kernel.value("deployment.url").split(":")[2].split("/")[0])
    assert ask(port) == [10.0]
    return kernel, port


def ask(port: int) -> Any:
    answer = httpx.post(f"http://127.0.0.1:{port}/models/twice/predict", json={"features": [5.0]}, timeout=10)
    assert answer.status_code == 200, answer.text
    return answer.json()["prediction"]


def test_it_answers_while_a_cell_runs_and_an_interrupt_stops_only_the_cell(served: tuple[Kernel, int]) -> None:
    kernel, port = served
    request = kernel.client.execute("print('running', flush=True)\nwhile True: pass")
    while kernel.client.get_iopub_msg(timeout=20)["content"].get("text") != "running\n":
        pass
    assert ask(port) == [10.0]
    kernel.manager.interrupt_kernel()
    while (reply := kernel.client.get_shell_msg(timeout=20))["parent_header"]["msg_id"] != request:
        pass
    assert reply["content"]["ename"] == "KeyboardInterrupt"
    assert ask(port) == [10.0]
    assert kernel.value("deployment.state") == "'live'"


def test_many_interrupts_in_a_row_stop_no_server(served: tuple[Kernel, int]) -> None:
    kernel, port = served
    for _ in range(5):
        kernel.manager.interrupt_kernel()
        assert ask(port) == [10.0]


def test_the_panel_is_refreshed_from_a_thread(served: tuple[Kernel, int]) -> None:
    kernel, port = served
    ask(port)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        content = kernel.client.get_iopub_msg(timeout=20)["content"]
        state = content.get("data", {}).get("state", {}) if "comm_id" in content else {}
        if "req/s" in state.get("footer", ""):
            return
    pytest.fail("The panel did not follow the requests.")


def test_completion_through_the_kernel(served: tuple[Kernel, int]) -> None:
    kernel, _ = served
    code = "x = %deploy_model twice:"
    reply = kernel.client.complete(code, reply=True, timeout=20)["content"]
    assert (reply["matches"], reply["cursor_start"]) == (["twice:1"], len(code) - len("twice:"))


def test_a_mistake_is_one_line_on_the_wire(served: tuple[Kernel, int]) -> None:
    kernel, _ = served
    outputs: list[dict[str, Any]] = []
    kernel.client.execute_interactive(
        "%model_rollback twcie", timeout=20, output_hook=lambda message: outputs.append(message["content"])
    )
    (text,) = [output["text"] for output in outputs if output.get("name") == "stderr"]
    assert text == "UsageError: 'twcie' is not deployed here; did you mean 'twice'? There are: twice.\n"


def test_after_a_restart_nothing_listens_and_the_model_is_served_again(served: tuple[Kernel, int]) -> None:
    kernel, port = served
    kernel.manager.restart_kernel(now=False)
    assert not is_open(port)
    kernel.client.wait_for_ready(timeout=60)
    kernel.run("%load_ext mlnb\ndeployment = %deploy_model twice:1 --no-panel")
    assert ask(int(kernel.value("deployment.url").split(":")[2].split("/")[0])) == [10.0]


@pytest.mark.alone
def test_after_shutdown_nothing_listens(served: tuple[Kernel, int]) -> None:
    kernel, port = served
    process = kernel.process
    start = time.monotonic()
    kernel.manager.shutdown_kernel(now=False)
    assert time.monotonic() - start < 2.4  # ended by itself: Jupyter sends a signal after 2.5 s
    assert not process.is_running()
    assert not is_open(port)


def test_after_a_kill_nothing_listens_though_a_forked_child_lives_on(served: tuple[Kernel, int]) -> None:
    kernel, port = served
    kernel.run("import os, time\nchild = os.fork()\nif child == 0:\n    time.sleep(30); os._exit(0)")
    child = psutil.Process(int(kernel.value("child")))
    os.kill(kernel.process.pid, signal.SIGKILL)
    wait_until(lambda: not kernel.manager.is_alive())
    try:
        assert child.is_running()
        wait_until(lambda: not is_open(port))
    finally:
        child.kill()


@pytest.mark.alone
def test_a_predict_that_hangs_does_not_keep_the_kernel_from_shutting_down(kernel: Kernel) -> None:
    kernel.run("""
%load_ext mlnb
import threading
class Hangs:
    def predict(self, rows):
        if rows[0][0] > 1:
            __import__("time").sleep(600)
        return [0.0] * len(rows)
deployment = %deploy_model Hangs() --name hangs --input [[1.0]] --no-panel
threading.Thread(target=lambda: [deployment.predict([2.0]) for _ in range(3)], daemon=True).start()
""")
    process = kernel.process
    start = time.monotonic()
    kernel.manager.shutdown_kernel(now=False)
    assert time.monotonic() - start < 2.4  # Jupyter sends a signal after 2.5 s
    assert not process.is_running()


@pytest.mark.alone
def test_loading_the_extension_is_quick(kernel: Kernel) -> None:
    kernel.run("import time\nstart = time.perf_counter()\n%load_ext mlnb\ntook = time.perf_counter() - start")
    assert float(kernel.value("took")) < 0.15
