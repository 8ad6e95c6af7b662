"""The scheduler: promises what has to be done regularly. Any number may run; one of them leads."""

from datetime import timedelta

import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from actors import housekeeping, payments, statements
from actors.verbs import Record, promise, transaction
from db import operating, postgres, times
from db.leadership import Leadership
from workers import process

log = structlog.get_logger(__name__)

# How often each job is due.
JOBS: dict[Record[[]], timedelta] = {
    payments.reconcile: timedelta(seconds=2),
    payments.expire_requests: timedelta(minutes=1),
    statements.open: timedelta(minutes=15),
    housekeeping.check_invariants: timedelta(minutes=1),
    housekeeping.expire_refresh_tokens: timedelta(minutes=10),
    housekeeping.expire_one_time_tokens: timedelta(minutes=10),
    housekeeping.expire_sign_in_failures: timedelta(hours=1),
    housekeeping.expire_idempotency_keys: timedelta(hours=1),
}

# How often a scheduler looks whether it leads, in seconds.
_LOOK = 0.5


def due(job: Record[[]], every: timedelta) -> None:
    """Promises a job for the slot of time that has begun.

    The slot is in the promise's id: a leader that was replaced and does not know it yet promises no second
    run of what still waits to be done.
    """
    slot = int(times.now().timestamp() // every.total_seconds())
    with postgres.connection(), transaction():
        promise(job.message().once(str(slot)))
        operating.ran(job.name, times.now())


def run() -> None:
    """Leads, or waits to lead, until told to end."""
    settings = process.boot()
    told = process.until_told()
    scheduler = BackgroundScheduler(timezone="UTC")
    for job, every in JOBS.items():
        scheduler.add_job(
            due,
            IntervalTrigger(seconds=int(every.total_seconds())),
            args=(job, every),
            id=job.name,
            coalesce=True,
            max_instances=1,
            misfire_grace_time=60,
            next_run_time=times.now(),
        )
    scheduler.start(paused=True)
    leadership = Leadership(settings.database_url, "paywright.scheduler")
    leads = False
    log.info("working", kind="scheduler")
    while not told.wait(_LOOK):
        if leadership.held() != leads:
            leads = not leads
            (scheduler.resume if leads else scheduler.pause)()
            log.info("leading" if leads else "waiting to lead", kind="scheduler")
    scheduler.shutdown(wait=True)
    leadership.release()


if __name__ == "__main__":
    run()
