"""One trace of a payment through all processes, as a collector of OpenTelemetry receives it."""

import json
from functools import partial
from uuid import uuid4

import pytest

from actors import tracing
from actors.span_export import OtlpExporter
from tests.flows.collector import Collector, ReceivedSpan
from tests.flows.conftest import Stack
from tests.makers import until

SPAN = "00f067aa0ba902b7"
PAYMENT = {"type": "payment", "amount": "12.50"}
EVERY_PROCESS = {
    *("paywright-web", "paywright-payments", "paywright-psp"),
    *("paywright-events", "paywright-subscribers", "paywright-mail"),
}


def spans_until_mailed(collector: Collector, trace: str) -> list[ReceivedSpan]:
    def mailed() -> list[ReceivedSpan] | None:
        spans = collector.spans(trace)
        ids = {span.id for span in spans} | {SPAN}
        # Each process sends on its own: a parent may come after its children.
        complete = all(span.parent in ids for span in spans)
        return spans if complete and {span.service for span in spans} >= EVERY_PROCESS else None

    return until(mailed)


def pay(stack: Stack, trace: str) -> tuple[str, dict[str, str]]:
    headers = {**stack.customer().headers, "traceparent": f"00-{trace}-{SPAN}-01"}
    answer = stack.http.post("/api/payments", json=PAYMENT, headers=headers).raise_for_status()
    return str(answer.json()["data"]["id"]), headers


def settled(stack: Stack, id: str, headers: dict[str, str]) -> bool:
    answer = stack.http.get(f"/api/payments/{id}", headers={**headers, "traceparent": ""})
    return bool(answer.json()["data"]["status"] == "completed")


def refused_by(stack: Stack) -> list[str]:
    """The types of the processes that logged that their spans are refused."""
    logged = [line for line in stack.log().splitlines() if '"export of traces unavailable"' in line]
    return [json.loads(line)["process"].partition(".")[0] for line in logged]


def has_refused(collector: Collector, number: int) -> bool:
    return collector.refused >= number


def test_one_trace_reaches_from_the_browser_to_the_last_event_also_when_redis_was_flushed(stack, collector):
    trace = uuid4().hex
    stack.pause("payments.1")
    try:
        pay(stack, trace)
        stack.flush()
    finally:
        stack.resume("payments.1")
    spans = spans_until_mailed(collector, trace)
    by_id = {span.id: span for span in spans}
    [mailed] = [span for span in spans if span.name == "send mail"]
    names = [mailed.name]
    while (parent := by_id.get(mailed.parent)) is not None:
        names.append(parent.name)
        mailed = parent
    assert names == [
        *("send mail", "process mail.notify_payment_ended", "process events", "process records.append"),
        *("process payments.charge", "process payments.begin"),
        "POST /api/payments",
    ]
    assert mailed.parent == SPAN
    assert {"PSP charge", "send events"} <= {span.name for span in spans}


def test_a_collector_that_is_away_delays_no_payment_and_is_logged_once_a_process(stack, collector):
    # On a loaded machine an answer of the collector may have been late before.
    logged_before = len(refused_by(stack))
    collector.is_away = True
    try:
        for _ in range(2):
            refused = collector.refused
            id, headers = pay(stack, uuid4().hex)
            until(partial(settled, stack, id, headers))
            until(partial(has_refused, collector, refused + len(EVERY_PROCESS)))
        until(
            lambda: set(refused_by(stack)) >= {service.replace("paywright-", "") for service in EVERY_PROCESS}
        )
    finally:
        collector.is_away = False
    # There are two web processes.
    logged = refused_by(stack)[logged_before:]
    assert all(logged.count(type) <= (2 if type == "web" else 1) for type in logged)
    assert "opentelemetry" not in stack.log()
    trace = uuid4().hex
    pay(stack, trace)
    assert spans_until_mailed(collector, trace)


@pytest.fixture
def exporter(collector, monkeypatch):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    tracing.use(OtlpExporter.to(collector.url, "test"))
    yield
    collector.is_away = False
    tracing.use(None)


def test_a_process_that_ends_sends_its_last_spans(collector, exporter):
    trace = uuid4().hex
    tracing.begin("last", "CLIENT", f"00-{trace}-{SPAN}-01", {}).end()
    assert collector.spans(trace) == []
    tracing.stop()
    assert [span.name for span in collector.spans(trace)] == ["last"]
