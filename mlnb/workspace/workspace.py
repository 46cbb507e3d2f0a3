"""The deployments of this process, and the one server they share."""

from __future__ import annotations

import re
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlnb.errors import InvalidInputError, InvalidNameError, MlnbError, NotDeployedError, nearest
from mlnb.registry import ModelRegistry
from mlnb.registry.reference import ModelReference, is_valid_name, validate_name
from mlnb.registry.tables import SHOWN, VersionTable, version_table
from mlnb.workspace.deployment import Deployment
from mlnb.workspace.pages import Surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import ModuleType

    from mlnb.monitoring.alerts import AlertRule
    from mlnb.monitoring.guards import Guard
    from mlnb.registry import ModelVersion
    from mlnb.registry.history import Action
    from mlnb.scaling.acceleration.acceleration import Acceleration
    from mlnb.scaling.autoscale import Autoscale
    from mlnb.scaling.policies.decision import ScalingPolicy
    from mlnb.scaling.policies.schedule import Schedule
    from mlnb.serving.canary import CanaryPlan
    from mlnb.serving.hosting import Hosted, Hosting
    from mlnb.serving.plan import Manner, Watching
    from mlnb.serving.rollout import Change
    from mlnb.workspace.control import Control
    from mlnb.workspace.dashboard import Dashboard
    from mlnb.workspace.traffic import Arrangement

_PATIENCE = 5.0  # seconds that stopping waits for what is in flight
_AGAIN = (0.5, 1.0, 2.0, 5.0)  # seconds between attempts to write down what a canary did

__all__ = ["Workspace"]


