"""When somebody is to be told: rules on what a deployment does, and whether they are broken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from itertools import pairwise
from math import isfinite, isnan
from typing import TYPE_CHECKING, Any, Literal

from mlnb.durations import duration_text, seconds_of
from mlnb.errors import InvalidInputError, nearest
from mlnb.monitoring.alert_words import (
    METRICS,
    SHARES,
    WRITTEN,
    Metric,
    check_metric,
    limit_text,
    read_rule,
    value_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["DEFAULT_RULES", "METRICS", "AlertChange", "AlertRule", "AlertState", "Alerts", "Reading"]

State = Literal["ok", "pending", "firing", "no data"]

_COUNTED = ("error rate", "refused", "p50", "p95", "p99")  # say nothing of few requests
_SAID = {
    "refused": "{} of the requests refused",
    "crashes": "replica crashes: {}", "dropped": "predictions that the log lost: {}", "silence": "no request for {}",
}  # fmt: skip
_ANEW = 500  # rows: half of those that drift is judged by
_LONGEST = 10.0  # seconds that one step counts at most: a clock that jumps, or a pause, is no evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule:
    """What is not to happen.

    Attributes
    ----------
    metric : str
        "error rate": share of the requests of the last minute that failed by no fault of their own, from 0 to 1.
        "refused": share of them whose rows were not accepted, from 0 to 1.
        "p50", "p95", "p99": latency over the last minute, in milliseconds.
        "rate": requests per second.
        "drift": share of the columns that drifted, from 0 to 1; 1 if the predictions did.
        "quality": the first measure over all labels, such as accuracy.
        "silence": seconds without a request.
        "crashes": replicas that ended by themselves in the last 5 minutes.
        "dropped": rows that the prediction log lost in the last 5 minutes.
    above, below : float or None
        The limit; one of the two.
    lasting : float
        Seconds that it must last before anybody is told; given as seconds, or as text like "1m".
    rows : int
        Rows that must have come meanwhile, too. Drift is judged by the newest 1,000, so what chance did goes on until
        other rows have come.
    clear : float
        Where it is over again. A tenth inside the limit unless it is given.
    minimum : int
        Requests in the last minute before an error rate or a latency counts.
    name : str
        The rule as text unless it is given.

    Raises
    ------
    InvalidInputError
        If a value is none that is accepted.

    Examples
    --------
    >>> AlertRule(metric="p99", above=50, lasting="1m")
    AlertRule(metric='p99', above=50, below=None, lasting=60.0, rows=0, clear=45.0, minimum=20, \
name='p99 > 50 ms for 1m')
    >>> AlertRule(metric="p99")
    Traceback (most recent call last):
    mlnb.errors.InvalidInputError: An alert on 'p99' needs one limit: above=, or below=.
    """

    metric: Metric
    above: float | None = None
    below: float | None = None
    lasting: float | str = 0.0
    rows: int = 0
    clear: float | None = None
    minimum: int = 20
    name: str = ""

    def __post_init__(self) -> None:
        check_metric(self.metric)
        _check_limits(self)
        if not _is_whole(self.rows, least=0):
            raise _refusal(self, "rows", self.rows, "a whole number of rows, 0 or more")
        if not _is_whole(self.minimum, least=1):
            raise _refusal(self, "minimum", self.minimum, "a whole number of requests, 1 or more")
        if not isinstance(self.name, str):
            raise _refusal(self, "name", self.name, "text")
        changes = {
            "lasting": seconds_of(self.lasting, what="lasting"),
            "clear": _clear(self) if self.clear is None else self.clear,
        }
        for field, value in changes.items():
            object.__setattr__(self, field, value)
        object.__setattr__(self, "name", self.name or f"{self.metric} {self.limit}{_lasting(self)}")

    @classmethod
    def of(cls, given: AlertRule | Mapping[str, Any] | str) -> AlertRule:
        """Return a rule from its values by name, or from text.

        Parameters
        ----------
        given : AlertRule, mapping or str
            Text is a metric, ">" or "<", a limit with its unit, and "for" with a duration if it is to last.

        Raises
        ------
        InvalidInputError
            If it is none.

        Examples
        --------
        >>> AlertRule.of("error rate > 5% for 1m").above, AlertRule.of("silence > 10m").above
        (0.05, 600.0)
        >>> AlertRule.of({"metric": "quality", "below": 0.9}).name
        'quality < 0.9'
        """
        if isinstance(given, cls):
            return given
        if isinstance(given, str):
            return cls(**read_rule(given))
        if not isinstance(given, Mapping):
            raise InvalidInputError(f"{given!r:.80} is no rule; {WRITTEN}, or give an AlertRule.")
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                raise InvalidInputError(f"A rule has no {name!r:.40}; {nearest(str(name), known)}.")
        if "metric" not in given:
            raise InvalidInputError(f"A rule needs a metric; {nearest('', METRICS)}.")
        return cls(**given)

    @property
    def seconds(self) -> float:
        """How long it must last."""
        return seconds_of(self.lasting, what="lasting")

    @property
    def limit(self) -> str:
        """What is not to be, as text: "> 50 ms"."""
        sign, value = (">", self.above) if self.above is not None else ("<", self.below)
        return f"{sign} {limit_text(self.metric, value or 0.0)}"

    def breaks(self, value: float) -> bool:
        """Say whether a value is beyond the limit."""
        return value > self.above if self.above is not None else value < (self.below or 0.0)

    def clears(self, value: float) -> bool:
        """Say whether a value is so far inside the limit that an alert is over."""
        clear = self.clear or 0.0
        return value <= clear if self.above is not None else value >= clear


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a deployment does, for the rules. None: nobody knows, so nothing begins and nothing is over.

    Attributes
    ----------
    at : float
        Seconds since the epoch; only shown.
    version : int
        The live one.
    total : int
        Requests since it was deployed; silence is how long it stays the same.
    rows : int
        Since it was deployed.
    requests : int
        In the last minute.
    error_rate, refused, p50, p95, p99, rate, drift, quality, crashes, dropped : float or None
        See :class:`AlertRule`.
    """

    at: float
    version: int
    total: int = 0
    rows: int = 0
    requests: int = 0
    error_rate: float | None = None
    refused: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    rate: float | None = None
    drift: float | None = None
    quality: float | None = None
    crashes: float | None = None
    dropped: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertState:
    """One rule, as it stands.

    Attributes
    ----------
    rule : AlertRule
    state : {'ok', 'pending', 'firing', 'no data'}
        "pending": broken, but not for long enough. "no data": not broken as far as anybody knows.
    value : float or None
        The last one there was.
    since : float
        When it came into this state, seconds since the epoch; 0 before the first reading.
    words : str
        One line.
    """

    rule: AlertRule
    state: State
    value: float | None
    since: float
    words: str

    def __str__(self) -> str:
        return f"{self.state}: {self.words}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertChange:
    """An alert that began or is over.

    Attributes
    ----------
    number : int
        From 1, of all changes of the deployment.
    at : float
        Seconds since the epoch.
    name : str
        Of the model.
    version : int
        That was live.
    rule : AlertRule
    state : {'firing', 'resolved'}
    value : float or None
    words : str
        One line.
    """

    number: int
    at: float
    name: str
    version: int
    rule: AlertRule
    state: Literal["firing", "resolved"]
    value: float | None
    words: str

    def __str__(self) -> str:
        return f"{self.name} v{self.version}: {self.words}"

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values; ``text`` is the line that chat programs show."""
        rule = self.rule
        return {
            "text": str(self), "model": self.name, "version": self.version,
            "alert": rule.name, "state": self.state, "number": self.number,
            "time": datetime.fromtimestamp(self.at, UTC).isoformat(timespec="milliseconds"),
            "metric": rule.metric, "value": self.value, "above": rule.above, "below": rule.below,
            "lasting": rule.lasting,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Progress:
    """How far a rule is: for how many seconds and rows it has been broken, and whether there is a value now."""

    state: State = "no data"
    known: bool = False
    value: float | None = None
    since: float = 0.0
    held: float = 0.0
    came: int = 0


class Alerts:
    """Holds the rules of one deployment against what it does; has no clock of its own.

    Time is the sum of the differences between the ``now`` of two steps, each from 0 to 10 seconds: a clock that jumps
    in either direction neither fires an alert nor loses one. Step every second, at least every 10.

    Parameters
    ----------
    rules : iterable of AlertRule
    name : str
        Of the deployment.

    Raises
    ------
    InvalidInputError
        If two different rules have one name.

    Examples
    --------
    >>> alerts = Alerts([AlertRule(metric="p99", above=50, lasting=5)], name="iris")
    >>> slow = Reading(at=1e9, version=2, requests=100, p99=80.0)
    >>> alerts.step(slow, now=0.0), [change.words for change in alerts.step(slow, now=5.0)]
    ([], ['p99 is 80 ms, above 50 ms for 5s'])
    >>> [change.state for change in alerts.step(Reading(at=1e9, version=2, requests=100, p99=20.0), now=6.0)]
    ['resolved']
    """

    def __init__(self, rules: Iterable[AlertRule], *, name: str) -> None:
        self._rules = tuple(dict.fromkeys(rules))
        self._name = name
        self._progress = {rule.name: _Progress() for rule in self._rules}
        if len(self._progress) < len(self._rules):
            names = sorted(rule.name for rule in self._rules)
            same = next(one for one, other in pairwise(names) if one == other)
            raise InvalidInputError(f"Two rules are called {same!r}; give each a name of its own.")
        self._changes = 0
        self._last: float | None = None  # the clock at the last step
        self._total: int | None = None
        self._rows = 0
        self._silent = 0.0

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_last": None}  # another process may have another clock

    @property
    def rules(self) -> tuple[AlertRule, ...]:
        """In the order given."""
        return self._rules

    def step(self, reading: Reading, *, now: float) -> list[AlertChange]:
        """Hold the rules against a reading.

        Parameters
        ----------
        reading : Reading
        now : float
            Seconds of any clock that runs on, such as ``time.monotonic``.

        Returns
        -------
        list of AlertChange
            What began and what is over.
        """
        elapsed = 0.0 if self._last is None else min(max(now - self._last, 0.0), _LONGEST)
        self._last = now
        self._silent = self._silent + elapsed if reading.total == self._total else 0.0
        came = max(0, reading.rows - self._rows)
        self._total, self._rows = reading.total, reading.rows
        changes = (self._judge(rule, reading, elapsed, came) for rule in self._rules)
        return [change for change in changes if change is not None]

    def states(self) -> tuple[AlertState, ...]:
        """Return how each rule stands, in the order given."""
        return tuple(
            AlertState(rule=rule, state=one.state, value=one.value, since=one.since, words=_words(rule, one))
            for rule in self._rules
            for one in [self._progress[rule.name]]
        )

    def resume(self, earlier: Alerts) -> None:
        """Go on from what was known elsewhere or before, of the rules that are the same."""
        known = {rule.name: rule for rule in earlier._rules}
        for rule in self._rules:
            if known.get(rule.name) == rule:
                self._progress[rule.name] = earlier._progress[rule.name]
        self._changes = max(self._changes, earlier._changes)
        self._total, self._rows, self._silent = earlier._total, earlier._rows, earlier._silent

    def _judge(self, rule: AlertRule, reading: Reading, elapsed: float, came: int) -> AlertChange | None:
        before, value = self._progress[rule.name], self._value(rule, reading)
        if value is None:
            after = replace(before, known=False, state="no data" if before.state == "ok" else before.state)
        else:
            after = _next(rule, replace(before, known=True, value=value), elapsed, came)
        if after.state != before.state:
            after = replace(after, since=reading.at)
        self._progress[rule.name] = after
        if (before.state == "firing") == (after.state == "firing"):
            return None
        return self._change(rule, after, reading)

    def _change(self, rule: AlertRule, after: _Progress, reading: Reading) -> AlertChange:
        self._changes += 1
        fires = after.state == "firing"
        return AlertChange(
            number=self._changes, at=reading.at, name=self._name, version=reading.version, rule=rule,
            state="firing" if fires else "resolved", value=after.value,
            words=_words(rule, after) if fires else _over(rule, after.value or 0.0),
        )  # fmt: skip

    def _value(self, rule: AlertRule, reading: Reading) -> float | None:
        if rule.metric == "silence":
            return self._silent
        if rule.metric in _COUNTED and reading.requests < rule.minimum:
            return None
        value: float | None = getattr(reading, rule.metric.replace(" ", "_"))
        return None if value is None or isnan(value) else float(value)


def _next(rule: AlertRule, before: _Progress, elapsed: float, came: int) -> _Progress:
    """Return how far a rule is with its new value; what began in this step has lasted for nothing yet."""
    value = before.value or 0.0
    if before.state == "firing":
        return replace(before, state="ok" if rule.clears(value) else "firing", held=0.0, came=0)
    if not rule.breaks(value):
        return replace(before, state="ok", held=0.0, came=0)
    held, rows = (before.held + elapsed, before.came + came) if before.state == "pending" else (0.0, 0)
    lasted = held >= rule.seconds and rows >= rule.rows
    return replace(before, state="firing" if lasted else "pending", held=held, came=rows)


def _words(rule: AlertRule, progress: _Progress) -> str:
    if progress.value is None:
        return f"{rule.metric}: no data yet"
    said, limit = _said(rule, progress.value), _side(rule.limit)
    if progress.state == "firing":
        said += f", {limit}{_lasting(rule)}"
    elif progress.state == "pending":
        said += f", {limit}, not yet{_lasting(rule)}"
    return said if progress.known else f"{said}, no data now"


def _over(rule: AlertRule, value: float) -> str:
    """Say that an alert is over, and where that is."""
    if rule.metric == "silence":
        return "requests come again"
    clear = rule.clear or 0.0
    said, limit = f"{_said(rule, value)} again", limit_text(rule.metric, clear)
    return said if value == clear else f"{said}, {'below' if rule.above is not None else 'above'} {limit}"


def _said(rule: AlertRule, value: float) -> str:
    return _SAID.get(rule.metric, f"{rule.metric} is {{}}").format(value_text(rule.metric, value))


def _side(limit: str) -> str:
    return limit.replace(">", "above").replace("<", "below")


def _check_limits(rule: AlertRule) -> None:
    given = [name for name in ("above", "below") if getattr(rule, name) is not None]
    if len(given) != 1:
        raise InvalidInputError(f"An alert on {rule.metric!r} needs one limit: above=, or below=.")
    for name in (*given, *(() if rule.clear is None else ("clear",))):
        value = getattr(rule, name)
        most = 1.0 if rule.metric in SHARES else float("inf")
        least = -float("inf") if rule.metric == "quality" else 0.0
        if not (_is_number(value) and least <= value <= most):
            what = "a share from 0 to 1, such as 0.05 for 5 %" if most == 1.0 else "a number"
            raise _refusal(rule, name, value, what if most == 1.0 or least else f"{what} of 0 or more")
    if rule.clear is not None and rule.breaks(rule.clear):
        raise _refusal(rule, "clear", rule.clear, "a value inside the limit")


def _clear(rule: AlertRule) -> float:
    """Return the threshold a tenth inside the limit; of a score below 1 that is a tenth of the way to 1."""
    if rule.above is not None:
        return rule.above - abs(rule.above) / 10
    limit = rule.below or 0.0
    room = 1.0 - limit if rule.metric in ("quality", *SHARES) and 0 < limit <= 1 else abs(limit)
    return limit + min(room, abs(limit)) / 10


def _lasting(rule: AlertRule) -> str:
    parts = [duration_text(rule.seconds)] * bool(rule.seconds or rule.rows) + [f"{rule.rows} rows"] * bool(rule.rows)
    return f" for {' and '.join(parts)}" if parts else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)


def _is_whole(value: Any, *, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _refusal(rule: AlertRule, name: str, value: Any, accepted: str) -> InvalidInputError:
    return InvalidInputError(f"An alert's {name} on {rule.metric!r} cannot be {value!r:.40}; give {accepted}.")


DEFAULT_RULES = (
    AlertRule(metric="error rate", above=0.05, lasting="1m"),
    AlertRule(metric="crashes", above=0, name="a replica crashed"),
    AlertRule(metric="drift", above=0, lasting="5m", rows=_ANEW, name="a column drifted"),
)
