"""Sockets that a forked child must not keep: one that outlives us would hold a port, or keep a line from ending."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from weakref import WeakSet

if TYPE_CHECKING:
    import socket

__all__ = ["keep_from_children"]

_sockets: WeakSet[socket.socket] = WeakSet()


def keep_from_children(*sockets: socket.socket) -> None:
    """Close these in every child that is forked from now on."""
    _sockets.update(sockets)


def _close_in_child() -> None:
    for sock in _sockets:
        if sock.fileno() != -1:
            os.close(sock.detach())  # close() would wait for the event loop, which does not run in the child


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
