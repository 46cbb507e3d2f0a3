from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlnb.packaging.horizontal import CURRENT, Horizontal, Pace, ServedApis, horizontal
from mlnb.packaging.subject import Measured
from mlnb.scaling.autoscale import Autoscale
from mlnb.scaling.policies.known import KubernetesHPA, RayServe
from mlnb.scaling.policies.latency import LatencyObjective
from mlnb.scaling.policies.queueing import latency_quantile
from mlnb.scaling.policies.schedule import Schedule
from mlnb.scaling.policies.stabilising import Rate
from mlnb.scaling.policies.threshold import CpuThreshold
from mlnb.scaling.policies.tracking import TargetTracking
from mlnb.scaling.service_time import ServiceTime

SCALED = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "iris"}
MEASURED = Measured(cores=0.5, service=0.01)


def _of(policy: Any, measured: Measured = MEASURED, **changes: Any) -> Horizontal:
    return horizontal(Autoscale(least=1, most=4, policy=policy), measured, **changes)


@pytest.mark.parametrize(
    ("policy", "cpu", "says"),
    [
        (TargetTracking(metric="utilisation", target=0.65), 65, "CPU at 65 % of what a pod asks for"),
        (TargetTracking(metric="cpu", target=40), 80, "a replica that always works uses 0.5 cores"),
        (TargetTracking(metric="cpu", target=70), 100, "140 % is more than a pod that always works uses"),
        (TargetTracking(metric="in-flight", target=3), 75, "an HPA knows no requests in flight"),
        (TargetTracking(metric="queue wait", target=0.01), 50, "an HPA knows no queue"),
        (CpuThreshold(threshold=30), 60, "Not translated: one fewer only below half of it"),
        (KubernetesHPA(target=45), 90, "CPU at 90 %"),
        (RayServe(target=1), 50, "an HPA knows no requests in flight"),
        (LatencyObjective(seconds=0.005), 70, "one row alone takes 19.3 ms, so no number of pods keeps it"),
    ],
)
def test_each_rule_becomes_a_share_of_the_cpu(policy: Any, cpu: int, says: str) -> None:
    found = _of(policy)
    assert found.cpu == cpu
    assert says in " ".join(found.said)
    assert found.said[0].lower().startswith(policy.words.lower())


def test_up_to_the_cpu_of_an_objective_one_pod_keeps_it() -> None:
    service = ServiceTime(fixed=0.01, spread=0.5)
    found = _of(LatencyObjective(seconds=0.05, aim=1.0))
    assert found.cpu == 60
    assert latency_quantile(0.59 * service.capacity, 1, service, 0.95) < 0.05
    assert latency_quantile(0.61 * service.capacity, 1, service, 0.95) > 0.05
    assert "a row takes 10 ms" in found.said[0]


@pytest.mark.parametrize(
    ("policy", "cpu"), [(LatencyObjective(seconds=0.05), 50), (TargetTracking(metric="queue wait", target=0.01), 70)]
)
def test_what_was_not_measured_is_said(policy: Any, cpu: int) -> None:
    found = _of(policy, Measured())
    assert found.cpu == cpu
    assert "how long a row takes was not measured" in found.said[0]


def test_a_rule_of_somebody_else_gets_the_usual_share() -> None:
    @dataclass(frozen=True)
    class Own:
        words: str = "when the moon is full"

        def controller(self) -> Any:
            raise NotImplementedError

    found = _of(Own())
    assert found.cpu == 70
    assert found.said[0].startswith("When the moon is full: this rule is not known here")


@pytest.mark.parametrize(
    ("policy", "up", "down"),
    [
        (TargetTracking(), Pace(window=0, pods=4), Pace(window=120)),
        (TargetTracking(up_window=20, down_window=9999), Pace(window=20, pods=4), Pace(window=3600)),
        (
            TargetTracking(up=Rate(seconds=30, replicas=2, factor=1.5), down=Rate(seconds=60, factor=4)),
            Pace(window=0, percent=50, pods=2, seconds=30), Pace(window=120, percent=75, pods=0, seconds=60),
        ),
        (
            CpuThreshold(pause=60), Pace(window=0, percent=0, pods=1, seconds=60),
            Pace(window=60, percent=0, pods=1, seconds=60),
        ),
        (KubernetesHPA(), Pace(window=0, pods=4), Pace(window=300)),
        (KubernetesHPA(factor=3, replicas=2), Pace(window=0, percent=200, pods=2), Pace(window=300)),
        (RayServe(), Pace(window=30, pods=4), Pace(window=600)),
        (LatencyObjective(seconds=0.1), Pace(window=0, pods=4), Pace(window=600)),
    ],
)  # fmt: skip
def test_windows_and_rates_go_along(policy: Any, up: Pace, down: Pace) -> None:
    found = _of(policy)
    assert (found.up, found.down) == (up, down)


