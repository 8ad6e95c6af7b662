"""The models and the migrations say the same, to the last default and CHECK."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import peewee
import psycopg2
import pytest
from psycopg2 import sql

from db import (
    admin,
    auth,
    chain,
    erasure,
    health,
    idempotency,
    journal,
    leases,
    links,
    migrate,
    operating,
    payments,
    postgres,
    profile,
    psp_attempts,
    psp_ledger,
    refusals,
    reviews,
    sign_in_failures,
    statements,
    subscriptions,
)

MODELS: list[type[postgres.Model]] = [
    auth.User,
    auth.Session,
    auth.RefreshToken,
    erasure.FormerAddress,
    links.OneTimeToken,
    sign_in_failures.SignInFailure,
    sign_in_failures.KnownAddress,
    refusals.Refusal,
    payments.Payment,
    payments.PaymentTransaction,
    idempotency.IdempotencyKey,
    admin.AuditLog,
    admin.AuditSeal,
    admin.Event,
    admin.SystemConfig,
    subscriptions.Subscription,
    subscriptions.MissedEvent,
    operating.JobRun,
    operating.Invariant,
    chain.AuditVerification,
    profile.UserProfile,
    journal.Row,
    leases.Lease,
    health.HealthCheck,
    psp_ledger.Charge,
    psp_ledger.PspOrder,
    psp_attempts.PspAttempt,
    reviews.PaymentReview,
    statements.Statement,
    statements.StatementLine,
]

CATALOGUE = {
    "columns": """
        SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
               a.attidentity, pg_get_expr(d.adbin, d.adrelid)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped AND n.nspname = ANY(%s)
    """,
    "constraints": """
        SELECT n.nspname, c.relname, pg_get_constraintdef(k.oid)
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE k.contype <> 'n' AND n.nspname = ANY(%s)
    """,
    "indexes": """
        SELECT n.nspname, c.relname, pg_get_indexdef(i.indexrelid)
        FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = i.indexrelid)
          AND n.nspname = ANY(%s)
    """,
}


@contextmanager
def scratch(url: str, name: str) -> Iterator[str]:
    """A database of its own for the block: its URL."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield url.rpartition("/")[0] + "/" + name
    finally:
        cursor.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        connection.close()


def catalogue(url: str, schemas: list[str]) -> dict[str, set[tuple[object, ...]]]:
    connection = psycopg2.connect(url)
    try:
        found = {}
        for what, query in CATALOGUE.items():
            cursor = connection.cursor()
            cursor.execute(query, (schemas,))
            found[what] = set(cursor.fetchall())
        return found
    finally:
        connection.close()


def test_models_and_migrations_make_the_same_database(postgres_server):
    schemas = sorted({str(model._meta.schema) for model in MODELS})
    with (
        scratch(postgres_server.url, "migrated") as migrated,
        scratch(postgres_server.url, "modelled") as modelled,
    ):
        migrate.up(migrated)
        database = peewee.PostgresqlDatabase(modelled)
        with database.bind_ctx(MODELS), database.connection_context():
            for schema in schemas:
                database.execute_sql(f"CREATE SCHEMA {schema}")
            for model in MODELS:
                model.create_table(safe=False)
        by_hand, by_model = catalogue(migrated, schemas), catalogue(modelled, schemas)
    for what in CATALOGUE:
        assert len(by_hand[what]) > 20
        assert by_hand[what] - by_model[what] == set(), f"{what} that only the migrations make"
        assert by_model[what] - by_hand[what] == set(), f"{what} that only the models make"


def test_every_table_has_a_model(stores):
    with postgres.connection():
        tables = postgres.rows(
            "SELECT table_schema || '.' || table_name AS name FROM information_schema.tables"
            " WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('public', 'pg_catalog', 'information_schema')"
        )
    assert {row["name"] for row in tables} == {f"{m._meta.schema}.{m._meta.table_name}" for m in MODELS}


def test_no_foreign_key_cascades_into_money_or_audit_rows(stores):
    with postgres.connection():
        cascades = postgres.rows(
            "SELECT conrelid::regclass::text AS name FROM pg_constraint WHERE contype = 'f' AND confdeltype <> 'a'"
        )
    assert {row["name"].partition(".")[0] for row in cascades} <= {"auth", "profile"}


def test_migrating_again_changes_nothing(postgres_server, stores):
    assert migrate.up(postgres_server.url) == []


def test_of_several_at_once_one_migrates_and_the_others_find_nothing_to_do(postgres_server):
    with scratch(postgres_server.url, "crowded") as url, ThreadPoolExecutor(3) as threads:
        applied = [name for names in threads.map(migrate.up, [url] * 3) for name in names]
    assert sorted(applied) == [file.name for file in sorted(migrate.FILES.glob("[0-9]*.sql"))]


def test_a_migration_edited_after_it_was_applied_is_refused(postgres_server, stores, tmp_path, monkeypatch):
    for file in migrate.FILES.glob("*.sql"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "0001_auth.sql").write_text("SELECT 1")
    monkeypatch.setattr(migrate, "FILES", tmp_path)
    with pytest.raises(migrate.Edited, match=r"0001_auth\.sql"):
        migrate.up(postgres_server.url)


