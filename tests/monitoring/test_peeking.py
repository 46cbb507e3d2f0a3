"""That looking after every outcome costs neither honesty nor much traffic; `make benchmark` prints the whole table."""

from __future__ import annotations

import numpy as np
import pytest
from monitoring.peeking import EFFECTS, NULL, cost, false_share

from mlnb.monitoring.experiment import evaluate
from mlnb.monitoring.sequences import difference_interval
from mlnb.monitoring.tally import Tally


@pytest.mark.parametrize("name", ["rate 0.5", "rate 0.1", "rate 0.03", "normal", "exponential", "log-normal, sigma 1"])
def test_of_2000_tests_of_alike_versions_at_most_5_percent_are_ever_decided(name: str) -> None:
    found = false_share(name)
    print(f"A/A, {name}: {found:.2%} of 2,000 decided within 5,000 outcomes")  # noqa: T201 - the figures
    assert found <= 0.05


@pytest.mark.parametrize("share", [0.1, 0.02])
@pytest.mark.parametrize("name", list(NULL))
def test_nor_where_the_challenger_gets_little(name: str, share: float) -> None:
    assert false_share(name, share=share, trials=300) <= 0.05


@pytest.mark.parametrize("power", [0.8, 0.9])
@pytest.mark.parametrize(
    "name", ["rate 0.5, then 0.6", "rate 0.9, then 0.95", "normal, 0.5 deviations", "exponential, 25 % more"]
)
def test_a_real_difference_costs_at_most_1_6_times_a_test_with_one_look(name: str, power: float) -> None:
    one = cost(EFFECTS[name], power=power)
    said = f"{one.mean:,.0f} outcomes on average, {one.fixed:,} with one look"
    print(f"A/B, {name}, power {power:.0%}: {said}; {one.untruncated:,.0f} if not ended at {one.most:,.0f}")  # noqa: T201 - the figures
    assert one.mean <= 1.6 * one.fixed
    assert one.untruncated <= 1.6 * one.fixed


def test_the_verdict_is_that_of_the_intervals_simulated() -> None:
    """What the simulation reads from arrays is what a person is told."""
    rng = np.random.default_rng(2)
    arms, told, decided = {"a": Tally(), "b": Tally()}, [], []
    for right, second in zip(rng.random(600), rng.random(600) < 0.4, strict=True):
        name = "b" if second else "a"
        arms[name] = arms[name].add(float(right < (0.8 if second else 0.6)))
        verdict = evaluate(
            arms, versions={"a": 1, "b": 2}, baseline="a", metric="accuracy", goal="higher", proportion=True
        ).verdict
        low, high = difference_interval(arms["a"], arms["b"], alpha=0.05, proportion=True)
        told.append(verdict.kind)
        decided.append(bool(low > 0 or high < 0))
    assert [kind in ("better", "worse") for kind in told] == decided
    assert {"too early", "undecided", "better"} == set(told)