def test_what_an_hpa_cannot_do_is_said() -> None:
    office = Schedule(2, days="weekdays", start="08:00", end="18:00")
    autoscale = Autoscale.of(0, 4, schedules=office, idle="10m", forecast=True)
    found = horizontal(autoscale, MEASURED)
    assert found.least == 1
    lost = [words for words in found.said if words.startswith("Not translated")]
    assert len(lost) == 3
    assert "an HPA acts on what is" in lost[0]
    assert "at least 2 on weekdays, 08:00 to 18:00; an HPA has no times" in lost[1]
    assert "none after 10m without a request; there is 1 pod at least" in lost[2]
    assert "a tolerance of 20%" in _of(TargetTracking(tolerance=0.2)).said[1]
    assert "how often it looks" in _of(KubernetesHPA(target=40, sync=5)).said[1]
    assert "factors of the difference" in _of(RayServe(up_factor=0.5)).said[1]


def test_requests_in_flight_are_followed_where_an_adapter_tells_them() -> None:
    policy = TargetTracking(metric="in-flight", target=2)
    assert len(_of(policy).spec(SCALED)["metrics"]) == 1
    found = _of(policy, processes=2, metrics_adapter=True)
    assert found.spec(SCALED)["metrics"][1] == {
        "type": "Pods",
        "pods": {
            "metric": {"name": "mlnb_in_flight_requests"},
            "target": {"type": "AverageValue", "averageValue": "4000m"},
        },
    }
    assert "mlnb_in_flight_requests at 4 per pod" in found.said[1]


@pytest.mark.parametrize(("processes", "bounds"), [(1, (3, 8)), (2, (2, 4)), (4, (1, 2)), (16, (1, 1))])
def test_a_pod_is_as_many_replicas_as_it_has_processes(processes: int, bounds: tuple[int, int]) -> None:
    found = horizontal(Autoscale.of(3, 8), MEASURED, processes=processes)
    assert (found.least, found.most) == bounds


def test_the_oldest_version_knows_the_bounds_and_the_cpu() -> None:
    found = _of(TargetTracking(target=0.6))
    assert found.spec(SCALED, api="autoscaling/v1") == {
        "scaleTargetRef": SCALED, "minReplicas": 1, "maxReplicas": 4, "targetCPUUtilizationPercentage": 60,
    }  # fmt: skip
    assert found.spec(SCALED, api="autoscaling/v2beta2") == found.spec(SCALED)
    assert found.said_for("autoscaling/v1")[-1].startswith("autoscaling/v1 has no windows")
    assert found.said_for("autoscaling/v2") == found.said


@pytest.mark.parametrize(
    ("served", "expected"),
    [
        (["autoscaling/v1", "autoscaling/v2", "policy/v1", "policy/v1beta1"], CURRENT),
        (["autoscaling/v1", "autoscaling/v2beta1", "autoscaling/v2beta2", "policy/v1beta1"],
         ServedApis(hpa="autoscaling/v2beta2", pdb="policy/v1beta1")),
        (["autoscaling/v1", "policy/v1"], ServedApis(hpa="autoscaling/v1", pdb="policy/v1")),
        (["apps/v1"], ServedApis(hpa="", pdb="")),
    ],
)  # fmt: skip
def test_the_best_version_that_is_served_is_taken(served: list[str], expected: ServedApis) -> None:
    assert ServedApis.of(served) == expected


_seconds = st.floats(0.001, 5000)
_rates = st.none() | st.builds(Rate, seconds=_seconds, replicas=st.integers(1, 9), factor=st.floats(1, 9))
_policies = st.one_of(
    st.builds(TargetTracking, target=st.floats(0.001, 1), up=_rates, down=_rates, up_window=_seconds),
    st.builds(TargetTracking, metric=st.sampled_from(["in-flight", "cpu", "queue wait"]), target=st.floats(1e-6, 1e6)),
    st.builds(CpuThreshold, threshold=st.floats(1, 1e4), pause=st.floats(0, 1e5)),
    st.builds(KubernetesHPA, target=st.floats(1, 1e4), factor=st.floats(1, 100), stabilisation=st.floats(0, 1e5)),
    st.builds(RayServe, target=st.floats(0.001, 1e4), up_delay=_seconds, down_delay=_seconds),
    st.builds(LatencyObjective, seconds=st.floats(1e-5, 60), quantile=st.sampled_from([0.5, 0.95, 0.99])),
)
_measured = st.builds(
    Measured, cores=st.none() | st.floats(0, 64), service=st.none() | st.floats(1e-5, 10), memory=st.none()
)


@given(_policies, _measured, st.integers(0, 64), st.integers(0, 64), st.integers(1, 8))
@example(CpuThreshold(threshold=1.0, pause=0.0), Measured(cores=5e-324), 0, 1, 1)
def test_whatever_is_translated_a_cluster_takes(
    policy: Any, measured: Measured, least: int, more: int, processes: int
) -> None:
    autoscale = Autoscale(least=least, most=max(1, least + more), policy=policy)
    found = horizontal(autoscale, measured, processes=processes, metrics_adapter=True)
    assert 1 <= found.least <= found.most
    assert 1 <= found.cpu <= 100
    assert all(words.endswith(".") and "{" not in words for words in found.said)
    for rules in found.spec(SCALED)["behavior"].values():
        assert 0 <= rules["stabilizationWindowSeconds"] <= 3600
        assert rules["policies"]
        assert all(rule["value"] >= 1 and 1 <= rule["periodSeconds"] <= 1800 for rule in rules["policies"])
