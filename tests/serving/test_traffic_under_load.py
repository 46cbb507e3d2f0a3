"""What 64 connections see while their requests are split, copied, and shared with a canary: no failure, ever."""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from loading import Asked, Load, Numbered, failures
from misbehaving import Misbehaving
from waiting import wait_until

import mlnb
from mlnb.errors import MlnbError
from mlnb.monitoring.sequences import exceeds

pytestmark = pytest.mark.alone


def two_versions(second: Any = None, **options: Any) -> mlnb.Deployment:
    """Deploy version 1, and have a version 2."""
    deployment = mlnb.deploy(Numbered(1), name="numbered", example=[[0.5]], **options)
    deployment.registry.register(second or Numbered(2), "numbered", example=[[0.5]])
    return deployment


def numbers(deployment: mlnb.Deployment) -> set[int]:
    """Return the versions that may answer now."""
    assert deployment._hosted is not None
    return {one.version.number for one in deployment._hosted.variants}


class Story:
    """A deployment, and which versions may have answered when."""

    def __init__(self, deployment: mlnb.Deployment) -> None:
        self.deployment = deployment
        self.spans = [(numbers(deployment), float("-inf"))]

    def do(self, action: Callable[[], object]) -> bool:
        """Do what may be refused, in which case nothing changes; say whether it was done."""
        before, shares = numbers(self.deployment), self.shares
        started = time.monotonic()
        try:
            action()
        except MlnbError:
            assert self.shares == shares
            return False
        after = numbers(self.deployment)
        self.spans += [(before | after, started), (after, time.monotonic())]
        return True

    @property
    def shares(self) -> dict[int, float]:
        traffic = self.deployment.traffic
        assert traffic is not None
        return traffic.shares

    def settle(self) -> None:
        """Wait until a canary has ended by itself."""
        before, started = numbers(self.deployment), time.monotonic()
        wait_until(lambda: self.deployment._served.canary is None)
        self.spans += [(before, started), (numbers(self.deployment), time.monotonic())]

    def wrong(self, answers: Iterable[Asked]) -> list[Asked]:
        """Return the answers of versions that were not to answer at any instant between request and answer."""
        ends = [since for _, since in self.spans[1:]] + [float("inf")]
        spans = [(versions, since, until) for (versions, since), until in zip(self.spans, ends, strict=True)]
        return [
            one
            for one in answers
            if not any(
                one.version in who and since <= one.received and until >= one.sent for who, since, until in spans
            )
        ]


def _may_answer(one: Asked, versions: set[int], since: float, until: float) -> bool:
    return one.version in versions and since <= one.received and until >= one.sent


