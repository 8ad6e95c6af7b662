"""A request's W3C trace: continued from the client, in the response, and behind everything that it causes."""

import re
from typing import Any

import pytest
from structlog.testing import capture_logs

from actors import events
from actors.psp import provider
from actors.psp.provider import Answer, Order
from db import event_log
from db.core import logs, request_context
from tests import makers
from tests.makers import work
from tests.tables import JobRow

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SENT = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "bank=a1"}
PAYMENT = {"type": "payment", "amount": "12.50"}


class Listening:
    """A provider that charges, and keeps the headers that it receives."""

    def __init__(self) -> None:
        self.received: list[dict[str, str]] = []
        self._stub = makers.stub()

    def charge(self, order: Order) -> Answer:
        self.received.append(request_context.current().trace_headers)
        return self._stub.charge(order)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stub, name)


@pytest.fixture
def psp(database):
    listening = Listening()
    provider.choose(listening)
    return listening


def trace_of(traceparent: str | None) -> str:
    found = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}", traceparent or "")
    assert found, traceparent
    return found[1]


def messages() -> list[events.Event]:
    return [events.Event.model_validate(event) for event in event_log.after(0, 1000)]


def test_a_response_continues_the_trace_of_the_client(customer):
    answered = customer.get("/auth/me", headers=SENT).headers["traceparent"]
    assert trace_of(answered) == TRACE
    assert SPAN not in answered
    assert answered.endswith("-01")


@pytest.mark.parametrize("sent", [{}, {"traceparent": "00-0-0-00"}, {"tracestate": "a=1"}])
def test_without_a_valid_trace_each_request_begins_one(customer, sent):
    answered = [trace_of(customer.get("/auth/me", headers=sent).headers["traceparent"]) for _ in range(2)]
    assert len(set(answered)) == 2


@pytest.mark.parametrize("path", ["/health", "/metrics", "/api/nothing", "/api/payments"])
def test_every_response_has_a_trace(client, path):
    assert trace_of(client.simulate_get(path).headers["traceparent"])
    assert trace_of(client.simulate_get(path, headers=SENT).headers["traceparent"]) == TRACE


@pytest.mark.filterwarnings("ignore::wsgiref.validate.WSGIWarning")
def test_a_method_that_is_none_has_a_trace_too(client):
    assert trace_of(client.simulate_request("FOO", "/health").headers["traceparent"])


@pytest.mark.parametrize("sent", [SENT, {}, {"X-Request-ID": "order-4711"}])
def test_a_trace_goes_along_to_the_psp_and_to_every_event(customer, psp, sent):
    given = customer.post("/payments", PAYMENT, headers=sent).headers["traceparent"]
    work()
    [received] = psp.received
    assert trace_of(received["traceparent"]) == trace_of(given)
    assert received.get("tracestate") == sent.get("tracestate")
    about_payment = [message for message in messages() if message.type.startswith("payments:")]
    assert {message.type.rpartition(":")[2] for message in about_payment} == {
        "created",
        "updated",
        "completed",
    }
    assert {trace_of(message.traceparent) for message in about_payment} == {trace_of(given)}


def test_in_one_batch_each_payment_keeps_its_trace(customer, psp):
    traces = [f"{number:032x}" for number in range(1, 6)]
    for id in traces:
        customer.post("/payments", PAYMENT, headers={"traceparent": f"00-{id}-{SPAN}-00"})
    customer.post("/payments", PAYMENT)
    for name in ("payments.begin", "payments.charge", "records.append"):
        job = JobRow.get(JobRow.name == name)
        makers.JOBS[name].handle(job.id)
    assert [trace_of(received["traceparent"]) for received in psp.received][:5] == traces
    completed = [message for message in messages() if message.type == "payments:payment:completed"]
    assert [trace_of(message.traceparent) for message in completed][:5] == traces
    assert len({trace_of(message.traceparent) for message in completed}) == 6


def test_nothing_is_stored_of_a_trace_that_follows_from_the_request_id(customer):
    customer.post("/payments", PAYMENT)
    jobs = list(JobRow.select())
    assert len(jobs) == 2
    assert {job.trace for job in jobs} == {None}
    work()
    assert {event.trace for event in event_log.after(0, 1000)} == {None}


def test_log_lines_carry_the_trace_also_those_of_jobs(customer, psp):
    with capture_logs(processors=[logs._add_context]) as lines:
        customer.post("/payments", PAYMENT, headers=SENT)
        work()
    named = {line["event"]: line["trace_id"] for line in lines}
    for event in ("request", "payment created", "PSP called", "payment completed"):
        assert named[event] == TRACE
