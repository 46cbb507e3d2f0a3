from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest

from mlnb.errors import InvalidInputError
from mlnb.scaling.autoscale import Autoscale, replicas_of
from mlnb.scaling.policies.forecast import Forecast
from mlnb.scaling.policies.known import KubernetesHPA, RayServe
from mlnb.scaling.policies.latency import LatencyObjective
from mlnb.scaling.policies.schedule import Schedule
from mlnb.scaling.policies.threshold import CpuThreshold
from mlnb.scaling.policies.tracking import TargetTracking


@pytest.mark.parametrize(
    ("given", "policy"),
    [
        ({}, TargetTracking(metric="utilisation", target=0.7)),
        ({"target": 0.5}, TargetTracking(metric="utilisation", target=0.5)),
        ({"policy": "utilisation", "target": 1}, TargetTracking(metric="utilisation", target=1.0)),
        ({"policy": "in-flight", "target": 3}, TargetTracking(metric="in-flight", target=3.0)),
        ({"policy": "queue wait", "target": "20ms"}, TargetTracking(metric="queue wait", target=0.02)),
        ({"policy": "queue wait", "target": 20}, TargetTracking(metric="queue wait", target=0.02)),
        ({"policy": "cpu", "target": 60}, TargetTracking(metric="cpu", target=60.0)),
        ({"policy": "cpu threshold"}, CpuThreshold()),
        ({"policy": "cpu threshold", "target": 50}, CpuThreshold(threshold=50.0)),
        ({"policy": "kubernetes"}, KubernetesHPA()),
        ({"policy": "kubernetes", "target": 50}, KubernetesHPA(target=50.0)),
        ({"policy": "ray"}, RayServe()),
        ({"policy": "ray", "target": 5}, RayServe(target=5.0)),
        ({"policy": RayServe(target=3)}, RayServe(target=3)),
        ({"p95": "50ms"}, LatencyObjective(seconds=0.05, quantile=0.95)),
        ({"p95": 50}, LatencyObjective(seconds=0.05, quantile=0.95)),
        ({"p99": "0.2s"}, LatencyObjective(seconds=0.2, quantile=0.99)),
        ({"p95": "50ms", "forecast": True}, LatencyObjective(seconds=0.05, quantile=0.95, forecast=Forecast())),
        ({"forecast": True}, TargetTracking(metric="utilisation", target=0.7, forecast=Forecast())),
    ],
)
def test_the_policy_that_is_asked_for(given: dict[str, Any], policy: Any) -> None:
    assert Autoscale.of(1, 4, **given).policy == policy


@pytest.mark.parametrize(
    "name", ["utilisation", "in-flight", "queue wait", "cpu", "cpu threshold", "kubernetes", "ray"]
)
def test_every_name_has_a_target_of_its_own(name: str) -> None:
    autoscale = Autoscale.of(1, 4, policy=name)
    assert autoscale.policy.words
    assert pickle.loads(pickle.dumps(autoscale)) == autoscale


