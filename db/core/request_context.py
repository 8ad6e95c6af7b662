"""Where a change comes from: the request that caused it, who made it and from where."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from uuid import UUID

import structlog


@dataclass(frozen=True)
class Origin:
    """All None for what nobody asked for, as a scheduled job."""

    request_id: str | None = None
    user_id: UUID | None = None
    ip_address: str | None = None
    user_agent: str | None = None


NOWHERE = Origin()

_current: ContextVar[Origin] = ContextVar("origin", default=NOWHERE)


def current() -> Origin:
    """Where the work in hand comes from."""
    return _current.get()


def set(origin: Origin) -> None:
    """From here on this is where it comes from; the log lines carry its request id."""
    _current.set(origin)
    structlog.contextvars.bind_contextvars(request_id=origin.request_id)


@contextmanager
def of(request_id: str | None) -> Iterator[None]:
    """Work that an actor does for a request: the id goes along; the person and the address do not."""
    token = _current.set(Origin(request_id))
    with structlog.contextvars.bound_contextvars(request_id=request_id):
        try:
            yield
        finally:
            _current.reset(token)


@contextmanager
def acting(origin: Origin) -> Iterator[None]:
    """Work that an actor does for a person, who is answerable for it."""
    with of(origin.request_id):
        token = _current.set(origin)
        try:
            yield
        finally:
            _current.reset(token)
