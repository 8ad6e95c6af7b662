"""The routes under /api/admin/audit-logs: list, read, export and verify the audit log."""

from contextlib import nullcontext
from threading import BoundedSemaphore
from typing import Annotated, Any
from uuid import UUID

from falcon import Request
from pydantic import Field
from pydantic_core import to_json

from actors import audit
from actors.audit import AuditAction
from api.http.admission import Busy, Shared, slot
from api.http.fields import Digits, IdInput, Query, TimestampInput
from api.http.operation import Download, Operation, download_file
from api.http.pages import PageQuery, ResponsePage
from api.security.permissions import Permission
from db import audit_chain, audit_log, invariants, postgres
from db.audit_chain import ChainBreak
from db.core import times
from db.core.errors import DomainError, ErrorCode, NotFound
from db.core.json_model import Id, JsonModel, Timestamp

_NDJSON = "application/x-ndjson"
# Exports that one process writes at once.
_slots = BoundedSemaphore(1)
MAX_ENTRIES = 100_000
# An export of at most so many entries does not wait for another export.
_SMALL_EXPORT_ENTRIES = 1_000
# A longer audit log is not verified whole for a response. A row takes about 7 µs.
MAX_ROWS_VERIFIED_AT_ONCE = 200_000


class AuditQuery(PageQuery):
    """Filters; `from` is inclusive, `to` is exclusive."""

    user_id: IdInput | None = None
    # Not a free text: a misspelt action is refused, and not answered with an empty page.
    action: AuditAction | None = None
    resource_type: Annotated[str, Field(max_length=50, pattern="^[ -~]+$")] | None = None
    resource_id: IdInput | None = None
    from_: TimestampInput | None = Field(None, alias="from")
    to: TimestampInput | None = None


class AuditLogEntry(JsonModel):
    """An audited action: the user, the resource, the time and the client.

    `userId` is null for actions of the system. `action` is one of the filter's values, unless the row was
    written behind the application's back.
    """

    id: Id
    user_id: Id | None
    action: Annotated[str, Field(examples=["payments.payment.cancel"])]
    resource_type: Annotated[str | None, Field(examples=["payment"])]
    resource_id: Id | None
    details: Annotated[Any, Field(examples=[{"from": "pending", "to": "cancelled"}])]
    ip_address: Annotated[str | None, Field(examples=["203.0.113.7"])]
    user_agent: Annotated[str | None, Field(examples=["curl/8.5.0"])]
    request_id: Annotated[str | None, Field(examples=["019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e"])]
    created_at: Timestamp


class AuditLogPage(ResponsePage[AuditLogEntry]):
    """One page of the audit log, newest first."""


class AuditLogBreak(JsonModel):
    """The first row that is not as it was written. `id` is null if the newest row was removed."""

    id: Id | None
    reason: Annotated[ChainBreak, Field(examples=[ChainBreak.CHANGED])]


class AuditLogVerification(JsonModel):
    """Whether the hash chain is intact, over how many rows; if not, the first row at fault."""

    ok: bool
    rows: Annotated[int, Field(ge=0, examples=[1024])]
    first_broken: Annotated[AuditLogBreak | None, Field(examples=[None])]


class AuditExportQuery(Query):
    """`after` is the `seq` of the last entry that was exported before, 0 for none."""

    after: Annotated[int, Digits] = Field(0, ge=0, le=2**62)
    limit: Annotated[int, Digits] = Field(MAX_ENTRIES, ge=1, le=MAX_ENTRIES)


class ChainedAuditLogEntry(AuditLogEntry):
    """An audited action with its place in the hash chain. Both are null in a row that was forged."""

    seq: Annotated[int | None, Field(examples=[1024])]
    hash: Annotated[str | None, Field(examples=["9f86d081884c7d659a2feaa0c55ad015"])]


class NotVerifiedYet(DomainError, code=ErrorCode.SERVICE_UNAVAILABLE, retry_after=60):
    """The audit log is long and its first verification has not finished. Try again in a minute."""


@Operation(Permission.OPERATE, "Audit log.")
def list_audit_logs(_req: Request, query: AuditQuery) -> AuditLogPage:
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
    return AuditLogPage.of(page, AuditLogEntry.model_validate)


