from __future__ import annotations

import subprocess
import time

import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families

from mlnb.monitoring.sketch import Sketch
from mlnb.serving.prometheus import Exposed, exposition

FULL = Exposed(
    model="iris",
    version=3,
    model_type="RandomForestClassifier",
    requests={(3, 1, 200): 90, (3, 1, 500): 2, (2, 0, 422): 8},
    rows={3: 180, 2: 0},
    latency={3: Sketch([0.0004, 0.001, 0.004, 20.0])},
    waited={3: Sketch([0.0, 0.0, 0.002])},
    batch={3: Sketch([1.0, 1.0, 2.0, 64.0])},
    predictions={(3, "setosa"): 170, (3, 'a "quoted"\nclass\\'): 10},
    missing={3: 1},
    labels={3: 30},
    quality={(3, "accuracy", "1 hour"): 0.94, (3, "ROC AUC", "1 hour"): None},
    drift={"petal length": 0.4, "sepal width": 0.01, "never judged": float("nan")},
    drifted=1,
    alerts={"p99 > 50 ms": True, "drift > 10 % for 5m": False},
    in_flight=4,
    replicas={"ready": 2, "starting": 1},
    desired=3,
    log_written=180,
    log_dropped=0,
)
OPEN = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


def samples(*exposed: Exposed, accept: str = "") -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return what a scraper reads; a sample that comes twice is a failure."""
    text = exposition(exposed, accept=accept)[0].decode()
    families = (open_metrics if accept else text_string_to_metric_families)(text)
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in families:
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found
            found[key] = sample.value
    return found


def value(*exposed: Exposed, name: str, **labels: str) -> float | None:
    return samples(*exposed).get((name, frozenset({"model": "iris", **labels}.items())))


@pytest.mark.parametrize("accept", ["", OPEN])
def test_everything_is_told(accept: str) -> None:
    found = {
        (name, *sorted(f"{key}={text}" for key, text in labels if key != "model")): number
        for (name, labels), number in samples(FULL, accept=accept).items()
        if name.startswith("mlnb_") and "_bucket" not in name
    }
    assert found == {
        ("mlnb_requests_total", "replica=1", "status=200", "version=3"): 90,
        ("mlnb_requests_total", "replica=1", "status=500", "version=3"): 2,
        ("mlnb_requests_total", "replica=0", "status=422", "version=2"): 8,
        ("mlnb_rows_total", "version=3"): 180,
        ("mlnb_rows_total", "version=2"): 0,
        ("mlnb_in_flight_requests",): 4,
        ("mlnb_replicas", "state=ready"): 2,
        ("mlnb_replicas", "state=starting"): 1,
        ("mlnb_replicas_desired",): 3,
        ("mlnb_model_info", "type=RandomForestClassifier", "version=3"): 1,
        ("mlnb_predictions_total", "label=setosa", "version=3"): 170,
        ("mlnb_predictions_total", 'label=a "quoted"\nclass\\', "version=3"): 10,
        ("mlnb_prediction_missing_total", "version=3"): 1,
        ("mlnb_labels_total", "version=3"): 30,
        ("mlnb_quality", "measure=accuracy", "version=3", "window=1 hour"): 0.94,
        ("mlnb_drift", "column=petal length", "version=3"): 0.4,
        ("mlnb_drift", "column=sepal width", "version=3"): 0.01,
        ("mlnb_drifted_columns", "version=3"): 1,
        ("mlnb_alert_firing", "rule=p99 > 50 ms"): 1,
        ("mlnb_alert_firing", "rule=drift > 10 % for 5m"): 0,
        ("mlnb_log_written_total",): 180,
        ("mlnb_log_dropped_total",): 0,
        ("mlnb_request_duration_seconds_count", "version=3"): 4,
        ("mlnb_request_duration_seconds_sum", "version=3"): pytest.approx(20.0054),
        ("mlnb_queue_seconds_count", "version=3"): 3,
        ("mlnb_queue_seconds_sum", "version=3"): pytest.approx(0.002),
        ("mlnb_batch_rows_count", "version=3"): 4,
        ("mlnb_batch_rows_sum", "version=3"): 68,
    }


def test_the_format_is_the_one_that_was_asked_for() -> None:
    assert exposition([FULL])[1].startswith("text/plain; version=0.0.4")
    text, content_type = exposition([FULL], accept=OPEN)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith(b"# EOF\n")


def test_the_buckets_of_a_histogram_hold_all_that_is_at_most_their_limit() -> None:
    buckets = {
        dict(labels)["le"]: number
        for (name, labels), number in samples(FULL).items()
        if name == "mlnb_request_duration_seconds_bucket"
    }
    assert [buckets[limit] for limit in ("0.0005", "0.001", "0.0025", "0.005", "10.0", "+Inf")] == [1, 2, 2, 3, 3, 4]
    assert value(FULL, name="mlnb_queue_seconds_bucket", version="3", le="0.0005") == 2
    rows = [value(FULL, name="mlnb_batch_rows_bucket", version="3", le=f"{limit}.0") for limit in (1, 2, 32, 64, 128)]
    assert rows == [2, 3, 3, 4, 4]


@pytest.mark.parametrize("exact", [1, 2, 4, 8, 16, 32, 64])
def test_whole_rows_are_counted_exactly(exact: int) -> None:
    one = Exposed(model="iris", version=1, batch={1: Sketch([float(exact), exact + 1.0])})
    assert value(one, name="mlnb_batch_rows_bucket", version="1", le=f"{exact}.0") == 1


def test_a_histogram_of_many_values_is_within_one_per_cent_of_where_they_are() -> None:
    seconds = np.random.default_rng(0).lognormal(-6.0, 1.0, 20_000)
    one = Exposed(model="iris", version=1, latency={1: Sketch(seconds.tolist())})
    for limit in ("0.001", "0.0025", "0.005", "0.01", "0.025"):
        told = value(one, name="mlnb_request_duration_seconds_bucket", version="1", le=limit)
        least, most = (int((seconds <= float(limit) * factor).sum()) for factor in (0.98, 1.03))
        assert told is not None
        assert least <= told <= most


def test_several_models_and_none() -> None:
    other = Exposed(model="digits", version=1, requests={(1, 0, 200): 5})
    found = samples(FULL, other)
    assert sum(number for (name, _), number in found.items() if name == "mlnb_requests_total") == 105
    assert {name for name, _ in samples() if name.startswith("mlnb_")} == set()
    assert any(name == "process_resident_memory_bytes" for name, _ in samples())
    assert any(name == "python_info" for name, _ in samples())


def test_the_drift_of_many_columns_is_that_of_the_largest() -> None:
    wide = Exposed(model="iris", version=1, drift={f"column {number}": number / 1000 for number in range(500)})
    found = {dict(labels)["column"] for name, labels in samples(wide) if name == "mlnb_drift"}
    assert found == {f"column {number}" for number in range(300, 500)}


def test_a_class_that_cannot_be_encoded_spoils_nothing() -> None:
    odd = Exposed(model="iris", version=1, predictions={(1, "\ud800"): 3})
    assert value(odd, name="mlnb_predictions_total", version="1", label="?") == 3


def test_promtool_finds_nothing_to_say() -> None:
    text, _ = exposition([FULL, Exposed(model="empty", version=1)])
    said = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=60, check=False)
    assert (said.returncode, said.stdout, said.stderr) == (0, b"", b"")


@pytest.mark.alone
def test_a_scrape_of_ten_wide_models_is_no_burden() -> None:
    sketch = Sketch(np.random.default_rng(0).lognormal(1.0, 2.0, 20_000).tolist())
    models = [
        Exposed(
            model=f"model{number}", version=1, latency={1: sketch}, waited={1: sketch}, batch={1: sketch},
            predictions={(1, str(label)): 1 for label in range(51)}, drift={str(at): 0.1 for at in range(200)},
        )
        for number in range(10)
    ]  # fmt: skip
    exposition(models)
    began = time.thread_time()
    exposition(models)
    assert time.thread_time() - began < 0.25
