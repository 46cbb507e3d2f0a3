"""What 64 connections of load see while a deployment changes, moves and loses processes: nothing."""

from __future__ import annotations

import os
import random
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from loading import (
    BROKEN,
    REFUSED,
    RELEASED,
    Asked,
    Fragile,
    Lives,
    Load,
    Numbered,
    failures,
    gateway,
    lives,
    pids,
    processes,
    zygote,
)
from waiting import wait_until

import mlnb
from mlnb.errors import MlnbError

pytestmark = pytest.mark.alone


class Story:
    """One deployment under load, and what may be done to it."""

    def __init__(self, deployment: mlnb.Deployment, load: Load) -> None:
        self.deployment = deployment
        self.load = load
        self.lives = Lives(deployment)
        self.newest = deployment.version.number

    def deploy(self) -> None:
        self.newest += 1
        mlnb.deploy(Numbered(self.newest), name="numbered", example=[[0.5]])

    def roll_back(self) -> None:
        if self.deployment.snapshot().previous is None:
            self.deployment.rollback(to=self.newest)
        else:
            self.deployment.rollback()

    def scale(self, replicas: int) -> Callable[[], object]:
        return lambda: self.deployment.scale(replicas)

    def kill_one(self) -> None:
        found = pids(self.deployment)
        if found:
            os.kill(min(found), signal.SIGKILL)

    def do(self, action: Callable[[], object], *, more: int = 150) -> None:
        self.lives.change(action)
        self.load.more(more)

    def check(self, *, at_least: int = 1000) -> list[Asked]:
        answers = self.load.stop()
        assert failures(answers) == {}
        assert len(answers) > at_least
        assert [one for one in answers if not self.lives.allow(one)] == []
        return answers


def numbered(**options: Any) -> mlnb.Deployment:
    return mlnb.deploy(Numbered(1), name="numbered", example=[[0.5]], **options)


