"""What one deployment did, as values: at one moment, over windows, and second by second."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlnb.errors import InvalidInputError, nearest
from mlnb.monitoring.numerals import milliseconds

__all__ = [
    "KINDS", "WINDOWS", "Answers", "Mark", "MetricsSnapshot", "Part", "Series", "Spread", "WindowMetrics", "kind_of",
    "words_of",
]  # fmt: skip

KINDS = ("invalid request", "overloaded", "timed out", "model failed")
WINDOWS = {"1 minute": 60, "5 minutes": 300, "1 hour": 3600, "all time": None}  # seconds

_WORDS = {
    "rolled back": "rolled back to v{version}", "split": "requests split", "shadowed": "v{version} as a shadow",
    "unshadowed": "shadow v{version} ended", "canary": "v{version} as a canary",
}  # fmt: skip
_OF_STATUS = {429: "overloaded", 503: "overloaded", 504: "timed out"}
_SERVER, _CLIENT = 500, 400


def words_of(action: str, version: int) -> str:
    """Return in words what was done, for a mark.

    Examples
    --------
    >>> words_of("deployed", 3), words_of("rolled back", 2), words_of("shadowed", 4)
    ('v3 deployed', 'rolled back to v2', 'v4 as a shadow')
    """
    return _WORDS.get(action, "v{version} {action}").format(version=version, action=action)


def kind_of(status: int) -> str:
    """Return what kind of error an HTTP status is, "" for a good answer.

    Examples
    --------
    >>> [kind_of(status) for status in (200, 422, 503, 504, 500)]
    ['', 'invalid request', 'overloaded', 'timed out', 'model failed']
    """
    if status < _CLIENT:
        return ""
    return _OF_STATUS.get(status, "model failed" if status >= _SERVER else "invalid request")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A distribution in a few numbers; None where there are no values.

    Attributes
    ----------
    count : int
    p50, p95, p99 : float or None
        Within 1 % (DDSketch).
    largest, mean : float or None
        Exactly.
    """

    count: int = 0
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    largest: float | None = None
    mean: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one replica of one version did.

    Attributes
    ----------
    version : int
    replica : int
        Its number; 0: of requests that no replica answered, -1: of all further ones.
    requests, errors, rows : int
    statuses : dict of int to int
        Requests by HTTP status.
    latency : Spread
        Milliseconds.
    """

    version: int
    replica: int
    requests: int
    errors: int
    rows: int
    statuses: dict[int, int]
    latency: Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What one version answered.

    Attributes
    ----------
    version : int
    count : int
        Rows.
    missing : int
        Rows with NaN, infinity or nothing as the answer.
    classes : dict of str to int
        Rows by class, most frequent first: the first 50 classes, and "others".
    numbers : tuple of float, or None
        The 0, 5, 25, 50, 75, 95 and 100 % quantiles of answers that are numbers.
    named : bool
        Whether the classes are numbers, or known to be all that the model answers with; else they may be free text.
    """

    version: int
    count: int = 0
    missing: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    numbers: tuple[float, ...] | None = None
    named: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class WindowMetrics:
    """What happened in one window of time.

    Attributes
    ----------
    name : {'1 minute', '5 minutes', '1 hour', 'all time'}
    seconds : int or None
        None: since it was deployed. 5 minutes and 1 hour are whole minutes, and the running one.
    requests, errors, rows : int
    rate : float
        Requests per second.
    statuses : dict of int to int
        Requests by HTTP status.
    latency : Spread
        Milliseconds, of good answers.
    waited : Spread
        Milliseconds in the queue.
    batch : Spread
        Rows of the batch that a request was answered in.
    parts : tuple of Part
        By version and replica.
    answers : tuple of Answers
        By version.
    """

    name: str
    seconds: int | None
    requests: int = 0
    errors: int = 0
    rows: int = 0
    rate: float = 0.0
    statuses: dict[int, int] = field(default_factory=dict)
    latency: Spread = field(default_factory=Spread)
    waited: Spread = field(default_factory=Spread)
    batch: Spread = field(default_factory=Spread)
    parts: tuple[Part, ...] = ()
    answers: tuple[Answers, ...] = ()

    def __repr__(self) -> str:
        quantiles = (self.latency.p50, self.latency.p95, self.latency.p99)
        return f"<{self.name}: {_in_words(self.requests, self.errors, quantiles)}>"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class MetricsSnapshot:
    """What one deployment did.

    Attributes
    ----------
    requests, errors, rows : int
        Since it was deployed.
    window : int
        Seconds that the other numbers speak of.
    rate : float
        Requests per second over the last ten full seconds.
    window_requests, window_errors : int
    p50, p95, p99 : float or None
        Latency in milliseconds, within 1 % (DDSketch, Masson et al. 2019); None without a good answer.
    last_error : str or None
        Of the last request that failed, for the person who runs the model.
    last_error_at : float or None
        Seconds since the epoch.
    recent : tuple of int
        Requests in each of the last 60 seconds, oldest first.
    windows : tuple of WindowMetrics
        All of it over 1 minute, 5 minutes, 1 hour and all time, where it was asked for.
    in_flight : int
        Requests that wait or are being answered, where somebody looked.
    """

    requests: int
    errors: int
    rows: int
    window: int
    rate: float
    window_requests: int
    window_errors: int
    p50: float | None
    p99: float | None
    last_error: str | None
    last_error_at: float | None
    recent: tuple[int, ...]
    p95: float | None = None
    windows: tuple[WindowMetrics, ...] = ()
    in_flight: int = 0

    @property
    def words(self) -> str:
        """What happened since it was deployed and in the last minute, in one line."""
        minute = _in_words(self.window_requests, self.window_errors, (self.p50, self.p95, self.p99))
        return f"{_counted(self.requests, 'request')}, {_counted(self.errors, 'error')}; in the last minute {minute}"

    def over(self, name: str) -> WindowMetrics:
        """Return what happened in one window.

        Parameters
        ----------
        name : {'1 minute', '5 minutes', '1 hour', 'all time'}

        Raises
        ------
        InvalidInputError
            If there is no such window.
        """
        known = {window.name: window for window in self.windows}
        if name not in known:
            raise InvalidInputError(f"There is no window {name!r:.40}; {nearest(str(name), known)}.")
        return known[name]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.words}>"

    def _repr_html_(self) -> str:
        from mlnb.monitoring.metrics_html import metrics_html

        return metrics_html(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What happened lately, step by step, oldest first, all of one length.

    Attributes
    ----------
    step : int
        Seconds.
    ago : tuple of int
        Seconds before the end, which is 0.
    end : float
        When that is, seconds since the epoch.
    requests, errors : tuple of int
        In each step.
    kinds : dict of str to tuple of int
        Errors by kind; see :func:`kind_of`.
    p50, p95, p99 : tuple of float or None
        Latency in milliseconds; None in a step without a good answer.
    classes : dict of str to tuple of int
        Answered rows by class.
    numbers : dict of str to tuple of float or None
        ``p5``, ``p50`` and ``p95`` of answers that are numbers.
    replicas, in_flight : tuple of int or None
        Replicas that are ready, requests that wait or are being answered; None where nobody looked.
    drift : tuple of float or None
        Share of the columns that drifted, from 0 to 1.
    """

    step: int
    ago: tuple[int, ...]
    end: float
    requests: tuple[int, ...]
    errors: tuple[int, ...]
    kinds: dict[str, tuple[int, ...]]
    p50: tuple[float | None, ...]
    p95: tuple[float | None, ...]
    p99: tuple[float | None, ...]
    classes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    numbers: dict[str, tuple[float | None, ...]] = field(default_factory=dict)
    replicas: tuple[int | None, ...] = ()
    in_flight: tuple[int | None, ...] = ()
    drift: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Something that was done to a deployment, for the time axis.

    Attributes
    ----------
    at : float
        Seconds since the epoch.
    kind : str
        An action of the registry's history, such as "deployed" or "rolled back"; or "scaled", "alert", "all clear".
    version : int
    words : str
        Such as "v3 deployed".
    """

    at: float
    kind: str
    version: int
    words: str


def _in_words(requests: int, errors: int, quantiles: tuple[float | None, ...]) -> str:
    named = zip(("p50", "p95", "p99"), quantiles, strict=True)
    known = [f"{name} {milliseconds(value)}" for name, value in named if value is not None]
    return ", ".join([_counted(requests, "request"), _counted(errors, "error"), *known])


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
