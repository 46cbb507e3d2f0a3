"""Stopping that is interrupted, or meets a deployment on its way: what is said to be live answers, all else is over."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import httpx
import pytest
from loading import Numbered
from sklearn.linear_model import LinearRegression
from threads import mlnb_threads
from waiting import wait_until

import mlnb


def test_an_interrupt_of_stopping_leaves_nothing_served() -> None:
    slow = mlnb.deploy(Numbered(1, seconds=2), name="slow", example=[[0.5]])
    mlnb.deploy(Numbered(1), name="quick", example=[[0.5]])
    with ThreadPoolExecutor(1) as pool:
        pool.submit(httpx.post, f"{slow.url}/predict", json={"features": [7.0]}, timeout=20)
        wait_until(lambda: any(one.in_flight for one in slow.snapshot().replicas))
        threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            mlnb.stop()
    assert mlnb.deployments() == []
    wait_until(lambda: not [name for name in mlnb_threads() if "server" in name])


def test_stopping_while_the_next_version_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    deployment = mlnb.deploy(Numbered(1), name="numbered", example=[[0.5]])
    recorded, goes_on = threading.Event(), threading.Event()
    record = mlnb.ModelRegistry.record

    def recording(self: mlnb.ModelRegistry, *arguments: Any, **details: Any) -> Any:
        recorded.set()
        goes_on.wait(20)
        return record(self, *arguments, **details)

    monkeypatch.setattr(mlnb.ModelRegistry, "record", recording)
    with ThreadPoolExecutor(2) as pool:
        deploying = pool.submit(mlnb.deploy, Numbered(2), name="numbered", example=[[0.5]])
        assert recorded.wait(20)
        stopping = pool.submit(deployment.stop)
        wait([stopping], timeout=0.5)
        goes_on.set()
        deploying.result(20)
        stopping.result(20)
    assert deployment.state == "stopped"
    assert mlnb.deployments() == []


def test_stopping_one_leaves_the_replicas_of_another_that_still_answer() -> None:
    slow = mlnb.deploy(Numbered(1, seconds=4), name="slow", example=[[0.5]], replicas=1)
    other = mlnb.deploy(LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0]), name="other", example=[[0.5]], replicas=1)
    with ThreadPoolExecutor(2) as pool:
        asking = pool.submit(httpx.post, f"{slow.url}/predict", json={"features": [7.0]}, timeout=20)
        wait_until(lambda: any(one.in_flight for one in slow.snapshot().replicas))
        stopping = pool.submit(slow.stop)
        wait_until(lambda: slow.state == "stopped")
        other.stop()
        assert asking.result().status_code == 200
        stopping.result(20)
