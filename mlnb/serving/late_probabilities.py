"""Asks for the probabilities of requests that were labelled and had not asked for any, when nobody else waits."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlnb.events import PredictionEvent
    from mlnb.serving.predicting import Served

_SOON = 0.5  # seconds: labels that come one by one are dealt with together
_TOGETHER = 200  # requests
_MOST = 20_000  # that are looked through

__all__ = ["LateProbabilities"]


class LateProbabilities:
    """Of one deployment, on its server's loop. Rows that are not remembered any more stay without.

    Parameters
    ----------
    one : Served
    """

    def __init__(self, one: Served) -> None:
        self._one = one
        self._due = self._more = False
        self._asked: set[tuple[int, str]] = set()  # of what still waits
        self._next: deque[tuple[int, str]] = deque()

    def wanted(self) -> None:
        """Learn that labels came."""
        self._more = True
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(_SOON, self._begin)

    def _begin(self) -> None:
        """Find out what lacks its probabilities, and ask for the first."""
        self._more = False
        lines, labelled = self._one.service.lines, self._one.observer.outcomes.labelled
        waiting = {
            (number, name)
            for number, line in lines.items()
            if line.version.signature.probabilities
            for name in labelled.waiting(number, most=_MOST)
        }
        self._asked &= waiting
        self._next = deque(waiting - self._asked)
        self._ask()

    def _ask(self) -> None:
        """Ask for the next ones that make a small batch, unless somebody else waits."""
        lines = self._one.service.lines
        if not self._next:
            self._due = False
            if self._more:  # labels came meanwhile
                self.wanted()
        elif any(line.pool.in_flight for line in lines.values()):
            asyncio.get_running_loop().call_later(_SOON, self._ask)
        else:
            chosen = {
                name: number for number, name in (self._next.popleft() for _ in range(min(_TOGETHER, len(self._next))))
            }
            self._asked |= {(number, name) for name, number in chosen.items()}
            self._ask_for(list(self._one.observer.recent.find(chosen).values()), chosen)

    def _ask_for(self, events: list[PredictionEvent], chosen: dict[str, int]) -> None:
        """Ask for one request after the other: who comes meanwhile waits for one of them at most."""
        while events:
            event = events.pop()
            if event.version == chosen[event.request_id] and event.version in self._one.service.lines:
                told = partial(self._told, event, events, chosen)
                self._one.service.ask_again(event.version, event.inputs, event.rows, told)
                return
        self._ask()

    def _told(
        self, event: PredictionEvent, events: list[PredictionEvent], chosen: dict[str, int], probabilities: Any
    ) -> None:
        labelled = self._one.observer.outcomes.labelled
        if probabilities is not None:
            labelled.add_probabilities(event.version, event.request_id, probabilities)
        loop = asyncio.get_running_loop()
        if any(line.pool.waiting for line in self._one.service.lines.values()):
            loop.call_later(_SOON, self._ask_for, events, chosen)
        else:
            loop.call_soon(self._ask_for, events, chosen)
