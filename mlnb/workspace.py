"""What this process has deployed: joins registry, serving and monitoring, and hands out deployments."""

from __future__ import annotations

import atexit
import re
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from mlnb.errors import InvalidInputError, InvalidNameError, MlnbError, NotDeployedError, StoppedError, nearest
from mlnb.registry import ModelRegistry, history
from mlnb.registry.reference import ModelReference, is_valid_name, validate_name
from mlnb.registry.tables import SHOWN, VersionTable, version_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import ModuleType

    import numpy as np

    from mlnb.monitoring import MetricsSnapshot
    from mlnb.monitoring.load.result import BenchmarkResult
    from mlnb.monitoring.monitor import Series
    from mlnb.registry import ModelVersion
    from mlnb.registry.history import Action, HistoryEvent
    from mlnb.scaling.acceleration.acceleration import Acceleration
    from mlnb.scaling.pool import ReplicaSnapshot
    from mlnb.serving.gateway import Manner
    from mlnb.serving.hosting import Hosted, Hosting
    from mlnb.serving.service import Answer

_PATIENCE = 5.0  # seconds that stopping waits for what is in flight
_MOST_REPLICAS = 64

__all__ = [
    "Deployment",
    "DeploymentSnapshot",
    "Workspace",
    "deploy",
    "deployments",
    "find",
    "rollback",
    "scale",
    "stop",
    "versions",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSnapshot:
    """One deployment at one moment: all that a panel draws.

    Attributes
    ----------
    name, url, docs_url, place : str
    state : {'live', 'stopped'}
    version : ModelVersion
        The live one.
    since : datetime
        When it became live, in UTC.
    at : datetime
        The moment of this snapshot, in UTC.
    versions : tuple of ModelVersion
        All of this model, newest first.
    previous : int or None
        The version number that a roll back would make live.
    metrics : MetricsSnapshot
    replicas : tuple of ReplicaSnapshot
        None while it is stopped.
    trouble : str
        Why a replica ended by itself, "" if none did.
    acceleration : Acceleration or None
        The faster form of the model that answers, where it was asked for.
    """

    name: str
    url: str
    docs_url: str
    place: str
    state: Literal["live", "stopped"]
    version: ModelVersion
    since: datetime
    at: datetime
    versions: tuple[ModelVersion, ...]
    previous: int | None
    metrics: MetricsSnapshot
    replicas: tuple[ReplicaSnapshot, ...] = ()
    trouble: str = ""
    acceleration: Acceleration | None = None


class Deployment:
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
    replicas : int
        Processes that answer; 0: the kernel does.
    acceleration : Acceleration or None
        What was found when a faster form of the model was asked for.
    """

    def __init__(self, workspace: Workspace, registry: ModelRegistry, version: ModelVersion) -> None:
        self.name = version.name
        self.registry = registry
        self.version = version
        self.url = ""
        self.replicas = 0
        self.acceleration: Acceleration | None = None
        self._workspace = workspace
        self._live = False
        self._hosted: Hosted | None = None
        self._last_metrics: MetricsSnapshot | None = None
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

    def predict(self, rows: Any) -> np.ndarray[Any, Any]:
        """Return the live version's predictions, on the way that requests take, without HTTP.

        Parameters
        ----------
        rows : array of shape (n, features), DataFrame, list of lists or list of dicts
            Where the model's fields are known, a flat list or a dict is one row.

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
        return self.answer(rows).prediction

    def answer(self, rows: Any, *, probabilities: bool = False) -> Answer:
        """Return predictions with their version, request id, time taken and, if asked for, probabilities.

        Raises
        ------
        InvalidInputError, PredictionError, StoppedError
        """
        from mlnb.serving.service import Query

        if not self._live:
            raise StoppedError(f"{self.name!r} was stopped. Deploy it again: mlnb.deploy({str(self.version)!r}).")
        return self._workspace._hosting.answer(self.name, Query(rows, probabilities))

    def info(self) -> dict[str, Any]:
        """Return what ``GET {url}/info`` answers: version, metrics, signature, example row."""
        from mlnb.serving.app import describe

        return describe(self.version)

    def metrics(self) -> MetricsSnapshot:
        """Return requests, errors and latency so far."""
        return self.snapshot().metrics

    def series(self) -> Series:
        """Return requests, errors and latency second by second over the last five minutes."""
        from mlnb.monitoring import ModelMonitor

        if self._live:
            with suppress(StoppedError, NotDeployedError):
                return self._workspace._hosting.series(self.name)
        return ModelMonitor().series(now=time.time())

    def scale(self, replicas: int) -> Deployment:
        """Answer from as many processes beside the kernel; 0: from the kernel. No request fails because of it.

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
        return self._workspace.scale(self.name, replicas)

    def rollback(self, *, to: int | None = None) -> Deployment:
        """Make the version live that was live before, or version ``to``. No request fails because of it.

        Raises
        ------
        NoPreviousVersionError, ModelNotFoundError, NotDeployedError
        """
        return self._workspace.rollback(self.name, to=to)

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

        example = self.version.signature.example
        if self.state == "stopped":
            raise StoppedError(f"{self.name!r} was stopped. Deploy it again: mlnb.deploy({str(self.version)!r}).")
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
        manner = self._hosted.manner
        return self._workspace.deploy(
            str(self.version), registry=self.registry, replicas=manner.replicas, policy=manner.policy,
            timeout=manner.timeout, accelerate=self.acceleration is not None,
        )  # fmt: skip

    def stop(self) -> None:
        """Take no more requests and answer those in flight, for at most 5 seconds. Again is harmless."""
        self._workspace._stop([self])

    def snapshot(self) -> DeploymentSnapshot:
        """Return what a panel draws; no file is read."""
        metrics, replicas, trouble = self._observed()
        return DeploymentSnapshot(
            name=self.name, url=self.url, docs_url=f"{self.url.removesuffix(f'/models/{self.name}')}/docs",
            place=self._place(replicas), state=self.state, version=self.version, since=self._since,
            at=datetime.now(UTC), versions=self._versions, previous=self._previous, metrics=metrics, replicas=replicas,
            trouble=trouble, acceleration=self.acceleration,
        )  # fmt: skip

    def _observed(self) -> tuple[MetricsSnapshot, tuple[ReplicaSnapshot, ...], str]:
        """Return what the server knows; what it last knew, once it has ended."""
        from mlnb.monitoring import ModelMonitor

        if self._live:
            with suppress(StoppedError, NotDeployedError):
                seen = self._workspace._hosting.snapshot(self.name)
                self._last_metrics = seen.metrics
                return seen.metrics, seen.replicas, seen.trouble
        return self._last_metrics or ModelMonitor().snapshot(now=time.time()), (), ""

    def _place(self, replicas: Sequence[ReplicaSnapshot]) -> str:
        if not self._workspace._hosting.beside or not self._live:
            return "in kernel"
        ready = sum(replica.state == "ready" for replica in replicas)
        return "1 process" if ready == 1 else f"{ready} processes"

    def _scaled(self, replicas: int) -> None:
        self.replicas = replicas
        self._hosted = self._hosted.scaled(replicas) if self._hosted else None

    def _go_live(self, hosted: Hosted, model: object, action: Action) -> None:
        """Serve and record a version; what cannot be recorded is not served either."""
        registry, version = hosted.registry, hosted.version
        versions = tuple(reversed(registry.versions(self.name)))
        self._workspace._hosting.serve(hosted, model)
        try:
            number = registry.record(version, action).number
        except BaseException:
            self._take_back()
            raise
        if self.registry.url != registry.url:
            self._own.clear()  # another registry has another history
        self._own.append(number)
        self._previous = history.previous(self._history(registry))
        self.registry, self.version, self._versions = registry, version, versions
        self.replicas, self.acceleration = hosted.replicas, hosted.acceleration
        self._hosted = hosted
        self._live = True
        self._since = datetime.now(UTC)
        self.url = f"{self._workspace._hosting.url}/models/{self.name}"

    def _take_back(self) -> None:
        """Serve again what was live before."""
        hosting, before = self._workspace._hosting, self._hosted
        if self._live and before is not None:
            hosting.serve(before, before.registry.load(before.version))
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
        self._observed()
        self._live = False
        self._since = datetime.now(UTC)
        return True


class Workspace:
    """The deployments of this process, and the one server they share; a process needs one, which this module has."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._deployments: dict[str, Deployment] = {}  # stopped ones too: a name keeps its handle
        self._deploying = 0  # deployments on their way, and such as are being stopped, which need the server
        self._turns: dict[str, threading.Lock] = {}  # deployments of one name take turns

    @cached_property
    def _hosting(self) -> Hosting:
        """The server; made when it is needed first, for what it imports."""
        from mlnb.serving.hosting import Hosting

        return Hosting()

    def deploy(
        self,
        model: Any,
        *,
        name: str | None = None,
        example: Any = None,
        metrics: Mapping[str, float] | None = None,
        description: str = "",
        port: int | None = None,
        registry: ModelRegistry | str | Path | None = None,
        serializer: str | None = None,
        by_value: Sequence[ModuleType] = (),
        replicas: int | None = None,
        accelerate: bool | None = None,
        policy: str | None = None,
        timeout: float | None = None,
    ) -> Deployment:
        """Register a model as a new version and serve it; a name that is live gets the new version in place.

        Parameters
        ----------
        model : object or str
            Anything with ``predict``, a function, a PyTorch module, an ONNX model or the path of a model's file; or a
            reference to a stored version: ``"iris:3"``, ``"iris@champion"``. A deployment means its version.
        name : str, optional
            Default: the model's class.
        example : array of shape (n, features) or DataFrame, optional
            For instance ``X_train``: gives the fields their names, types and ranges.
        metrics : mapping of str to float, optional
        description : str
        port : int, optional
            One for all deployments of this process. Default: the port used before, else 8000, else any that is free.
        registry : ModelRegistry, str or Path, optional
            Default: the registry of the live deployment of that name, else ``$MLNB_HOME``, else the user's data folder.
        serializer : str, optional
        by_value : sequence of modules
            As :meth:`ModelRegistry.register` takes them.
        replicas : int, optional
            Processes beside the kernel that answer; 0: the kernel does. Default: as it is live, else 0.
        accelerate : bool, optional
            Let a faster form of the model answer, if there is one that gives the same answers. Default: as
            it is live, else False.
        policy : str, optional
            Which of several idle replicas is asked: ``"least_loaded"``, ``"round_robin"``, ``"random"``, ``"weighted"``
            or ``"power_of_two"``. Default: as it is live, else the first of these.
        timeout : float, optional
            Seconds after which a prediction is given up, and the replica that hangs replaced. Default: as it
            is live, else 60.

        Raises
        ------
        MlnbError
            Nothing has changed then.

        Examples
        --------
        >>> import tempfile
        >>> from sklearn.dummy import DummyRegressor
        >>> model = DummyRegressor(strategy="constant", constant=4.0).fit([[0.0]], [4.0])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with deploy(model, name="four", example=[[0.0]], registry=folder) as four:
        ...         four.predict([[1.0], [2.0]])
        array([4., 4.])
        """
        if isinstance(model, Deployment):
            model, registry = str(model.version), registry or model.registry
        stored = isinstance(model, str)
        serving_name = ModelReference.parse(model).name if stored else validate_name(name or _name_for(model))
        given = {
            "example": example, "metrics": metrics, "description": description or None, "serializer": serializer,
            "by_value": by_value or None,
        }  # fmt: skip
        with self._lock:
            where = self._registry_for(registry, serving_name)
            turn = self._turns.setdefault(serving_name, threading.Lock())
        # Storing and loading take their time, on a bucket above all: other names go on meanwhile.
        with turn, self._server_on(port):  # first: a port that is taken must leave the registry as it was
            manner = self._manner(serving_name, replicas=replicas, policy=policy, timeout=timeout)
            if stored:
                version = _existing(where, model, name=name, **given)
            else:
                version = where.register(
                    model, serving_name, example=example, metrics=metrics, description=description,
                    serializer=serializer, by_value=by_value,
                )  # fmt: skip
            before = self._deployments.get(serving_name)
            if accelerate is None:
                accelerate = before is not None and before._live and before.acceleration is not None
            return self._serve(where, version, "deployed", manner=manner, accelerate=accelerate, example=example)

    def scale(self, name: str, replicas: int) -> Deployment:
        """Answer from as many processes beside the kernel; 0: from the kernel. No request fails because of it.

        Raises
        ------
        NotDeployedError, InvalidInputError
        MlnbError
            If a replica does not start; then all stays as it was.
        """
        deployment = self.find(name)
        with self._turns[name]:
            self._hosting.scale(name, _checked_replicas(replicas))
            deployment._scaled(replicas)
        return deployment

    def rollback(self, name: str, *, to: int | None = None) -> Deployment:
        """Make the version live that was live before, or version ``to``. No request fails because of it.

        Raises
        ------
        NotDeployedError, NoPreviousVersionError, ModelNotFoundError
        """
        deployment = self.find(name)
        with self._turns[name], self._server_on(None):
            registry = deployment.registry
            version = registry.rollback_target(name, to=to, events=deployment._history(registry))
            return self._serve(
                registry, version, "rolled back", manner=self._manner(name),
                accelerate=deployment.acceleration is not None,
            )  # fmt: skip

    def stop(self, name: str | None = None) -> list[Deployment]:
        """Stop one deployment, or all; return those that were stopped.

        What is in flight is still answered, for at most 5 seconds.

        Raises
        ------
        NotDeployedError
            If a name was given that is not deployed.
        """
        chosen = [self.find(name)] if name is not None else self.deployments()
        self._stop(chosen)
        return chosen

    def close(self) -> None:
        """Stop everything, as the end of the process does: the history keeps what was live."""
        self._take_down(self.deployments(), timeout=1.0)  # Jupyter kills a kernel that takes longer to end

    def deployments(self) -> list[Deployment]:
        """Return the live deployments of this process, by name."""
        return [one for _, one in sorted(self._deployments.items()) if one.state == "live"]

    def find(self, name: str) -> Deployment:
        """Return the live deployment of that name.

        Raises
        ------
        NotDeployedError
            With the names there are.
        """
        live = {one.name: one for one in self.deployments()}
        if name not in live:
            hint = nearest(name, live)
            if (plain := re.split("[:@]", name)[0]) in live:
                hint = f"{plain!r} is, and roll back takes the version as --to (to=)"
            raise NotDeployedError(f"{name!r} is not deployed here; {hint}.")
        return live[name]

    def versions(
        self,
        name: str | None = None,
        *,
        registry: ModelRegistry | str | Path | None = None,
        shown: int | None = SHOWN,
    ) -> VersionTable:
        """Return the versions of a model, newest first; without a name, one version of each model.

        Parameters
        ----------
        name : str, optional
        registry : ModelRegistry, str or Path, optional
        shown : int or None
            How many rows the table shows, None for all. The sequence holds all versions either way.

        Raises
        ------
        ModelNotFoundError
        """
        where = self._registry_for(registry, name)
        live = {one.name: one.version.number for one in self.deployments() if one.registry.url == where.url}
        return version_table(where, name, live=live, shown=shown)

    def _manner(
        self, name: str, *, replicas: int | None = None, policy: str | None = None, timeout: float | None = None
    ) -> Manner:
        """Return how a name is to be served: as asked, else as it is."""
        from mlnb.scaling.balancing import policy_named
        from mlnb.serving.gateway import Manner

        known = self._deployments.get(name)
        before = known._hosted.manner if known and known._live and known._hosted else Manner()
        if timeout is not None and not 0 < timeout < float("inf"):
            raise InvalidInputError(f"timeout={timeout!r}: a number of seconds above 0 is needed.")
        return Manner(
            replicas=before.replicas if replicas is None else _checked_replicas(replicas),
            policy=before.policy if policy is None else policy_named(policy).name,
            timeout=before.timeout if timeout is None else timeout,
        )

    def _serve(
        self, registry: ModelRegistry, version: ModelVersion, action: Action, *, manner: Manner, accelerate: bool,
        example: Any = None,
    ) -> Deployment:  # fmt: skip
        from mlnb.serving.hosting import Hosted

        # What is served is what is stored, whatever happens to the object in the notebook later.
        model = registry.load(version, mapped=manner.replicas > 0)
        acceleration = _faster(registry, version, model, example) if accelerate else None
        hosted = Hosted(registry=registry, version=version, manner=manner, acceleration=acceleration)
        deployment = self._deployments.get(version.name) or Deployment(self, registry, version)
        deployment._go_live(hosted, model, action)
        with self._lock:
            self._deployments[version.name] = deployment
        return deployment

    def _stop(self, chosen: list[Deployment]) -> None:
        with ExitStack() as turns:  # a deployment of that name which is on its way is there first
            for name in sorted({one.name for one in chosen}):
                turns.enter_context(self._turns[name])
            for deployment in self._take_down(chosen, timeout=_PATIENCE):
                deployment.registry.record(deployment.version, "stopped")

    def _take_down(self, chosen: list[Deployment], *, timeout: float) -> list[Deployment]:
        """Unpublish at once, then wait for what is in flight; return those that were live."""
        with self._lock:
            detached = [one for one in chosen if one._detach()]
        if not detached:
            return []
        with self._server_needed(), ExitStack() as steps:  # all of them, whatever becomes of one: it may be interrupted
            for one in detached:
                steps.callback(self._hosting.withdraw, one.name, within=timeout)
        return detached

    def _registry_for(self, registry: ModelRegistry | str | Path | None, name: str | None) -> ModelRegistry:
        if isinstance(registry, ModelRegistry):
            return registry
        known = self._deployments.get(name or "")
        if registry is None and known is not None and known.state == "live":
            return known.registry
        return ModelRegistry(registry)

    @contextmanager
    def _server_on(self, port: int | None) -> Iterator[None]:
        """Have a socket on ``port`` until the block has ended, and on as long as something is served."""
        with ExitStack() as need:
            with self._lock:
                self._hosting.listen(port)
                need.enter_context(self._server_needed())
            yield

    @contextmanager
    def _server_needed(self) -> Iterator[None]:
        """Let the server live until the block has ended."""
        with self._lock:
            self._deploying += 1
        try:
            yield
        finally:
            with self._lock:
                self._deploying -= 1
                if not self._deploying:
                    self._hosting.rest()


def _faster(registry: ModelRegistry, version: ModelVersion, model: Any, example: Any) -> Acceleration:
    from mlnb.scaling.acceleration.acceleration import accelerate

    return accelerate(model, signature=version.signature, golden=registry.golden(version), example=example)


def _checked_replicas(replicas: int) -> int:
    if not isinstance(replicas, int) or isinstance(replicas, bool) or not 0 <= replicas <= _MOST_REPLICAS:
        raise InvalidInputError(f"{replicas!r} replicas: a whole number from 0 to {_MOST_REPLICAS} is needed.")
    return replicas


def _existing(registry: ModelRegistry, reference: str, *, name: str | None, **given: Any) -> ModelVersion:
    wanted = ModelReference.parse(reference)
    if name not in (None, wanted.name):
        raise InvalidNameError(
            f"{reference!r} is served under its own name {wanted.name!r}, not {name!r}; leave the name out."
        )
    extra = [key for key, value in given.items() if value is not None]
    if extra:
        raise MlnbError(
            f"{reference!r} is stored already and a version never changes, so {' and '.join(extra)} cannot be added; "
            "leave it out, or deploy the model object as a new version."
        )
    return registry.version(reference)


def _name_for(model: object) -> str:
    """Name a model after its class (``RandomForestClassifier``: ``random-forest-classifier``), function or file."""
    if isinstance(model, Path):
        return validate_name(model.stem)
    own = getattr(model, "__name__", "")
    name = own if is_valid_name(own) else type(model).__name__
    return validate_name(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()[:63])


_workspace = Workspace()
atexit.register(_workspace.close)
deploy = _workspace.deploy
deployments = _workspace.deployments
find = _workspace.find
rollback = _workspace.rollback
scale = _workspace.scale
stop = _workspace.stop
versions = _workspace.versions
