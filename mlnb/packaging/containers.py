"""Containers: a built image run beside the notebook on loopback, locked down as it would be elsewhere."""

from __future__ import annotations

import time
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mlnb.errors import EngineError, InvalidInputError, PortInUseError, StoppedError
from mlnb.packaging.endpoint import Endpoint
from mlnb.packaging.folder import TOKEN, read_token
from mlnb.packaging.images import engine
from mlnb.packaging.progress import Progress, unwatched
from mlnb.packaging.subject import ServeOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docker import DockerClient
    from docker.models.containers import Container as EngineContainer

    from mlnb.packaging.parity import Parity
    from mlnb.packaging.progress import Watcher

__all__ = ["Container", "run"]

_HOST = "127.0.0.1"
_MANAGED, _MODEL = "dev.mlnb.managed", "dev.mlnb.model"  # labels
_TMP = "rw,nosuid,nodev,mode=1777"
_LOOK = 0.05  # seconds between two looks at a container that starts
_LAST = 20  # lines of the log that are shown when it fails
_TAKEN = ("port is already allocated", "address already in use")


class Container:
    """A container that :func:`run` started; as a context manager it is stopped and removed at the end.

    Attributes
    ----------
    name, tag, url : str
        Its own name, its image's tag, and the address of its server.
    token : str
        That its server wants.
    started : float
        Seconds from its start until it was ready.
    parity : Parity or None
        What came of the golden rows, once somebody asked.
    """

    def __init__(
        self, identity: str, *, name: str, tag: str, url: str, token: str, patience: float, started: float
    ) -> None:
        self._id = identity
        self._patience = patience
        self._stopped = False
        self.name = name
        self.tag = tag
        self.url = url
        self.token = token
        self.started = started
        self.parity: Parity | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<container {self.name} of {self.tag}, {'stopped' if self._stopped else self.url}>"

    def predict(self, rows: Any) -> np.ndarray[Any, Any]:
        """Return what the model in the container says, over HTTP and with the token.

        Parameters
        ----------
        rows : array of shape (n, features), DataFrame, list of lists or list of dicts

        Returns
        -------
        ndarray of shape (n, ...)

        Raises
        ------
        InvalidInputError
            If a row does not fit.
        EngineError
            If the container does not answer, or the model fails.
        """
        instances = rows.to_dict("records") if hasattr(rows, "to_dict") else rows
        try:
            with Endpoint(self.url, token=self.token, timeout=self._patience) as endpoint:
                reply = endpoint.post("/predict", {"instances": instances})
        except OSError as error:
            raise EngineError(
                f"{self.name} does not answer at {self.url} ({error}); its state: {self.state}."
            ) from error
        if reply.status == InvalidInputError.status:
            raise InvalidInputError(f"{self.name}: {reply.reason}")
        if reply.status != HTTPStatus.OK:
            raise EngineError(f"{self.name}: {reply.reason}")
        return np.array(reply.document["prediction"])

    def logs(self, tail: int = 100) -> str:
        """Return the last lines of what it printed.

        Raises
        ------
        StoppedError, EngineError
        """
        with engine() as client:
            return _log(self._of(client), tail)

    @property
    def memory(self) -> int:
        """Bytes it uses now, without the page cache, which the kernel gives back when memory is short.

        Raises
        ------
        StoppedError, EngineError
        """
        with engine() as client:
            self._of(client)
            return _used(client.api.stats(self._id, stream=False, one_shot=True)["memory_stats"])

    @property
    def state(self) -> str:
        """``"starting"``, ``"healthy"`` or ``"unhealthy"`` by the image's own check, ``"exited"``, or ``"gone"``."""
        with engine() as client:
            try:
                state = self._of(client).attrs["State"]
            except StoppedError:
                return "gone"
        health = state.get("Health", {}).get("Status", "running")
        return str(health if state["Running"] else state["Status"])

    def stop(self) -> None:
        """Say SIGTERM, let it finish what it was asked, and remove it. Again is no error.

        Raises
        ------
        EngineError
            If there is no engine any more.
        """
        if self._stopped:
            return
        with engine() as client, suppress(StoppedError):
            _end(self._of(client), self._patience)
        self._stopped = True

    def _of(self, client: DockerClient) -> EngineContainer:
        from docker.errors import NotFound

        try:
            return client.containers.get(self._id)
        except NotFound:
            raise StoppedError(f"The container {self.name} is gone. Run it again: package.run().") from None


def run(
    folder: str | Path,
    tag: str,
    *,
    name: str,
    options: ServeOptions | None = None,
    model: str = "",
    port: int | None = None,
    memory: int | None = None,
    within: float = 60.0,
    watch: Watcher = unwatched,
) -> Container:
    """Run an image of a package until it is stopped, on loopback only, and wait until it is ready.

    It has a read-only root, no capability, no way to get one, and the token as a file. One of the same name that mlnb
    made for the same model is stopped and replaced. If it does not become ready, it is removed.

    Parameters
    ----------
    folder : path
        Of the package, for its token.
    tag : str
        Of an image that the engine has.
    name : str
        Of the container.
    options : ServeOptions, optional
        As they were packaged. Default: the usual ones.
    model : str
        Its name. Default: the one that the image's label says.
    port : int, optional
        On 127.0.0.1. Default: one that is free.
    memory : int, optional
        Bytes it may have; swap gives no more. Default: all there is.
    within : float
        Seconds until it must be ready.
    watch : callable

    Raises
    ------
    PackagingError
        If the folder holds no token.
    PortInUseError
        If another program has the port.
    EngineError
        If there is no engine, no such image, a container of another's or of another model has the name, or it did not
        become ready: why, and the last lines of its log.
    """
    options = options or ServeOptions()
    folder = Path(folder).resolve()
    token = read_token(folder)
    patience = options.ending
    with engine() as client:
        model = model or _model_in(client, tag)
        _make_room(client, name, model, patience)
        watch(Progress(step="run", text=f"{name} starts"))
        container = _create(
            client, tag, name, model=model, secret=folder / TOKEN, options=options, port=port, memory=memory
        )
        try:
            began = time.monotonic()
            _start(container, port)
            url = f"http://{_HOST}:{_published(container, options.port)}"
            _await_ready(container, url, within, watch)
        except BaseException as error:
            container.remove(force=True, v=True)
            watch(Progress(step="run", text=str(error).partition("\n")[0] or f"{name} was given up", state="failed"))
            raise
        started = time.monotonic() - began
    watch(Progress(step="run", text=f"{name} answers at {url} after {started:.1f} s", share=1.0, state="done"))
    return Container(str(container.id), name=name, tag=tag, url=url, token=token, patience=patience, started=started)


