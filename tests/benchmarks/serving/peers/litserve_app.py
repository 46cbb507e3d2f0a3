"""LitServe with batching: litserve_app.py PORT API_SERVERS."""
# mypy: allow-subclassing-any

import os
import sys
from typing import Any

import joblib
import litserve  # type: ignore[import-not-found]
import numpy as np
from fastapi import Request  # the annotation tells LitServe that a JSON body comes


class Served(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's signature
        self.model = joblib.load(os.environ["MODEL"])

    def decode_request(self, request: Request) -> Any:
        return request["features"]

    def batch(self, inputs: Any) -> Any:
        return np.asarray(inputs)

    def predict(self, rows: Any) -> Any:
        return self.model.predict(np.atleast_2d(rows))

    def unbatch(self, output: Any) -> Any:
        return list(output)

    def encode_response(self, output: Any) -> Any:
        return {"prediction": int(output)}


if __name__ == "__main__":
    served = Served(max_batch_size=64, batch_timeout=0.001)
    server = litserve.LitServer(served, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=int(sys.argv[2]),
        log_level="error",
        generate_client_file=False,
        access_log=False,
    )
