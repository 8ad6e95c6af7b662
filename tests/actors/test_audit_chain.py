"""The audit log can only be appended to, and a verification finds every other change."""

import json
import re
import subprocess
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import peewee
import pytest
from pydantic_core import to_jsonable_python

from actors import audit, records
from actors.audit import AuditAction
from actors.jobs import transaction
from db import audit_chain, audit_log, migrate, postgres
from db.audit_chain import BrokenEntry, ChainBreak
from db.prepared import Statement
from tests import makers
from tests.db.test_migrations import scratch
from tests.tables import JobRow
from workers.dev import servers

AWKWARD: dict[str, Any] = {
    "b": [1, 1.10, 1e300, -0.0, 1e-7, 12345678901234567890, True, None, {}],
    "aa": 'Zoë "\\ \n\t \u2028 \U0001f642 \x7f',
    "": {"z": 0, "é": 0, "Z": 0},
}


def entry(**more: Any) -> dict[str, Any]:
    """An entry with a value in every column, as `audit_chain.append` takes it."""
    columns: dict[str, Any] = {
        "id": uuid4(),
        "user_id": None,
        "action": AuditAction.PAYMENT_CANCEL,
        "resource_type": "payment",
        "resource_id": uuid4(),
        "details": {"from": "pending", "to": "cancelled"},
        "ip_address": "203.0.113.7",
        "user_agent": "curl/8.5.0",
        "request_id": "request-1",
        "created_at": makers.MOMENT + timedelta(microseconds=123456),
    }
    return dict(to_jsonable_python(columns | more))


def append_entries(count: int) -> list[UUID]:
    """Appends this many entries one by one, and returns their ids in order."""
    entries = [entry(user_id=makers.user().id, details={**AWKWARD, "n": n}) for n in range(count)]
    for new in entries:
        audit_chain.append([new])
    return [UUID(new["id"]) for new in entries]


def tamper(sql: str, *params: Any) -> None:
    """Changes rows as an owner of the database can, without the triggers."""
    postgres.rows("SET LOCAL session_replication_role = replica")
    assert postgres.rows(f"{sql} RETURNING 1", *params), "nothing was touched"
    postgres.rows("SET LOCAL session_replication_role = origin")


def verify() -> audit_chain.Verification:
    """Verifies the log, with the same result for every size of a step."""
    with pytest.MonkeyPatch.context() as patch:
        whole = audit_chain.verify()
        for rows in (1, 2, 3):
            patch.setattr(audit_chain, "STEP_ROWS", rows)
            assert audit_chain.verify() == whole, rows
    return whole


def insert(seq: str, hash: str = "NULL") -> UUID:
    """Inserts a row that the application did not write."""
    id = uuid4()
    tamper(
        "INSERT INTO admin.audit_logs (id, action, details, created_at, seq, hash)"
        f" VALUES (%s, 'auth.user.signed_in', '{{}}', clock_timestamp(), {seq}, {hash})",
        id,
    )
    return id


# --- the log can only be appended to ------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE admin.audit_logs SET details = '{}'",
        "UPDATE admin.audit_logs SET seq = seq WHERE false",
        "DELETE FROM admin.audit_logs",
        "TRUNCATE admin.audit_logs",
        "DELETE FROM admin.audit_seal",
        "TRUNCATE admin.audit_seal",
        "UPDATE admin.audit_seal SET seq = seq - 1",
        "UPDATE admin.audit_seal SET hash = sha256('')",
    ],
)
def test_an_entry_can_be_neither_changed_nor_removed(database, statement):
    append_entries(2)
    refused = pytest.raises(peewee.IntegrityError, match=r"is append-only: \w+ is not allowed")
    with refused, postgres.database.atomic():
        postgres.rows(statement)
    assert verify() == audit_chain.Verification(2, 2, head(), None)


def head() -> str:
    [seal] = postgres.rows("SELECT encode(hash, 'hex') AS hash FROM admin.audit_seal")
    return str(seal["hash"])


def test_there_is_exactly_one_seal(database):
    for id in ("true", "false"):
        with pytest.raises(peewee.IntegrityError), postgres.database.atomic():
            postgres.rows(f"INSERT INTO admin.audit_seal (id, seq, hash) VALUES ({id}, 9, sha256(''))")


