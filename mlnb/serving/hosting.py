"""The one server that the deployments of a process share: in the kernel, or beside it once one has replicas."""

from __future__ import annotations

import logging
import math
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from mlnb.errors import MlnbError, NotDeployedError, PortInUseError, StoppedError
from mlnb.monitoring.metrics import Mark
from mlnb.scaling.backoff import Backoff
from mlnb.scaling.preloading import modules_of
from mlnb.serving.hosts import KernelHost, ProcessHost
from mlnb.serving.local_copies import LocalCopies
from mlnb.serving.plan import Manner, Plan, Shadow, Spec, Watching
from mlnb.serving.server import HOST, bind

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence

    from mlnb.events import PredictionEvent
    from mlnb.monitoring.alerts import AlertChange
    from mlnb.monitoring.comparison import Comparison
    from mlnb.monitoring.drift import DriftReport
    from mlnb.monitoring.experiment import Experiment
    from mlnb.monitoring.outcomes import Label
    from mlnb.monitoring.quality import QualityReport
    from mlnb.monitoring.view import MonitorView
    from mlnb.registry import ModelRegistry, ModelVersion
    from mlnb.scaling.acceleration.acceleration import Acceleration
    from mlnb.scaling.autoscale import Autoscale
    from mlnb.scaling.policies.decision import ScalingDecision
    from mlnb.serving.canary import CanaryPlan
    from mlnb.serving.hosts import Host
    from mlnb.serving.rollout import Change
    from mlnb.serving.service import Answer, Query
    from mlnb.serving.snapshots import ServiceSnapshot
    from mlnb.serving.traffic import Split

__all__ = ["Hosted", "Hosting", "Variant"]

_log = logging.getLogger(__name__)

