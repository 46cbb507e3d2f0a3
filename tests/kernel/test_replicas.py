"""A real kernel whose models are served by processes: they survive an interrupt, and are gone when the kernel is."""

from __future__ import annotations

import ast
import os
import signal
import time
from typing import Any

import psutil
import pytest
from kernel import test_kernel
from kernel.test_kernel import Kernel, ask
from loading import lives
from waiting import free_port, is_open, wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.filterwarnings("ignore:.*TCP without encryption.*")]

kernel = test_kernel.kernel

DEPLOY = """
%load_ext mlnb
import numpy as np
class Twice:
    "A class that only this notebook knows."
    def predict(self, rows):
        return 2 * np.asarray(rows)[:, 0]
deployment = %deploy_model Twice() --name twice --input [[1.0]] --replicas 2 --no-panel
"""
FAMILY = """
import psutil
gateway = deployment._workspace._hosting._host.pid
family = [gateway, *(child.pid for child in psutil.Process(gateway).children(recursive=True))]
"""


class Served:
    """A kernel with a deployment that has two replicas."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        kernel.run(DEPLOY.replace("--name twice", f"--name twice --port {free_port()}"))
        self.port = int(kernel.value("deployment.url").split(":")[2].split("/")[0])
        assert ask(self.port) == [10.0]
        self.family = self.processes()
        assert len(self.family) == 4  # the gateway, its zygote and two replicas

    def processes(self) -> list[psutil.Process]:
        self.kernel.run(FAMILY)
        return [psutil.Process(pid) for pid in ast.literal_eval(self.kernel.value("family"))]

    def is_gone(self) -> bool:
        return not any(map(lives, self.family)) and not is_open(self.port)


@pytest.fixture
def served(kernel: Kernel) -> Served:
    return Served(kernel)


def finish(kernel: Kernel, request: str) -> dict[str, Any]:
    """Wait for the reply to a cell."""
    while (reply := kernel.client.get_shell_msg(timeout=30))["parent_header"]["msg_id"] != request:
        pass
    content: dict[str, Any] = reply["content"]
    return content


def test_an_interrupt_reaches_the_cell_and_none_of_the_processes(served: Served) -> None:
    kernel = served.kernel
    request = kernel.client.execute("print('running', flush=True)\nwhile True: pass")
    while kernel.client.get_iopub_msg(timeout=20)["content"].get("text") != "running\n":
        pass
    for _ in range(50):
        assert ask(served.port) == [10.0]
    kernel.manager.interrupt_kernel()
    assert finish(kernel, request)["ename"] == "KeyboardInterrupt"
    for _ in range(5):
        kernel.manager.interrupt_kernel()
        assert ask(served.port) == [10.0]
    assert served.processes() == served.family
    assert all(map(lives, served.family))
    assert kernel.value("deployment.metrics().errors") == "0"


def test_an_interrupt_while_it_moves_leaves_one_server_or_the_other(kernel: Kernel) -> None:
    kernel.run(DEPLOY.replace("--replicas 2", ""))
    port = int(kernel.value("deployment.url").split(":")[2].split("/")[0])
    for number, delay in enumerate((0.05, 0.2, 0.4, 0.6, 0.8, 1.0)):
        request = kernel.client.execute(f"deployment.scale({1 - number % 2})")
        time.sleep(delay)  # not a condition: an interrupt comes at any moment
        kernel.manager.interrupt_kernel()
        finish(kernel, request)
        assert ask(port) == [10.0]
    for replicas in (1, 0):
        kernel.run(f"deployment.scale({replicas})")
        assert ask(port) == [10.0]
        assert kernel.value("len(deployment.snapshot().replicas)") == "1"
    kernel.run("import psutil; left = [one.cmdline() for one in psutil.Process().children()]")
    assert "beside" not in kernel.value("left")
    servers = kernel.value("sum(one.name.startswith('mlnb server') for one in __import__('threading').enumerate())")
    assert servers == "1"


def test_a_restart_ends_all(served: Served) -> None:
    served.kernel.manager.restart_kernel(now=False)
    wait_until(served.is_gone, seconds=5)
    served.kernel.client.wait_for_ready(timeout=60)
    again = Served(served.kernel)
    assert not {one.pid for one in again.family} & {one.pid for one in served.family}


@pytest.mark.alone
def test_a_shutdown_ends_all_before_jupyter_loses_patience(served: Served) -> None:
    process = served.kernel.process
    start = time.monotonic()
    served.kernel.manager.shutdown_kernel(now=False)
    assert time.monotonic() - start < 2.4  # Jupyter sends a signal after 2.5 s
    assert not process.is_running()
    wait_until(served.is_gone, seconds=5)


@pytest.mark.alone
def test_a_shutdown_during_a_prediction_that_hangs_ends_all(kernel: Kernel) -> None:
    kernel.run("""
%load_ext mlnb
import threading
class Twice:
    def predict(self, rows):
        if rows[0][0] > 1:
            __import__("time").sleep(600)
        return [0.0] * len(rows)
deployment = %deploy_model Twice() --name twice --input [[1.0]] --replicas 2 --no-panel
threading.Thread(target=lambda: [deployment.predict([2.0]) for _ in range(3)], daemon=True).start()
""")
    kernel.run(FAMILY)
    family = [psutil.Process(pid) for pid in ast.literal_eval(kernel.value("family"))]
    process = kernel.process
    start = time.monotonic()
    kernel.manager.shutdown_kernel(now=False)
    assert time.monotonic() - start < 2.4
    assert not process.is_running()
    wait_until(lambda: not any(map(lives, family)))


@pytest.mark.parametrize("how", ["killed", "shut down", "restarted"])
def test_a_forked_child_that_outlives_the_kernel_keeps_nothing_alive(served: Served, how: str) -> None:
    kernel = served.kernel
    kernel.run("import os, time\nchild = os.fork()\nif child == 0:\n    time.sleep(60); os._exit(0)")
    child = psutil.Process(int(kernel.value("child")))
    try:
        if how == "killed":
            os.kill(kernel.process.pid, signal.SIGKILL)
            wait_until(lambda: not kernel.manager.is_alive())
        elif how == "shut down":
            kernel.manager.shutdown_kernel(now=False)
        else:
            kernel.manager.restart_kernel(now=False)
        wait_until(served.is_gone)
        if how == "killed":
            assert lives(child)
    finally:
        if lives(child):
            child.kill()


def test_a_child_forked_before_the_replicas_keeps_nothing_alive(kernel: Kernel) -> None:
    kernel.run("import os, time\nchild = os.fork()\nif child == 0:\n    time.sleep(60); os._exit(0)")
    served = Served(kernel)
    child = psutil.Process(int(kernel.value("child")))
    try:
        os.kill(kernel.process.pid, signal.SIGKILL)
        wait_until(lambda: not kernel.manager.is_alive())
        wait_until(served.is_gone)
        assert lives(child)
    finally:
        child.kill()


def test_what_multiprocessing_starts_in_a_cell_keeps_nothing_alive(served: Served) -> None:
    kernel = served.kernel
    kernel.run("""
import multiprocessing, time
others = [multiprocessing.get_context(way).Process(target=time.sleep, args=(60,)) for way in ("fork", "spawn")]
for other in others:
    other.start()
""")
    children = [psutil.Process(pid) for pid in ast.literal_eval(kernel.value("[other.pid for other in others]"))]
    try:
        os.kill(kernel.process.pid, signal.SIGKILL)
        wait_until(lambda: not kernel.manager.is_alive())
        wait_until(served.is_gone)
    finally:
        for child in filter(lives, children):
            child.kill()
