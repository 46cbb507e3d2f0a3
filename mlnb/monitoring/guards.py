"""Whether a canary may go on: limits on what it does, and what is evident about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mlnb.errors import InvalidInputError, nearest
from mlnb.monitoring.sequences import decidable, difference_interval, exceeds, sample_band
from mlnb.monitoring.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlnb.monitoring.experiment import Goal

__all__ = ["Drift", "Evidence", "Guard", "GuardReading", "judge"]

State = Literal["holds", "waiting", "doubtful", "violated"]

_SLOW = {"p95": 0.05, "p99": 0.01}  # the share of requests that may take longer than the quantile's limit
_SHARE = "a share from 0 to 1, such as 0.05 for 5 %"
_MILLISECONDS = "a number of milliseconds above 0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What a canary may do at most; None is not guarded.

    Attributes
    ----------
    errors : float or None
        Share of its requests that fail.
    p95, p99 : float or None
        Latency in milliseconds.
    disagreement : float or None
        Share of the rows that it answers otherwise than the live version.
    drift : float or None
        Kolmogorov-Smirnov distance between its answers and the live version's.
    quality : float or None
        By how much its mean score may be worse than the live version's.
    alpha : float
        The chance to be taken back although it keeps to all limits, however often one looks; all guards share it.
    minimum : int
        Requests, comparisons or labels, before which no guard holds.

    Raises
    ------
    InvalidInputError
        If a value is none that is accepted.

    Examples
    --------
    >>> Guard(errors=0.02, p99=50).p99
    50
    >>> Guard(p99=0)
    Traceback (most recent call last):
    mlnb.errors.InvalidInputError: A guard's p99 cannot be 0; give a number of milliseconds above 0, or None.
    """

    errors: float | None = 0.05
    p95: float | None = None
    p99: float | None = None
    disagreement: float | None = None
    drift: float | None = None
    quality: float | None = None
    alpha: float = 0.01
    minimum: int = 20

    def __post_init__(self) -> None:
        for names, most, accepted in (
            (("errors", "disagreement", "drift"), 1.0, _SHARE),
            (("p95", "p99"), float("inf"), _MILLISECONDS),
            (("quality",), float("inf"), "a difference of scores of 0 or more"),
        ):
            for name in names:
                value = getattr(self, name)
                least = 0.0 if names != ("p95", "p99") else np.nextafter(0.0, 1.0)
                if value is not None and not (_is_number(value) and least <= value <= most):
                    raise _refusal(name, value, f"{accepted}, or None")
        if not (_is_number(self.alpha) and 0 < self.alpha < 1):
            raise _refusal("alpha", self.alpha, "a chance between 0 and 1, such as 0.01")
        if isinstance(self.minimum, bool) or not isinstance(self.minimum, int) or self.minimum < 1:
            raise _refusal("minimum", self.minimum, "a whole number of requests, 1 or more")

    @classmethod
    def of(cls, given: Guard | Mapping[str, Any] | None) -> Guard:
        """Return a guard from its values by name.

        Parameters
        ----------
        given : Guard, mapping or None
            None is the guard without arguments.

        Raises
        ------
        InvalidInputError
            If a name or a value is none that is accepted.
        """
        if isinstance(given, cls):
            return given
        if given is not None and not isinstance(given, Mapping):
            raise InvalidInputError(f'{given!r} is no guard; give a Guard, or its values: {{"errors": 0.05}}.')
        known = [one.name for one in fields(cls)]
        for name in given or {}:
            if name not in known:
                raise InvalidInputError(f"A guard has no {name!r}; {nearest(str(name), known)}.")
        return cls(**(given or {}))


