"""The reconciler: finds payments whose next job is lost, and asks the PSP about payments that are stuck.

The scheduler runs it every two seconds while there may be something to do (workers/scheduler.py).
"""

from datetime import timedelta

from actors.jobs import enqueue, transactional_job
from actors.payment_jobs import begin_job, charge, inquire, inquire_job, resolve, settle_job
from actors.psp.provider import Answer, Outcome
from db import job_journal, payments_in_progress, psp_attempts
from db.payments_in_progress import STUCK_AFTER
from db.psp_attempts import PspAttempt

# How long a payment is `pending` before its begin job counts as lost.
BEGIN_LOST_AFTER = timedelta(minutes=1)
# How long a dead job is left to an operator before it is enqueued again.
RETRY_DEAD_AFTER = timedelta(minutes=10)
# Payments of each kind in one run.
RECONCILE_BATCH = 500


@transactional_job("payments.reconcile", queue="payments")
def reconcile() -> None:
    """Enqueues settle for unsettled decisions, begin for payments never begun, inquire for stuck payments.

    Leaves out a payment whose next job is waiting: inquiries would make a long queue longer.
    """
    _enqueue_lost([_settle_job(attempt) for attempt in psp_attempts.unsettled(STUCK_AFTER, RECONCILE_BATCH)])
    _enqueue_lost(
        [begin_job(id) for id in payments_in_progress.claim_not_begun(BEGIN_LOST_AFTER, RECONCILE_BATCH)]
    )
    stuck = set(payments_in_progress.claim_stuck(RECONCILE_BATCH))
    if not stuck:
        return
    stuck -= psp_attempts.payments_with_unsettled(stuck)
    next_jobs = {
        id: {job_journal.id_for_key(job.name, str(id)) for job in (charge, resolve, inquire)} for id in stuck
    }
    waiting = job_journal.ready([job_id for job_ids in next_jobs.values() for job_id in job_ids])
    for id in stuck:
        if waiting.isdisjoint(next_jobs[id]):
            enqueue(inquire_job(id))


def _settle_job(attempt: PspAttempt) -> job_journal.Job:
    answer = Answer(Outcome(str(attempt.outcome)), attempt.code, attempt.amount, attempt.currency)
    return settle_job(attempt.payment_id, answer, attempt.id)


def _enqueue_lost(jobs: list[job_journal.Job]) -> None:
    """Enqueues those of these jobs that are not in the journal, or have been dead for RETRY_DEAD_AFTER."""
    lost = job_journal.missing([job.id for job in jobs], RETRY_DEAD_AFTER) if jobs else set()
    for job in jobs:
        if job.id in lost:
            enqueue(job)
