"""The verdict of an A/B test: which version is better, by how much, and how surely, at any time one looks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from html import escape
from math import ceil
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mlnb.errors import InvalidInputError, NotDeployedError, UndecidedError, nearest
from mlnb.monitoring.sequences import (
    LEAST,
    LEAST_EVENTS,
    decidable,
    difference_interval,
    growth_needed,
    mean_interval,
)
from mlnb.monitoring.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlnb.registry.tables import Cell, Column

__all__ = ["Arm", "Band", "Contrast", "Experiment", "Goal", "Verdict", "evaluate"]

Goal = Literal["higher", "lower"]
Kind = Literal["better", "worse", "undecided", "too early"]

_GOOD = "color: var(--jp-success-color1, #388e3c)"
_NUMBER = "text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap"
_ROUNDED = 100  # outcomes still needed, from which the last digits say nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One version and how it did.

    Attributes
    ----------
    name : str
    version : int
    tally : Tally
        Of the scores of its requests that were labelled.
    low, high : float
        Confidence sequence of its mean score; infinite before there is enough.
    """

    name: str
    version: int
    tally: Tally
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """One challenger against the baseline.

    Attributes
    ----------
    challenger, baseline : str
        Names of arms.
    difference : float
        The challenger's mean score minus the baseline's.
    low, high : float
        Confidence sequence of the difference; infinite, or -1 and 1, before there is enough.
    relative : float or None
        The difference as a share of the baseline's mean; None if that is 0.
    needed : int or None
        How many more outcomes would decide if the difference stays as it is; 0 if it is decided, None if that cannot
        be said.
    kind : {'better', 'worse', 'undecided', 'too early'}
        What may be said of the challenger.
    """

    challenger: str
    baseline: str
    difference: float
    low: float
    high: float
    relative: float | None
    needed: int | None
    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the experiment says.

    Attributes
    ----------
    kind : {'better', 'worse', 'undecided', 'too early'}
        "better": a challenger is. "worse": every challenger is.
    winner : str or None
        Name of the arm to keep.
    words : str
        One or two sentences.
    """

    kind: Kind
    winner: str | None
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """One arm's confidence sequence over the outcomes of the whole experiment.

    Attributes
    ----------
    name : str
    outcomes : tuple of int
        Of all arms together, ascending.
    mean, low, high : tuple of float
    """

    name: str
    outcomes: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Experiment:
    """An A/B test as it stands.

    The intervals are confidence sequences: the chance that a verdict is ever wrong is at most ``alpha``, however
    often one looks. Several challengers share it (Bonferroni). That holds for outcomes that do not depend on one
    another: many requests of one user, who always meets the same version, say less than as many users do.

    Attributes
    ----------
    metric : str
        What a score is, such as "accuracy".
    goal : {'higher', 'lower'}
        Which score is better.
    alpha : float
    proportion : bool
        Whether scores are shares, between 0 and 1.
    arms : tuple of Arm
        The baseline first.
    contrasts : tuple of Contrast
        One for each challenger.
    verdict : Verdict
    history : tuple of mapping of str to Tally
        The arms' tallies at earlier looks, oldest first, for the chart.
    promoter : callable or None
        What :meth:`promote` calls with the name of an arm.
    """

    metric: str
    goal: Goal
    alpha: float
    proportion: bool
    arms: tuple[Arm, ...]
    contrasts: tuple[Contrast, ...]
    verdict: Verdict
    history: tuple[Mapping[str, Tally], ...] = field(default=(), compare=False)
    promoter: Callable[[str], Any] | None = field(default=None, compare=False)

    @property
    def baseline(self) -> Arm:
        """The arm that the others are compared with."""
        return self.arms[0]

    @property
    def outcomes(self) -> int:
        """Of all arms together."""
        return sum(arm.tally.count for arm in self.arms)

    def promote(self, name: str | None = None) -> Any:
        """Send all traffic to the winner, or to the arm that is named.

        Returns
        -------
        object
            What the deployment returns.

        Raises
        ------
        UndecidedError
            If there is no winner and no name.
        InvalidInputError
            If no arm has that name.
        NotDeployedError
            If the experiment was not taken from a deployment.
        """
        names = [arm.name for arm in self.arms]
        if name is None and self.verdict.winner is None:
            raise UndecidedError(
                f"{self.verdict.words} To promote all the same, name an arm: .promote({self.arms[-1].name!r})."
            )
        chosen = self.verdict.winner if name is None else name
        if chosen not in names:
            raise InvalidInputError(f"The experiment has no arm {chosen!r}; {nearest(str(chosen), names)}.")
        if self.promoter is None:
            raise NotDeployedError("This experiment belongs to no deployment; take it with deployment.experiment().")
        return self.promoter(chosen)

    def bands(self) -> tuple[Band, ...]:
        """Return each arm's confidence sequence over the number of outcomes, from where it says something."""
        now = {arm.name: arm.tally for arm in self.arms}
        looks = [*(look for look in self.history if _total(look) < self.outcomes), now]
        totals = np.array([_total(look) for look in looks])
        return tuple(self._band(arm.name, looks, totals) for arm in self.arms)

    def figure(self) -> Any:
        """Draw the arms' confidence sequences over the number of outcomes.

        Returns
        -------
        plotly.graph_objects.Figure

        Raises
        ------
        MissingLibraryError
            If plotly is not installed.
        """
        from mlnb.monitoring.figures import experiment_figure

        return experiment_figure(self)

    def show(self, value: float) -> str:
        """Write a score: a share in per cent, all else with four digits."""
        return f"{100 * value:.2f} %" if self.proportion else f"{value:.4g}"

    def __repr__(self) -> str:
        from mlnb.registry.tables import lay_out

        return f"{lay_out(self._columns())}\n{self.verdict.words}"

    def _repr_html_(self) -> str:
        columns = self._columns()
        head = "".join(f'<th style="{_NUMBER}">{escape(one.title)}</th>' for one in columns)
        rows = zip(*(one.cells for one in columns), strict=True)
        body = "".join(f"<tr>{''.join(map(_html, row))}</tr>" for row in rows)
        table = f'<table class="mlnb-experiment"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        return f"<p>{escape(self.verdict.words)}</p>{table}"

    def _band(self, name: str, looks: Sequence[Mapping[str, Tally]], totals: Any) -> Band:
        tallies = [look.get(name, Tally()) for look in looks]
        arrays: list[Any] = [np.array([getattr(one, part) for one in tallies]) for part in ("count", "mean", "m2")]
        low, high = mean_interval(Tally(*arrays), alpha=self.alpha, proportion=self.proportion)
        said = arrays[0] >= LEAST
        return Band(
            name=name, outcomes=tuple(totals[said].tolist()), mean=tuple(arrays[1][said].tolist()),
            low=tuple(low[said].tolist()), high=tuple(high[said].tolist()),
        )  # fmt: skip

    def _columns(self) -> list[Column]:
        from mlnb.registry.tables import Cell, Column

        sure = _sure(self.alpha)
        versus = {one.challenger: one for one in self.contrasts}
        figures = {
            "version": [f"v{arm.version}" for arm in self.arms],
            "outcomes": [f"{arm.tally.count:,}" for arm in self.arms],
            self.metric: [self.show(arm.tally.mean) if arm.tally.count else "—" for arm in self.arms],
            f"interval, {sure}": [self._interval(arm.low, arm.high) for arm in self.arms],
            f"difference from {self.baseline.name}": [
                _signed(versus[arm.name], self) if arm.name in versus else "" for arm in self.arms
            ],
        }
        arms = tuple(Cell(arm.name, mark="●" if arm.name == self.verdict.winner else "") for arm in self.arms)
        return [
            Column("arm", arms),
            *(Column(title, tuple(map(Cell, texts)), kind="number") for title, texts in figures.items()),
        ]

    def _interval(self, low: float, high: float) -> str:
        return f"{self.show(low)} to {self.show(high)}" if np.isfinite([low, high]).all() else "—"


