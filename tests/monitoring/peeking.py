"""Simulated experiments, looked at after every outcome: what the tests assert and the benchmark prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from mlnb.monitoring.sequences import difference_interval
from mlnb.monitoring.tally import Tally

ALPHA = 0.05
CELLS = 1_000_000  # outcomes simulated at a time

Array = np.ndarray[Any, Any]
Draw = Callable[[np.random.Generator, tuple[int, int]], Array]


def bernoulli(rate: float) -> Draw:
    return lambda rng, shape: (rng.random(shape) < rate).astype(float)


def normal(mean: float) -> Draw:
    return lambda rng, shape: rng.normal(mean, 1.0, shape)


def exponential(mean: float) -> Draw:
    return lambda rng, shape: rng.exponential(mean, shape)


def lognormal(sigma: float) -> Draw:
    return lambda rng, shape: rng.lognormal(0.0, sigma, shape)


def rare_purchases(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    return (rng.random(shape) < 0.03) * rng.lognormal(3.0, 1.0, shape)


def one_price(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    return (rng.random(shape) < 0.03) * 10.0


def three_rows(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    return rng.binomial(3, 0.1, shape) / 3


NULL: dict[str, tuple[Draw, bool]] = {
    **{f"rate {rate}": (bernoulli(rate), True) for rate in (0.5, 0.1, 0.03, 0.01, 0.003, 0.97)},
    "normal": (normal(0.0), False),
    "exponential": (exponential(1.0), False),
    "log-normal, sigma 1": (lognormal(1.0), False),
    "log-normal, sigma 2": (lognormal(2.0), False),
    "3 % buy at one price": (one_price, False),
    "3 rows each, rate 0.1": (three_rows, True),
    "3 % buy, log-normal": (rare_purchases, False),
    "t, 3 degrees of freedom": (lambda rng, shape: rng.standard_t(3, shape), False),
}


@dataclass(frozen=True)
class Effect:
    """Two arms with a real difference; variance is the sum of the arms' variances of one outcome."""

    base: Draw
    other: Draw
    proportion: bool
    difference: float
    variance: float

    def fixed(self, power: float) -> int:
        """Return the outcomes of both arms that a test with one look at the end needs."""
        both = NormalDist().inv_cdf(1 - ALPHA / 2) + NormalDist().inv_cdf(power)
        return round(2 * self.variance * both**2 / self.difference**2)


def rates(base: float, other: float) -> Effect:
    variance = base * (1 - base) + other * (1 - other)
    return Effect(bernoulli(base), bernoulli(other), True, other - base, variance)


EFFECTS: dict[str, Effect] = {
    "rate 0.5, then 0.7": rates(0.5, 0.7),
    "rate 0.5, then 0.6": rates(0.5, 0.6),
    "rate 0.5, then 0.55": rates(0.5, 0.55),
    "rate 0.9, then 0.95": rates(0.9, 0.95),
    "rate 0.1, then 0.13": rates(0.1, 0.13),
    "rate 0.03, then 0.045": rates(0.03, 0.045),
    "normal, 0.5 deviations": Effect(normal(0.0), normal(0.5), False, 0.5, 2.0),
    "normal, 0.2 deviations": Effect(normal(0.0), normal(0.2), False, 0.2, 2.0),
    "exponential, 25 % more": Effect(exponential(1.0), exponential(1.25), False, 0.25, 1 + 1.25**2),
}


def first_verdicts(
    base: Draw, other: Draw, *, proportion: bool, share: float = 0.5, trials: int = 2000, outcomes: int = 5000,
    seed: int = 0,
) -> Array:  # fmt: skip
    """Return after how many outcomes each trial had its first verdict; ``outcomes + 1`` if it had none."""
    rng, found = np.random.default_rng(seed), []
    for many in _batches(trials, outcomes):
        chosen = rng.random((many, outcomes)) < share
        values = np.where(chosen, other(rng, chosen.shape), base(rng, chosen.shape))
        low, high = difference_interval(
            _tallies(values, ~chosen), _tallies(values, chosen), alpha=ALPHA, proportion=proportion
        )
        decided = (low > 0) | (high < 0)
        found.append(np.where(decided.any(axis=1), decided.argmax(axis=1) + 1, outcomes + 1))
    return np.concatenate(found)


def _batches(trials: int, outcomes: int) -> Iterator[int]:
    size = max(1, CELLS // outcomes)
    for start in range(0, trials, size):
        yield min(size, trials - start)


def _tallies(values: Array, chosen: Array) -> Tally:
    """Return the running tallies of those that were chosen: a Tally of arrays."""
    count = np.cumsum(chosen, axis=1)
    total = np.cumsum(values * chosen, axis=1)
    squares = np.cumsum(values**2 * chosen, axis=1)
    mean: Any = total / np.maximum(count, 1)
    m2: Any = np.maximum(squares - total * mean, 0.0)
    return Tally(count, mean, m2)  # type: ignore[arg-type] # many tallies at once


def false_share(name: str, *, share: float = 0.5, trials: int = 2000, outcomes: int = 5000) -> float:
    """Return the share of A/A trials that ever had a verdict."""
    draw, proportion = NULL[name]
    stops = first_verdicts(draw, draw, proportion=proportion, share=share, trials=trials, outcomes=outcomes)
    return float((stops <= outcomes).mean())


@dataclass(frozen=True)
class Cost:
    """Outcomes of both arms.

    ``fixed`` by a test with one look; ``mean`` on average by the sequence, ended where it has the same power; ``most``
    where that is; ``untruncated`` on average if nobody ends it before four times ``fixed``.
    """

    fixed: int
    mean: float
    most: float
    untruncated: float


def cost(effect: Effect, *, power: float, trials: int = 600) -> Cost:
    fixed = effect.fixed(power)
    stops = first_verdicts(
        effect.base, effect.other, proportion=effect.proportion, trials=trials, outcomes=4 * fixed, seed=1
    )
    most = float(np.quantile(stops, power))
    return Cost(fixed, float(np.minimum(stops, most).mean()), most, float(stops.mean()))
