"""The chain of the audit log: each row is hashed over the one before it, and the newest is sealed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

import peewee
from playhouse.postgres_ext import DateTimeTZField
from psycopg2.extras import Json

from db import postgres


class AuditSeal(postgres.Model):
    """The head of the audit log's chain, in one row: who removes the newest row has to move it, too."""

    id = peewee.BooleanField(primary_key=True)
    seq = peewee.BigIntegerField()
    hash = peewee.BlobField()
    sealed_at = DateTimeTZField()

    class Meta:
        schema = "admin"
        table_name = "audit_seal"


# Rows that one statement verifies: at some 7 µs a row far below what a statement may take.
STEP_ROWS = 20_000

# What stands before the first row.
_ZERO_HASH = "decode(repeat('00', 32), 'hex')"

# A row as it is hashed: every column, in a form that no setting of a session and no restored dump changes.
# jsonb has one text for one value, a moment is a number of microseconds, and bytea is never seen as text.
HASHED_ENTRY = """
    convert_to(jsonb_build_array(
        seq, id, user_id, action, resource_type, resource_id, details, ip_address, user_agent, request_id,
        extract(epoch FROM created_at AT TIME ZONE 'UTC')
    )::text, 'UTF8')
"""

_COLUMNS = """
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
        ) AS last, coalesce((SELECT hash FROM admin.audit_seal), {_ZERO_HASH}) AS sealed
    ), line AS (
        SELECT last + ordinality AS seq, sealed, {_COLUMNS}
        FROM head, jsonb_populate_recordset(NULL::admin.audit_logs, %s) WITH ORDINALITY
    ), chained AS (
        SELECT seq, {_COLUMNS}, admin.audit_chain(sealed, {HASHED_ENTRY}) OVER (ORDER BY seq) AS hash FROM line
    ), written AS (
        INSERT INTO admin.audit_logs (seq, {_COLUMNS}, hash) SELECT seq, {_COLUMNS}, hash FROM chained
    )
    INSERT INTO admin.audit_seal (seq, hash) SELECT seq, hash FROM chained ORDER BY seq DESC LIMIT 1
    ON CONFLICT (id) DO UPDATE
        SET seq = excluded.seq, hash = excluded.hash, sealed_at = excluded.sealed_at
"""


class ChainBreak(StrEnum):
    """How a chain can be broken."""

    CHANGED = "this row was changed, or put in the place of another"
    INSERTED = "this row was inserted behind the application's back"
    REMOVED = "a row before this one was removed"
    NEWEST_REMOVED = "the newest row was removed"
    SEAL_CHANGED = "the seal was changed"
    SEAL_REMOVED = "the seal was removed"


# The rows behind a number, at most so many and one more, and the seal: one statement, so one snapshot of
# both, whoever goes on writing. `inserted` is the row before one that follows not it, but the row before it;
# so the one more tells of the last. OFFSET 0 keeps the planner from hashing a row again for each `how`.
VERIFY = f"""
    WITH start AS (SELECT %s::bigint AS number, decode(%s, 'hex') AS hash),
    part AS (
        SELECT * FROM admin.audit_logs WHERE seq > %s ORDER BY seq LIMIT %s + 1
    ), seen AS (
        SELECT id, seq, hash, row_number() OVER chain AS place, {HASHED_ENTRY} AS line,
            lag(id) OVER chain AS id_before,
            lag(seq, 1, (SELECT number FROM start)) OVER chain AS seq_before,
            lag(hash, 1, (SELECT hash FROM start)) OVER chain AS before,
            lag(hash, 2, (SELECT hash FROM start)) OVER chain AS before_that
        FROM part WINDOW chain AS (ORDER BY seq)
    ), judged AS (
        SELECT id, id_before, seq, hash, place, line, before_that, CASE
            WHEN seq > (SELECT seq FROM admin.audit_seal) THEN '{ChainBreak.INSERTED.name}'
            WHEN hash = sha256(before || line) THEN NULL
            WHEN seq > seq_before + 1 THEN '{ChainBreak.REMOVED.name}'
            ELSE '{ChainBreak.CHANGED.name}'
        END AS how
        FROM seen OFFSET 0
    ), found AS MATERIALIZED (
        SELECT place, seq, hash, id, how,
            CASE WHEN how IS NOT NULL AND hash = sha256(before_that || line) THEN id_before END AS inserted
        FROM judged
    ), broken AS (
        SELECT place, id, how, inserted FROM found WHERE how IS NOT NULL ORDER BY place LIMIT 2
    ), last AS (
        SELECT seq, hash FROM found WHERE place <= %s ORDER BY place DESC LIMIT 1
    )
    SELECT
        (SELECT count(*) FROM found) AS rows,
        (SELECT jsonb_agg(jsonb_build_array(place, id, how, inserted) ORDER BY place) FROM broken) AS broken,
        (SELECT seq FROM last) AS last, (SELECT encode(hash, 'hex') FROM last) AS last_hash,
        seal.seq, encode(seal.hash, 'hex') AS hash,
        CASE
            WHEN seal.id IS NULL THEN '{ChainBreak.SEAL_REMOVED.name}'
            WHEN seal.seq = 0 AND seal.hash = {_ZERO_HASH} OR newest.hash = seal.hash THEN NULL
            WHEN newest.id IS NULL THEN '{ChainBreak.NEWEST_REMOVED.name}'
            ELSE '{ChainBreak.SEAL_CHANGED.name}'
        END AS seal_broken
    FROM (SELECT) AS one
    LEFT JOIN admin.audit_seal AS seal ON true LEFT JOIN admin.audit_logs AS newest ON newest.seq = seal.seq
"""

