"""The scheduler process: enqueues the periodic jobs. Any number of them may run; one of them is the leader.

The leader holds a lease, renews it every few seconds, and enqueues in transactions that check its generation.
A leader that is stopped, killed, frozen or disconnected is replaced after `LEASE_S` and one check; if it
comes back later, it enqueues nothing.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.schedulers.base import STATE_RUNNING

from actors import (
    events,
    housekeeping,
    invariant_checks,
    payment_endings,
    payment_reconciliation,
    statement_matching,
)
from actors.jobs import TransactionalJob, enqueue, transaction
from db import job_journal, job_runs, leases, payments_in_progress, postgres, redis, samples, shared_counts
from db.core import times
from workers import process

log = structlog.get_logger(__name__)

# How often each job runs.
JOBS: dict[TransactionalJob[[]], timedelta] = {
    payment_reconciliation.reconcile: timedelta(seconds=10),
    payment_endings.expire_requests: timedelta(minutes=1),
    events.publish_overdue: timedelta(seconds=10),
    statement_matching.start: timedelta(minutes=15),
    invariant_checks.check_invariants: timedelta(minutes=1),
    housekeeping.expire_refresh_tokens: timedelta(minutes=10),
    housekeeping.expire_one_time_tokens: timedelta(minutes=10),
    housekeeping.sum_up_refusals: timedelta(minutes=1),
    housekeeping.expire_sign_in_failures: timedelta(hours=1),
    housekeeping.expire_idempotency_keys: timedelta(hours=1),
    housekeeping.close_days: timedelta(minutes=10),
    housekeeping.expire_samples: timedelta(hours=1),
}

# How often the scheduler checks whether a payment needs reconciliation. Mostly none does, and the job would
# write something all the same.
RECONCILE_CHECK_S = 2

# How long the lease lasts after it was last renewed, and how often it is renewed.
LEASE_S = 12.0
_RENEW_EVERY_S = 4.0


class Leader:
    """The leadership of this process: the generation of its lease, while it holds one."""

    def __init__(self) -> None:
        self._generation: int | None = None

    def check(self) -> bool:
        """Renews the lease, or takes it if it is free; returns whether this process is the leader."""
        with postgres.connection():
            if self._generation is not None and not self._renew(self._generation):
                self._generation = None
            if self._generation is None:
                self._generation = leases.acquire(leases.SCHEDULER, leases.process_name(), LEASE_S)
        return self._generation is not None

    def _renew(self, generation: int) -> bool:
        """Renews the lease; returns whether this process still holds it."""
        try:
            return leases.renew(leases.SCHEDULER, generation, LEASE_S)
        except postgres.TRANSIENT_ERRORS as error:
            if isinstance(error, postgres.DatabaseUnavailable):
                raise
            # Our own transaction, waiting to enqueue a job, has locked the row. Nobody can take the lease
            # meanwhile.
            return True

    def is_leading(self) -> bool:
        """Returns whether this process is the leader until the end of the open transaction."""
        return self._generation is not None and leases.is_held(leases.SCHEDULER, self._generation)

    def resign(self) -> None:
        """Releases the lease, so that another process leads at once."""
        if self._generation is not None:
            with postgres.connection():
                leases.release(leases.SCHEDULER, self._generation)
            self._generation = None


def enqueue_scheduled(job: TransactionalJob[[]], leader: Leader) -> bool:
    """Enqueues a periodic job; returns False if this process is no longer the leader.

    The journal has one such job of each kind, however often it was enqueued and not done. A dead one gets new
    attempts, and one that failed becomes due.
    """
    scheduled = job.scheduled()
    with postgres.connection(), transaction():
        if not leader.is_leading():
            return False
        job_runs.record_enqueued(job.name)
        job_journal.make_due(scheduled.id)
        enqueue(scheduled)
    return True


def _try_enqueue(
    job: TransactionalJob[[]], leader: Leader, is_needed: Callable[[], bool] = lambda: True
) -> None:
    """Enqueues a periodic job in a thread of APScheduler. After an error, the next run tries again."""
    try:
        with postgres.connection():
            if not is_needed():
                return
        if not enqueue_scheduled(job, leader):
            log.warning("job not enqueued, another scheduler is the leader", job=job.name)
    except postgres.TRANSIENT_ERRORS as error:
        # An unavailable database is logged by `run`. Otherwise the job is running, and its row is locked.
        if not isinstance(error, postgres.DatabaseUnavailable):
            log.info("job still running at its next time", job=job.name, error=str(error).strip())


def record_sample(client: redis.Client) -> None:
    """Records the sample of the 15 seconds that have ended last, in a thread of APScheduler.

    This is not a job: samples are needed most when no worker is there to perform jobs.
    """
    try:
        counts = shared_counts.take_recent(client)
    except redis.Unreachable:
        counts = None
    try:
        with postgres.connection():
            samples.record(counts, samples.last_end(times.now()))
    except postgres.TRANSIENT_ERRORS as error:
        log.warning("no sample", error=str(error).strip())


def run() -> None:
    """Enqueues periodic jobs while this process is the leader, until it is stopped."""
    client = redis.connect(process.start("scheduler").redis_url)
    stopped = process.until_stopped()
    leader = Leader()
    scheduler = _scheduler_of(leader, client)
    scheduler.start(paused=True)

    def lead() -> bool:
        is_leading = False
        try:
            is_leading = leader.check()
        finally:
            _resume_or_pause(scheduler, is_leading)
        # There is never more to do at once: rest after each pass.
        return False

    process.repeat("scheduler", lead, client, stopped, rest=lambda stopped: stopped.wait(_RENEW_EVERY_S))
    scheduler.shutdown(wait=True)
    with suppress(*postgres.TRANSIENT_ERRORS):
        leader.resign()


def _scheduler_of(leader: Leader, client: redis.Client) -> BackgroundScheduler:
    """Returns a scheduler, not started, that enqueues the periodic jobs and records the samples."""
    scheduler = BackgroundScheduler(timezone="UTC")
    for job, every in JOBS.items():
        scheduler.add_job(
            _try_enqueue,
            "interval",
            seconds=int(every.total_seconds()),
            args=(job, leader),
            id=job.name,
            coalesce=True,
            misfire_grace_time=60,
            next_run_time=times.now(),
        )
    scheduler.add_job(
        _try_enqueue,
        "interval",
        seconds=RECONCILE_CHECK_S,
        args=(payment_reconciliation.reconcile, leader, payments_in_progress.may_need_reconciliation),
        coalesce=True,
        misfire_grace_time=RECONCILE_CHECK_S,
    )
    scheduler.add_job(
        record_sample,
        "cron",
        second=f"{samples.DELAY_S}-59/{samples.INTERVAL_S}",
        args=(client,),
        id="samples",
        # A process that was frozen must not take the counts of the next sample.
        misfire_grace_time=samples.DELAY_S,
    )
    return scheduler


def _resume_or_pause(scheduler: BackgroundScheduler, is_leading: bool) -> None:
    """Resumes the scheduler when this process becomes the leader, and pauses it when it no longer is."""
    if is_leading and scheduler.state != STATE_RUNNING:
        scheduler.resume()
        log.info("leading", kind="scheduler")
    elif not is_leading and scheduler.state == STATE_RUNNING:
        scheduler.pause()
        log.info("waiting to lead", kind="scheduler")


if __name__ == "__main__":
    process.refuse_arguments("workers.scheduler")
    run()
