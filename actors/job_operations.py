"""What an operator does with jobs, and with events that a subscriber gave up; every act is audited."""

from collections.abc import Collection, Sequence
from uuid import UUID

from actors import audit, event_handlers, subscriber
from actors.jobs import transaction
from db import job_journal, postgres


def retry(ids: Collection[UUID] | None = None, *, name: str | None = None) -> int:
    """Gives dead jobs (these, those of one name, or all) a new set of attempts; returns how many."""
    with postgres.connection(), transaction():
        return _record(audit.AuditAction.JOB_RETRIED, job_journal.retry_dead(ids, name=name))


def drop(ids: Collection[UUID]) -> int:
    """Deletes dead jobs, whose work is then never done; returns how many."""
    with postgres.connection(), transaction():
        return _record(audit.AuditAction.JOB_DROPPED, job_journal.drop_dead(ids))


def _record(action: audit.AuditAction, jobs: Sequence[job_journal.JobRow]) -> int:
    for job in jobs:
        audit.record(action, resource=("job", job.id), details={"job": job.name})
    return len(jobs)


def replay_missed_events() -> int:
    """Handles the events that subscribers gave up, out of order; returns how many were handled now."""
    handled = subscriber.retry_missed(event_handlers.SUBSCRIBERS)
    if handled:
        with postgres.connection(), transaction():
            audit.record(audit.AuditAction.EVENTS_REPLAYED, details={"events": handled})
    return handled