@Operation(Permission.OPERATE, "Audit log entry.", errors=(NotFound,), etag=True)
def get_audit_log_entry(_req: Request, entry_id: UUID) -> ChainedAuditLogEntry:
    """Get an audit log entry with its place in the hash chain."""
    entry = audit_log.find(entry_id)
    if entry is None:
        raise NotFound(thing="audit log entry")
    return ChainedAuditLogEntry.from_record(entry, hash=entry.hash and bytes(entry.hash).hex())


@Operation(Permission.OPERATE, "Audit log.", errors=(Busy,), downloads=_NDJSON)
def export_audit_logs(_req: Request, query: AuditExportQuery) -> Download:
    """Export audit log entries with their hashes.

    JSON lines, oldest first. The first line is `{"start": {"seq", "hash"}}`: where the chain continues.
    Each entry has the fields of `AuditLogEntry`, its `seq`, its `hash`, and as `entry` the text that is
    hashed: `hash` is the SHA-256 of the hash before (32 bytes) followed by `entry` in UTF-8. The last one
    is `{"end": {"seq", "hash", "rows"}, "seal": {"seq", "hash"}}`; where they differ, more entries follow
    `end.seq`. `docs/operations/verify_audit.py` verifies such a file.
    """
    with slot(_slots) if query.limit > _SMALL_EXPORT_ENTRIES else nullcontext():
        return _download(query.after, query.limit)


@Operation(Permission.OPERATE, "Verified.", errors=(NotVerifiedYet, Busy))
def verify_audit_logs(_req: Request) -> AuditLogVerification:
    """Verify the audit log.

    Names the first row that was changed, inserted or removed behind the application's back, the newest
    row included. Up to 200,000 rows are verified for the response. Of a longer log only the rows since
    the last minute are; the result for the others is that of the last verification of the whole log,
    which runs daily and after `POST /admin/invariants` (see `audit_log_is_intact` there).
    """
    return _verification.get()


def _download(after: int, limit: int) -> Download:
    with download_file() as file:
        # The seal first: entries that are appended meanwhile are not in this export.
        seal = audit_chain.seal()
        last, rows = audit_chain.Seal(after, audit_chain.hash_until(after)), 0
        file.write(to_json({"start": last}) + b"\n")
        for entry in audit_chain.export(after, seal.seq, limit):
            file.write(entry["line"].encode() + b"\n")
            last, rows = audit_chain.Seal(entry["seq"], entry["hash"]), rows + 1
        end = {"seq": last.seq, "hash": last.hash, "rows": rows}
        file.write(to_json({"end": end, "seal": seal}) + b"\n")
    return Download(file, _NDJSON, f"audit-log-{after}-{last.seq}.ndjson")


def _verify() -> AuditLogVerification:
    with postgres.connection():
        if audit_chain.approximate_length() > MAX_ROWS_VERIFIED_AT_ONCE:
            return _last_verification()
        verification = audit.verify()
        return _result(verification.rows, verification.broken)


_verification = Shared(_verify)


def _last_verification() -> AuditLogVerification:
    """Returns the result of the last verification of the whole log, followed by its newest rows.

    Raises NotVerifiedYet.
    """
    position = audit_chain.load_position(audit_chain.NEWEST)
    statuses = {status.name: status for status in invariants.statuses(times.now())}
    whole = statuses[invariants.WHOLE_AUDIT_LOG]
    if whole.count:
        row_id = UUID(whole.offenders[0]) if whole.offenders else None
        broken = audit_chain.BrokenEntry(row_id, ChainBreak(str(whole.reason)))
        return _result(position.rows if position else 0, broken)
    if whole.count is None or position is None:
        raise NotVerifiedYet
    newest = audit_chain.verify_next(position)
    return _result(newest.rows, newest.broken)


def _result(rows: int, broken: audit_chain.BrokenEntry | None) -> AuditLogVerification:
    first_broken = AuditLogBreak.model_validate(broken) if broken else None
    return AuditLogVerification(ok=broken is None, rows=rows, first_broken=first_broken)
