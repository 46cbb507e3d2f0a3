"""Makes a version into a folder of files that run without the notebook."""

from __future__ import annotations

import platform
import shlex
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlnb.errors import InvalidInputError, nearest
from mlnb.packaging.amounts import bytes_of, cores_of
from mlnb.packaging.compose import PORT, ComposeConfig
from mlnb.packaging.docker import DockerConfig
from mlnb.packaging.folder import TOKEN, staged, write_folder
from mlnb.packaging.images import size_of
from mlnb.packaging.locking import lock
from mlnb.packaging.manifests import KubernetesConfig
from mlnb.packaging.model_files import write_model
from mlnb.packaging.naming import image_said, image_tag
from mlnb.packaging.package import TARGETS, Command, Package, PackageFile, Target
from mlnb.packaging.sizes import expected_size
from mlnb.packaging.subject import Measured, PackagedModel, ServeOptions
from mlnb.packaging.subjects import subject_of
from mlnb.packaging.wheels import own_wheel

if TYPE_CHECKING:
    from mlnb.registry import ModelRegistry, ModelVersion

__all__ = ["Wishes", "bundle"]

_SECRET = f"Requests bring the token in {TOKEN}: keep it to yourself."
_LOCAL = "The image is taken from the node itself; name a repository to have it pulled, and push it there."
_AS_IT_IS = "kubectl goes where its current context points; package.deploy() wants context and namespace by name."
_SHOWN = 200_000  # characters of a file that a person would read


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How a version is to be packaged, as its user asked.

    Attributes
    ----------
    target : str
        ``"docker"``, ``"compose"`` or ``"kubernetes"``.
    base : str
        The image to build on; "": the slim one of the notebook's Python.
    source : str
        URL of the registry to fetch the version from at start; "": its files are in the image.
    repository : str
        Where the image is pushed to, for instance ``"ghcr.example/team"``; "": nowhere.
    measured : Measured
    replicas : int or None
        Pods, where their number is fixed; None: as in the notebook.
    cores : float or None
        That a container asks for; None: as it was measured.
    memory : int, str or None
        Bytes that a container asks for, or text such as ``"512 MiB"``; None: as it was measured.
    prometheus : bool
        Whether Compose starts a Prometheus beside it.
    namespace : str
        For Kubernetes.
    network_policy, kserve : bool
        For Kubernetes: whether only the same namespace reaches it; whether KServe is to run it.
    """

    target: Target = "docker"
    base: str = ""
    source: str = ""
    repository: str = ""
    measured: Measured = field(default_factory=Measured)
    replicas: int | None = None
    cores: float | None = None
    memory: int | str | None = None
    prometheus: bool = False
    namespace: str = ""
    network_policy: bool = False
    kserve: bool = False

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise InvalidInputError(f"target={self.target!r:.40}; {nearest(str(self.target), TARGETS)}.")
        self.options  # noqa: B018 - raises where cores or memory are none

    @property
    def options(self) -> ServeOptions:
        """How ``mlnb serve`` runs: as the notebook's server did."""
        usual = ServeOptions()
        return replace(
            usual, timeout=self.measured.timeout or usual.timeout,
            cores=None if self.cores is None else cores_of(self.cores),
            memory=None if self.memory is None else bytes_of(self.memory),
        )  # fmt: skip


def bundle(registry: ModelRegistry, version: ModelVersion, to: Path, wishes: Wishes) -> Package:
    """Write the files of a version.

    Parameters
    ----------
    registry : ModelRegistry
    version : ModelVersion
    to : Path
        A folder; made if it is not there.
    wishes : Wishes

    Raises
    ------
    PackagingError
        If the version is not portable, its requirements cannot be resolved, or a file of somebody else is in the way;
        nothing is written then.
    """
    subject = subject_of(registry, version, source=wishes.source)
    image = image_tag(subject.name, subject.number, repository=wishes.repository)
    wheel = own_wheel()
    docker = DockerConfig(subject, options=wishes.options, base=wishes.base)
    extra, said = _of_target(subject, image, wishes)
    locked = lock(subject.requirements, python=subject.python, wheel=wheel, extras=subject.extras, platform=_platform())
    texts = docker.files() | {"requirements.txt": locked.requirements, "uv.txt": locked.installer} | extra
    with staged(to) as name:
        folder = Path(name)
        _write_texts(folder, texts)
        (folder / "wheels").mkdir()
        (folder / "wheels" / wheel.name).write_bytes(wheel.content)
        if not subject.registry:
            write_model(registry, version, folder / "model")
        paths = write_folder(folder, to, reference=subject.reference, digest=subject.digest)
    return Package(
        folder=to, target=wishes.target, subject=subject, image=image,
        files=tuple(_file(to, path, texts) for path in paths),
        expected_size=expected_size(subject, locked, base=docker.base, base_size=size_of(docker.base)), wishes=wishes,
        notes=(*image_said(subject.name, image), *locked.notes, *said, _SECRET, *_missing(wishes.target)),
        commands=_commands(to, image, subject, wishes),
    )  # fmt: skip


