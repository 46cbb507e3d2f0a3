"""Views of deployments as a dashboard draws them, made by hand."""

from __future__ import annotations

from dataclasses import replace
from math import exp, sin
from random import Random
from typing import Any

from mlnb.monitoring.alerts import AlertRule, AlertState
from mlnb.monitoring.drift import ColumnDrift, DriftReport
from mlnb.monitoring.metrics import KINDS, Mark, MetricsSnapshot, Series
from mlnb.monitoring.prediction_log.settings import LogState
from mlnb.monitoring.quality import CalibrationBin, Measure, QualityReport
from mlnb.monitoring.view import MonitorView

NOW = 1_767_268_800.0  # 1 January 2026, 12:00 UTC
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
NONE_YET = "not enough labels yet: 5 of 30"


def quiet_series(*, step: int = 1, end: float = NOW) -> Series:
    """Return the series of a deployment that nobody has asked yet."""
    count = 60 if step > 1 else 300
    nothing = (None,) * count
    return Series(
        step=step, ago=tuple(step * (at - count + 1) for at in range(count)), end=end, requests=(0,) * count,
        errors=(0,) * count, kinds=dict.fromkeys(KINDS, (0,) * count), p50=nothing, p95=nothing, p99=nothing,
        replicas=nothing, in_flight=nothing, drift=nothing,
    )  # fmt: skip


def busy_series(*, step: int = 1, end: float = NOW, numbers: bool = False, seed: int = 0) -> Series:
    """Return a series with traffic that swells, a gap, a burst of errors and drift that sets in."""
    quiet, rng = quiet_series(step=step, end=end), Random(seed)  # noqa: S311 - a picture
    count = len(quiet.ago)
    part = [at / count for at in range(count)]
    gap = [0.2 < one < 0.23 for one in part]
    requests = tuple(
        0 if none else int(step * (90 + 40 * sin(9 * one) + rng.gauss(0, 8)))
        for one, none in zip(part, gap, strict=True)
    )
    p50 = tuple(
        None if none else 1.4 + 0.3 * sin(7 * one) + rng.random() / 5 for one, none in zip(part, gap, strict=True)
    )
    burst = [exp(-(((one - 0.6) / 0.02) ** 2)) for one in part]
    kinds = {
        "invalid request": tuple(int(step * (3 * (rng.random() > 0.9))) for _ in part),
        "overloaded": tuple(int(step * 9 * one) for one in burst),
        "timed out": tuple(int(step * 4 * one) for one in burst),
        "model failed": tuple(int(step * 5 * (0.85 < one < 0.88)) for one in part),
    }
    answers: dict[str, Any] = {
        "classes": {
            label: tuple(
                int(count * share * (1 + 0.4 * sin(5 * one + at))) for count, one in zip(requests, part, strict=True)
            )
            for at, (label, share) in enumerate((("setosa", 0.5), ("versicolor", 0.3), ("virginica", 0.2)))
        }
    }
    if numbers:
        answers = {"numbers": {
            name: tuple(
                None if none else 20 + width + 3 * sin(6 * one) + rng.random()
                for one, none in zip(part, gap, strict=True)
            )
            for name, width in (("p5", -8), ("p50", 0), ("p95", 11))
        }}  # fmt: skip
    return replace(
        quiet, requests=requests, errors=tuple(map(sum, zip(*kinds.values(), strict=True))), kinds=kinds, p50=p50,
        p95=tuple(None if one is None else 2.5 * one + rng.random() for one in p50),
        p99=tuple(None if one is None else 4 * one + 3 * rng.random() for one in p50),
        replicas=tuple(1 if one < 0.5 else 2 for one in part),
        in_flight=tuple(int(6 + 5 * sin(9 * one) + 3 * rng.random()) for one in part),
        drift=tuple(None if one < 0.3 else 0.0 if one < 0.7 else 0.1 if one < 0.9 else 0.2 for one in part), **answers,
    )  # fmt: skip


def metrics(series: Series, **changes: Any) -> MetricsSnapshot:
    requests, errors = sum(series.requests), sum(series.errors)
    latest = max((at for at, value in enumerate(series.p50) if value is not None), default=None)
    p50, p95, p99 = (None if latest is None else one[latest] for one in (series.p50, series.p95, series.p99))
    snapshot = MetricsSnapshot(
        requests=requests, errors=errors, rows=requests, window=60, rate=series.requests[-1] / series.step,
        window_requests=sum(series.requests[-60:]), window_errors=sum(series.errors[-60:]), p50=p50, p95=p95, p99=p99,
        last_error=None, last_error_at=None, recent=tuple(series.requests[-60:]),
    )  # fmt: skip
    return replace(snapshot, **changes)


def column(name: str, *, verdict: Any = "steady", kind: Any = "numbers", **changes: Any) -> ColumnDrift:
    numbers = kind == "numbers"
    one = ColumnDrift(
        name=name, kind=kind, verdict=verdict, test="Kolmogorov-Smirnov" if numbers else "chi-square", statistic=0.03,
        p_value=0.41, adjusted=0.62, effect=0.03, psi=0.01, wasserstein=0.04 if numbers else None, jensen_shannon=0.02,
        missing=0.0, missing_before=0.0, unknown=0.0, out_of_range=0.0, rows=1000, words=f"{name} is steady",
        edges=(0.0, 1.0, 2.0, 3.0, 4.0, 5.0) if numbers else ("a", "b", "c", "d", "e"),
        before=(0.1, 0.25, 0.3, 0.25, 0.1), now=(0.11, 0.24, 0.31, 0.24, 0.1),
    )  # fmt: skip
    return replace(one, **changes)


