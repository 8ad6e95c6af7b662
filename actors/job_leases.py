"""External jobs that this process has in hand: their leases are renewed as long as their threads live.

statement_timeout (5 s) < a call's deadline < how long its lease is renewed: a thread that works has not been
replaced. No exception is thrown into a thread that takes too long (Dramatiq's TimeLimit would): it would not
reach a blocked `recv`, and could break off anywhere else. So each call to the outside has a deadline of its
own.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog

from actors import fair_share
from db import job_journal, postgres

# How long a job is not given to another after its last renewal, and how often it is renewed, in seconds.
LEASE_S, _RENEW_EVERY_S = 15.0, 4.0
# From which age on a lease is renewed, in seconds: a younger one has long to go, and its thread may be about
# to set the job aside, which it does under the lease that it knows.
_RENEWED_FROM_S = 2.0
# For how long a lease is renewed, in seconds: longer than any deadline. Who hangs beyond it is replaced.
RENEWED_FOR_S = 60.0

log = structlog.get_logger(__name__)


@dataclass
class Held:
    """A job in hand: until when its lease is known to last, and since when it is held (by a clock that nobody
    sets)."""

    task: job_journal.Job
    until: datetime
    since: float


_lock = threading.Lock()
_held: list[Held] = []


@contextmanager
def held(id: UUID) -> Iterator[job_journal.Job | None]:
    """Has an external job in hand for the block; None when it is done, dead, or in another's hands."""
    with postgres.connection():
        task = job_journal.lease(id, LEASE_S)
    if task is None:
        yield None
        return
    assert task.leased_until is not None
    mine = Held(task, task.leased_until, time.monotonic())
    with _lock:
        _held.append(mine)
    try:
        yield task
    finally:
        with _lock:
            _held.remove(mine)


def renew() -> None:
    """Renews the leases in hand, in one statement, but those that are new, or held for too long already; and
    keeps from being sent again what is set aside."""
    now = time.monotonic()
    with _lock:
        leases = {
            (it.task.id, it.until): it for it in _held if _RENEWED_FROM_S <= now - it.since < RENEWED_FOR_S
        }
    aside = fair_share.set_aside()
    if not leases and not aside:
        return
    with postgres.connection():
        if aside:
            job_journal.postpone(aside, job_journal.SET_ASIDE_S)
        renewed = job_journal.renew(list(leases), LEASE_S) if leases else {}
    for lease, until in renewed.items():
        leases[lease].until = until


def keep_renewing(ended: threading.Event) -> None:
    """The heartbeat: renews again and again until this process has nothing in hand any more."""
    well = True
    while not ended.wait(_RENEW_EVERY_S):
        try:
            renew()
        except postgres.TRANSIENT_ERRORS as error:
            # Said once, not every four seconds. Nobody else can take a lease meanwhile either.
            if well:
                log.warning("leases cannot be renewed", error=str(error).strip())
            well = False
        except Exception:
            # This thread is the only one that renews: without it every long job would be done twice.
            log.exception("leases were not renewed")
            well = False
        else:
            well = True
