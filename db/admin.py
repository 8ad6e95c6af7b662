"""What operators look at: the audit log, the event log, the configuration."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import peewee
from peewee import SQL
from playhouse.postgres_ext import DateTimeTZField

from db import postgres


class AuditLog(postgres.Model):
    """Who did what to what, when and from where."""

    id = peewee.UUIDField(primary_key=True, constraints=postgres.NEW_ID)
    user_id = peewee.UUIDField(null=True, constraints=[SQL("REFERENCES auth.users (id)")])
    action = peewee.CharField(100)
    resource_type = peewee.CharField(50, null=True)
    resource_id = peewee.UUIDField(null=True)
    details = peewee.JSONField(constraints=[SQL("DEFAULT '{}'::jsonb")])
    ip_address = peewee.CharField(45, null=True)
    user_agent = peewee.TextField(null=True)
    request_id = peewee.CharField(128, null=True)
    created_at = DateTimeTZField()

    class Meta:
        schema = "admin"
        table_name = "audit_logs"


for _columns in ("created_at, id", "user_id, created_at, id", "action, created_at, id"):
    AuditLog.add_index(
        SQL(f"CREATE INDEX audit_logs_{_columns.split(',')[0]} ON admin.audit_logs ({_columns})")
    )
AuditLog.add_index(
    SQL("CREATE INDEX audit_logs_resource_id ON admin.audit_logs (resource_id, created_at, id)")
)


class Event(postgres.Model):
    """One event of the log; `seq` is its place in the order of publication, without gaps."""

    id = peewee.UUIDField(primary_key=True)
    seq = peewee.BigIntegerField(constraints=[SQL("UNIQUE")])
    type = peewee.CharField(100)
    data = peewee.JSONField()
    request_id = peewee.CharField(128, null=True)
    occurred_at = DateTimeTZField()
    published_at = DateTimeTZField(null=True)

    class Meta:
        schema = "admin"
        table_name = "events"


Event.add_index(SQL("CREATE INDEX events_unpublished ON admin.events (seq) WHERE published_at IS NULL"))


class SystemConfig(postgres.Model):
    """One setting that an operator changes while everything runs."""

    key = peewee.CharField(100, primary_key=True)
    value = peewee.JSONField()
    description = peewee.TextField(null=True)
    updated_at = DateTimeTZField(constraints=postgres.CLOCK)
    updated_by = peewee.UUIDField(null=True, constraints=[SQL("REFERENCES auth.users (id)")])

    class Meta:
        schema = "admin"
        table_name = "system_config"


def add_audit_logs(rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows of the audit log."""
    AuditLog.insert_many(rows).execute()


def audit_logs(resource_id: UUID) -> Sequence[AuditLog]:
    """What was done to one thing, oldest first."""
    query = AuditLog.select().where(AuditLog.resource_id == resource_id)
    return list(query.order_by(AuditLog.created_at, AuditLog.id))


def append_events(rows: Sequence[Mapping[str, Any]]) -> None:
    """Puts events at the end of the log, in the order given. The caller holds the log's lock."""
    last = last_seq()
    Event.insert_many([{**row, "seq": last + place} for place, row in enumerate(rows, 1)]).execute()


def unpublished_events(limit: int) -> Sequence[Event]:
    """The first events that have not been published, in their order."""
    query = Event.select().where(Event.published_at.is_null())
    return list(query.order_by(Event.seq).limit(limit))


def mark_published(events: Sequence[Event]) -> None:
    """Remembers that these events went out."""
    update = Event.update(published_at=peewee.fn.clock_timestamp())
    update.where(Event.seq.in_([event.seq for event in events])).execute()


def events(after: int, limit: int) -> Sequence[Event]:
    """The log from the event behind `after` on, oldest first."""
    return list(Event.select().where(Event.seq > after).order_by(Event.seq).limit(limit))


def last_seq() -> int:
    """The number of the last event in the log; 0 when it is empty."""
    return int(Event.select(peewee.fn.COALESCE(peewee.fn.MAX(Event.seq), 0)).scalar())