_PART = 500  # requests that go to or from the server at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A version with its faster form, if it was asked for.

    Attributes
    ----------
    version : ModelVersion
    acceleration : Acceleration or None
    """

    version: ModelVersion
    acceleration: Acceleration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosted:
    """What is to be served under a name, and how.

    Attributes
    ----------
    registry : ModelRegistry
    live : Variant
    manner : Manner
        Of all that answer. With no replicas the kernel answers, unless another deployment has brought the server beside
        it: then one does.
    others : tuple of Variant
        Further versions that answer.
    split : Split or None
        Over all of them.
    shadow : Variant or None
        Sees a copy of the requests.
    shadow_share : float
        Of the requests that the shadow sees, in percent.
    canary : CanaryPlan or None
        For one of the others.
    names : dict of int to str
        What people call versions that share the requests, by number.
    watching : Watching
    autoscale : Autoscale or None
        How the replicas follow the load: then there are as many as ``manner`` says at first.
    """

    registry: ModelRegistry
    live: Variant
    manner: Manner
    others: tuple[Variant, ...] = ()
    split: Split | None = None
    shadow: Variant | None = None
    shadow_share: float = 100.0
    canary: CanaryPlan | None = None
    names: dict[int, str] = field(default_factory=dict)
    watching: Watching = field(default_factory=Watching)
    autoscale: Autoscale | None = None

    @property
    def version(self) -> ModelVersion:
        """The live version."""
        return self.live.version

    @property
    def variants(self) -> tuple[Variant, ...]:
        """All that answer, the live one first."""
        return (self.live, *self.others)

    @property
    def replicas(self) -> int:
        """Processes that are wanted, of each version."""
        return self.manner.replicas

    @property
    def simple(self) -> Hosted:
        """The same with the live version alone, and no shadow."""
        return Hosted(
            registry=self.registry, live=self.live, manner=self.manner, watching=self.watching, autoscale=self.autoscale
        )  # fmt: skip

    def alone(self, number: int) -> Hosted:
        """Return the same with one of the versions that answer alone, and the shadow that is another."""
        live = next(one for one in self.variants if one.version.number == number)
        beside = self.shadow is not None and all(one.version != self.shadow.version for one in self.variants)
        shadow = self.shadow if beside else None
        return replace(self.simple, live=live, shadow=shadow, shadow_share=self.shadow_share)

    def scaled(self, replicas: int) -> Hosted:
        """Return the same with as many replicas, whatever the load."""
        return replace(self, manner=replace(self.manner, replicas=replicas), autoscale=None)

    def autoscaled(self, autoscale: Autoscale) -> Hosted:
        """Return the same with replicas that follow the load."""
        before = self.replicas if self.autoscale is None else 0  # what the load had brought is not known here
        first = min(max(1, autoscale.least, before), autoscale.most)
        return replace(self, manner=replace(self.manner, replicas=first), autoscale=autoscale)


class Hosting:
    """Has a server while something is served, and moves it when the first replica comes or the last one goes.

    The listening socket stays the same all the while, and connections go with it: no client notices.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._hosted: dict[str, Hosted] = {}
        self._socket: socket.socket | None = None
        self._last_port: int | None = None
        self._host: Host | None = None
        self._copies = LocalCopies()
        self._backoff = Backoff()

    @property
    def names(self) -> list[str]:
        """What is served."""
        return sorted(self._hosted)

    @property
    def port(self) -> int | None:
        """Of the server, or of the last one there was."""
        return self._last_port

    @property
    def url(self) -> str:
        """Of the server, without a path."""
        return f"http://{HOST}:{self._last_port}"

    @property
    def beside(self) -> bool:
        """Whether the server runs beside the kernel."""
        host = self._host
        return host is not None and host.beside

    def listen(self, port: int | None) -> None:
        """Have a socket that listens on ``port``.

        Raises
        ------
        PortInUseError
        """
        with self._lock:
            if self._socket is not None:
                if port not in (None, self._last_port):
                    raise PortInUseError(
                        f"The models of this kernel share port {self._last_port}, so port {port} was not opened. "
                        f"Leave the port out, or stop {', '.join(self.names)} first."
                    )
                return
            try:
                self._socket = bind(self._last_port if port is None else port)
            except PortInUseError:
                if port is not None or self._last_port is None:
                    raise
                self._socket = bind(None)  # the last port went to somebody else meanwhile
            self._last_port = self._socket.getsockname()[1]

    def serve(self, hosted: Hosted, models: Mapping[int, Any] | None = None, *, forward: bool = False) -> None:
        """Serve what is given under its name: a new deployment, or a change of one.

        Parameters
        ----------
        hosted : Hosted
        models : mapping of int to object, optional
            Loaded, by version number, for replicas in the kernel; what is not given is loaded here if it is needed.
        forward : bool
            Whether an interrupt leaves it so, because what was served before is worse.

        Raises
        ------
        MlnbError
            What was live stays live.
        """
        name = hosted.version.name
        with self._lock:
            wanted = self._hosted | {name: hosted}
            host = self._on(hosted, beside=any(one.replicas for one in wanted.values()))
            try:
                plan = self._plan(hosted, beside=host.beside)
                loaded = self._loaded(hosted, host, models or {})
                _to_the_end(lambda: host.call("deploy", plan, loaded))
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt) and forward:
                    self._hosted = wanted
                elif isinstance(error, KeyboardInterrupt):  # it has gone live all the same
                    self._take_back(host, name)
                self._settle()
                raise
            self._hosted = wanted

    def _loaded(self, hosted: Hosted, host: Host, models: Mapping[int, Any]) -> dict[int, Any]:
        """Return the models of the versions that begin to answer in the kernel."""
        if host.beside:
            return {}
        before = self._hosted.get(hosted.version.name)
        there = [] if before is None else [variant.version for variant in before.variants]
        if before is not None and before.canary is not None:
            there = []  # it may have ended, and a version with it, at this very moment
        new = [one.version for one in hosted.variants if one.version.number in models or one.version not in there]
        return {
            version.number: models[version.number] if version.number in models else load(hosted.registry, version)
            for version in new
        }

    def _take_back(self, host: Host, name: str) -> None:
        """Serve again what was live under a name before, or nothing."""
        before = self._hosted.get(name)
        if before is None:
            host.call("withdraw", name, within=0)
            return
        host.call("deploy", self._plan(before, beside=host.beside), self._all_loaded(before, beside=host.beside))

    def _all_loaded(self, hosted: Hosted, *, beside: bool) -> dict[int, Any]:
        if beside:
            return {}
        return {one.version.number: load(hosted.registry, one.version) for one in hosted.variants}

    def settled(self, hosted: Hosted) -> None:
        """Learn what the server has made of a canary by itself."""
        name = hosted.version.name
        with self._lock:
            if name in self._hosted:
                self._hosted = self._hosted | {name: hosted}

    def serves(self, hosted: Hosted) -> bool:
        """Say whether this is what is served under its name."""
        return self._hosted.get(hosted.version.name) is hosted

    def scale(self, name: str, replicas: int) -> None:
        """Have as many replica processes; 0: the kernel, unless other deployments have replicas.

        Raises
        ------
        MlnbError
        """
        with self._lock:
            hosted = self._find(name)
            wanted = self._hosted | {name: hosted.scaled(replicas)}
            beside = any(one.replicas for one in wanted.values())
            before, self._hosted = self._hosted, wanted
            stays = self.beside is beside
            try:
                if not stays:
                    self._on(wanted[name], beside=beside)
                elif beside:
                    self._running().call("scale", name, max(1, replicas))
            except BaseException:
                if stays or self.beside is not beside:  # an interrupt comes behind the move
                    self._hosted = before
                raise

    def withdraw(self, name: str, *, within: float) -> None:
        """Serve a name no more; what is in flight is answered ``within`` as many seconds."""
        with self._lock:
            self._hosted = {one: hosted for one, hosted in self._hosted.items() if one != name}
            host = self._host
        if host is not None:
            try:
                host.call("withdraw", name, within=within)
            except StoppedError:
                _log.debug("%s went with its server", name)

    def rest(self) -> None:
        """End the server if nothing is served, and bring it back into the kernel if nothing needs a process."""
        with self._lock:
            self._settle()

    def answer(self, name: str, query: Query) -> Answer:
        """Return the live version's answer.

        Raises
        ------
        MlnbError
        """
        answer: Answer = self._ask("answer", name, query)
        return answer

    def snapshot(self, name: str) -> ServiceSnapshot:
        """Return metrics and replicas of a deployment."""
        snapshot: ServiceSnapshot = self._ask("snapshot", name)
        return snapshot

    def view(self, name: str, window: int) -> MonitorView:
        """Return all that a dashboard draws of a deployment."""
        view: MonitorView = self._ask("view", name, window)
        return view

    def drift(self, name: str, rows: int) -> DriftReport:
        """Judge the newest rows of a deployment."""
        report: DriftReport = self._ask("drift", name, rows)
        return report

    def quality(self, name: str, window: str) -> tuple[QualityReport, ...]:
        """Return how right each version was."""
        reports: tuple[QualityReport, ...] = self._ask("quality", name, window)
        return reports

    def mark(self, name: str, mark: Mark) -> None:
        """Note what was done to a deployment, for the time axis."""
        self._ask("mark", name, mark)

    def flush_log(self, name: str) -> str:
        """Have written to the prediction log what waits; return why it is not, "" if it is."""
        failure: str = self._ask("flush_log", name)
        return failure

    def feedback(self, name: str, labels: Sequence[Label]) -> int:
        """Take what became of requests; return how many."""
        count: int = self._ask("feedback", name, labels)
        return count

    def experiment(self, name: str) -> Experiment | None:
        """Return how the versions that share the requests compare."""
        experiment: Experiment | None = self._ask("experiment", name)
        return experiment

    def comparison(self, name: str) -> Comparison | None:
        """Return how a shadow's answers differ."""
        comparison: Comparison | None = self._ask("comparison", name)
        return comparison

    def recent(self, name: str, since: float, until: float) -> list[PredictionEvent]:
        """Return the requests that were answered between two times, in parts that stop nobody's answer for long."""
        events: list[PredictionEvent] = []
        while part := self._ask("recent", name, since, until, _PART):
            events += part
            since = math.nextafter(part[-1].at, math.inf)
        return events

    def scaling_record(self, name: str, since: float) -> list[ScalingDecision]:
        """Return the decisions on samples after ``since``, of ``at``, in parts that stop nobody's answer for long."""
        decisions: list[ScalingDecision] = []
        while part := self._ask("scaling_record", name, since):
            decisions += part
            since = part[-1].sample.at
        return decisions

    def follow(self, name: str, canary: str, after: int) -> list[Change]:
        """Wait for what a canary does; an empty list says that it is not known any more."""
        changes: list[Change] = self._wait_for("follow", name, canary, after)
        return changes

    def follow_alerts(self, name: str, who: str, after: int) -> tuple[str, list[AlertChange]]:
        """Wait for alerts of a deployment; see :meth:`Gateway.follow_alerts`."""
        found: tuple[str, list[AlertChange]] = self._wait_for("follow_alerts", name, who, after)
        return found

    def _wait_for(self, method: str, *arguments: Any) -> Any:
        while True:  # not through _ask, which keeps others waiting
            host = self._running()
            try:
                return host.call(method, *arguments)
            except StoppedError:
                with self._lock:  # a move ends first
                    if isinstance(host, ProcessHost) and host.ended:
                        self._restored(host)
                    if self._host is host:
                        raise

    def _ask(self, method: str, *arguments: Any) -> Any:
        host = self._running()
        try:
            return host.call(method, *arguments)
        except (StoppedError, NotDeployedError):
            with self._lock:  # a move ends first
                if isinstance(host, ProcessHost) and host.ended:
                    self._restored(host)
                if self._host is host:
                    raise
                return self._running().call(method, *arguments)

    def _find(self, name: str) -> Hosted:
        try:
            return self._hosted[name]
        except KeyError:
            raise NotDeployedError(f"{name!r} is not deployed here any more.") from None

    def _running(self) -> Host:
        host = self._host
        if host is None:
            raise StoppedError("Nothing is deployed here.")
        return host

    def _on(self, first: Hosted, *, beside: bool) -> Host:
        """Return a host of that kind that serves all that is hosted."""
        if self._host is None or self._host.beside is not beside:
            self._move(self._started(first, beside=beside, moving=self._host is not None))
        return self._running()

    def _started(self, first: Hosted, *, beside: bool, moving: bool = False) -> Host:
        assert self._socket is not None  # noqa: S101 - for the type checker; listen() came first
        host: Host
        if beside:
            host = ProcessHost(self._socket, preload=modules_of(first.version), lost=self._lost)
        else:
            host = KernelHost(self._socket)
        try:
            if moving:
                host.call("move")
            for hosted in self._hosted.values():
                host.call("deploy", self._plan(hosted, beside=beside), self._all_loaded(hosted, beside=beside))
            host.open()
        except BaseException:
            host.stop()
            raise
        return host

    def _move(self, new: Host) -> None:
        old, self._host = self._host, new
        if old is not None:
            _to_the_end(partial(self._leave, old, new))

    def _leave(self, old: Host, new: Host) -> None:
        try:
            cast("Any", old).hand_over(new)  # one is here and one beside
            for name in self._hosted:
                new.call("absorb", name, old.call("hand", name))
                self._hand_requests(name, old, new)
        except Exception:  # noqa: BLE001 - the line between the two is closed, or rows cannot be pickled: it serves
            _log.warning("Connections or metrics were left behind", exc_info=True)
        finally:
            with suppress(StoppedError):  # it has ended meanwhile; another one comes
                new.call("moved")
            old.stop()

    def _hand_requests(self, name: str, old: Host, new: Host) -> None:
        """Hand over the requests that are remembered, newest first, in parts that stop nobody's answer for long."""
        at = 0
        while (part := old.call("remembered", name, at, _PART)) is not None:
            new.call("remember", name, part)
            at += _PART

    def _settle(self) -> None:
        if not self._hosted:
            host, self._host = self._host, None
            sock, self._socket = self._socket, None
            try:
                if host is not None:
                    host.stop()
            finally:  # an interrupt must not keep the port
                if sock is not None:
                    sock.close()
                self._copies.close()
        elif self.beside and not any(one.replicas for one in self._hosted.values()):
            self._on(next(iter(self._hosted.values())), beside=False)

    def _lost(self, host: ProcessHost) -> None:
        """Start another gateway process on the same socket, after one has ended by itself."""
        over = False
        while not over:
            time.sleep(self._backoff.ended(time.monotonic()))  # without the lock: it may be stopped meanwhile
            over = self._restored(host)

    def _restored(self, host: ProcessHost) -> bool:
        """Say whether there is no more to do about a host that ended: another is there, or none is needed."""
        with self._lock:
            if self._host is not host or not self._hosted:
                return True
            self._hosted = {name: _without_canary(hosted) for name, hosted in self._hosted.items()}
            try:
                self._host = self._started(next(iter(self._hosted.values())), beside=True)
            except (MlnbError, OSError):
                _log.exception("The gateway process did not start again")
                return False
            for name, hosted in self._hosted.items():
                words = "server ended by itself, and was started again"
                mark = Mark(at=time.time(), kind="restarted", version=hosted.version.number, words=words)
                with suppress(StoppedError):  # it has ended as well; its own end is seen to
                    self._host.call("mark", name, mark)
            return True

    def _plan(self, hosted: Hosted, *, beside: bool) -> Plan:
        manner = replace(hosted.manner, replicas=max(1, hosted.replicas) if beside else 0)
        live, *others = (self._spec(hosted.registry, variant, manner, local=beside) for variant in hosted.variants)
        return Plan(
            live=live, others=tuple(others), split=hosted.split, canary=hosted.canary, shadow=self._shadow(hosted),
            names=hosted.names, watching=hosted.watching, autoscale=hosted.autoscale,
        )  # fmt: skip

    def _shadow(self, hosted: Hosted) -> Shadow | None:
        """Return the shadow: in a process wherever the server is, since it must harm nobody."""
        if hosted.shadow is None:
            return None
        manner = Manner(replicas=1, timeout=hosted.manner.timeout, background=True)
        return Shadow(spec=self._spec(hosted.registry, hosted.shadow, manner, local=True), share=hosted.shadow_share)

    def _spec(self, registry: ModelRegistry, variant: Variant, manner: Manner, *, local: bool) -> Spec:
        version = variant.version
        place, reference = self._copies.of(registry, version) if local else (registry.url, str(version))
        return Spec(
            version=version, registry=place, reference=reference, manner=manner, acceleration=variant.acceleration
        )


def load(registry: ModelRegistry, version: ModelVersion) -> Any:
    """Return the model of a version for a replica in this process; the same object as long as somebody has it."""
    return registry.load(version, shared=True)


def _without_canary(hosted: Hosted) -> Hosted:
    """Return what is served after a server that watched over a canary has ended: nobody knows how it went."""
    return hosted if hosted.canary is None else hosted.alone(hosted.version.number)


def _to_the_end(function: Callable[[], None]) -> None:
    """Call it; an interrupt, which meets only the main thread, is raised when it is over: half of it would be worse."""
    over = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - raised where it was called
            failures.append(error)
        finally:
            over.set()

    threading.Thread(target=run, name="mlnb move", daemon=True).start()
    while not over.is_set():
        try:
            over.wait()
        except KeyboardInterrupt as error:
            failures.append(error)
    if failures:
        raise failures[0]
