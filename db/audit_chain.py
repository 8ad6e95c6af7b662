"""The audit log's hash chain: each entry's hash covers the hash of the entry before.

The seal, one row, keeps the newest hash. Without it, nobody would notice that the newest entries were
removed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from db import postgres
from db.prepared import Statement

# How many entries one statement verifies. An entry takes about 7 µs, so a step stays far below the statement
# timeout.
STEP_ROWS = 20_000
# How long a thousand entries of an export may take.
STATEMENT_TIMEOUT_S = 5.0

# The hash before the first entry.
_ZERO_HASH = "decode(repeat('00', 32), 'hex')"

# The bytes of an entry that are hashed: every column, in a form that depends on no session setting and
# survives dump and restore. jsonb has one text for one value, a timestamp is a number of seconds with all its
# microseconds, and no bytea is converted to text.
HASHED_ENTRY = """
    convert_to(jsonb_build_array(
        seq, id, user_id, action, resource_type, resource_id, details, ip_address, user_agent, request_id,
        extract(epoch FROM created_at AT TIME ZONE 'UTC')
    )::text, 'UTF8')
"""

_COLUMNS = """
    id, user_id, action, resource_type, resource_id, details, ip_address, user_agent, request_id, created_at
"""

# The number of the newest entry: the seal's, or that of a forged entry after the seal. New entries get the
# numbers after it, so that a forgery cannot block them. Numbers from 2^62 on are ignored.
_NEWEST_SEQ = """
    greatest(0, (SELECT seq FROM admin.audit_seal),
        (SELECT max(seq) FROM admin.audit_logs WHERE seq < 4611686018427387904))
"""

APPEND = Statement(
    "append_audit_entries",
    f"""
    WITH head AS (
        SELECT {_NEWEST_SEQ} AS last, coalesce((SELECT hash FROM admin.audit_seal), {_ZERO_HASH}) AS sealed
    ), numbered AS (
        SELECT last + ordinality AS seq, sealed, {_COLUMNS}
        FROM head, jsonb_populate_recordset(NULL::admin.audit_logs, %(entries)s::jsonb) WITH ORDINALITY
    ), chained AS (
        SELECT seq, {_COLUMNS}, admin.audit_chain(sealed, {HASHED_ENTRY}) OVER (ORDER BY seq) AS hash
        FROM numbered
    ), inserted AS (
        INSERT INTO admin.audit_logs (seq, {_COLUMNS}, hash) SELECT seq, {_COLUMNS}, hash FROM chained
    )
    INSERT INTO admin.audit_seal (seq, hash) SELECT seq, hash FROM chained ORDER BY seq DESC LIMIT 1
    ON CONFLICT (id) DO UPDATE
        SET seq = excluded.seq, hash = excluded.hash, sealed_at = excluded.sealed_at
    """,
)


class ChainBreak(StrEnum):
    """The ways in which a chain can be broken. The values are shown to administrators."""

    CHANGED = "this row was changed, or put in the place of another"
    INSERTED = "this row was inserted behind the application's back"
    REMOVED = "a row before this one was removed"
    NEWEST_REMOVED = "the newest row was removed"
    SEAL_CHANGED = "the seal was changed"
    SEAL_REMOVED = "the seal was removed"


# Verifies the entries after a number, up to a given count and one further entry, and the seal. It is one
# statement, so that entries and seal come from one snapshot while entries are appended. An entry was inserted
# (`inserted`) if its successor links to its predecessor; the further entry reveals that about the last one.
# OFFSET 0 keeps the planner from computing a hash again for each use of `break`.
VERIFY = f"""
    WITH start AS (SELECT %s::bigint AS number, decode(%s, 'hex') AS hash),
    part AS (
        SELECT * FROM admin.audit_logs WHERE seq > %s ORDER BY seq LIMIT %s + 1
    ), linked AS (
        SELECT id, seq, hash, row_number() OVER chain AS place, {HASHED_ENTRY} AS entry,
            lag(id) OVER chain AS previous_id,
            lag(seq, 1, (SELECT number FROM start)) OVER chain AS previous_seq,
            lag(hash, 1, (SELECT hash FROM start)) OVER chain AS previous_hash,
            lag(hash, 2, (SELECT hash FROM start)) OVER chain AS hash_before_previous
        FROM part WINDOW chain AS (ORDER BY seq)
    ), checked AS (
        SELECT id, previous_id, seq, hash, place, entry, hash_before_previous, CASE
            WHEN seq > (SELECT seq FROM admin.audit_seal) THEN '{ChainBreak.INSERTED.name}'
            WHEN hash = sha256(previous_hash || entry) THEN NULL
            WHEN seq > previous_seq + 1 THEN '{ChainBreak.REMOVED.name}'
            ELSE '{ChainBreak.CHANGED.name}'
        END AS break
        FROM linked OFFSET 0
    ), found AS MATERIALIZED (
        SELECT place, seq, hash, id, break, CASE
            WHEN break IS NOT NULL AND hash = sha256(hash_before_previous || entry) THEN previous_id
        END AS inserted
        FROM checked
    ), broken AS (
        SELECT place, id, break, inserted FROM found WHERE break IS NOT NULL ORDER BY place LIMIT 2
    ), last AS (
        SELECT seq, hash FROM found WHERE place <= %s ORDER BY place DESC LIMIT 1
    )
    SELECT
        (SELECT count(*) FROM found) AS rows,
        (
            SELECT jsonb_agg(jsonb_build_array(place, id, break, inserted) ORDER BY place) FROM broken
        ) AS broken,
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

