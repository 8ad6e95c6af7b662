"""Traces: what a client's headers mean, and the trace that follows from the id of a request."""

import re

import pytest

from db.core import trace
from db.core.request_context import RequestContext

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
HEADER = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@pytest.mark.parametrize(
    ("traceparent", "read"),
    [
        (PARENT, PARENT),
        (f"00-{TRACE}-{SPAN}-00", f"00-{TRACE}-{SPAN}-00"),
        # A later version: what this one knows of it.
        (f"cc-{TRACE}-{SPAN}-01", PARENT),
        (f"01-{TRACE}-{SPAN}-01-and-more", PARENT),
        # Flags that this version does not define are not passed on.
        (f"00-{TRACE}-{SPAN}-fd", PARENT),
    ],
)
def test_a_valid_traceparent_is_read(traceparent, read):
    assert trace.offered(traceparent, "") == read


@pytest.mark.parametrize(
    "traceparent",
    [
        *("", "x", PARENT[:-1], PARENT + "0", PARENT.upper(), f"{PARENT}-more", f"{PARENT},{PARENT}"),
        *(f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01"),
        *(f" {PARENT}", f"{PARENT}\n", f"00-{TRACE}-{SPAN}-0g", f"01-{TRACE}-{SPAN}-01more"),
    ],
)
def test_an_invalid_traceparent_is_no_trace(traceparent):
    assert trace.offered(traceparent, "a=1") is None


@pytest.mark.parametrize(
    ("tracestate", "read"),
    [
        *(("", ""), ("a=1", "a=1"), ("a=1 , b@c=x y,", "a=1,b@c=x y"), ("a=1,,b=2", "a=1,b=2")),
        *(("A=1", ""), ("a", ""), ("a=", ""), ("a=b=c", ""), ("a=é", ""), ("a=1\r\nX: y", "")),
        ("a=" + "1" * 511, ""),
        (",".join(f"k{number}=1" for number in range(33)), ""),
    ],
)
def test_a_tracestate_is_passed_on_if_it_is_valid(tracestate, read):
    found = trace.offered(PARENT, tracestate)
    assert found is not None
    assert trace.headers(found).get("tracestate", "") == read


def test_a_trace_is_continued_by_a_span_of_its_own():
    begun = trace.offered(PARENT, "a=1")
    assert begun is not None
    headers = trace.headers(trace.continued(begun))
    assert headers["traceparent"].startswith(f"00-{TRACE}-")
    assert headers["traceparent"].endswith("-01")
    assert SPAN not in headers["traceparent"]
    assert headers["tracestate"] == "a=1"


@pytest.mark.parametrize(
    "request_id",
    [
        "9462d1d7-6c2a-4f4e-9a56-0f6d0c3a1b2e",
        *("order-4711", "9462D1D7-6C2A-4F4E-9A56-0F6D0C3A1B2E", "00000000-0000-0000-0000-000000000000"),
        "9462d1d7-6c2a-4f4e-0000-000000000000",
    ],
)
def test_a_request_without_a_trace_begins_one_that_follows_from_its_id(request_id):
    context = RequestContext(request_id)
    assert context.traceparent is not None
    assert HEADER.fullmatch(context.traceparent)
    # Valid for its receivers.
    assert trace.offered(context.traceparent, "") == context.traceparent
    assert context.trace_id == context.traceparent[3:35]


def test_a_trace_id_is_the_request_id_without_hyphens():
    context = RequestContext("9462d1d7-6c2a-4f4e-9a56-0f6d0c3a1b2e")
    assert context.trace_id == "9462d1d76c2a4f4e9a560f6d0c3a1b2e"


def test_work_that_no_request_caused_has_no_trace():
    assert (RequestContext().traceparent, RequestContext().trace_id, RequestContext().trace_headers) == (
        None,
        None,
        {},
    )
