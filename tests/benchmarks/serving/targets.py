"""The targets of the data plane, each beside what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

from benchmarks.serving.results import Results
from benchmarks.serving.servers import CONFIGURATIONS, ECHO, OURS, SEED

__all__ = ["MODELS", "Target", "median_of", "number", "targets"]

MODELS = {"logistic": "LogisticRegression", "forest": "RandomForestClassifier(100)"}
_SERVERS = {configuration.name: configuration for configuration in CONFIGURATIONS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One line; ``measured`` is None where a part of it is missing.

    Attributes
    ----------
    limit : float
        The measured value is at least that, or ``at_most``.
    """

    what: str
    limit: float
    measured: float | None
    unit: str = "x"
    at_most: bool = False
    remark: str = ""

    @property
    def met(self) -> bool:
        if self.measured is None:
            return False
        return self.measured <= self.limit if self.at_most else self.measured >= self.limit


def targets(results: Results) -> list[Target]:
    """Return all of them, in the order of the issue."""
    return [
        *_rates(results),
        *_bursts(results),
        _over_predict(results),
        *_beside_a_notebook(results),
        *_arrays(results),
        *_overload(results),
        *_starts(results),
    ]


def median_of(values: Iterable[float]) -> float | None:
    """Return the median, or None of nothing."""
    listed = list(values)
    return median(listed) if listed else None


def number(value: float) -> str:
    """Write a number with three digits, or all that it has before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.1 else f"{value:.3f}"


def _rates(results: Results) -> list[Target]:
    logistic, forest, single = (results.rates(*key) for key in (("logistic", 64), ("forest", 64), ("forest", 1)))
    ours, peer = _best(logistic, _is_plain), _best(logistic, _is_peer)
    ours_forest, peer_forest = _best(forest, _is_plain), _best(forest, _is_peer)
    fast, fast_single = _best(forest, _is_accelerated), _best(single, _is_accelerated)
    lr, rf = "LogisticRegression, 64 connections", "RandomForest(100), 64 connections"
    return [
        _ratio(f"{lr}: share of the bare uvicorn echo", 0.6, logistic, ours, ECHO),
        _ratio("the same, with a protocol class of our own", 1.2, logistic, ours, ECHO),
        _ratio(f"{lr}: against the best peer", 3, logistic, ours, peer),
        _ratio(f"{lr}: against the seed's design", 5, logistic, ours, SEED),
        _ratio(f"{rf}: against the best peer", 5, forest, ours_forest, peer_forest),
        _ratio(f"{rf}: against the seed's design", 20, forest, ours_forest, SEED),
        _ratio(f"{rf}, accelerated: against the seed's design", 60, forest, fast, SEED),
        _ratio("RandomForest(100), 1 connection, accelerated: against the same", 15, single, fast_single, SEED),
    ]


def _ratio(what: str, limit: float, rates: dict[str, float], server: str | None, base: str | None) -> Target:
    if server is None or base is None or base not in rates:
        return Target(what=what, limit=limit, measured=None)
    remark = f"{server}: {number(rates[server])}/s; {base}: {number(rates[base])}/s"
    return Target(what=what, limit=limit, measured=rates[server] / rates[base], remark=remark)


def _bursts(results: Results) -> list[Target]:
    seen = results.bursts[OURS]
    return [
        Target(
            what="256 connections, half of them new at once on a busy server: slowest answer over the median",
            limit=10,
            at_most=True,
            measured=median_of(one.slowest / one.median for one in seen),
        )
    ]


def _over_predict(results: Results) -> Target:
    alone = median_of(results.predict["logistic"])
    asked = median_of(load.p50 for load in results.loads[OURS, "logistic", 1])
    return Target(
        what="one connection, LogisticRegression: p50 over model.predict itself",
        limit=0.15,
        unit=" ms",
        at_most=True,
        measured=None if alone is None or asked is None else (asked - alone) * 1e3,
    )


def _beside_a_notebook(results: Results) -> list[Target]:
    return [
        Target(
            what="1 replica while a cell loops in Python: throughput kept",
            limit=0.85,
            measured=median_of(one.looping.rate / one.idle.rate for one in results.besides),
        ),
        Target(
            what="the same: p99 over that beside an idle kernel",
            limit=2,
            at_most=True,
            measured=median_of(one.looping.p99 / one.idle.p99 for one in results.besides),
        ),
        Target(
            what="a cell while 1 replica of its own serves 500/s: slowdown beyond what the cores explain",
            limit=5,
            unit="%",
            at_most=True,
            measured=median_of((1 - one.own / one.others) * 100 for one in results.cells),
        ),
        Target(
            what="deploying on 1 replica, to the first answer",
            limit=1.5,
            unit=" s",
            at_most=True,
            measured=median_of(results.ready),
        ),
    ]


def _arrays(results: Results) -> list[Target]:
    return [
        Target(
            what=f"1,000x20 rows as npy, {title}: over predict itself",
            limit=1.2,
            at_most=True,
            measured=median_of(one.request / one.predict for one in results.arrays[model]),
        )
        for model, title in MODELS.items()
    ]


def _overload(results: Results) -> list[Target]:
    return [
        Target(
            what="overload at 4x capacity, a model of 1 ms a row: goodput kept",
            limit=0.9,
            measured=median_of(one.goodput / one.capacity for one in results.overloads),
        ),
        Target(
            what="the same: p99 of accepted over that at capacity",
            limit=3,
            at_most=True,
            measured=median_of(one.p99 / one.capacity_p99 for one in results.overloads),
        ),
    ]


def _starts(results: Results) -> list[Target]:
    pairs = list(zip(results.starts[OURS, "logistic"], results.starts[SEED, "logistic"], strict=False))
    return [
        Target(
            what="mlnb serve, cold start to the first good answer: against the seed's design",
            limit=1.0,
            at_most=True,
            measured=median_of(ours.seconds / seed.seconds for ours, seed in pairs),
        ),
        Target(
            what="mlnb serve, idle memory: against the seed's design",
            limit=1.1,
            at_most=True,
            measured=median_of(ours.memory / seed.memory for ours, seed in pairs),
        ),
    ]


def _best(rates: dict[str, float], counts: Callable[[str], bool]) -> str | None:
    return max(filter(counts, rates), key=rates.__getitem__, default=None)


def _is_peer(server: str) -> bool:
    return _SERVERS[server].is_peer


def _is_accelerated(server: str) -> bool:
    return _SERVERS[server].is_ours and _SERVERS[server].accelerated


def _is_plain(server: str) -> bool:
    return _SERVERS[server].is_ours and not _SERVERS[server].accelerated
