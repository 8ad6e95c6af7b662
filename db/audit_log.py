"""The audit log's entries, and the counts of refusals that are to become entries."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import pagination, postgres


class AuditLog(postgres.Model, table="admin.audit_logs"):
    """An entry: an action of a user on a resource, with its time and the request's address and client."""

    id = peewee.UUIDField(primary_key=True)
    # No foreign key to auth.users: the log's only writer must not wait for the lock of a user's row.
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


# The names of actions in entries of releases before 0.2.0, by their present names: the log is append-only.
_FORMER_ACTIONS = {
    "auth.password.reset_requested": "auth.password.forgotten",
    "auth.email.verification_requested": "auth.email.verification_asked",
    "payments.transition.refused": "payments.step.refused",
    "payments.psp.already_decided": "payments.psp.decided",
}


def page(
    *,
    user_id: UUID | None,
    action: str | None,
    resource_type: str | None,
    resource_id: UUID | None,
    from_: datetime | None,
    to: datetime | None,
    limit: int,
    after: pagination.Cursor | None,
) -> pagination.Page[AuditLog]:
    """Returns a page of entries, newest first. `from_` is inclusive, `to` exclusive."""
    actions = [name for name in (action, _FORMER_ACTIONS.get(action or "")) if name]
    conditions = pagination.conditions(
        (user_id, AuditLog.user_id == user_id),
        (action, AuditLog.action.in_(actions) if len(actions) > 1 else AuditLog.action == action),
        (resource_type, AuditLog.resource_type == resource_type),
        (resource_id, AuditLog.resource_id == resource_id),
        (from_, AuditLog.created_at >= from_),
        (to, AuditLog.created_at < to),
    )
    query = AuditLog.select().where(*conditions)
    return pagination.newest_page(AuditLog, [query], limit=limit, after=after)


def find(id: UUID) -> AuditLog | None:
    """Returns an entry."""
    return AuditLog.get_or_none(AuditLog.id == id)


@dataclass(frozen=True)
class Refusals:
    """How many refusals of one kind an account had in one minute. A sum cannot flood the audit log."""

    action: str
    account: str
    minute: datetime
    count: int


COUNT_REFUSAL = """
    INSERT INTO auth.refusals AS r (action, account, minute, count) VALUES (%s, %s, %s, 1)
    ON CONFLICT (action, account, minute) DO UPDATE SET count = r.count + 1 RETURNING count
"""

POP_REFUSALS = """
    WITH popped AS (
        DELETE FROM auth.refusals WHERE (action, account, minute) IN (
            SELECT action, account, minute FROM auth.refusals WHERE minute < %s
            ORDER BY minute, account, action LIMIT %s FOR UPDATE SKIP LOCKED
        ) RETURNING action, account, minute, count
    ) SELECT * FROM popped ORDER BY minute, account, action
"""


def count_refusal(action: str, account: str, now: datetime) -> int:
    """Counts one refusal in the current minute and returns the number so far."""
    return int(postgres.value(COUNT_REFUSAL, action, account, now.replace(second=0, microsecond=0)))


def pop_refusals(before: datetime, limit: int) -> list[Refusals]:
    """Deletes and returns the oldest counts of minutes that began before this time."""
    return [Refusals(**row) for row in postgres.rows(POP_REFUSALS, before, limit)]
