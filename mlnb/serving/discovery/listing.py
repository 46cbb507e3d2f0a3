"""The live deployments of all this user's processes, asked at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlnb.errors import DeadlineError, MlnbError
from mlnb.registry.reference import is_valid_name
from mlnb.serving.discovery.asking import ask
from mlnb.serving.discovery.live import Listing, LiveDeployment
from mlnb.serving.discovery.records import runtime_folder, trusted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from mlnb.serving.discovery.record import ServerRecord

__all__ = ["Lister", "list_live"]

_PATIENCE = 0.8  # seconds for each process; all are asked at once
_LARGEST = 1e15  # of the numbers that are believed


class Lister:
    """Lists what is live, and remembers what each process said last, for when one is silent."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[LiveDeployment, ...]] = {}

    async def list(self, folder: Path | None = None, *, kernels: Collection[str] | None = None) -> Listing:
        """Return the live deployments of this user's processes.

        A process that does not answer in 0.8 s is listed as silent, with what it said last.

        Parameters
        ----------
        folder : Path, optional
            With the records. Default: that of Jupyter.
        kernels : collection of str, optional
            Ids: no other process is asked. Default: all are.
        """
        folder = folder or runtime_folder()
        if folder is None:
            return Listing()
        records, trouble = await asyncio.to_thread(trusted, folder)
        records = [record for record in records if kernels is None or record.kernel in kernels]
        found = await asyncio.gather(*map(self._of, records))
        self._said = {record.id: said for record, said in zip(records, found, strict=True)}
        flat = [one for said in found for one in said]
        flat.sort(key=lambda one: (one.notebook, one.name, one.process))
        return Listing(deployments=tuple(flat), trouble=trouble)

    async def _of(self, record: ServerRecord) -> tuple[LiveDeployment, ...]:
        try:
            told = await ask(record, {"do": "list"}, timeout=_PATIENCE)
        except DeadlineError:
            return self._silent(record)
        except MlnbError:  # it has ended at this very moment, or is another
            return ()
        if "error" in told:
            return self._silent(record)
        items = told.get("deployments")
        understood = (_understood(record, item) for item in (items if isinstance(items, list) else ()))
        return tuple(one for one in understood if one is not None)

    def _silent(self, record: ServerRecord) -> tuple[LiveDeployment, ...]:
        known = {one.name: one for one in self._said.get(record.id, ())}
        return tuple(replace(known.get(name) or _bare(record, name), state="silent") for name in record.names)


def list_live(folder: Path | None = None) -> Listing:
    """Return the live deployments of this user's processes, for a shell; see :meth:`Lister.list`.

    Examples
    --------
    >>> from pathlib import Path
    >>> list_live(Path("/nowhere")).deployments
    ()
    """
    return asyncio.run(Lister().list(folder))


def _bare(record: ServerRecord, name: str) -> LiveDeployment:
    """Return what a record alone tells of a deployment."""
    return LiveDeployment(
        process=record.id, name=name, url=f"http://127.0.0.1:{record.port}/models/{name}", port=record.port,
        pid=record.pid, kernel=record.kernel, notebook=record.notebook,
    )  # fmt: skip


def _understood(record: ServerRecord, item: Any) -> LiveDeployment | None:
    """Return what a process says of one of its deployments; what cannot be understood of it is left out."""
    if not isinstance(item, dict) or not isinstance(item.get("name"), str) or not is_valid_name(item["name"]):
        return None
    told = {name: item[name] for name, accepts in _ACCEPTS.items() if name in item and accepts(item[name])}
    if "recent" in told:
        told["recent"] = tuple(told["recent"])
    return replace(_bare(record, item["name"]), **told)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST  # no NaN is


_ACCEPTS: dict[str, Callable[[Any], bool]] = {
    "place": _is_text,
    "version": _is_count,
    "previous": _is_count,
    "registry": _is_text,
    "since": _is_text,
    "rate": _is_figure,
    "p99": _is_figure,
    "errors": _is_count,
    "recent": lambda value: isinstance(value, list) and all(map(_is_count, value)),
    "alerts": _is_count,
}
