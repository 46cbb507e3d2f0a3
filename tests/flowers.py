"""Models of a few columns whose answers are known, for what is watched of them."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pandas as pd

EXAMPLE = pd.DataFrame({
    "size": np.linspace(0.0, 10.0, 400),
    "height": np.sin(np.arange(400.0)),
    "width": np.cos(3 * np.arange(400.0)),
})  # fmt: skip
RELEASED = threading.Event()  # requests that are held in this process


class Flowers:
    """Says of sizes above a limit that they are roses, of the others that they are tulips."""

    classes_ = np.array(["rose", "tulip"])

    def __init__(self, limit: float = 5.0) -> None:
        self.limit = limit

    def predict(self, rows: Any) -> Any:
        return np.where(np.asarray(rows["size"], float) > self.limit, "rose", "tulip")


class SureFlowers(Flowers):
    """The same, with probabilities."""

    def predict_proba(self, rows: Any) -> Any:
        rose = 1 / (1 + np.exp(self.limit - np.asarray(rows["size"], float)))
        return np.stack([rose, 1 - rose], axis=1)


class Prices:
    """Twice the size; NaN above 100, and an error above 1,000."""

    def predict(self, rows: Any) -> Any:
        sizes = np.asarray(rows["size"], float)
        if np.any(sizes > 1000):
            raise ValueError("too large")
        return np.where(sizes > 100, np.nan, 2 * sizes)


class Held:
    """Waits for :data:`RELEASED` where a size is above 100."""

    def predict(self, rows: Any) -> Any:
        sizes = np.asarray(rows["size"], float)
        if np.any(sizes > 100):
            RELEASED.wait(30)
        return sizes


def row(size: float = 6.0, **values: Any) -> dict[str, Any]:
    return {"size": size, "height": 0.0, "width": 0.0} | values
