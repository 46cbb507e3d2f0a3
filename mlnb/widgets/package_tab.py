"""The Package tab between two drawings: what it wrote, started and deployed, and what its controls do."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlnb.errors import MlnbError
from mlnb.packaging.folder import TOKEN
from mlnb.packaging.progress import Progress
from mlnb.registry.tables import format_size
from mlnb.widgets.package_view import ContainerView, PackageView, Step, Trouble, ended, told
from mlnb.widgets.render import curl

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from mlnb.packaging.cluster_status import ClusterStatus
    from mlnb.packaging.compose_project import ComposeProject
    from mlnb.packaging.containers import Container
    from mlnb.packaging.difference import ManifestDiff
    from mlnb.packaging.kubernetes import KubernetesDeployer
    from mlnb.packaging.package import Package, Target
    from mlnb.registry.signature import Signature
    from mlnb.workspace import Deployment

__all__ = ["PackageTab"]

_EVERY = 0.2  # seconds between two drawings of news: a build has hundreds of lines
_NOWHERE = Trouble(
    title="Where to?", message="Choose a context and type a namespace. Nothing is presumed, and nothing was sent."
)
_NEEDS_PLACE = ("package_compare", "package_deploy")
_AFTER_BUILD = ("package_run", *_NEEDS_PLACE)


class PackageTab:
    """What was written and started from here. A container goes on when the panel is closed.

    Parameters
    ----------
    deployment : Deployment
    redraw : callable
        Called when there is news of what is on its way.
    """

    def __init__(self, deployment: Deployment, *, redraw: Callable[[], None]) -> None:
        self._deployment = deployment
        self._redraw = redraw
        self._drawn_at = 0.0
        self._target: Target = "docker"
        self._busy = ""
        self._deleting = False
        self._package: Package | None = None
        self._steps: tuple[Step, ...] = ()
        self._signature: Signature | None = None  # of the version that was written
        self._container: Container | ComposeProject | None = None
        self._shown: ContainerView | None = None
        self._contexts: tuple[str, ...] = ()
        self._unreachable = ""
        self._difference: ManifestDiff | None = None
        self._place: tuple[str, str] = ("", "")  # context and namespace that were asked for
        self._cluster: ClusterStatus | None = None
        self._trouble: Trouble | None = None

    def view(self, number: int) -> PackageView:
        """Return what is drawn while version ``number`` is live."""
        now, package = time.monotonic(), self._package
        return PackageView(
            number=number,
            target=self._target,
            folder=f"build/{self._deployment.name}",
            busy=self._busy,
            package=package if package is not None and package.target == self._target else None,
            steps=[
                replace(step, seconds=now - step.since) if step.news.state == "running" else step
                for step in self._steps
            ],
            container=self._shown,
            contexts=self._contexts,
            unreachable=self._unreachable,
            difference=self._difference,
            cluster=self._cluster,
            deleting=self._deleting,
            trouble=self._trouble,
        )

    def deed(self, action: str, payload: dict[str, Any]) -> Callable[[], str] | None:
        """Return what a control does, which says what it did; None if something is on its way already."""
        if self._busy:
            return None  # pressed before the page heard of it
        deeds: dict[str, Callable[[], str]] = {
            "package_target": lambda: self._choose(payload["target"]),
            "package_write": lambda: self._write(payload["folder"].strip()),
            "package_build": self._build,
            "package_run": self._run,
            "package_stop": self._stop,
            "package_compare": self._compare,
            "package_deploy": self._deploy,
            "package_look": self._look,
            "package_rollback": self._roll_back,
            "package_ask": lambda: self._confirm(deleting=True),
            "package_keep": lambda: self._confirm(deleting=False),
            "package_delete": self._delete,
        }
        deed = deeds[action]
        if action in _NEEDS_PLACE:
            self._place = payload["context"].strip(), payload["namespace"].strip()
            deed = deed if all(self._place) else self._ask_where
        self._busy = action
        self._steps = self._built if action in _AFTER_BUILD else ()
        return lambda: self._attempt(deed)

    def _attempt(self, deed: Callable[[], str]) -> str:
        """Do it, and keep what went wrong to be shown where one looks."""
        self._trouble = self._difference = None
        state: Literal["done", "failed"] = "failed"
        try:
            self._redraw()
            said = deed()
        except MlnbError as error:
            self._trouble = Trouble(title=error.title, message=error.message)
            said = ""
        else:
            state = "done"
        finally:
            self._busy = ""
            self._end(state)
            self._redraw()
        return said

    def _choose(self, target: Target) -> str:
        self._target = target
        self._read_contexts()
        return ""

    def _read_contexts(self) -> None:
        """Read which clusters are known; that none is matters only to who deploys."""
        self._contexts, self._unreachable = (), ""
        if self._target == "kubernetes":
            try:
                self._contexts = _contexts()
            except MlnbError as error:
                self._unreachable = error.message

    def _write(self, folder: str) -> str:
        to = folder or f"build/{self._deployment.name}"
        self._watch(Progress(step="write", text="Pinning what the model imports, and writing…"))
        package = self._deployment.package(to, target=self._target)
        self._package, self._signature, self._steps = package, self._deployment.version.signature, ()
        self._read_contexts()
        return f"Written to {package.folder}."

    def _build(self) -> str:
        image = self._written.build(watch=self._watch)
        return f"{image.tag} is built: {format_size(image.size)}."

    def _run(self) -> str:
        self._stop()  # the one before has its name
        if self._target == "compose":
            project = self._container = self._written.up(watch=self._watch)
            url = project.urls["model"]
            self._shown = ContainerView(name=project.name, url=url, ask=self._ask(url), parity=project.parity)
        else:
            container = self._container = self._written.run(watch=self._watch)
            self._shown = ContainerView(
                name=container.name, url=container.url, ask=self._ask(container.url), memory=container.memory,
                parity=container.parity,
            )  # fmt: skip
        return f"{self._container.name} answers."

    def _ask(self, url: str) -> str:
        """Return the command that asks what runs at ``url``."""
        token = str(self._written.folder / TOKEN)
        return "" if self._signature is None else curl(url, self._signature, token_file=token)

    def _stop(self) -> str:
        if self._container is None:
            return ""
        self._container.stop()
        name, self._container, self._shown = self._container.name, None, None
        return f"{name} is stopped."

    def _ask_where(self) -> str:
        self._trouble = _NOWHERE
        return ""

    def _compare(self) -> str:
        context, namespace = self._place
        self._watch(Progress(step="compare", text=f"Asking {context} what would change in {namespace}…"))
        self._difference = self._written.plan(context=context, namespace=namespace)
        self._steps = self._built
        return ""

    def _deploy(self) -> str:
        context, namespace = self._place
        self._cluster = self._written.deploy(
            context=context, namespace=namespace, watch=self._watch, rollback_on_failure=True
        )
        return f"{self._cluster.name} answers in {namespace}."

    def _look(self) -> str:
        name, deployer = self._deployed()
        with deployer:
            status = deployer.status(name)
        before = self._cluster
        if before is not None and before.revision == status.revision:
            status = replace(status, parity=before.parity)  # what was compared still answers
        self._cluster = status
        return ""

    def _roll_back(self) -> str:
        name, deployer = self._deployed()
        with deployer:
            self._cluster = deployer.rollback(name, watch=self._watch)
        return f"{name} is rolled back to {self._cluster.image}."

    def _delete(self) -> str:
        self._deleting = False
        name, deployer = self._deployed()
        with deployer:
            deployer.delete(name, watch=self._watch)
        self._cluster = None
        return f"{name} is deleted from {deployer.namespace}."

    def _confirm(self, *, deleting: bool) -> str:
        self._deleting = deleting
        return ""

    def _deployed(self) -> tuple[str, KubernetesDeployer]:
        cluster = self._cluster
        if cluster is None:
            raise MlnbError("Nothing was deployed from here.")  # of a page from before
        return cluster.name, self._written.deployer(context=cluster.context, namespace=cluster.namespace)

    @property
    def _built(self) -> tuple[Step, ...]:
        """The step that built the image, if it did."""
        return tuple(step for step in self._steps if (step.news.step, step.news.state) == ("build", "done"))

    @property
    def _written(self) -> Package:
        if self._package is None:
            raise MlnbError("Nothing is written yet; press Write files.")  # of a page from before
        return self._package

    def _watch(self, news: Progress) -> None:
        """Take news, on whatever thread; the ticker draws what is not drawn here."""
        now = time.monotonic()
        self._steps = told(self._steps, news, now=now)
        if news.state != "running" or now >= self._drawn_at + _EVERY:
            self._drawn_at = now
            self._redraw()

    def _end(self, state: Literal["done", "failed"]) -> None:
        """Let nothing look as if it were still on its way."""
        self._steps = tuple(ended(step, state, now=time.monotonic()) for step in self._steps)


def _contexts() -> tuple[str, ...]:
    """Return the names of the clusters that the user's kubeconfig knows."""
    from mlnb.packaging.kubernetes import contexts

    return contexts()
