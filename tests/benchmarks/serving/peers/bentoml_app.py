"""BentoML with adaptive batching."""
# mypy: allow-untyped-decorators

import os

import bentoml  # type: ignore[import-not-found]
import joblib
import numpy as np


@bentoml.service(workers=2, traffic={"timeout": 30, "max_concurrency": 1024})
class Served:
    def __init__(self) -> None:
        self.model = joblib.load(os.environ["MODEL"])

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=1000)
    def predict(self, rows: list[list[float]]) -> list[int]:
        answers: list[int] = self.model.predict(np.asarray(rows)).tolist()
        return answers
