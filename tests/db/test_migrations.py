"""The models have the columns of the migrated tables, and migrations keep the data of earlier releases."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import peewee
import psycopg2
import pytest
from psycopg2 import sql

import db
from actors import payment_jobs
from actors.psp.provider import Answer, Outcome
from db import migrate, one_time_tokens, postgres, psp_attempts, reviews, sign_in_failures, states, users
from db.core import money

for _module in pkgutil.iter_modules(db.__path__):
    importlib.import_module(f"db.{_module.name}")
MODELS = [model for model in postgres.Model.__subclasses__() if model.__module__.startswith("db.")]

# The view of the event log has a model. Nothing is known of its columns but their types.
VIEWS = {("admin", "events")}
# Defaults, indexes, constraints and generated columns stand in the migrations alone: no code reads them from a model.
COLUMNS = """
    SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
        AND n.nspname = ANY(%s)
"""


@contextmanager
def scratch(url: str, name: str) -> Iterator[str]:
    """Creates a database for the block; yields its URL."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield url.rpartition("/")[0] + "/" + name
    finally:
        cursor.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        connection.close()


def columns(url: str, schemas: list[str]) -> set[tuple[object, ...]]:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(COLUMNS, (schemas,))
        return set(cursor.fetchall())


def test_every_model_has_the_columns_types_and_nullability_of_its_table(postgres_server):
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
        in_tables, in_models = columns(migrated, schemas), columns(modelled, schemas)
        in_models = {column for column in in_models if column[:2] not in VIEWS}
    # A table that only SQL reads and writes has no model.
    modelled_tables = {column[:2] for column in in_models}
    in_tables = {column for column in in_tables if column[:2] in modelled_tables}
    assert len(in_tables) > 130
    assert in_tables - in_models == set(), "columns that only the tables have"
    assert in_models - in_tables == set(), "columns that only the models have"


@pytest.mark.parametrize(
    ("values", "table", "constraint"),
    [
        (users.Role, "auth.users", "users_role_check"),
        (one_time_tokens.Purpose, "auth.one_time_tokens", "one_time_tokens_purpose_check"),
        (sign_in_failures.PasswordUse, "auth.sign_in_failures", "sign_in_failures_purpose_check"),
        (states.PaymentType, "payments.payments", "payments_type_check"),
        (states.PaymentStatus, "payments.payments", "payments_status_check"),
        (money.NO_DECIMALS, "payments.payments", "payments_amount_fits_its_currency"),
        (psp_attempts.PspOperation, "payments.psp_attempts", "psp_attempts_operation_check"),
        (reviews.ReviewCause, "payments.payment_reviews", "payment_reviews_cause_check"),
    ],
)
def test_a_check_allows_exactly_the_values_of_the_code(stores, values, table, constraint):
    with postgres.connection():
        [row] = postgres.rows(
            "SELECT pg_get_constraintdef(oid) AS definition FROM pg_constraint"
            " WHERE conrelid = %s::regclass AND conname = %s",
            table,
            constraint,
        )
    assert set(re.findall(r"'([^']+)'", row["definition"])) == set(values)


def test_no_foreign_key_cascades_into_money_or_audit_rows(stores):
    with postgres.connection():
        cascades = postgres.rows(
            "SELECT conrelid::regclass::text AS name FROM pg_constraint WHERE contype = 'f' AND confdeltype <> 'a'"
        )
    assert {row["name"].partition(".")[0] for row in cascades} <= {"auth", "profile"}


def test_migrating_again_changes_nothing(postgres_server, stores):
    assert migrate.up(postgres_server.url) == []


def test_of_concurrent_processes_one_migrates(postgres_server):
    with scratch(postgres_server.url, "crowded") as url, ThreadPoolExecutor(3) as threads:
        applied = [name for names in threads.map(migrate.up, [url] * 3) for name in names]
    assert sorted(applied) == [file.name for file in sorted(migrate.DIRECTORY.glob("[0-9]*.sql"))]


def test_a_migration_edited_after_it_was_applied_is_refused(postgres_server, stores, tmp_path, monkeypatch):
    for file in migrate.DIRECTORY.glob("*.sql"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "0001_auth.sql").write_text("SELECT 1")
    monkeypatch.setattr(migrate, "DIRECTORY", tmp_path)
    with pytest.raises(migrate.EditedMigration, match=r"0001_auth\.sql"):
        migrate.up(postgres_server.url)


