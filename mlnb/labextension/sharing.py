"""One answer for all who ask at about the same time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["Shared"]

_T = TypeVar("_T")


class Shared(Generic[_T]):
    """What is asked once for several askers, on one event loop.

    Parameters
    ----------
    ask : callable
        A coroutine function without parameters.
    seconds : float
        How long an answer serves others after it came.
    """

    def __init__(self, ask: Callable[[], Coroutine[None, None, _T]], *, seconds: float) -> None:
        self._ask = ask
        self._seconds = seconds
        self._asked: asyncio.Task[_T] | None = None
        self._began = self._ended = 0.0

    async def get(self, *, patience: float | None = None) -> _T:
        """Return the answer.

        Parameters
        ----------
        patience : float, optional
            Seconds since the question was asked, perhaps for somebody else. The question stays asked.

        Raises
        ------
        TimeoutError
        """
        if self._asked is None or (self._asked.done() and time.monotonic() - self._ended > self._seconds):
            self._began = time.monotonic()
            self._asked = asyncio.create_task(self._ask())
            self._asked.add_done_callback(self._note)
        left = None if patience is None else max(0.0, self._began + patience - time.monotonic())
        return await asyncio.wait_for(asyncio.shield(self._asked), left)

    def forget(self) -> None:
        """Let the next one ask anew: something has changed."""
        self._asked = None

    def renew(self) -> None:
        """Let the next one ask anew, unless the question is being asked at this moment."""
        if self._asked is not None and self._asked.done():
            self.forget()

    def _note(self, asked: asyncio.Task[_T]) -> None:
        if not asked.cancelled():
            asked.exception()  # so that asyncio does not complain where nobody waits any more
        if asked is self._asked:
            self._ended = time.monotonic()
