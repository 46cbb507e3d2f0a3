"""A package run by Docker Compose, through the user's own ``docker compose`` command."""

from __future__ import annotations

import json
import os
import subprocess
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from mlnb.errors import EngineError, PackagingError
from mlnb.packaging.compose import PORT_VARIABLE
from mlnb.packaging.images import index_arguments
from mlnb.packaging.progress import Progress, unwatched

if TYPE_CHECKING:
    from mlnb.packaging.parity import Parity
    from mlnb.packaging.progress import Watcher

__all__ = ["ComposeProject", "down", "up"]

_FILE = "compose.yaml"
_LAST = 20  # lines that are shown when it fails
_FOLDER = "com.docker.compose.project.working_dir"  # a label that Compose gives


@dataclass(frozen=True, slots=True)
class ComposeProject:
    """What :func:`up` started; as a context manager it is taken down at the end.

    Attributes
    ----------
    folder : Path
        That holds the Compose file.
    name : str
        Of the project.
    urls : dict of str to str
        Addresses on this machine, by service.
    parity : Parity or None
        What came of the golden rows, once somebody asked.
    """

    folder: Path
    name: str
    urls: dict[str, str]
    parity: Parity | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Take it down; volumes stay. Again is no error.

        Raises
        ------
        EngineError
        """
        down(self.folder, project=self.name)


def up(
    folder: str | Path, *, project: str, port: int | None = None, build: bool = True, within: int = 120,
    watch: Watcher = unwatched,
) -> ComposeProject:  # fmt: skip
    """Start what the folder's Compose file names, and wait until all of it is healthy.

    What does not become healthy is taken down again, unless it ran before.

    Parameters
    ----------
    folder : path
    project : str
        Its name for Compose.
    port : int, optional
        On this machine; 0: one that is free. Default: the one in the file.
    build : bool
        Whether images are built first.
    within : int
        Seconds until all must be healthy, after the build.
    watch : callable
        Told each line of Compose.

    Raises
    ------
    PackagingError
        If the folder holds no Compose file.
    EngineError
        If there is no Docker or no Compose, another folder has a project of that name, or it fails: its last lines.
    """
    folder = Path(folder).resolve()
    if not (folder / _FILE).is_file():
        raise PackagingError(f"{folder} holds no {_FILE}. Write it with mlnb.package(.., target='compose').")
    ran = _ours(folder, project)
    options = ["up", "--detach", "--wait", "--wait-timeout", str(within), *(["--build"] if build else [])]
    lines = _run(folder, project, options, watch, port=port)
    if lines:
        logs = _said(folder, project, ["logs", "--no-color", "--tail", str(_LAST)])
        if not ran:
            down(folder, project=project)
        watch(Progress(step="run", text=f"{project} did not start", state="failed"))
        raise EngineError(f"Compose did not start {project}:\n" + "\n".join([*lines, *logs.splitlines()]))
    found = ComposeProject(folder, project, _urls(folder, project))
    where = ", ".join(f"{service} at {url}" for service, url in found.urls.items())
    watch(Progress(step="run", text=f"{project} runs: {where}", share=1.0, state="done"))
    return found


def down(folder: str | Path, *, project: str, watch: Watcher = unwatched) -> None:
    """Stop and remove the containers and networks of a project; its volumes stay, and images.

    Raises
    ------
    EngineError
        If there is no Docker or no Compose, or another folder has a project of that name.
    """
    folder = Path(folder).resolve()
    if not _ours(folder, project):
        return
    lines = _run(folder, project, ["down"], watch)
    if lines:
        raise EngineError(f"Compose did not take {project} down:\n" + "\n".join(lines))


def _ours(folder: Path, project: str) -> bool:
    """Say whether containers of the project are there; refuse those of another folder."""
    _check_compose(folder)
    wanted = ["--filter", f"label=com.docker.compose.project={project}", "--format", f'{{{{.Label "{_FOLDER}"}}}}']
    done = _started(["docker", "ps", "--all", *wanted], folder)
    if done.returncode:
        raise EngineError(f"Docker does not answer: {done.stderr.strip()}. Start it, or set DOCKER_HOST.")
    folders = set(done.stdout.split("\n")) - {""}
    foreign = folders - {str(folder)}
    if foreign:
        raise EngineError(
            f"Compose runs a project {project!r} from another folder, {min(foreign)}; it is left alone. Take it down "
            f"there, or give another name."
        )
    return bool(folders)


def _check_compose(folder: Path) -> None:
    try:
        done = _started(["docker", "compose", "version"], folder)
    except FileNotFoundError:
        raise EngineError(
            "There is no `docker` command here: https://docs.docker.com/get-docker/ says how to install it. The files "
            "are written all the same; they run wherever Docker is."
        ) from None
    if done.returncode:
        raise EngineError(
            "`docker` is here, and its plugin Compose is not: https://docs.docker.com/compose/install/ says how to "
            "install it. Without it, package.build() and package.run() run the same image."
        )


def _run(folder: Path, project: str, options: list[str], watch: Watcher, *, port: int | None = None) -> list[str]:
    """Run Compose, line by line; return its last lines if it failed."""
    last: deque[str] = deque(maxlen=_LAST)
    command = [*_compose(project), "--progress", "plain", *options]
    environment = os.environ | index_arguments() | ({} if port is None else {PORT_VARIABLE: str(port)})
    with subprocess.Popen(  # noqa: S603 - Docker's own program, and no shell
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=environment,
    ) as process:  # fmt: skip
        for line in process.stdout or ():
            if line.strip():
                last.append(line.strip())
                watch(Progress(step="run", text=last[-1]))
    return [*last] or ["it said nothing"] if process.returncode else []


def _said(folder: Path, project: str, options: list[str]) -> str:
    return _started([*_compose(project), *options], folder).stdout


def _compose(project: str) -> list[str]:
    return ["docker", "compose", "--file", _FILE, "--project-name", project, "--ansi", "never"]


def _started(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - Docker's own program, and no shell
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def _urls(folder: Path, project: str) -> dict[str, str]:
    """Return the addresses that are published, by service."""
    services = map(json.loads, _said(folder, project, ["ps", "--format", "json"]).splitlines())
    return {
        service["Service"]: f"http://{port['URL']}:{port['PublishedPort']}"
        for service in services
        for port in service["Publishers"] or ()
        if port["PublishedPort"]
    }
