"""The audit log: the table, one resource's entries, and pages of the newest."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import pagination, postgres


class AuditLog(postgres.Model):
    """Who did what to what, when and from where."""

    id = peewee.UUIDField(primary_key=True)
    # Refers to auth.users without a foreign key: the writer is one, and must wait for nobody's row.
    user_id = peewee.UUIDField(null=True)
    action = peewee.CharField(100)
    resource_type = peewee.CharField(50, null=True)
    resource_id = peewee.UUIDField(null=True)
    details = peewee.JSONField()
    ip_address = peewee.CharField(45, null=True)
    user_agent = peewee.TextField(null=True)
    request_id = peewee.CharField(128, null=True)
    created_at = DateTimeTZField()
    # Its place in the chain (db/chain.py); null only in a row that the application did not write.
    seq = peewee.BigIntegerField(null=True)
    hash = peewee.BlobField(null=True)

    class Meta:
        schema = "admin"
        table_name = "audit_logs"


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
        return pagination.conditions(
            (self.user_id, AuditLog.user_id == self.user_id),
            (self.action, AuditLog.action == self.action),
            (self.resource_type, AuditLog.resource_type == self.resource_type),
            (self.resource_id, AuditLog.resource_id == self.resource_id),
            (self.from_, AuditLog.created_at >= self.from_),
            (self.to, AuditLog.created_at < self.to),
        )


def of_resource(resource_id: UUID) -> Sequence[AuditLog]:
    """What was done to one thing, oldest first."""
    query = AuditLog.select().where(AuditLog.resource_id == resource_id)
    return list(query.order_by(AuditLog.created_at, AuditLog.id))


def page(which: AuditFilter, *, limit: int, after: pagination.Cursor | None) -> pagination.Page[AuditLog]:
    """The newest rows of the audit log that match, from `after` on."""
    query = AuditLog.select().where(*which.conditions())
    return pagination.newest_page(AuditLog, [query], limit=limit, after=after)
