"""What is in the registries that a sidebar shows, read in threads of their own: a bucket may not answer."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar

from mlnb.labextension.sharing import Shared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mlnb.registry.holdings import Holdings
    from mlnb.registry.version import ModelVersion
    from mlnb.serving.discovery.live import LiveDeployment

__all__ = ["Registries"]

MOST = 10  # registries
SHOWN = 100  # versions of a model, the newest
_TOGETHER = 8  # models read at once
_KEPT = 2.0  # seconds
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class Registries:
    """The default registry of this process, and those that deployments use; what was read serves for two seconds.

    Parameters
    ----------
    patience : float
        Seconds after which a registry that has not answered is shown with what it held last.
    """

    def __init__(self, *, patience: float = 10.0) -> None:
        self._patience = patience
        self._shelves: dict[str, _Shelf] = {}

    async def read(self, deployments: Iterable[LiveDeployment]) -> list[dict[str, Any]]:
        """Return each registry as the sidebar takes it, the default one first; no more than ten.

        Trouble with one is said in its ``trouble``, and does not delay the others.
        """
        deployed = [*deployments]
        default = await _in_thread(_default_url)
        urls = [*dict.fromkeys([default, *sorted({one.registry for one in deployed if one.registry})])][:MOST]
        self._shelves = {url: self._shelves.get(url) or _Shelf(url) for url in urls}
        for one in deployed:
            if one.registry in self._shelves and one.version is not None:
                self._shelves[one.registry].expect(one.name, one.version)
        found = await asyncio.gather(*(shelf.show(patience=self._patience) for shelf in self._shelves.values()))
        return [_with_live(one, [here for here in deployed if here.registry == one["url"]]) for one in found]


class _Shelf:
    """One registry."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._holdings: Holdings | None = None
        self._models: list[dict[str, Any]] = []
        self._reading = Shared(partial(_in_thread, self._read), seconds=_KEPT)

    def expect(self, name: str, version: int) -> None:
        """Read it anew if it lacks what is live: that was registered since."""
        known = {(model["name"], one["number"]) for model in self._models for one in model["versions"]}
        if (name, version) not in known:
            self._reading.renew()

    async def show(self, *, patience: float) -> dict[str, Any]:
        try:
            trouble = await self._reading.get(patience=patience)
        except TimeoutError:
            trouble = f"{self.url} has not answered for {patience:g} s; it is asked again."
        return {"url": self.url, "title": _title(self.url), "models": self._models, "trouble": trouble}

    def _read(self) -> str:
        """Read it; return why it could not be, "" if it could."""
        from mlnb.errors import MlnbError

        try:
            self._models, trouble = _read_models(self._opened())
        except MlnbError as error:
            return error.message
        except Exception as error:  # noqa: BLE001 - a store has errors of its own; the sidebar says all of them calmly
            _log.warning("A registry could not be read", exc_info=True)
            return f"{type(error).__name__}: {error}"
        return trouble

    def _opened(self) -> Holdings:
        """Return the registry, which remembers the records it has read, unless another one is there by now."""
        from mlnb.registry.holdings import Holdings

        if self._holdings is None or self._holdings.ownership.changed():
            self._holdings = None  # in case that it cannot be opened
            self._holdings = Holdings(self.url, added=lambda _: None)
        return self._holdings


async def _in_thread(call: Callable[[], _T]) -> _T:
    """Return what a call returns; its thread does not keep Jupyter from ending, unlike one of a pool."""
    promise: Future[_T] = Future()

    def run() -> None:
        if promise.set_running_or_notify_cancel():
            try:
                promise.set_result(call())
            except Exception as error:  # noqa: BLE001 - it is raised where one waits for it
                promise.set_exception(error)

    threading.Thread(target=run, name="mlnb registry", daemon=True).start()
    return await asyncio.wrap_future(promise)


def _default_url() -> str:
    from mlnb.registry.registry import default_folder

    return str(default_folder().absolute())


def _title(url: str) -> str:
    _, separator, place = url.partition("://")
    return place if separator else PurePath(url).name or url


def _read_models(holdings: Holdings) -> tuple[list[dict[str, Any]], str]:
    """Return the models, and why some of them cannot be read."""
    names = holdings.ledger.names()
    with ThreadPoolExecutor(_TOGETHER, thread_name_prefix="mlnb registry") as readers:
        found = [*readers.map(partial(_read_model, holdings), names)]
    return [one for one in found if isinstance(one, dict)], " ".join(one for one in found if isinstance(one, str))


def _read_model(holdings: Holdings, name: str) -> dict[str, Any] | str:
    from mlnb.errors import MlnbError
    from mlnb.registry import finding

    try:
        versions = holdings.ledger.versions(name)[-SHOWN:]
        aliases = finding.aliases(holdings, name)
    except MlnbError as error:
        return f"{name}: {error.message}"
    return {
        "name": name,
        "aliases": aliases,
        "versions": [_described(version, aliases) for version in reversed(versions)],
    }


def _described(version: ModelVersion, aliases: dict[str, int]) -> dict[str, Any]:
    return {
        "number": version.number,
        "created": version.created.isoformat(),
        "description": version.description,
        "metrics": version.metrics,
        "aliases": sorted(alias for alias, number in aliases.items() if number == version.number),
        "model_type": version.model_type,
        "size": version.size,
    }


def _with_live(registry: dict[str, Any], deployments: Iterable[LiveDeployment]) -> dict[str, Any]:
    """Say of each model which of its versions are live."""
    live: dict[str, set[int]] = {}
    for one in deployments:
        if one.version is not None:
            live.setdefault(one.name, set()).add(one.version)
    return registry | {
        "models": [model | {"live": sorted(live.get(model["name"], ()))} for model in registry["models"]]
    }