def test_a_migration_that_fails_leaves_nothing_behind(postgres_server, tmp_path, monkeypatch):
    (tmp_path / "0001_half.sql").write_text("CREATE TABLE half (id int); SELECT 1 / 0;")
    monkeypatch.setattr(migrate, "DIRECTORY", tmp_path)
    with scratch(postgres_server.url, "half") as url:
        with pytest.raises(psycopg2.errors.DivisionByZero):
            migrate.up(url)
        connection = psycopg2.connect(url)
        cursor = connection.cursor()
        cursor.execute("SELECT to_regclass('half')")
        assert cursor.fetchone() == (None,)
        connection.close()


@contextmanager
def upgraded(
    server: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, *, since: str, data: str
) -> Iterator[Any]:
    """Migrates a database with old data.

    The data is inserted before the migration of this number; then all migrations run. Yields a cursor.
    """
    files = sorted(migrate.DIRECTORY.glob("*.sql"))
    monkeypatch.setattr(migrate, "DIRECTORY", folder)
    with scratch(server.url, f"before_{since}") as url:
        for file in files:
            if file.name < since:
                (folder / file.name).write_bytes(file.read_bytes())
        migrate.up(url)
        with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(data)
        for file in files:
            (folder / file.name).write_bytes(file.read_bytes())
        migrate.up(url)
        with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            yield cursor


def test_an_old_request_belongs_to_the_user_who_verified_its_address(postgres_server, tmp_path, monkeypatch):
    with upgraded(postgres_server, tmp_path, monkeypatch, since="0028", data=BEFORE_ADDRESSEES) as cursor:
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


def test_old_reviews_and_orders_are_kept(postgres_server, tmp_path, monkeypatch):
    with upgraded(postgres_server, tmp_path, monkeypatch, since="0020", data=BEFORE_REVIEWS) as cursor:
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
        # A decision that differs from its payment is settled again, and no other.
        cursor.execute(
            "SELECT p.description FROM payments.psp_attempts a JOIN payments.payments p"
            " ON p.id = a.payment_id WHERE a.settled_at IS NULL AND a.outcome = 'charged'"
        )
        assert cursor.fetchall() == [("2",)]
        cursor.execute("SELECT ordered_metadata, metadata FROM payments.payments WHERE description = '1'")
        assert cursor.fetchall() == [({"order": "A-1"}, {"note": "edited"})]
        cursor.execute("SELECT args FROM journal.jobs")
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


def test_waiting_jobs_of_payments_are_done_in_batches(postgres_server, tmp_path, monkeypatch):
    with upgraded(postgres_server, tmp_path, monkeypatch, since="0056", data=BEFORE_BATCHES) as cursor:
        cursor.execute("SELECT name, args FROM journal.jobs WHERE sent_at <> '-infinity' ORDER BY name")
        waiting = cursor.fetchall()
        assert [(name, args["payment_id"]) for name, args in waiting] == [
            ("payments.begin", PAYMENT_ID),
            ("payments.settle", PAYMENT_ID),
        ]
        cursor.execute("SELECT count(*) FROM journal.jobs WHERE sent_at = 'infinity'")
        assert cursor.fetchone() == (2,)
        decision = payment_jobs.Decision.model_validate(waiting[1][1])
        assert decision.answer == Answer(Outcome.DECLINED, "lost_card")
        assert (decision.answer.amount, decision.answer.currency) == (Decimal("12.50"), "USD")
        assert str(decision.attempt_id) == PAYMENT_ID


def test_waiting_jobs_that_call_the_outside_can_be_leased(postgres_server, tmp_path, monkeypatch):
    with upgraded(postgres_server, tmp_path, monkeypatch, since="0052", data=BEFORE_LEASES) as cursor:
        cursor.execute(
            "SELECT name, share, sent_at::text, leased_until IS NULL FROM journal.jobs ORDER BY position"
        )
        assert cursor.fetchall() == [
            ("payments.charge", PAYMENT_ID, "infinity", True),
            ("payments.charge", PAYMENT_ID, "infinity", False),
            ("payments.inquire", "", "-infinity", True),
            ("mail.send_link", "", "-infinity", True),
        ]