# The first of the rows that have no place in the chain; the application writes none.
_UNNUMBERED = """
    SELECT count(*) AS rows, (array_agg(id))[1] AS id FROM (
        SELECT id FROM admin.audit_logs WHERE seq IS NULL ORDER BY id LIMIT %s
    ) AS forged
"""


@dataclass(frozen=True)
class BrokenEntry:
    """The first row that is not as it was written, and how; no id where it is gone."""

    id: UUID | None
    how: ChainBreak


@dataclass(frozen=True)
class Verification:
    """What there is: so many rows, the seal as it stands, and where the chain is broken, if it is."""

    rows: int
    seq: int | None
    hash: str | None
    broken: BrokenEntry | None


@dataclass(frozen=True)
class ChainPosition:
    """How far the chain was found whole: the number and the hash (hex) of a row, and the rows up to it."""

    seq: int
    hash: str
    rows: int


# Before every row, also before one that somebody gave a number below the first.
CHAIN_START = ChainPosition(-(2**63), "00" * 32, 0)


@dataclass(frozen=True)
class VerificationStep:
    """What one step along the chain found: where it came to, the seal, whether that is the end."""

    reached: ChainPosition
    ended: bool
    seq: int | None
    hash: str | None
    broken: BrokenEntry | None

    @property
    def rows(self) -> int:
        """How many rows there are up to where it came."""
        return self.reached.rows


# The two verifications whose place is kept.
NEWEST, WHOLE = "newest", "whole"


class AuditVerification(postgres.Model):
    """How far a verification has come: the `newest` rows, and the `whole` log while that is under way."""

    name = peewee.CharField(20, primary_key=True)
    seq = peewee.BigIntegerField()
    hash = peewee.CharField(64)
    rows = peewee.BigIntegerField()
    moved_at = DateTimeTZField()

    class Meta:
        schema = "admin"
        table_name = "audit_verifications"


def load_position(name: str) -> ChainPosition | None:
    """How far the verification of this name has come; None when it is at no place."""
    row = AuditVerification.get_or_none(AuditVerification.name == name)
    return ChainPosition(row.seq, row.hash, row.rows) if row else None


def save_position(name: str, to: ChainPosition) -> None:
    """Keeps how far a verification has come; one that was farther stays there."""
    row = AuditVerification
    insert = row.insert(name=name, seq=to.seq, hash=to.hash, rows=to.rows)
    insert.on_conflict(
        conflict_target=[row.name],
        preserve=[row.seq, row.hash, row.rows, row.moved_at],
        where=row.seq <= to.seq,
    ).execute()


def delete_position(name: str) -> None:
    """Ends a verification: the next one begins at the first row."""
    postgres.delete(AuditVerification).where(AuditVerification.name == name).execute()


def approximate_length() -> int:
    """About how many rows there are: the number of the newest, whatever became of its seal."""
    [found] = postgres.rows(
        "SELECT greatest(0, (SELECT seq FROM admin.audit_seal),"
        " (SELECT max(seq) FROM admin.audit_logs WHERE seq < 4611686018427387904)) AS rows"
    )
    return int(found["rows"])


def append(rows: Sequence[Mapping[str, Any]]) -> None:
    """Puts rows at the end of the audit log, in the order given. The caller holds the log's lock.

    A row is given by its columns, each as JSON has it.
    """
    postgres.rows(APPEND, Json(rows))


def verify_next(start: ChainPosition) -> VerificationStep:
    """Verifies the next STEP_ROWS rows behind a place, and the seal where that is the end."""
    number, rows = max(0, start.seq), STEP_ROWS
    [found] = postgres.rows(VERIFY, number, start.hash, start.seq, rows, rows)
    ended = found["rows"] <= rows
    broken = None
    for place, id, how, inserted in found["broken"] or ():
        if inserted and (broken is None or str(broken.id) == inserted):
            broken = BrokenEntry(UUID(inserted), ChainBreak.INSERTED)
        elif broken is None and place <= rows:
            broken = BrokenEntry(UUID(id), ChainBreak[how])
    many = min(found["rows"], rows)
    if ended:
        [forged] = postgres.rows(_UNNUMBERED, rows)
        many += forged["rows"]
        if broken is None and forged["rows"]:
            broken = BrokenEntry(forged["id"], ChainBreak.INSERTED)
    if broken is None:
        seal = found["seal_broken"] if ended or found["seq"] is None else None
        if seal is None and found["seq"] < number:
            # Moved back behind what it had sealed, and the rows removed.
            seal = ChainBreak.NEWEST_REMOVED.name
        broken = BrokenEntry(None, ChainBreak[seal]) if seal else None
    last, hash = found["last"], found["last_hash"]
    reached = ChainPosition(start.seq if last is None else last, hash or start.hash, start.rows + many)
    return VerificationStep(reached, ended, found["seq"], found["hash"], broken)


def verify() -> Verification:
    """Verifies the whole chain, step by step: no step holds a snapshot for long. Names the first break."""
    at, broken = CHAIN_START, None
    while True:
        found = verify_next(at)
        broken = broken or found.broken
        if found.ended:
            return Verification(found.reached.rows, found.seq, found.hash, broken)
        at = found.reached
