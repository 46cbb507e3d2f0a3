"""Asks for the probabilities of requests that were labelled and had not asked for any, when nobody else waits."""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
        self._due = False
        self._asked: set[tuple[int, str]] = set()  # of what still waits

    def wanted(self) -> None:
        """Learn that labels came."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(_SOON, self._ask)

    def _ask(self) -> None:
        self._due = False
        lines = self._one.service.lines
        waiting = {
            name: number
            for number, line in lines.items()
            if line.version.signature.probabilities
            for name in self._one.observer.outcomes.labelled.waiting(number, most=_MOST)
        }
        self._asked &= {(number, name) for name, number in waiting.items()}
        lacking = {name: number for name, number in waiting.items() if (number, name) not in self._asked}
        if not lacking:
            return
        if not any(line.pool.in_flight for line in lines.values()):
            self._ask_for(dict(islice(lacking.items(), _TOGETHER)))
        self.wanted()

    def _ask_for(self, lacking: dict[str, int]) -> None:
        self._asked |= {(number, name) for name, number in lacking.items()}
        for event in self._one.observer.recent.find(lacking).values():
            if event.version == lacking[event.request_id]:
                told = partial(self._told, event.version, event.request_id)
                self._one.service.ask_again(event.version, event.inputs, event.rows, told)

    def _told(self, version: int, request_id: str, probabilities: Any) -> None:
        if probabilities is not None:
            self._one.observer.outcomes.labelled.add_probabilities(version, request_id, probabilities)