def _of_target(subject: PackagedModel, image: str, wishes: Wishes) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the files that only one target has, and what was said of them."""
    if wishes.target == "compose":
        compose = ComposeConfig(
            subject=subject, image=image, options=wishes.options, measured=wishes.measured, prometheus=wishes.prometheus
        )
        return compose.files(), compose.said
    if wishes.target == "kubernetes":
        cluster = cluster_config(subject, image, wishes)
        return cluster.files(), (*cluster.said, _AS_IT_IS, *(() if wishes.repository else (_LOCAL,)))
    return {}, ()


def cluster_config(subject: PackagedModel, image: str, wishes: Wishes) -> KubernetesConfig:
    """Return what a version is on Kubernetes. Without a repository nothing is pulled: the name may be a stranger's."""
    return KubernetesConfig(
        pull_policy="IfNotPresent" if wishes.repository else "Never",
        subject=subject, image=image, options=wishes.options, measured=wishes.measured, namespace=wishes.namespace,
        replicas=wishes.replicas, network_policy=wishes.network_policy, kserve=wishes.kserve,
    )  # fmt: skip


def _write_texts(folder: Path, texts: dict[str, str]) -> None:
    for path, text in texts.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, "utf-8")


def _file(folder: Path, path: str, texts: dict[str, str]) -> PackageFile:
    text = texts.get(path)
    shown = None if text is None or len(text) > _SHOWN else text
    return PackageFile(path, (folder / path).stat().st_size, shown)


def _commands(folder: Path, image: str, subject: PackagedModel, wishes: Wishes) -> tuple[Command, ...]:
    """Return what one types, in this order, to have it answer."""
    where = shlex.quote(str(folder))
    build = Command(f"docker build -t {image} {where}", "build the image")
    push = (Command(f"docker push {image}", "push it"),) if wishes.repository else ()
    if wishes.target == "compose":
        up = Command(f"docker compose --project-directory {where} up -d --wait", "start it")
        return build, up, _ask(where, PORT)
    if wishes.target == "kubernetes":
        return build, *push, *_cluster_commands(folder, cluster_config(subject, image, wishes))
    source = f"$PWD/{folder}/{TOKEN}" if not folder.is_absolute() else str(folder / TOKEN)
    run = (
        "docker run -d --init --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges "
        f'-p 127.0.0.1:{PORT}:{wishes.options.port} --mount "type=bind,source={source},target=/run/{TOKEN},readonly" '
        f"{image}"
    )
    return build, *push, Command(run, "start it"), _ask(where, PORT)


def _ask(where: str, port: int) -> Command:
    token = f'"Authorization: Bearer $(cat {where}/{TOKEN})"'
    return Command(f"curl -H {token} http://127.0.0.1:{port}/model/info", "ask what it serves")


def _cluster_commands(folder: Path, config: KubernetesConfig) -> tuple[Command, ...]:
    kubectl = "kubectl" + (f" -n {config.namespace}" if config.namespace else "")
    where, name = shlex.quote(str(folder)), config.object_name.name
    secret = f"{kubectl} create secret generic {config.secret} --from-file=token={where}/{TOKEN}"
    ready = (
        f"wait --for=condition=Ready inferenceservice/{name}" if config.kserve else f"rollout status deployment/{name}"
    )
    return (  # on the server's side: else kubectl would write the token into an annotation
        Command(f"{secret} --dry-run=client -o yaml | {kubectl} apply --server-side -f -", "store its token"),
        Command(f"{kubectl} apply --server-side -f {where}/kubernetes/", "apply the manifests"),
        Command(f"{kubectl} {ready}", "wait until it answers"),
        Command(f"{kubectl} port-forward service/{name} {PORT}:80", "reach it from here, in another terminal"),
        _ask(where, PORT),
    )


def _platform() -> str:
    """Return what an engine on this machine builds for."""
    return "linux/arm64" if platform.machine().lower() in ("arm64", "aarch64") else "linux/amd64"


def _missing(target: Target) -> list[str]:
    """Return what this machine lacks to run the commands, a sentence each."""
    missing = []
    if shutil.which("docker") is None:
        missing.append("Docker is not installed here: take the folder to a machine that has it, or install Docker.")
    if target == "kubernetes" and shutil.which("kubectl") is None:
        missing.append("kubectl is not installed here; .deploy() does the same without it.")
    return missing
