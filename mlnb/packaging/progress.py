"""How far something that takes a while has come, told to whoever draws it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

__all__ = ["Progress", "Watcher", "printed", "unwatched"]

_WIDTH = 110  # characters


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


def printed(news: Progress) -> None:
    """Print it in one line that changes, as notebooks and terminals show it; a log gets the last line only."""
    over = news.state != "running"
    if over or sys.stdout.isatty() or "ipykernel" in sys.modules:
        text = f"{news.step}: {' '.join(news.text.split())}"
        print(f"\r{text[:_WIDTH]:<{_WIDTH}}", end="\n" if over else "", flush=True)  # noqa: T201 - that is its purpose
