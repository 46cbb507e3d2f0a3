"""The rules of other products with their defaults, to be compared with: the Kubernetes HPA and Ray Serve."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlnb.scaling.policies.decision import ScalingDecision
from mlnb.scaling.policies.stabilising import in_range, known, whole

if TYPE_CHECKING:
    from mlnb.scaling.policies.decision import ScalingSample

__all__ = ["KubernetesHPA", "RayServe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesHPA:
    """The HorizontalPodAutoscaler of Kubernetes on CPU, with its defaults, for replicas that ask for one core each.

    Every 15 s it wants ``ceil(ready * CPU / target)`` replicas, and as many as before within 10 % of the target. More
    come at once, at most as many again or 4 in 15 s, whichever is more; fewer stay only as far as none more were wanted
    within 300 s. Replicas that start count as idle where more are wanted. CPU is the mean of the last 15 s, as new as
    it can be; in a cluster it may be 15 s older. This is the rule of an HPA with the default
    ``behavior``; for one that has none at all the controller allows ``max(2 * n, 4)`` replicas after ``n``, not
    ``max(2 * n, n + 4)``.

    Attributes
    ----------
    target : float
        Percent of a core.
    tolerance : float
        Part of the target.
    sync : float
        Seconds between two decisions.
    resolution : float
        Seconds over which CPU is measured.
    stabilisation : float
        Seconds within which the most that was wanted holds against fewer.
    factor : float
        Replicas that there may be at most after a decision, as a multiple of those before,
    replicas : int
        or as so many more.

    References
    ----------
    https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/ : "Algorithm details" (sync
    period, tolerance, replicas that are not ready) and "Default behavior" (300 s, 100 % or 4 in 15 s).
    https://github.com/kubernetes/kubernetes/blob/master/pkg/apis/autoscaling/annotations.go and v2/defaults.go beside
    it: a ``DefaultCPUUtilization`` of 80.
    https://github.com/kubernetes/kubernetes/blob/master/pkg/controller/podautoscaler/horizontal.go and
    replica_calculator.go: the order of the steps.
    https://github.com/kubernetes-sigs/metrics-server/blob/master/FAQ.md : CPU of the latest 15 s. (Its manifests set
    ``--metric-resolution=15s``, https://github.com/kubernetes/kubernetes/pull/117121.)
    """

    target: float = 80.0
    tolerance: float = 0.1
    sync: float = 15.0
    resolution: float = 15.0
    stabilisation: float = 300.0
    factor: float = 2.0
    replicas: int = 4

    def __post_init__(self) -> None:
        in_range(self.target, what="target", least=1, unit="percent")
        in_range(self.tolerance, what="tolerance", least=0, most=1)
        for what in ("sync", "resolution"):
            in_range(getattr(self, what), what=what, least=0.001, unit="seconds")
        in_range(self.stabilisation, what="stabilisation", least=0, unit="seconds")
        in_range(self.factor, what="factor", least=1)
        in_range(self.replicas, what="replicas", least=1)

    @property
    def words(self) -> str:
        """The rule in a few words."""
        return f"Kubernetes HPA, CPU at {self.target:g} %"

    def controller(self) -> _Hpa:
        """Return it at work, with nothing seen yet."""
        return _Hpa(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class RayServe:
    """The default policy of Ray Serve, on requests in flight.

    It wants ``requests / target`` replicas, of the mean number of requests over 30 s, which is told every 10 s. More
    come when that was wanted at each turn of its control loop (0.1 s) for 30 s, fewer when it was for 600 s. The first
    replica comes at once when a request waits.

    Attributes
    ----------
    target : float
        Requests in flight per replica.
    look_back, push : float
        Seconds over which requests are averaged, and after which the mean is told again.
    up_delay, down_delay : float
        Seconds for which more, or fewer, must be wanted.
    up_factor, down_factor : float
        Part of the difference that is made up for.
    loop : float
        Seconds of a turn of the control loop.

    References
    ----------
    https://docs.ray.io/en/latest/serve/api/doc/ray.serve.config.AutoscalingConfig.html : ``target_ongoing_requests`` 2,
    ``upscale_delay_s`` 30, ``downscale_delay_s`` 600, ``look_back_period_s`` 30, ``metrics_interval_s`` 10,
    ``smoothing_factor`` 1.
    https://github.com/ray-project/ray/blob/master/python/ray/serve/autoscaling_policy.py : the formula, and the counter
    of decisions in a row.
    https://github.com/ray-project/ray/blob/master/python/ray/serve/_private/constants.py : a
    ``CONTROL_LOOP_INTERVAL_S`` of 0.1.
    """

    target: float = 2.0
    look_back: float = 30.0
    push: float = 10.0
    up_delay: float = 30.0
    down_delay: float = 600.0
    up_factor: float = 1.0
    down_factor: float = 1.0
    loop: float = 0.1

    def __post_init__(self) -> None:
        for what in ("target", "up_factor", "down_factor"):
            in_range(getattr(self, what), what=what, least=0.001)
        for what in ("look_back", "push", "loop"):
            in_range(getattr(self, what), what=what, least=0.001, unit="seconds")
        for what in ("up_delay", "down_delay"):
            in_range(getattr(self, what), what=what, least=0, unit="seconds")

    @property
    def words(self) -> str:
        """The rule in a few words."""
        return f"Ray Serve, {self.target:g} requests per replica"

    def controller(self) -> _Ray:
        """Return it at work, with nothing seen yet."""
        return _Ray(self)


class _Mean:
    """Of what was measured lately; it is worked out only when it is asked for."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._kept: deque[tuple[float, float, float]] = deque()

    def add(self, at: float, interval: float, value: float | None) -> None:
        if value is not None and known(value) and interval > 0:
            self._kept.append((at, interval, value))

    def read(self, at: float) -> float | None:
        kept = self._kept
        while kept and kept[0][0] <= at - self._seconds:
            kept.popleft()
        total = sum(interval for _, interval, _ in kept)
        return sum(interval * value for _, interval, value in kept) / total if total else None


