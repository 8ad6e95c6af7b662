"""The records of a transaction, its audit entries and its events: one job for all, appended by one writer."""

from collections.abc import Sequence
from typing import Any, Literal

from actors import jobs
from actors.batch_jobs import BatchEntry, batch_job
from db import audit_chain, event_log
from db.core import request_context
from db.core.ids import uuid7


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
    audit_chain.append([row for records in transactions for row in _rows(records, records.audit_entries)])
    event_log.append([row for records in transactions for row in _rows(records, records.events)])


def _rows(records: Records, found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns records with what the journal need not hold: a new id, and the request that caused the job."""
    cause = {"request_id": records.request_id, "trace": records.trace}
    return [{"id": uuid7(), **({} if "request_id" in record else cause), **record} for record in found]


def add(kind: Literal["audit_entries", "events"], record: dict[str, Any]) -> None:
    """Adds a record to the arguments of the transaction's one job, which grow until it is inserted."""
    job = jobs.find_enqueued(append.name)
    if job is None:
        job = append.job(Records(audit_entries=[], events=[]))
        jobs.enqueue(job)
    # Of a transaction about many payments, a record may belong to another request than the first one.
    cause = request_context.current()
    own: dict[str, Any] = {}
    if (cause.request_id, cause.trace) != (job.request_id, job.trace):
        own = {"request_id": cause.request_id, **({"trace": cause.trace} if cause.trace else {})}
    # A missing member is null where the record is appended.
    job.args[kind].append({**{name: value for name, value in record.items() if value is not None}, **own})
