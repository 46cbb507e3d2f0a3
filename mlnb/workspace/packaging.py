"""From what is deployed or registered here to files that run elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlnb.workspace.scaled import Scaled

if TYPE_CHECKING:
    from mlnb.packaging.package import Package, Target
    from mlnb.packaging.subject import Measured
    from mlnb.registry import ModelRegistry, ModelVersion

__all__ = ["Packaged", "package"]


def package(
    reference: str, to: str | Path, *, target: Target = "docker", registry: ModelRegistry | str | Path | None = None,
    base: str = "", source: str = "", repository: str = "", replicas: int | None = None,
    cores: float | None = None, memory: int | str | None = None, prometheus: bool = False, namespace: str = "",
    network_policy: bool = False, kserve: bool = False,
) -> Package:  # fmt: skip
    """Write the files with which a version runs without the notebook.

    Parameters
    ----------
    reference : str
        A name that is deployed here: the version that is live, with what was measured. Else a version of the registry:
        ``"iris"``, ``"iris:3"`` or ``"iris@champion"``.
    to : str or Path
        A folder; made if it is not there. What an earlier package left in it is replaced, files of others stay.
    target : str
        ``"docker"``, ``"compose"`` or ``"kubernetes"``; the latter two have all that the first one has.
    registry : ModelRegistry, str or Path, optional
    base : str
        The image to build on. Default: ``python:X.Y-slim`` of the notebook's Python.
    source : str
        URL of a registry from which the version is fetched at start, for instance ``"s3://team/models"``. Default: its
        files are in the image.
    repository : str
        Where the image is pushed to, for instance ``"registry.example/team"``.
    replicas : int, optional
        On Kubernetes. Default: as in the notebook.
    cores : float, optional
        That a container asks for. Default: what was measured, for a name that is deployed here.
    memory : int or str, optional
        Bytes that it asks for, or text such as ``"512 MiB"``. Default: likewise.
    prometheus : bool
        Whether Compose starts a Prometheus beside it, pointed at its metrics.
    namespace : str
        On Kubernetes.
    network_policy, kserve : bool
        On Kubernetes: whether only its own namespace may reach it; whether KServe runs it.

    Raises
    ------
    PackagingError
        If it is not portable, its requirements cannot be resolved, or a file of somebody else is in the way; then
        nothing is written.
    ModelNotFoundError, InvalidInputError

    Examples
    --------
    >>> mlnb.package("iris", "build/iris", target="kubernetes").build()  # doctest: +SKIP
    """
    from mlnb.registry import ModelRegistry
    from mlnb.registry.reference import ModelReference
    from mlnb.workspace import deployments

    wished = {
        "target": target, "base": base, "source": source, "repository": repository, "replicas": replicas,
        "cores": cores, "memory": memory, "prometheus": prometheus, "namespace": namespace,
        "network_policy": network_policy, "kserve": kserve,
    }  # fmt: skip
    live = {one.name: one for one in deployments()} if registry is None else {}
    if reference in live:
        return live[reference].package(to, **wished)  # type: ignore[arg-type]  # each of them is its own type
    known = live.get(ModelReference.parse(reference).name)
    if isinstance(registry, ModelRegistry):
        where = registry
    else:
        where = ModelRegistry(registry) if known is None else known.registry
    return _bundle(where, where.version(reference), to, measured=None, **wished)


class Packaged(Scaled):
    """The part of a deployment that takes it out of the notebook; :class:`~mlnb.workspace.Deployment` is the whole."""

    version: ModelVersion
    registry: ModelRegistry

    def package(
        self, to: str | Path, *, target: Target = "docker", base: str = "", source: str = "", repository: str = "",
        replicas: int | None = None, cores: float | None = None, memory: int | str | None = None,
        prometheus: bool = False, namespace: str = "", network_policy: bool = False, kserve: bool = False,
    ) -> Package:  # fmt: skip
        """Write the files with which the live version runs without the notebook.

        What was measured here becomes what is asked of the machine there: memory, cores, replicas, and how they follow
        the load. The arguments are those of :func:`mlnb.package`.

        Raises
        ------
        PackagingError
            If it is not portable, its requirements cannot be resolved, or a file of somebody else is in the way; then
            nothing is written.
        StoppedError
        """
        return _bundle(
            self.registry, self.version, to, measured=self._measured(), target=target, base=base, source=source,
            repository=repository, replicas=replicas, cores=cores, memory=memory, prometheus=prometheus,
            namespace=namespace, network_policy=network_policy, kserve=kserve,
        )  # fmt: skip

    def _measured(self) -> Measured:
        """Return what serving took, as far as it is known."""
        import psutil

        from mlnb.packaging.subject import Measured

        hosted, seen = self._served, self._hosting.snapshot(self.name)
        pids = [one.pid for one in seen.replicas if one.pid is not None and one.state == "ready"]
        sizes = [psutil.Process(pid).memory_info().rss for pid in pids if psutil.pid_exists(pid)]
        last = None if seen.scaling is None or seen.scaling.last is None else seen.scaling.last.sample
        service = seen.service if last is None or last.service is None else last.service  # which knows the cores, too
        return Measured(
            memory=max(sizes, default=None), cores=None if service is None else service.cores,
            service=None if service is None else service.of(1), startup=seen.startup,
            replicas=max(1, hosted.replicas), autoscale=hosted.autoscale, timeout=hosted.manner.timeout,
        )  # fmt: skip


def _bundle(
    registry: ModelRegistry, version: ModelVersion, to: str | Path, *, measured: Measured | None, **wished: Any
) -> Package:
    from mlnb.packaging.bundle import Wishes, bundle
    from mlnb.packaging.subject import Measured

    return bundle(registry, version, Path(to), Wishes(measured=measured or Measured(), **wished))
