"""How long a person waits: %load_ext, the first deploy, the first answer, a version change. Medians over fresh kernels.

python tests/benchmarks/startup.py [--kernels N]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile

from jupyter_client.manager import KernelManager

FIT = """
import time
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
data = load_breast_cancer(as_frame=True)
X = data.data
model = RandomForestClassifier(random_state=0).fit(X, data.target)
"""
CELLS = {
    "%load_ext mlnb": "%load_ext mlnb",
    "first %deploy_model, with its panel": (
        "deployment = %deploy_model model --name tumour --input X\nget_ipython().display_formatter.format(deployment)"
    ),
    "first answer over HTTP": (
        "import urllib.request, json\n"
        "body = json.dumps({'features': X.iloc[0].tolist()}).encode()\n"
        "urllib.request.urlopen(deployment.url + '/predict', body).read()"
    ),
    "a second version at the same URL": "_ = %deploy_model model --name tumour --input X",
    "%model_rollback": "_ = %model_rollback tumour",
    "%model_stop": "_ = %model_stop tumour",
}


def measure() -> dict[str, float]:
    """Return seconds for each cell, in a fresh kernel that has fitted a model."""
    manager = KernelManager()
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        client.execute(FIT, reply=True, timeout=120)
        return {name: timed(client, cell) for name, cell in CELLS.items()}
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def timed(client: object, cell: str) -> float:
    program = f"_t = time.perf_counter()\n{cell}\n_t = time.perf_counter() - _t"
    reply = client.execute(program, reply=True, timeout=120, user_expressions={"t": "_t"})  # type: ignore[attr-defined]
    assert reply["content"]["status"] == "ok", reply["content"]
    return float(json.loads(reply["content"]["user_expressions"]["t"]["data"]["text/plain"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernels", type=int, default=5)
    kernels = parser.parse_args().kernels
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"MLNB_HOME": f"{home}/models", "IPYTHONDIR": f"{home}/ipython"}
        runs = [measure() for _ in range(kernels)]
    print(f"milliseconds, median of {kernels} fresh kernels (fastest to slowest)")
    for name in CELLS:
        times = sorted(1e3 * run[name] for run in runs)
        print(f"{statistics.median(times):8.1f}  ({times[0]:.1f} to {times[-1]:.1f})  {name}")


if __name__ == "__main__":
    main()