# Sent; leased; delayed; failed.
BEFORE_LEASES = """
    INSERT INTO journal.jobs (id, name, queue, args, due_at, sent_at, leased_until, error) VALUES
        (gen_random_uuid(), 'payments.charge', 'psp', '{"customer_id": ":id"}', now(), now(), NULL, NULL),
        (gen_random_uuid(), 'payments.charge', 'psp', '{"customer_id": ":id"}', now(), now(), now(), NULL),
        (gen_random_uuid(), 'payments.inquire', 'psp-inquiries', '{}', now(), '-infinity', NULL, NULL),
        (gen_random_uuid(), 'mail.send_link', 'mail', '{}', now(), now(), NULL, 'it broke');
""".replace(":id", "8c8ee1f6-5f6c-4b3e-9d41-3d9f6f0a1b2c")

PAYMENT_ID = "8c8ee1f6-5f6c-4b3e-9d41-3d9f6f0a1b2c"
# A delayed job has no message yet; the others have been sent.
BEFORE_BATCHES = f"""
    INSERT INTO journal.jobs (id, name, queue, args, due_at, sent_at) VALUES
        (gen_random_uuid(), 'payments.begin', 'payments', '{{"payment_id": "{PAYMENT_ID}"}}', now(), now()),
        (gen_random_uuid(), 'payments.resolve', 'payments', '{{"payment_id": "{PAYMENT_ID}"}}', now(), '-infinity'),
        (gen_random_uuid(), 'payments.settle', 'payments', '{{"payment_id": "{PAYMENT_ID}", "outcome": "declined",
            "code": "lost_card", "amount": "12.50", "currency": "USD", "attempt_id": "{PAYMENT_ID}"}}', now(), now());
"""


def test_data_of_every_kind_survives_the_upgrade(postgres_server, tmp_path, monkeypatch):
    with upgraded(postgres_server, tmp_path, monkeypatch, since="0019", data=BEFORE_ALL) as cursor:

        def found(query: str) -> list[tuple[Any, ...]]:
            cursor.execute(query)
            return list(cursor.fetchall())

        assert found("SELECT type, status, amount::text, currency FROM payments.payments ORDER BY 1, 2") == [
            ("initiate", "cancelled", "10.00", "USD"),
            ("initiate", "completed", "500.00", "JPY"),
            ("initiate", "failed", "10.00", "USD"),
            ("initiate", "initiated", "10.00", "USD"),
            ("initiate", "pending", "10.00", "USD"),
            ("initiate", "processing", "99999999.99", "EUR"),
            ("payment", "cancelled", "10.00", "USD"),
            ("payment", "completed", "500.00", "JPY"),
            ("payment", "failed", "10.00", "USD"),
            ("payment", "pending", "10.00", "USD"),
            ("payment", "processing", "99999999.99", "EUR"),
        ]
        assert found("SELECT DISTINCT metadata FROM payments.payments") == [
            ({"a": {"deep": [1, None, "\u00e9"]}},)
        ]
        # A request has no addressee while nobody has verified the address, or when the account is closed.
        assert found("SELECT count(*) FROM payments.payments WHERE addressee_id IS NOT NULL") == [(1,)]
        assert found("SELECT email, closed_at IS NOT NULL FROM auth.users ORDER BY 1") == [
            ("closed@closed.invalid", True),
            ("customer@example.com", False),
            ("vendor@example.com", False),
        ]
        assert found("SELECT email FROM auth.former_addresses") == [("before@example.com",)]
        assert found("SELECT address FROM auth.known_addresses ORDER BY 1") == [
            ("192.0.2.7",),
            ("2001:db8:0:1::",),
        ]
        assert found("SELECT count(*) FROM auth.one_time_tokens WHERE due_at = created_at") == [(1,)]
        # Decisions are settled, except those that differ from their payment. Other results are not settled.
        assert found(
            "SELECT outcome, settled_at IS NULL FROM payments.psp_attempts WHERE outcome IS NULL"
            " OR outcome IN ('charged', 'declined') ORDER BY 1, 2"
        ) == [("charged", False), ("charged", True), ("declined", True), (None, True)]
        assert found("SELECT amount::text, currency FROM payments.statement_lines") == [("10.00", "USD")]
        assert found("SELECT name, ended_at FROM admin.job_runs") == [("payments.reconcile", None)]
        # The relay finds each live job by exactly one of its two conditions; the dead job stays dead.
        due = "dead_at IS NULL AND (leased_until IS NOT NULL OR sent_at = '-infinity')"
        sent = "dead_at IS NULL AND sent_at > '-infinity' AND sent_at < 'infinity'"
        assert found(
            f"SELECT count(*), count(*) FILTER (WHERE ({due}) <> ({sent})),"
            " count(*) FILTER (WHERE dead_at IS NOT NULL) FROM journal.jobs"
        ) == [(5, 4, 1)]
        # Waiting audit entries and events are records now. An entry gets the name that its action has now.
        assert found(
            "SELECT args #> '{events,0,data}', args #>> '{audit_entries,0,action}',"
            " coalesce(args #>> '{events,0,id}', args #>> '{audit_entries,0,id}') = id::text FROM journal.jobs"
            " WHERE name = 'records.append' ORDER BY position"
        ) == [({}, None, True), (None, "payments.transition.refused", True)]


