"""`Prefer: wait=N` (RFC 7240): a request waits up to N seconds, for its change to end or for a new version.

A waiting request holds neither a database connection nor a slot of the requests that execute. It polls at
growing intervals. A request that waits for its change has a slot to wait in, and reads for itself. Those of a
process that wait for a new version of a payment (long polling) share one statement: the next one that polls
reads for all. A request that finds no slot, or too many others waiting, gets the plain response, as the RFC
allows.
"""

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from falcon import Request

from api.http import admission
from api.security.permissions import Caller
from api.security.tokens import Unauthorized, UnauthorizedReason
from db import postgres, shown_payments
from db.core.errors import DomainError, ErrorCode
from db.shown_payments import ShownPayment, Watch, Watched
from db.users import Role

# Requests of one process that may wait for their change at once: their polling leaves the database to others.
WAITING_REQUESTS = 16
# Requests of one process that may wait for another version at once. The shared statement grows with them.
MAX_WAITING = 2_000
# For how long a result is shared: for this time, and for so many times as long as the statement took. The
# waiting requests then use at most a twentieth of a connection of a busy database.
_FRESH_S, _FRESH_FACTOR = 0.05, 20

_MAX_WAIT_S = 10
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.5

_WAIT = re.compile(r'\s*wait\s*=\s*(?:([0-9]{1,15})|"([0-9]{1,15})")\s*(;.*)?', re.IGNORECASE)
_slots = threading.BoundedSemaphore(WAITING_REQUESTS)

T = TypeVar("T")


class TooManyWaiting(DomainError, code=ErrorCode.SERVICE_UNAVAILABLE, retry_after=1):
    """Too many requests are waiting at the moment. Try again in a second."""


def seconds(req: Request) -> int:
    """Returns how long the client is ready to wait; 0 without `Prefer: wait`.

    The first of several `wait` preferences counts (RFC 7240, section 2).
    """
    for preference in (req.get_header("Prefer") or "").split(","):
        if found := _WAIT.fullmatch(preference):
            return min(int(found[1] or found[2]), _MAX_WAIT_S)
    return 0


def applied(req: Request) -> dict[str, str]:
    """Returns the header of a response that waited."""
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


class Watches:
    """The payments for which requests of this process wait, and what was last read about each."""

    def __init__(self) -> None:
        self._requests: Counter[Watched] = Counter()
        self._read: dict[Watched, Watch] = {}
        self._lock, self._reading = threading.Lock(), threading.Lock()
        self._fresh_until = float("-inf")

    @contextmanager
    def open(self, watched: Watched) -> Iterator[None]:
        """Includes a payment, for one session, in what is read while the block runs."""
        with self._lock:
            self._requests[watched] += 1
        try:
            yield
        finally:
            with self._lock:
                self._requests[watched] -= 1
                if not self._requests[watched]:
                    del self._requests[watched]
                    self._read.pop(watched, None)

    def is_full(self) -> bool:
        """Returns whether no further request may wait."""
        return self._requests.total() >= MAX_WAITING

    def latest(self, watched: Watched) -> Watch | None:
        """Returns what was read last, or None. First reads again, for all requests, if that is too old.

        Does not wait for another request that is reading.
        """
        if time.monotonic() >= self._fresh_until and self._reading.acquire(blocking=False):
            try:
                began = time.monotonic()
                with self._lock:
                    requested = list(self._requests)
                with postgres.connection():
                    found = shown_payments.find_watched(requested)
                with self._lock:
                    # Without payments for which no request waits any more.
                    self._read = {each: watch for each, watch in found.items() if each in self._requests}
                ended = time.monotonic()
                self._fresh_until = ended + max(_FRESH_S, (ended - began) * _FRESH_FACTOR)
            finally:
                self._reading.release()
        return self._read.get(watched)


_watches = Watches()


def wait_for_version(
    payment: ShownPayment, caller: Caller, timeout_s: float, is_awaited: Callable[[], bool]
) -> Caller:
    """Waits for another version of the payment, and returns the caller as they are by then.

    Returns without another version when the time is over, when the response is no longer awaited (the client
    has hung up, or the process stops), when the caller has another role, and at once when too many requests
    wait. Raises Unauthorized as soon as the session ends.
    """
    if _watches.is_full():
        return caller
    watched = Watched(payment.id, caller.session_id)
    ends_at, pause = time.monotonic() + timeout_s, _FIRST_PAUSE_S
    with _watches.open(watched), admission.without_connection():
        while (left := ends_at - time.monotonic()) > 0 and is_awaited():
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, _LONGEST_PAUSE_S)
            # None until another request has read what this one watches.
            if watch := _watches.latest(watched):
                if watch.role is None:
                    raise Unauthorized(UnauthorizedReason.REVOKED)
                if watch.role != caller.role:
                    return replace(caller, role=Role(watch.role))
                # Greater: what was read for another request may be older than this one's payment.
                if watch.version > payment.version:
                    return caller
    return caller