def test_the_documented_role_can_append_and_verify_and_nothing_else(database, root):
    [printed] = re.findall(r"```sql\n(GRANT USAGE.*?)```", (root / "docs/security.md").read_text(), re.DOTALL)
    postgres.rows("CREATE ROLE paywright_app")
    postgres.rows(printed.replace("%", "%%"))
    postgres.rows("SET LOCAL ROLE paywright_app")
    audit_chain.append([entry(), entry()])
    assert verify() == audit_chain.Verification(2, 2, head(), None)
    for statement in (
        "DELETE FROM admin.audit_logs",
        "UPDATE admin.audit_logs SET details = '{}'",
        "ALTER TABLE admin.audit_logs DISABLE TRIGGER USER",
        "SET LOCAL session_replication_role = replica",
        "DROP FUNCTION admin.refuse_change CASCADE",
    ):
        with (
            pytest.raises(peewee.ProgrammingError, match=r"permission denied|must be owner"),
            postgres.database.atomic(),
        ):
            postgres.rows(statement)


# --- an intact log ------------------------------------------------------------------------------------


def test_an_empty_log_is_intact(database):
    assert verify() == audit_chain.Verification(0, 0, "00" * 32, None)


def test_the_log_of_two_payments_is_intact(database):
    makers.payment()
    makers.payment(simulate="decline")
    makers.work()
    found = audit.verify()
    numbers = [row.seq for row in audit_log.AuditLog.select().order_by(audit_log.AuditLog.seq)]
    assert numbers == list(range(1, 7))
    assert found == audit_chain.Verification(6, 6, head(), None)


def test_a_batch_gives_the_same_chain_as_single_entries(database):
    entries = [entry(details=AWKWARD) for _ in range(5)]

    def hashes_of(*batches: list[dict[str, Any]]) -> list[bytes]:
        with postgres.database.atomic() as undone:
            for batch in batches:
                audit_chain.append(batch)
            rows = audit_log.AuditLog.select().order_by(audit_log.AuditLog.seq)
            found = [bytes(row.hash or b"") for row in rows]
            undone.rollback()
        return found

    assert hashes_of(entries) == hashes_of(entries[:1], entries[1:4], entries[4:])
    assert len(set(hashes_of(entries))) == 5


def test_details_are_stored_unchanged(database):
    append_entries(1)
    row = audit_log.AuditLog.get()
    assert json.dumps(row.details, sort_keys=True) == json.dumps(
        {**AWKWARD, "b": [1, 1.1, 10**300, 0.0, 1e-7, 12345678901234567890, True, None, {}], "n": 0},
        sort_keys=True,
    )
    assert row.created_at == makers.MOMENT + timedelta(microseconds=123456)


def test_session_settings_do_not_change_the_hash(database):
    append_entries(3)
    for setting in (
        "timezone = 'Asia/Kathmandu'",
        "datestyle = 'German, DMY'",
        "intervalstyle = 'iso_8601'",
        "extra_float_digits = -15",
        "bytea_output = 'escape'",
        "client_encoding = 'LATIN1'",
        "search_path = 'public'",
        "enable_indexscan = off",
        "standard_conforming_strings = on",
    ):
        postgres.rows(f"SET LOCAL {setting}")
        assert verify().broken is None, setting
    audit_chain.append([entry(details=AWKWARD)])
    postgres.rows("SET LOCAL timezone = 'UTC'; SET LOCAL client_encoding = 'UTF8'")
    assert verify().broken is None


def test_a_time_in_another_zone_is_stored_as_the_same_moment(database):
    audit_chain.append([entry(created_at="2026-03-01T17:45:00.000001+05:45")])
    assert audit_log.AuditLog.get().created_at == makers.MOMENT + timedelta(microseconds=1)
    assert verify().broken is None


# --- changed entries ----------------------------------------------------------------------------------

CHANGES = {
    "id": "gen_random_uuid()",
    "user_id": "NULL",
    "action": "action || 'x'",
    "resource_type": "'user'",
    "resource_id": "NULL",
    "details": "details || '{\"n\": 1.0}'",
    "ip_address": "'203.0.113.8'",
    "user_agent": "user_agent || ' '",
    "request_id": "''",
    "created_at": "created_at + interval '1 microsecond'",
    "hash": "sha256('')",
}


