"""`Prefer: wait=N` (RFC 7240): the answer waits until the actors are done, for so many seconds at most.

Who waits holds no database connection and asks seldom; and only so many may wait, so that there is always
somebody at the door. One too many, or one too long, gets the plain answer, as the RFC allows.
"""

import re
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

from falcon import Request

from api.http import idle
from api.payments.idempotency import Written
from db import postgres
from db.core.errors import DomainError, ErrorCode

HEADER, APPLIED = "Prefer", "Preference-Applied"
# How many requests of one process may wait at once; api.gunicorn has more threads than that.
SEATS = 16

_LONGEST = 10
# In seconds: how long after the first question the second is asked, and the longest pause between two.
_SOON, _SELDOM = 0.02, 0.5

_WAIT = re.compile(r'\s*wait\s*=\s*(?:([0-9]{1,15})|"([0-9]{1,15})")\s*(;.*)?', re.IGNORECASE)
_seats = threading.BoundedSemaphore(SEATS)

T = TypeVar("T")


def seconds(req: Request) -> int:
    """How long the caller would wait; 0 when not at all. Of two wishes the first one counts (RFC 7240, 2)."""
    for preference in (req.get_header(HEADER) or "").split(","):
        if found := _WAIT.fullmatch(preference):
            return min(int(found[1] or found[2]), _LONGEST)
    return 0


class Crowded(DomainError):
    """Too many are waiting for an answer already."""

    code = ErrorCode.SERVICE_UNAVAILABLE
    retry_after = 1


def settled(
    req: Request, written: Written, ask: Callable[[UUID], dict[str, Any] | None]
) -> dict[str, Any] | None:
    """What the thing is when it is settled, if the caller wants to wait for it and that is soon enough."""
    if not (patience := seconds(req)):
        return None
    try:
        return until(req, lambda: ask(written.id), patience, seats=_seats)
    except (Crowded, *postgres.TRANSIENT_ERRORS):
        # What was accepted is accepted.
        return None


def another(req: Request, ask: Callable[[], T | None], patience: float | None = None) -> T | None:
    """What `ask` finds as soon as it finds something; None after `patience` in seconds (None: as long as the
    caller would wait), or at once where no seat is free."""
    try:
        return until(req, ask, seconds(req) if patience is None else patience, seats=_seats)
    except Crowded:
        return None


def until(
    req: Request,
    ask: Callable[[], T | None],
    patience: float,
    *,
    seats: threading.Semaphore | None = None,
) -> T | None:
    """Asks again and again until there is an answer or patience ends; no connection is held between. Raises
    Crowded where no seat is free."""
    if seats is not None and not seats.acquire(blocking=False):
        raise Crowded
    deadline = time.monotonic() + patience
    pause = _SOON
    try:
        with idle.released(req):
            while True:
                with postgres.connection():
                    answer = ask()
                left = deadline - time.monotonic()
                if answer is not None or left <= 0:
                    return answer
                time.sleep(min(pause, left))
                pause = min(pause * 1.5, _SELDOM)
    finally:
        if seats is not None:
            seats.release()
