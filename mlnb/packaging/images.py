"""Images: built and pushed by the Docker engine that the user has, with progress."""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlnb.errors import EngineError, MissingLibraryError, MlnbError, PackagingError
from mlnb.packaging.progress import Progress, unwatched

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from docker import DockerClient

    from mlnb.packaging.progress import Watcher

__all__ = ["BuiltImage", "build", "connect", "engine", "index_arguments", "push", "remove", "size_of"]

_PATIENCE, _WORK = 20, 300  # seconds: until an engine says that it is there, and for what it is asked then
_LINES = 15  # of a failing step that are shown
_LONGEST = 120  # characters of a line of progress
_CALM = 1.0  # seconds between two lines of the same step
_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # colours and moves of a terminal
_ITS_OWN = re.compile(r" ---> |Removing intermediate container |Successfully (built|tagged) ")  # which tells nothing
_STEP = re.compile(r"Step (\d+)/(\d+) : (.*)")
_REFUSED = ("denied", "unauthorized", "authentication required", "no basic auth credentials", "forbidden")


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """An image that the engine has.

    Attributes
    ----------
    id : str
        ``sha256:..``; the same for the same folder where Docker's cache holds.
    tag : str
    size : int
        Bytes, unpacked.
    """

    id: str
    tag: str
    size: int

    def __repr__(self) -> str:
        return f"<image {self.tag}, {self.size / 1e6:.0f} MB>"


def connect() -> DockerClient:
    """Return a client of the engine that ``DOCKER_HOST`` or Docker's current context names; close it after use.

    Raises
    ------
    MissingLibraryError
        If the Docker SDK for Python is not installed.
    EngineError
        If no engine answers, with what to do about it.
    """
    try:
        from docker.errors import DockerException
    except ImportError:
        raise MissingLibraryError(
            "Images are built by the Docker SDK for Python, which is not installed: pip install 'mlnb[package]'."
        ) from None
    try:
        client = _client()
    except (DockerException, OSError, ValueError) as error:
        raise EngineError(_absence(error)) from error
    client.api.timeout = _WORK
    return client


def _client() -> DockerClient:
    import docker
    from docker.context import ContextAPI

    context = None if os.environ.get("DOCKER_HOST") else ContextAPI.get_current_context()
    _probe(os.environ.get("DOCKER_HOST", "") if context is None else str(context.Host))
    if context is None:
        return docker.from_env(version="auto", timeout=_PATIENCE)
    return docker.DockerClient(base_url=context.Host, tls=context.TLSConfig or False, version="auto", timeout=_PATIENCE)


def _probe(host: str) -> None:
    """Raise what connecting to a Unix socket raises; the SDK would wrap that, and leave its own socket open."""
    if host.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_PATIENCE)
            probe.connect(host.removeprefix("unix://"))


def _absence(error: BaseException) -> str:
    """Return what to do about an engine that does not answer."""
    place = os.environ.get("DOCKER_HOST") or "its usual socket"
    causes = _causes(error)
    if any(isinstance(cause, PermissionError) for cause in causes):
        return (
            f"Docker is there, but this user may not use it at {place}: sudo usermod -aG docker $USER, log in anew, "
            "and try again."
        )
    if shutil.which("docker") is None:
        return (
            f"No Docker engine answers at {place}, and Docker is not installed here: "
            "https://docs.docker.com/get-docker/ says how. The files are written all the same; they build wherever "
            "Docker is."
        )
    return (
        f"No Docker engine answers at {place}: {' '.join(str(causes[-1]).split())[:200]}. Start it (Docker Desktop, or "
        "sudo systemctl start docker), or set DOCKER_HOST to where one runs, and try again."
    )


def _causes(error: BaseException) -> list[BaseException]:
    """Return an error and what it came from, which HTTP's libraries put into each other's arguments."""
    inner = [error.__cause__ or error.__context__, *error.args]
    below = next((one for one in inner if isinstance(one, BaseException)), None)
    return [error] if below is None else [error, *_causes(below)]


@contextmanager
def engine() -> Iterator[DockerClient]:
    """Give a client for a while; what Docker refuses meanwhile is an EngineError.

    Raises
    ------
    MissingLibraryError, EngineError
    """
    client = connect()
    from docker.errors import APIError, DockerException
    from requests import RequestException

    try:
        yield client
    except APIError as error:
        raise EngineError(f"Docker refused: {error.explanation or error}") from error
    except (DockerException, RequestException) as error:
        raise EngineError(f"Docker was lost: {error}. Try again once it runs: docker info") from error
    finally:
        client.close()


def build(
    folder: str | Path, tag: str, *, watch: Watcher = unwatched, build_args: Mapping[str, str] | None = None
) -> BuiltImage:
    """Build the image of a folder that holds a Dockerfile; what its ``.dockerignore`` names is not sent.

    Parameters
    ----------
    folder : path
    tag : str
        ``iris:3`` or ``registry.example.org/team/iris:3``.
    watch : callable
        Told each step.
    build_args : mapping of str to str, optional
        Values of the Dockerfile's ``ARG``. Default of ``UV_DEFAULT_INDEX``: the package index of this machine, which
        the lock came from; only the stage that installs sees it, not the image.

    Raises
    ------
    PackagingError
        If the folder holds no Dockerfile.
    EngineError
        If there is no engine, or a step fails: which, and its last lines.
    """
    folder = Path(folder)
    if not (folder / "Dockerfile").is_file():
        raise PackagingError(f"{folder} holds no Dockerfile. Write the package there first: mlnb.package(.., to=..).")
    with engine() as client:
        arguments = index_arguments() | dict(build_args or {})
        lines = client.api.build(path=str(folder), tag=tag, buildargs=arguments, rm=True, forcerm=True, decode=True)
        _follow(lines, _Steps(tag), watch)
        image = client.images.get(tag)
        built = BuiltImage(str(image.id), tag, image.attrs["Size"])
    watch(Progress(step="build", text=f"{tag}, {built.size / 1e6:.0f} MB", share=1.0, state="done"))
    return built


