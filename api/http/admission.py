"""Limits how many requests execute at once, and how many of those do expensive work.

A request that executes holds a slot and a database connection. One that waits (for another slot, a client, a
payment, a password hash) holds neither: others execute meanwhile.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Generic, TypeVar

from db import postgres
from db.core.errors import DomainError, ErrorCode

# How long a request waits for a slot, and how long while MAX_LONG_WAITS others wait already.
SLOT_WAIT_S, CROWDED_SLOT_WAIT_S = 2.0, 0.25
# Requests of one process that may wait for SLOT_WAIT_S at once, for slots of any kind.
MAX_LONG_WAITS = 4

T = TypeVar("T")
_long_waits = threading.BoundedSemaphore(MAX_LONG_WAITS)


class Busy(DomainError, code=ErrorCode.SERVICE_UNAVAILABLE, retry_after=5):
    """Too many requests of this kind are in progress. Try again later."""


# One slot for each request that may execute; None where one thread serves all requests, as in tests.
_executing: threading.BoundedSemaphore | None = None
# Whether the current request has taken a connection. False where its thread had one before, as in tests.
_connected: ContextVar[bool] = ContextVar("connected", default=False)


def execute_at_most(count: int) -> None:
    """Limits how many requests of this process execute at once. The others wait, for as long as it takes."""
    global _executing
    _executing = threading.BoundedSemaphore(count)


def executing() -> AbstractContextManager[object]:
    """Holds a slot of the requests that execute while the block runs."""
    return _executing or nullcontext()


def connect() -> None:
    """Takes a database connection for the current request. Raises a database error."""
    _connected.set(postgres.database.connect(reuse_if_open=True))


def disconnect() -> None:
    """Gives the connection of the request back, if it has one."""
    if _connected.get():
        _connected.set(False)
        postgres.database.close()


@contextmanager
def without_connection() -> Iterator[None]:
    """Lets other requests have the connection and the slot of the current request while the block runs."""
    if not _connected.get():
        yield
        return
    disconnect()
    if _executing:
        _executing.release()
    try:
        yield
    finally:
        if _executing:
            _executing.acquire()
        connect()


def waiting(seconds: float, error: type[Busy] = Busy) -> Callable[[threading.BoundedSemaphore], None]:
    """Returns a `wait` for `slot` that raises the error after this time."""

    def wait(slots: threading.BoundedSemaphore) -> None:
        if not slots.acquire(timeout=seconds):
            raise error

    return wait


def _wait_briefly(slots: threading.BoundedSemaphore) -> None:
    """Waits for a slot and takes it. Raises Busy."""
    may_wait_long = _long_waits.acquire(blocking=False)
    try:
        waiting(SLOT_WAIT_S if may_wait_long else CROWDED_SLOT_WAIT_S)(slots)
    finally:
        if may_wait_long:
            _long_waits.release()


@contextmanager
def slot(
    slots: threading.BoundedSemaphore, *, wait: Callable[[threading.BoundedSemaphore], object] = _wait_briefly
) -> Iterator[None]:
    """Holds one of the slots while the block runs. Raises what `wait` raises: Busy by default.

    Where no slot is free, `wait` takes one, and the request has no connection meanwhile.
    """
    with ExitStack() as held:
        if slots.acquire(blocking=False):
            held.callback(slots.release)
        else:
            with without_connection():
                wait(slots)
                # Before the request connects again, which may fail.
                held.callback(slots.release)
        yield


class Shared(Generic[T]):
    """Computes a value once at a time, for all requests that arrived before the computation began.

    `fresh` returns for how many seconds later requests get the same value; its argument is how many seconds
    the computation took.
    """

    def __init__(self, make: Callable[[], T], *, fresh: Callable[[float], float] = lambda _took: 0.0) -> None:
        self._make, self._fresh = make, fresh
        self._free = threading.BoundedSemaphore(1)
        # When the last computation began, until when its value is fresh, and the value.
        self._last: tuple[float, float, T] | None = None

    @without_connection()
    def get(self) -> T:
        """Returns the value. The current request gives its connection back meanwhile. Raises Busy."""
        arrived = time.monotonic()
        if self._last and arrived < self._last[1]:
            return self._last[2]
        with slot(self._free):
            if self._last and (self._last[0] >= arrived or time.monotonic() < self._last[1]):
                return self._last[2]
            began = time.monotonic()
            value = self._make()
            ended = time.monotonic()
            self._last = began, ended + self._fresh(ended - began), value
            return value
