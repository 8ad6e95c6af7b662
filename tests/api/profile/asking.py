"""What the tests of the profile ask again and again."""

from typing import Any

from falcon.testing import Result

from db import audit_log
from tests.makers import Visitor, error, work


def fields(result: Result) -> set[str]:
    assert error(result) == (400, "VALIDATION_ERROR")
    return {fault["field"] for fault in result.json["error"]["details"]["fields"]}


def audited(person: Visitor) -> list[tuple[str, dict[str, Any]]]:
    """What the audit log has of a person's profile."""
    work()
    rows = audit_log.AuditLog.select().where(audit_log.AuditLog.action.startswith("profile."))
    found = list(rows.order_by(audit_log.AuditLog.created_at))
    assert {str(row.user_id) for row in found} <= {person.user["id"]}
    assert {(row.resource_type, str(row.resource_id)) for row in found} <= {("user", person.user["id"])}
    return [(row.action, row.details) for row in found]
