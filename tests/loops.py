"""Waiting on an event loop: for a condition, never for a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], bool], *, seconds: float = 20) -> None:
    """Return as soon as ``condition`` holds; raise TimeoutError if it does not within ``seconds``."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not condition():
        if loop.time() > end:
            raise TimeoutError(f"Not within {seconds} s.")
        await asyncio.sleep(0.001)  # between two looks at the condition
