"""`Prefer: wait=N` (RFC 7240): the answer waits until the actors are done, for so many seconds at most.

Who waits holds no database connection and asks seldom; and only so many may wait, so that there is always
somebody at the door. One too many, or one too long, gets the plain answer, as the RFC allows.
"""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from uuid import UUID

from falcon import Request

from api.gateway.idempotency import Written
from db import postgres

HEADER, APPLIED = "Prefer", "Preference-Applied"
# How many requests of one process may wait at once; api.gunicorn has more threads than that.
SEATS = 16

_LONGEST = 10
# In seconds: how long after the first question the second is asked, and the longest pause between two.
_SOON, _SELDOM = 0.02, 0.5

_WAIT = re.compile(r'\s*wait\s*=\s*("?)0*([0-9]+)\1\s*(;.*)?', re.IGNORECASE)
_seats = threading.BoundedSemaphore(SEATS)

T = TypeVar("T")


def seconds(req: Request) -> int:
    """How long the caller would wait; 0 when not at all. Of two wishes the first one counts (RFC 7240, 2)."""
    for preference in (req.get_header(HEADER) or "").split(","):
        if found := _WAIT.fullmatch(preference):
            return min(int(found[2][:3]), _LONGEST)
    return 0


def settled(
    req: Request, written: Written, ask: Callable[[UUID], dict[str, Any] | None]
) -> dict[str, Any] | None:
    """What the thing is when it is settled, if the caller wants to wait for it and that is soon enough."""
    if not (patience := seconds(req)):
        return None
    try:
        return until(req, lambda: ask(written.id), patience)
    except postgres.Unreachable:
        # What was accepted is accepted.
        return None


def until(req: Request, ask: Callable[[], T | None], patience: float) -> T | None:
    """Asks again and again until there is an answer or patience ends; not at all, where all seats are
    taken. No connection is held between."""
    if not _seats.acquire(blocking=False):
        return None
    deadline = time.monotonic() + patience
    pause = _SOON
    try:
        with _released(req):
            while True:
                with postgres.connection():
                    answer = ask()
                if answer is not None or time.monotonic() + pause > deadline:
                    return answer
                time.sleep(pause)
                pause = min(pause * 1.5, _SELDOM)
    finally:
        _seats.release()


@contextmanager
def _released(req: Request) -> Iterator[None]:
    """Gives the connection back that the gate took for this request, as long as the block runs."""
    if not getattr(req.context, "opened", False):
        yield
        return
    postgres.database.close()
    req.context.opened = False
    try:
        yield
    finally:
        req.context.opened = postgres.database.connect(reuse_if_open=True)
