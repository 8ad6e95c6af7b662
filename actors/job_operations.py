"""What an operator does with jobs, and with events that a subscriber gave up; every act is audited."""

from collections.abc import Collection
from uuid import UUID

from actors import audit, event_handlers, subscriber
from actors.jobs import transaction
from db import job_journal, postgres


def retry(ids: Collection[UUID] | None = None, *, name: str | None = None) -> int:
    """Gives dead jobs (these, those of one name, or all) a new set of attempts; returns how many."""
    with postgres.connection(), transaction():
        retried = job_journal.retry_dead(ids, name=name)
        for id, job in retried:
            audit.record(audit.AuditAction.JOB_RETRIED, resource=("job", id), details={"job": job})
    return len(retried)


def drop(ids: Collection[UUID]) -> int:
    """Deletes dead jobs, whose work is then never done; returns how many."""
    with postgres.connection(), transaction():
        dropped = job_journal.drop_dead(ids)
        for id, job in dropped:
            audit.record(audit.AuditAction.JOB_DROPPED, resource=("job", id), details={"job": job})
    return len(dropped)


def replay_missed_events() -> int:
    """Handles the events that subscribers gave up, out of order; returns how many were handled now."""
    handled = subscriber.retry_missed(event_handlers.SUBSCRIBERS)
    if handled:
        with postgres.connection(), transaction():
            audit.record(audit.AuditAction.EVENTS_REPLAYED, details={"events": handled})
    return handled