def evaluate(
    tallies: Mapping[str, Tally],
    *,
    versions: Mapping[str, int],
    baseline: str,
    metric: str,
    goal: Goal,
    proportion: bool,
    alpha: float = 0.05,
    history: Sequence[Mapping[str, Tally]] = (),
) -> Experiment:
    """Compare each challenger with the baseline.

    Parameters
    ----------
    tallies : mapping of str to Tally
        Of the scores, by name of the arm; at least two arms.
    versions : mapping of str to int
        Version number of each arm.
    baseline : str
        Name of the arm that the others are compared with.
    metric : str
        What a score is.
    goal : {'higher', 'lower'}
        Which score is better.
    proportion : bool
        Whether scores lie between 0 and 1, most of them at the ends, as accuracies do.
    alpha : float
        The chance that any verdict is ever wrong.
    history : sequence of mapping of str to Tally
        Earlier looks, oldest first, for the chart.

    Raises
    ------
    InvalidInputError
        If the baseline is no arm, or is the only one.
    """
    if baseline not in tallies:
        raise InvalidInputError(f"The experiment has no arm {baseline!r}; {nearest(baseline, tallies)}.")
    challengers = [name for name in tallies if name != baseline]
    if not challengers:
        raise InvalidInputError(f"An experiment compares two arms or more; there is only {baseline!r}.")
    arms = tuple(
        _arm(name, versions[name], tallies[name], alpha=alpha, proportion=proportion)
        for name in (baseline, *challengers)
    )
    contrasts = tuple(
        _contrast(arms[0], arm, goal=goal, alpha=alpha / len(challengers), proportion=proportion) for arm in arms[1:]
    )
    kind, decisive = _kind(contrasts)
    winner = {"better": decisive.challenger, "worse": baseline}.get(kind)
    undecided = Experiment(
        metric=metric, goal=goal, alpha=alpha, proportion=proportion, arms=arms, contrasts=contrasts,
        verdict=Verdict(kind=kind, winner=winner, words=""), history=tuple(history),
    )  # fmt: skip
    return _worded(undecided, decisive)


