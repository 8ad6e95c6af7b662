"""How operators see and repair jobs, and events that a subscriber gave up."""

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

# The arguments of jobs that are shown, because they are neither secrets nor personal data. All others are
# hidden, those that a later release adds too. `id` is hidden because the token of a mailed link is derived
# from it.
SHOWN = frozenset(
    """again answer attempt_id customer_id day inquiry news payment_id
    purpose reason run to_payee user_id vendor_id""".split()
)
# Arguments that are shown for one job, because they are personal data in others.
_SHOWN_IN = {"housekeeping.check_invariant": "name"}

# Dead jobs that one transaction retries; and events that one request retries, each in a transaction.
RETRY_BATCH, MISSED_EVENTS_AT_ONCE = 1_000, 1_000


class JobNotFailed(DomainError, code=ErrorCode.INVALID_TRANSITION):
    """This job is {state}. Only a job that failed or is dead can be retried."""


class JobNotDead(DomainError, code=ErrorCode.INVALID_TRANSITION):
    """This job is {state}. Only a dead job can be dropped."""


def shown_arguments(job_name: str, args: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a job by their names in the API, with a text in place of each hidden value."""
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
    """Calls `repair` and audits it as `action`. Raises NotFound, or `refused` if it left the job alone."""
    with postgres.connection(), transaction():
        name = repair(id)
        if name is None:
            job = listed_jobs.find(id)
            if job is None:
                raise NotFound(thing="job")
            # A job that could be repaired was left alone: a worker or another operator has its row locked.
            state = "running" if job.state in repairable else job.state
            raise refused({"state": state}, state=state)
        audit.record(action, resource=("job", id), details={"job": name})


def retry_dead(name: str | None = None) -> int:
    """Gives all dead jobs, or those of one name, a new set of attempts; returns how many.

    Each RETRY_BATCH of them has a transaction and an audit entry: after an error, those before stay retried.
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
    """Handles an event that a subscriber gave up; returns how many events were handled, and how many failed.

    (0, 0) if another process has the event. Raises NotFound if no such subscriber exists, or none of that
    name gave this event up.
    """
    with postgres.connection():
        if not subscriptions.is_missed(name, seq):
            raise NotFound(thing="missed event")
        return _retry_missed(_subscriber(name), [seq])


def retry_missed_events(name: str) -> tuple[int, int]:
    """Handles events that a subscriber gave up, oldest first; returns how many succeeded and how many failed.

    Later events were handled before them. Raises NotFound if no such subscriber exists.
    """
    subscriber = _subscriber(name)
    with postgres.connection():
        return _retry_missed(subscriber, subscriptions.missed(name, MISSED_EVENTS_AT_ONCE))


def _retry_missed(subscriber: Subscriber, seqs: Sequence[int]) -> tuple[int, int]:
    outcomes = [handle_missed(subscriber, seq) for seq in seqs]
    return outcomes.count(True), outcomes.count(False)


def handle_missed(subscriber: Subscriber, seq: int) -> bool | None:
    """Handles an event that this subscriber gave up, out of order; returns whether that succeeded.

    An event whose handler fails again stays given up. Returns None if another process has the event at this
    moment, or has handled it: that is no failure.
    """
    try:
        with transaction():
            event = subscriptions.claim_missed(subscriber.name, seq)
            if event is None:
                return None
            subscriber.handle(event)
            audit.record(
                AuditAction.EVENTS_REPLAYED,
                resource=("event", event.id),
                details={"subscriber": subscriber.name, "seq": seq},
            )
    except postgres.TRANSIENT_ERRORS:
        raise
    except Exception as error:
        log.error("event given up again", subscriber=subscriber.name, seq=seq, exc_info=error)
        subscriptions.record_missed_again(subscriber.name, seq, failure_text(error))
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
    for subscriber in event_handlers.SUBSCRIBERS:
        if subscriber.name == name:
            return subscriber
    raise NotFound(thing="subscriber")
