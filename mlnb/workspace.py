"""What this process has deployed: joins registry, serving and monitoring, and hands out deployments."""

from __future__ import annotations

import atexit
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from mlnb.errors import InvalidNameError, MlnbError, NotDeployedError, PortInUseError, StoppedError, nearest
from mlnb.registry import ModelRegistry, history
from mlnb.registry.reference import ModelReference, is_valid_name, validate_name
from mlnb.registry.tables import SHOWN, VersionTable, version_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import ModuleType

    import numpy as np

    from mlnb.monitoring import MetricsSnapshot
    from mlnb.monitoring.monitor import Series
    from mlnb.registry import ModelVersion
    from mlnb.registry.history import Action, HistoryEvent
    from mlnb.serving.app import Served
    from mlnb.serving.server import Server
    from mlnb.serving.service import Answer, ModelService

_PATIENCE = 5.0  # seconds that stopping waits for what is in flight

__all__ = ["Deployment", "DeploymentSnapshot", "Workspace", "deploy", "deployments", "rollback", "stop", "versions"]


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
    """

    def __init__(self, workspace: Workspace, registry: ModelRegistry, version: ModelVersion) -> None:
        from mlnb.monitoring import ModelMonitor

        self.name = version.name
        self.registry = registry
        self.version = version
        self.url = ""
        self._workspace = workspace
        self._service: ModelService | None = None
        self._monitor = ModelMonitor()
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
        return "stopped" if self._service is None else "live"

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

        service = self._service
        if service is None:
            raise StoppedError(f"{self.name!r} was stopped. Deploy it again: mlnb.deploy({str(self.version)!r}).")
        return service.submit(
            lambda signature: Query(rows=signature.coerce(rows), probabilities=probabilities)
        ).result()

    def info(self) -> dict[str, Any]:
        """Return what ``GET {url}/info`` answers: version, metrics, signature, example row."""
        from mlnb.serving.app import describe

        return describe(self.version)

    def metrics(self) -> MetricsSnapshot:
        """Return requests, errors and latency so far."""
        return self._monitor.snapshot(now=time.time())

    def series(self) -> Series:
        """Return requests, errors and latency second by second over the last five minutes."""
        return self._monitor.series(now=time.time())

    def rollback(self, *, to: int | None = None) -> Deployment:
        """Make the version live that was live before, or version ``to``. No request fails because of it.

        Raises
        ------
        NoPreviousVersionError, ModelNotFoundError, NotDeployedError
        """
        return self._workspace.rollback(self.name, to=to)

    def start(self) -> Deployment:
        """Serve the last version again after :meth:`stop`; nothing happens if it is live.

        Raises
        ------
        ModelNotFoundError, IntegrityError, ServerStartError
        """
        if self.state == "live":
            return self
        return self._workspace.deploy(str(self.version), registry=self.registry)

    def stop(self) -> None:
        """Take no more requests and answer those in flight, for at most 5 seconds. Again is harmless."""
        self._workspace._stop([self])

    def snapshot(self) -> DeploymentSnapshot:
        """Return what a panel draws; no file is read."""
        return DeploymentSnapshot(
            name=self.name, url=self.url, docs_url=f"{self.url.removesuffix(f'/models/{self.name}')}/docs",
            place="in kernel", state=self.state, version=self.version, since=self._since, at=datetime.now(UTC),
            versions=self._versions, previous=self._previous, metrics=self.metrics(),
        )  # fmt: skip

    def _go_live(
        self, registry: ModelRegistry, version: ModelVersion, model: object, action: Action, *, server_url: str
    ) -> Served:
        """Record and serve a version; what the registry may refuse comes first, so that nothing is half done."""
        from mlnb.monitoring import ModelMonitor
        from mlnb.serving.app import Served
        from mlnb.serving.service import ModelService

        versions = tuple(reversed(registry.versions(self.name)))
        if self.registry.url != registry.url:
            self._own.clear()  # another registry has another history
        self._own.append(registry.record(version, action).number)
        previous = history.previous(self._history(registry))
        if self._service is None:
            self._monitor = ModelMonitor()
            self._service = ModelService(version, model, listener=self._monitor.observe)
        else:
            self._service.swap(version, model)
        self.registry, self.version, self._versions = registry, version, versions
        self._previous = previous
        self._since = datetime.now(UTC)
        self.url = f"{server_url}/models/{self.name}"
        return Served(self._service, self._monitor)

    def _history(self, registry: ModelRegistry) -> list[HistoryEvent]:
        """Return what one can roll back through here: what was before, and one's own; not what others do since."""
        return [
            event for event in registry.history(self.name) if event.number < self._own[0] or event.number in self._own
        ]

    def _detach(self) -> ModelService | None:
        """Become stopped; return the service to close, None if it was stopped already."""
        service, self._service = self._service, None
        if service is not None:
            self._since = datetime.now(UTC)
        return service


