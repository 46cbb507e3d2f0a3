"""Models that are fitted, with what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Fitted:
    """A model, the rows it was fitted on, and its answers to them."""

    model: Any
    rows: Any
    predictions: np.ndarray[Any, Any]

    @property
    def lists(self) -> list[list[float]]:
        """The rows as JSON has them."""
        lists: list[list[float]] = np.asarray(self.rows).tolist()
        return lists


def fitted(model: Any, rows: Any, target: Any) -> Fitted:
    model.fit(rows, target)
    return Fitted(model, rows, model.predict(rows))
