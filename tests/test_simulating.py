from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mlnb
from mlnb.errors import InvalidInputError
from mlnb.scaling.autoscale import Autoscale
from mlnb.scaling.policies.schedule import Schedule
from mlnb.scaling.policies.threshold import CpuThreshold
from mlnb.scaling.service_time import ServiceTime
from mlnb.scaling.simulation.load import Load
from mlnb.workspace.simulating import Simulation, SimulationTable, simulate

STEP = Load.step(10, 90, at=30, seconds=90)


def one(given: Simulation | SimulationTable) -> Simulation:
    assert isinstance(given, Simulation)
    return given


def several(given: Simulation | SimulationTable) -> SimulationTable:
    assert isinstance(given, SimulationTable)
    return given


def test_one_policy_shows_what_it_did_and_why() -> None:
    made = one(simulate(STEP, service="20ms", p95="60ms"))
    lines = repr(made).splitlines()
    assert lines[0].startswith("Simulated: step from 10 to 90 requests/s for 90s, ")
    assert lines[0].endswith("one takes 20 ms · p95 under 60 ms")
    assert lines[2].split("  ")[0] == "over 60 ms"
    assert "→" in repr(made)
    assert max(map(len, lines)) <= 120
    html = made._repr_html_()
    assert "→" in html
    assert "text-align: right" in html
    assert made.outcome.decisions[0].reason.split(",")[0] in html


def test_a_frame_has_a_row_for_each_interval() -> None:
    made = one(simulate(STEP, service=ServiceTime(fixed=0.02, most_rows=2)))
    frame = made.frame()
    assert len(frame) == 180
    assert frame["at"].iloc[-1] == 90
    assert frame["rate"].sum() / 2 == pytest.approx(made.outcome.requests)
    assert (frame["capacity"] == 100 * frame["ready"]).all()
    decisions = made.decisions()
    assert len(decisions) == made.outcome.changes
    assert (decisions["before"] != decisions["desired"]).all()


def test_several_policies_are_compared_on_the_same_requests() -> None:
    table = several(simulate(STEP, [None, "kubernetes", "ray", 4], service="20ms", p95="60ms", seed=3))
    assert len(table) == 4
    assert [made.name for made in table][3] == "4 replicas"
    assert len({made.outcome.requests for made in table}) == 1
    assert table["4 replicas"].outcome.replica_seconds == pytest.approx(360)
    assert table[3].outcome.changes == 0
    assert len(table[:2]) == 2
    frame = table.frame()
    assert frame["policy"].tolist() == [made.name for made in table]
    assert frame["over"].tolist() == [made.outcome.over for made in table]
    lines = repr(table).splitlines()
    assert len(lines) == 7
    assert lines[2].split()[0] == "policy"
    assert max(map(len, lines)) <= 120
    assert table._repr_html_().count("<tr>") == 5


def test_policies_have_the_names_they_are_given_or_else_names_that_differ() -> None:
    named = several(simulate(STEP, {"calm": 2, "busy": Autoscale.of(1, 8, target=0.3)}, service=20))
    assert [made.name for made in named] == ["calm", "busy"]
    assert named["busy"].autoscale.most == 8
    same = several(simulate(STEP, [2, 2], service=20))
    assert [made.name for made in same] == ["2 replicas", "2 replicas (2)"]


def test_charts_are_drawn() -> None:
    table = several(simulate(STEP, ["utilisation", "ray"], service="20ms", p95="60ms"))
    assert len(table.figure().data) > 2
    assert len(table[0].figure().data) > 2


def test_bounds_schedules_and_machines_hold() -> None:
    nine = datetime(2026, 1, 5, 9, tzinfo=UTC)
    schedule = Schedule(3, days="weekdays", start="08:00", end="18:00", zone="UTC")
    office = one(simulate(Load.steady(2, seconds=20), service=20, schedules=[schedule], start=nine))
    assert office.outcome.timeline.desired.min() == 3
    night = one(simulate(Load.steady(2, seconds=20), service=20, schedules=[schedule], start=nine.timestamp() - 30_000))
    assert night.outcome.most == 1
    assert one(simulate(STEP, service="100ms", replicas=(1, 6), limit=2)).outcome.most == 2
    assert one(simulate(STEP, service="100ms", replicas=3)).outcome.replica_seconds == pytest.approx(270)


def test_none_is_there_when_nobody_asks() -> None:
    made = one(simulate([0.0, 100.0, 200.0], service="20ms", replicas="0:2", idle="20s", startup="2s"))
    assert made.outcome.woken == 2
    assert made.outcome.p99 == pytest.approx(2020)
    assert "woken" in repr(made)
    assert "wake-up" in repr(made)


def test_many_decisions_are_shown_in_part() -> None:
    threshold = CpuThreshold(pause=5.0)
    made = one(simulate(Load.sine(5, 90, period=60, seconds=900), threshold, service="40ms", replicas="1:8"))
    assert made.outcome.changes > 9
    assert f"{made.outcome.changes - 8} more: .decisions()" in repr(made)