def index_arguments() -> dict[str, str]:
    """Return the build argument that names the package index, where this machine has one of its own."""
    index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL")
    return {"UV_DEFAULT_INDEX": index} if index else {}


def _follow(lines: Iterable[dict[str, Any]], steps: _Steps, watch: Watcher) -> None:
    failed = ""
    share: float | None = None  # of the step that was told last
    told = 0.0
    for line in lines:  # to their end, so that the connection is given back
        failed = str(line.get("error", failed))
        for news in steps.read(line.get("stream", "")):
            if news.share != share or time.monotonic() - told >= _CALM:
                share, told = news.share, time.monotonic()
                watch(news)
    if failed:
        text = steps.failure(failed)
        watch(Progress(step="build", text=text.splitlines()[0], state="failed"))
        raise EngineError(text)


class _Steps:
    """Where a build is, read from what the engine writes."""

    def __init__(self, tag: str) -> None:
        self._tag = tag
        self._step = "before its first step"
        self._instruction = ""
        self._share = 0.0
        self._rest = ""
        self._lines: deque[str] = deque(maxlen=_LINES)

    def read(self, text: str) -> Iterator[Progress]:
        """Yield the news in a piece of text, which may end within a line; what the engine says begins a line."""
        text = _CODES.sub("", text)
        if _ITS_OWN.match(text) or _STEP.match(text):
            text = f"\n{text}"
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            shown = line.rstrip().rpartition("\r")[2]  # as a terminal leaves it
            if shown.strip() and not _ITS_OWN.match(shown):
                yield self._news(shown.strip())

    def _news(self, line: str) -> Progress:
        found = _STEP.fullmatch(line)
        if found is None:
            self._lines.append(line)
            return Progress(step="build", text=_short(f"{self._step}: {line}"), share=self._share)
        at, of = int(found[1]), int(found[2])
        self._step, self._instruction, self._share = f"step {at} of {of}", found[3], (at - 1) / of
        self._lines.clear()
        return Progress(step="build", text=_short(f"{self._step}: {self._instruction}"), share=self._share)

    def failure(self, error: str) -> str:
        """Return why the image was not built, and what to do next."""
        at = f"{self._step} failed" + (f", {_short(self._instruction)}" if self._instruction else "")
        error = re.sub(r"(?s)^The command '.*' returned", "it returned", error)
        last = "".join(f"\n  {line}" for line in (*self._lines, self._rest) if line)
        hint = ""
        if self._instruction.upper().startswith("FROM "):
            base = self._instruction.split()[1]
            hint = f" Fetch the base with `docker pull {base}`, or package with another: base='..'."
        return f"{self._tag} was not built: {at}: {' '.join(error.split()).rstrip('.')}.{hint}{last}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def push(tag: str, *, watch: Watcher = unwatched) -> str:
    """Send an image to the registry that its tag names, with the login that ``docker login`` left.

    Returns
    -------
    str
        Its digest there, ``sha256:..``.

    Raises
    ------
    EngineError
        If there is no engine or no such image, or the registry refuses it.
    """
    digest = failed = ""
    sizes: dict[str, tuple[int, int]] = {}
    with engine() as client:
        from docker.utils import parse_repository_tag

        repository, number = parse_repository_tag(tag)
        for line in client.api.push(repository, tag=number or "latest", stream=True, decode=True):  # to its end
            failed = str(line.get("error", failed))
            digest = (line.get("aux") or {}).get("Digest", digest)
            watch(_pushed(tag, line, sizes))
    if failed:
        text = _refusal(tag, failed)
        watch(Progress(step="push", text=text, state="failed"))
        raise EngineError(text)
    watch(Progress(step="push", text=f"{tag} pushed, {digest[:19]}", share=1.0, state="done"))
    return digest


def _pushed(tag: str, line: Mapping[str, Any], sizes: dict[str, tuple[int, int]]) -> Progress:
    detail = line.get("progressDetail") or {}
    if "total" in detail:
        sizes[line["id"]] = min(detail["current"], detail["total"]), detail["total"]
    sent, total = (sum(pair[at] for pair in sizes.values()) for at in (0, 1))
    text = f"{tag}: {sent / 1e6:.0f} of {total / 1e6:.0f} MB"
    return Progress(step="push", text=text, share=sent / total if total else None)


def _refusal(tag: str, error: str) -> str:
    from docker.auth import resolve_repository_name

    said = " ".join(error.split()).rstrip(".")
    if not any(word in error.lower() for word in _REFUSED):
        return f"{tag} was not pushed: {said}."
    host, name = resolve_repository_name(tag)
    login = "docker login" if host == "docker.io" else f"docker login {host}"
    return f"{tag} was not pushed: {said}. Log in with `{login}` as somebody who may push {name}, and try again."


def size_of(tag: str) -> int | None:
    """Return the bytes of an image that an engine has here, None where nobody knows."""
    with suppress(MlnbError), engine() as client:
        from docker.errors import ImageNotFound

        with suppress(ImageNotFound):
            return int(client.images.get(tag).attrs["Size"])
    return None


def remove(tag: str) -> None:
    """Remove an image by its tag; one that is not there is no error.

    Raises
    ------
    EngineError
        If a container still uses it.
    """
    with engine() as client:
        from docker.errors import ImageNotFound

        try:
            client.images.remove(tag)
        except ImageNotFound:
            return
