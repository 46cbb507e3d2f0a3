"""Which registries this person trusts: their own, and those added by name. A pickle of any other is not loaded."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import platformdirs

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["forget", "is_trusted", "trust"]

_this_process: set[tuple[str, str]] = set()  # where the settings cannot be written, as in some containers


def trust(url: str, identity: str) -> None:
    """Trust the registry ``identity`` at ``url`` from now on, in other processes of this person too.

    Both count: a registry that bears a trusted one's identity somewhere else may be somebody's copy of it.
    """
    _this_process.add((_place(url), identity))
    with suppress(OSError):
        mark = _mark(url, identity)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(f"{_place(url)}\n", encoding="utf-8")


def forget(url: str, identity: str) -> None:
    """Undo :func:`trust`."""
    _this_process.discard((_place(url), identity))
    with suppress(OSError):
        _mark(url, identity).unlink(missing_ok=True)


def is_trusted(url: str, identity: str) -> bool:
    """Say whether this person made or added the registry ``identity`` at ``url``."""
    return (_place(url), identity) in _this_process or _mark(url, identity).exists()


def _place(url: str) -> str:
    """Return where a registry really lies, whichever link leads there."""
    return url if "://" in url else os.path.realpath(url)


def _mark(url: str, identity: str) -> Path:
    name = hashlib.sha256(f"{identity} {_place(url)}".encode()).hexdigest()
    return platformdirs.user_config_path("mlnb") / "trusted" / name
