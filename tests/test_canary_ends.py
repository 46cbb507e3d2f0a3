"""A canary ends once and for good, whatever fails, is interrupted or happens at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from math import isnan
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from waiting import wait_until

import mlnb
from mlnb.errors import MlnbError


class Plain:
    """Says its number of each row; version 2 fails on rows that begin with more than 100."""

    def __init__(self, number: int) -> None:
        self.number = number

    def predict(self, rows: Any) -> Any:
        firsts = np.asarray(rows, float)[:, 0]
        if self.number == 2 and firsts.max() > 100:
            raise ValueError("too large")
        return np.full(len(firsts), float(self.number))


@pytest.fixture(params=[0, 1], ids=["kernel", "process"])
def deployment(request: pytest.FixtureRequest) -> Iterator[mlnb.Deployment]:
    with mlnb.deploy(Plain(1), name="plain", example=[[1.0, 2.0]], replicas=request.param) as deployment:
        for number in (2, 3):
            deployment.registry.register(Plain(number), "plain", example=[[1.0, 2.0]])
        yield deployment


def ask(deployment: mlnb.Deployment, count: int, first: float) -> set[tuple[int, int | None]]:
    answers = [
        httpx.post(f"{deployment.url}/predict", json={"features": [first, 1.0]}, timeout=20) for _ in range(count)
    ]
    return {(one.status_code, one.json().get("version")) for one in answers}


def alone(deployment: mlnb.Deployment, number: int) -> bool:
    """Say whether kernel and server agree that a version is alone."""
    traffic = deployment.traffic
    assert traffic is not None
    here = deployment.version.number == number and deployment._canary is None
    return here and traffic.shares == {number: 1.0} and traffic.canary is None


def actions(deployment: mlnb.Deployment) -> list[tuple[str, int]]:
    events = deployment.registry.history(deployment.name)
    return [(event.action, event.version) for event in events if event.action not in ("registered", "aliased")]


def refuse(monkeypatch: pytest.MonkeyPatch, action: str, times: int) -> None:
    """Let the registry fail to record an action, that many times."""
    real, left = mlnb.ModelRegistry.record, [times]

    def record(self: mlnb.ModelRegistry, version: Any, what: Any, **details: Any) -> Any:
        if what == action and left[0]:
            left[0] -= 1
            raise OSError("no space left")
        return real(self, version, what, **details)

    monkeypatch.setattr(mlnb.ModelRegistry, "record", record)


def test_a_roll_back_that_cannot_be_recorded_is_done_all_the_same(
    deployment: mlnb.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.canary(2, steps=(50, 100), hold="1h")
    refuse(monkeypatch, "rolled back", 1)
    with pytest.raises(OSError, match="no space"):
        deployment.rollback()
    assert alone(deployment, 1)
    assert ask(deployment, 20, 200.0) == {(200, 1)}
    deployment.split({1: 50, 3: 50})  # nothing of the canary is left in the way


def test_a_promotion_that_cannot_be_recorded_leaves_the_version_before(
    deployment: mlnb.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.canary(2, steps=(50, 100), hold="1h")
    refuse(monkeypatch, "promoted", 1)
    with pytest.raises(OSError, match="no space"):
        deployment.promote()
    wait_until(lambda: alone(deployment, 1))
    assert ask(deployment, 20, 200.0) == {(200, 1)}


def test_what_a_canary_came_to_is_written_down_later_if_it_cannot_be_now(
    deployment: mlnb.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, "taken back", 1)
    deployment.canary(2, steps=(50, 100), hold="1h")
    wait_until(lambda: (500, None) in ask(deployment, 5, 200.0) or alone(deployment, 1))
    wait_until(lambda: bool(ask(deployment, 1, 200.0)) and alone(deployment, 1))
    with pytest.raises(MlnbError):
        deployment.promote()  # there is nothing left to promote
    wait_until(lambda: ("taken back", 2) in actions(deployment))
    assert alone(deployment, 1)


@pytest.mark.parametrize("deed", ["shadow", "scale"])
def test_what_is_asked_for_while_a_canary_takes_itself_back_does_not_bring_it_back(
    deployment: mlnb.Deployment, deed: str
) -> None:
    deeds: dict[str, Callable[[], object]] = {
        "shadow": lambda: deployment.shadow(3),
        "scale": lambda: deployment.scale(deployment.replicas + 1),
    }
    deployment.canary(2, steps=(50, 100), hold="1h")
    child = subprocess.Popen([sys.executable, "-c", _ASKING, deployment.url])
    try:
        deeds[deed]()
    finally:
        child.wait(60)
    wait_until(lambda: alone(deployment, 1))
    wait_until(lambda: ("taken back", 2) in actions(deployment))
    traffic = deployment.traffic
    assert traffic is not None
    assert (traffic.shadow is not None) == (deed == "shadow")
    assert ask(deployment, 20, 200.0) == {(200, 1)}


_ASKING = """
import json, sys, urllib.request
request = urllib.request.Request(
    sys.argv[1] + "/predict", json.dumps({"features": [200.0, 1.0]}).encode(), {"Content-Type": "application/json"}
)
for _ in range(60):
    try:
        urllib.request.urlopen(request, timeout=20).read()
    except urllib.error.HTTPError:
        pass
