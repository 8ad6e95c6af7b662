"""The audit rows of a user's profile."""

from typing import Any

from db import audit_log
from tests.makers import Visitor, work


def audited(user: Visitor) -> list[tuple[str, dict[str, Any]]]:
    """Returns action and details of the profile's audit rows, all of which must be the user's own."""
    work()
    rows = audit_log.AuditLog.select().where(audit_log.AuditLog.action.startswith("profile."))
    found = list(rows.order_by(audit_log.AuditLog.created_at))
    assert {str(row.user_id) for row in found} <= {user.user["id"]}
    assert {(row.resource_type, str(row.resource_id)) for row in found} <= {("user", user.user["id"])}
    return [(row.action, row.details) for row in found]
