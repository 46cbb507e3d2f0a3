"""The live deployments of the kernels of one Jupyter server: found, and told to stop or roll back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlnb.errors import DeadlineError, NotDeployedError, StoppedError, UnauthorizedError
from mlnb.labextension.sharing import Shared

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from jupyter_server.services.sessions.sessionmanager import SessionManager

    from mlnb.serving.discovery.listing import Lister
    from mlnb.serving.discovery.live import Listing
    from mlnb.serving.discovery.record import ServerRecord

__all__ = ["KernelDeployments"]

_SHARED = 0.5  # seconds that a listing serves other tabs
_PATIENCE = 30.0  # seconds that a stop or a roll back may take


class KernelDeployments:
    """What the kernels of a Jupyter server serve; other processes of the same user are not its business.

    Parameters
    ----------
    kernels : callable
        Gives the ids of those that run now.
    sessions : SessionManager
        Knows which notebook a kernel has, renamed or not.
    patience : float
        Seconds that a kernel has to do what it is told.
    """

    def __init__(
        self, kernels: Callable[[], Collection[str]], sessions: SessionManager, *, patience: float = _PATIENCE
    ) -> None:
        self._kernels = kernels
        self._sessions = sessions
        self._patience = patience
        self._lister: Lister | None = None
        self._listing = Shared(self._list, seconds=_SHARED)

    async def list(self) -> Listing:
        """Return them by notebook and name; those who ask at the same time share an answer."""
        return await self._listing.get()

    async def tell(self, process: str, request: dict[str, Any]) -> dict[str, Any]:
        """Let a process do what ``request`` says; return its answer: a ``notice``, or an ``error`` with its ``status``.

        Parameters
        ----------
        process : str
            :attr:`~mlnb.serving.discovery.record.ServerRecord.id` of one that these kernels are.
        request : dict
            ``do``, ``name``, and ``version`` for a roll back; it goes there as it is.

        Raises
        ------
        NotDeployedError
            If that is no name, or no process of these kernels that serves.
        DeadlineError
            If it does not answer in time.
        """
        record = await asyncio.to_thread(_find, process, request["name"], kernels=self._kernels())
        from mlnb.serving.discovery.asking import ask

        try:
            return await ask(record, request, timeout=self._patience)
        except DeadlineError:
            raise DeadlineError(
                f"{request['name']} has not answered for {self._patience:g} s: its kernel is stopped or very busy. "
                "If it has not begun by now, nothing is done; the list shows what is live."
            ) from None
        except (StoppedError, UnauthorizedError):
            raise _gone(request["name"]) from None
        finally:
            self._listing.forget()

    async def _list(self) -> Listing:
        if self._lister is None:
            self._lister = await asyncio.to_thread(_new_lister)
        notebooks = await self._notebooks()
        listing = await self._lister.list(kernels={*self._kernels()})
        here = [replace(one, notebook=notebooks.get(one.kernel, "")) for one in listing.deployments]
        return replace(listing, deployments=tuple(sorted(here, key=lambda one: (one.notebook, one.name, one.process))))

    async def _notebooks(self) -> dict[str, str]:
        """Return the path of each kernel's notebook, relative to the server's root."""
        sessions = await self._sessions.list_sessions()
        return {one["kernel"]["id"]: one["path"] for one in sessions if one["type"] == "notebook"}


def _find(process: str, name: str, *, kernels: Collection[str]) -> ServerRecord:
    """Return the trusted record of a process that is one of these kernels."""
    from mlnb.registry.reference import is_valid_name
    from mlnb.serving.discovery.records import runtime_folder, trusted

    if not is_valid_name(name):
        raise NotDeployedError(f"{name!r} is no model's name.")
    folder = runtime_folder()
    for record in [] if folder is None else trusted(folder)[0]:
        if record.id == process and record.kernel in kernels:
            return record
    raise _gone(name)


def _gone(name: str) -> NotDeployedError:
    return NotDeployedError(f"{name} is not served any more: its kernel ended, or has stopped its last model.")


def _new_lister() -> Lister:
    """Import what the first request needs, off the event loop: Jupyter's start needs none of it."""
    from mlnb.serving.discovery.listing import Lister

    return Lister()
