"""A virtual environment for each peer, made once and kept: no two of them have to agree about a library."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from functools import cache
from pathlib import Path

__all__ = ["OWN", "REQUIREMENTS", "UnavailableError", "environment", "versions"]

OWN = "mlnb"
_CHECKOUT = Path(__file__).resolve().parents[3]
_FAST_UVICORN = ("uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0")  # the best case also where it is no default
REQUIREMENTS = {
    "bentoml": ("bentoml==1.4.39", "scikit-learn==1.9.1", *_FAST_UVICORN),
    "kserve": ("kserve==0.21.0", "scikit-learn==1.9.1"),
    "litserve": ("litserve==0.2.19", "scikit-learn==1.9.1", *_FAST_UVICORN),
    "mlflow": ("mlflow==3.17.2", "scikit-learn==1.9.1", *_FAST_UVICORN),
    "mlserver": ("mlserver==1.7.1", "mlserver-sklearn==1.7.1", "scikit-learn==1.9.1"),
    "ray": ("ray[serve]==2.60.0", "scikit-learn==1.9.1"),
    OWN: (f"--editable={_CHECKOUT}[onnx]", "scikit-learn==1.9.1"),  # no more than the others: pandas is memory
    "seed": ("fastapi==0.165.0", "scikit-learn==1.9.1", *_FAST_UVICORN),
    "vetiver": ("vetiver==0.2.6", "scikit-learn==1.9.1", *_FAST_UVICORN),
}
_SHOWN = (
    *("fastapi", "httptools", "mlnb", "numpy", "onnxruntime", "orjson", "pydantic", "scikit-learn", "starlette"),
    *("uvicorn", "uvloop"),
)


class UnavailableError(Exception):
    """A server could not be installed, started, or trusted to answer; the message says why, in one line."""


@cache
def environment(name: str) -> Path:
    """Return the bin folder of an environment, installed first if it is not there or has other requirements.

    Raises
    ------
    UnavailableError
        If it cannot be installed.
    """
    folder = Path(os.environ.get("MLNB_BENCHMARK_ENVIRONMENTS", "build/peers")).absolute() / name
    binaries, mark = folder / "bin", folder / ".installed"
    wanted = hashlib.sha256(json.dumps([sys.version, *REQUIREMENTS[name]]).encode()).hexdigest()
    if not mark.exists() or mark.read_text(encoding="utf-8") != wanted:
        print(f"installing the environment {name}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        _run([binaries / "python", "-m", "pip", "install", "--quiet", *REQUIREMENTS[name]], timeout=900)
        mark.write_text(wanted, encoding="utf-8")
    return binaries


def versions(name: str) -> dict[str, str]:
    """Return the versions that matter in an environment, by distribution."""
    asked = sorted({*_SHOWN, *(requirement.split("==")[0].split("[")[0] for requirement in REQUIREMENTS[name])})
    program = (
        "import json, sys, importlib.metadata as m\n"
        "found = {d.metadata['Name'].lower(): d.version for d in m.distributions()}\n"
        "print(json.dumps({name: found[name] for name in sys.argv[1:] if name in found}))"
    )
    found: dict[str, str] = json.loads(_run([environment(name) / "python", "-c", program, *asked], timeout=60))
    return found


def _run(command: list[Path | str], *, timeout: float) -> str:
    try:
        ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"installing took longer than {timeout:.0f} s") from None
    if ended.returncode:
        said = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
        raise UnavailableError(f"installing failed: {said[-1]}")
    return ended.stdout
