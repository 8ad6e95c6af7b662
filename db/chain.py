"""The chain of the audit log: each row is hashed over the one before it, and the newest is sealed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from psycopg2.extras import Json

from db import postgres

# How long the database may take for a thousand rows, in seconds: a plan that sorts takes it all at once.
_PATIENCE = 60

# What stands before the first row.
_NOTHING = "decode(repeat('00', 32), 'hex')"

# A row as it is hashed: every column, in a form that no setting of a session and no restored dump changes.
# jsonb has one text for one value, a moment is a number of microseconds, and bytea is never seen as text.
LINE = """
    convert_to(jsonb_build_array(
        seq, id, user_id, action, resource_type, resource_id, details, ip_address, user_agent, request_id,
        extract(epoch FROM created_at AT TIME ZONE 'UTC')
    )::text, 'UTF8')
"""

_REST = """
    id, user_id, action, resource_type, resource_id, details, ip_address, user_agent, request_id, created_at
"""

# A row's number is one more than the seal's, except that the writer goes around a row that somebody else has
# put behind the seal: a forged row must not keep true ones out. One at 2^62 or beyond is never met.
APPEND = f"""
    WITH head AS (
        SELECT greatest(
            0,
            (SELECT seq FROM admin.audit_seal),
            (SELECT max(seq) FROM admin.audit_logs WHERE seq < 4611686018427387904)
        ) AS last, coalesce((SELECT hash FROM admin.audit_seal), {_NOTHING}) AS sealed
    ), line AS (
        SELECT last + ordinality AS seq, sealed, {_REST}
        FROM head, jsonb_populate_recordset(NULL::admin.audit_logs, %s) WITH ORDINALITY
    ), chained AS (
        SELECT seq, {_REST}, admin.audit_chain(sealed, {LINE}) OVER (ORDER BY seq) AS hash FROM line
    ), written AS (
        INSERT INTO admin.audit_logs (seq, {_REST}, hash) SELECT seq, {_REST}, hash FROM chained
    )
    INSERT INTO admin.audit_seal (seq, hash) SELECT seq, hash FROM chained ORDER BY seq DESC LIMIT 1
    ON CONFLICT (id) DO UPDATE
        SET seq = excluded.seq, hash = excluded.hash, sealed_at = excluded.sealed_at
"""


class Break(StrEnum):
    """How a chain can be broken."""

    CHANGED = "this row was changed, or put in the place of another"
    INSERTED = "this row was inserted behind the application's back"
    REMOVED = "a row before this one was removed"
    NEWEST_REMOVED = "the newest row was removed"
    SEAL_CHANGED = "the seal was changed"
    SEAL_REMOVED = "the seal was removed"


# One statement, so one snapshot of rows and seal, whoever goes on writing. A row that is as it was written
# comes as NULLs; `inserted` is the row before one that follows not it, but the row before it. The last line
# tells of the seal. OFFSET 0 keeps the planner from hashing a row again at each mention of `how`.
VERIFY = f"""
    WITH seen AS (
        SELECT id, seq, hash, {LINE} AS line,
            lag(id) OVER chain AS id_before,
            lag(seq, 1, 0::bigint) OVER chain AS seq_before,
            lag(hash, 1, {_NOTHING}) OVER chain AS before,
            lag(hash, 2, {_NOTHING}) OVER chain AS before_that
        FROM admin.audit_logs WINDOW chain AS (ORDER BY seq)
    ), judged AS (
        SELECT id, id_before, hash, line, before_that, CASE
            WHEN seq IS NULL OR seq > (SELECT seq FROM admin.audit_seal) THEN '{Break.INSERTED.name}'
            WHEN hash = sha256(before || line) THEN NULL
            WHEN seq > seq_before + 1 THEN '{Break.REMOVED.name}'
            ELSE '{Break.CHANGED.name}'
        END AS how
        FROM seen OFFSET 0
    )
    SELECT
        how,
        CASE WHEN how IS NOT NULL THEN id END AS id,
        CASE WHEN how IS NOT NULL AND hash = sha256(before_that || line) THEN id_before END AS inserted,
        false AS of_seal, NULL AS seq, NULL AS hash
    FROM judged
    UNION ALL
    SELECT
        CASE
            WHEN seal.id IS NULL THEN '{Break.SEAL_REMOVED.name}'
            WHEN seal.seq = 0 AND seal.hash = {_NOTHING} OR newest.hash = seal.hash THEN NULL
            WHEN newest.id IS NULL THEN '{Break.NEWEST_REMOVED.name}'
            ELSE '{Break.SEAL_CHANGED.name}'
        END,
        NULL, NULL, true, seal.seq, encode(seal.hash, 'hex')
    FROM (SELECT) AS one
    LEFT JOIN admin.audit_seal AS seal ON true LEFT JOIN admin.audit_logs AS newest ON newest.seq = seal.seq
"""


@dataclass(frozen=True)
class Broken:
    """The first row that is not as it was written, and how; no id where it is gone."""

    id: UUID | None
    how: Break


@dataclass(frozen=True)
class Finding:
    """What there is: so many rows, the seal as it stands, and where the chain is broken, if it is."""

    rows: int
    seq: int | None
    hash: str | None
    broken: Broken | None


def append(rows: Sequence[Mapping[str, Any]]) -> None:
    """Puts rows at the end of the audit log, in the order given. The caller holds the log's lock.

    A row is given by its columns, each as JSON has it.
    """
    postgres.rows(APPEND, Json(rows))


def verify() -> Finding:
    """Walks along the whole chain. A million rows take some seconds, and no more memory than a thousand."""
    rows, broken, seal = 0, None, None
    for row in postgres.stream(VERIFY, seconds=_PATIENCE):
        if row["of_seal"]:
            seal = row
            continue
        rows += 1
        if row["inserted"] and (broken is None or broken.id == row["inserted"]):
            broken = Broken(row["inserted"], Break.INSERTED)
        elif broken is None and row["how"]:
            broken = Broken(row["id"], Break[row["how"]])
    assert seal is not None
    if broken is None and seal["how"]:
        broken = Broken(None, Break[seal["how"]])
    return Finding(rows, seal["seq"], seal["hash"], broken)
