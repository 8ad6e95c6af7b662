"""The request context: which request caused a change, on behalf of which user, from which address."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True)
class RequestContext:
    """The cause of a change. All fields are None for work that no request caused, such as a scheduled job."""

    request_id: str | None = None
    user_id: UUID | None = None
    ip_address: str | None = None
    user_agent: str | None = None


EMPTY = RequestContext()

_current: ContextVar[RequestContext] = ContextVar("request_context", default=EMPTY)


def current() -> RequestContext:
    """Returns the context of the work at hand."""
    return _current.get()


def bind(context: RequestContext) -> None:
    """Sets the context of this thread; from now on its log lines carry the request id (db/core/logs.py)."""
    _current.set(context)


@contextmanager
def acting_as(context: RequestContext) -> Iterator[None]:
    """Runs the block on behalf of the user of this context, who is accountable for the change."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


def for_request(request_id: str | None) -> AbstractContextManager[None]:
    """Runs the block as a consequence of a request: with its id, without its user and address."""
    return acting_as(RequestContext(request_id))