def _model_in(client: DockerClient, tag: str) -> str:
    """Return the model whose image it is."""
    from docker.errors import ImageNotFound

    try:
        return str(client.images.get(tag).labels.get(_MODEL, ""))
    except ImageNotFound:
        raise EngineError(f"The engine has no image {tag!r}. Build it first: package.build().") from None


def _make_room(client: DockerClient, name: str, model: str, patience: float) -> None:
    """Remove the container of that name if mlnb made it for that model."""
    from docker.errors import NotFound

    try:
        there = client.containers.get(name)
    except NotFound:
        return
    if there.name != name:  # the engine also takes the beginning of an id
        return
    if there.labels.get(_MANAGED) != "true":
        raise EngineError(
            f"There is a container {name!r} that mlnb did not make (of {there.attrs['Config']['Image']}); it is left "
            f"alone. Give another name, or remove it yourself: docker rm -f {name}"
        )
    other = there.labels.get(_MODEL, "")
    if other != model:
        raise EngineError(
            f"The container {name!r} runs another model, {other!r}, not {model!r}; it is left alone. Stop it first: "
            f"docker rm -f {name}"
        )
    _end(there, patience)


def _create(
    client: DockerClient, tag: str, name: str, *, model: str, secret: Path, options: ServeOptions,
    port: int | None, memory: int | None,
) -> EngineContainer:  # fmt: skip
    from docker.types import Mount

    return client.containers.create(
        tag,
        name=name,
        labels={_MANAGED: "true"} | ({_MODEL: model} if model else {}),
        ports={f"{options.port}/tcp": (_HOST, port or 0)},
        mounts=[Mount(f"/run/{TOKEN}", str(secret), type="bind", read_only=True)],  # a volume's name knows no colon
        read_only=True,
        tmpfs={"/tmp": _TMP},  # noqa: S108 - the container's own
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
        init=True,
        mem_limit=memory,
        memswap_limit=memory,
    )


def _start(container: EngineContainer, port: int | None) -> None:
    from docker.errors import APIError

    try:
        container.start()
    except APIError as error:
        if any(words in str(error.explanation) for words in _TAKEN):
            raise PortInUseError(
                f"Port {port} on {_HOST} is taken by another program. Give another, or none for one that is free."
            ) from error
        raise
    container.reload()


def _published(container: EngineContainer, port: int) -> int:
    bindings = container.ports.get(f"{port}/tcp")
    if not bindings:  # it has ended already
        raise EngineError(_ended(container))
    return int(bindings[0]["HostPort"])


def _await_ready(container: EngineContainer, url: str, within: float, watch: Watcher) -> None:
    began = time.monotonic()
    told = 0
    with Endpoint(url, timeout=2.0) as endpoint:
        while not _is_ready(endpoint):
            container.reload()
            passed = time.monotonic() - began
            if container.status not in ("created", "running"):
                raise EngineError(_ended(container))
            if passed > within:
                raise EngineError(
                    f"{container.name} was not ready within {within:g} s, and was removed. Its last lines:\n"
                    f"{_log(container, _LAST)}"
                )
            if int(passed) > told:
                told = int(passed)
                watch(Progress(step="run", text=f"{container.name} is not ready yet, {told} s"))
            time.sleep(_LOOK)  # nothing tells when a server in a container answers


def _is_ready(endpoint: Endpoint) -> bool:
    try:
        return endpoint.get("/readyz").status == HTTPStatus.OK
    except OSError:
        return False


def _ended(container: EngineContainer) -> str:
    """Return why a container is not running."""
    container.reload()
    state = container.attrs["State"]
    limit = container.attrs["HostConfig"]["Memory"]
    if state["OOMKilled"]:
        why = f"was killed: it needs more than the {limit / 2**20:.0f} MiB of memory it was given"
    else:
        why = f"ended with code {state['ExitCode']}" + (f" ({state['Error']})" if state["Error"] else "")
    return f"{container.name} {why}; it was removed. Its last lines:\n{_log(container, _LAST)}"


def _log(container: EngineContainer, tail: int) -> str:
    return container.logs(tail=tail).decode(errors="replace").rstrip()


def _end(container: EngineContainer, patience: float) -> None:
    """Stop and remove a container that may meanwhile be gone."""
    from docker.errors import NotFound

    with suppress(NotFound):
        container.stop(timeout=int(patience))
        container.remove(force=True, v=True)


def _used(memory: Mapping[str, Any]) -> int:
    """Return what is used, without the page cache, by the engine's figures of cgroup v1 or v2."""
    parts = memory.get("stats", {})
    cache = parts.get("file", parts.get("total_cache", 0)) - parts.get("shmem", parts.get("total_shmem", 0))
    return int(memory.get("usage", 0)) - max(0, int(cache))
