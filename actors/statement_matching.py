"""The end of a day: the PSP's statement is fetched, and every payment matched against it.

start     housekeeping   once the day is over, promises fetch
fetch     psp worker     asks for some lines, enqueues store
store     housekeeping   writes them, promises fetch for more, or match
match     housekeeping   reports every difference: to the log, the audit log, and for review
"""

from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

import structlog

from actors import audit, payment_reviews
from actors.jobs import enqueue, external_job, transactional_job
from actors.psp import provider
from actors.psp.provider import Outcome
from db import job_journal, statements
from db.core import times

log = structlog.get_logger(__name__)

# How long after midnight a day is over: what was begun before it is decided by then.
_CLOSES = timedelta(minutes=30)
# How many days that were missed are begun with at once.
_DAYS = 100
# How many differences are told one by one; a day that differs more than that is another matter.
_ONE_BY_ONE = 100


@dataclass(frozen=True)
class Booked:
    """A line of a statement."""

    id: str
    reference: str
    amount: Decimal
    currency: str
    outcome: Outcome
    booked_at: datetime


@transactional_job("statements.start", queue="housekeeping")
def start() -> None:
    """Begins with every day (UTC) that is over and was not matched: also after a standstill, and also when
    one of them cannot be."""
    today = (times.now() - _CLOSES).date()
    for day in statements.unmatched_days(today, _DAYS):
        enqueue(fetch.job(day).unique(str(day)))


@external_job("statements.fetch", queue="psp-questions")
def fetch(day: date, after: str | None = None) -> job_journal.Job:
    """Asks for a part of a day's statement."""
    part = provider.chosen().statement(day, after)
    lines = [Booked(it.id, it.key, it.amount, it.currency, it.outcome, it.booked_at) for it in part.lines]
    return store.job(day, lines, part.more)


@transactional_job("statements.store", queue="housekeeping")
def store(day: date, lines: list[Booked], more: str | None) -> None:
    """Writes the lines down."""
    if lines:
        statements.add_lines([{**asdict(line), "day": day} for line in lines])
    enqueue(match.job(day).unique(str(day)) if more is None else fetch.job(day, more))


@transactional_job("statements.match", queue="housekeeping")
def match(day: date) -> None:
    """Compares the day's statement with the payments as they are now, and reports every difference."""
    if statements.is_matched(day):
        return
    found = statements.find_differences(day)
    payment_reviews.open_reviews(
        [(it.payment_id, it.cause, f"the PSP's statement says: {it.reason}") for it in found if it.payment_id]
    )
    for it in found[:_ONE_BY_ONE]:
        log.error("the PSP's statement differs", day=str(day), reference=it.reference, reason=it.reason)
        resource = ("payment", it.payment_id) if it.payment_id else None
        details = {"day": str(day), "reference": it.reference, "reason": it.reason}
        audit.record(audit.AuditAction.STATEMENT_DIFFERS, resource=resource, details=details)
    closed = statements.mark_matched(day, len(found))
    if len(found) > _ONE_BY_ONE:
        log.error("and many more", day=str(day), differences=len(found))
    log.info("a statement was matched", day=str(day), lines=closed.lines, differences=closed.differences)