@dataclass(frozen=True, slots=True)
class Drift:
    """How far apart the answers of a canary and the live version are, as distributions.

    Attributes
    ----------
    distance : float
        Kolmogorov-Smirnov: the largest distance between the two distribution functions.
    canary, live : int
        How many answers of each.
    """

    distance: float
    canary: int
    live: int

    @classmethod
    def between(cls, canary: Any, live: Any) -> Drift:
        """Return the drift of two samples.

        Parameters
        ----------
        canary, live : array_like of shape (n,) and (m,)
            Numbers, or texts, which are taken in their alphabetical order.

        Examples
        --------
        >>> Drift.between([1, 2, 3, 4], [3, 4, 5, 6])
        Drift(distance=0.5, canary=4, live=4)
        """
        one, two = np.sort(np.ravel(canary)), np.sort(np.ravel(live))
        if not len(one) or not len(two):
            return cls(0.0, len(one), len(two))
        everywhere = np.concatenate([one, two])
        shares = [np.searchsorted(sample, everywhere, side="right") / len(sample) for sample in (one, two)]
        return cls(float(np.abs(shares[0] - shares[1]).max()), len(one), len(two))


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a canary did so far.

    Attributes
    ----------
    requests, errors : int
    slow : mapping of str to int
        Requests that took longer than the guard's limit, by name of the quantile: "p95", "p99".
    compared, disagreeing : int
        Rows.
    drift : Drift or None
    quality, live_quality : Tally
        Scores of the canary, and of the live version.
    goal : {'higher', 'lower'}
        Which score is better.
    proportion : bool
        Whether scores are shares, most of them 0 or 1.
    """

    requests: int = 0
    errors: int = 0
    slow: Mapping[str, int] = field(default_factory=dict)
    compared: int = 0
    disagreeing: int = 0
    drift: Drift | None = None
    quality: Tally = field(default_factory=Tally)
    live_quality: Tally = field(default_factory=Tally)
    goal: Goal = "higher"
    proportion: bool = True


@dataclass(frozen=True, slots=True)
class GuardReading:
    """One guard, as it stands.

    Attributes
    ----------
    name : str
        As in :class:`Guard`.
    limit, value : float
        In the same unit; of a latency both are shares of the requests. The value is NaN before there is any.
    state : {'holds', 'waiting', 'doubtful', 'violated'}
        "waiting": too little to say that it holds. "doubtful": over the limit, but that may be chance. "violated": that
        is evident.
    words : str
        One line.
    """

    name: str
    limit: float
    value: float
    state: State
    words: str


def judge(guard: Guard, evidence: Evidence) -> tuple[GuardReading, ...]:
    """Read every guard that is set.

    A violation is evident at any look: exact for shares (an e-process), by Howard and Ramdas's uniform band for drift,
    and by the confidence sequence of the difference for quality.
    """
    names = [name for name in _READERS if getattr(guard, name) is not None]
    return tuple(_READERS[name](name, guard, evidence, guard.alpha / len(names)) for name in names)


def _errors(name: str, guard: Guard, seen: Evidence, alpha: float) -> GuardReading:
    words = "errors {share} of {total} requests, at most {limit} allowed"
    return _share(name, guard, words, (seen.errors, seen.requests), limit=getattr(guard, name), alpha=alpha)


def _disagreement(name: str, guard: Guard, seen: Evidence, alpha: float) -> GuardReading:
    words = "other answers to {share} of {total} rows, at most {limit} allowed"
    return _share(name, guard, words, (seen.disagreeing, seen.compared), limit=getattr(guard, name), alpha=alpha)


def _latency(name: str, guard: Guard, seen: Evidence, alpha: float) -> GuardReading:
    words = f"{name}: {{share}} of {{total}} requests took over {getattr(guard, name):g} ms, at most {{limit}} may"
    return _share(name, guard, words, (seen.slow.get(name, 0), seen.requests), limit=_SLOW[name], alpha=alpha)


def _share(name: str, guard: Guard, words: str, counts: tuple[int, int], *, limit: float, alpha: float) -> GuardReading:
    count, total = counts
    value = count / total if total else float("nan")
    evident = bool(exceeds(count, total, limit=limit, alpha=alpha))
    said = words.format(share=_percent(value), total=f"{total:,}", limit=_percent(limit))
    return _reading(name, guard, limit, value, total=total, evident=evident, words=said)


def _drift(name: str, guard: Guard, seen: Evidence, alpha: float) -> GuardReading:
    limit, drift = getattr(guard, name), seen.drift or Drift(float("nan"), 0, 0)
    radius = sum(float(sample_band(count, alpha=alpha / 2)) for count in (drift.canary, drift.live))
    fewer = min(drift.canary, drift.live)
    counts = f"{drift.canary:,} answers against {drift.live:,}"
    words = f"answers drifted by {_figure(drift.distance)}, {counts}, at most {limit:g} allowed"
    return _reading(
        name, guard, limit, drift.distance, total=fewer, evident=drift.distance - radius > limit, words=words
    )


def _quality(name: str, guard: Guard, seen: Evidence, alpha: float) -> GuardReading:
    limit, pair = getattr(guard, name), (seen.live_quality, seen.quality)
    low, high = map(float, difference_interval(*pair, alpha=alpha, proportion=seen.proportion))
    difference = seen.quality.mean - seen.live_quality.mean
    worse, surely = (-difference, -high) if seen.goal == "higher" else (difference, low)
    fewer = min(one.count for one in pair)
    value = worse if fewer else float("nan")
    enough = bool(decidable(*pair, proportion=seen.proportion))
    counts = f"{seen.quality.count:,} labels against {seen.live_quality.count:,}"
    words = f"scores worse by {_figure(value)}, {counts}, at most {limit:g} allowed"
    return _reading(
        name, guard, limit, value, total=fewer if enough else 0, evident=enough and surely > limit, words=words
    )


def _reading(
    name: str, guard: Guard, limit: float, value: float, *, total: int, evident: bool, words: str
) -> GuardReading:
    state: State = "doubtful" if value > limit else "holds"
    if evident:
        state = "violated"
    elif total < guard.minimum:
        state = "waiting"
    return GuardReading(name, limit, value, state, words)


_READERS: dict[str, Callable[[str, Guard, Evidence, float], GuardReading]] = {
    "errors": _errors,
    "p95": _latency,
    "p99": _latency,
    "disagreement": _disagreement,
    "drift": _drift,
    "quality": _quality,
}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)


def _refusal(name: str, value: Any, accepted: str) -> InvalidInputError:
    return InvalidInputError(f"A guard's {name} cannot be {value!r}; give {accepted}.")


def _percent(share: float) -> str:
    """Write a share.

    Examples
    --------
    >>> _percent(0.05), _percent(2 / 11), _percent(float("nan"))
    ('5 %', '18.2 %', '—')
    """
    return f"{round(100 * share, 1):g} %" if isfinite(share) else "—"


def _figure(value: float) -> str:
    return f"{value:.3g}" if isfinite(value) else "—"
