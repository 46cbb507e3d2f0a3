"""Rows that cannot reach the gateway process: an error for the one who asked, and nothing for anybody else."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import ModuleType

import numpy as np
import pytest
from loading import Numbered, gateway
from waiting import wait_until

import mlnb
from mlnb.errors import InvalidInputError
from mlnb.serving.hosts import ProcessHost


def test_rows_of_a_class_that_only_the_notebook_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    only_here = ModuleType("only_here")
    only_here.Colour = type("Colour", (), {"__module__": "only_here"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "only_here", only_here)
    deployment = mlnb.deploy(Numbered(1), name="numbered", example=[[0.5]], replicas=1)
    before = gateway(deployment).pid
    with pytest.raises(InvalidInputError, match="only_here"):
        deployment.predict([[only_here.Colour()]])
    with pytest.raises(InvalidInputError, match="cannot be sent"):
        deployment.predict([[threading.Lock()]])
    assert deployment.predict([[7.0]]).tolist() == [1e6 + 7]
    assert gateway(deployment).pid == before


def test_an_interrupt_while_rows_are_sent_leaves_the_line_whole() -> None:
    deployment = mlnb.deploy(Numbered(1), name="numbered", example=[[0.5]], replicas=1)
    process = gateway(deployment)
    process.suspend()  # so that the line fills
    host = deployment._workspace._hosting._host
    assert isinstance(host, ProcessHost)

    def interrupt() -> None:
        wait_until(lambda: bool(host._waiting))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            deployment.predict(np.ones((50_000, 1)))
    finally:
        process.resume()
        thread.join()
    assert deployment.predict([[7.0]]).tolist() == [1e6 + 7]
    assert gateway(deployment).pid == process.pid