def test_every_column_is_part_of_the_hash():
    assert set(CHANGES) | {"seq"} == {field.column_name for field in audit_log.AuditLog._meta.sorted_fields}


@pytest.mark.parametrize("place", [1, 3, 5], ids=["first", "middle", "newest"])
@pytest.mark.parametrize("column", CHANGES)
def test_a_changed_column_is_found_in_its_row(database, column, place):
    ids = append_entries(5)
    tamper(f"UPDATE admin.audit_logs SET {column} = {CHANGES[column]} WHERE seq = %s", place)
    found = verify()
    [now] = postgres.rows("SELECT id FROM admin.audit_logs WHERE seq = %s", place)
    assert found.broken == BrokenEntry(now["id"], ChainBreak.CHANGED)
    assert found.rows == 5
    assert column == "id" or now["id"] == ids[place - 1]


def test_a_value_moved_to_the_next_column_is_found(database):
    audit_chain.append([entry(ip_address="1", user_agent="2"), entry(ip_address=None, user_agent="null")])
    first, second = audit_log.AuditLog.select().order_by(audit_log.AuditLog.seq)
    with postgres.database.atomic() as undone:
        tamper("UPDATE admin.audit_logs SET ip_address = '12', user_agent = '' WHERE seq = 1")
        assert verify().broken == BrokenEntry(first.id, ChainBreak.CHANGED)
        undone.rollback()
    tamper("UPDATE admin.audit_logs SET user_agent = NULL WHERE seq = 2")
    assert verify().broken == BrokenEntry(second.id, ChainBreak.CHANGED)


def test_a_rehashed_row_is_found_by_the_next_row(database):
    ids = append_entries(3)
    tamper("UPDATE admin.audit_logs SET details = '{}' WHERE seq = 2")
    tamper(
        f"UPDATE admin.audit_logs AS log SET hash = sha256(before.hash || {audit_chain.HASHED_ENTRY.replace(' seq', ' log.seq').replace(' id', ' log.id')})"
        " FROM (SELECT hash FROM admin.audit_logs WHERE seq = 1) AS before WHERE log.seq = 2"
    )
    assert verify().broken == BrokenEntry(ids[2], ChainBreak.CHANGED)


def test_swapped_rows_are_found(database):
    ids = append_entries(4)
    tamper("UPDATE admin.audit_logs SET seq = -seq WHERE seq IN (2, 3)")
    tamper("UPDATE admin.audit_logs SET seq = 5 + seq WHERE seq < 0")
    assert verify().broken == BrokenEntry(ids[2], ChainBreak.CHANGED)


def test_a_renumbered_last_row_is_found(database):
    ids = append_entries(3)
    tamper("UPDATE admin.audit_logs SET seq = 30 WHERE seq = 3")
    tamper("UPDATE admin.audit_seal SET seq = 30")
    assert verify().broken == BrokenEntry(ids[2], ChainBreak.REMOVED)


def test_the_first_of_several_breaks_is_reported(database):
    ids = append_entries(6)
    tamper("DELETE FROM admin.audit_logs WHERE seq = 6")
    tamper("UPDATE admin.audit_logs SET details = '{}' WHERE seq = 4")
    tamper("UPDATE admin.audit_logs SET details = '{}' WHERE seq = 2")
    insert("NULL")
    assert verify().broken == BrokenEntry(ids[1], ChainBreak.CHANGED)


# --- removed entries ----------------------------------------------------------------------------------


@pytest.mark.parametrize("places", [[1], [3], [2, 3, 4], [1, 2, 3, 4]])
def test_a_removed_row_is_found_at_the_row_after_it(database, places):
    ids = append_entries(5)
    tamper("DELETE FROM admin.audit_logs WHERE seq = ANY(%s)", places)
    found = verify()
    assert found.broken == BrokenEntry(ids[places[-1]], ChainBreak.REMOVED)
    assert found.rows == 5 - len(places)


