"""Fills a migrated database with a past: payments with their history, events, audit entries, attempts, users.

    python -m tests.bench.growth postgresql://postgres@127.0.0.1:5442/growth 1000000

The rows are those that the application would have written over 90 days, so that invariants hold, and the same at each
run except for the ids. Needs a superuser, because it writes rows that the triggers would refuse.
"""

import sys
import time

import psycopg2

from db.audit_chain import HASHED_ENTRY

# Ids that ascend with time, as those of new rows do.
ID = """
    CREATE FUNCTION pg_temp.id_at(at timestamptz) RETURNS uuid LANGUAGE sql AS $$
        SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7'
            || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid
    $$
"""

# A payment in 20 is of a new customer, and one request in 100 of a new vendor.
USERS = """
    INSERT INTO auth.users (email, password_hash, name, role, email_verified, created_at)
    SELECT lower(role) || n || '@growth.example', 'none', initcap(role) || ' Number ' || n, role, true,
        now() - interval '91 days' + n * interval '10 milliseconds'
    FROM (SELECT 'CUSTOMER' AS role, n FROM generate_series(1, %(payments)s / 20 + 1) AS n
        UNION ALL SELECT 'VENDOR', n FROM generate_series(1, %(payments)s / 1000 + 1) AS n) AS made
"""

SESSIONS = """
    INSERT INTO auth.sessions (user_id, created_at, last_used_at)
    SELECT id, created_at, now() - random() * interval '30 days' FROM auth.users WHERE email LIKE '%%@growth.example'
"""

PEOPLE = """
    CREATE TEMPORARY TABLE people AS
    SELECT id, email, role, row_number() OVER (PARTITION BY role ORDER BY created_at, id) AS number
    FROM auth.users WHERE email LIKE '%%@growth.example';
    ANALYZE people
"""

# One in ten payments pays a request, one in five requests is addressed to the first customer. Nine in ten payments are
# completed, one in 1,000 is cancelled, one in 10,000 is in a rare currency.
PLAN = """
    CREATE TEMPORARY TABLE plan AS
    WITH numbered AS (
        SELECT n, now() - interval '1 minute' - (%(payments)s - n) * interval '90 days' / %(payments)s AS at,
            n %% 10 = 0 AS is_requested,
            CASE WHEN n %% 50 = 0 THEN 1 ELSE 1 + n::bigint * 7919 %% (%(payments)s / 20) END AS customer,
            1 + n::bigint * 6007 %% (%(payments)s / 1000 + 1) AS vendor
        FROM generate_series(1, %(payments)s) AS n
    )
    SELECT n, at, is_requested, pg_temp.id_at(at) AS id,
        CASE WHEN is_requested THEN pg_temp.id_at(at - interval '1 hour') END AS request_id,
        customers.id AS customer_id, customers.email,
        CASE WHEN is_requested THEN vendors.id END AS vendor_id, 1 + n %% 100 AS amount,
        CASE WHEN n %% 10000 = 1 THEN 'CHF' WHEN n %% 5 = 0 THEN 'EUR' ELSE 'USD' END AS currency,
        CASE WHEN n %% 1000 = 7 THEN 'cancelled' WHEN n %% 10 = 3 THEN 'failed' ELSE 'completed' END AS status
    FROM numbered
    JOIN people AS customers ON customers.role = 'CUSTOMER' AND customers.number = customer
    JOIN people AS vendors ON vendors.role = 'VENDOR' AND vendors.number = vendor
"""

# Every step of every payment and request: its number, the time after the creation, and the status that it led to.
STEPS = """
    CREATE TEMPORARY TABLE steps AS
    SELECT id AS payment_id, at + after AS at, step, type, from_status, to_status, 'payment' AS payment_type, customer_id
        AS user_id, vendor_id AS payee_id, NULL::uuid AS addressee_id, NULL AS email, amount, currency, request_id
    FROM plan, LATERAL (VALUES
        (1, interval '0', 'create', NULL, 'pending', true),
        (2, '20 milliseconds', 'begin', 'pending', 'processing', status <> 'cancelled'),
        (2, '20 milliseconds', 'cancel', 'pending', 'cancelled', status = 'cancelled'),
        (3, '80 milliseconds', 'complete', 'processing', 'completed', status = 'completed'),
        (3, '80 milliseconds', 'fail', 'processing', 'failed', status = 'failed')
    ) AS step (step, after, type, from_status, to_status, is_made) WHERE is_made
    UNION ALL
    SELECT request_id, at + after, step, type, from_status, to_status, 'initiate', vendor_id, vendor_id, customer_id,
        email, amount, currency, NULL
    FROM plan, LATERAL (VALUES
        (1, interval '-1 hour', 'create', NULL, 'pending'),
        (2, '-1 hour 20 milliseconds', 'begin', 'pending', 'initiated'),
        (3, '0', 'engage', 'initiated', 'processing'),
        (4, '80 milliseconds', 'complete', 'processing', 'completed')
    ) AS step (step, after, type, from_status, to_status) WHERE is_requested
"""

PAYMENTS = """
    INSERT INTO payments.payments (id, user_id, type, status, amount, currency, request_id, payee_id, customer_email,
        addressee_id, failure_code, version, created_at, updated_at)
    SELECT payment_id, user_id, payment_type, to_status, amount, currency, request_id, payee_id, email, addressee_id,
        CASE to_status WHEN 'failed' THEN 'card_declined' END, step, created_at, at
    FROM (SELECT *, lead(step) OVER steps AS next, first_value(at) OVER steps AS created_at FROM steps
        WINDOW steps AS (PARTITION BY payment_id ORDER BY step)) AS numbered
    WHERE next IS NULL ORDER BY created_at
"""