class _Hpa:
    def __init__(self, policy: KubernetesHPA) -> None:
        self._policy = policy
        self._at = -math.inf
        self._next: float | None = None
        self._cpu = _Mean(policy.resolution)
        self._recommended: deque[tuple[float, int]] = deque()
        self._value: float | None = None
        self._wanted = 1

    def step(self, sample: ScalingSample) -> ScalingDecision:
        """Decide, every ``sync`` seconds."""
        if not self._at < sample.at < math.inf:
            return self._decision(sample, sample.desired, "hold", "a sample that came late changes nothing")
        self._at = sample.at
        self._cpu.add(sample.at, sample.interval, sample.cpu)
        if self._next is None:
            self._next, self._wanted = sample.at + self._policy.sync, sample.desired
            self._recommended.append((sample.at, sample.desired))
        if sample.at < self._next:
            return self._decision(sample, sample.desired, "hold", f"looks again in {self._next - sample.at:.1f} s")
        self._next += self._policy.sync * math.ceil((sample.at - self._next + 1e-9) / self._policy.sync)
        return self._synced(sample)

    def _synced(self, sample: ScalingSample) -> ScalingDecision:
        value = self._value = self._cpu.read(sample.at)
        now = sample.desired
        if value is None or not sample.ready:
            return self._decision(sample, now, "hold", f"CPU was not measured: stays at {now}")
        if now == 0:
            return self._decision(sample, now, "hold", "stays at 0, where it does not scale")
        wanted = self._wanted = self._recommendation(sample, value)
        most = self._most(sample.at, wanted)
        if wanted < now and most > wanted:
            wanted = most
        highest = max(math.floor(now * self._policy.factor), now + self._policy.replicas)
        rule = "target tracking" if wanted == self._wanted else "stabilised"
        if wanted > highest:
            wanted, rule = highest, "rate"
        reason = f"CPU {value / self._policy.target:.2f}x target, {self._wanted} wanted: {now} to {wanted}"
        return self._decision(sample, wanted, rule, reason)

    def _recommendation(self, sample: ScalingSample, value: float) -> int:
        ratio, count, now = value / self._policy.target, sample.ready, sample.desired
        tolerance = self._policy.tolerance
        if ratio > 1 and sample.starting:  # they count as idle
            count += sample.starting
            ratio *= sample.ready / count
            if ratio < 1:
                return now
        return now if 1 - tolerance <= ratio <= 1 + tolerance else whole(ratio * count)

    def _most(self, at: float, wanted: int) -> int:
        kept = self._recommended
        kept.append((at, wanted))
        while kept[0][0] <= at - self._policy.stabilisation and len(kept) > 1:
            kept.popleft()
        return max(wanted for _, wanted in kept)

    def _decision(self, sample: ScalingSample, desired: int, rule: str, reason: str) -> ScalingDecision:
        return ScalingDecision(
            sample=sample, metric="CPU percent per replica", value=self._value, target=self._policy.target,
            wanted=self._wanted, desired=desired, rule=rule, window=self._policy.stabilisation, reason=reason,
        )  # fmt: skip