# ---- any change, in any order ----


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in (2, 3))])
def test_changes_of_traffic_in_any_order(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - an order that can be had again
    deployment = two_versions()
    story = Story(deployment)

    def other() -> int:
        return 3 - deployment.version.number

    def deploy() -> None:
        mlnb.deploy(f"numbered:{other()}", replicas=deployment.replicas)

    def quick_canary() -> None:
        deployment.canary(other(), steps=(30, 100), hold=0.1)

    changes: list[Callable[[], object]] = [
        deploy,
        quick_canary,
        lambda: deployment.split({1: rng.randint(0, 9), 2: rng.randint(1, 9)}),
        lambda: deployment.split({1: 1, 2: 1}),
        lambda: deployment.shadow(other()),
        lambda: deployment.shadow(None),
        lambda: deployment.canary(other(), steps=(30, 100), hold="10m"),
        lambda: deployment.promote(rng.choice([1, 2])),
        deployment.rollback,
        lambda: deployment.rollback(to=rng.choice([1, 2])),
        lambda: deployment.scale(0),
        lambda: deployment.scale(1),
        lambda: deployment.scale(2),
    ]
    with Load(deployment.url) as load:
        done = 0
        while done < 14:
            action = rng.choice(changes)
            done += story.do(action)
            load.more(100)
            if action is quick_canary and deployment._served.canary is not None and deployment._served.canary.hold < 1:
                story.settle()
        answers = load.stop()
    assert failures(answers) == {}
    assert story.wrong(answers) == []
    assert {one.version for one in answers} == {1, 2}
    assert deployment.metrics().errors == 0
    assert deployment.metrics().requests == len(answers)


@pytest.mark.parametrize("replicas", [0, 1])
def test_shares_and_keys_hold_while_the_server_moves(replicas: int) -> None:
    deployment = two_versions(replicas=replicas)
    deployment.split({1: 75, 2: 25})
    with Load(deployment.url) as load:
        load.more(1500)
        deployment.scale(1 - replicas)
        load.more(1500)
        answers = load.stop()
    assert failures(answers) == {}
    share = np.mean([one.version == 2 for one in answers])
    assert abs(share - 0.25) < 5 * (0.25 * 0.75 / len(answers)) ** 0.5
    traffic = deployment.traffic
    assert traffic is not None
    assert sum(count.requests for count in traffic.counts.values()) == len(answers)


# ---- roll back ----


def to_split(deployment: mlnb.Deployment) -> None:
    deployment.split({1: 50, 2: 50})


def to_canary(deployment: mlnb.Deployment) -> None:
    deployment.canary(2, steps=(50, 100), hold="10m")


def to_deploy(_: mlnb.Deployment) -> None:
    mlnb.deploy("numbered:2")


@pytest.mark.parametrize("replicas", [0, 1])
@pytest.mark.parametrize("begin", [to_split, to_canary, to_deploy])
def test_a_roll_back_ends_the_bad_version_at_once(
    replicas: int, begin: Callable[[mlnb.Deployment], None], record_property: Callable[[str, object], None]
) -> None:
    deployment = two_versions(replicas=replicas)
    spans = []
    with Load(deployment.url) as load:
        for _ in range(5):
            begin(deployment)
            load.more(200)
            called = time.monotonic()
            deployment.rollback(reason="it is bad")
            load.more(200)
            spans.append((called, time.monotonic()))
            assert deployment.version.number == 1
        answers = load.stop()
    assert failures(answers) == {}
    last = [max(one.received - called for one in answers if one.version == 2 and one.received < until)
            for called, until in spans]  # fmt: skip
    record_property("milliseconds", [round(seconds * 1e3) for seconds in last])
    assert statistics.median(last) < 0.1


# ---- a canary that fails ----


@pytest.mark.parametrize("replicas", [0, 1])
def test_a_canary_that_fails_is_taken_back_while_a_cell_computes(
    replicas: int, record_property: Callable[[str, object], None]
) -> None:
    deployment = two_versions(Misbehaving(2, "fails", share=0.2), replicas=replicas)
    with Load(deployment.url, connections=16) as load:  # so few that the kernel is not overloaded, cell and all
        load.more(100)
        began = time.monotonic()
        deployment.canary(2, steps=(10, 50, 100), hold="10m")
        end = time.monotonic() + 15
        while deployment._served.canary is not None and time.monotonic() < end:
            sum(range(10_000))  # a cell that computes in Python
        load.more(300)
        answers = load.stop()
    assert deployment.version.number == 1
    assert deployment._served.canary is None
    meanwhile = sorted((one for one in answers if one.sent >= began), key=lambda one: one.received)
    hit = [one for one in meanwhile if one.version != 1]
    assert {one.status for one in hit if not one.good} == {500}
    counts = np.cumsum([not one.good for one in hit])
    evident = next(
        one.received
        for number, (one, errors) in enumerate(zip(hit, counts, strict=True), start=1)
        if exceeds(int(errors), number, limit=0.05, alpha=0.01)
    )
    late = hit[-1].received - evident
    record_property("milliseconds", round(late * 1e3))
    assert late < 2
    during = [one for one in meanwhile if one.received <= hit[-1].received]
    assert len(hit) / len(during) < 0.1 + 5 * (0.1 * 0.9 / len(during)) ** 0.5
    assert failures([one for one in answers if one.sent > hit[-1].received]) == {}
    wait_until(lambda: deployment.registry.history("numbered")[-1].action != "canary")
    last = deployment.registry.history("numbered")[-1]
    assert (last.action, last.version) == ("taken back", 2)
    assert "errors" in last.reason


@pytest.mark.parametrize("replicas", [0, 1])
def test_a_canary_that_is_good_becomes_live(replicas: int) -> None:
    deployment = two_versions(replicas=replicas)
    story = Story(deployment)
    with Load(deployment.url) as load:
        assert story.do(lambda: deployment.canary(2, steps=(5, 25, 100), hold=0.2))
        story.settle()
        load.more(200)
        answers = load.stop()
    assert failures(answers) == {}
    assert story.wrong(answers) == []
    assert answers[-1].version == deployment.version.number == 2
    wait_until(lambda: deployment.registry.history("numbered")[-1].action == "promoted")


def test_a_canary_goes_on_where_it_was_when_the_server_moves() -> None:
    deployment = two_versions()
    with Load(deployment.url) as load:
        deployment.canary(2, steps=(20, 50, 80), hold=0.3)
        wait_until(lambda: deployment.traffic.canary.step == 1)  # type: ignore[union-attr]
        deployment.scale(1)
        assert deployment.traffic.canary.step >= 1  # type: ignore[union-attr]
        wait_until(lambda: deployment.traffic.canary.step == 2)  # type: ignore[union-attr]
        deployment.scale(0)
        assert deployment.traffic.canary.step == 2  # type: ignore[union-attr]
        assert deployment.traffic.shares == pytest.approx({1: 0.2, 2: 0.8})  # type: ignore[union-attr]
        deployment.promote()
        load.more(200)
        answers = load.stop()
    assert failures(answers) == {}
    assert deployment.version.number == 2


@pytest.mark.parametrize("replicas", [0, 1])
def test_a_roll_back_at_the_moment_at_which_a_canary_ends_by_itself(replicas: int) -> None:
    deployment = two_versions(replicas=replicas)
    with Load(deployment.url, connections=16) as load:
        for _ in range(5):
            deployment.canary(2, steps=(50, 100), hold=0.05)
            turn = deployment._workspace._turns["numbered"]
            with turn:  # nobody can write down what the server has done
                wait_until(lambda: deployment.traffic.canary is None)  # type: ignore[union-attr]
                called = threading.Thread(target=deployment.rollback, kwargs={"to": 1})
                called.start()
            called.join()
            wait_until(lambda: deployment._served.canary is None)
            with suppress(MlnbError):
                deployment.rollback(to=1)
            load.more(50)
            assert deployment.traffic.shares == {1: 1.0}  # type: ignore[union-attr]
            assert deployment.version.number == 1
        answers = load.stop()
    assert failures(answers) == {}


# ---- a shadow that misbehaves ----


@pytest.mark.parametrize("replicas", [0, 1])
@pytest.mark.parametrize(
    "shadow",
    [Misbehaving(2, "hangs"), Misbehaving(2, "crashes", share=0.05), Misbehaving(2, "is slow", seconds=0.1)],
    ids=lambda shadow: shadow.way,
)
def test_a_shadow_that_misbehaves_is_noticed_by_nobody(replicas: int, shadow: Misbehaving) -> None:
    deployment = two_versions(shadow, replicas=replicas, timeout=2)
    with Load(deployment.url) as load:
        load.more(1500)
        began = time.monotonic()
        deployment.shadow(2)
        ready = time.monotonic()
        load.more(3000)
        ended = time.monotonic()
        if shadow.way == "crashes":  # in its own time: it runs when nothing else wants to
            wait_until(lambda: "SIGSEGV" in deployment.traffic.shadow.trouble, seconds=60)  # type: ignore[union-attr]
        seen = deployment.traffic.shadow  # type: ignore[union-attr]
        deployment.shadow(None)
        load.more(100)
        answers = load.stop()
    assert failures(answers) == {}
    assert {one.version for one in answers} == {1}
    before = [one.received - one.sent for one in answers if one.received < began]
    during = [one.received - one.sent for one in answers if ready < one.sent < ended]
    p99s = [float(np.quantile(times, 0.99)) * 1e3 for times in (before, during)]
    assert p99s[1] < 2 * p99s[0] + 5
    assert seen is not None
    if shadow.way != "crashes":
        assert seen.summary.compared + seen.summary.failed < 1500  # it was given no more than it could take
