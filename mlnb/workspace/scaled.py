"""The part of a deployment that scales it: how many replicas answer, and why."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any

from mlnb.errors import MlnbError, NotDeployedError, StoppedError
from mlnb.workspace.monitored import Monitored

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from mlnb.scaling.autoscale import Autoscale
    from mlnb.scaling.policies.decision import ScalingDecision, ScalingPolicy
    from mlnb.scaling.policies.schedule import Schedule
    from mlnb.scaling.service_time import ServiceTime
    from mlnb.workspace.deployment import Deployment
    from mlnb.workspace.scaling_history import ScalingHistory
    from mlnb.workspace.simulating import Simulation, SimulationTable
    from mlnb.workspace.workspace import Workspace

__all__ = ["Scaled"]

_KEPT = 8200  # decisions: as many as the server keeps
_APPLIED = 60.0  # seconds for which it is still learnt what came of a decision
_STARTUP = 1.0  # seconds, where none was measured


class Scaled(Monitored):
    """The part of a deployment that scales it; :class:`~mlnb.workspace.Deployment` is the whole."""

    _workspace: Workspace
    _autoscale: Autoscale | None = None  # by which the replicas follow the load, or did last

    def __init__(self) -> None:
        self._decisions: deque[ScalingDecision] = deque(maxlen=_KEPT)
        self._asking = threading.Lock()

    @property
    def replicas(self) -> int:
        """Processes that are to answer; 0: the kernel does, or nobody until the next request."""
        hosted = self._hosted
        if hosted is None:
            return 0
        if self._live and hosted.autoscale is not None:
            with suppress(StoppedError, NotDeployedError):
                seen = self._hosting.snapshot(self.name).scaling
                return hosted.replicas if seen is None else seen.desired
        return hosted.replicas

    def scale(self, replicas: int) -> Deployment:
        """Answer from as many processes beside the kernel; 0: from the kernel. No request fails because of it.

        Their number does not follow the load any more; see :meth:`autoscale`.

        Parameters
        ----------
        replicas : int
            While another deployment has replicas, 0 means one as well: they share a server.

        Raises
        ------
        InvalidInputError
            If it is no whole number from 0.
        MlnbError
            If a replica does not start; then all stays as it was.
        """
        self._learn_decisions()
        return self._workspace.scale(self.name, replicas)

    def autoscale(
        self, least: int = 1, most: int = 4, *, target: float | None = None,
        policy: ScalingPolicy | str | None = None, p95: float | str | None = None, p99: float | str | None = None,
        schedules: Sequence[Schedule] = (), idle: float | str = "5m", forecast: bool = False,
    ) -> Deployment:  # fmt: skip
        """Let the number of replica processes follow the load. No request fails because of it.

        Decisions are made twice a second in the server's process, whatever the kernel is doing, and
        :meth:`scaling_history` says why each was made. There are never more replicas than the cores and the memory of
        this machine can hold.

        Parameters
        ----------
        least, most : int
            Bounds. With ``least`` 0 a deployment that nobody asks has no replica; the next request waits for one.
        target : float, optional
            What the policy's metric is to be, for instance 0.7 for the utilisation.
        policy : ScalingPolicy or str, optional
            ``"utilisation"``, ``"in-flight"``, ``"queue wait"``, ``"cpu"``, ``"cpu threshold"``, ``"kubernetes"``,
            ``"ray"``, or one of :mod:`mlnb.scaling.policies`. Default: by ``p95`` or ``p99`` if given, else
            ``"utilisation"``.
        p95, p99 : float or str, optional
            Milliseconds, or text such as ``"50ms"``: within which 95 or 99 % of the requests are to be answered.
        schedules : sequence of Schedule
            Other bounds at certain times.
        idle : float or str
            Seconds, or text such as ``"5m"``, without a request after which the last replica goes.
        forecast : bool
            Whether to act on where a steady rise of the load leads.

        Raises
        ------
        InvalidInputError
            If bounds, targets or the policy cannot be.
        MlnbError
            If no replica starts; then all stays as it was.

        Examples
        --------
        >>> deployment.autoscale(1, 4, p95="50ms")  # doctest: +SKIP
        <Deployment iris:1, live at http://127.0.0.1:8000/models/iris>
        """
        self._served  # noqa: B018 - raises
        return self._workspace.autoscale(
            self.name, least, most, target=target, policy=policy, p95=p95, p99=p99, schedules=schedules, idle=idle,
            forecast=forecast,
        )  # fmt: skip

    def scaling_history(self, since: datetime | timedelta | float | str | None = None) -> ScalingHistory:
        """Return the decisions on the number of replicas of the last hour, with what each was made on.

        Parameters
        ----------
        since : datetime, timedelta, float or str, optional
            As :meth:`log` takes it: "10m" is how long ago.

        Raises
        ------
        InvalidInputError
        MlnbError
            If the replicas of this deployment have never followed the load.
        """
        from mlnb.monitoring.prediction_log.reading import seconds_at
        from mlnb.workspace.scaling_history import ScalingHistory

        after = 0.0 if since is None else seconds_at("since", since)
        decisions = self._learn_decisions()
        if self._autoscale is None:
            raise MlnbError(
                f"The number of replicas of {self.name!r} has not followed its load. "
                "Let it: deployment.autoscale(1, 4)."
            )
        chosen = tuple(decision for decision in decisions if decision.sample.wall > after)
        return ScalingHistory(chosen, name=self.name, autoscale=self._autoscale)

    def simulate(
        self, policy: Any = None, *, load: Any = None, replicas: Any = None,
        service: ServiceTime | float | str | None = None, startup: float | str | None = None,
        p95: float | str | None = None, schedules: Sequence[Schedule] = (), idle: float | str = "5m",
        interval: float | str = 0.5, seed: int = 0,
    ) -> Simulation | SimulationTable:  # fmt: skip
        """Simulate what policies would have made of the requests that came here; see :func:`mlnb.simulate`.

        Parameters
        ----------
        policy : ScalingPolicy, str, int, Autoscale, or a sequence or mapping of these, optional
            Several are compared. Default: the one that holds here, if one does.
        load : Load, DataFrame or iterable of float, optional
            Default: the requests in :meth:`log`.
        replicas : str or (int, int), optional
            The least and the most. Default: as they are here, else "1:4".
        service : ServiceTime, float or str, optional
            What a request takes: milliseconds, or text such as "20ms". Default: as it was measured here.
        startup : float or str, optional
            Seconds until a new replica is ready. Default: as it was measured here.
        p95 : float or str, optional
            Within which 95 % of the requests are to be answered: milliseconds, or text such as "50ms".
        schedules, idle, interval, seed
            As :func:`mlnb.simulate` takes them.

        Raises
        ------
        InvalidInputError
            If there were no requests, or an argument is none that is accepted.
        """
        from mlnb.workspace.simulating import simulate

        now, seen = self._served.autoscale, self._hosting.snapshot(self.name)
        last = None if seen.scaling is None or seen.scaling.last is None else seen.scaling.last.sample
        measured = seen.service if last is None or last.service is None else last.service  # which knows the cores, too
        if policy is None and p95 is None and now is not None:
            policy = now if replicas is None else now.policy
        bounds = "1:4" if now is None else (now.least, now.most)
        return simulate(
            self.log() if load is None else load, policy, replicas=bounds if replicas is None else replicas,
            service=measured if service is None else service,
            startup=(seen.startup or _STARTUP) if startup is None else startup, p95=p95, schedules=schedules, idle=idle,
            limit=None if last is None else last.limit, interval=interval, seed=seed,
        )  # fmt: skip

    def _forget_decisions(self) -> None:
        """Begin anew: what was decided before this was stopped is another story."""
        with self._asking:
            self._decisions.clear()
            self._autoscale = None

    def _learn_decisions(self) -> list[ScalingDecision]:
        """Learn what was decided since the last time, as long as somebody knows it; return all that is known."""
        hosted = self._hosted
        with self._asking:
            if self._live and hosted is not None and hosted.autoscale is not None:
                with suppress(MlnbError):
                    since = self._decisions[-1].sample.at - _APPLIED if self._decisions else -inf
                    newer = {one.sample.at: one for one in self._hosting.scaling_record(self.name, since)}
                    known: dict[float, ScalingDecision] = {}
                    while self._decisions and self._decisions[-1].sample.at > since:
                        last = self._decisions.pop()
                        known[last.sample.at] = last
                    self._decisions.extend(one for _, one in sorted((known | newer).items()))
                    self._autoscale = hosted.autoscale
            return list(self._decisions)
