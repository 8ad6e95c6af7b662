"""Jobs that check the invariants and verify the audit log; `db.invariants` stores the results."""

import time
from datetime import timedelta
from itertools import dropwhile

import structlog

from actors import audit
from actors.external_jobs import external_job
from actors.jobs import enqueue, transactional_job
from db import audit_chain, invariants, job_journal, postgres
from db.core import times
from db.invariants import Invariant

log = structlog.get_logger(__name__)

# The time limit of one check, in seconds: shorter than the deadline of a job.
CHECK_TIMEOUT_S = 5
# For how long one job goes on to the next invariant. Checks are quick unless many payments are recent:
# mostly, one job a minute suffices instead of fifteen.
CHECK_FOR_S = 1.0
# The name of the runs that the scheduler starts.
SCHEDULED_RUN = "scheduled"
# Audit entries up to which the whole log is verified every minute; a longer log is verified once a day.
VERIFY_EVERY_MINUTE_UP_TO = 100_000
# How many steps (audit_chain.STEP_ROWS) one verification of the newest audit entries takes at most.
NEWEST_ENTRIES_STEPS = 10


@transactional_job("housekeeping.check_invariants", queue="housekeeping")
def check_invariants() -> None:
    """Enqueues a check of every invariant, and a verification of the audit log."""
    whole_log = (
        audit_chain.approximate_length() <= VERIFY_EVERY_MINUTE_UP_TO or not _whole_log_verified_today()
    )
    enqueue_checks(SCHEDULED_RUN, whole_log=whole_log)


def enqueue_checks(run: str, *, whole_log: bool) -> None:
    """Enqueues one check of every invariant; a `run` of the same name is enqueued once.

    With `whole_log` the verification of the whole audit log starts. One that has started goes on in any case.
    """
    # One job after another, each for a moment: a single job could exceed its deadline, and jobs that run at
    # the same time would delay the other jobs of the queue.
    enqueue(_check_job(invariants.names()[0], run))
    position = audit_chain.load_position(audit_chain.WHOLE)
    if whole_log or position:
        enqueue(_verify_job(position or audit_chain.CHAIN_START))


def _verify_job(position: audit_chain.ChainPosition) -> job_journal.Job:
    return verify_audit_log.job().unique(str(position.seq))


def _check_job(name: str, run: str) -> job_journal.Job:
    return check_invariant.job(name, run).unique(f"{name} {run}")


def _whole_log_verified_today() -> bool:
    checked_at = invariants.last_checked_at(invariants.WHOLE_AUDIT_LOG)
    return checked_at is not None and checked_at.date() == times.now().date()


@external_job("housekeeping.check_invariant", queue="housekeeping")
def check_invariant(name: str, run: str = SCHEDULED_RUN) -> job_journal.Job | None:
    """Checks invariants from this one on, on the rows of the last day, and stores the results together.

    After CHECK_FOR_S it returns the job that checks the next ones.
    """
    # A name of another release has no successor: the next run starts from the first invariant.
    names = list(dropwhile(lambda each: each != name, invariants.names()))
    results: list[Invariant] = []
    ends_at = time.monotonic() + CHECK_FOR_S
    with postgres.connection():
        # Each job checks at least one invariant.
        while names and (names[0] == name or time.monotonic() < ends_at):
            results += _check(names.pop(0))
        _store(*results)
    return _check_job(names[0], run) if names else None


def _check(name: str) -> list[Invariant]:
    """Returns the result of a check; an empty list for an invariant that another job checks."""
    if name in invariants.INVARIANTS:
        return [_check_rows(name)]
    return _verify_newest_entries() if name == invariants.NEWEST_AUDIT_ROWS else []


def _check_rows(name: str) -> Invariant:
    """Checks an invariant on the rows of the last day; an error is a result without a count."""
    now = times.now()
    try:
        return invariants.check(name, now, since=now - timedelta(days=1), seconds=CHECK_TIMEOUT_S)
    except Exception as error:
        if isinstance(error, postgres.DatabaseUnavailable):
            raise
        # An invariant without a result is not ok, and must not keep the others from being checked.
        timed_out = postgres.is_timeout(error)
        reason = f"the check took longer than {CHECK_TIMEOUT_S} s" if timed_out else "the check failed"
        log.error("invariant not checked", invariant=name, reason=reason, exc_info=error)
        return Invariant(name=name, offenders=[], checked_at=now, reason=reason)


def _store(*results: Invariant) -> None:
    """Saves results, and logs those with violations."""
    for result in results:
        if result.count:
            log.error(
                "invariant violated",
                invariant=result.name,
                count=result.count,
                offenders=result.offenders[:3],
            )
    invariants.save(*results)


def _verify_newest_entries() -> list[Invariant]:
    """Verifies the audit entries since the last verified position; returns the result.

    A missing newest entry is noticed within a minute, however long the log is.
    """
    position = audit_chain.load_position(audit_chain.NEWEST)
    if position is None:
        # The first verification of the whole log stores a position.
        return []
    for _ in range(NEWEST_ENTRIES_STEPS):
        step = audit_chain.verify_next(position)
        if step.broken:
            break
        audit_chain.save_position(audit_chain.NEWEST, position := step.reached)
        if step.ended:
            break
    return [_audit_result(invariants.NEWEST_AUDIT_ROWS, step)]


def _audit_result(name: str, step: audit_chain.VerificationStep) -> Invariant:
    """Returns a step of a verification as the result of an invariant."""
    result = Invariant(name=name, offenders=[], checked_at=times.now())
    if broken := step.broken:
        result.count, result.reason = 1, broken.reason
        result.offenders = [str(broken.id)] if broken.id else []
    elif step.ended:
        result.count = 0
    else:
        result.reason = "more entries were added than could be verified"
    return result


@external_job("housekeeping.verify_audit_log", queue="housekeeping")
def verify_audit_log() -> job_journal.Job | None:
    """Verifies the next entries of the audit log; returns the job that goes on, or None at the end."""
    with postgres.connection():
        step = audit_chain.verify_next(
            audit_chain.load_position(audit_chain.WHOLE) or audit_chain.CHAIN_START
        )
        if not step.ended and not step.broken:
            audit_chain.save_position(audit_chain.WHOLE, step.reached)
            return _verify_job(step.reached)
        audit.log_verification(step)
        _store(_audit_result(invariants.WHOLE_AUDIT_LOG, step))
        audit_chain.delete_position(audit_chain.WHOLE)
        if step.broken is None:
            if audit_chain.load_position(audit_chain.NEWEST) is None:
                _store(_audit_result(invariants.NEWEST_AUDIT_ROWS, step))
            audit_chain.save_position(audit_chain.NEWEST, step.reached)
    return None
