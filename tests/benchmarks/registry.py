"""What registering, loading and listing cost, side by side with joblib in one run; `make benchmark` prints it."""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from mlnb import ModelRegistry

ROUNDS = 9
ARRAYS, MEGABYTE = 100, 10**6


class Ensemble:
    """A model that is nearly all arrays: 100 of 1 MB."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        self.weights = [generator.standard_normal(MEGABYTE // 8) for _ in range(ARRAYS)]

    def predict(self, rows: Any) -> Any:
        return np.asarray(rows)[:, 0] * self.weights[0][0]


class Single(Ensemble):
    """The same in one array."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = [np.concatenate(self.weights)]


def seconds(deed: Callable[[], object]) -> float:
    os.sync()  # nobody pays for what the step before left to be written
    started = time.perf_counter()
    deed()
    return time.perf_counter() - started


def side_by_side(name: str, model: Any, folder: Path) -> None:
    """Print medians of alternating rounds, and the ratio of mlnb to joblib with one SHA-256 pass over the bytes."""
    taken: dict[str, list[float]] = {"register": [], "load": [], "mapped": [], "dump + SHA": [], "load + SHA": []}
    example = np.array([[1.0], [2.0]])
    for at in range(ROUNDS):
        path, registry = folder / f"{name}-{at}.joblib", ModelRegistry(folder / f"{name}-{at}")
        model.weights[0][0] = at  # other bytes each time: nothing is stored already
        dump = seconds(lambda path=path: joblib.dump(model, path))  # type: ignore[misc]
        in_memory = path.read_bytes()
        digest = seconds(lambda content=in_memory: hashlib.sha256(content))  # type: ignore[misc]
        taken["dump + SHA"].append(dump + digest)
        taken["register"].append(seconds(lambda r=registry: r.register(model, "m", example=example)))  # type: ignore[misc]
        taken["load + SHA"].append(seconds(lambda path=path: joblib.load(path)) + digest)  # type: ignore[misc]
        taken["load"].append(seconds(lambda r=registry: r.load("m")))  # type: ignore[misc]
        taken["mapped"].append(seconds(lambda r=registry: r.load("m", mapped=True)))  # type: ignore[misc]
        path.unlink()
        shutil.rmtree(registry.url)  # as the file: both write to memory that the system had before
    medians = {step: statistics.median(values) for step, values in taken.items()}
    for step, base in (("register", "dump + SHA"), ("load", "load + SHA"), ("mapped", "load + SHA")):
        ratio = medians[step] / medians[base]
        ours, theirs = medians[step] * 1e3, medians[base] * 1e3
        print(f"{name}: {step} {ours:6.1f} ms   joblib {base} {theirs:6.1f} ms   {ratio:.2f}x")


def disk_use(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def versions_on_disk(folder: Path) -> None:
    model = Ensemble()
    registry = ModelRegistry(folder)
    registry.register(model, "m", example=np.array([[1.0]]))
    one = disk_use(folder)
    for _ in range(9):
        registry.register(model, "m", example=np.array([[1.0]]))
    ten = disk_use(folder)
    model.weights[50] = model.weights[50] + 1  # 1 of 100 arrays
    registry.register(model, "m", example=np.array([[1.0]]))
    print(f"10 unchanged versions: {ten / one:.4f}x the disk of one ({one / 1e6:.1f} MB)")
    print(f"a version that differs in 1% of its arrays: {(disk_use(folder) - ten) / one:.4f}x of one more")


def listing(folder: Path) -> None:
    registry = ModelRegistry(folder)
    example = np.random.default_rng(0).standard_normal((100, 30))
    for at in range(1000):
        registry.register(lambda rows: np.zeros(len(rows)), "m", example=example, metrics={"accuracy": at / 1000})
    cold = statistics.median(seconds(lambda: ModelRegistry(folder).versions("m")) for _ in range(ROUNDS))
    registry.versions("m")
    again = statistics.median(seconds(lambda: registry.versions("m")) for _ in range(ROUNDS))
    print(f"listing 1,000 versions: {cold * 1e3:.1f} ms from cold, {again * 1e3:.2f} ms again")


def main() -> None:
    os.environ["MLNB_PROVE"] = "off"  # a child process beside the clock would be measured too
    with tempfile.TemporaryDirectory() as home:
        os.environ["XDG_CONFIG_HOME"] = f"{home}/config"
        side_by_side("100 arrays of 1 MB", Ensemble(), Path(home))
        side_by_side("1 array of 100 MB", Single(), Path(home))
        versions_on_disk(Path(home, "disk"))
        listing(Path(home, "listing"))


if __name__ == "__main__":
    main()