@pytest.mark.parametrize(
    ("bounds", "says"),
    [
        ((4, 1), "At least 4 and at most 1 replicas cannot both hold; did you mean 1 to 4?"),
        ((-1, 4), "least=-1 replicas: a whole number from 0 to 64 is needed."),
        ((1, 65), "most=65"),
        ((0, 0), "most=0 replicas: a whole number from 1 to 64"),
        ((True, 4), "least=True"),
        ((1, 2.0), "most=2.0"),
        ((1, "4"), "most='4'"),
        ((None, 4), "least=None"),
        ((1, None), "most=None"),
        (("1:4", 4), "least='1:4': two numbers are meant: autoscale(1, 4)."),
        (((0, 3), 4), "least=(0, 3): two numbers are meant: autoscale(0, 3)."),
        (([1, 70], 4), "least=[1, 70] replicas: a whole number from 0 to 64"),
        (("3", 4), "least='3' replicas: a whole number from 0 to 64"),
        ((np.True_, 4), "least=np.True_"),
        ((1, np.float64(2)), "most=np.float64(2.0)"),
    ],
)
def test_bounds_that_cannot_be_are_refused(bounds: tuple[Any, Any], says: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        Autoscale.of(*bounds)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"target": -1}, "target=-1: a share above 0 and up to 1 is needed for 'utilisation', such as 0.7."),
        ({"target": 0}, "target=0"),
        ({"target": 70}, "target=70: a share"),
        ({"target": True}, "target=True"),
        ({"target": math.nan}, "target=nan"),
        ({"target": "0.7"}, "target='0.7'"),
        ({"policy": "in-flight", "target": -2}, "target=-2: a number above 0 is needed for 'in-flight'."),
        ({"policy": "ray", "target": math.inf}, "target=inf"),
        ({"policy": "queue wait", "target": "20"}, "target='20': milliseconds above 0 are needed"),
        ({"p95": 0}, "p95=0: milliseconds above 0"),
        ({"p95": -5}, "p95=-5"),
        ({"p95": "fast"}, "p95='fast'"),
        ({"p95": True}, "p95=True"),
        ({"p99": math.nan}, "p99=nan"),
        ({"p95": 50, "target": 0.7}, "p95 and target cannot be followed at once"),
        ({"p95": 50, "policy": "ray"}, "p95 and policy cannot be followed at once"),
        ({"p95": 50, "p99": 90}, "p95 and p99 cannot be followed at once"),
        ({"policy": "utilization"}, "did you mean 'utilisation'?"),
        ({"policy": "p95"}, "policy='p95': it is an objective of its own; give p95=\"50ms\" instead."),
        ({"policy": "p99", "forecast": True}, 'give p99="50ms" instead'),
        ({"policy": "hpa"}, "there is no such policy; there are: cpu, cpu threshold, in-flight"),
        ({"policy": 5}, "policy=5 is none; give a ScalingPolicy, or the name of one: utilisation, in-flight"),
        ({"policy": RayServe}, "RayServe'> is none"),
        ({"policy": RayServe(), "target": 5}, "given whole has its own target"),
        ({"policy": RayServe(), "forecast": True}, "given whole has its own target"),
        ({"policy": "ray", "forecast": True}, "forecast=True: 'ray' has none"),
        ({"idle": "soon"}, "idle='soon': a number of seconds is needed"),
        ({"idle": -1}, "idle=-1"),
        ({"schedules": 5}, "schedules: 5 is none"),
        ({"schedules": ["weekdays"]}, "schedules: 'weekdays' is none; give Schedule(2"),
        ({"schedules": Schedule(5)}, "at least 5 replicas where there are at most 4"),
        ({"schedules": Schedule(1, 65)}, "most=65 replicas"),
    ],
)
def test_what_does_not_go_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        Autoscale.of(1, 4, **given)
    assert says in str(caught.value)


