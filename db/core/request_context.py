"""The request context: which request caused a change, on behalf of which user, from which address."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from db.core import trace


@dataclass(frozen=True)
class RequestContext:
    """The cause of a change. All fields are None for work that no request caused, such as a scheduled job."""

    request_id: str | None = None
    user_id: UUID | None = None
    ip_address: str | None = None
    user_agent: str | None = None
    # The trace that the client began, or that is exported; None if the trace follows from the request's id.
    trace: str | None = None

    @property
    def trace_headers(self) -> dict[str, str]:
        """Returns the headers `traceparent` and `tracestate` of the trace; empty without a request."""
        known = self.trace or self.traceparent
        return trace.headers(known) if known else {}

    @property
    def traceparent(self) -> str | None:
        """Returns the header `traceparent` of the trace; None without a request."""
        if self.trace:
            return trace.traceparent(self.trace)
        return trace.begun(self.request_id) if self.request_id else None

    @property
    def trace_id(self) -> str | None:
        """Returns the trace's id, as log lines carry it; None without a request."""
        if self.trace:
            return trace.trace_id(self.trace)
        return trace.id_of_request(self.request_id) if self.request_id else None


class Caused(Protocol):
    """What a request has caused: a job, an event, or a call to the PSP."""

    @property
    def request_id(self) -> str | None:
        """Returns the request's id."""
        ...

    @property
    def trace(self) -> str | None:
        """Returns the request's trace, as in RequestContext."""
        ...


EMPTY = RequestContext()

_current: ContextVar[RequestContext] = ContextVar("request_context", default=EMPTY)


def current() -> RequestContext:
    """Returns the context of the present thread."""
    return _current.get()


def bind(context: RequestContext) -> None:
    """Sets the context of this thread; from now on its log lines carry the request id (db/core/logs.py)."""
    _current.set(context)


@contextmanager
def acting_as(context: RequestContext) -> Iterator[None]:
    """Runs the block in this context: its changes are recorded as those of the context's user."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


def for_request(cause: Caused) -> AbstractContextManager[None]:
    """Runs the block in the context of the request behind `cause`, without the request's user and address."""
    return acting_as(RequestContext(cause.request_id, trace=cause.trace))
