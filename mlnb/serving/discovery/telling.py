"""A live deployment of another process is told what to do, from a shell."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from mlnb.errors import AmbiguousDeploymentError, MlnbError, NotDeployedError, nearest
from mlnb.serving.discovery.asking import ask
from mlnb.serving.discovery.listing import list_live
from mlnb.serving.discovery.records import runtime_folder, trusted

if TYPE_CHECKING:
    from mlnb.serving.discovery.live import LiveDeployment

__all__ = ["stop_live"]

_PATIENCE = 30.0  # seconds that a stop may take


def stop_live(name: str, *, pid: int | None = None) -> str:
    """Stop a live deployment, whichever process of this user has it; return what was done, in words.

    Parameters
    ----------
    name : str
    pid : int, optional
        Of the process, where several have a deployment of that name.

    Raises
    ------
    NotDeployedError
        With the names there are.
    AmbiguousDeploymentError
        If several processes have one of that name.
    MlnbError
        If its process refuses, or does not answer in 30 s.
    """
    chosen = _chosen(name, pid=pid)
    folder = runtime_folder()
    records = [] if folder is None else trusted(folder)[0]
    record = next((one for one in records if one.id == chosen.process), None)
    if record is None:
        raise NotDeployedError(f"{name!r} has ended at this moment.")
    answer: dict[str, Any] = asyncio.run(ask(record, {"do": "stop", "name": name}, timeout=_PATIENCE))
    if "notice" not in answer:
        raise MlnbError(str(answer.get("error", f"What process {record.pid} answers cannot be read.")))
    return str(answer["notice"])


def _chosen(name: str, *, pid: int | None) -> LiveDeployment:
    live = list_live().deployments
    named = [one for one in live if one.name == name]
    found = [one for one in named if pid in (None, one.pid)]
    if not named:
        raise NotDeployedError(f"{name!r} is not live; {nearest(name, [one.name for one in live])}.")
    if len(found) != 1:
        pids = ", ".join(f"--pid {one.pid} ({one.notebook or 'no notebook'})" for one in named)
        raise AmbiguousDeploymentError(f"Say which {name!r} is meant: {pids}.")
    return found[0]
