"""Leases of external jobs: held while a thread of this process works on a job, and renewed by a heartbeat.

statement_timeout (5 s) < deadline of a call < time for which a lease is renewed: a thread that still works
has not been replaced. Dramatiq's TimeLimit is not used: the exception that it throws into a thread does not
reach a blocked `recv`, and could interrupt any other line. So every call to the outside has a deadline of its
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
from actors.outages import Outage
from db import job_journal, postgres

# How long a lease lasts after it was last renewed, and how often it is renewed.
LEASE_S, _RENEW_EVERY_S = 15.0, 4.0
# A lease younger than this is not renewed: it has long to go, and its thread may be about to set the job
# aside, which needs the end of the lease as the thread knows it.
_RENEW_MIN_AGE_S = 2.0
# A lease older than this is not renewed: longer than any deadline, so its thread hangs and is to be replaced.
RENEWED_FOR_S = 60.0

log = structlog.get_logger(__name__)


@dataclass
class HeldLease:
    """The lease of a job: when it expires, and when it was taken by the monotonic clock."""

    job: job_journal.Job
    until: datetime
    since: float


_lock = threading.Lock()
_held: list[HeldLease] = []


@contextmanager
def hold(id: UUID) -> Iterator[job_journal.Job | None]:
    """Leases an external job for the block; yields None when it is done, dead, or leased already."""
    with postgres.connection():
        job = job_journal.lease(id, LEASE_S)
    if job is None:
        yield None
        return
    assert job.leased_until is not None
    lease = HeldLease(job, job.leased_until, time.monotonic())
    with _lock:
        _held.append(lease)
    try:
        yield job
    finally:
        with _lock:
            _held.remove(lease)


def renew() -> None:
    """Renews the held leases in one statement, and postpones the redelivery of jobs that are set aside."""
    now = time.monotonic()
    with _lock:
        leases = {
            (lease.job.id, lease.until): lease
            for lease in _held
            if _RENEW_MIN_AGE_S <= now - lease.since < RENEWED_FOR_S
        }
    set_aside = fair_share.waiting_ids()
    if not leases and not set_aside:
        return
    with postgres.connection():
        if set_aside:
            job_journal.postpone(set_aside, job_journal.SET_ASIDE_S)
        renewed = job_journal.renew(list(leases), LEASE_S) if leases else {}
    for key, until in renewed.items():
        leases[key].until = until


def keep_renewing(stopped: threading.Event) -> None:
    """Runs the heartbeat: calls `renew` every few seconds until the event is set."""
    outage = Outage("database", affected="leases")
    while not stopped.wait(_RENEW_EVERY_S):
        try:
            renew()
        except postgres.TRANSIENT_ERRORS as error:
            # No other worker can take a lease meanwhile either.
            outage.began(error)
        except Exception:
            # The thread goes on: without the heartbeat every long job would be done twice.
            log.exception("leases not renewed")
        else:
            outage.ended()