# Counts the entries without a number, which are forged, and returns the id of the first one.
_UNNUMBERED = """
    SELECT count(*) AS rows, (array_agg(id))[1] AS id FROM (
        SELECT id FROM admin.audit_logs WHERE seq IS NULL ORDER BY id LIMIT %s
    ) AS forged
"""


@dataclass(frozen=True)
class BrokenEntry:
    """The first entry that differs from what was written; `id` is None if the entry is gone."""

    id: UUID | None
    reason: ChainBreak


@dataclass(frozen=True)
class Verification:
    """The result of a verification: the number of entries, the seal, and the first break, if any."""

    rows: int
    seq: int | None
    hash: str | None
    broken: BrokenEntry | None


@dataclass(frozen=True)
class ChainPosition:
    """A verified position: an entry's number and hash (hex), and the number of entries up to it."""

    seq: int
    hash: str
    rows: int


# Lies before every entry, also before a forged one with a number below the first.
CHAIN_START = ChainPosition(-(2**63), "00" * 32, 0)


@dataclass(frozen=True)
class VerificationStep(Verification):
    """The result up to the position that a step reached, and whether the log ends there."""

    reached: ChainPosition
    ended: bool


# The names of the verifications that save their position: of the newest entries, and of the whole log.
NEWEST, WHOLE = "newest", "whole"


def load_position(name: str) -> ChainPosition | None:
    """Returns the saved position of a verification; None if there is none."""
    sql = "SELECT seq, hash, rows FROM admin.audit_verifications WHERE name = %s"
    return postgres.first(ChainPosition, sql, name)


SAVE_POSITION = """
    INSERT INTO admin.audit_verifications AS saved (name, seq, hash, rows)
    VALUES (%(name)s, %(seq)s, %(hash)s, %(rows)s)
    ON CONFLICT (name) DO UPDATE SET (seq, hash, rows, updated_at)
        = (excluded.seq, excluded.hash, excluded.rows, excluded.updated_at)
    WHERE saved.seq <= excluded.seq
"""


def save_position(name: str, position: ChainPosition) -> None:
    """Saves the position of a verification, unless the saved one is further along."""
    postgres.rows(SAVE_POSITION, name=name, **vars(position))


def delete_position(name: str) -> None:
    """Deletes the position of a verification: the next one begins at the first entry."""
    postgres.rows("DELETE FROM admin.audit_verifications WHERE name = %s", name)


def approximate_length() -> int:
    """Returns the number of the newest entry, which is about the number of entries."""
    return int(postgres.value(f"SELECT {_NEWEST_SEQ}"))


@dataclass(frozen=True)
class Seal:
    """The number and the hash (hex) of the newest entry, as the seal keeps them."""

    seq: int
    hash: str


SEAL = f"""
    SELECT coalesce(seal.seq, 0) AS seq, encode(coalesce(seal.hash, {_ZERO_HASH}), 'hex') AS hash
    FROM (SELECT) AS one LEFT JOIN admin.audit_seal AS seal ON true
"""