def test_a_migration_that_fails_leaves_nothing_behind(postgres_server, tmp_path, monkeypatch):
    (tmp_path / "0001_half.sql").write_text("CREATE TABLE half (id int); SELECT 1 / 0;")
    monkeypatch.setattr(migrate, "FILES", tmp_path)
    with scratch(postgres_server.url, "half") as url:
        with pytest.raises(psycopg2.errors.DivisionByZero):
            migrate.up(url)
        connection = psycopg2.connect(url)
        cursor = connection.cursor()
        cursor.execute("SELECT to_regclass('half')")
        assert cursor.fetchone() == (None,)
        connection.close()


def test_a_request_of_before_belongs_to_whoever_has_proved_its_address(
    postgres_server, tmp_path, monkeypatch
):
    files = sorted(migrate.FILES.glob("*.sql"))
    monkeypatch.setattr(migrate, "FILES", tmp_path)
    with scratch(postgres_server.url, "before") as url:
        for file in files:
            if file.name < "0028":
                (tmp_path / file.name).write_bytes(file.read_bytes())
        migrate.up(url)
        with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(BEFORE_ADDRESSEES)
        for file in files:
            (tmp_path / file.name).write_bytes(file.read_bytes())
        migrate.up(url)
        with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT p.customer_email, u.name, t.addressee_id = p.addressee_id FROM payments.payments p"
                " JOIN payments.payment_transactions t ON t.payment_id = p.id"
                " LEFT JOIN auth.users u ON u.id = p.addressee_id ORDER BY 1"
            )
            assert cursor.fetchall() == [("A@example.com", "a", True), ("b@example.com", None, None)]


BEFORE_ADDRESSEES = """
    INSERT INTO auth.users (email, password_hash, name, role, email_verified)
        VALUES ('a@example.com', '', 'a', 'CUSTOMER', true), ('b@example.com', '', 'b', 'CUSTOMER', false);
    INSERT INTO payments.payments (user_id, type, status, amount, customer_email)
        SELECT id, 'initiate', 'pending', 1, address FROM auth.users,
            unnest(ARRAY['A@example.com', 'b@example.com']) AS address WHERE name = 'a';
    INSERT INTO payments.payment_transactions
        (payment_id, transaction_type, amount, currency, status, user_id)
        SELECT id, 'create', amount, currency, status, user_id FROM payments.payments;
"""


def test_reviews_and_orders_of_before_are_kept(postgres_server, tmp_path, monkeypatch):
    files = sorted(migrate.FILES.glob("*.sql"))
    monkeypatch.setattr(migrate, "FILES", tmp_path)
    with scratch(postgres_server.url, "before_reviews") as url:
        for file in files:
            if file.name < "0020":
                (tmp_path / file.name).write_bytes(file.read_bytes())
        migrate.up(url)
        with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(BEFORE_REVIEWS)
        for file in files:
            (tmp_path / file.name).write_bytes(file.read_bytes())
        migrate.up(url)
        with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT r.reason, r.cause FROM payments.payment_reviews r"
                " JOIN payments.payments p ON p.id = r.payment_id ORDER BY p.description"
            )
            assert cursor.fetchall() == [
                ("the PSP does not answer", "psp_silent"),
                ("the PSP charged it, but it is failed", "charged_after_end"),
                ("the PSP says: charged 13.50 USD", "amount_differs"),
                ("the PSP's statement says: charged, but the payment is processing", "statement_charged"),
                ("the PSP's statement says: charged 2 times", "statement_differs"),
                ("whatever it was", "other"),
            ]
            # Only what the payment does not agree with is settled once more.
            cursor.execute(
                "SELECT p.description FROM payments.psp_attempts a JOIN payments.payments p"
                " ON p.id = a.payment_id WHERE a.settled_at IS NULL AND a.outcome = 'charged'"
            )
            assert cursor.fetchall() == [("2",)]
            cursor.execute("SELECT ordered_metadata, metadata FROM payments.payments WHERE description = '1'")
            assert cursor.fetchall() == [({"order": "A-1"}, {"note": "edited"})]
            cursor.execute("SELECT args FROM journal.tasks")
            [(args,)] = cursor.fetchall()
            assert args.keys() == {"payment_id"}


BEFORE_REVIEWS = """
    INSERT INTO auth.users (email, password_hash, name, role) VALUES ('a@example.com', '', 'a', 'CUSTOMER');
    INSERT INTO payments.payments (user_id, type, status, amount, metadata, description, review)
        SELECT u.id, 'payment', status, 12.50, '{"note": "edited"}', called, review FROM auth.users u, (VALUES
            ('1', 'processing', 'the PSP does not answer'),
            ('2', 'failed', 'the PSP charged it, but it is failed'),
            ('3', 'processing', 'the PSP says: charged 13.50 USD'),
            ('4', 'processing', 'the PSP''s statement says: charged, but the payment is processing'),
            ('5', 'completed', 'the PSP''s statement says: charged 2 times'),
            ('6', 'completed', 'whatever it was'),
            ('7', 'completed', NULL)
        ) AS v (called, status, review);
    INSERT INTO payments.psp_attempts (id, payment_id, operation, reference, outcome, ended_at)
        SELECT gen_random_uuid(), id, 'charge', id, 'charged', now() FROM payments.payments
        WHERE description IN ('2', '7');
    INSERT INTO journal.tasks (id, verb, queue, args, due_at)
        SELECT gen_random_uuid(), 'payments.charge', 'psp', jsonb_build_object('payment_id', id,
            'amount', '12.50', 'currency', 'USD', 'metadata', '{"order": "A-1"}'::jsonb), now()
        FROM payments.payments WHERE description = '1';
"""
