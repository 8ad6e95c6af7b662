"""Leases of the jobs that this process calls the outside for: renewed by a heartbeat until they are recorded.

statement_timeout (5 s) < deadline of a call < time for which a lease is renewed: a thread that still works
has not been replaced. Dramatiq's TimeLimit is not used: the exception that it throws into a thread does not
reach a blocked `recv`, and could interrupt any other line. So every call to the outside has a deadline of its
own.
"""

import threading
import time
from collections.abc import Iterable

import structlog

from db import leased_jobs, postgres
from db.core.logs import Outage
from db.job_journal import Job

# How long a lease lasts after it was last renewed, and how often it is renewed.
LEASE_S, _RENEW_EVERY_S = 15.0, 4.0
# A lease younger than this is not renewed: most calls end before.
_RENEW_MIN_AGE_S = 2.0
# A lease older than this is not renewed: longer than any deadline, so its thread hangs and is to be replaced.
RENEWED_FOR_S = 60.0

log = structlog.get_logger(__name__)


class HeldLease:
    """The lease that was just taken of a job: when it expires, and since when it is held."""

    def __init__(self, job: Job) -> None:
        self.job, self.since = job, time.monotonic()
        assert job.leased_until
        self.until = job.leased_until


_lock = threading.Lock()
_held: set[HeldLease] = set()


def hold(leases: Iterable[HeldLease]) -> None:
    """Begins to renew these leases."""
    with _lock:
        _held.update(leases)


def drop(leases: Iterable[HeldLease]) -> None:
    """Ends the renewal of these leases."""
    with _lock:
        _held.difference_update(leases)


def renew() -> None:
    """Renews the held leases in one statement."""
    now = time.monotonic()
    with _lock:
        leases = {
            (lease.job.id, lease.until): lease
            for lease in _held
            if _RENEW_MIN_AGE_S <= now - lease.since < RENEWED_FOR_S
        }
    if not leases:
        return
    with postgres.connection():
        renewed = leased_jobs.renew(list(leases), LEASE_S)
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
