"""The records of a transaction: its audit entries and its events, which one job appends to both logs."""

from collections.abc import Sequence
from typing import Any, Literal

from actors import jobs
from actors.batch_jobs import BatchEntry, batch_job
from db import audit_chain, event_log
from db.core import request_context
from db.core.ids import uuid7


class Records(BatchEntry):
    """The audit entries and the events of one transaction, as column values, each in their order."""

    # Not validated: what an earlier or a later release has enqueued is written as it is.
    audit_entries: list[dict[str, Any]]
    events: list[dict[str, Any]]


@batch_job("records.append", Records, queue="events", ordered=True)
def append(transactions: Sequence[Records]) -> None:
    """Appends the records of transactions to the audit log and the event log, in the order of enqueueing.

    An ordered job has one writer at a time, which both logs need: it chains the entries, and numbers the
    events.
    """
    audit_chain.append([row for records in transactions for row in _rows(records, records.audit_entries)])
    event_log.append([row for records in transactions for row in _rows(records, records.events)])


def _rows(records: Records, found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the rows of records: each with a new id, and the job's request if it has none of its own."""
    cause = {"request_id": records.request_id, "trace": records.trace}
    return [{"id": uuid7(), **({} if "request_id" in record else cause), **record} for record in found]


def add(kind: Literal["audit_entries", "events"], record: dict[str, Any]) -> None:
    """Adds a record to the one job of the open transaction, which the first record enqueues."""
    job = jobs.find_enqueued(append.name)
    if job is None:
        job = append.job(Records(audit_entries=[], events=[]))
        jobs.enqueue(job)
    # A batch has the records of many requests; the job itself has the request of its first record.
    cause = request_context.current()
    own: dict[str, Any] = {}
    if (cause.request_id, cause.trace) != (job.request_id, job.trace):
        own = {"request_id": cause.request_id, **({"trace": cause.trace} if cause.trace else {})}
    # Nulls are left out: the statements that append read a missing member as null.
    job.args[kind].append({**{name: value for name, value in record.items() if value is not None}, **own})
