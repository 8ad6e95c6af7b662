"""Spans by OpenTelemetry's SDK, sent over OTLP/HTTP. Only a process that exports spans imports this module.

OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER, OTEL_RESOURCE_ATTRIBUTES and the other variables of the SDK
mean what OpenTelemetry's documents say.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Self

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from actors import tracing
from actors.tracing import Attributes, Kind
from db import leases
from db.core import VERSION, request_context, trace
from db.core.logs import Outage

_propagator = TraceContextTextMapPropagator()


class OtlpExporter:
    """Begins spans and sends them."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("paywright", VERSION)

    @classmethod
    def to(cls, endpoint: str, service: str) -> Self:
        """Returns an exporter that sends the spans of this process in batches, in a thread of its own."""
        # The SDK logs each batch that is refused, and each span that is dropped meanwhile.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        sender = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")
        with _no_fork_handlers():
            provider = new_provider(service)
            provider.add_span_processor(BatchSpanProcessor(_LoggedOnce(sender)))
        return cls(provider)

    def begin(self, name: str, kind: Kind, parent: str | None, attributes: Attributes) -> "OtlpSpan":
        """Begins a span of the trace `parent`, or the first span of the current request's trace."""
        context = _propagator.extract(trace.headers(parent), Context()) if parent else Context()
        begun = self._tracer.start_span(name, context, SpanKind[kind], dict(attributes))
        return OtlpSpan(begun, parent)

    def shut_down(self) -> None:
        self._provider.shutdown()


@contextmanager
def _no_fork_handlers() -> Iterator[None]:
    """Keeps the SDK from starting a thread in each fork of this process. Our forks only execute a program.

    In a web process the thread would be a greenlet, and the fork would wait for ever until it has started.
    """
    register = os.register_at_fork
    os.register_at_fork = lambda **_handlers: None
    try:
        yield
    finally:
        os.register_at_fork = register


def new_provider(service: str) -> TracerProvider:
    """Returns a provider whose spans name this process, unless variables such as OTEL_SERVICE_NAME do."""
    ours = Resource(
        {
            "service.namespace": "paywright",
            "service.name": f"paywright-{service}",
            "service.version": VERSION,
            "service.instance.id": leases.process_name(),
            "telemetry.sdk.language": "python",
            "telemetry.sdk.name": "opentelemetry",
            "telemetry.sdk.version": version("opentelemetry-sdk"),
        }
    )
    # Not Resource.create(): its thread pool would wait in a lock that no greenlet of a web process leaves.
    resource = ours.merge(OTELResourceDetector().detect())
    return TracerProvider(resource=resource, id_generator=_Ids(), shutdown_on_exit=False)


class _Ids(RandomIdGenerator):
    """Gives a new trace the id that the request's log lines and events have (decision 39)."""

    def generate_trace_id(self) -> int:
        id = request_context.current().trace_id
        return int(id, 16) if id else super().generate_trace_id()


class OtlpSpan(tracing.Span):
    """A span that is exported."""

    def __init__(self, span: Span, parent: str | None) -> None:
        super().__init__(parent)
        self._span = span
        context = span.get_span_context()
        # A trace that begins here and is not sampled follows from the request's id: it need not be passed on.
        if parent or context.trace_flags.sampled:
            traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
            self.trace = f"{traceparent} {context.trace_state.to_header()}".rstrip()

    def describe(self, name: str, attributes: Attributes) -> None:
        self._span.update_name(name)
        self._span.set_attributes(dict(attributes))

    def end(self, failure: BaseException | str | None = None) -> None:
        if isinstance(failure, BaseException):
            self._span.set_attribute("error.type", type(failure).__qualname__)
            self._span.set_status(StatusCode.ERROR, str(failure).partition("\n")[0])
        elif failure:
            self._span.set_attribute("error.type", failure)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class _LoggedOnce(SpanExporter):
    """Logs once that spans are not accepted, and once that they are again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._outage = Outage("export of traces")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self._outage.ended()
        else:
            # This batch is lost.
            self._outage.began(ConnectionError("OTEL_EXPORTER_OTLP_ENDPOINT accepts no spans"))
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()
