"""The records of a transaction, its audit entries and its events: one job for all, appended by one writer."""

from collections.abc import Sequence
from typing import Any

from actors import jobs
from actors.batch_jobs import BatchEntry, batch_job
from db import audit_chain, event_log


class Records(BatchEntry):
    """The audit entries and the events of one transaction, as column values, each in their order."""

    # Not validated again: what the release before enqueued, and what a later one does, is written as it is.
    audit_entries: list[dict[str, Any]]
    events: list[dict[str, Any]]


@batch_job("records.append", Records, queue="events", ordered=True)
def append(transactions: Sequence[Records]) -> None:
    """Appends the records of transactions to the audit log and the event log, in the order of enqueueing.

    In order, so the only writer of both logs: it chains audit entries and gives events their numbers.
    """
    audit_chain.append([entry for records in transactions for entry in records.audit_entries])
    event_log.append([event for records in transactions for event in records.events])


def add_audit_entry(entry: dict[str, Any]) -> None:
    """Adds an audit entry to the records of the open transaction."""
    _of_open_transaction()["audit_entries"].append(entry)


def add_event(event: dict[str, Any]) -> None:
    """Adds an event to the records of the open transaction."""
    _of_open_transaction()["events"].append(event)


def _of_open_transaction() -> dict[str, Any]:
    """Returns the arguments of the transaction's one job. They grow until the transaction inserts it."""
    job = jobs.find_enqueued(append.name)
    if job is None:
        job = append.job(Records(audit_entries=[], events=[]))
        jobs.enqueue(job)
    return job.args