def seal() -> Seal:
    """Returns the seal; if its row is gone, the seal of an empty log."""
    return Seal(**postgres.rows(SEAL)[0])


HASH_UNTIL = """
    SELECT encode(hash, 'hex') FROM admin.audit_logs WHERE seq <= %s ORDER BY seq DESC LIMIT 1
"""


def hash_until(seq: int) -> str:
    """Returns the hash (hex) of the last entry up to a number: the one that the next entry is chained to."""
    return postgres.value(HASH_UNTIL, seq) or CHAIN_START.hash


# One JSON text for each entry: its fields as in responses, its number, its hash, and the text that is hashed.
EXPORT = f"""
    SELECT seq, encode(hash, 'hex') AS hash, json_build_object(
        'seq', seq, 'id', id, 'userId', user_id, 'action', action, 'resourceType', resource_type,
        'resourceId', resource_id, 'details', details, 'ipAddress', ip_address, 'userAgent', user_agent,
        'requestId', request_id, 'createdAt',
        to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
        'hash', encode(hash, 'hex'), 'entry', convert_from({HASHED_ENTRY}, 'UTF8'))::text AS line
    FROM admin.audit_logs WHERE seq > %(after)s AND seq <= %(until)s ORDER BY seq LIMIT %(limit)s
"""


def export(after: int, until: int, limit: int) -> Iterator[dict[str, Any]]:
    """Yields the entries with numbers above `after`, up to `until`: `seq`, `hash`, the JSON text `line`."""
    return postgres.stream(EXPORT, after=after, until=until, limit=limit, seconds=STATEMENT_TIMEOUT_S)


def append(rows: Sequence[Mapping[str, Any]]) -> None:
    """Appends entries to the audit log in the given order. The caller must have the log's lock.

    Each entry is a mapping of column names to JSON values.
    """
    if rows:
        postgres.rows(APPEND, entries=postgres.Json(rows))


def verify_next(start: ChainPosition) -> VerificationStep:
    """Verifies the next STEP_ROWS entries after a position, and at the end the seal; returns the result."""
    number = max(0, start.seq)
    [found] = postgres.rows(VERIFY, number, start.hash, start.seq, STEP_ROWS, STEP_ROWS)
    ended = found["rows"] <= STEP_ROWS
    verified_rows = min(found["rows"], STEP_ROWS)
    broken = _first_break(found["broken"] or ())
    if ended:
        [unnumbered] = postgres.rows(_UNNUMBERED, STEP_ROWS)
        verified_rows += unnumbered["rows"]
        if broken is None and unnumbered["rows"]:
            broken = BrokenEntry(unnumbered["id"], ChainBreak.INSERTED)
    if broken is None:
        seal_break = found["seal_broken"] if ended or found["seq"] is None else None
        if seal_break is None and found["seq"] < number:
            # The seal was set back, and the entries that it had sealed were removed.
            seal_break = ChainBreak.NEWEST_REMOVED.name
        broken = BrokenEntry(None, ChainBreak[seal_break]) if seal_break else None
    reached = ChainPosition(
        start.seq if found["last"] is None else found["last"],
        found["last_hash"] or start.hash,
        start.rows + verified_rows,
    )
    return VerificationStep(reached.rows, found["seq"], found["hash"], broken, reached, ended)


def _first_break(breaks: Sequence[Sequence[Any]]) -> BrokenEntry | None:
    """Returns the first of the breaks that VERIFY found: (place, id, break, inserted) each, in order."""
    broken = None
    for place, id, how, inserted in breaks:
        if inserted and (broken is None or str(broken.id) == inserted):
            broken = BrokenEntry(UUID(inserted), ChainBreak.INSERTED)
        elif broken is None and place <= STEP_ROWS:
            broken = BrokenEntry(UUID(id), ChainBreak[how])
    return broken


def verify() -> Verification:
    """Verifies the whole chain in steps, so that no snapshot stays open for long. Reports the first break."""
    position, broken = CHAIN_START, None
    while True:
        step = verify_next(position)
        broken = broken or step.broken
        if step.ended:
            return Verification(step.rows, step.seq, step.hash, broken)
        position = step.reached