# After the second, the third is published again: nothing says any more that it was.
@pytest.mark.parametrize(("unpublished", "published_up_to"), [(2, 1), (4, 3)], ids=["one", "none"])
def test_events_unpublished_at_the_upgrade_are_published(
    postgres_server, tmp_path, monkeypatch, unpublished, published_up_to
):
    data = THREE_EVENTS.replace(":unpublished", str(unpublished))
    with upgraded(postgres_server, tmp_path, monkeypatch, since="0061", data=data) as cursor:
        cursor.execute("SELECT seq FROM admin.event_publication")
        assert cursor.fetchall() == [(published_up_to,)]


def test_a_mail_that_waits_at_the_upgrade_is_to_the_same_user(postgres_server, tmp_path, monkeypatch):
    with upgraded(postgres_server, tmp_path, monkeypatch, since="0062", data=TWO_MAILS) as cursor:
        cursor.execute("SELECT args - 'payment_id' FROM journal.jobs ORDER BY position")
        assert cursor.fetchall() == [({"to_payee": False},), ({"to_payee": True},)]


TWO_MAILS = """
    INSERT INTO auth.users (email, password_hash, name, role)
        VALUES ('payer@example.com', '', 'payer', 'CUSTOMER'), ('payee@example.com', '', 'payee', 'VENDOR');
    INSERT INTO payments.payments (user_id, payee_id, type, status, amount)
        SELECT payer.id, payee.id, 'payment', 'pending', 1 FROM auth.users payer, auth.users payee
        WHERE payer.name = 'payer' AND payee.name = 'payee';
    INSERT INTO journal.jobs (id, name, queue, args, due_at)
        SELECT gen_random_uuid(), 'mail.notify_payment_ended', 'mail',
            jsonb_build_object('user_id', u.id, 'payment_id', p.id), now()
        FROM payments.payments p JOIN auth.users u ON u.id IN (p.user_id, p.payee_id) ORDER BY u.role;
"""


THREE_EVENTS = """
    INSERT INTO admin.events (id, seq, type, data, occurred_at, published_at)
        SELECT gen_random_uuid(), seq, 'x', '{}', now(), CASE seq WHEN :unpublished THEN NULL ELSE now() END
        FROM generate_series(1, 3) AS seq;
"""


