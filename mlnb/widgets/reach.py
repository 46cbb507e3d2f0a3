"""What a panel's page is told and tells of where it reaches the kernel's server."""

from __future__ import annotations

from typing import Any

from mlnb.serving.instance import INSTANCE
from mlnb.workspace import Surroundings, surroundings
from mlnb.workspace.public_url import Page

__all__ = ["note_reached", "ways_for"]


def ways_for(asked: dict[str, Any], *, live: bool, known: Surroundings = surroundings) -> dict[str, Any]:
    """Return where a page may find the server, the best way first, and how it knows that it has.

    It goes by a message: in no trait, it is in no saved notebook.

    Parameters
    ----------
    asked : dict
        The server's ``url`` on loopback as the page shows it, what :class:`~mlnb.workspace.public_url.Page` holds, and
        by which name the page knows itself.
    live : bool
        Whether there is a server now.
    """
    page = Page(origin=asked["origin"], base_url=asked["base_url"], forwarded=asked["forwarded"])
    ways = [{"root": way.root, "kind": way.kind} for way in known.ways(asked["url"], page)] if live else []
    told = {"asker": asked["asker"], "url": asked["url"], "live": live, "instance": INSTANCE, "ways": ways}
    return {"kind": "ways", "advice": known.advice(asked["url"], page), **told}


def note_reached(told: dict[str, Any], *, known: Surroundings = surroundings) -> None:
    """Learn where a page has reached the server."""
    known.tell(told["url"], told["root"])
