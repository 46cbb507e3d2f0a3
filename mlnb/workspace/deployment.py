"""The one handle that users hold on what is served under a name."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Self

from mlnb.errors import InvalidInputError, MlnbError, NotDeployedError, StoppedError
from mlnb.monitoring.metrics import words_of
from mlnb.registry import history
from mlnb.workspace.packaging import Packaged
from mlnb.workspace.snapshot import DeploymentSnapshot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import pandas as pd

    from mlnb.monitoring import MetricsSnapshot
    from mlnb.monitoring.alerts import AlertRule
    from mlnb.monitoring.experiment import Experiment
    from mlnb.monitoring.guards import Guard
    from mlnb.monitoring.load.result import BenchmarkResult
    from mlnb.registry import ModelRegistry, ModelVersion
    from mlnb.registry.history import Action, HistoryEvent
    from mlnb.scaling.acceleration.acceleration import Acceleration
    from mlnb.scaling.pool import ReplicaSnapshot
    from mlnb.serving.canary import CanaryPlan
    from mlnb.serving.hosting import Hosted, Hosting, Variant
    from mlnb.serving.rollout import Change
    from mlnb.serving.service import Answer
    from mlnb.serving.snapshots import ServiceSnapshot, TrafficSnapshot
    from mlnb.workspace.workspace import Workspace

__all__ = ["Deployment"]

_log = logging.getLogger(__name__)


class Deployment(Packaged):
    """A model that is being served, under one name. As a context manager it stops at the end.

    :func:`mlnb.deploy` makes it. There is one for each name: deploying a name again gives the same object, live again
    if it was stopped.

    Attributes
    ----------
    name : str
    registry : ModelRegistry
    url : str
        ``http://127.0.0.1:PORT/models/NAME``; the same for every version.
    version : ModelVersion
        The one that is live, or was last.
    acceleration : Acceleration or None
        What was found when a faster form of the model was asked for.
    """

    def __init__(self, workspace: Workspace, registry: ModelRegistry, version: ModelVersion) -> None:
        super().__init__()
        self.name = version.name
        self.registry = registry
        self.version = version
        self.url = ""
        self.acceleration: Acceleration | None = None
        self._workspace = workspace
        self._live = False
        self._hosted: Hosted | None = None
        self._last_metrics: MetricsSnapshot | None = None
        self._before: ModelVersion | None = None  # live when the split or canary began that is on
        self._previous: int | None = None
        self._variants: dict[int, Variant] = {}  # that were served here, by number
        self._callbacks_before: tuple[Any, ...] = ()  # it was stopped
        self._own: list[int] = []  # numbers of the events in the registry's history that are this deployment's

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Deployment {self.version}, {self.state}{f' at {self.url}' if self.state == 'live' else ''}>"

    @property
    def state(self) -> Literal["live", "stopped"]:
        """Whether it answers."""
        return "live" if self._live else "stopped"

    @property
    def public_url(self) -> str:
        """:attr:`url` as a browser reaches it: on a hub or Binder ``https://HOST/user/NAME/proxy/PORT/models/NAME``.

        A panel that is shown has tried which way leads to this server. Before that it is what the environment tells;
        where it tells nothing, as on a hub whose host only the browser knows, it is :attr:`url`.
        """
        return self._workspace.surroundings.public_url(self.url)

    def predict(self, rows: Any, *, key: Any = None) -> np.ndarray[Any, Any]:
        """Return the live version's predictions, on the way that requests take, without HTTP.

        Parameters
        ----------
        rows : array of shape (n, features), DataFrame, list of lists or list of dicts
            Where the model's fields are known, a flat list or a dict is one row.
        key : str or number, optional
            What the request belongs to, where versions share the requests.

        Returns
        -------
        ndarray of shape (n, ...)

        Raises
        ------
        InvalidInputError
            If a row does not fit.
        PredictionError
            If the model itself failed; its exception is the cause.
        StoppedError
            If the deployment was stopped.
        """
        return self.answer(rows, key=key).prediction

    def answer(self, rows: Any, *, probabilities: bool = False, key: Any = None) -> Answer:
        """Return predictions with their version, request id, time taken and, if asked for, probabilities.

        Raises
        ------
        InvalidInputError, PredictionError, StoppedError
        """
        from mlnb.serving.service import Query
        from mlnb.serving.traffic import key_text

        self._check_live()
        return self._workspace._hosting.answer(
            self.name, Query(rows, probabilities, b"" if key is None else key_text(key))
        )

    def _check_live(self) -> None:
        if not self._live:
            raise StoppedError(f"{self.name!r} was stopped. Deploy it again: mlnb.deploy({str(self.version)!r}).")

    @property
    def _hosting(self) -> Hosting:
        return self._workspace._hosting

    def _rewatch(self, rules: tuple[AlertRule, ...], webhooks: tuple[str, ...]) -> None:
        self._workspace.rewatch(self, rules, webhooks)

    @property
    def _served(self) -> Hosted:
        self._check_live()
        assert self._hosted is not None  # noqa: S101 - for the type checker
        return self._hosted

    def info(self) -> dict[str, Any]:
        """Return what ``GET {url}/info`` answers: version, metrics, signature, example row."""
        from mlnb.serving.app import describe

        split = self._hosted.split if self._live and self._hosted is not None else None
        return describe(self.version) | ({} if split is None else {"shares": split.shares})

    def rollback(self, *, to: int | None = None, reason: str = "") -> Deployment:
        """Make the version live, alone, that was live before, or version ``to``. No request fails because of it.

        Out of a split or a canary this is the version that was live when it began. A shadow ends; where no version was
        live before, that is all.

        Parameters
        ----------
        to : int, optional
        reason : str
            Why, for the history.

        Raises
        ------
        NoPreviousVersionError, ModelNotFoundError, NotDeployedError
        """
        return self._workspace.rollback(self.name, to=to, reason=reason)

    def split(
        self, weights: Mapping[Any, float], *, key: str | None = None, shadow: Any = None, share: float = 100.0
    ) -> Deployment:
        """Share the requests out to several versions: an A/B test.

        The same key always meets the same version, in every process and after a restart, and a change of weights moves
        no more keys than it must. A request names its key in the header ``X-Routing-Key``, or as ``key`` in a JSON
        body; else it is the value of the field ``key`` in its first row; else each request is a key of its own.

        Parameters
        ----------
        weights : mapping
            Version to weight, at any scale: ``{"champion": 90, "challenger": 10}``. A version is an alias, a number or
            a reference; one with weight 0 is ready and answers nobody.
        key : str, optional
            A field of the model; "" for none. Default: that of the split that is on.
        shadow : str or int, optional
            A version that sees a copy of the requests from now on. Default: the shadow there is.
        share : float
            Of the requests that this shadow sees, in percent.

        Raises
        ------
        InvalidInputError
            If a weight is negative or no number, all are 0, or versions do not take the same rows.
        ModelNotFoundError, NotDeployedError
        """
        return self._workspace.split(self.name, weights, key=key, shadow=shadow, share=share)

    def shadow(self, reference: Any, *, share: float = 100.0) -> Deployment:
        """Let a version see a copy of the requests; its answers go into :meth:`disagreements` and nowhere else.

        It runs in a process of its own that yields to all others, and what it cannot keep up with is left out.

        Parameters
        ----------
        reference : str, int or None
            A version; None ends the shadow.
        share : float
            Of the requests, in percent.

        Raises
        ------
        InvalidInputError, ModelNotFoundError, NotDeployedError
        """
        return self._workspace.shadow(self.name, reference, share=share)

    def canary(
        self, reference: Any, *, steps: Sequence[float] = (1, 5, 25, 100), hold: float | str = "1m",
        guard: Guard | Mapping[str, Any] | None = None,
    ) -> Deployment:  # fmt: skip
        """Make a version live step by step while its guards hold; else it is taken back by itself, at once.

        The server decides, many times a second, whatever the kernel is doing; the history says what and why.

        Parameters
        ----------
        reference : str or int
            A version.
        steps : sequence of float
            Its share of the requests at each step, in percent. Behind 100 it becomes live.
        hold : float or str
            How long each step lasts at least: seconds, or text like ``"1m"``.
        guard : Guard or mapping, optional
            What must hold, for instance ``{"errors": 0.01, "p99": 50}``; see :class:`mlnb.Guard`.

        Raises
        ------
        InvalidInputError, ModelNotFoundError, NotDeployedError
        """
        return self._workspace.canary(self.name, reference, steps=steps, hold=hold, guard=guard)

    def promote(self, reference: Any = None, *, reason: str = "") -> Deployment:
        """Make one of the versions that answer live, alone: of a split or canary.

        Parameters
        ----------
        reference : str or int, optional
            Default: the canary, or the winner of the experiment.
        reason : str
            Why, for the history.

        Raises
        ------
        UndecidedError
            If no version was named and the experiment has no winner yet.
        InvalidInputError, NotDeployedError
        """
        from mlnb.workspace.traffic import resolve

        if reference is not None:
            number = resolve(self.registry, self.name, reference).number
            return self._workspace.promote(self.name, number, reason=reason)
        canary = self._served.canary
        if canary is not None:
            return self._workspace.promote(self.name, canary.version, reason=reason)
        self.experiment().promote()
        return self

    def feedback(self, request_id: Any, label: Any = None, *, outcome: Any = None) -> int:
        """Say what became of requests: the right label, or an outcome such as what was earned.

        The same label again changes nothing; another one corrects it, unless it counts in an experiment that is on.

        Parameters
        ----------
        request_id : str, sequence of str, mapping, DataFrame, Series or list of dicts
            Of an answer. Several come with as many labels, as ``{id: label}``, or as a table with the columns
            ``request_id`` and ``label`` or ``outcome``.
        label : object, optional
            The right answer; for a request of several rows a list.
        outcome : float, optional
            More is better.

        Returns
        -------
        int
            How many labels were new, or corrected.

        Raises
        ------
        UnknownRequestError, AlreadyLabelledError, InvalidInputError
            Nothing is taken then.
        """
        from mlnb.serving.feedback import labels_of

        self._check_live()
        return self._workspace._hosting.feedback(self.name, labels_of(request_id, label, outcome))

    def experiment(self) -> Experiment:
        """Return how the versions of a split compare by what came back; one may look at any time.

        Raises
        ------
        MlnbError
            If the requests are not split.
        """
        self._check_live()
        found = self._workspace._hosting.experiment(self.name)
        if found is None:
            raise MlnbError(
                f"The requests to {self.name!r} are not split: {self.version} answers all. Split them: "
                'deployment.split({"champion": 90, "challenger": 10}).'
            )
        versions, why = {arm.name: arm.version for arm in found.arms}, found.verdict.words

        def promoter(arm: str) -> Deployment:
            return self._workspace.promote(self.name, versions[arm], reason=why)

        return replace(found, promoter=promoter)

    def disagreements(self) -> pd.DataFrame:
        """Return where the shadow's answers differ from those given: a row for each, the largest distance first.

        Raises
        ------
        MlnbError
            If there is no shadow.
        """
        self._check_live()
        comparison = self._workspace._hosting.comparison(self.name)
        if comparison is None:
            raise MlnbError(f"{self.name!r} has no shadow. Begin one: deployment.shadow('{self.name}:N').")
        return comparison.frame()

    def replay(
        self, reference: Any, *, since: datetime | str | None = None, until: datetime | str | None = None
    ) -> pd.DataFrame:
        """Ask a version what it would have answered to the requests of a period; it is not served for that.

        Parameters
        ----------
        reference : str or int
            A version of this model.
        since, until : datetime or str, optional
            Text in ISO 8601, without a zone in local time. Default: all requests that the server still knows.

        Returns
        -------
        DataFrame
            A row for each row of a request: when, its id, the row, the version that answered, both answers, distance.

        Raises
        ------
        ModelNotFoundError, InvalidInputError
        """
        from mlnb.workspace.replaying import replay
        from mlnb.workspace.traffic import resolve

        self._check_live()
        first, last = (
            None if one is None else history.moment(one, what="since and until take") for one in (since, until)
        )
        events = self._workspace._hosting.recent(
            self.name, 0.0 if first is None else first.timestamp(), time.time() if last is None else last.timestamp()
        )
        return replay(self.registry, resolve(self.registry, self.name, reference), events)

    @property
    def traffic(self) -> TrafficSnapshot | None:
        """How the requests are shared out now; None while it is stopped."""
        return self.snapshot().traffic

    def benchmark(
        self, rows: Any = None, *, connections: Sequence[int] = (1, 2, 4, 8, 16, 32, 64), seconds: float = 1.0
    ) -> BenchmarkResult:
        """Find out what this endpoint takes: load on it, step by step, from a process beside this one.

        Parameters
        ----------
        rows : list of rows, optional
            What each request sends, as ``instances``. Default: the example row of the signature.
        connections : sequence of int
            Kept-alive connections of each step, each asking again when it is answered.
        seconds : float
            Of each step.

        Raises
        ------
        StoppedError
        InvalidInputError
            If there is no example row and none was given, or the load is out of bounds.
        """
        from mlnb.monitoring.load.benchmark import run
        from mlnb.serving.codecs import to_json

        self._check_live()
        example = self.version.signature.example
        if rows is None and example is None:
            raise InvalidInputError(f"{self.version} has no example row; give rows to send.")
        body = to_json({"instances": [example] if rows is None else rows})
        return run(f"{self.url}/predict", body, connections=connections, seconds=seconds)

    def start(self) -> Deployment:
        """Serve the last version again after :meth:`stop`; nothing happens if it is live.

        Raises
        ------
        ModelNotFoundError, IntegrityError, ServerStartError
        """
        if self.state == "live" or self._hosted is None:
            return self
        manner, watching, callbacks = self._hosted.manner, self._hosted.watching, self._callbacks_before
        self._workspace.deploy(
            str(self.version), registry=self.registry, replicas=self._hosted.autoscale or manner.replicas,
            policy=manner.policy,
            timeout=manner.timeout, accelerate=self.acceleration is not None, log=watching.log or False,
        )  # fmt: skip
        self._rewatch(watching.rules, watching.webhooks)
        self._callbacks = callbacks
        self._heed()
        return self

    def stop(self) -> None:
        """Take no more requests and answer those in flight, for at most 5 seconds. Again is harmless."""
        self._workspace._stop([self])

    def snapshot(self) -> DeploymentSnapshot:
        """Return what a panel draws; no file is read."""
        seen = self._observed()
        replicas = () if seen is None else seen.replicas
        return DeploymentSnapshot(
            name=self.name, url=self.url, docs_url=f"{self.url.removesuffix(f'/models/{self.name}')}/docs",
            place=self._place(replicas), state=self.state, version=self.version, since=self._since,
            at=datetime.now(UTC), versions=self._versions,
            previous=self._previous if self._before is None else self._before.number, metrics=self._metrics(),
            replicas=replicas, trouble="" if seen is None else seen.trouble, acceleration=self.acceleration,
            traffic=None if seen is None else seen.traffic, alerts=() if seen is None else seen.alerts,
            log=None if seen is None else seen.log, scaling=None if seen is None else seen.scaling,
        )  # fmt: skip

    def _observed(self) -> ServiceSnapshot | None:
        """Return what the server knows, None once it has ended."""
        if self._live:
            with suppress(StoppedError, NotDeployedError):
                seen = self._workspace._hosting.snapshot(self.name)
                self._last_metrics = seen.metrics
                return seen
        return None

    def _metrics(self) -> MetricsSnapshot:
        from mlnb.monitoring import ModelMonitor

        return self._last_metrics or ModelMonitor().snapshot(now=time.time())

    def _place(self, replicas: Sequence[ReplicaSnapshot]) -> str:
        if not self._workspace._hosting.beside or not self._live:
            return "in kernel"
        ready = sum(replica.state == "ready" for replica in replicas)
        if not replicas and self._served.autoscale is not None:
            return "asleep"
        return "1 process" if ready == 1 else f"{ready} processes"

    def _go_live(
        self, hosted: Hosted, models: Mapping[int, Any], action: Action, *, about: ModelVersion | None = None,
        reason: str = "", traffic: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Serve and record; what cannot be recorded is not served either, but for a roll back: before it is worse."""
        registry, version, hosting = hosted.registry, hosted.version, self._workspace._hosting
        versions = tuple(reversed(registry.versions(self.name)))
        forward = action == "rolled back"
        try:
            hosting.serve(hosted, models, forward=forward)
        finally:
            if forward and hosting.serves(hosted):  # although it was interrupted, perhaps
                self._adopt(hosted)
        try:
            event = registry.record(about or version, action, reason=reason, traffic=traffic)
        except BaseException:
            if not forward:
                self._take_back()
            raise
        self._adopt(hosted)
        self._note(event)
        self._mark(action, words_of(action, (about or version).number))
        self._versions = versions
        self.url = f"{hosting.url}/models/{self.name}"

    def _mark(self, kind: str, words: str) -> None:
        """Note what was done on the time axis."""
        from mlnb.monitoring.metrics import Mark

        with suppress(MlnbError):  # it is served all the same
            self._hosting.mark(self.name, Mark(at=time.time(), kind=kind, version=self.version.number, words=words))

    def _adopt(self, hosted: Hosted) -> None:
        """Become what is served."""
        shared = bool(hosted.others or hosted.split)
        before = self.version if self._live else None
        self._before = (self._before or before) if shared else None
        if self.registry.url != hosted.registry.url:
            self._own.clear()  # another registry has another history
            self._variants.clear()
        if not self._live:
            self._forget_decisions()
        if not (self._live and self.version == hosted.version):
            self._since = datetime.now(UTC)
        self.registry, self.version = hosted.registry, hosted.version
        self.acceleration = hosted.live.acceleration
        self._variants |= {one.version.number: one for one in hosted.variants}
        self._hosted = hosted
        self._live = True
        self._heed()

    def _note(self, event: HistoryEvent) -> None:
        """Learn of an event in the history that is this deployment's own."""
        self._own.append(event.number)
        self._previous = history.previous(self._history(self.registry))

    def _known(self, version: ModelVersion) -> Hosted | None:
        """Return how to serve a version, alone, that was served here before; None if it was not, or not like this."""
        hosted, variant = self._served, self._variants.get(version.number)
        if variant is None or variant.version != version:
            return None
        alike = (variant.acceleration is None) == (hosted.live.acceleration is None)
        return replace(hosted.simple, live=variant) if alike else None

    def _end_shadow(self, *, reason: str = "") -> None:
        hosted = self._served
        if hosted.shadow is None:
            raise MlnbError(f"{self.name!r} has no shadow.")
        self._go_live(replace(hosted, shadow=None), {}, "unshadowed", about=hosted.shadow.version, reason=reason)

    @property
    def _canary(self) -> CanaryPlan | None:
        """The canary that is on."""
        return self._hosted.canary if self._live and self._hosted is not None else None

    def _canary_ended(self, change: Change | None) -> None:
        """Become what the server has made of a canary; None: nobody knows how it went."""
        hosted, canary = self._served, self._canary
        assert canary is not None  # noqa: S101 - for the type checker
        good = change is not None and change.kind == "promoted"
        after = hosted.alone(canary.version if good else hosted.version.number)
        self._workspace._hosting.settled(after)
        self._adopt(after)

    def _write_down(self, canary: CanaryPlan, change: Change | None) -> bool:
        """Record what became of a canary; say whether the registry could be written."""
        good = change is not None and change.kind == "promoted"
        reason = "its server ended" if change is None else change.reason
        try:
            version = self.registry.version(f"{self.name}:{canary.version}")
            self._note(self.registry.record(version, "promoted" if good else "taken back", reason=reason))
        except (MlnbError, OSError):
            _log.exception("What became of the canary v%s of %s could not be written down", canary.version, self.name)
            return False
        return True

    def _take_back(self) -> None:
        """Serve again what was live before."""
        hosting, before = self._workspace._hosting, self._hosted
        if self._live and before is not None:
            hosting.serve(before)
        else:
            hosting.withdraw(self.name, within=0)

    def _history(self, registry: ModelRegistry) -> list[HistoryEvent]:
        """Return what one can roll back through here: what was before, and one's own; not what others do since."""
        return [
            event for event in registry.history(self.name) if event.number < self._own[0] or event.number in self._own
        ]

    def _detach(self) -> bool:
        """Become stopped; say whether it was live."""
        if not self._live:
            return False
        with suppress(MlnbError):
            self.view()  # what it shows from now on
            self._learn_decisions()
        self._callbacks_before, self._callbacks = self._callbacks, ()
        self._live = False
        self._variants.clear()  # each holds a registry, with all that it has read
        self._since = datetime.now(UTC)
        return True
