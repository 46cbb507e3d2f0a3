"""Requests as traces, by OpenTelemetry where it is installed and configured."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import threading
from http import HTTPStatus
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.context import Context
    from opentelemetry.trace import Tracer, TracerProvider

    from mlnb.events import PredictionEvent

__all__ = ["EventTracer", "NoTracer", "SpanTracer", "tracer_for"]

_log = logging.getLogger(__name__)

_ROUTE = "/models/{name}/predict"
_PATIENCE = 1.0  # seconds
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class EventTracer(Protocol):
    """Listens to predictions.

    Attributes
    ----------
    wants_parent : bool
        Whether an event is to carry the request's header ``traceparent``.
    """

    wants_parent: bool

    def observe(self, events: Sequence[PredictionEvent]) -> None:
        """Make spans of requests."""
        ...


class NoTracer:
    """What listens while traces are off."""

    wants_parent = False

    def observe(self, events: Sequence[PredictionEvent]) -> None:
        """Do nothing."""


class SpanTracer:
    """Makes a span of each request when it is answered, with spans inside for the queue and for the model.

    Its name and attributes are those of OpenTelemetry's semantic conventions for HTTP servers, 1.38, and ``mlnb.*``.
    Inputs, answers and headers are not in it, nor is what the model said when it failed.

    Parameters
    ----------
    name : str
        Of the deployment.
    provider : TracerProvider
    """

    wants_parent = True

    def __init__(self, name: str, provider: TracerProvider) -> None:
        self._tracer: Tracer = provider.get_tracer("mlnb", version("mlnb"))
        self._constant = {"http.request.method": "POST", "http.route": _ROUTE, "mlnb.model": name}

    def observe(self, events: Sequence[PredictionEvent]) -> None:
        """Make spans of requests, which are over."""
        for event in events:
            self._trace(event)

    def _trace(self, event: PredictionEvent) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        end = _nanoseconds(event.at)
        start = min(_nanoseconds(event.at - event.seconds), end)
        span = self._tracer.start_span(
            f"POST {_ROUTE}", context=_context(event.parent), kind=SpanKind.SERVER, start_time=start,
            attributes=self._attributes(event),
        )  # fmt: skip
        if span.is_recording():
            if event.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                span.set_status(Status(StatusCode.ERROR))
            if event.batch:
                begun = min(start + _nanoseconds(event.waited), end)
                self._inside("queue", set_span_in_context(span), start, begun, {})
                inside = {"mlnb.batch": event.batch, "mlnb.replica": event.replica}
                self._inside("predict", set_span_in_context(span), begun, end, inside)
        span.end(end)

    def _inside(self, name: str, context: Context, start: int, end: int, attributes: Mapping[str, int]) -> None:
        self._tracer.start_span(name, context=context, start_time=start, attributes=dict(attributes)).end(end)

    def _attributes(self, event: PredictionEvent) -> dict[str, Any]:
        attributes: dict[str, Any] = {
            **self._constant, "http.response.status_code": event.status, "mlnb.version": event.version,
            "mlnb.request_id": event.request_id, "mlnb.rows": event.rows, "mlnb.replica": event.replica,
        }  # fmt: skip
        if event.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            attributes["error.type"] = str(event.status)
        return attributes


def tracer_for(name: str) -> EventTracer:
    """Return what makes traces of a deployment's requests: nothing, unless OpenTelemetry is configured by now.

    That is so where the program has set a tracer provider, and where ``OTEL_EXPORTER_OTLP_ENDPOINT`` says where traces
    go and the packages opentelemetry-sdk and opentelemetry-exporter-otlp are installed: a server in a process of its
    own is configured like that.

    Parameters
    ----------
    name : str
        Of the deployment.
    """
    try:
        from opentelemetry import trace
    except ImportError:
        return NoTracer()
    provider = trace.get_tracer_provider()
    if isinstance(provider, (trace.ProxyTracerProvider, trace.NoOpTracerProvider)):
        own = _own_provider() if _is_asked_for(os.environ) else None
        return NoTracer() if own is None else SpanTracer(name, own)
    return SpanTracer(name, provider)


def _is_asked_for(environ: Mapping[str, str]) -> bool:
    disabled = environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none"
    return not disabled and any(environ.get(name) for name in _ENDPOINTS)


@functools.cache
def _own_provider() -> TracerProvider | None:
    """Return a provider for mlnb alone, so that a notebook may still set its own; None without the packages."""
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        exporter = _exporter(os.environ)
    except ImportError as error:
        _log.warning("No traces: %s is missing. Run: pip install 'mlnb[traces]'", error.name)
        return None
    resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "mlnb")})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)  # which would try to send for too long
    provider.add_span_processor(BatchSpanProcessor(exporter))
    atexit.register(_end, provider.shutdown)
    return provider


def _end(shutdown: Callable[[], object]) -> None:
    """Send what waits, for a second at most."""
    thread = threading.Thread(target=shutdown, daemon=True)
    thread.start()
    thread.join(_PATIENCE)


def _exporter(environ: Mapping[str, str]) -> Any:
    """Return what sends spans to where the environment says, which the packages read themselves."""
    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", ""))
    module = import_module(
        f"opentelemetry.exporter.otlp.proto.{'grpc' if protocol == 'grpc' else 'http'}.trace_exporter"
    )
    return module.OTLPSpanExporter()


def _context(parent: bytes) -> Context:
    """Return where a span belongs: to the trace of the caller, or to none."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    if not parent:
        return Context()
    return TraceContextTextMapPropagator().extract({"traceparent": parent.decode("latin-1")}, Context())


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
