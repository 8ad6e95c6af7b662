"""Models of tables that the code reads and writes by named statements only."""

from typing import Any

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import packed_args, postgres
from db.event_log import Event


class Subscription(postgres.Model, table="admin.subscriptions"):
    """A subscriber's cursor."""

    name = peewee.CharField(100, primary_key=True)
    seq = peewee.BigIntegerField()
    attempts = peewee.IntegerField()
    due_at = DateTimeTZField()
    error = peewee.TextField(null=True)
    moved_at = DateTimeTZField()


class EventPublication(postgres.Model, table="admin.event_publication"):
    """How far the event log is published, and until when a process publishes."""

    id = peewee.BooleanField(primary_key=True)
    seq = peewee.BigIntegerField()
    expires_at = DateTimeTZField()


class _Args(peewee.JSONField):
    def python_value(self, value: Any) -> Any:
        return packed_args.unpack(super().python_value(value))


class JobRow(postgres.Model, table="journal.jobs"):
    """A job in the journal.

    `sent_at` is when the last message was sent; `-infinity` if none was, because the job is delayed or
    failed, and `infinity` for a job that shares its messages with all of its name.
    """

    id = peewee.UUIDField(primary_key=True)
    position = peewee.BigIntegerField()
    name = peewee.CharField(100)
    queue = peewee.CharField(50)
    args = _Args()
    request_id = peewee.CharField(128, null=True)
    trace = peewee.CharField(600, null=True)
    share = peewee.TextField(null=True)
    attempts = peewee.IntegerField()
    sent_at = DateTimeTZField()
    due_at = DateTimeTZField()
    leased_until = DateTimeTZField(null=True)
    error = peewee.TextField(null=True)
    dead_at = DateTimeTZField(null=True)
    created_at = DateTimeTZField()


class MissedEvent(
    postgres.Model, table="admin.missed_events", primary_key=peewee.CompositeKey("name", "seq")
):
    """An event that a subscriber gave up after its last attempt."""

    name = peewee.CharField(100)
    seq = peewee.BigIntegerField()
    error = peewee.TextField()
    given_up_at = DateTimeTZField()
    id = peewee.UUIDField()


class SampleRow(postgres.Model, table="admin.samples"):
    """The figures of 15 seconds."""

    at = DateTimeTZField(primary_key=True)
    counted = peewee.BooleanField()
    requests = peewee.BigIntegerField(null=True)
    errors = peewee.BigIntegerField(null=True)
    p95_ms = peewee.DoubleField(null=True)
    finished = peewee.JSONField(null=True)
    settled = peewee.BigIntegerField()
    lag_ms = peewee.BigIntegerField()


class Statement(postgres.Model, table="payments.statements"):
    """A day whose statement was matched with the payments."""

    day = peewee.DateField(primary_key=True)
    lines = peewee.IntegerField()
    differences = peewee.IntegerField()
    matched_at = DateTimeTZField()


def last_seq() -> int:
    """Returns the number of the last event; 0 when the log is empty."""
    return int(Event.select(peewee.fn.COALESCE(peewee.fn.MAX(Event.seq), 0)).scalar())