# Users, sessions, payments in every status, calls to the PSP, events and jobs.
BEFORE_ALL = """
    INSERT INTO auth.users (email, password_hash, name, role, email_verified, active) VALUES
        ('vendor@example.com', '', 'v', 'VENDOR', true, true),
        ('customer@example.com', '', 'c', 'CUSTOMER', true, true),
        ('closed@closed.invalid', 'closed', 'Closed account', 'CUSTOMER', false, false);
    INSERT INTO auth.sessions (user_id, ip_address)
        SELECT id, address FROM auth.users, unnest(ARRAY['192.0.2.7', '192.0.2.7', '2001:db8:0:1::5', NULL]) AS address
        WHERE role = 'VENDOR';
    INSERT INTO auth.refresh_tokens (user_id, session_id, token, expires_at)
        SELECT user_id, id, id, now() FROM auth.sessions;
    INSERT INTO auth.one_time_tokens (id, user_id, purpose, token, expires_at)
        SELECT id, id, 'verify-email', id, now() FROM auth.users WHERE role = 'VENDOR';
    INSERT INTO auth.sign_in_failures VALUES ('digest', 3, now());
    INSERT INTO payments.payments (user_id, type, status, amount, currency, metadata, customer_email, failure_code)
        SELECT u.id, type, status,
            CASE status WHEN 'processing' THEN 99999999.99 WHEN 'completed' THEN 500 ELSE 10 END,
            CASE status WHEN 'processing' THEN 'EUR' WHEN 'completed' THEN 'JPY' ELSE 'USD' END,
            '{"a": {"deep": [1, null, "\u00e9"]}}',
            CASE WHEN type = 'initiate' THEN CASE status WHEN 'initiated' THEN 'Customer@example.com'
                WHEN 'pending' THEN 'nobody@example.com' WHEN 'failed' THEN 'closed@closed.invalid' END END,
            CASE status WHEN 'failed' THEN 'expired' END
        FROM auth.users u, unnest(ARRAY['initiate', 'payment']) AS type,
            unnest(ARRAY['pending', 'initiated', 'processing', 'completed', 'failed', 'cancelled']) AS status
        WHERE u.role = 'VENDOR' AND (type = 'initiate' OR status <> 'initiated');
    UPDATE payments.payments p SET payee_id = r.user_id, request_id = r.id FROM payments.payments r
        WHERE p.type = 'payment' AND r.type = 'initiate' AND r.status = p.status AND p.status IN ('completed', 'processing');
    INSERT INTO payments.payment_transactions
        (payment_id, transaction_type, amount, currency, status, user_id, actor_id)
        SELECT id, 'create', amount, currency, 'pending', user_id, user_id FROM payments.payments;
    INSERT INTO payments.idempotency_keys (user_id, key, request, status, body, payment_id)
        SELECT user_id, id, id, 201, '{}', id FROM payments.payments;
    INSERT INTO payments.psp_attempts (id, payment_id, operation, reference, outcome, code)
        SELECT gen_random_uuid(), id, 'charge', id, outcome, NULL FROM payments.payments, (VALUES
            ('completed', 'charged'), ('failed', 'charged'), ('processing', 'declined'), ('processing', 'no_answer'),
            ('processing', 'unavailable'), ('processing', 'not_found'), ('processing', NULL)
        ) AS v (was, outcome) WHERE type = 'payment' AND status = was;
    INSERT INTO payments.statements (day, lines, differences) VALUES ('2026-01-01', 1, 0);
    INSERT INTO payments.statement_lines VALUES ('b-1', '2026-01-01', 'r-1', 10, 'USD', 'charged', now());
    INSERT INTO admin.events (id, seq, type, data, occurred_at)
        SELECT gen_random_uuid(), 1, 'auth:user:registered', jsonb_build_object('id', id, 'email', 'Before@example.com'), now()
        FROM auth.users WHERE role = 'CUSTOMER' AND active;
    INSERT INTO admin.job_runs VALUES ('payments.reconcile', now());
    INSERT INTO admin.invariants VALUES ('charged_once', 1, '["x"]', now());
    INSERT INTO admin.missed_events (name, seq, error) VALUES ('hub.letters', 1, 'it broke');
    INSERT INTO journal.tasks (id, verb, queue, args, due_at, error, leased_until, dead_at, attempts) VALUES
        (gen_random_uuid(), 'events.log', 'events', '{"data": {}}', now(), NULL, NULL, NULL, 0),
        (gen_random_uuid(), 'payments.settle', 'payments', '{"payment_id": "x"}', now(), 'it broke', NULL, NULL, 3),
        (gen_random_uuid(), 'payments.charge', 'psp', '{"payment_id": "x", "metadata": {}}', now(), NULL, now(), NULL, 1),
        (gen_random_uuid(), 'mail.send_link', 'mail', '{}', now(), 'it broke', NULL, now(), 20),
        (gen_random_uuid(), 'audit.write', 'events', '{"action": "payments.step.refused"}', now(), NULL, NULL, NULL, 0);
"""