@pytest.mark.parametrize("places", [[5], [4, 5], [1, 2, 3, 4, 5]])
def test_removed_last_rows_are_found(database, places):
    append_entries(5)
    tamper("DELETE FROM admin.audit_logs WHERE seq = ANY(%s)", places)
    found = verify()
    assert found.broken == BrokenEntry(None, ChainBreak.NEWEST_REMOVED)
    assert found.rows == 5 - len(places)


def test_a_removed_last_row_is_found_after_further_entries(database):
    append_entries(3)
    tamper("DELETE FROM admin.audit_logs WHERE seq = 3")
    [after] = append_entries(1)
    assert verify().broken == BrokenEntry(after, ChainBreak.REMOVED)


def test_a_row_without_its_number_leaves_a_gap(database):
    ids = append_entries(3)
    tamper("UPDATE admin.audit_logs SET seq = NULL WHERE seq = 2")
    assert verify().broken == BrokenEntry(ids[2], ChainBreak.REMOVED)


# --- inserted entries ---------------------------------------------------------------------------------


def test_an_inserted_row_is_reported(database):
    append_entries(3)
    forged = insert("NULL")
    found = verify()
    assert (found.rows, found.broken) == (4, BrokenEntry(forged, ChainBreak.INSERTED))
    append_entries(1)
    assert verify().broken == BrokenEntry(forged, ChainBreak.INSERTED)


@pytest.mark.parametrize("seq", [0, -7, 4, 1000, 2**62, 2**63 - 1])
@pytest.mark.parametrize("hash", ["NULL", "sha256('')"])
def test_a_row_inserted_with_a_number_is_reported_and_blocks_no_entry(database, seq, hash):
    append_entries(3)
    forged = insert(str(seq), hash)
    assert verify().broken == BrokenEntry(forged, ChainBreak.INSERTED)
    append_entries(2)
    found = verify()
    assert (found.rows, found.broken) == (6, BrokenEntry(forged, ChainBreak.INSERTED))
    tamper("DELETE FROM admin.audit_logs WHERE id = %s", forged)
    # Without the forged row the log is intact again.
    assert verify().broken is None


def test_a_row_inserted_with_the_right_hash_is_reported(database):
    append_entries(3)
    forged = uuid4()
    tamper(
        "INSERT INTO admin.audit_logs (id, action, created_at, seq) VALUES (%s, 'x', clock_timestamp(), 4)",
        forged,
    )
    tamper(
        f"UPDATE admin.audit_logs SET hash = sha256((SELECT hash FROM admin.audit_seal) || {audit_chain.HASHED_ENTRY})"
        " WHERE seq = 4"
    )
    assert verify().broken == BrokenEntry(forged, ChainBreak.INSERTED)
    append_entries(2)
    assert verify().broken == BrokenEntry(forged, ChainBreak.INSERTED)


def test_a_replaced_row_is_reported(database):
    append_entries(3)
    tamper("DELETE FROM admin.audit_logs WHERE seq = 2")
    forged = insert("2", "sha256('')")
    assert verify().broken == BrokenEntry(forged, ChainBreak.CHANGED)


# --- the seal -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tampered", "how", "place"),
    [
        ("UPDATE admin.audit_seal SET hash = sha256('')", ChainBreak.SEAL_CHANGED, None),
        ("UPDATE admin.audit_seal SET seq = 9", ChainBreak.NEWEST_REMOVED, None),
        ("UPDATE admin.audit_seal SET seq = 2", ChainBreak.INSERTED, 3),
        ("DELETE FROM admin.audit_seal", ChainBreak.SEAL_REMOVED, None),
    ],
)
def test_a_changed_seal_is_found(database, tampered, how, place):
    ids = append_entries(3)
    tamper(tampered)
    assert verify().broken == BrokenEntry(ids[place - 1] if place else None, how)


def test_a_log_without_its_seal_goes_on_and_stays_broken(database):
    append_entries(3)
    tamper("DELETE FROM admin.audit_logs WHERE seq = 3")
    tamper("DELETE FROM admin.audit_seal")
    [after, _] = append_entries(2)
    assert verify().broken == BrokenEntry(after, ChainBreak.CHANGED)


# --- the log line -------------------------------------------------------------------------------------


