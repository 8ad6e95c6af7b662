"""What operators look at: the audit log, the event log, the configuration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import peewee
from peewee import SQL
from playhouse.postgres_ext import DateTimeTZField

from db import page as pages
from db import postgres


class AuditLog(postgres.Model):
    """Who did what to what, when and from where."""

    id = peewee.UUIDField(primary_key=True, constraints=postgres.NEW_ID)
    # Refers to auth.users without a foreign key: the writer is one, and must wait for nobody's row.
    user_id = peewee.UUIDField(null=True)
    action = peewee.CharField(100)
    resource_type = peewee.CharField(50, null=True)
    resource_id = peewee.UUIDField(null=True)
    details = peewee.JSONField(constraints=[SQL("DEFAULT '{}'::jsonb")])
    ip_address = peewee.CharField(45, null=True)
    user_agent = peewee.TextField(null=True)
    request_id = peewee.CharField(128, null=True)
    created_at = DateTimeTZField()
    # Its place in the chain (db/chain.py); null only in a row that the application did not write.
    seq = peewee.BigIntegerField(null=True, constraints=[SQL("UNIQUE")])
    hash = peewee.BlobField(null=True, constraints=[SQL("CHECK (octet_length(hash) = 32)")])

    class Meta:
        schema = "admin"
        table_name = "audit_logs"


for _columns in (
    "created_at, id",
    "user_id, created_at, id",
    "action, created_at, id",
    "resource_type, created_at, id",
):
    AuditLog.add_index(
        SQL(f"CREATE INDEX audit_logs_{_columns.split(',')[0]} ON admin.audit_logs ({_columns})")
    )
AuditLog.add_index(
    SQL("CREATE INDEX audit_logs_resource_id ON admin.audit_logs (resource_id, created_at, id)")
)


class AuditSeal(postgres.Model):
    """The head of the audit log's chain, in one row: who removes the newest row has to move it, too."""

    id = peewee.BooleanField(primary_key=True, constraints=[SQL("DEFAULT true"), SQL("CHECK (id)")])
    seq = peewee.BigIntegerField()
    hash = peewee.BlobField(constraints=[SQL("CHECK (octet_length(hash) = 32)")])
    sealed_at = DateTimeTZField(constraints=postgres.CLOCK)

    class Meta:
        schema = "admin"
        table_name = "audit_seal"


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
Event.add_index(SQL("CREATE INDEX events_occurred_at ON admin.events (occurred_at)"))
Event.add_index(SQL("CREATE INDEX events_about ON admin.events ((data ->> 'id'))"))
Event.add_index(
    SQL(
        "CREATE INDEX events_customer_email ON admin.events (lower(data ->> 'customerEmail'))"
        " WHERE data ->> 'customerEmail' IS NOT NULL"
    )
)


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


@dataclass(frozen=True)
class AuditFilter:
    """Which rows of the audit log: every one that is set must match. `from_` is included, `to` is not."""

    user_id: UUID | None = None
    action: str | None = None
    resource_type: str | None = None
    resource_id: UUID | None = None
    from_: datetime | None = None
    to: datetime | None = None

    def conditions(self) -> list[peewee.Node]:
        """As the WHERE clause has them."""
        return pages.asked(
            (self.user_id, AuditLog.user_id == self.user_id),
            (self.action, AuditLog.action == self.action),
            (self.resource_type, AuditLog.resource_type == self.resource_type),
            (self.resource_id, AuditLog.resource_id == self.resource_id),
            (self.from_, AuditLog.created_at >= self.from_),
            (self.to, AuditLog.created_at < self.to),
        )


def audit_logs(resource_id: UUID) -> Sequence[AuditLog]:
    """What was done to one thing, oldest first."""
    query = AuditLog.select().where(AuditLog.resource_id == resource_id)
    return list(query.order_by(AuditLog.created_at, AuditLog.id))


def audit_page(which: AuditFilter, *, limit: int, after: pages.Place | None) -> pages.Page[AuditLog]:
    """The newest rows of the audit log that match, from `after` on."""
    query = AuditLog.select().where(*which.conditions())
    return pages.newest(AuditLog, [query], limit=limit, after=after)


def append_events(rows: Sequence[Mapping[str, Any]]) -> None:
    """Puts events at the end of the log, in the order given. The caller holds the log's lock."""
    last = last_seq()
    Event.insert_many([{**row, "seq": last + place} for place, row in enumerate(rows, 1)]).execute()


def unpublished_events(limit: int) -> Sequence[Event]:
    """The first events that have not been published, in their order."""
    query = Event.select().where(Event.published_at.is_null())
    return list(query.order_by(Event.seq).limit(limit))


def unpublished_before(moment: datetime) -> bool:
    """Whether an event that occurred before this moment has not been published yet."""
    query = Event.select().where(Event.published_at.is_null(), Event.occurred_at < moment)
    return bool(query.exists())


def mark_published(events: Sequence[Event]) -> None:
    """Remembers that these events went out. All writers lock these rows in the order of `seq`."""
    postgres.rows(
        "UPDATE admin.events SET published_at = clock_timestamp() WHERE seq = ANY(ARRAY("
        "SELECT seq FROM admin.events WHERE seq = ANY(%s) ORDER BY seq FOR NO KEY UPDATE))",
        [event.seq for event in events],
    )


def events(after: int, limit: int) -> Sequence[Event]:
    """The log from the event behind `after` on, oldest first."""
    return list(Event.select().where(Event.seq > after).order_by(Event.seq).limit(limit))


def last_seq() -> int:
    """The number of the last event in the log; 0 when it is empty."""
    return int(Event.select(peewee.fn.COALESCE(peewee.fn.MAX(Event.seq), 0)).scalar())
