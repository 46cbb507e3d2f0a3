"""What is known of a live deployment from outside of its process."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["Listing", "LiveDeployment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveDeployment:
    """One deployment of one process, as a sidebar or ``mlnb list --live`` shows it.

    Attributes
    ----------
    process : str
        :attr:`~mlnb.serving.discovery.record.ServerRecord.id` of the process that has it.
    name : str
    url : str
        On loopback.
    port, pid : int
    kernel, notebook : str
        "" where there is none.
    state : {'live', 'silent'}
        Silent: the process lives and has not answered in time; what follows is then what it said last, or None.
    place : str
        Where it runs: ``in kernel``, ``2 processes``.
    version, previous : int or None
        The live version, and the one that a roll back would make live.
    registry : str
        URL of its registry.
    since : str
        When the version became live, ISO 8601 in UTC.
    rate : float or None
        Requests per second, over the last ten.
    p99 : float or None
        Milliseconds, over the last minute; None without requests.
    errors : int or None
        In the last minute.
    recent : tuple of int
        Requests in each of the last seconds, oldest first.
    alerts : int
        That fire.
    """

    process: str
    name: str
    url: str
    port: int
    pid: int
    kernel: str = ""
    notebook: str = ""
    state: Literal["live", "silent"] = "live"
    place: str = ""
    version: int | None = None
    previous: int | None = None
    registry: str = ""
    since: str = ""
    rate: float | None = None
    p99: float | None = None
    errors: int | None = None
    recent: tuple[int, ...] = ()
    alerts: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The live deployments of a user's processes.

    Attributes
    ----------
    deployments : tuple of LiveDeployment
        By notebook, then by name.
    trouble : str
        Why something may be missing, "" if nothing is: one sentence for a person.
    """

    deployments: tuple[LiveDeployment, ...] = ()
    trouble: str = ""