class Workspace:
    """The deployments of this process, and the one server they share; a process needs one, which this module has."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._served: dict[str, Served] = {}
        self._deployments: dict[str, Deployment] = {}  # stopped ones too: a name keeps its handle
        self._server: Server | None = None
        self._last_port: int | None = None
        self._deploying = 0  # deployments on their way, which need the server
        self._turns: dict[str, threading.Lock] = {}  # deployments of one name take turns

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
            if stored:
                version = _existing(where, model, name=name, **given)
            else:
                version = where.register(
                    model, serving_name, example=example, metrics=metrics, description=description,
                    serializer=serializer, by_value=by_value,
                )  # fmt: skip
            loaded = where.load(version)  # what is served is what is stored, whatever happens to `model` later
            with self._lock:
                return self._serve(where, version, loaded, "deployed")

    def rollback(self, name: str, *, to: int | None = None) -> Deployment:
        """Make the version live that was live before, or version ``to``. No request fails because of it.

        Raises
        ------
        NotDeployedError, NoPreviousVersionError, ModelNotFoundError
        """
        with self._lock:
            deployment = self.find(name)
            registry = deployment.registry
            version = registry.rollback_target(name, to=to, events=deployment._history(registry))
            return self._serve(registry, version, registry.load(version), "rolled back")

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
        return [self._deployments[name] for name in sorted(self._served)]

    def find(self, name: str) -> Deployment:
        """Return the live deployment of that name.

        Raises
        ------
        NotDeployedError
            With the names there are.
        """
        if name not in self._served:
            hint = nearest(name, self._served)
            if (plain := re.split("[:@]", name)[0]) in self._served:
                hint = f"{plain!r} is, and roll back takes the version as --to (to=)"
            raise NotDeployedError(f"{name!r} is not deployed here; {hint}.")
        return self._deployments[name]

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

    def _serve(self, registry: ModelRegistry, version: ModelVersion, model: object, action: Action) -> Deployment:
        assert self._server is not None  # noqa: S101 - for the type checker; the callers started it
        deployment = self._deployments.get(version.name) or Deployment(self, registry, version)
        served = deployment._go_live(registry, version, model, action, server_url=self._server.url)
        self._deployments[version.name] = deployment
        self._served[version.name] = served
        return deployment

    def _stop(self, chosen: list[Deployment]) -> None:
        for deployment in self._take_down(chosen, timeout=_PATIENCE):
            deployment.registry.record(deployment.version, "stopped")

    def _take_down(self, chosen: list[Deployment], *, timeout: float) -> list[Deployment]:
        """Unpublish at once, then wait for what is in flight; return those that were live."""
        with self._lock:
            services = {one: service for one in chosen if (service := one._detach()) is not None}
            for one in services:
                del self._served[one.name]
        for service in services.values():
            service.close(timeout=timeout)
        with self._lock:
            self._stop_idle_server()
        return list(services)

    def _registry_for(self, registry: ModelRegistry | str | Path | None, name: str | None) -> ModelRegistry:
        if isinstance(registry, ModelRegistry):
            return registry
        if registry is None and name in self._served:
            return self._deployments[name].registry
        return ModelRegistry(registry)

    @contextmanager
    def _server_on(self, port: int | None) -> Iterator[None]:
        """Have a server on ``port`` until the block has ended, and on as long as something is served."""
        with self._lock:
            self._start_server(port)
            self._deploying += 1
        try:
            yield
        finally:
            with self._lock:
                self._deploying -= 1
                self._stop_idle_server()

    def _start_server(self, port: int | None) -> None:
        """Have a server on ``port``."""
        from mlnb.serving.app import create_app
        from mlnb.serving.server import Server

        if self._server is not None:
            if port not in (None, self._server.port):
                raise PortInUseError(
                    f"The models of this kernel share port {self._server.port}, so port {port} was not opened. "
                    f"Leave the port out, or stop {', '.join(sorted(self._served))} first."
                )
            return
        app = create_app(self._served)
        try:
            self._server = Server(app, port=self._last_port if port is None else port)
        except PortInUseError:
            if port is not None or self._last_port is None:
                raise
            self._server = Server(app)  # the last port went to somebody else meanwhile
        self._last_port = self._server.port

    def _stop_idle_server(self) -> None:
        if self._server is not None and not self._served and not self._deploying:
            self._server.stop()
            self._server = None


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
rollback = _workspace.rollback
stop = _workspace.stop
versions = _workspace.versions