def _html(cell: Cell) -> str:
    mark = f'<span style="{_GOOD}">{cell.mark}</span> ' if cell.mark else ""
    return f'<td style="{_NUMBER}">{mark}{escape(cell.text)}</td>'


def _total(look: Mapping[str, Tally]) -> int:
    return sum(one.count for one in look.values())


def _arm(name: str, version: int, tally: Tally, *, alpha: float, proportion: bool) -> Arm:
    low, high = mean_interval(tally, alpha=alpha, proportion=proportion)
    return Arm(name=name, version=version, tally=tally, low=float(low), high=float(high))


def _contrast(base: Arm, arm: Arm, *, goal: Goal, alpha: float, proportion: bool) -> Contrast:
    one, other = base.tally, arm.tally
    low, high = map(float, difference_interval(one, other, alpha=alpha, proportion=proportion))
    difference = other.mean - one.mean
    kind: Kind = "undecided" if decidable(one, other, proportion=proportion) else "too early"
    if low > 0 or high < 0:
        kind = "better" if (low > 0) == (goal == "higher") else "worse"
    growth = growth_needed(one, other, alpha=alpha, proportion=proportion) if kind != "too early" else None
    return Contrast(
        challenger=arm.name, baseline=base.name, difference=difference, low=low, high=high, kind=kind,
        relative=difference / abs(one.mean) if one.mean else None,
        needed=None if growth is None else ceil((growth - 1) * (one.count + other.count)),
    )  # fmt: skip


def _kind(contrasts: Sequence[Contrast]) -> tuple[Kind, Contrast]:
    """Return what all say together, and the one that says it most clearly."""
    ranked = sorted(contrasts, key=lambda one: -abs(one.difference))
    order = ("better", "undecided", "too early", "worse")
    decisive = next(one for kind in order for one in ranked if one.kind == kind)
    return decisive.kind, decisive


# ---- words ----


def _worded(experiment: Experiment, decisive: Contrast) -> Experiment:
    sentences = [_SENTENCES[experiment.verdict.kind](experiment, decisive)]
    if len(experiment.contrasts) > 1:
        rest = [f"{one.challenger} {one.kind}" for one in experiment.contrasts if one is not decisive]
        sentences.append(f"Against {decisive.baseline} besides: {', '.join(rest)}.")
    return replace(experiment, verdict=replace(experiment.verdict, words=" ".join(sentences)))


def _decided(experiment: Experiment, one: Contrast) -> str:
    return (
        f"{one.challenger} is {experiment.verdict.kind} than {one.baseline}: {_effect(experiment, one)}, "
        f"after {experiment.outcomes:,} outcomes."
    )


def _undecided(experiment: Experiment, one: Contrast) -> str:
    more = (
        "The difference is too small to say how many more would decide."
        if one.needed is None
        else f"If the difference stays as it is, about {_rounded(one.needed):,} more would decide."
    )
    pair = f"{one.challenger} and {one.baseline}"
    return f"Undecided between {pair} after {experiment.outcomes:,} outcomes: {_effect(experiment, one)}. {more}"


def _too_early(experiment: Experiment, _: Contrast) -> str:
    counts = ", ".join(f"{arm.name} {arm.tally.count:,}" for arm in experiment.arms)
    events = f", and about {LEAST_EVENTS} successes and {LEAST_EVENTS} failures in each" * experiment.proportion
    return f"Too early to say: a verdict needs {LEAST} outcomes of each version{events}. So far: {counts}."


_SENTENCES: dict[Kind, Callable[[Experiment, Contrast], str]] = {
    "better": _decided,
    "worse": _decided,
    "undecided": _undecided,
    "too early": _too_early,
}


def _effect(experiment: Experiment, one: Contrast) -> str:
    means = {arm.name: experiment.show(arm.tally.mean) for arm in experiment.arms}
    sure = _sure(experiment.alpha)
    return (
        f"{experiment.metric} {means[one.challenger]} against {means[one.baseline]}, "
        f"a difference of {_signed(one, experiment, interval=f'{sure} interval ')}"
    )


def _sure(alpha: float) -> str:
    return f"{100 * (1 - alpha):g} %"


def _signed(one: Contrast, experiment: Experiment, *, interval: str = "") -> str:
    """Write a difference with its interval.

    A share's is in percentage points.
    """
    factor, unit = (100.0, " points") if experiment.proportion else (1.0, "")
    form = "+.2f" if experiment.proportion else "+.4g"
    if one.kind == "too early":
        return f"{factor * one.difference:{form}}{unit}"
    low, middle, high = (f"{factor * value:{form}}" for value in (one.low, one.difference, one.high))
    return f"{middle}{unit} ({interval}{low} to {high})"


def _rounded(count: int) -> int:
    """Keep two digits of a large number.

    Examples
    --------
    >>> _rounded(43), _rounded(1234)
    (43, 1300)
    """
    if count < _ROUNDED:
        return count
    unit = int(10 ** (len(str(count)) - 2))
    return ceil(count / unit) * unit
