"""What a log notes beside the requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlnb.monitoring.outcomes import Label

__all__ = ["Names", "NotedLabel"]

Names = dict[tuple[str, int], tuple[str, ...]]
"""What the values of a row are called, by model and version."""


@dataclass(frozen=True, slots=True)
class NotedLabel:
    """A label that came for a request of a model, ``at`` seconds since the epoch."""

    model: str
    label: Label
    at: float