def test_a_log_is_a_load() -> None:
    at = pd.to_datetime(1_767_600_000 + np.sort(np.random.default_rng(0).uniform(0, 60, 600)), unit="s", utc=True)
    log = pd.DataFrame({"at": at, "request_id": [f"{number}" for number in range(600)], "latency_ms": 20.0})

    class Deployment:
        def log(self) -> pd.DataFrame:
            return log

    given: Any = Deployment()
    assert one(simulate(given, service="20ms")).outcome.requests == 600
    assert one(simulate(log, service="20ms")).outcome.requests == 600


def test_a_deployment_knows_itself_what_requests_take() -> None:
    class Deployment:
        simulate = log = staticmethod(pd.DataFrame)

    given: Any = Deployment()
    with pytest.raises(InvalidInputError, match=r"use deployment\.simulate\(\.\.\.\)"):
        simulate(given)


def test_whole_numbers_of_numpy_are_whole_numbers() -> None:
    three: Any = np.int64(3)
    assert one(simulate(STEP, three, service=20)).name == "3 replicas"
    assert one(simulate(STEP, service=20, replicas=three)).outcome.most == 3
    assert one(simulate(STEP, service=20, replicas=(np.int64(1), three), initial=three, limit=three, seed=three))
    assert Load.noise(5, seed=three).seconds == 600
    assert Load.day(5, days=three).seconds == 3 * 86_400


def test_an_objective_may_be_as_far_as_it_likes() -> None:
    for policy in (None, 1):
        made = one(simulate(Load.steady(90, seconds=20), policy, service="20ms", p95=1e300))
        assert made.outcome.over == 0


def test_needs_are_those_of_the_same_service_and_objective() -> None:
    made = simulate(STEP, ["ray"], service="20ms", p95="60ms")
    assert "95 % within 60 ms" in repr(made.needs())
    (need,) = made.needs([500], memory=10**8)
    assert need.memory is not None
    assert "70 %" in repr(simulate(STEP, service="20ms").needs())


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: simulate(STEP), "service="),
        (lambda: simulate(STEP, service=0), "milliseconds above 0"),
        (lambda: simulate(STEP, service=ServiceTime(fixed=0)), "service time of 0"),
        (lambda: simulate(STEP, service="fast"), "service='fast'"),
        (lambda: simulate(STEP, "kubernets", service=20), "did you mean 'kubernetes'"),
        (lambda: simulate(STEP, [], service=20), "no policies to compare"),
        (lambda: simulate(STEP, True, service=20), "True is no policy"),
        (lambda: simulate(STEP, service=20, replicas="4:1"), "did you mean 1 to 4"),
        (lambda: simulate(STEP, service=20, p95="-1ms"), "p95="),
        (lambda: simulate(STEP, service=20, interval=0), "interval=0"),
        (lambda: simulate(STEP, service=20, startup="x"), "startup='x'"),
        (lambda: simulate(STEP, service=20, initial=-1), "initial=-1"),
        (lambda: simulate(STEP, service=20, limit=1.5), "limit=1.5"),  # type: ignore[arg-type]
        (lambda: simulate(STEP, service=20, start="noon"), "start='noon'"),  # type: ignore[arg-type]
        (lambda: simulate("much", service=20), "'much' is no load"),  # type: ignore[arg-type]
        (lambda: simulate(3, service=20), "3 is no load"),  # type: ignore[arg-type]
        (lambda: simulate([], service=20), "There are no requests"),
        (lambda: simulate(STEP, service=20, seed=-1), "seed=-1: a whole number from 0"),
        (lambda: simulate(STEP, service=20, seed="x"), "seed='x'"),  # type: ignore[arg-type]
        (lambda: simulate(STEP, service=20, initial=np.bool_(1)), "initial="),  # type: ignore[arg-type]
        (lambda: simulate(Load.steady(0.1, seconds=20 * 86_400), service=20), "interval=1, or"),
    ],
)  # fmt: skip
def test_what_cannot_be_simulated_is_refused_in_words(call: Callable[[], Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        call()


class Slow:
    """Takes 10 ms for a row."""

    def predict(self, rows: Any) -> Any:
        time.sleep(0.01 * len(rows))
        return np.zeros(len(rows))


def test_a_deployment_simulates_its_own_requests() -> None:
    with mlnb.deploy(Slow(), name="slow", example=[[0.0]]) as deployment:
        with pytest.raises(InvalidInputError, match="no request"):
            deployment.simulate(service="10ms")
        for _ in range(30):
            deployment.predict([[1.0]])
        found = several(deployment.simulate({"one": 1, "two": 2}, p95="50ms"))
        assert [one.name for one in found] == ["one", "two"]
        assert {one.outcome.requests for one in found} == {30}
        assert found[0].service.of(1) == pytest.approx(0.01, rel=0.5)  # as it was measured
        assert one(deployment.simulate(service="10ms")).autoscale == Autoscale.of(1, 4)
        deployment.autoscale(1, 3, p95="80ms", idle="1m")
        assert one(deployment.simulate(service="10ms")).autoscale == Autoscale.of(1, 3, p95="80ms", idle="1m")
        other = one(deployment.simulate(service="10ms", replicas="2:5")).autoscale
        assert (other.least, other.most, other.policy.words) == (2, 5, "p95 under 80 ms")
