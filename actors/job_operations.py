"""What operators see of jobs, and do with them and with events that a subscriber gave up."""

from collections.abc import Callable, Collection, Sequence
from typing import Any
from uuid import UUID

import structlog
from pydantic.alias_generators import to_camel

from actors import audit, event_handlers
from actors.audit import AuditAction
from actors.jobs import failure_text, transaction
from actors.subscriber import Subscriber
from db import listed_jobs, postgres, subscriptions
from db.core.errors import DomainError, ErrorCode, NotFound

log = structlog.get_logger(__name__)

# Arguments of jobs that are shown: neither secrets nor personal data. Every other one is hidden, also
# one that a later release adds. `id` names a mailed link, from which the token is derived.
SHOWN = frozenset(
    """again answer attempt_id customer_id day inquiry news payment_id
    purpose reason run to_payee user_id vendor_id""".split()
)
# Names that mean something else in one job.
_SHOWN_IN = {"housekeeping.check_invariant": "name"}

# Dead jobs that one transaction retries; and events that one request retries, each in a transaction.
RETRY_BATCH, MISSED_EVENTS_AT_ONCE = 1_000, 1_000


class JobNotFailed(DomainError, code=ErrorCode.INVALID_TRANSITION):
    """This job is {state}. Only a job that failed or is dead can be retried."""


class JobNotDead(DomainError, code=ErrorCode.INVALID_TRANSITION):
    """This job is {state}. Only a dead job can be dropped."""


def shown_arguments(job_name: str, args: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a job, with a text in place of the hidden ones, and of a list its length."""
    return {to_camel(key): _shown_value(job_name, key, value) for key, value in args.items()}


def _shown_value(job_name: str, key: str, value: Any) -> Any:
    if value is None or key in SHOWN or _SHOWN_IN.get(job_name) == key:
        return value
    return f"[{len(value)} hidden]" if isinstance(value, list) else "[hidden]"


def retry(id: UUID) -> None:
    """Makes a job that failed or is dead due at once; a dead one gets a new set of attempts.

    Raises NotFound for a job that is done, JobNotFailed for one that waits or runs.
    """
    _repair(id, listed_jobs.retry, ("failed", "dead"), AuditAction.JOB_RETRIED, JobNotFailed)


def drop(id: UUID) -> None:
    """Deletes a dead job, whose work is then never done. Raises NotFound, JobNotDead."""
    _repair(id, listed_jobs.drop, ("dead",), AuditAction.JOB_DROPPED, JobNotDead)


def _repair(
    id: UUID,
    repair: Callable[[UUID], str | None],
    repairable: Collection[str],
    action: AuditAction,
    refused: type[DomainError],
) -> None:
    with postgres.connection(), transaction():
        name = repair(id)
        if name is None:
            job = listed_jobs.find(id)
            if job is None:
                raise NotFound(thing="job")
            # One that could be repaired is locked: a worker or another operator has it at this moment.
            state = "running" if job.state in repairable else job.state
            raise refused({"state": state}, state=state)
        audit.record(action, resource=("job", id), details={"job": name})


def retry_dead(name: str | None = None) -> int:
    """Gives all dead jobs, or those of one name, a new set of attempts; returns how many.

    A transaction and an audit entry for each thousand: what was retried before an error stays retried.
    """
    retried = 0
    with postgres.connection():
        start = listed_jobs.now()
    while True:
        with postgres.connection(), transaction():
            count = listed_jobs.retry_dead(name, dead_until=start, limit=RETRY_BATCH)
            if count:
                of_name = {} if name is None else {"job": name}
                audit.record(AuditAction.JOB_RETRIED, details={**of_name, "count": count})
        retried += count
        if count < RETRY_BATCH:
            return retried


def retry_missed_event(name: str, seq: int) -> tuple[int, int]:
    """Handles an event that a subscriber gave up; returns how many were handled, and failed: one or none.

    Raises NotFound for an event that was not given up, or not by a subscriber that there is.
    """
    with postgres.connection():
        if not subscriptions.is_missed(name, seq):
            raise NotFound(thing="missed event")
        return _retry_missed(_subscriber(name), [seq])


def retry_missed_events(name: str) -> tuple[int, int]:
    """Handles events that a subscriber gave up, the oldest first; returns how many were handled, and failed.

    Out of order: later events were handled before. Raises NotFound for a subscriber that there is not.
    """
    found = _subscriber(name)
    with postgres.connection():
        return _retry_missed(found, subscriptions.missed(name, MISSED_EVENTS_AT_ONCE))


def _retry_missed(found: Subscriber, seqs: Sequence[int]) -> tuple[int, int]:
    outcomes = [handle_missed(found, seq) for seq in seqs]
    return outcomes.count(True), outcomes.count(False)


def handle_missed(found: Subscriber, seq: int) -> bool | None:
    """Handles an event that this subscriber gave up, out of order; returns whether that succeeded.

    An event whose handler fails again stays given up. None where another process has the event at this
    moment, or has handled it meanwhile: that is no failure.
    """
    try:
        with transaction():
            event = subscriptions.claim_missed(found.name, seq)
            if event is None:
                return None
            found.handle(event)
            audit.record(
                AuditAction.EVENTS_REPLAYED,
                resource=("event", event.id),
                details={"subscriber": found.name, "seq": seq},
            )
    except postgres.TRANSIENT_ERRORS:
        raise
    except Exception as error:
        log.error("event given up again", subscriber=found.name, seq=seq, exc_info=error)
        subscriptions.record_missed_again(found.name, seq, failure_text(error))
        return False
    return True


def drop_missed_event(name: str, seq: int) -> None:
    """Deletes the record of an event that a subscriber gave up: it is never handled. Raises NotFound."""
    with postgres.connection(), transaction():
        event = subscriptions.claim_missed(name, seq)
        if event is None:
            raise NotFound(thing="missed event")
        audit.record(
            AuditAction.EVENT_DROPPED, resource=("event", event.id), details={"subscriber": name, "seq": seq}
        )


def _subscriber(name: str) -> Subscriber:
    for found in event_handlers.SUBSCRIBERS:
        if found.name == name:
            return found
    raise NotFound(thing="subscriber")
