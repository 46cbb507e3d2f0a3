"""RESULTS.md out of what was measured; touches nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.serving.load import Load
from benchmarks.serving.results import Results
from benchmarks.serving.servers import SEED
from benchmarks.serving.targets import MODELS, Target, median_of, number, targets

__all__ = ["report"]

_FOLDERS = re.compile(r"(?<![\w.])/(?:[\w.+@-]+/)+")  # of this machine; they say nothing elsewhere

_INTRODUCTION = """\
Written by `make benchmark`, never by hand. Servers and clients share one machine; each round starts, checks, measures
and ends every server in turn, so that noise hits all alike. Medians of {rounds} rounds of {seconds} s a measurement,
least and most in brackets. One row of 20 numbers per request; a rate counts good answers only. Start: to the first good
answer. Memory: the proportional share (PSS) of all processes of a server, idle after its first answers."""


def report(results: Results) -> str:
    """Return the whole document."""
    parts = [
        "# The serving benchmark",
        _INTRODUCTION.format(rounds=results.rounds, seconds=results.seconds),
        _table(("machine", ""), results.machine.items()),
        "## Against the targets",
        _table(("what", "target", "measured", ""), map(_target, targets(results))),
        *(part for model in MODELS for part in (f"## {MODELS[model]}", _by_server(results, model))),
        "## In detail",
        _table(("what", "measured"), (row for row in _details(results) if row[1])),
        "## Not measured",
        _table(("what", "why"), ((what, _FOLDERS.sub("", why)) for what, why in results.failures.items())),
        "## Versions",
        _table(("environment", "packages"), ((name, _packages(found)) for name, found in results.versions.items())),
    ]
    return "\n\n".join(parts) + "\n"


def _target(target: Target) -> Sequence[str]:
    limit = f"{'at most' if target.at_most else 'at least'} {number(target.limit)}{target.unit}"
    if target.measured is None:
        return target.what, limit, "not measured", ""
    remark = f" ({target.remark})" if target.remark else ""
    return target.what, limit, f"{number(target.measured)}{target.unit}{remark}", "met" if target.met else "**missed**"


def _by_server(results: Results, model: str) -> str:
    rates = results.rates(model, 64)
    head = ("server", "64 connections, requests/s", "p50, p99 ms", "of the seed's", "1 connection, requests/s")
    rows = (
        (
            server,
            _spread([load.rate for load in results.loads[server, model, 64]]),
            _latency(results.loads[server, model, 64]),
            f"{number(rates[server] / rates[SEED])}x" if SEED in rates else "",
            _spread([load.rate for load in results.loads[server, model, 1]]),
            _latency(results.loads[server, model, 1]),
            _spread([start.seconds for start in results.starts[server, model]]),
            _spread([start.memory / 1e6 for start in results.starts[server, model]]),
            str(sum(load.refused + load.failed for load in _loads_of(results, server, model))),
        )
        for server in sorted(rates, key=rates.__getitem__, reverse=True)
    )
    return _table((*head, "p50, p99 ms", "start, s", "memory, MB", "bad answers"), rows)


def _loads_of(results: Results, server: str, model: str) -> list[Load]:
    return [load for width in (64, 1) for load in results.loads[server, model, width]]


def _details(results: Results) -> Iterable[Sequence[str]]:
    for model, seconds in results.predict.items():
        yield f"{MODELS[model]}: predict of one row, µs", _spread([1e6 * one for one in seconds])
    for server, seen in results.bursts.items():
        yield f"burst, {server}: median of the steady, ms", _spread([1e3 * one.median for one in seen])
        yield f"burst, {server}: slowest of the new, ms", _spread([1e3 * one.slowest for one in seen])
        yield f"burst, {server}: slowest over the median", _spread([one.slowest / one.median for one in seen])
        yield f"burst, {server}: new connections without a good answer", str(sum(one.failed for one in seen))
    for model, arrays in results.arrays.items():
        yield f"npy, {MODELS[model]}: request, ms", _spread([1e3 * one.request for one in arrays])
        yield f"npy, {MODELS[model]}: predict itself, ms", _spread([1e3 * one.predict for one in arrays])
    yield from _overload_details(results)
    yield from _notebook_details(results)


def _overload_details(results: Results) -> Iterable[Sequence[str]]:
    seen = results.overloads
    yield "overload: capacity, requests/s", _spread([one.capacity for one in seen])
    yield "overload: p99 at capacity, ms", _spread([1e3 * one.capacity_p99 for one in seen])
    yield "overload: goodput at 4x, requests/s", _spread([one.goodput for one in seen])
    yield "overload: p99 of accepted at 4x, ms", _spread([1e3 * one.p99 for one in seen])
    yield "overload: answered 429 or 503", str(sum(one.refused for one in seen))
    yield "overload: without an answer, or another status", str(sum(one.failed for one in seen))


def _notebook_details(results: Results) -> Iterable[Sequence[str]]:
    for name, loads in (
        ("idle", [one.idle for one in results.besides]),
        ("looping in Python", [one.looping for one in results.besides]),
    ):
        yield f"1 replica, 16 connections, the kernel {name}: requests/s", _spread([load.rate for load in loads])
        yield f"1 replica, 16 connections, the kernel {name}: p50, p99 ms", _latency(loads)
    cells = results.cells
    yield "a cell's turns a second, nobody asks", _spread([one.alone for one in cells])
    yield "500/s to a replica of its own, turns a second", _spread([one.own for one in cells])
    yield "500/s to another process's replica, turns a second", _spread([one.others for one in cells])


def _latency(loads: list[Load]) -> str:
    p50, p99 = median_of(1e3 * load.p50 for load in loads), median_of(1e3 * load.p99 for load in loads)
    return "" if p50 is None or p99 is None else f"{number(p50)}, {number(p99)}"


def _spread(values: list[float]) -> str:
    middle = median_of(values)
    if middle is None:
        return ""
    spread = f" ({number(min(values))} to {number(max(values))})" if len(values) > 1 else ""
    return f"{number(middle)}{spread}"


def _packages(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{package} {version}" for package, version in sorted(versions.items()))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [_row(row) for row in rows]
    return "\n".join([_row(head), _row(["---"] * len(head)), *lines]) if lines else "Nothing."


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
