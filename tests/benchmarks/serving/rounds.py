"""The rounds of one run: every server in turn, started, checked, measured and ended, so that noise hits all alike."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from benchmarks.serving import scenarios
from benchmarks.serving.environments import OWN, UnavailableError
from benchmarks.serving.load import Wrk
from benchmarks.serving.results import Results, Start
from benchmarks.serving.servers import OURS, OURS_CONFIGURATION, SEED, Configuration, Running, running
from benchmarks.serving.targets import MODELS

__all__ = ["Rounds"]

_SENT_ROWS = 100


@dataclass(frozen=True, slots=True)
class Rounds:
    """What all rounds share.

    Attributes
    ----------
    folder : Path
        With a folder for each environment, prepared.
    rows : ndarray
        ``(1000, 20)``
    seconds : int
        Of each measurement.
    results : Results
        Where the figures go.
    """

    folder: Path
    rows: np.ndarray[Any, Any]
    seconds: int
    results: Results

    def compare(self, configurations: Iterable[Configuration]) -> None:
        """Run one round of the servers."""
        for model in MODELS:
            for configuration in configurations:
                what = f"{configuration.name}, {MODELS[model]}"
                if model in configuration.models and what not in self.results.failures:
                    with self._noting(what):
                        self._compare(configuration, model)

    def overload(self) -> None:
        """Run one round of four times as much as a model can."""
        bodies, rows = self._bodies(OURS_CONFIGURATION), self.rows.tolist()
        zeros = [0] * len(rows)
        with (
            self._noting("overload"),
            running(OURS_CONFIGURATION, "slow", folder=self.folder / OWN, rows=rows, expected=zeros) as server,
        ):
            Wrk(server.url, bodies, connections=64, seconds=1).wait()  # warm-up
            self.results.overloads.append(scenarios.overload(server, bodies, seconds=self.seconds))

    def notebook(self) -> None:
        """Run one round of what happens beside a kernel, in which cells run."""
        folder, model, bodies = self.folder / OWN, "logistic", self._bodies(OURS_CONFIGURATION)
        with (
            self._noting("replicas beside a notebook"),
            scenarios.kernel(folder, model, replicas=1) as child,
            scenarios.kernel(folder, model, replicas=1) as other,
        ):
            self.results.ready.append(child.seconds)
            Wrk(child.url, bodies, connections=16, seconds=1).wait()  # warm-up, as the other's
            Wrk(other.url, bodies, connections=16, seconds=1).wait()
            self.results.besides.append(scenarios.beside_a_loop(child, bodies, seconds=self.seconds))
            self.results.cells.append(scenarios.cells(child, other, bodies, seconds=self.seconds))

    def _compare(self, configuration: Configuration, model: str) -> None:
        folder = self.folder / configuration.environment
        expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))[model]
        with running(configuration, model, folder=folder, rows=self.rows.tolist(), expected=expected) as server:
            name, memory = configuration.name, server.process.memory()
            bodies = self._bodies(configuration)
            Wrk(server.url, bodies, connections=64, seconds=1).wait()  # warm-up
            loads = {
                connections: Wrk(server.url, bodies, connections=connections, seconds=self.seconds).result()
                for connections in (64, 1)
            }
            self.results.starts[name, model].append(Start(server.seconds, memory))
            for connections, load in loads.items():
                self.results.loads[name, model, connections].append(load)
            print(f"{name}, {MODELS[model]}: {loads[64].rate:,.0f}/s, {loads[1].rate:,.0f}/s", flush=True)
            if name in (OURS, SEED) and model == "logistic":
                self.results.bursts[name].append(scenarios.one_burst(server, bodies))
            if name == OURS:
                self._ours(model, server)

    def _ours(self, model: str, server: Running) -> None:
        fitted = joblib.load(self.folder / OWN / f"{model}.joblib")
        times, row = 300 if model == "logistic" else 50, self.rows[:1]
        alone = [scenarios.seconds_of(lambda: fitted.predict(row)) for _ in range(times)]
        self.results.predict[model].append(statistics.median(alone))
        with self._noting(f"npy, {MODELS[model]}"):
            self.results.arrays[model].append(scenarios.arrays(server, fitted, self.rows, times=times))

    def _bodies(self, configuration: Configuration) -> Path:
        """Write the requests of a server, one a line, as load.lua reads them."""
        file = self.folder / configuration.environment / "bodies"
        documents = [configuration.body(row) for row in self.rows[:_SENT_ROWS].tolist()]
        file.write_text("".join(f"{json.dumps(document)}\n" for document in documents), encoding="utf-8")
        return file

    @contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        try:
            yield
        except (UnavailableError, OSError, ValueError, subprocess.SubprocessError) as error:
            self.results.failures[what] = str(error)
            print(f"{what}: {error}", flush=True)