def test_each_verification_is_logged(database, monkeypatch):
    logged: list[tuple[str, dict[str, Any]]] = []

    class Log:
        def info(self, event: str, **more: Any) -> None:
            logged.append((event, more))

        error = info

    monkeypatch.setattr(audit, "log", Log())
    ids = append_entries(2)
    audit.verify()
    assert logged == [("audit log verified", {"rows": 2, "seq": 2, "hash": head()})]
    tamper("DELETE FROM admin.audit_logs WHERE seq = 1")
    audit.verify()
    assert logged[1:] == [
        (
            "audit log broken",
            {"rows": 1, "entry_id": str(ids[1]), "reason": "a row before this one was removed"},
        )
    ]


# --- migration, dump and restore ----------------------------------------------------------------------


def test_the_migration_chains_older_entries(postgres_server, tmp_path, monkeypatch):
    for file in sorted(migrate.DIRECTORY.glob("*.sql")):
        if file.name < "0015":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with scratch(postgres_server.url, "unchained") as url:
        with monkeypatch.context() as before:
            before.setattr(migrate, "DIRECTORY", tmp_path)
            migrate.up(url)
        old = [entry(details=AWKWARD, created_at=makers.MOMENT - timedelta(days=n)) for n in range(8)]
        with connected_to(url) as database:
            database.execute_sql(
                "INSERT INTO admin.audit_logs SELECT * FROM jsonb_populate_recordset(NULL::admin.audit_logs, %s)",
                [json.dumps(old)],
            )
        migrate.up(url)
        with connected_to(url):
            rows = audit_log.AuditLog.select().order_by(audit_log.AuditLog.seq)
            assert [str(row.id) for row in rows] == [older["id"] for older in reversed(old)]
            assert verify() == audit_chain.Verification(8, 8, head(), None)
            audit_chain.append([entry()])
            assert verify() == audit_chain.Verification(9, 9, head(), None)
            postgres.rows("ALTER TABLE admin.audit_logs DISABLE TRIGGER USER")
            postgres.rows("UPDATE admin.audit_logs SET details = '{}' WHERE seq = 2")
            assert verify().broken == BrokenEntry(UUID(old[-2]["id"]), ChainBreak.CHANGED)


class OtherDatabase(peewee.PostgresqlDatabase):
    """A database besides that of the process. Its connections prepare nothing."""

    def execute_prepared(self, statement: Statement, params: Mapping[str, Any]) -> Any:
        return self.execute_sql(statement.plain, params)


@contextmanager
def connected_to(url: str) -> Iterator[OtherDatabase]:
    """Uses another database in the block."""
    other = OtherDatabase(url)
    with (
        pytest.MonkeyPatch.context() as patch,
        other.bind_ctx([audit_log.AuditLog]),
        other.connection_context(),
    ):
        patch.setattr(postgres, "database", other)
        yield other


