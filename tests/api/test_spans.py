"""Where spans are exported, one trace reaches from the client's request to the last event."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from subprocess import run
from typing import Any

import pytest
from falcon.testing import TestClient
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from actors import tracing
from actors.psp import provider
from actors.psp.provider import Answer, Unavailable
from actors.span_export import OtlpExporter, new_provider
from db.core import request_context
from tests import makers
from tests.makers import Visitor, visitor, work
from tests.tables import JobRow

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SENT = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
PAYMENT = {"type": "payment", "amount": "12.50"}


@dataclass(frozen=True)
class Recorded:
    """The spans that were recorded."""

    memory: InMemorySpanExporter

    def of_trace(self, id: str = TRACE) -> list[ReadableSpan]:
        return [span for span in self.memory.get_finished_spans() if f"{span.context.trace_id:032x}" == id]

    def named(self, name: str, trace: str = TRACE) -> list[ReadableSpan]:
        return [span for span in self.of_trace(trace) if span.name == name]

    def names(self, trace: str = TRACE) -> set[str]:
        return {span.name for span in self.of_trace(trace)}

    def path(self, span: ReadableSpan) -> list[str]:
        """The names from a span up to the first span that was recorded; ends with the id of its parent."""
        spans = {each.context.span_id: each for each in self.memory.get_finished_spans()}
        names = [span.name]
        while span.parent and span.parent.span_id in spans:
            span = spans[span.parent.span_id]
            names.append(span.name)
        return [*names, f"{span.parent.span_id:016x}" if span.parent else ""]


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    memory = InMemorySpanExporter()
    spans = new_provider("test")
    spans.add_span_processor(SimpleSpanProcessor(memory))
    tracing.use(OtlpExporter(spans))
    yield Recorded(memory)
    tracing.use(None)


@pytest.fixture
def me(database: None, make_client: Any, recorded: Recorded) -> Visitor:
    client: TestClient = make_client(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318")
    return visitor(client)


def test_one_trace_reaches_from_the_request_to_the_last_event(me, recorded):
    me.post("/payments", PAYMENT, headers=SENT)
    work()
    settled = ["process payments.charge", "process payments.begin"]
    request = ["POST /api/payments", SPAN]
    [charged] = recorded.named("PSP charge")
    assert recorded.path(charged) == ["PSP charge", *settled, *request]
    appended = ["process records.append", *settled, *request]
    sent = [span for span in recorded.named("send events") if recorded.path(span)[1:] == appended]
    assert {span.attributes["paywright.event.type"] for span in sent} == {
        "payments:payment:updated",
        "payments:payment:completed",
    }
    [mailed] = recorded.named("send mail")
    assert recorded.path(mailed) == [
        *("send mail", "process mail.notify_payment_ended", "process events"),
        *appended,
    ]
    # No span is left without the one that it names as its parent.
    assert {recorded.path(span)[-1] for span in recorded.of_trace()} == {SPAN}


def test_a_request_without_a_trace_begins_one_with_its_own_id(me, recorded):
    answer = me.post("/payments", PAYMENT)
    work()
    trace = answer.headers["X-Request-ID"].replace("-", "")
    assert answer.headers["traceparent"].startswith(f"00-{trace}-")
    assert int(answer.headers["traceparent"][-2:], 16) & 1
    assert {"POST /api/payments", "PSP charge", "send mail", "send events"} <= recorded.names(trace)


def test_of_a_trace_that_nobody_records_no_span_is_made(me, recorded):
    me.post("/payments", PAYMENT, headers={"traceparent": f"00-{TRACE}-{SPAN}-00"})
    work()
    assert recorded.of_trace() == []


def test_in_one_batch_each_payment_has_its_own_spans(me, recorded):
    traces = [f"{number:032x}" for number in range(1, 4)]
    for id in traces:
        me.post("/payments", PAYMENT, headers={"traceparent": f"00-{id}-{SPAN}-01"})
    for name in ("payments.begin", "payments.charge", "records.append"):
        makers.JOBS[name].handle(JobRow.get(JobRow.name == name).id)
    for id in traces:
        for name in ("process payments.begin", "process payments.charge", "PSP charge"):
            assert len(recorded.named(name, id)) == 1
        assert {recorded.path(span)[-1] for span in recorded.of_trace(id)} == {SPAN}
        assert len(recorded.named("send events", id)) == 4


def test_a_request_says_what_opentelemetry_expects_of_an_http_server(me, recorded):
    payment = me.post("/payments", PAYMENT).json["data"]["id"]
    me.get(f"/payments/{payment}", headers={**SENT, "User-Agent": "till/1.0"})
    [span] = recorded.of_trace()
    assert (span.name, span.kind.name) == ("GET /api/payments/:payment_id", "SERVER")
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/api/payments/:payment_id",
        "url.path": f"/api/payments/{payment}",
        "url.scheme": "http",
        "client.address": "127.0.0.1",
        "user_agent.original": "till/1.0",
    }
    assert span.resource.attributes["service.name"] == "paywright-test"


@pytest.mark.parametrize("path", ["/health", "/metrics"])
def test_what_machines_ask_every_few_seconds_is_no_span(me, recorded, path):
    answer = me.client.simulate_get(path, headers=SENT)
    assert answer.headers["traceparent"].startswith(f"00-{TRACE}-")
    assert recorded.of_trace() == []


def test_a_call_that_fails_is_an_error_and_its_job_is_none(me, recorded):
    class Away:
        def charge(self, _order: Any) -> Answer:
            raise Unavailable("503")

    provider.choose(Away())  # type: ignore[arg-type]
    me.post("/payments", PAYMENT, headers=SENT)
    for name in ("payments.begin", "payments.charge"):
        makers.JOBS[name].handle(JobRow.get(JobRow.name == name).id)
    [call] = recorded.named("PSP charge")
    assert (call.status.status_code, call.attributes["error.type"]) == (StatusCode.ERROR, "Unavailable")
    [job] = recorded.named("process payments.charge")
    assert job.status.status_code is StatusCode.UNSET


def test_a_response_of_5xx_is_an_error(make_client, recorded, monkeypatch):
    client = make_client(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318")
    monkeypatch.setattr("api.operations.health.Health._checked", lambda _self: 1 / 0)
    monkeypatch.setattr("api.middleware.request_context._NOT_RECORDED", ())
    client.simulate_get("/health", headers=SENT)
    [span] = recorded.of_trace()
    assert (span.status.status_code, span.attributes["error.type"]) == (StatusCode.ERROR, "500")


def test_without_an_endpoint_nothing_that_exports_is_loaded(root):
    loads = "import sys, api.app, workers.main, workers.relay; print('actors.span_export' in sys.modules)"
    loaded = run([sys.executable, "-c", loads], cwd=root, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "False"


def test_a_context_of_its_own_ends_with_the_span():
    with request_context.acting_as(request_context.RequestContext("request-1")):
        with tracing.span("nothing", "CLIENT", {}):
            assert request_context.current().request_id == "request-1"
        assert request_context.current() == request_context.RequestContext("request-1")
