"""KServe's Python server with the predict of its scikit-learn server (protocol v1): kserve_app.py PORT WORKERS."""
# mypy: allow-subclassing-any

import os
import sys
from typing import Any

import joblib
from kserve import Model, ModelServer  # type: ignore[import-not-found]


class Served(Model):
    def __init__(self) -> None:
        super().__init__("model")
        self.ready = self.load()

    def load(self) -> bool:
        self.model = joblib.load(os.environ["MODEL"])
        return True

    def predict(self, payload: Any, *_: object) -> Any:
        return {"predictions": self.model.predict(payload["instances"]).tolist()}


if __name__ == "__main__":
    port, workers = int(sys.argv[1]), int(sys.argv[2])
    ModelServer(http_port=port, workers=workers, enable_grpc=False, enable_latency_logging=False).start([Served()])
