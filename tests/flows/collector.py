"""An OTLP/HTTP endpoint, as a collector of traces has it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class ReceivedSpan:
    """A span that a process has sent."""

    service: str
    name: str
    id: str
    parent: str


class Collector:
    """Keeps the spans that processes send; refuses them while it is away."""

    def __init__(self) -> None:
        self.is_away = False
        self.refused = 0
        # By trace and id: a process whose answer is late sends its spans again.
        self._spans: dict[str, dict[str, ReceivedSpan]] = {}
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/v1/traces" and not collector.is_away:
                    collector.keep(ExportTraceServiceRequest.FromString(body))
                    answer = ExportTraceServiceResponse().SerializeToString()
                    self.send_response(200)
                else:
                    collector.refused += 1
                    answer = b""
                    self.send_response(503)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def keep(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            named = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    received = ReceivedSpan(
                        named["service.name"], span.name, span.span_id.hex(), span.parent_span_id.hex()
                    )
                    self._spans.setdefault(span.trace_id.hex(), {})[received.id] = received

    def spans(self, trace: str) -> list[ReceivedSpan]:
        return list(self._spans.get(trace, {}).values())

    @contextmanager
    def running(self) -> Iterator["Collector"]:
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()
