from __future__ import annotations

import gzip
import os
import socket
import subprocess
import sys
import time
from typing import Any

import pytest
from endpoints import speaking
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode
from waiting import free_port

from mlnb.events import PredictionEvent
from mlnb.monitoring import tracing
from mlnb.monitoring.tracing import NoTracer, SpanTracer, tracer_for

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
NAME = "POST /models/{name}/predict"
OWN_PROVIDER = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, ConsoleSpanExporter
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=lambda span: span.name + "|")))
trace.set_tracer_provider(provider)
"""
ONE = """
from mlnb.events import PredictionEvent
from mlnb.monitoring.tracing import tracer_for
tracer = tracer_for("iris")
tracer.observe([PredictionEvent(
    model="iris", version=3, request_id="r1", at=1e9, seconds=0.004, rows=2, status=200, replica=1, batch=8,
)])
print(type(tracer).__name__, tracer.wants_parent)
"""


def event(**values: Any) -> PredictionEvent:
    known: dict[str, Any] = {
        "model": "iris", "version": 3, "request_id": "r1", "at": 1e9, "seconds": 0.004, "rows": 2, "status": 200,
        "replica": 1, "waited": 0.001, "batch": 8,
    }  # fmt: skip
    return PredictionEvent(**(known | values))


def traced(*events: PredictionEvent, **options: Any) -> list[ReadableSpan]:
    """Return the spans of events, in the order they ended."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False, **options)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    SpanTracer("iris", provider).observe(events)
    return list(exporter.get_finished_spans())


def run(before: str = "", **environ: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", before + ONE],
        env=clean | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.strip()


def test_a_request_is_a_server_span_with_its_own_times() -> None:
    queue, predict, server = traced(event())
    assert (server.name, server.kind, server.parent) == (NAME, SpanKind.SERVER, None)
    assert server.end_time == 10**18
    assert server.start_time == pytest.approx(10**18 - 4_000_000, abs=1000)
    assert server.status.status_code is StatusCode.UNSET
    assert dict(server.attributes or {}) == {
        "http.request.method": "POST", "http.route": "/models/{name}/predict", "http.response.status_code": 200,
        "mlnb.model": "iris", "mlnb.version": 3, "mlnb.request_id": "r1", "mlnb.rows": 2, "mlnb.replica": 1,
    }  # fmt: skip
    assert [(span.name, span.kind) for span in (queue, predict)] == [
        ("queue", SpanKind.INTERNAL), ("predict", SpanKind.INTERNAL)
    ]  # fmt: skip
    assert {span.parent.span_id for span in (queue, predict) if span.parent} == {server.context.span_id}
    assert (queue.start_time, predict.end_time) == (server.start_time, server.end_time)
    assert queue.end_time == predict.start_time == (server.start_time or 0) + 1_000_000
    assert dict(predict.attributes or {}) == {"mlnb.batch": 8, "mlnb.replica": 1}


def test_it_belongs_to_the_trace_of_the_caller() -> None:
    *inside, server = traced(event(parent=f"00-{TRACE}-{PARENT}-01".encode()))
    assert server.parent is not None
    assert (f"{server.parent.trace_id:032x}", f"{server.parent.span_id:016x}") == (TRACE, PARENT)
    assert server.parent.is_remote
    assert {f"{span.context.trace_id:032x}" for span in inside} == {TRACE}


def test_a_caller_that_is_not_sampled_has_no_spans() -> None:
    assert traced(event(parent=f"00-{TRACE}-{PARENT}-00".encode())) == []
    assert traced(event(), sampler=ALWAYS_OFF) == []


@pytest.mark.parametrize(
    "parent", [b"rubbish", b"\xff\x00", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01", b"-" * 9999]
)
def test_a_header_that_is_none_begins_a_trace(parent: bytes) -> None:
    assert traced(event(parent=parent))[-1].parent is None


def test_a_refused_request_has_no_model_in_it_and_says_nothing_of_its_rows() -> None:
    words = "Row 0: 'age' must be a number, not 'secret'."
    (server,) = traced(event(status=422, rows=0, replica=0, batch=0, waited=0.0, error=words))
    assert (server.attributes or {})["http.response.status_code"] == 422
    assert server.status.status_code is StatusCode.UNSET, "the client's mistake"
    assert "secret" not in server.to_json()


def test_a_failed_one_is_an_error() -> None:
    server = traced(event(status=500, error="ValueError: secret"))[-1]
    assert server.status.status_code is StatusCode.ERROR
    assert (server.attributes or {})["error.type"] == "500"
    assert "secret" not in server.to_json()


def test_times_that_make_no_sense_are_no_span_that_ends_before_it_begins() -> None:
    spans = traced(event(seconds=-1.0), event(waited=9.0))
    assert len(spans) == 6
    assert all((span.start_time or 0) <= (span.end_time or 0) for span in spans)


def test_off_where_nobody_configured_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    tracer = tracer_for("iris")
    assert isinstance(tracer, NoTracer)
    assert not tracer.wants_parent
    tracer.observe([event()])


@pytest.mark.parametrize("missing", ["opentelemetry", "opentelemetry.sdk.trace"])
def test_off_where_a_package_is_missing(
    missing: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr(tracing, "_own_provider", tracing._own_provider.__wrapped__)  # asks each time
    assert isinstance(tracer_for("iris"), NoTracer)
    assert [record.getMessage() for record in caplog.records] == (
        [f"No traces: {missing} is missing. Run: pip install 'mlnb[traces]'"] if "." in missing else []
    )


@pytest.mark.parametrize("name", ["OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER"])
def test_off_where_the_environment_says_so(name: str) -> None:
    off = {"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "none"}[name]
    assert run(**{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", name: off}) == "NoTracer False"


def test_on_with_the_provider_that_the_program_has_set() -> None:
    assert run(OWN_PROVIDER) == f"queue|predict|{NAME}|SpanTracer True"


def test_a_process_sends_them_where_the_environment_says() -> None:
    bodies: list[bytes] = []

    def collect(_: int, connection: socket.socket) -> None:
        file = connection.makefile("rb")
        assert file.readline().startswith(b"POST /v1/traces ")
        head: dict[bytes, bytes] = {}
        while line := file.readline().strip().lower():
            name, value = line.split(b": ", 1)
            head[name] = value
        body = file.read(int(head[b"content-length"]))
        bodies.append(gzip.decompress(body) if head.get(b"content-encoding") == b"gzip" else body)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with speaking(collect) as url:
        assert run(OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_SERVICE_NAME="shop", no_proxy="127.0.0.1") == "SpanTracer True"
    (resource,) = ExportTraceServiceRequest.FromString(bodies[0]).resource_spans
    assert {one.value.string_value for one in resource.resource.attributes if one.key == "service.name"} == {"shop"}
    assert [span.name for span in resource.scope_spans[0].spans] == ["queue", "predict", NAME]


@pytest.mark.alone
def test_a_process_ends_in_time_though_nobody_takes_them() -> None:
    began = time.perf_counter()
    environ = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    subprocess.run([sys.executable, "-c", ONE], env=environ, capture_output=True, timeout=60, check=True)
    assert time.perf_counter() - began < 5, "OpenTelemetry itself tries again for more than 6"