HISTORY = """
    INSERT INTO payments.payment_transactions (id, payment_id, transaction_type, amount, currency, from_status, status,
        actor_id, user_id, payee_id, addressee_id, created_at)
    SELECT pg_temp.id_at(at), payment_id, type, amount, currency, from_status, to_status,
        CASE type WHEN 'create' THEN user_id END, user_id, payee_id, addressee_id, at
    FROM steps ORDER BY at
"""

ATTEMPTS = """
    INSERT INTO payments.psp_attempts (id, payment_id, operation, reference, outcome, amount, currency, created_at,
        ended_at, settled_at)
    SELECT pg_temp.id_at(at), id, 'charge', id::text, CASE status WHEN 'completed' THEN 'charged' ELSE 'declined' END,
        amount, currency, at + interval '30 milliseconds', at + interval '60 milliseconds',
        at + interval '80 milliseconds'
    FROM plan WHERE status <> 'cancelled' ORDER BY at
"""

CHARGES = """
    INSERT INTO psp.charges (idempotency_key, payment_id, amount, currency, outcome, created_at)
    SELECT id::text, id, amount, currency, CASE status WHEN 'completed' THEN 'charged' ELSE 'declined' END,
        at + interval '50 milliseconds'
    FROM plan WHERE status <> 'cancelled' ORDER BY at
"""

EVENTS = """
    INSERT INTO admin.event_log (id, seq, type, data, occurred_at)
    SELECT pg_temp.id_at(at), (SELECT coalesce(max(seq), 0) FROM admin.events) + row_number() OVER (ORDER BY at, step),
        'payments:payment:' || event, jsonb_build_object('id', payment_id, 'type', payment_type,
            'amount', amount || '.00', 'status', to_status, 'userId', user_id, 'version', step, 'currency', currency,
            'requestId', request_id, 'customerEmail', email, 'metadata', jsonb_build_object(), 'description', NULL),
        at
    FROM steps, unnest(CASE WHEN type = 'create' THEN ARRAY['created']
        WHEN to_status IN ('completed', 'failed') AND payment_type = 'payment' THEN ARRAY['updated', to_status]
        ELSE ARRAY['updated'] END) AS event
"""

PUBLICATION = "UPDATE admin.event_publication SET seq = (SELECT max(seq) FROM admin.events)"

# One chain over all entries, as `audit_chain.APPEND` writes it, with the seal.
AUDIT = f"""
    WITH head AS (
        SELECT coalesce(max(seq), 0) AS last,
            coalesce((SELECT hash FROM admin.audit_seal), decode(repeat('00', 32), 'hex')) AS sealed
        FROM admin.audit_seal
    ), numbered AS (
        SELECT last + row_number() OVER (ORDER BY at, step) AS seq, pg_temp.id_at(at) AS id,
            CASE type WHEN 'create' THEN user_id END AS user_id, 'payments.payment.' || type AS action,
            'payment' AS resource_type, payment_id AS resource_id, jsonb_build_object('to', to_status,
                'from', from_status, 'type', payment_type, 'reason', NULL) AS details,
            '127.0.0.1' AS ip_address, NULL AS user_agent, NULL AS request_id, at AS created_at, sealed
        FROM steps, head
    ), inserted AS (
        INSERT INTO admin.audit_logs (seq, id, user_id, action, resource_type, resource_id, details, ip_address,
            user_agent, request_id, created_at, hash)
        SELECT seq, id, user_id, action, resource_type, resource_id, details, ip_address, user_agent, request_id,
            created_at, admin.audit_chain(sealed, {HASHED_ENTRY}) OVER (ORDER BY seq)
        FROM numbered ORDER BY seq RETURNING seq, hash
    )
    INSERT INTO admin.audit_seal (seq, hash) SELECT seq, hash FROM inserted ORDER BY seq DESC LIMIT 1
    ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash, sealed_at = clock_timestamp()
"""

STATEMENTS = {
    "users": USERS, "sessions": SESSIONS, "people": PEOPLE, "plan": PLAN, "steps": STEPS, "payments": PAYMENTS, "history": HISTORY,
    "attempts": ATTEMPTS, "charges": CHARGES, "events": EVENTS, "audit": AUDIT,
    "publication": PUBLICATION,
}  # fmt: skip


def fill(url: str, payments: int, *, report: bool = False) -> None:
    """Adds so many payments, at least 1,000, and everything that belongs to them; then vacuums."""
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica; SET LOCAL work_mem = '256MB'")
            cursor.execute("SET LOCAL statement_timeout = 0; SET LOCAL synchronous_commit = off")
            cursor.execute(ID)
            for name, statement in STATEMENTS.items():
                start = time.monotonic()
                cursor.execute(statement, {"payments": payments})
                if report:
                    sys.stdout.write(f"{name}: {cursor.rowcount} rows, {time.monotonic() - start:.1f} s\n")
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("VACUUM (ANALYZE, FREEZE)")
    finally:
        connection.close()


if __name__ == "__main__":
    fill(sys.argv[1], int(sys.argv[2]), report=True)
