"""The figures of the README are those that the benchmark wrote."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SERVERS = {
    "mlnb, one process": "mlnb, one process",
    "mlnb, 1 replica beside a kernel": "mlnb, 1 replica",
    "mlnb, one process, `--accelerate`": "mlnb, one process, accelerated",
    "vetiver, checks off, 2 workers": "vetiver, checks off, 2 workers",
    "FastAPI, pydantic and `predict`, as one writes it": "the seed's design",
    "KServe, 2 workers": "KServe, 2 workers",
    "MLServer, batching": "MLServer, batching",
    "LitServe, batching": "LitServe, batching, 2 API servers",
    "MLflow, 2 workers": "MLflow, 2 workers",
    "BentoML, batching, 2 workers": "BentoML, batching, 2 workers",
    "Ray Serve, batching": "Ray Serve, batching",
}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


@pytest.mark.parametrize("ours", SERVERS)
def test_a_row_of_the_serving_table_is_what_was_measured(ours: str) -> None:
    results = (ROOT / "tests/benchmarks/RESULTS.md").read_text(encoding="utf-8")
    _, logistic, forest = re.split(
        r"^## (?:LogisticRegression|RandomForestClassifier\(100\))$", results, flags=re.MULTILINE
    )
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (row,) = [cells(line)[1:] for line in readme.splitlines() if line.startswith(f"| {ours} |")]

    def measured(table: str, column: int) -> str:
        (found,) = [cells(line) for line in table.splitlines() if line.startswith(f"| {SERVERS[ours]} |")]
        return found[column].partition(" ")[0]

    expected = [measured(logistic, 1), measured(forest, 1), measured(forest, 4)]
    assert row == [f"{float(text.replace(',', '')):,.0f}" for text in expected]