class _Ray:
    def __init__(self, policy: RayServe) -> None:
        self._policy = policy
        self._at = -math.inf
        self._told = math.inf  # when the mean was told last
        self._requests = _Mean(policy.look_back)
        self._total: float | None = None
        self._row = 0.0  # decisions in a row: above 0 for more, below for fewer
        self._up = int(policy.up_delay / policy.loop)
        self._down = int(policy.down_delay / policy.loop)

    def step(self, sample: ScalingSample) -> ScalingDecision:
        """Decide, as after so many turns of the control loop as there were since the last sample."""
        if not self._at < sample.at < math.inf:
            return self._decision(sample, sample.desired, sample.desired, "hold", "a sample that came late")
        self._requests.add(sample.at, sample.interval, sample.in_flight)
        turns = 1.0 if self._at == -math.inf else round((sample.at - self._at) / self._policy.loop, 3)
        self._at = sample.at
        self._hear(sample.at)
        now = sample.desired
        if sample.ready == 0:
            return self._cold(sample)
        if self._total is None:
            return self._decision(sample, now, now, "hold", f"requests in flight are not known: stays at {now}")
        return self._delayed(sample, self._scaled(sample.ready, self._total), turns)

    def _hear(self, at: float) -> None:
        if self._told == math.inf:
            self._told = at
        if at - self._told >= self._policy.push:
            self._told, self._total = at, self._requests.read(at)

    def _cold(self, sample: ScalingSample) -> ScalingDecision:
        now = sample.desired
        wanted = max(now, math.ceil(self._policy.up_factor)) if (sample.waiting or sample.in_flight or 0) > 0 else now
        return self._decision(sample, wanted, wanted, "target tracking", f"no replica is ready: {now} to {wanted}")

    def _scaled(self, ready: int, total: float) -> int:
        wanted = ready * (total / (self._policy.target * ready))
        factor = self._policy.up_factor if wanted > ready else self._policy.down_factor
        scaled = math.ceil(ready + factor * (wanted - ready))
        return scaled - (math.ceil(wanted) < ready == scaled)

    def _delayed(self, sample: ScalingSample, wanted: int, turns: float) -> ScalingDecision:
        now, delay = sample.desired, self._up if wanted > sample.desired else self._down
        if wanted == now:
            self._row = 0.0
            return self._decision(sample, wanted, now, "target tracking", f"{self._said(sample)}: stays at {now}")
        direction = 1 if wanted > now else -1
        self._row = (max(0.0, self._row * direction) + turns) * direction
        if abs(self._row) <= delay:
            left = (delay + 1 - abs(self._row)) * self._policy.loop
            reason = f"{self._said(sample)}, {wanted} wanted: stays at {now} for {left:.1f} s yet"
            return self._decision(sample, wanted, now, "stabilised", reason)
        self._row = 0.0
        desired = wanted if now == 1 else max(1, wanted)
        return self._decision(sample, wanted, desired, "target tracking", f"{self._said(sample)}: {now} to {desired}")

    def _said(self, sample: ScalingSample) -> str:
        return f"in-flight {(self._total or 0.0) / sample.ready / self._policy.target:.2f}x target"

    def _decision(self, sample: ScalingSample, wanted: int, desired: int, rule: str, reason: str) -> ScalingDecision:
        value = None if self._total is None or not sample.ready else self._total / sample.ready
        window = self._policy.up_delay if wanted > sample.desired else self._policy.down_delay
        return ScalingDecision(
            sample=sample, metric="in-flight per replica", value=value, target=self._policy.target, wanted=wanted,
            desired=desired, rule=rule, window=window, reason=reason,
        )  # fmt: skip
