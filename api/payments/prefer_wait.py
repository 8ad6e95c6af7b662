"""`Prefer: wait=N` (RFC 7240): a request waits up to N seconds for what it asks for.

A waiting request holds no database connection and polls at growing intervals. At most `WAITING_REQUESTS`
requests of a process wait at once, so that their polling leaves the database to the others. A request that
finds no free slot gets the plain response, as the RFC allows.
"""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from falcon import Request

from api.http import admission
from db import postgres
from db.core.errors import DomainError, ErrorCode

# Requests of one process that may wait at once.
WAITING_REQUESTS = 16

_MAX_WAIT_S = 10
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.5

_WAIT = re.compile(r'\s*wait\s*=\s*(?:([0-9]{1,15})|"([0-9]{1,15})")\s*(;.*)?', re.IGNORECASE)
_slots = threading.BoundedSemaphore(WAITING_REQUESTS)

T = TypeVar("T")


class TooManyWaiting(DomainError, code=ErrorCode.SERVICE_UNAVAILABLE, retry_after=1):
    """Too many requests are waiting at the moment. Try again in a second."""


def seconds(req: Request) -> int:
    """How long the client is ready to wait; 0 without `Prefer: wait`.

    The first of several `wait` preferences counts (RFC 7240, section 2).
    """
    for preference in (req.get_header("Prefer") or "").split(","):
        if found := _WAIT.fullmatch(preference):
            return min(int(found[1] or found[2]), _MAX_WAIT_S)
    return 0


def applied(req: Request) -> dict[str, str]:
    """The header of a response that waited."""
    return {"Preference-Applied": f"wait={seconds(req)}"}


@contextmanager
def waiting(req: Request) -> Iterator[None]:
    """Keeps the time of the block out of the request's duration in the metrics: the client asked for it."""
    began = time.monotonic()
    try:
        yield
    finally:
        req.context.waited_s = time.monotonic() - began


def poll(
    find: Callable[[], T | None], timeout_s: float, *, slots: threading.Semaphore | None = None
) -> T | None:
    """Calls `find` until it finds something or the time is over. No connection is held between two calls.

    Raises TooManyWaiting where no slot is free.
    """
    slots = slots or _slots
    if not slots.acquire(blocking=False):
        raise TooManyWaiting
    deadline = time.monotonic() + timeout_s
    pause = _FIRST_PAUSE_S
    try:
        with admission.without_connection():
            while True:
                with postgres.connection():
                    found = find()
                left = deadline - time.monotonic()
                if found is not None or left <= 0:
                    return found
                time.sleep(min(pause, left))
                pause = min(pause * 1.5, _LONGEST_PAUSE_S)
    finally:
        slots.release()


def poll_if_free(find: Callable[[], T | None], timeout_s: float) -> T | None:
    """Calls `find` as `poll` does; None at once where no slot is free."""
    try:
        return poll(find, timeout_s)
    except TooManyWaiting:
        return None
