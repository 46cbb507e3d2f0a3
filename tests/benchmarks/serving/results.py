"""All that one run measured, each figure once per round."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.serving.load import Load
from benchmarks.serving.scenarios import Arrays, Beside, Burst, Cell, Overload

__all__ = ["Results", "Start"]


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds from starting a server to its first good answer, and the bytes (PSS) it then holds, idle."""

    seconds: float
    memory: int


@dataclass(slots=True, kw_only=True)
class Results:
    """Lists have one value per round.

    Attributes
    ----------
    machine, versions : mapping
        What it ran on; versions by environment.
    loads : dict
        By server, model and connections.
    starts : dict
        By server and model.
    predict : dict
        Median seconds of ``model.predict`` for one row, by model.
    bursts : dict
        By server.
    arrays : dict
        By model.
    failures : dict
        What could not be measured, and why.
    """

    rounds: int
    seconds: int
    machine: Mapping[str, str] = field(default_factory=dict)
    versions: dict[str, Mapping[str, str]] = field(default_factory=dict)
    loads: dict[tuple[str, str, int], list[Load]] = field(default_factory=lambda: defaultdict(list))
    starts: dict[tuple[str, str], list[Start]] = field(default_factory=lambda: defaultdict(list))
    predict: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    bursts: dict[str, list[Burst]] = field(default_factory=lambda: defaultdict(list))
    arrays: dict[str, list[Arrays]] = field(default_factory=lambda: defaultdict(list))
    overloads: list[Overload] = field(default_factory=list)
    besides: list[Beside] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    ready: list[float] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def rates(self, model: str, connections: int) -> dict[str, float]:
        """Return the median rate of each server that was measured so."""
        return {
            server: statistics.median(load.rate for load in loads)
            for (server, served, width), loads in self.loads.items()
            if (served, width) == (model, connections) and loads
        }
