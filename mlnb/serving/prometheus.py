"""What a server tells Prometheus of its deployments, worked out when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any

from mlnb.monitoring.sketch import RELATIVE_ACCURACY, Sketch

if TYPE_CHECKING:
    from prometheus_client import Metric

__all__ = ["Exposed", "exposition"]

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS = tuple(2.0**power for power in range(13))  # to 4096
_COLUMNS = 200  # of which the drift is told, the largest first

Rows = Iterable[tuple[Any, float | None]]  # values of the labels, and the number


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposed:
    """What is told of one deployment. Counts are since it was deployed, and never fall.

    Attributes
    ----------
    model : str
        Name of the deployment.
    version : int
        The live one.
    model_type : str
        Of the live version, such as "RandomForestClassifier".
    requests : mapping of (version, replica, status) to int
    rows : mapping of version to int
    latency : mapping of version to Sketch
        Seconds from the whole request to the answer, of good answers.
    waited : mapping of version to Sketch
        Seconds in the queue.
    batch : mapping of version to Sketch
        Rows of the batch that a request was answered in.
    predictions : mapping of (version, class) to int
        Rows by answer; of each version 50 classes and "others" at most.
    missing : mapping of version to int
        Answers that were NaN or nothing.
    labels : mapping of version to int
        Requests whose true answer was told.
    refused : mapping of reason to int
        Labels that were not taken.
    quality : mapping of (version, measure, window) to float or None
    drift : mapping of column to float
        Effect size, of the live version.
    drifted : int or None
        Columns that drifted; None before a verdict.
    alerts : mapping of rule name to bool
        Whether it fires.
    in_flight : int or None
        Requests that wait or are being answered.
    replicas : mapping of state to int
    desired : int or None
        Replicas that there are to be.
    log_written, log_dropped : int or None
        Predictions; None where they are not logged.
    """

    model: str
    version: int
    model_type: str = ""
    requests: Mapping[tuple[int, int, int], int] = field(default_factory=dict)
    rows: Mapping[int, int] = field(default_factory=dict)
    latency: Mapping[int, Sketch] = field(default_factory=dict)
    waited: Mapping[int, Sketch] = field(default_factory=dict)
    batch: Mapping[int, Sketch] = field(default_factory=dict)
    predictions: Mapping[tuple[int, str], int] = field(default_factory=dict)
    missing: Mapping[int, int] = field(default_factory=dict)
    labels: Mapping[int, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    quality: Mapping[tuple[int, str, str], float | None] = field(default_factory=dict)
    drift: Mapping[str, float] = field(default_factory=dict)
    drifted: int | None = None
    alerts: Mapping[str, bool] = field(default_factory=dict)
    in_flight: int | None = None
    replicas: Mapping[str, int] = field(default_factory=dict)
    desired: int | None = None
    log_written: int | None = None
    log_dropped: int | None = None


def exposition(exposed: Iterable[Exposed], *, accept: str = "") -> tuple[bytes, str]:
    """Return the text for a scrape, and its content type.

    Parameters
    ----------
    exposed : iterable of Exposed
        One of each model.
    accept : str
        The header ``Accept``: OpenMetrics where it asks for that, else Prometheus's own format.

    Examples
    --------
    >>> text, _ = exposition([Exposed(model="iris", version=3, requests={(3, 0, 200): 7})])
    >>> [line for line in text.decode().splitlines() if line.startswith("mlnb_requests")]
    ['mlnb_requests_total{model="iris",replica="0",status="200",version="3"} 7.0']
    """
    from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
    from prometheus_client.exposition import choose_encoder

    registry = CollectorRegistry()  # of this scrape alone, so nothing is ever registered twice
    registry.register(_Collector(tuple(exposed)))
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Collector:
    """What a registry of prometheus_client asks for metrics."""

    def __init__(self, exposed: tuple[Exposed, ...]) -> None:
        self._exposed = exposed

    def collect(self) -> Iterator[Metric]:
        yield from _numbers(self._exposed)
        yield from _histograms(self._exposed)


def _numbers(exposed: tuple[Exposed, ...]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    for name, words, labels, read in _FAMILIES:
        kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
        family = kind(name, words, labels=("model", *labels))
        for one in exposed:
            for values, number in read(one):
                if number is not None and isfinite(number):
                    family.add_metric(_texts(one.model, values), number)
        yield family


def _histograms(exposed: tuple[Exposed, ...]) -> Iterator[Metric]:
    from prometheus_client.core import HistogramMetricFamily

    for name, words, limits, read in _HISTOGRAMS:
        family = HistogramMetricFamily(name, words, labels=("model", "version"))
        for one in exposed:
            for version, sketch in read(one).items():
                family.add_metric(_texts(one.model, version), _buckets(sketch, limits), sketch.total)
        yield family


def _buckets(sketch: Sketch, limits: tuple[float, ...]) -> list[tuple[str, float]]:
    """Return how many values are at most each limit; one that is on a limit is under it."""
    counts = sketch.below([limit * (1 + RELATIVE_ACCURACY) for limit in limits])
    return [*zip(map(str, limits), counts, strict=True), ("+Inf", sketch.count)]


def _texts(model: str, values: Any) -> list[str]:
    """Return the values of labels as text that can be encoded."""
    parts = (model, *(values if isinstance(values, tuple) else (values,)))
    return [str(part).encode(errors="replace").decode() for part in parts]


def _drift(one: Exposed) -> Rows:
    known = [(column, effect) for column, effect in one.drift.items() if isfinite(effect)]
    largest = sorted(known, key=lambda pair: -pair[1])[:_COLUMNS]
    return [((one.version, column), effect) for column, effect in largest]


def _alone(number: float | None) -> Rows:
    return [((), number)]


_FAMILIES: tuple[tuple[str, str, tuple[str, ...], Callable[[Exposed], Rows]], ...] = (
    (
        "mlnb_requests_total", "Requests to predict, answered or refused.", ("version", "replica", "status"),
        lambda one: one.requests.items(),
    ),
    ("mlnb_rows_total", "Rows predicted.", ("version",), lambda one: one.rows.items()),
    ("mlnb_in_flight_requests", "Requests that wait or are being answered.", (), lambda one: _alone(one.in_flight)),
    ("mlnb_replicas", "Replicas by state.", ("state",), lambda one: one.replicas.items()),
    ("mlnb_replicas_desired", "Replicas that there are to be.", (), lambda one: _alone(one.desired)),
    (
        "mlnb_model_info", "The version that is live.", ("version", "type"),
        lambda one: [((one.version, one.model_type), 1.0)],
    ),
    (
        "mlnb_predictions_total", "Rows by the class that they were answered.", ("version", "label"),
        lambda one: one.predictions.items(),
    ),
    (
        "mlnb_prediction_missing_total", "Rows that were answered NaN, infinity or nothing.", ("version",),
        lambda one: one.missing.items(),
    ),
    ("mlnb_labels_total", "Requests whose true answer was told.", ("version",), lambda one: one.labels.items()),
    (
        "mlnb_labels_refused_total", "True answers that were not taken, by reason.", ("reason",),
        lambda one: one.refused.items(),
    ),
    (
        "mlnb_quality", "How well answers agree with the labels, by measure.", ("version", "measure", "window"),
        lambda one: one.quality.items(),
    ),
    ("mlnb_drift", "Effect size of the drift of a column: 0 is none.", ("version", "column"), _drift),
    ("mlnb_drifted_columns", "Columns that drifted.", ("version",), lambda one: [(one.version, one.drifted)]),
    ("mlnb_alert_firing", "Whether an alert fires.", ("rule",), lambda one: one.alerts.items()),
    ("mlnb_log_written_total", "Predictions written to the log.", (), lambda one: _alone(one.log_written)),
    ("mlnb_log_dropped_total", "Predictions that the log lost.", (), lambda one: _alone(one.log_dropped)),
)  # fmt: skip

_HISTOGRAMS: tuple[tuple[str, str, tuple[float, ...], Callable[[Exposed], Mapping[int, Sketch]]], ...] = (
    (
        "mlnb_request_duration_seconds", "From the whole request to the answer, of good answers, without the network.",
        _SECONDS, lambda one: one.latency,
    ),
    ("mlnb_queue_seconds", "What a request waited before its batch began.", _SECONDS, lambda one: one.waited),
    ("mlnb_batch_rows", "Rows of the batch that a request was answered in.", _ROWS, lambda one: one.batch),
)  # fmt: skip