def drift_report(*, count: int = 12, **changes: Any) -> DriftReport:
    moved = {"statistic": 0.31, "p_value": 1e-9, "adjusted": 3e-8, "effect": 0.31, "psi": 0.4, "wasserstein": 0.82,
             "now": (0.02, 0.1, 0.22, 0.36, 0.3)}  # fmt: skip
    report = DriftReport(
        name="iris", version=3, rows=1000, at=NOW - 20,
        columns=(
            column("petal length (cm)", verdict="drifted", words="petal length (cm) moved up by 0.8", **moved),
            column("species group", verdict="drifted", kind="categories", unknown=0.12, words="12 % are unknown",
                   **(moved | {"wasserstein": None, "effect": 0.22})),
            *(column(f"column {number}", missing=0.01 * number) for number in range(3, count + 1)),
        ),
        prediction=column("prediction", kind="categories", edges=("setosa", "versicolor", "virginica"),
                          before=(0.33, 0.33, 0.34), now=(0.4, 0.35, 0.25)),
        words=f"2 of {count} columns drifted, petal length (cm) the most",
    )  # fmt: skip
    return replace(report, **changes)


def quality_report(version: int = 3, *, window: Any = "all time", enough: bool = True, **changes: Any) -> QualityReport:
    figures = {
        "accuracy": 0.94,
        "precision": 0.93,
        "recall": 0.92,
        "F1": 0.925,
        "ROC AUC": 0.981,
        "log loss": 0.21,
        "Brier score": 0.06,
    }
    measures = tuple(
        Measure(name=name, value=value, low=value - 0.03, high=value + 0.02,
                words=f"{value:g} ({value - 0.03:.2f} to {value + 0.02:.2f})")
        if enough else Measure(name=name, value=None, low=None, high=None, words=NONE_YET)
        for name, value in figures.items()
    )  # fmt: skip
    report = QualityReport(
        version=version, window=window, task="classes", labels=412 if enough else 5, measures=measures,
        calibration=tuple(
            CalibrationBin(predicted=at / 10 + 0.05, observed=at / 9, low=max(0.0, at / 9 - 0.1),
                           high=min(1.0, at / 9 + 0.1), count=41)
            for at in range(10)
        ) if enough else (),
        classes=("setosa", "versicolor", "virginica"),
        confusion=((140, 2, 0), (3, 128, 6), (0, 12, 121)) if enough else ((2, 0, 0), (0, 2, 0), (0, 0, 1)),
        words="accuracy 0.94 (0.91 to 0.96)" if enough else NONE_YET,
    )  # fmt: skip
    return replace(report, **changes)


def alert(state: Any = "ok", **changes: Any) -> AlertState:
    one = AlertState(
        rule=AlertRule(metric="p95", above=50), state=state, value=84.0 if state == "firing" else 3.4, since=NOW - 125,
        words="p95 is 84 ms, above 50 ms" if state == "firing" else "p95 is 3.4 ms",
    )  # fmt: skip
    return replace(one, **changes)


def view(series: Series | None = None, **changes: Any) -> MonitorView:
    """Return a deployment that nobody has asked yet."""
    shown = quiet_series() if series is None else series
    quiet = MonitorView(
        name="iris", version=3, state="live", at=shown.end + 1, place="in kernel", metrics=metrics(shown), series=shown,
        marks=(Mark(at=NOW - 400, kind="deployed", version=1, words="v1 deployed"),), replicas=0,
    )  # fmt: skip
    return replace(quiet, **changes)


def busy_view(*, numbers: bool = False, step: int = 1, seed: int = 0, **changes: Any) -> MonitorView:
    """Return a deployment with traffic, drift, labels, an alert that fires and a roll back."""
    series = busy_series(numbers=numbers, step=step, seed=seed)
    span = -series.ago[0]
    marks = (
        Mark(at=NOW - 0.95 * span, kind="deployed", version=3, words="v3 deployed"),
        Mark(at=NOW - 0.45 * span, kind="deployed", version=4, words="v4 deployed"),
        Mark(at=NOW - 0.40 * span, kind="alert", version=4, words="error rate"),
        Mark(at=NOW - 0.38 * span, kind="rolled back", version=3, words="rolled back to v3"),
    )
    full = view(
        series, marks=marks, drift=drift_report(), quality=(quality_report(window="1 hour"), quality_report()),
        alerts=(
            alert("firing"),
            alert(rule=AlertRule(metric="error rate", above=0.05, lasting="1m"), value=0.01, words="error rate is 1 %"),
        ),
        log=LogState(url="sqlite:///log.db", written=12_345, dropped=3, waiting=0, failure=""), in_flight=7, replicas=2,
        place="2 processes",
    )  # fmt: skip
    return replace(full, **changes)