def test_a_restored_dump_is_intact(postgres_server):
    def run(program: str, *words: str) -> None:
        done = subprocess.run([servers.postgres_bin() / program, *words], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr

    url = postgres_server.url
    dump = postgres_server.directory.with_name("audit.sql")
    with scratch(url, "dumped") as old, scratch(url, "restored") as new:
        migrate.up(old)
        with connected_to(old):
            audit_chain.append([entry(details=AWKWARD) for _ in range(3)])
            sealed = head()
        run("pg_dump", "--file", str(dump), old)
        run("psql", "--set", "ON_ERROR_STOP=1", "--single-transaction", "--file", str(dump), new)
        with connected_to(new):
            assert verify() == audit_chain.Verification(3, 3, sealed, None)
            audit_chain.append([entry()])
            assert verify() == audit_chain.Verification(4, 4, head(), None)
            with pytest.raises(peewee.IntegrityError, match="is not allowed"):
                postgres.rows("DELETE FROM admin.audit_logs")


# --- concurrent writers -------------------------------------------------------------------------------


@pytest.fixture
def committed(stores) -> Iterator[None]:
    """Committed data, deleted after the test."""
    yield
    makers.wipe()


def record_and_write(times: int) -> None:
    """Records entries one after the other, and runs the batch job after each."""
    with postgres.connection():
        for _ in range(times):
            with transaction():
                audit.record(AuditAction.USER_SIGNED_IN, details=AWKWARD)
            job = JobRow.select().where(JobRow.name == records.append.name).first()
            records.append(str(job.id if job else uuid4()))


def start_threads(*functions: Callable[[], object]) -> list[threading.Thread]:
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    return threads


def test_twenty_writers_at_once_keep_one_chain(committed):
    for thread in start_threads(*[lambda: record_and_write(10)] * 20):
        thread.join(300)
    with postgres.connection():
        # A writer that found the lock taken has left its job to the holder.
        records.append(str(uuid4()))
        assert JobRow.select().count() == 0
        numbers = [row.seq for row in audit_log.AuditLog.select().order_by(audit_log.AuditLog.seq)]
        assert numbers == list(range(1, 201))
        assert audit_chain.verify() == audit_chain.Verification(200, 200, head(), None)


def test_verifications_during_writes_find_no_break(committed):
    enough = threading.Event()
    seen: set[int] = set()

    def write() -> None:
        while not enough.is_set():
            record_and_write(1)

    writers = start_threads(*[write] * 3)
    try:
        with postgres.connection():
            # Not for so many writes: on a loaded machine they could end before some verifications.
            while len(seen) <= 3 or max(seen) < 90:
                found = audit_chain.verify()
                assert found.broken is None
                # Rows and seal are read from one snapshot.
                assert found.rows == found.seq
                seen.add(found.rows)
    finally:
        enough.set()
        for writer in writers:
            writer.join(60)


def test_an_entry_that_cannot_be_written_blocks_no_other_transactions(committed):
    too_long = "x" * 51
    with postgres.connection():
        for action, resource in (
            (AuditAction.USER_SIGNED_IN, None),
            (AuditAction.USER_SIGNED_IN, (too_long, uuid4())),
            (AuditAction.USER_SIGNED_OUT, None),
        ):
            with transaction():
                audit.record(action, resource=resource)
        records.append(str(uuid4()))
        rows = audit_log.AuditLog.select().order_by(audit_log.AuditLog.seq)
        assert [row.action for row in rows] == [AuditAction.USER_SIGNED_IN, AuditAction.USER_SIGNED_OUT]
        assert audit_chain.verify() == audit_chain.Verification(2, 2, head(), None)


# --- a long log ---------------------------------------------------------------------------------------


HUNDRED_THOUSAND = """(
    SELECT jsonb_agg(jsonb_build_object(
        'id', gen_random_uuid(), 'action', 'payments.payment.cancel', 'resource_type', 'payment',
        'resource_id', gen_random_uuid(), 'details', jsonb_build_object('n', n), 'created_at', clock_timestamp()
    )) FROM generate_series(1, 100000) AS n
)"""


def test_a_hundred_thousand_rows_are_verified_in_seconds_and_in_constant_memory(database):
    started = time.monotonic()
    with postgres.database.atomic():
        postgres.set_statement_timeout(120)
        postgres.rows(audit_chain.APPEND.plain.replace("%(entries)s", HUNDRED_THOUSAND))
    appended_s = time.monotonic() - started
    postgres.rows("ANALYZE admin.audit_logs")
    tamper("UPDATE admin.audit_logs SET details = '{}' WHERE seq = 99000")
    tracemalloc.start()
    started = time.monotonic()
    try:
        found = audit_chain.verify()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (found.rows, found.seq) == (100_000, 100_000)
    assert found.broken
    assert found.broken.reason is ChainBreak.CHANGED
    # To write them takes ten times as long, which says how loaded the machine is.
    assert time.monotonic() - started < max(10, appended_s)
    assert peak < 2_000_000
    # By the index: sorting a log of millions of rows would need the disk.
    at = (0, "00" * 32, -(2**63), audit_chain.STEP_ROWS, audit_chain.STEP_ROWS)
    plan = "\n".join(row["QUERY PLAN"] for row in postgres.rows(f"EXPLAIN {audit_chain.VERIFY}", *at))
    assert "Index Scan using audit_logs_seq_key" in plan
    assert "Seq Scan on audit_logs" not in plan
    # Only the findings of one step are sorted, never the log.
    assert all(re.fullmatch(r"(found|broken)\w*\.place.*", key) for key in re.findall("Sort Key: (.*)", plan))
