"""The records of a transaction are one job, and many of them are written and published together."""

import threading

import pytest

from actors import audit, events, records
from actors.audit import AuditAction
from actors.events import EventType
from actors.jobs import enqueue, find_enqueued, take_enqueued, transaction
from db import audit_log, event_log, job_journal, postgres, redis
from db.core import request_context, times, trace
from db.core.ids import uuid7
from db.core.request_context import RequestContext
from db.job_journal import Job
from tests.counting import counted
from tests.tables import JobRow
from workers import main

pytestmark = pytest.mark.usefixtures("database")


def record(number: int) -> None:
    """Records what one transition of a payment records: an audit entry and two events."""
    audit.record(AuditAction.PAYMENT_COMPLETE, details={"number": number})
    events.emit(EventType.PAYMENT_UPDATED, {"number": number})
    events.emit(EventType.PAYMENT_COMPLETED, {"number": number})


def waiting() -> list[JobRow]:
    return list(JobRow.select().order_by(JobRow.position))


def append() -> None:
    """Does all jobs that wait. They are in order, so one does those before it and after it."""
    records.append.perform(waiting()[-1].id)


def written() -> tuple[list[int], list[int]]:
    """The numbers in the audit log and in the event log, in their order."""
    entries = audit_log.AuditLog.select().order_by(audit_log.AuditLog.seq)
    return (
        [entry.details["number"] for entry in entries],
        [event.data["number"] for event in event_log.after(0, 1000)],
    )


def test_all_records_of_a_transaction_are_one_job():
    with transaction():
        record(1)
        record(2)
    [job] = waiting()
    assert (job.name, len(job.args["audit_entries"]), len(job.args["events"])) == (records.append.name, 2, 4)
    append()
    assert written() == ([1, 2], [1, 1, 2, 2])


def test_records_after_the_jobs_were_taken_are_another_job():
    with transaction():
        record(1)
        taken = take_enqueued()
        assert find_enqueued(records.append.name) is None
        job_journal.insert(taken)
        record(2)
    assert [len(job.args["events"]) for job in waiting()] == [2, 2]
    append()
    assert written() == ([1, 2], [1, 1, 2, 2])


def test_a_transaction_that_rolls_back_records_nothing():
    with pytest.raises(ValueError, match="broke"), transaction():
        record(1)
        raise ValueError("it broke")
    with transaction():
        record(2)
    append()
    assert written() == ([2], [2, 2])


def test_fifty_transactions_are_written_and_published_by_seven_statements():
    for number in range(50):
        with transaction():
            record(number)
    last = waiting()[-1]
    with counted() as asked:
        records.append.perform(last.id)
    assert written() == (list(range(50)), [number for number in range(50) for _ in range(2)])
    assert event_log.unpublished(1) == []
    assert waiting() == []
    assert len(asked.statements) <= 7, asked.statements
    # The wake-up is taken back, and all events are published.
    assert len(asked.trips) <= 2


def event(status: str, version: int, **more: object) -> dict[str, object]:
    return {"id": "01a2171d-b075-73b0-90a2-11add8619865", "status": status, "version": version, **more}


@pytest.mark.parametrize("together", [True, False])
def test_a_later_event_of_a_payment_is_stored_as_what_it_changes(together):
    created = event("pending", 1, metadata={"a": 1}, failure=None)
    later = [
        event("processing", 2, metadata={"a": 1}, failure=None),
        event("failed", 3, metadata={"a": 2}, failure={"code": "declined"}),
    ]
    with request_context.acting_as(RequestContext("request-1")):
        for type, data in zip(
            [EventType.PAYMENT_CREATED, EventType.PAYMENT_UPDATED, EventType.PAYMENT_FAILED],
            [created, *later],
            strict=True,
        ):
            with transaction():
                events.emit(type, data)
            if not together:
                append()
    if together:
        append()
    assert [row["data"] for row in postgres.rows("SELECT data FROM admin.event_log ORDER BY seq")] == [
        created,
        {"status": "processing", "version": 2},
        {"status": "failed", "version": 3, "metadata": {"a": 2}, "failure": {"code": "declined"}},
    ]
    found = event_log.after(0, 10)
    assert [(each.data, each.request_id) for each in found] == [
        (data, "request-1") for data in (created, *later)
    ]
    about = postgres.rows("SELECT admin.events_about(%s) AS seq", created["id"])
    assert {row["seq"] for row in about} == {each.seq for each in found}


@pytest.mark.parametrize(
    "change", ["another request", "a member less", "another text of a number", "no first event"]
)
def test_an_event_that_is_not_a_part_of_the_first_is_stored_in_full(change):
    first = event("pending", 1, note="x")
    if change == "no first event":
        first["id"] = "another"
    second = event("processing", 2) if change == "a member less" else event("processing", 2, note="x")
    if change == "another text of a number":
        # jsonb takes them for equal.
        first["metadata"], second["metadata"] = {"a": 1}, {"a": 1.0}
    for number, (type, data) in enumerate(
        [(EventType.PAYMENT_CREATED, first), (EventType.PAYMENT_UPDATED, second)]
    ):
        request = f"request-{number}" if change == "another request" else "request-1"
        with request_context.acting_as(RequestContext(request)), transaction():
            events.emit(type, data)
    append()
    rows = postgres.rows("SELECT data, base FROM admin.event_log ORDER BY seq")
    assert [(row["data"], row["base"]) for row in rows] == [(first, None), (second, None)]


def test_the_release_before_appends_to_the_view():
    old = (
        "INSERT INTO admin.events (seq, id, type, data, request_id, trace, occurred_at)"
        " SELECT last.seq + new.ordinality, new.id, new.type, new.data, new.request_id, new.trace, new.occurred_at"
        " FROM (SELECT coalesce(max(seq), 0) AS seq FROM admin.events) AS last,"
        " jsonb_populate_recordset(NULL::admin.events, %s) WITH ORDINALITY AS new"
    )
    row = {"id": str(uuid7()), "type": EventType.PAYMENT_CREATED, "data": event("pending", 1)}
    postgres.rows(old, postgres.Json([{**row, "occurred_at": times.iso(times.now())}] * 2))
    first, second = event_log.after(0, 10)
    assert (first.data, second.seq) == (event("pending", 1), first.seq + 1)


def test_records_that_wait_since_the_release_before_are_appended_with_their_requests():
    # Without a trace; each record of another request than the first one's has its own.
    old: dict[str, list[dict[str, object]]] = {"audit_entries": [], "events": []}
    moment = times.iso(times.now())
    for number, own in enumerate([{}, {"request_id": "request-2"}]):
        event = {"type": EventType.CONFIG_UPDATED, "data": {"number": number}, "occurred_at": moment}
        old["events"].append({**event, **own})
    with transaction():
        enqueue(Job(uuid7(), records.append.name, "events", old, "request-1", shared=True))
    append()
    first, second = event_log.after(0, 1000)
    assert [first.request_id, second.request_id] == ["request-1", "request-2"]
    assert [str(event.traceparent)[3:35] for event in (first, second)] == [
        trace.id_of_request(id) for id in ("request-1", "request-2")
    ]


def test_records_enter_the_logs_while_redis_is_away(monkeypatch):
    finished = threading.Event()
    monkeypatch.setattr(records.append, "_after_commit", finished.set)
    with transaction():
        record(1)
    main.keep_appending(redis.connect("redis://127.0.0.1:1/0"), finished)
    assert written() == ([1], [1, 1])
