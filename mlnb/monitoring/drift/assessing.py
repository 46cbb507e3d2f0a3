"""From an example and rows of today to a drift report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mlnb.monitoring.drift import distances
from mlnb.monitoring.drift.report import ColumnDrift, DriftReport
from mlnb.monitoring.drift.significance import Evidence, adjusted, chi_square, effective_rows, kolmogorov_smirnov
from mlnb.monitoring.numerals import percent
from mlnb.registry.rows.baseline import category_counts, repeats, text_lengths

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlnb.monitoring.drift.report import Verdict
    from mlnb.registry.rows.baseline import Baseline, ColumnBaseline

__all__ = ["ALPHA", "FEWEST", "FEWEST_BEFORE", "LEAST_EFFECT", "assess"]

Values = np.ndarray[Any, Any]

ALPHA = 0.02
"""False discovery rate over the columns: of a hundred reports on what has not drifted, at most two name a column. With
a hundredth, half a standard deviation in one of 30 columns would be missed too often where a window has 140 rows."""

LEAST_EFFECT = 0.1
"""What is worth a person's time: a normal column that moved by a quarter of its standard deviation has the
Kolmogorov-Smirnov distance 0.1, and 0.1 is what Cohen calls a small effect of categories. With many rows the tests find
far less."""

FEWEST, FEWEST_BEFORE = 100, 30
"""Rows now, and known values of the example, without which there is no verdict."""

_FEWEST_DIFFERENT = 30  # independent rows

_NONE = Evidence(float("nan"), float("nan"), 1.0, float("nan"))
_NO_EXAMPLE = "No example was stored with this version, so nothing can be said of drift."


def assess(
    baseline: Baseline | None, columns: Mapping[str, Values], *, prediction: Values | None = None, name: str = "",
    version: int = 0, at: float | None = None,
) -> DriftReport:  # fmt: skip
    """Compare rows of today with the example that a version was registered with.

    A column drifted if all of three hold: there are enough values on both sides; the effect is large enough to matter
    (:data:`LEAST_EFFECT`); and it is no chance, at a false discovery rate of :data:`ALPHA` over the columns. Both a
    column's known values and how many are missing are tested. The same rows sent again and again count less; see
    :func:`~mlnb.monitoring.drift.significance.effective_rows`.

    Parameters
    ----------
    baseline : Baseline or None
        Of the example, None where none was stored.
    columns : mapping of str to ndarray of shape (n,)
        Numbers as float64 with NaN, all else as objects with None. A column that is not there counts as missing.
    prediction : ndarray of shape (n,), optional
        The model's answers to these rows.
    name, version : str, int
        Of the model.
    at : float, optional
        When the newest row came, seconds since the epoch.
    """
    rows = max([0, *(len(values) for values in columns.values())])
    if baseline is None or not baseline.columns:
        return DriftReport(name=name, version=version, rows=rows, at=at, columns=(), prediction=None, words=_NO_EXAMPLE)
    effective = effective_rows(rows, repeats(columns), before=baseline.repeats)
    sample = _Sample(rows, effective / rows if rows else 1.0)
    answered = [] if baseline.prediction is None or prediction is None else [baseline.prediction]
    with np.errstate(all="ignore"):  # the largest numbers there are have no finite differences
        judged = _judged([_compared(one, columns.get(one.name), sample) for one in baseline.columns], sample)
        asked = _judged([_compared(one, prediction, sample) for one in answered], sample)
    return DriftReport(
        name=name, version=version, rows=rows, at=at, columns=tuple(sorted(judged, key=_harm)),
        prediction=asked[0] if asked else None, words=_words(judged, baseline, sample, asked),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Sample:
    """How many rows there are, and the share of them that is independent."""

    rows: int
    weight: float

    @property
    def enough(self) -> bool:
        return self.rows >= FEWEST and self.rows * self.weight >= _FEWEST_DIFFERENT


@dataclass(frozen=True, slots=True)
class _Compared:
    """A column before its verdict: its figures, and what speaks for drift."""

    figures: ColumnDrift
    values: Evidence
    missing: Evidence
    change: str
    enough: bool

    @property
    def p_value(self) -> float:
        """Of either, by Bonferroni where there are two."""
        both = not (np.isnan(self.values.p_value) or np.isnan(self.missing.p_value))
        return min(1.0, (1 + both) * self.strongest.counted)

    @property
    def strongest(self) -> Evidence:
        return min(self.values, self.missing, key=lambda one: (one.counted, -np.nan_to_num(one.effect)))


def _compared(before: ColumnBaseline, values: Values | None, sample: _Sample) -> _Compared:
    given = _as_kind(before.kind, np.full(sample.rows, None, dtype=object) if values is None else values)
    known = given[np.isfinite(given)] if given.dtype.kind == "f" else given[given != None]  # noqa: E711 - one by one
    lost = len(given) - len(known)
    missing = _NONE
    if (lost or before.missing) and len(given) >= FEWEST and before.known + before.missing >= FEWEST_BEFORE:
        missing = chi_square((before.known, before.missing), (len(known), lost), weight=sample.weight)
    compare = _categories if before.kind == "categories" else _numbers
    enough = len(known) >= FEWEST and before.known >= FEWEST_BEFORE
    figures, evidence, change = compare(before, known, sample) if len(known) and before.known else _nothing(before)
    return _Compared(
        figures=replace(
            figures, rows=len(given), missing=lost / max(1, len(given)),
            missing_before=before.missing / max(1, before.known + before.missing),
        ),
        values=evidence if enough else _NONE, missing=missing, change=change,
        enough=sample.enough and (enough or missing is not _NONE),
    )  # fmt: skip


def _as_kind(kind: str, values: Values) -> Values:
    """Return values as the example had them: numbers, lengths of texts, or categories."""
    if kind == "texts":
        return text_lengths(values)
    if kind == "numbers":
        try:
            return np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError):  # a model that answered with numbers answers with words
            return np.full(len(values), np.nan)
    objects: Values = values.astype(object)
    if values.dtype.kind == "f":
        objects[np.isnan(values)] = None
    return objects


def _numbers(before: ColumnBaseline, now: Values, sample: _Sample) -> tuple[ColumnDrift, Evidence, str]:
    old = np.array(before.sample)
    found = kolmogorov_smirnov(old, now, known=before.known, weight=sample.weight)
    bins = distances.number_bins(old, now)
    outside = (now < before.low) | (now > before.high)
    what = "median length" if before.kind == "texts" else "median"
    figures = _figures(
        before, "Kolmogorov-Smirnov", found, bins, psi=distances.psi_of_numbers(old, now),
        wasserstein=distances.wasserstein(old, now, deviation=before.deviation), out_of_range=float(outside.mean()),
    )  # fmt: skip
    return figures, found, f"{what} {np.median(old):.4g} before, {np.median(now):.4g} now"


def _categories(before: ColumnBaseline, now: Values, sample: _Sample) -> tuple[ColumnDrift, Evidence, str]:
    old, new = dict(before.counts), category_counts(now)
    others = sum(count for value, count in new.items() if value not in old)
    counts = [*old.values(), before.rest], [*(new[value] for value in old), others]
    unknown = 0.0 if before.rest else others / len(now)  # with a rest, nobody knows which of the others are new
    found = chi_square(*counts, weight=sample.weight, rest=before.rest > 0)
    bins = distances.category_bins(old, new, rest=before.rest)
    figures = _figures(before, "chi-square", found, bins, psi=distances.psi(*map(np.array, counts)), unknown=unknown)
    return figures, found, _moved_most(bins)


def _moved_most(bins: distances.Bins) -> str:
    old, new = bins.before / bins.before.sum(), bins.now / bins.now.sum()
    at = int(np.argmax(np.abs(new - old)))
    return f"{str(bins.edges[at])[:30]!r} {percent(old[at])} before, {percent(new[at])} now"


def _nothing(before: ColumnBaseline) -> tuple[ColumnDrift, Evidence, str]:
    empty = distances.Bins((), np.zeros(0), np.zeros(0))
    test: Literal["chi-square", "Kolmogorov-Smirnov"] = (
        "chi-square" if before.kind == "categories" else "Kolmogorov-Smirnov"
    )
    return _figures(before, test, _NONE, empty, psi=float("nan")), _NONE, ""


def _figures(
    before: ColumnBaseline, test: Literal["Kolmogorov-Smirnov", "chi-square"], found: Evidence, bins: distances.Bins, *,
    psi: float, wasserstein: float | None = None, unknown: float = 0.0, out_of_range: float = 0.0,
) -> ColumnDrift:  # fmt: skip
    """Return the figures of a column, which has no verdict yet."""
    return ColumnDrift(
        name=before.name, kind=before.kind, verdict="too few", test=test, statistic=found.statistic,
        p_value=found.p_value, adjusted=float("nan"), effect=found.effect, psi=psi, wasserstein=wasserstein,
        jensen_shannon=distances.jensen_shannon(bins.before, bins.now) if len(bins.now) else float("nan"),
        missing=0.0, missing_before=0.0, unknown=unknown, out_of_range=out_of_range, rows=0, words="",
        edges=bins.edges, before=_shares(bins.before), now=_shares(bins.now),
    )  # fmt: skip


def _shares(counts: Values) -> tuple[float, ...]:
    return tuple((counts / max(1, counts.sum())).tolist())


def _judged(found: Sequence[_Compared], sample: _Sample) -> list[ColumnDrift]:
    """Return the columns with their verdicts, in the same order."""
    able = [one for one in found if one.enough]
    corrected = dict(zip(map(id, able), adjusted([one.p_value for one in able]), strict=True))
    return [_verdict(one, corrected.get(id(one)), sample) for one in found]


def _verdict(one: _Compared, corrected: float | None, sample: _Sample) -> ColumnDrift:
    if corrected is None:
        return replace(one.figures, words=_too_few(one, sample))
    drifted = corrected < ALPHA and one.strongest.effect >= LEAST_EFFECT
    verdict: Verdict = "drifted" if drifted else "steady"
    words = f"drifted: {_why(one)}" if drifted else "steady"
    return replace(one.figures, verdict=verdict, adjusted=corrected, words=words)


def _why(one: _Compared) -> str:
    figures = one.figures
    if one.strongest is one.missing:
        return f"missing {percent(figures.missing_before)} before, {percent(figures.missing)} now"
    return one.change


def _too_few(one: _Compared, sample: _Sample) -> str:
    if sample.rows < FEWEST:
        return f"too few: {sample.rows} of {FEWEST} rows"
    if not sample.enough:
        return f"too few: about {sample.rows * sample.weight:.0f} different rows again and again"
    known = round(one.figures.rows * (1 - one.figures.missing))
    return f"too few: {known} known values of {FEWEST}" if known < FEWEST else "too few in the example"


def _harm(column: ColumnDrift) -> tuple[int, float]:
    missing = abs(column.missing - column.missing_before)
    return ("drifted", "steady", "too few").index(column.verdict), -max(np.nan_to_num(column.effect), missing)


def _words(judged: Sequence[ColumnDrift], baseline: Baseline, sample: _Sample, asked: Sequence[ColumnDrift]) -> str:
    if baseline.rows < FEWEST_BEFORE:
        return (
            f"The example has too few rows to tell of drift: {baseline.rows} of {FEWEST_BEFORE}. Deploy with more, "
            "such as X_train."
        )
    if all(column.verdict == "too few" for column in judged):
        return f"Too few rows to tell: {judged[0].words.removeprefix('too few: ')}."
    drifted = sorted((column for column in judged if column.verdict == "drifted"), key=_harm)
    counted = sum(column.verdict != "too few" for column in judged)
    columns = f"{counted} column{'s' * (counted != 1)}"
    found = f"{len(drifted)} of {columns} drifted, {drifted[0].name} most" if drifted else f"None of {columns} drifted"
    answers = " The predictions drifted." if asked and asked[0].verdict == "drifted" else ""
    left = f" Columns beyond the {len(baseline.columns):,}th were not looked at." if baseline.left_out else ""
    return f"{found}, by {sample.rows:,} rows.{answers}{left}"
