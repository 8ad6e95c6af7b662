"""The scheduler: enqueues what has to be done regularly. Any number may run; one of them leads.

Who leads holds a lease, renews it every few seconds, and enqueues in a transaction that checks its
generation. A leader that is stopped, killed, frozen or cut off is replaced within `LEASE_S` and a look; one
that comes back after that enqueues nothing.
"""

from contextlib import suppress
from datetime import timedelta

import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from actors import (
    events,
    housekeeping,
    invariant_checks,
    payment_endings,
    payment_reconciliation,
    statement_matching,
)
from actors.jobs import TransactionalJob, enqueue, transaction
from db import heartbeats, job_journal, job_runs, leases, postgres, redis
from db.core import times
from workers import process

log = structlog.get_logger(__name__)

# How often each job is due.
JOBS: dict[TransactionalJob[[]], timedelta] = {
    payment_reconciliation.reconcile: timedelta(seconds=2),
    payment_endings.expire_requests: timedelta(minutes=1),
    events.publish_overdue: timedelta(seconds=10),
    statement_matching.start: timedelta(minutes=15),
    invariant_checks.check_invariants: timedelta(minutes=1),
    housekeeping.expire_refresh_tokens: timedelta(minutes=10),
    housekeeping.expire_one_time_tokens: timedelta(minutes=10),
    housekeeping.sum_up_refusals: timedelta(minutes=1),
    housekeeping.expire_sign_in_failures: timedelta(hours=1),
    housekeeping.expire_idempotency_keys: timedelta(hours=1),
}

LEASE = "scheduler"
# How long a leader is not replaced after its last sign of life, and how often it gives one, in seconds.
LEASE_S, _LOOK_S = 12.0, 2.0
# How long the beat may wait for Redis, in seconds: a Redis that hangs must not cost the lead.
_BEAT_TIMEOUT_S = 1.0


class Leader:
    """What this process knows of its lead: the generation of its lease, while it has one."""

    def __init__(self) -> None:
        self._generation: int | None = None

    def look(self) -> bool:
        """Renews the lease, or takes it when it is free; whether this process leads."""
        with postgres.connection():
            if self._generation is not None and not self._renew(self._generation):
                self._generation = None
            if self._generation is None:
                self._generation = leases.acquire(LEASE, leases.process_name(), LEASE_S)
        return self._generation is not None

    def _renew(self, generation: int) -> bool:
        try:
            return leases.renew(LEASE, generation, LEASE_S)
        except postgres.TRANSIENT_ERRORS as error:
            if postgres.is_unavailable(error):
                raise
            # The row is locked by a job of ours that waits to be enqueued: nobody takes the lease meanwhile.
            return True

    def holds(self) -> bool:
        """Whether it still leads, to the end of the open transaction: what it thinks may be old."""
        return self._generation is not None and leases.is_held(LEASE, self._generation)

    def resign(self) -> None:
        """Lets another lead at once."""
        if self._generation is not None:
            with postgres.connection():
                leases.release(LEASE, self._generation)
            self._generation = None


def due(job: TransactionalJob[[]], leader: Leader) -> bool:
    """Enqueues a job whose time has come; False where this process does not lead any more.

    There is one job of each name, however often its time came and nobody did it. One that is dead lives
    again, and one that failed does not wait for longer than this.
    """
    task = job.scheduled()
    with postgres.connection():
        # In a transaction of its own: while the job runs, it holds its row of the journal and then asks for
        # this one; whoever held this one and then asked for that of the journal would deadlock with it.
        with transaction():
            if not leader.holds():
                return False
            job_runs.record_enqueued(job.name, times.now())
        with transaction():
            if not leader.holds():
                return False
            job_journal.make_due(task.id)
            enqueue(task)
    return True


def try_due(job: TransactionalJob[[]], leader: Leader) -> None:
    """The same, for a thread of the clock: what goes wrong is tried again at the job's next time."""
    try:
        if not due(job, leader):
            log.warning("another scheduler leads: nothing was enqueued", name=job.name)
    except postgres.TRANSIENT_ERRORS as error:
        # The loop says that the database is away, once; else the job is being done at this moment.
        if not postgres.is_unavailable(error):
            log.info("a job is still running at its next time", name=job.name, error=str(error).strip())


def run() -> None:
    """Leads, or waits to lead, until told to end."""
    settings = process.start()
    told = process.until_stopped()
    leader = Leader()
    scheduler = BackgroundScheduler(timezone="UTC")
    for job, every in JOBS.items():
        scheduler.add_job(
            try_due,
            IntervalTrigger(seconds=int(every.total_seconds())),
            args=(job, leader),
            id=job.name,
            coalesce=True,
            max_instances=1,
            misfire_grace_time=60,
            next_run_time=times.now(),
        )
    scheduler.start(paused=True)
    client = redis.connect(settings.redis_url, timeout=_BEAT_TIMEOUT_S)
    pulse = process.Pulse("scheduler", process.HANGS_AFTER_S)
    pulse.watch()
    leads, well = False, True
    log.info("working", kind="scheduler")
    while not told.wait(_LOOK_S):
        pulse.beat()
        try:
            now = leader.look()
        except postgres.TRANSIENT_ERRORS as error:
            # Said once, not every two seconds: it may last.
            if well:
                log.warning("the database is away, waiting", kind="scheduler", error=str(error).strip())
            now, well = False, False
        else:
            if not well:
                log.info("the database is back", kind="scheduler")
            well = True
        if now != leads:
            leads = now
            (scheduler.resume if leads else scheduler.pause)()
            log.info("leading" if leads else "waiting to lead", kind="scheduler")
        heartbeats.beat(client, ["scheduler"])
    pulse.beat()
    scheduler.shutdown(wait=True)
    with suppress(*postgres.TRANSIENT_ERRORS):
        leader.resign()
    heartbeats.leave(client, ["scheduler"])


if __name__ == "__main__":
    run()