class Workspace:
    """The deployments of this process, and the one server they share; a process needs one, which this module has."""

    def __init__(self) -> None:
        self.surroundings = Surroundings()
        self._lock = threading.RLock()
        self._deployments: dict[str, Deployment] = {}  # stopped ones too: a name keeps its handle
        self._deploying = 0  # deployments on their way, and such as are being stopped, which need the server
        self._turns: dict[str, threading.Lock] = {}  # deployments of one name take turns

    @cached_property
    def _hosting(self) -> Hosting:
        """The server; made when it is needed first, for what it imports."""
        from mlnb.serving.hosting import Hosting

        return Hosting()

    @cached_property
    def _control(self) -> Control:
        """Where other programs of this user find what is live here."""
        from mlnb.workspace.control import Control

        return Control(self)

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
        replicas: int | str | tuple[int, int] | Autoscale | None = None,
        accelerate: bool | None = None,
        policy: str | None = None,
        timeout: float | None = None,
        log: Any = None,
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
        replicas : int, str or tuple, optional
            Processes beside the kernel that answer; 0: the kernel does. Bounds, such as ``"1:4"``, let their number
            follow the load, as :meth:`Deployment.autoscale` does. Default: as it is live, else 0.
        accelerate : bool, optional
            Let a faster form of the model answer, if there is one that gives the same answers. Default: as
            it is live, else False.
        policy : str, optional
            Which of several idle replicas is asked: ``"least_loaded"``, ``"round_robin"``, ``"random"``, ``"weighted"``
            or ``"power_of_two"``. Default: as it is live, else the first of these.
        timeout : float, optional
            Seconds after which a prediction is given up, and the replica that hangs replaced. Default: as it
            is live, else 60.
        log : bool, str, mapping or LogSettings, optional
            Whether and where predictions are logged: True for a SQLite file in the registry's folder, or
            the URL of a database; see :class:`~mlnb.monitoring.prediction_log.LogSettings`. Default: as it is live,
            else False.

        Raises
        ------
        MlnbError
            Nothing has changed then.

        Examples
        --------
        >>> import tempfile
        >>> from mlnb import deploy
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
            manner, autoscale = self._manner(serving_name, replicas=replicas, policy=policy, timeout=timeout)
            wanted = self._watching(serving_name, where, log=log)  # which refuses what is none
            if stored:
                version = _existing(where, model, name=name, **given)
                _check_hidden(wanted, lambda: version.signature.names)
            else:
                _check_hidden(wanted, lambda: _fields_of(model, example))
                version = where.register(
                    model, serving_name, example=example, metrics=metrics, description=description,
                    serializer=serializer, by_value=by_value,
                )  # fmt: skip
            before = self._deployments.get(serving_name)
            if accelerate is None:
                accelerate = before is not None and before._live and before.acceleration is not None
            return self._serve(
                where, version, "deployed", manner=manner, accelerate=accelerate, example=example,
                watching=wanted, autoscale=autoscale,
            )  # fmt: skip

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
            deployment._adopt(deployment._served.scaled(replicas))
            deployment._mark("scaled", f"scaled to {replicas}")
        return deployment

    def autoscale(
        self, name: str, least: int = 1, most: int = 4, *, target: float | None = None,
        policy: ScalingPolicy | str | None = None, p95: float | str | None = None, p99: float | str | None = None,
        schedules: Sequence[Schedule] = (), idle: float | str = "5m", forecast: bool = False,
    ) -> Deployment:  # fmt: skip
        """Let the number of replicas follow the load; see :meth:`Deployment.autoscale`.

        Raises
        ------
        NotDeployedError, InvalidInputError
        MlnbError
            If no replica starts; then all stays as it was.
        """
        from mlnb.scaling.autoscale import Autoscale

        autoscale = Autoscale.of(
            least, most, target=target, policy=policy, p95=p95, p99=p99, schedules=schedules, idle=idle,
            forecast=forecast,
        )  # fmt: skip
        deployment = self.find(name)
        with self._turns[name], self._server_on(None):
            hosted = deployment._served.autoscaled(autoscale)
            self._hosting.serve(hosted)
            deployment._adopt(hosted)
            deployment._mark("scaled", f"scaled by load: {autoscale.words}")
        return deployment

    def rollback(self, name: str, *, to: int | None = None, reason: str = "") -> Deployment:
        """Make the version live, alone, that was live before, or version ``to``. No request fails because of it.

        Out of a split or a canary this is the version that was live when it began.

        Parameters
        ----------
        name : str
        to : int, optional
        reason : str
            Why, for the history.

        Raises
        ------
        NotDeployedError, NoPreviousVersionError, ModelNotFoundError
        """
        deployment = self.find(name)
        with self._turns[name], self._server_on(None):
            registry, before = deployment.registry, deployment._before
            if to is None and before is not None:
                to = before.number
            if to is None and deployment._previous is None and deployment._served.shadow is not None:
                deployment._end_shadow(reason=reason)
                return deployment
            version = registry.rollback_target(name, to=to, events=deployment._history(registry))
            known = deployment._known(version)
            if known is not None:  # it was verified then, and now every millisecond counts
                deployment._go_live(known, {}, "rolled back", reason=reason)
                return deployment
            return self._serve(
                registry, version, "rolled back", manner=deployment._served.manner,
                autoscale=deployment._served.autoscale, accelerate=deployment.acceleration is not None, reason=reason,
            )  # fmt: skip

    def split(
        self, name: str, weights: Mapping[Any, float], *, key: str | None, shadow: Any, share: float
    ) -> Deployment:
        """Share the requests of a deployment out to several versions; see :meth:`Deployment.split`.

        Raises
        ------
        NotDeployedError, InvalidInputError, ModelNotFoundError
        """
        from mlnb.workspace.traffic import shadow_of, split_of

        def arrange(hosted: Hosted) -> Arrangement:
            split = split_of(hosted, weights, key=key)
            if shadow is None:
                return split
            both = shadow_of(split.hosted, shadow, share=share)
            return replace(split, hosted=both.hosted, traffic=split.traffic | {"shadow": both.about.number})

        return self._arrange(name, "split", arrange)[0]

    def shadow(self, name: str, reference: Any, *, share: float) -> Deployment:
        """Let a version see a copy of the requests, or end that; see :meth:`Deployment.shadow`.

        Raises
        ------
        NotDeployedError, InvalidInputError, ModelNotFoundError
        """
        from mlnb.workspace.traffic import check_shadow_free, shadow_of

        if reference is not None:
            return self._arrange(name, "shadowed", lambda hosted: shadow_of(hosted, reference, share=share))[0]
        deployment = self.find(name)
        with self._turns[name], self._server_on(None):
            check_shadow_free(deployment._served)
            deployment._end_shadow()
        return deployment

    def canary(
        self, name: str, reference: Any, *, steps: Sequence[float], hold: float | str,
        guard: Guard | Mapping[str, Any] | None,
    ) -> Deployment:  # fmt: skip
        """Make a version live step by step while guards hold; see :meth:`Deployment.canary`.

        Raises
        ------
        NotDeployedError, InvalidInputError, ModelNotFoundError
        """
        from mlnb.workspace.traffic import canary_of

        deployment, hosted = self._arrange(
            name, "canary", lambda hosted: canary_of(hosted, reference, steps=steps, hold=hold, guard=guard)
        )
        threading.Thread(
            target=self._follow, args=(deployment, hosted.canary), name=f"mlnb canary {name}", daemon=True
        ).start()
        return deployment

    def promote(self, name: str, number: int, *, reason: str = "") -> Deployment:
        """Make one of the versions that answer live, alone.

        Raises
        ------
        NotDeployedError, InvalidInputError
        """
        from mlnb.workspace.traffic import promoted

        deployment = self.find(name)
        with self._turns[name], self._server_on(None):
            deployment._go_live(promoted(deployment._served, number), {}, "promoted", reason=reason)
        return deployment

    def rewatch(self, deployment: Deployment, rules: tuple[AlertRule, ...], webhooks: tuple[str, ...]) -> None:
        """Let a deployment be watched by other rules; nothing else changes."""
        with self._turns[deployment.name], self._server_on(None):
            now = deployment._served
            hosted = replace(now, watching=replace(now.watching, rules=rules, webhooks=webhooks))
            self._hosting.serve(hosted)
            deployment._adopt(hosted)

    def _arrange(
        self, name: str, action: Action, arrange: Callable[[Hosted], Arrangement]
    ) -> tuple[Deployment, Hosted]:
        """Change how requests are shared out; the versions that are new are loaded and verified before."""
        deployment = self.find(name)
        with self._turns[name], self._server_on(None):
            arrangement = arrange(deployment._served)
            deployment._go_live(
                arrangement.hosted, self._verified(deployment._served, arrangement.hosted), action,
                about=arrangement.about, traffic=arrangement.traffic,
            )  # fmt: skip
        return deployment, arrangement.hosted

    def _verified(self, before: Hosted, hosted: Hosted) -> dict[int, Any]:
        """Return the models of the versions that begin to answer, loaded: they give their golden answers."""
        from mlnb.serving.hosting import load

        there = [one.version for one in before.variants]
        shadow = [] if hosted.shadow in (None, before.shadow) else [hosted.shadow]
        new = [one.version for one in (*hosted.variants, *shadow) if one and one.version not in there]
        return {version.number: load(hosted.registry, version) for version in new}

    def _follow(self, deployment: Deployment, canary: CanaryPlan) -> None:
        """Write down what a canary does by itself, on a thread, until it is over."""
        after = 0
        while True:
            try:
                changes = self._hosting.follow(deployment.name, canary.id, after)
            except MlnbError:  # it was stopped
                return
            end = next((change for change in changes if change.kind != "advanced"), None)
            if end is not None or not changes:
                self._end_canary(deployment, canary, end)
                return
            after = changes[-1].number

    def _end_canary(self, deployment: Deployment, canary: CanaryPlan, change: Change | None) -> None:
        """Learn what a canary came to, unless somebody has decided otherwise meanwhile, and write it down."""
        with self._turns[deployment.name]:
            now = deployment._canary
            if now is None or now.id != canary.id:
                return
            deployment._canary_ended(change)
            written = deployment._write_down(canary, change)
        for wait in _AGAIN:
            if written:
                return
            time.sleep(wait)
            written = deployment._write_down(canary, change)

    def stop(self, name: str | None = None) -> list[Deployment]:
        """Stop one deployment, or all; return those that were stopped.

        What is in flight is still answered, for at most 5 seconds.

        Raises
        ------
        NotDeployedError
            If a name was given that is not deployed.
        """
        chosen = [self.find(name)] if name is not None else self.deployments()
        try:
            self._stop(chosen)
        finally:
            if name is None and not self.deployments():
                self._end_control()
        return chosen

    def close(self) -> None:
        """Stop everything, as the end of the process does: the history keeps what was live."""
        try:
            self._take_down(self.deployments(), timeout=1.0)  # Jupyter kills a kernel that takes longer to end
        finally:
            self._end_control()

    def _end_control(self) -> None:
        if "_control" in vars(self):
            self._control.stop()

    def deployments(self) -> list[Deployment]:
        """Return the live deployments of this process, by name."""
        return [one for one in self.known() if one.state == "live"]

    def known(self) -> list[Deployment]:
        """Return all deployments there were in this process, live or stopped, by name."""
        return [one for _, one in sorted(self._deployments.items())]

    def monitor(self, name: str | None = None, *, window: int = 300) -> Dashboard:
        """Return the dashboard of a live deployment, or of all that are live.

        Parameters
        ----------
        name : str, optional
        window : {300, 3600}
            Seconds that it shows at first.

        Raises
        ------
        NotDeployedError, InvalidInputError
        """
        from mlnb.workspace.dashboard import Dashboard

        if name is None:
            return Dashboard(deployments=self.deployments, window=window)
        deployment = self.find(name)
        return Dashboard(name, deployments=lambda: [deployment], window=window)

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
        self, name: str, *, replicas: int | str | tuple[int, int] | Autoscale | None, policy: str | None,
        timeout: float | None,
    ) -> tuple[Manner, Autoscale | None]:  # fmt: skip
        """Return how a name is to be served, and how its replicas follow the load: as asked, else as it is."""
        from mlnb.scaling.balancing import policy_named
        from mlnb.serving.plan import Manner

        known = self._deployments.get(name)
        hosted = known._hosted if known and known._live else None
        before = hosted.manner if hosted else Manner()
        if timeout is not None and not 0 < timeout < float("inf"):
            raise InvalidInputError(f"timeout={timeout!r}: a number of seconds above 0 is needed.")
        count, autoscale = before.replicas, hosted.autoscale if hosted else None
        if replicas is not None:
            count, autoscale = _scaling(replicas, count, autoscale)
        manner = Manner(
            replicas=count,
            policy=before.policy if policy is None else policy_named(policy).name,
            timeout=before.timeout if timeout is None else timeout,
        )
        return manner, autoscale

    def _watching(self, name: str, registry: ModelRegistry, *, log: Any = None) -> Watching:
        """Return how a name is to be watched: as asked, else as it is."""
        from mlnb.serving.plan import Watching

        known = self._deployments.get(name)
        before = known._hosted.watching if known and known._live and known._hosted else Watching()
        if log is None:
            return before
        if log is False:
            return replace(before, log=None)
        from mlnb.monitoring.prediction_log import LogSettings

        settings = LogSettings.of(log)
        return replace(before, log=settings.beside(registry.url))

    def _serve(
        self, registry: ModelRegistry, version: ModelVersion, action: Action, *, manner: Manner, accelerate: bool,
        autoscale: Autoscale | None, example: Any = None, reason: str = "", watching: Watching | None = None,
    ) -> Deployment:  # fmt: skip
        from mlnb.serving.hosting import Hosted, Variant, load

        # What is served is what is stored, whatever happens to the object in the notebook later.
        model = load(registry, version)
        acceleration = _faster(registry, version, model, example) if accelerate else None
        hosted = Hosted(
            registry=registry, live=Variant(version=version, acceleration=acceleration), manner=manner,
            watching=self._watching(version.name, registry) if watching is None else watching,
        )  # fmt: skip
        if autoscale is not None:
            hosted = hosted.autoscaled(autoscale)
        deployment = self._deployments.get(version.name) or Deployment(self, registry, version)
        deployment._go_live(hosted, {version.number: model}, action, reason=reason)
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
            try:
                with self._lock:
                    self._deploying -= 1
                    if not self._deploying:
                        self._hosting.rest()
            finally:  # it may be interrupted
                self._control.heed()


