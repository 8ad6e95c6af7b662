"""GET /admin/audit-logs/export and GET /admin/audit-logs/:id: entries with what their hashes are made of."""

import tempfile
from contextlib import nullcontext
from threading import BoundedSemaphore
from typing import IO, Annotated, cast
from uuid import UUID

from falcon import Request
from pydantic import Field
from pydantic_core import to_json

from api.admin.schemas import AuditLogEntry
from api.http.admission import Busy, seat
from api.http.fields import Digits, Query
from api.http.operation import Download, Operation
from api.security.permissions import Permission
from db import audit_chain, audit_log
from db.core.errors import NotFound

NDJSON = "application/x-ndjson"
# Exports that one process writes at once; how much of one stays in memory before it goes to the disk.
_seats = BoundedSemaphore(1)
_MEMORY_LIMIT_BYTES = 1024 * 1024
MAX_ENTRIES = 100_000
# An export of so many entries waits for no other one.
_SMALL = 1_000


class AuditExportQuery(Query):
    """`after` is the `seq` of the last entry that was exported before, 0 for none."""

    after: Annotated[int, Digits] = Field(0, ge=0, le=2**62)
    limit: Annotated[int, Digits] = Field(MAX_ENTRIES, ge=1, le=MAX_ENTRIES)


class ChainedAuditLogEntry(AuditLogEntry):
    """An audited action with its place in the hash chain. Both are null in a row that was forged."""

    seq: Annotated[int | None, Field(examples=[1024])]
    hash: Annotated[str | None, Field(examples=["9f86d081884c7d659a2feaa0c55ad015"])]


class AuditExport:
    """GET /admin/audit-logs/export."""

    @Operation(Permission.OPERATE, "Audit log.", name="exportAuditLogs", errors=(Busy,), downloads=NDJSON)
    def on_get(self, _req: Request, query: AuditExportQuery) -> Download:
        """Export audit log entries with their hashes.

        JSON lines, oldest first. The first line is `{"start": {"seq", "hash"}}`: where the chain continues.
        Each entry has the fields of `AuditLogEntry`, its `seq`, its `hash`, and as `entry` the text that is
        hashed: `hash` is the SHA-256 of the hash before (32 bytes) followed by `entry` in UTF-8. The last one
        is `{"end": {"seq", "hash", "rows"}, "seal": {"seq", "hash"}}`; where they differ, more entries follow
        `end.seq`. `docs/operations/verify_audit.py` verifies such a file.
        """
        with seat(_seats) if query.limit > _SMALL else nullcontext():
            return _download(query.after, query.limit)


def _download(after: int, limit: int) -> Download:
    """Writes the whole file before a byte is sent, so that a slow client holds no database connection."""
    file = cast(IO[bytes], tempfile.SpooledTemporaryFile(_MEMORY_LIMIT_BYTES))  # noqa: SIM115
    try:
        # The seal first: entries that are appended meanwhile are not in this export.
        seal = audit_chain.seal()
        last, rows = audit_chain.Seal(after, audit_chain.hash_until(after)), 0
        file.write(to_json({"start": last}) + b"\n")
        for entry in audit_chain.export(after, seal.seq, limit):
            file.write(entry["line"].encode() + b"\n")
            last, rows = audit_chain.Seal(entry["seq"], entry["hash"]), rows + 1
        end = {"seq": last.seq, "hash": last.hash, "rows": rows}
        file.write(to_json({"end": end, "seal": seal}) + b"\n")
    except BaseException:
        file.close()
        raise
    length = file.tell()
    file.seek(0)
    return Download(file, length, NDJSON, f"audit-log-{after}-{last.seq}.ndjson")


class OneAuditLogEntry:
    """GET /admin/audit-logs/:id."""

    @Operation(Permission.OPERATE, "Audit log entry.", name="getAuditLogEntry", errors=(NotFound,))
    def on_get(self, _req: Request, entry_id: UUID) -> ChainedAuditLogEntry:
        """Get an audit log entry with its place in the hash chain."""
        entry = audit_log.find(entry_id)
        if entry is None:
            raise NotFound(thing="audit log entry")
        return ChainedAuditLogEntry.from_record(entry, hash=entry.hash and bytes(entry.hash).hex())