def test_every_kind_of_change_in_a_row() -> None:
    deployment = numbered()
    with Load(deployment.url) as load:
        story = Story(deployment, load)
        for replicas in (0, 1, 0, 2, 0, 1, 3, 1, 2):
            story.do(story.scale(replicas))
            assert len(pids(deployment)) == replicas
            story.do(story.deploy)
            story.do(story.roll_back)
        for _ in range(2):
            story.do(story.kill_one)
            wait_until(lambda: len(pids(deployment)) == 2)
        story.do(story.scale(0))
        answers = story.check()
    assert {one.version for one in answers} == set(range(1, story.newest + 1))
    assert deployment.metrics().errors == 0
    assert deployment.metrics().requests == len(answers)
    assert processes() == []


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_changes_in_any_order(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - an order that can be had again
    deployment = numbered()
    with Load(deployment.url) as load:
        story = Story(deployment, load)
        changes = [story.deploy, story.roll_back, *map(story.scale, (0, 1, 2, 3))]
        killed = 0
        for _ in range(14):
            story.do(rng.choice(changes))
            if killed < 3 and rng.random() < 0.4:  # the fourth within a minute would be waited for
                killed += 1
                story.do(story.kill_one)
        story.check()


def test_changes_that_are_asked_for_at_the_same_time_take_turns() -> None:
    deployment = numbered()
    with Load(deployment.url) as load:
        story = Story(deployment, load)
        failed: list[BaseException] = []

        def work(actions: list[Callable[[], object]]) -> None:
            try:
                for action in actions:
                    action()
            except BaseException as error:
                failed.append(error)

        def all_at_once() -> None:
            plans = [[story.scale(2), story.scale(0), story.scale(1)], [story.deploy] * 3, [story.scale(3)] * 2]
            threads = [threading.Thread(target=work, args=[plan]) for plan in plans]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        all_at_once()
        assert failed == []
        assert failures(load.stop()) == {}
        assert len(pids(deployment)) == deployment.replicas > 0


def test_a_replica_that_is_added_takes_its_share_of_keep_alive_connections() -> None:
    deployment = numbered(replicas=1)
    with Load(deployment.url) as load:
        deployment.scale(3)
        before = {one.key: one.batches for one in deployment.snapshot().replicas}
        load.more(1500)
        shares = [one.batches - before[one.key] for one in deployment.snapshot().replicas]
        assert failures(load.stop()) == {}
    assert len(shares) == 3
    assert min(shares) > 0.15 * sum(shares)


def test_slow_predictions_are_awaited_by_a_move_and_by_a_new_version() -> None:
    deployment = mlnb.deploy(Numbered(1, seconds=0.15), name="numbered", example=[[0.5]])
    with Load(deployment.url, connections=4) as load:  # more of them may be refused, until its times are known
        story = Story(deployment, load)
        for change in (story.scale(1), story.scale(0), story.scale(1)):
            story.do(change, more=15)
        story.do(lambda: mlnb.deploy(Numbered(2, seconds=0.15), name="numbered", example=[[0.5]]), more=15)
        story.do(story.kill_one, more=15)
        story.do(lambda: mlnb.deploy(Numbered(3), name="numbered", example=[[0.5]]))
        story.check(at_least=100)


@pytest.mark.parametrize("replicas", [(0, 1), (1, 0)])
def test_a_prediction_of_many_seconds_is_awaited_by_a_move(replicas: tuple[int, int]) -> None:
    deployment = mlnb.deploy(Numbered(1, seconds=6.5), name="numbered", example=[[0.5]], replicas=replicas[0])
    answers: list[httpx.Response] = []

    def ask() -> None:
        answers.append(httpx.post(f"{deployment.url}/predict", json={"features": [3.0]}, timeout=30))

    thread = threading.Thread(target=ask)
    thread.start()
    wait_until(lambda: any(one.in_flight for one in deployment.snapshot().replicas))
    deployment.scale(replicas[1])
    thread.join()
    assert (answers[0].status_code, answers[0].json().get("prediction")) == (200, [1e6 + 3]), answers[0].text


def test_all_replicas_killed_at_once() -> None:
    deployment = numbered(replicas=3)
    with Load(deployment.url) as load:
        load.more(500)
        killed = time.monotonic()
        for pid in pids(deployment):
            os.kill(pid, signal.SIGKILL)
        load.more(500)
        wait_until(lambda: len(pids(deployment)) == 3)
        answers = load.stop()
    bad = [one for one in answers if not one.good]
    assert all(one.status == 503 and one.sent < killed + 0.05 < one.received + 0.05 for one in bad), bad
    first = min(one.received for one in answers if one.good and one.sent > killed)
    assert first - killed < 2
    assert max(one.received - one.sent for one in answers) < 2
    assert "ended by SIGKILL" in deployment.snapshot().trouble


def test_the_zygote_killed() -> None:
    deployment = numbered(replicas=2)
    with Load(deployment.url) as load:
        before, old = pids(deployment), zygote(deployment)
        old.kill()
        load.more(500)
        wait_until(lambda: len(pids(deployment)) == 2 and not pids(deployment) & before)
        deployment.scale(3)
        load.more(200)
        answers = load.stop()
    assert failures(answers) == {}
    assert zygote(deployment) != old
    assert max(one.received - one.sent for one in answers) < 4


def test_the_gateway_killed() -> None:
    deployment = numbered(replicas=2)
    others = processes()
    with Load(deployment.url) as load:
        load.more(500)
        killed = time.monotonic()
        gateway(deployment).kill()
        load.more(500)
        answers = load.stop()
        assert deployment.predict([[4.0]]).tolist() == [1e6 + 4]
        assert len(pids(deployment)) == 2
    assert REFUSED not in {one.status for one in answers}
    bad = [one for one in answers if not one.good]
    assert {one.status for one in bad} <= {BROKEN}
    assert all(one.sent <= killed + 0.05 for one in bad)
    assert len(bad) <= 64
    first = min(one.received for one in answers if one.good and one.sent > killed)
    assert first - killed < 8
    wait_until(lambda: not any(map(lives, others)))


def test_a_gateway_killed_again_and_again_comes_back() -> None:
    deployment = numbered(replicas=1)
    for number in range(3):
        gateway(deployment).kill()
        answer = httpx.post(f"{deployment.url}/predict", json={"features": [float(number)]}, timeout=20)
        assert answer.json()["prediction"] == [1e6 + number]
    deployment.scale(0)
    assert deployment.predict([[4.0]]).tolist() == [1e6 + 4]


@pytest.mark.parametrize("replicas", [0, 2])
def test_stopping_under_load(replicas: int) -> None:
    deployment = numbered(replicas=replicas)
    with Load(deployment.url) as load:
        load.more(300)
        before = time.monotonic()
        deployment.stop()
        after = time.monotonic()
        assert after - before < 6
        answers = load.stop()
    bad = [one for one in answers if not one.good and one.status != REFUSED]
    assert {one.status for one in bad} <= {404, 503, BROKEN}
    assert all(one.received >= before for one in bad)
    assert not any(one.good and one.sent > after for one in answers)
    assert processes() == []


# ---- models that misbehave ----


def ask(deployment: mlnb.Deployment, value: float) -> httpx.Response:
    return httpx.post(f"{deployment.url}/predict", json={"features": [value]}, timeout=20)


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_predict_that_crashes_its_process(replicas: int) -> None:
    deployment = mlnb.deploy(Fragile(), name="fragile", example=[[10.0]], replicas=replicas)
    with Load(deployment.url, connections=16, doubled=True) as load:
        answer = ask(deployment, 1.0)
        assert answer.status_code == 500
        assert "SIGSEGV" not in answer.text
        load.more(300)
        wait_until(lambda: len(pids(deployment)) == replicas)
        answers = load.stop()
    assert failures(answers) == {}
    assert "SIGSEGV" in deployment.snapshot().trouble
    assert "SIGSEGV" in str(deployment.metrics().last_error)
    assert deployment.metrics().errors == 1


def test_a_predict_that_hangs_in_a_process() -> None:
    deployment = mlnb.deploy(Fragile(), name="fragile", example=[[10.0]], replicas=2, timeout=1)
    before = pids(deployment)
    with Load(deployment.url, connections=16, doubled=True) as load:
        start = time.monotonic()
        assert ask(deployment, 2.0).status_code == 504
        assert 0.9 < time.monotonic() - start < 3
        wait_until(lambda: len(pids(deployment)) == 2)
        load.more(200)
        bad = [one for one in load.stop() if not one.good]
    assert {one.status for one in bad} <= {504}  # those that were in one batch with it
    assert len(bad) <= 15
    assert "did not end within 1 s" in deployment.snapshot().trouble
    assert "within 1 s" in str(deployment.metrics().last_error)
    assert len(pids(deployment) & before) == 1
    wait_until(lambda: all(pid in pids(deployment) for pid in (one.pid for one in zygote(deployment).children())))


def test_a_predict_that_hangs_in_the_kernel() -> None:
    deployment = mlnb.deploy(Fragile(), name="fragile", example=[[10.0]], timeout=1)
    for _ in range(20):  # quick as it is, it is not asked on the loop: the code is one's own
        assert ask(deployment, 7.0).status_code == 200
    assert ask(deployment, 2.0).status_code == 504
    assert ask(deployment, 7.0).json()["prediction"] == [14.0]
    assert "did not end within 1 s" in deployment.snapshot().trouble
    RELEASED.set()  # the thread; nothing else would end it


@pytest.mark.parametrize("replicas", [0, 1])
@pytest.mark.parametrize(("value", "reason"), [(3.0, r"shape \(6, 2\) for 1 rows"), (4.0, "ValueError: four is too")])
def test_a_predict_that_gives_the_wrong_shape_or_raises(replicas: int, value: float, reason: str) -> None:
    deployment = mlnb.deploy(Fragile(), name="fragile", example=[[10.0]], replicas=replicas)
    with Load(deployment.url, connections=16, doubled=True) as load:
        for _ in range(5):
            answer = ask(deployment, value)
            assert answer.status_code == 500
            assert reason not in answer.text
        assert failures(load.stop()) == {}
    metrics = deployment.metrics()
    assert metrics.errors == 5
    assert re.search(reason, str(metrics.last_error))


def test_a_crash_loop_backs_off_and_says_so() -> None:
    deployment = mlnb.deploy(Fragile(), name="fragile", example=[[10.0]], replicas=1)
    assert [ask(deployment, 1.0).status_code for _ in range(3)] == [500, 500, 500]
    wait_until(lambda: any(one.state == "waiting" for one in deployment.snapshot().replicas))
    (one,) = deployment.snapshot().replicas
    assert "SIGSEGV" in one.note
    assert "the next start is in" in one.note
    wait_until(lambda: len(pids(deployment)) == 1, seconds=20)
    assert ask(deployment, 7.0).json()["prediction"] == [14.0]


def test_a_version_whose_replicas_cannot_start_leaves_the_old_one_live() -> None:
    deployment = numbered(replicas=2)
    with Load(deployment.url) as load:
        before = pids(deployment)
        with pytest.raises(MlnbError, match="ended before it was ready"):
            mlnb.deploy(Fragile(doomed=True), name="numbered", example=[[0.5]])
        load.more(200)
        assert failures(load.stop()) == {}
    assert deployment.version.number == 1
    assert pids(deployment) == before


@pytest.mark.parametrize("replicas", [1, 3])
def test_a_scale_that_cannot_start_replicas_leaves_all_as_it_was(home: Path, replicas: int) -> None:
    deployment = numbered(replicas=replicas - 1)
    before = pids(deployment)
    with Load(deployment.url) as load:
        blobs = home / "blobs"
        blobs.rename(home / "elsewhere")
        with pytest.raises(MlnbError):
            deployment.scale(replicas)
        load.more(200)
        (home / "elsewhere").rename(blobs)
        assert (deployment.replicas, pids(deployment)) == (replicas - 1, before)
        deployment.scale(replicas)
        load.more(200)
        assert failures(load.stop()) == {}
    assert len(pids(deployment)) == replicas