"""


def test_another_shadow_is_refused_while_a_canary_is_judged_by_its_own(deployment: mlnb.Deployment) -> None:
    deployment.canary(3, steps=(50, 100), hold="1h", guard={"disagreement": 0.5})
    for reference in (2, None):
        with pytest.raises(MlnbError, match="judged by the copy"):
            deployment.shadow(reference)
    traffic = deployment.traffic
    assert traffic is not None
    assert traffic.shadow is not None
    assert traffic.shadow.version == 3


def test_a_shadow_of_ones_own_outlives_a_canary(deployment: mlnb.Deployment) -> None:
    deployment.shadow(3)
    deployment.canary(2, steps=(50, 100), hold="1h")
    wait_until(lambda: bool(ask(deployment, 5, 200.0)) and alone(deployment, 1))
    traffic = deployment.traffic
    assert traffic is not None
    assert traffic.shadow is not None
    assert traffic.shadow.version == 3


def test_impatient_clients_take_no_canary_back(deployment: mlnb.Deployment) -> None:
    deployment.canary(3, steps=(50, 100), hold="1h")
    for _ in range(30):
        httpx.post(
            f"{deployment.url}/predict", json={"features": [1.0, 2.0]}, headers={"X-Request-Timeout": "0.000001"}
        )
    traffic = deployment.traffic
    assert traffic is not None
    assert traffic.canary is not None
    (reading,) = traffic.canary.readings
    assert reading.state in ("waiting", "holds")  # by chance it was asked more often, or answered in time
    assert isnan(reading.value) or reading.value == 0


def test_what_is_remembered_does_not_change_in_the_notebook() -> None:
    with mlnb.deploy(Plain(1), name="plain", example=[[1.0, 2.0]]) as deployment:
        rows = np.array([[5.0, 6.0]])
        answer = deployment.answer(rows)
        answer.prediction[:] = -1.0
        rows[:] = 0.0
        (row,) = deployment.replay(1).to_dict("records")
        assert (row["row"], row["answered"], row["distance"]) == ({"x0": 5.0, "x1": 6.0}, 1.0, 0.0)
        assert deployment.feedback(answer.request_id, 1.0) == 1


def test_a_kernel_that_ends_with_a_shadow_says_nothing(tmp_path: Path) -> None:
    program = (
        "import mlnb\n"
        "from sklearn.dummy import DummyRegressor\n"
        "for value in (1.0, 2.0):\n"
        "    model = DummyRegressor(strategy='constant', constant=value).fit([[0.0]], [0.0])\n"
        "    d = mlnb.deploy(model, name='d', example=[[0.0]])\n"
        "d.shadow(1)\n"
    )
    settings = {"MLNB_HOME": str(tmp_path / "models"), "MLNB_PROVE": "off"}
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (ended.stdout, ended.stderr) == ("", "")
