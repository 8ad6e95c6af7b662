"""The statement that accepts a new payment: its key with the stored response, the payment, and its jobs."""

from collections.abc import Sequence
from uuid import UUID

from db import idempotency, job_journal, postgres
from db.core.ids import uuid7
from db.idempotency import NewKey
from db.job_journal import Job
from db.payments import COLUMNS, Payment
from db.prepared import Statement

# One statement instead of eight. A used key stores nothing: `claimed` is empty, and so is all that follows.
# `claimed` waits for a concurrent transaction with the same key. A column that a later release adds gets its
# default.
ACCEPT = Statement(
    "accept_payment",
    f"""
    WITH claimed AS (
        INSERT INTO payments.idempotency_keys
            (user_id, key, request_hash, status, body, payment_id, provisional)
        SELECT %(user_id)s::uuid, %(key)s::text, %(request_hash)s::text, %(status)s::int, %(body)s::bytea,
            %(payment_id)s::uuid, %(provisional)s::boolean
        WHERE %(key)s IS NOT NULL
        ON CONFLICT DO NOTHING RETURNING key
    ), payment AS (
        INSERT INTO payments.payments ({COLUMNS})
        SELECT {COLUMNS} FROM jsonb_populate_record(NULL::payments.payments, %(payment)s::jsonb)
        WHERE %(key)s IS NULL OR EXISTS (SELECT FROM claimed)
        RETURNING *
    ), history AS (
        INSERT INTO payments.payment_transactions
            (id, payment_id, transaction_type, amount, currency, status, actor_id, user_id, payee_id,
            addressee_id, created_at)
        SELECT %(transaction_id)s::uuid, id, 'create', amount, currency, status, %(actor_id)s::uuid, user_id,
            payee_id, addressee_id, created_at
        FROM payment
    ), enqueued AS (
        INSERT INTO journal.jobs (id, name, queue, args, request_id, trace, share, sent_at, due_at)
        SELECT job.id, job.name, job.queue, job.args, job.request_id, job.trace, job.share,
            coalesce(job.sent_at, clock_timestamp()), clock_timestamp() + job.after * interval '1 second'
        FROM payment, jsonb_to_recordset(%(jobs)s::jsonb) AS job
            (id uuid, name text, queue text, args jsonb, request_id text, trace text, share text,
            sent_at timestamptz, after float8)
    )
    SELECT id FROM payment
    """,
)


def store(payment: Payment, jobs: Sequence[Job], *, actor_id: UUID | None, key: NewKey | None = None) -> None:
    """Stores a new payment with its first history row and the jobs, and the response under the key.

    The last statement of its transaction. Raises idempotency.KeyUsed, idempotency.KeyInUse.
    """
    status, body = key.respond(payment) if key else (None, None)
    with idempotency.waiting_for_key(key):
        stored = postgres.last_rows(
            ACCEPT,
            user_id=payment.user_id,
            key=key and key.key,
            request_hash=key and key.request_hash,
            status=status,
            body=body,
            payment_id=payment.id,
            provisional=key and key.provisional,
            payment=postgres.Json(payment.__data__),
            transaction_id=uuid7(),
            actor_id=actor_id,
            jobs=postgres.Json(job_journal.records(jobs)),
        )
    if not stored:
        raise idempotency.KeyUsed
