"""A version as files that run without the notebook: what was written, and what can be done with it."""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from mlnb.errors import MlnbError, PackagingError
from mlnb.packaging.compose import PORT
from mlnb.packaging.progress import Watcher, printed

if TYPE_CHECKING:
    from pathlib import Path

    from mlnb.packaging.bundle import Wishes
    from mlnb.packaging.cluster_status import ClusterStatus
    from mlnb.packaging.compose_project import ComposeProject
    from mlnb.packaging.containers import Container
    from mlnb.packaging.difference import ManifestDiff
    from mlnb.packaging.images import BuiltImage
    from mlnb.packaging.kubernetes import KubernetesDeployer
    from mlnb.packaging.parity import Parity
    from mlnb.packaging.subject import PackagedModel
    from mlnb.registry.proofs.golden import GoldenRows

__all__ = ["TARGETS", "Command", "Package", "PackageFile", "Target"]

Target = Literal["docker", "compose", "kubernetes"]
TARGETS: tuple[Target, ...] = ("docker", "compose", "kubernetes")


@dataclass(frozen=True, slots=True)
class PackageFile:
    """One file of a package.

    Attributes
    ----------
    path : str
        In the folder, with ``/``.
    size : int
        Bytes.
    text : str or None
        What is in it, where a person would read it; never a secret.
    """

    path: str
    size: int
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """One line for a shell.

    Attributes
    ----------
    line : str
    does : str
        In a few words, for instance ``"build the image"``.
    """

    line: str
    does: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """What was written, and what can be done with it.

    Attributes
    ----------
    folder : Path
    target : str
        ``"docker"``, ``"compose"`` or ``"kubernetes"``.
    subject : PackagedModel
    image : str
        The tag it is built under, for instance ``"iris:3"``.
    files : tuple of PackageFile
    expected_size : int
        Bytes the image is expected to have.
    commands : tuple of Command
        What to run, in this order.
    wishes : Wishes
        How it was asked for.
    notes : tuple of str
        What was translated, left out or is missing here to run it; a sentence each.

    Examples
    --------
    >>> package = mlnb.package("iris:3", "build/")  # doctest: +SKIP
    >>> package.build()  # doctest: +SKIP
    >>> with package.run() as container:  # doctest: +SKIP
    ...     container.predict([[5.1, 3.5, 1.4, 0.2]])
    """

    folder: Path
    target: Target
    subject: PackagedModel
    image: str
    files: tuple[PackageFile, ...]
    expected_size: int
    commands: tuple[Command, ...]
    wishes: Wishes
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        from mlnb.packaging.package_text import package_text

        return package_text(self)

    def _repr_html_(self) -> str:
        from mlnb.packaging.package_text import package_html

        return package_html(self)

    @property
    def token(self) -> str:
        """What requests to it have to bring: ``Authorization: Bearer TOKEN``.

        Raises
        ------
        PackagingError
            If it was removed from the folder.
        """
        from mlnb.packaging.folder import read_token

        return read_token(self.folder)

    def build(self, *, watch: Watcher = printed) -> BuiltImage:
        """Build the image.

        Raises
        ------
        EngineError
            If there is no Docker, or a step of the build fails.
        """
        from mlnb.packaging.images import build

        self._check()
        return build(self.folder, self.image, watch=watch)

    def push(self, *, watch: Watcher = printed) -> str:
        """Push the image to the repository it is named after, and return its digest; logging in is its user's own.

        Raises
        ------
        PackagingError
            If it was packaged without a repository: Docker would take the name for one of Docker Hub.
        EngineError
        """
        from mlnb.packaging.images import push

        if not self.wishes.repository:
            raise PackagingError(f"{self.image} is named after no repository; package it again with repository=.")
        return push(self.image, watch=watch)

    def run(self, *, port: int | None = None, watch: Watcher = printed) -> Container:
        """Start the image that was built, on a port of this machine, and compare its answers with the recorded ones.

        Parameters
        ----------
        port : int, optional
            Default: one that is free.
        watch : callable
            Told how far it is. Default: prints a line.

        Returns
        -------
        Container
            Which answers; its ``parity`` says how.

        Raises
        ------
        EngineError
            If it does not start; then nothing is left of it.
        PackagingError
            If the folder holds another version by now, or no token.
        PortInUseError
        """
        from mlnb.packaging.containers import run
        from mlnb.packaging.naming import object_name

        self._check()
        golden = self.golden()  # before anything is started
        name = f"{object_name(self.subject.name).name}-{self.subject.number}"
        container = run(
            self.folder, self.image, name=name, options=self.wishes.options, model=self.subject.name, port=port,
            watch=watch,
        )  # fmt: skip
        try:
            container.parity = self._compared(container.url, golden, where=f"container {name}")
        except BaseException:
            container.stop()
            raise
        return container

    def up(self, *, port: int | None = None, watch: Watcher = printed) -> ComposeProject:
        """Have Compose start what was written for it, and compare its answers with the recorded ones.

        The image is built first if it is not there.

        Parameters
        ----------
        port : int, optional
            On this machine. Default: the one in the file, or one that is free if a program here has that one.
        watch : callable

        Raises
        ------
        EngineError
            If it does not start; then nothing is left of it.
        PackagingError
            If it was not written for Compose.
        """
        from mlnb.packaging.compose_project import up
        from mlnb.packaging.images import size_of
        from mlnb.packaging.naming import object_name

        self._check()
        golden = self.golden()
        name = object_name(self.subject.name).name
        built = size_of(self.image) is not None
        project = up(self.folder, project=name, port=_free(port), build=not built, watch=watch)
        parity = self._compared(project.urls["model"], golden, where=f"Compose project {name}")
        return replace(project, parity=parity)

    def deployer(self, *, context: str, namespace: str) -> KubernetesDeployer:
        """Return what deploys to a cluster.

        Raises
        ------
        ClusterError
        """
        from mlnb.packaging.kubernetes import KubernetesDeployer

        return KubernetesDeployer(context=context, namespace=namespace)

    def plan(self, *, context: str, namespace: str) -> ManifestDiff:
        """Return what deploying would change, and change nothing.

        Raises
        ------
        ClusterError
        """
        with self.deployer(context=context, namespace=namespace) as deployer:
            return deployer.plan(self._manifests(deployer, namespace), token=self.token)

    def deploy(
        self, *, context: str, namespace: str, rollback_on_failure: bool = False, watch: Watcher = printed
    ) -> ClusterStatus:
        """Apply it to a cluster, wait until it answers, and compare its answers with the recorded ones.

        Parameters
        ----------
        context : str
            Of the kubeconfig.
        namespace : str
            Which is there.
        rollback_on_failure : bool
            Whether to go back to what was there before, if it does not become ready.
        watch : callable

        Raises
        ------
        ClusterError
            With the pod, the event and the last lines it wrote.
        """
        with self.deployer(context=context, namespace=namespace) as deployer:
            manifests, golden = self._manifests(deployer, namespace), self.golden()
            status = deployer.deploy(manifests, token=self.token, rollback_on_failure=rollback_on_failure, watch=watch)
            return replace(status, parity=self._cluster_parity(deployer, status.name, golden))

    def golden(self) -> GoldenRows | None:
        """Return the rows with the answers that were recorded when the version was registered."""
        from mlnb.registry import ModelRegistry

        place = self.subject.registry or str(self.folder / "model")
        return ModelRegistry(place).assume_trusted().golden(self.subject.reference)

    def _manifests(self, deployer: KubernetesDeployer, namespace: str) -> tuple[dict[str, Any], ...]:
        from mlnb.packaging.bundle import cluster_config

        wishes = replace(self.wishes, namespace=namespace)
        return cluster_config(self.subject, self.image, wishes).manifests(deployer.served())

    def _cluster_parity(self, deployer: KubernetesDeployer, name: str, golden: GoldenRows | None) -> Parity:
        """Ask what runs there by a port-forward; that there is none fails nothing, for it runs."""
        from mlnb.packaging.parity import Parity

        where = f"{name} in {deployer.namespace}"
        try:
            with deployer.forward(name) as url:
                return self._compared(url, golden, where=where)
        except MlnbError as error:
            return Parity(where=where, rows=0, reason=error.message)

    def _compared(self, url: str, golden: GoldenRows | None, *, where: str) -> Parity:
        from mlnb.packaging.parity import check

        return check(url, token=self.token, name=self.subject.name, golden=golden, where=where)

    def _check(self) -> None:
        """Refuse a folder that holds another version by now."""
        from mlnb.packaging.folder import check_current

        check_current(self.folder, reference=self.subject.reference, digest=self.subject.digest)


def _free(port: int | None) -> int | None:
    """Return the port that is asked for, 0 (any) where none is and a program of this machine has the usual one."""
    if port is not None:
        return port
    with socket.socket() as probe:
        probe.settimeout(1)
        taken = probe.connect_ex(("127.0.0.1", PORT)) == 0
    return 0 if taken else None
