"""The audit log, for whoever has to know who did what; and whether it still is what was written."""

from typing import Any

from falcon import Request

from actors import audit
from api.admin import answers, shapes
from api.gateway.operation import operation
from api.policies import Permission
from api.shapes import listed
from db import admin


class AuditLogs:
    """GET /admin/audit-logs"""

    @operation(
        Permission.OPERATE,
        "Audit log.",
        name="listAuditLogs",
        asks=shapes.AuditQuery,
        gives=answers.AuditLogs,
    )
    def on_get(self, _req: Request, wish: shapes.AuditQuery) -> dict[str, Any]:
        """What was done, newest first."""
        page = admin.audit_page(wish.filter, limit=wish.limit, after=wish.place)
        return listed(page, shapes.audit_line)


class AuditVerification:
    """GET /admin/audit-logs/verify"""

    @operation(Permission.OPERATE, "Verified.", name="verifyAuditLogs", gives=answers.AuditVerification)
    def on_get(self, _req: Request) -> dict[str, Any]:
        """Whether the audit log is what the application wrote.

        If not: the first row that was changed, inserted or removed behind its back, the newest included.
        Every row is read, as of one moment: a million take some seconds.
        """
        found = audit.verify()
        broken = found.broken and {
            "id": str(found.broken.id) if found.broken.id else None,
            "reason": found.broken.how,
        }
        return {"ok": broken is None, "rows": found.rows, "firstBroken": broken}
