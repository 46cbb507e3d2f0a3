"""mlnb's data plane against its peers, in one run: PYTHONPATH=tests python -m benchmarks.serving.

A full run writes tests/benchmarks/RESULTS.md; with --quick, --only, --no-peers or --rounds it is printed only.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from benchmarks.serving.environments import OWN, UnavailableError, environment, versions
from benchmarks.serving.machine import machine
from benchmarks.serving.results import Results
from benchmarks.serving.rounds import Rounds
from benchmarks.serving.servers import CONFIGURATIONS, PEERS, Configuration
from benchmarks.serving.table import report
from sklearn.datasets import make_classification

ROUNDS, SECONDS = 3, 3
RESULTS = Path(__file__).parents[1] / "RESULTS.md"
PREPARATIONS = {OWN: ("prepare.py", "prepare_mlnb.py"), "mlflow": ("prepare.py", "prepare_mlflow.py")}


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the servers are ended, too
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of one second, few peers")
    parser.add_argument("--only", metavar="TEXT", action="append", help="only servers with TEXT in their name")
    parser.add_argument("--no-peers", action="store_true", help="only mlnb, the seed's design and the bare echo")
    parser.add_argument("--rounds", type=int)
    options = parser.parse_args()
    chosen = [one for one in CONFIGURATIONS if _is_chosen(one, options)]
    rounds = options.rounds or (1 if options.quick else ROUNDS)
    results = Results(rounds=rounds, seconds=1 if options.quick else SECONDS, machine=machine())
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        # Nothing is left in the settings of whoever runs this, and no proof of a version runs beside a measurement.
        os.environ |= {"XDG_CONFIG_HOME": f"{place}/settings", "MLNB_HOME": f"{place}/home", "MLNB_PROVE": "off"}
        _run(chosen, Path(place), results, scenes=not options.only)
    document = report(results)
    print(document)
    if not (options.quick or options.only or options.no_peers or options.rounds):
        RESULTS.write_text(document, encoding="utf-8")


def _is_chosen(configuration: Configuration, options: argparse.Namespace) -> bool:
    if options.only:
        return any(text.lower() in configuration.name.lower() for text in options.only)
    return (configuration.quick or not options.quick) and not (configuration.is_peer and options.no_peers)


def _run(chosen: Sequence[Configuration], folder: Path, results: Results, *, scenes: bool) -> None:
    rows, labels = make_classification(1000, 20, n_informative=10, random_state=0)
    np.savez(folder / "rows.npz", rows=rows, labels=labels)
    ready = _prepare(sorted({OWN, *(one.environment for one in chosen)}), folder, results)
    rounds = Rounds(folder, rows, results.seconds, results)
    for at in range(results.rounds):
        print(f"round {at + 1} of {results.rounds}", flush=True)
        rounds.compare([one for one in chosen if one.environment in ready])
        if scenes:
            rounds.overload()
            rounds.notebook()


def _prepare(names: Iterable[str], folder: Path, results: Results) -> set[str]:
    """Install what is missing and fit the models in each environment; return those that are ready."""
    ready = set()
    for name in names:
        (folder / name).mkdir()
        try:
            python = environment(name) / "python"
            results.versions[name] = versions(name)
            for script in PREPARATIONS.get(name, ("prepare.py",)):
                _prepare_with([python, PEERS / script, folder / "rows.npz", folder / name])
            ready.add(name)
        except UnavailableError as error:
            results.failures[name] = str(error)
            print(f"{name}: {error}", flush=True)
    return ready


def _prepare_with(command: Sequence[str | Path]) -> None:
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    if ended.returncode:
        raise UnavailableError(f"its models could not be saved: {ended.stderr.strip().splitlines()[-1]}")


if __name__ == "__main__":
    main()
