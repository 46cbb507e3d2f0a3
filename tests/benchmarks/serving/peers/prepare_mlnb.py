"""Register the models of prepare.py, and a slow one: prepare_mlnb.py ROWS.npz FOLDER makes FOLDER/registry."""

import sys
import time
from pathlib import Path
from typing import Any

import joblib
import numpy as np

import mlnb


class Slow:
    """A millisecond a row, and none of the processor's: overload is then about the queue, not about the machine."""

    def predict(self, rows: Any) -> Any:
        time.sleep(1e-3 * len(rows))
        return np.zeros(len(rows), dtype=np.int64)


rows = np.load(sys.argv[1])["rows"]
folder = Path(sys.argv[2])
registry = mlnb.ModelRegistry(folder / "registry")
for name in ("logistic", "forest"):
    registry.register(joblib.load(folder / f"{name}.joblib"), name, example=rows)
registry.register(Slow(), "slow", example=rows)
