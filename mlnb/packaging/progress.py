"""How far something that takes a while has come, told to whoever draws it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

__all__ = ["Progress", "Watcher", "unwatched"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One line of news.

    Attributes
    ----------
    step : str
        What is done, for instance ``"build"``, ``"push"``, ``"rollout"``, ``"parity"``.
    text : str
        One line for a person.
    share : float or None
        From 0 to 1, None if nobody knows.
    state : str
    """

    step: str
    text: str
    share: float | None = None
    state: Literal["running", "done", "failed"] = "running"


Watcher = Callable[[Progress], None]


def unwatched(_: Progress) -> None:
    """Draw nothing."""
