"""What is expensive to answer is made by few at once: other requests must find a thread and a connection.

A request that waits for its turn holds no connection, and most wait only briefly: a process has few threads.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from falcon import Request

from api.http import idle
from db.core.errors import DomainError, ErrorCode

# How long a request waits for its turn, in seconds; and how long while PATIENT others wait already.
TURN_S, CROWDED_TURN_S = 2.0, 0.25
# Requests of one process that may wait so long, whatever for.
PATIENT = 4

T = TypeVar("T")
_patient = threading.BoundedSemaphore(PATIENT)


class Busy(DomainError):
    """Too many such answers are being made just now."""

    code = ErrorCode.SERVICE_UNAVAILABLE
    retry_after = 5


class Seats:
    """So many at once."""

    def __init__(self, many: int) -> None:
        self._free = threading.BoundedSemaphore(many)

    @contextmanager
    def one(self, req: Request) -> Iterator[None]:
        """Takes a seat while the block runs. Raises Busy."""
        with idle.released(req):
            _take(self._free)
        try:
            yield
        finally:
            self._free.release()


@dataclass(frozen=True)
class _Made(Generic[T]):
    began: float
    fresh_until: float
    result: T


class Shared(Generic[T]):
    """One at a time, and its result is that of all who asked before it began.

    A result serves also those who ask later, for as many seconds as `fresh` says, given those that it took.
    """

    def __init__(self, make: Callable[[], T], *, fresh: Callable[[float], float] = lambda _took: 0.0) -> None:
        self._make, self._fresh = make, fresh
        self._free = threading.BoundedSemaphore(1)
        self._last: _Made[T] | None = None

    def get(self) -> T:
        """The result, of this or another's making. The caller holds no connection. Raises Busy."""
        asked = time.monotonic()
        if (last := self._last) and asked < last.fresh_until:
            return last.result
        _take(self._free)
        try:
            last = self._last
            if last and (last.began >= asked or time.monotonic() < last.fresh_until):
                return last.result
            began = time.monotonic()
            result = self._make()
            ended = time.monotonic()
            self._last = _Made(began, ended + self._fresh(ended - began), result)
            return result
        finally:
            self._free.release()

    def answer(self, req: Request) -> T:
        """The same, for a request that has a connection and gives it back as long as it waits."""
        with idle.released(req):
            return self.get()


def _take(free: threading.Semaphore) -> None:
    if free.acquire(blocking=False):
        return
    patient = _patient.acquire(blocking=False)
    try:
        if not free.acquire(timeout=TURN_S if patient else CROWDED_TURN_S):
            raise Busy
    finally:
        if patient:
            _patient.release()
