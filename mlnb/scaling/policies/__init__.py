"""Rules by which replicas follow load: deciders, the same live, in a simulation and on a recorded trace."""

from __future__ import annotations

from mlnb.scaling.policies.decision import Controller, ScalingDecision, ScalingPolicy, ScalingSample
from mlnb.scaling.policies.forecast import Forecast
from mlnb.scaling.policies.known import KubernetesHPA, RayServe
from mlnb.scaling.policies.latency import LatencyObjective
from mlnb.scaling.policies.schedule import Schedule
from mlnb.scaling.policies.threshold import CpuThreshold
from mlnb.scaling.policies.tracking import TargetTracking

__all__ = [
    "Controller",
    "CpuThreshold",
    "Forecast",
    "KubernetesHPA",
    "LatencyObjective",
    "RayServe",
    "ScalingDecision",
    "ScalingPolicy",
    "ScalingSample",
    "Schedule",
    "TargetTracking",
]
