"""The leases of this process's external jobs: a heartbeat renews each until the job's result is recorded.

statement_timeout (5 s) < deadline of a call < time for which a lease is renewed: while a thread works, no
other worker gets its job. Every call to the outside has a deadline of its own, because Dramatiq's TimeLimit
cannot enforce one: the exception that it throws into a thread does not reach a blocked `recv`, and could
interrupt any other line.
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
# A lease older than this is not renewed: every deadline has passed, so its thread hangs, and another worker
# may take the job.
RENEWED_FOR_S = 60.0

log = structlog.get_logger(__name__)


class HeldLease:
    """A lease that was just taken: its job, its expiry (`until`), and the monotonic time of its start."""

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
            # While the database is unavailable, no other worker can take a lease either.
            outage.began(error)
        except Exception:
            # The thread goes on: without the heartbeat every long job would be done twice.
            log.exception("leases not renewed")
        else:
            outage.ended()
