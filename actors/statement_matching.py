"""Fetches the PSP's statement of each day, and compares it with our payments.

start     housekeeping   after the end of the day: enqueues fetch
fetch     psp worker     fetches a part of the statement: enqueues store
store     housekeeping   stores its lines: enqueues fetch for the next part, or match
match     housekeeping   reports every difference: log, audit log, review
"""

from dataclasses import asdict
from datetime import date, timedelta

import structlog

from actors import audit, payment_reviews
from actors.external_jobs import external_job
from actors.jobs import enqueue, transactional_job
from actors.payment_reviews import NewReview
from actors.psp import provider
from actors.psp.provider import Line
from db import job_journal, statements
from db.core import times

log = structlog.get_logger(__name__)

# How long after midnight (UTC) a day is closed: payments begun before midnight are decided by then.
DAY_CLOSES_AFTER = timedelta(minutes=30)
# How many missed days one run starts.
DAYS_AT_ONCE = 100
# How many differences of a day are reported one by one. Of the others, only the number is logged.
REPORTED_ONE_BY_ONE = 100


@transactional_job("statements.start", queue="housekeeping")
def start() -> None:
    """Enqueues fetch for every closed day (UTC) that was not matched.

    After an outage there may be several such days. A day that cannot be matched does not hold up the others.
    """
    today = (times.now() - DAY_CLOSES_AFTER).date()
    for day in statements.unmatched_days(today, DAYS_AT_ONCE):
        enqueue(fetch.job(day).unique(str(day)))


@external_job("statements.fetch", queue="psp-inquiries")
def fetch(day: date, after: str | None = None) -> job_journal.Job:
    """Fetches one part of a day's statement; returns the job that stores it."""
    part = provider.chosen().statement(day, after)
    return store.job(day, list(part.lines), part.more)


@transactional_job("statements.store", queue="housekeeping")
def store(day: date, lines: list[Line], more: str | None) -> None:
    """Stores the lines of one part."""
    if lines:
        statements.add_lines([{**asdict(line), "day": day} for line in lines])
    enqueue(match.job(day).unique(str(day)) if more is None else fetch.job(day, more))


@transactional_job("statements.match", queue="housekeeping")
def match(day: date) -> None:
    """Compares a day's statement with the payments as they are now, and reports every difference."""
    if statements.is_matched(day):
        return
    differences = statements.find_differences(day)
    payment_reviews.open_reviews(
        [
            NewReview(
                difference.payment_id, difference.cause, f"the PSP's statement says: {difference.reason}"
            )
            for difference in differences
            if difference.payment_id
        ]
    )
    for difference in differences[:REPORTED_ONE_BY_ONE]:
        details = {"day": str(day), "reference": difference.reference, "reason": difference.reason}
        log.error("PSP statement differs", **details)
        resource = ("payment", difference.payment_id) if difference.payment_id else None
        audit.record(audit.AuditAction.STATEMENT_DIFFERS, resource=resource, details=details)
    lines, count = statements.mark_matched(day, len(differences)), len(differences)
    if count > REPORTED_ONE_BY_ONE:
        log.error("more PSP statement differences", day=str(day), differences=count)
    log.info("PSP statement matched", day=str(day), lines=lines, differences=count)
