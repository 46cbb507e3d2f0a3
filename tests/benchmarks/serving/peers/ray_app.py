"""Ray Serve with batching: ray_app.py PORT."""
# mypy: allow-untyped-decorators

import os
import signal
import sys
from typing import Any

import joblib
import ray  # type: ignore[import-not-found]
from ray import serve
from starlette.requests import Request


@serve.deployment(max_ongoing_requests=256, ray_actor_options={"num_cpus": 1})
class Served:
    def __init__(self, path: str) -> None:
        self.model = joblib.load(path)

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.001)
    async def predict(self, rows: list[list[float]]) -> list[int]:
        answers: list[int] = self.model.predict(rows).tolist()
        return answers

    async def __call__(self, request: Request) -> dict[str, Any]:
        return {"prediction": await self.predict((await request.json())["features"])}


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what Ray started is ended below
    try:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
        serve.start(
            http_options={"host": "127.0.0.1", "port": int(sys.argv[1])}, logging_config={"enable_access_log": False}
        )
        serve.run(
            Served.bind(  # type: ignore[attr-defined]
                os.environ["MODEL"]
            ),
            name="model",
        )
        signal.pause()
    finally:
        ray.shutdown()