def _faster(registry: ModelRegistry, version: ModelVersion, model: Any, example: Any) -> Acceleration:
    from mlnb.scaling.acceleration.acceleration import accelerate

    return accelerate(model, signature=version.signature, golden=registry.golden(version), example=example)


def _checked_replicas(replicas: int) -> int:
    from mlnb.scaling.autoscale import replicas_of

    count = replicas_of(replicas)
    if isinstance(count, tuple):
        least, most = count
        raise InvalidInputError(
            f"{replicas!r} are bounds, and scale takes a number; autoscale({least}, {most}) is meant."
        )
    return count


def _scaling(given: Any, count: int, autoscale: Autoscale | None) -> tuple[int, Autoscale | None]:
    """Return how many replicas are asked for, and how they follow the load: other bounds keep the rule that holds."""
    from mlnb.scaling.autoscale import Autoscale, replicas_of

    if isinstance(given, Autoscale):
        return count, given
    wanted = replicas_of(given)
    if isinstance(wanted, int):
        return wanted, None
    anew = Autoscale.of(*wanted)
    return count, anew if autoscale is None else replace(autoscale, least=anew.least, most=anew.most)


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


def _check_hidden(watching: Watching, names: Callable[[], Sequence[str]]) -> None:
    """Refuse a log that is to hide what is no field."""
    if watching.log is not None and (watching.log.leave_out or watching.log.hashed):
        from mlnb.monitoring.prediction_log import check_fields

        check_fields(watching.log, names())


def _fields_of(model: Any, example: Any) -> Sequence[str]:
    """Return what the fields of a model will be called that is not registered yet."""
    from mlnb.registry.admission import opened, plain_example
    from mlnb.registry.rows.inference import infer_signature

    return infer_signature(opened(model), plain_example(example)).names


def _name_for(model: object) -> str:
    """Name a model after its class (``RandomForestClassifier``: ``random-forest-classifier``), function or file."""
    if isinstance(model, Path):
        return validate_name(model.stem)
    own = getattr(model, "__name__", "")
    name = own if is_valid_name(own) else type(model).__name__
    return validate_name(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()[:63])
