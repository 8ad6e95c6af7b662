"""The audit log's entries: of one resource, or page by page."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import pagination, postgres


class AuditLog(postgres.Model, table="admin.audit_logs"):
    """An entry: an action of a user on a resource, with its time and the request's address and client."""

    id = peewee.UUIDField(primary_key=True)
    # No foreign key to auth.users: the log has one writer, which must not wait for the lock of a user's row.
    user_id = peewee.UUIDField(null=True)
    action = peewee.CharField(100)
    resource_type = peewee.CharField(50, null=True)
    resource_id = peewee.UUIDField(null=True)
    details = peewee.JSONField()
    ip_address = peewee.CharField(45, null=True)
    user_agent = peewee.TextField(null=True)
    request_id = peewee.CharField(128, null=True)
    created_at = DateTimeTZField()
    # The position in the chain (db/audit_chain.py); null only in a row that the application did not write.
    seq = peewee.BigIntegerField(null=True)
    hash = peewee.BlobField(null=True)


@dataclass(frozen=True)
class AuditFilter:
    """A filter for entries: every field that is set must match. `from_` is inclusive, `to` exclusive."""

    user_id: UUID | None = None
    action: str | None = None
    resource_type: str | None = None
    resource_id: UUID | None = None
    from_: datetime | None = None
    to: datetime | None = None

    def conditions(self) -> list[peewee.Node]:
        """Returns the filter as conditions of a WHERE clause."""
        return pagination.conditions(
            (self.user_id, AuditLog.user_id == self.user_id),
            (self.action, AuditLog.action == self.action),
            (self.resource_type, AuditLog.resource_type == self.resource_type),
            (self.resource_id, AuditLog.resource_id == self.resource_id),
            (self.from_, AuditLog.created_at >= self.from_),
            (self.to, AuditLog.created_at < self.to),
        )


def of_resource(resource_id: UUID) -> Sequence[AuditLog]:
    """Returns the entries about one resource, oldest first."""
    query = AuditLog.select().where(AuditLog.resource_id == resource_id)
    return list(query.order_by(AuditLog.created_at, AuditLog.id))


def page(filters: AuditFilter, *, limit: int, after: pagination.Cursor | None) -> pagination.Page[AuditLog]:
    """Returns a page of the entries that match, newest first."""
    query = AuditLog.select().where(*filters.conditions())
    return pagination.newest_page(AuditLog, [query], limit=limit, after=after)
