"""GET /admin/audit-logs, GET /admin/audit-logs/verify."""

from uuid import UUID

from falcon import Request

from actors import audit
from api.admin import schemas
from api.http.admission import Busy, Shared
from api.http.operation import Operation
from api.security.permissions import Permission
from db import audit_chain, audit_log, invariants, postgres
from db.core import times
from db.core.errors import DomainError, ErrorCode

# A longer audit log is not verified whole for a response. A row takes about 7 µs.
MAX_ROWS_VERIFIED_AT_ONCE = 200_000


class AuditLogs:
    """GET /admin/audit-logs."""

    @Operation(Permission.OPERATE, "Audit log.", name="listAuditLogs")
    def on_get(self, _req: Request, query: schemas.AuditQuery) -> schemas.AuditLogPage:
        """List audit log entries.

        Newest first.
        """
        page = audit_log.page(
            user_id=query.user_id,
            action=query.action,
            resource_type=query.resource_type,
            resource_id=query.resource_id,
            from_=query.from_,
            to=query.to,
            limit=query.limit,
            after=query.after,
        )
        return schemas.AuditLogPage.of(page, schemas.AuditLogEntry.model_validate)


class NotVerifiedYet(DomainError, code=ErrorCode.SERVICE_UNAVAILABLE, retry_after=60):
    """The audit log is long and its first verification has not finished. Try again in a minute."""


class AuditVerification:
    """GET /admin/audit-logs/verify."""

    def __init__(self) -> None:
        self._shared = Shared(_verify)

    @Operation(Permission.OPERATE, "Verified.", name="verifyAuditLogs", errors=(NotVerifiedYet, Busy))
    def on_get(self, _req: Request) -> schemas.AuditLogVerification:
        """Verify the audit log.

        Names the first row that was changed, inserted or removed behind the application's back, the newest
        row included. Up to 200,000 rows are verified for the response. Of a longer log only the rows since
        the last minute are; the result for the others is that of the last verification of the whole log,
        which runs daily and after `POST /admin/invariants` (see `audit_log_is_intact` there).
        """
        return self._shared.get()


def _verify() -> schemas.AuditLogVerification:
    with postgres.connection():
        if audit_chain.approximate_length() > MAX_ROWS_VERIFIED_AT_ONCE:
            return _last_verification()
        verification = audit.verify()
        return _result(verification.rows, verification.broken)


def _last_verification() -> schemas.AuditLogVerification:
    position = audit_chain.load_position(audit_chain.NEWEST)
    statuses = {status.name: status for status in invariants.statuses(times.now())}
    whole = statuses[invariants.WHOLE_AUDIT_LOG]
    if whole.count:
        row_id = UUID(whole.offenders[0]) if whole.offenders else None
        broken = audit_chain.BrokenEntry(row_id, audit_chain.ChainBreak(str(whole.reason)))
        return _result(position.rows if position else 0, broken)
    if whole.count is None or position is None:
        raise NotVerifiedYet
    newest = audit_chain.verify_next(position)
    return _result(newest.rows, newest.broken)


def _result(rows: int, broken: audit_chain.BrokenEntry | None) -> schemas.AuditLogVerification:
    first_broken = schemas.AuditLogBreak.model_validate(broken) if broken else None
    return schemas.AuditLogVerification(ok=broken is None, rows=rows, first_broken=first_broken)
