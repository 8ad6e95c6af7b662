"""Where a change comes from: the request that caused it, who made it and from where."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from uuid import UUID

import structlog


@dataclass(frozen=True)
class RequestContext:
    """All None for what nobody asked for, as a scheduled job."""

    request_id: str | None = None
    user_id: UUID | None = None
    ip_address: str | None = None
    user_agent: str | None = None


EMPTY = RequestContext()

_current: ContextVar[RequestContext] = ContextVar("origin", default=EMPTY)


def current() -> RequestContext:
    """Where the work in hand comes from."""
    return _current.get()


def bind(origin: RequestContext) -> None:
    """From here on this is where it comes from; the log lines carry its request id."""
    _current.set(origin)
    structlog.contextvars.bind_contextvars(request_id=origin.request_id)


@contextmanager
def for_request(request_id: str | None) -> Iterator[None]:
    """Work that an actor does for a request: the id goes along; the person and the address do not."""
    token = _current.set(RequestContext(request_id))
    with structlog.contextvars.bound_contextvars(request_id=request_id):
        try:
            yield
        finally:
            _current.reset(token)


@contextmanager
def acting_as(origin: RequestContext) -> Iterator[None]:
    """Work that an actor does for a person, who is answerable for it."""
    with for_request(origin.request_id):
        token = _current.set(origin)
        try:
            yield
        finally:
            _current.reset(token)
