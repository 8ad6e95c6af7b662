"""The audit log, for whoever has to know who did what; and whether it still is what was written."""

from typing import Any
from uuid import UUID

from falcon import Request

from actors import audit
from api.admin import answers, schemas
from api.http.admission import Busy, Shared
from api.http.fields import page_of_items
from api.http.operation import operation
from api.security.permissions import Permission
from db import audit_chain, audit_log, invariants, postgres
from db.core import times
from db.core.errors import DomainError, ErrorCode


class AuditLogs:
    """GET /admin/audit-logs"""

    @operation(
        Permission.OPERATE,
        "Audit log.",
        name="listAuditLogs",
        query=schemas.AuditQuery,
        response=answers.AuditLogPage,
    )
    def on_get(self, _req: Request, query: schemas.AuditQuery) -> dict[str, Any]:
        """What was done, newest first."""
        page = audit_log.page(query.filter, limit=query.limit, after=query.place)
        return page_of_items(page, schemas.audit_line)


# Rows up to which the whole log is verified for an answer, at some 7 µs a row.
VERIFIED_AT_ONCE_ROWS = 200_000


class NotVerifiedYet(DomainError):
    """The audit log is long, and its first verification is still under way."""

    code = ErrorCode.SERVICE_UNAVAILABLE
    retry_after = 60


class AuditVerification:
    """GET /admin/audit-logs/verify"""

    def __init__(self) -> None:
        self._shared = Shared(_verified)

    @operation(
        Permission.OPERATE,
        "Verified.",
        name="verifyAuditLogs",
        response=answers.AuditLogVerification,
        errors=(NotVerifiedYet, Busy),
    )
    def on_get(self, req: Request) -> dict[str, Any]:
        """Whether the audit log is what the application wrote.

        If not: the first row that was changed, inserted or removed behind its back, the newest included. The
        whole log is verified for the answer; where it has more than 200,000 rows, only those that came since
        the last minute are, and the others were at the last verification of the whole, daily or when
        `POST /admin/invariants` asked for one (`the_audit_log_is_whole` says when).
        """
        return self._shared.answer(req)


def _verified() -> dict[str, Any]:
    with postgres.connection():
        if audit_chain.approximate_length() <= VERIFIED_AT_ONCE_ROWS:
            found = audit.verify()
            return _told(found.rows, found.broken)
        return _told(*_last_verified())


def _last_verified() -> tuple[int, audit_chain.BrokenEntry | None]:
    place = audit_chain.load_position(audit_chain.NEWEST)
    known = {it.name: it for it in invariants.statuses(times.now())}
    whole = known[invariants.WHOLE_AUDIT_LOG]
    if whole.count:
        id = UUID(whole.offenders[0]) if whole.offenders else None
        return place.rows if place else 0, audit_chain.BrokenEntry(
            id, audit_chain.ChainBreak(str(whole.reason))
        )
    if whole.count is None or place is None:
        raise NotVerifiedYet
    newest = audit_chain.verify_next(place)
    return newest.rows, newest.broken


def _told(rows: int, broken: audit_chain.BrokenEntry | None) -> dict[str, Any]:
    first = {"id": str(broken.id) if broken.id else None, "reason": broken.how} if broken else None
    return {"ok": broken is None, "rows": rows, "firstBroken": first}