def test_bounds_of_the_value_itself_are_checked_and_may_go_beyond_one_machine() -> None:
    assert Autoscale(least=1, most=10_000, policy=RayServe()).most == 10_000
    with pytest.raises(InvalidInputError, match="did you mean 1 to 2"):
        Autoscale(least=2, most=1, policy=RayServe())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"interval": 0}, "interval=0: a number of seconds from 0.05 is needed"),
        ({"interval": 0.04}, "interval=0.04"),
        ({"interval": -1}, "interval=-1"),
        ({"interval": math.nan}, "interval=nan"),
        ({"interval": "1s"}, "interval='1s'"),
        ({"idle": math.nan}, "idle=nan: a number of seconds from 0 is needed"),
        ({"idle": -1}, "idle=-1"),
        ({"idle": math.inf}, "idle=inf"),
        ({"idle": "5m"}, "idle='5m': a number of seconds from 0 is needed"),
        ({"policy": "utilisation"}, "policy='utilisation': a ScalingPolicy is needed; Autoscale.of takes names too."),
        ({"policy": RayServe}, "RayServe'>: a ScalingPolicy is needed"),
        ({"policy": None}, "policy=None: a ScalingPolicy is needed"),
    ],
)
def test_the_rest_of_the_value_itself_is_checked(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        Autoscale(**{"least": 1, "most": 2, "policy": RayServe(), **given})
    assert says in str(caught.value)


def test_whole_numbers_of_any_kind_are_bounds() -> None:
    least, most = np.int64(1), np.uint8(4)
    autoscale = Autoscale.of(least, most, schedules=Schedule(np.int32(2), np.int64(3)))  # type: ignore[arg-type]
    counts = autoscale.least, autoscale.most, autoscale.schedules[0].least, autoscale.schedules[0].most
    assert counts == (1, 4, 2, 3)
    assert {type(count) for count in counts} == {int}
    assert autoscale == Autoscale.of(1, 4, schedules=Schedule(2, 3))
    assert Autoscale(least=np.int64(2), most=np.int64(2), policy=RayServe()).words.startswith("2 replicas")  # type: ignore[arg-type]


def test_schedules_and_idle_times() -> None:
    weekdays, nights = Schedule(2, days="weekdays"), Schedule(0, 1, start="22:00", end="06:00")
    assert Autoscale.of(1, 4, schedules=weekdays).schedules == (weekdays,)
    assert Autoscale.of(1, 4, schedules=[weekdays, nights]).schedules == (weekdays, nights)
    assert Autoscale.of(1, 4, schedules=(Schedule(6, 8),)).schedules[0].most == 8
    assert [Autoscale.of(0, 4, idle=idle).idle for idle in ("5m", 20, "0s")] == [300.0, 20.0, 0.0]


@pytest.mark.parametrize(
    ("autoscale", "words"),
    [
        (Autoscale.of(1, 4, p95="50ms"), "1 to 4 replicas, p95 under 50 ms"),
        (Autoscale.of(1, 1, policy="ray"), "1 replica, Ray Serve, 2 requests per replica"),
        (
            Autoscale.of(0, 1, policy="ray"),
            "0 to 1 replicas, Ray Serve, 2 requests per replica, none after 5m without a request",
        ),
        (
            Autoscale.of(3, 3, policy="kubernetes", schedules=Schedule(2)),
            "3 replicas, Kubernetes HPA, CPU at 80 %, at least 2 every day",
        ),
    ],
)
def test_words(autoscale: Autoscale, words: str) -> None:
    assert autoscale.words == words


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (3, 3),
        (0, 0),
        ("3", 3),
        (" 3 ", 3),
        ("1:4", (1, 4)),
        (" 1 : 4 ", (1, 4)),
        ("0:1", (0, 1)),
        ((1, 4), (1, 4)),
        ([2, 2], (2, 2)),
        ("64", 64),
    ],
)
def test_replicas_are_a_number_or_a_range(given: Any, read: int | tuple[int, int]) -> None:
    assert replicas_of(given) == read


def test_replicas_are_plain_numbers_afterwards() -> None:
    one, pair = replicas_of(np.int64(3)), replicas_of((np.int64(1), np.int64(4)))
    assert (one, pair) == (3, (1, 4))
    assert isinstance(pair, tuple)
    assert {type(count) for count in (one, *pair)} == {int}


@pytest.mark.parametrize(
    "given",
    [
        -1,
        65,
        True,
        np.True_,
        2.0,
        np.float64(3),
        np.int64(65),
        None,
        "",
        "x",
        "-1",
        "1:",
        ":4",
        "1:4:2",
        "1-4",
        "65",
        (1,),
        (1, 2, 3),
        {1, 4},
        "٣",
    ],
)
def test_what_is_neither_is_refused(given: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"replicas=.*whole number from 0 to 64 is needed, or least and most"):
        replicas_of(given)


@pytest.mark.parametrize("given", ["4:1", (4, 1), (1, 65), "1:65", (True, 4), (1, 2.5), "0:0"])
def test_ranges_that_cannot_be_are_refused(given: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"cannot both hold|whole number"):
        replicas_of(given)
