"""Idempotency keys: a change is stored once for each, with the response to the first request."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import job_journal, postgres
from db.core.ids import first_at, uuid7
from db.database import sqlstate
from db.job_journal import Job
from db.payments import COLUMNS, Payment
from db.prepared import Statement
from db.states import TERMINAL

_LOCK_NOT_AVAILABLE_SQLSTATE = "55P03"


class IdempotencyKey(
    postgres.Model, table="payments.idempotency_keys", primary_key=peewee.CompositeKey("user_id", "key")
):
    """A user's key, the hash of the request that it stands for, and the stored response."""

    user_id = peewee.UUIDField()
    key = peewee.CharField(255)
    request_hash = peewee.CharField(64)
    status = peewee.IntegerField(null=True)
    body = peewee.BlobField(null=True)
    # Whether the first caller still waits (`Prefer: wait`): this response has not been sent to anyone.
    provisional = peewee.BooleanField()
    payment_id = peewee.UUIDField(null=True)
    created_at = DateTimeTZField()


# Finds keys by the ids of their payments, along an index, because these ids begin with the time. The bounds
# leave out the payments of the last day. An id of an early release is random; as the bounds move on, it lies
# outside them sooner or later.
DELETE_EXPIRED = """
    DELETE FROM payments.idempotency_keys WHERE (user_id, key) IN (
        SELECT k.user_id, k.key FROM payments.idempotency_keys k
        JOIN payments.payments p ON p.id = k.payment_id
        WHERE k.payment_id NOT BETWEEN %(first_id)s AND %(last_id)s AND k.created_at < %(before)s
            AND p.status = ANY(%(ended)s) LIMIT %(limit)s
    ) RETURNING key
"""


class KeyInUse(Exception):
    """Another transaction has inserted the key, and did not end within the lock timeout."""


class KeyUsed(Exception):
    """The key stands for an earlier request."""


@dataclass(frozen=True)
class NewKey:
    """A key to store, which turns out to be used if another request has stored it.

    `respond` makes the response, status and body, that is stored with the key.
    """

    user_id: UUID
    key: str
    request_hash: str
    provisional: bool
    respond: Callable[[Payment], tuple[int, bytes]]


STORE = """
    INSERT INTO payments.idempotency_keys
        (user_id, key, request_hash, status, body, payment_id, provisional)
    VALUES (%(user_id)s, %(key)s, %(request_hash)s, %(status)s, %(body)s, %(payment_id)s, %(provisional)s)
    ON CONFLICT DO NOTHING RETURNING key
"""


def store(key: NewKey, payment: Payment) -> None:
    """Stores a key with the response that shows this payment. Raises KeyUsed, KeyInUse."""
    columns = _columns(key, payment)
    with _waiting_for_key(key):
        stored = postgres.rows(STORE, **columns)
    if not stored:
        raise KeyUsed


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
        {job_journal.INSERT_RECORDS} WHERE EXISTS (SELECT FROM payment)
    )
    SELECT id FROM payment
    """,
)


def accept(
    payment: Payment, jobs: Sequence[Job], *, actor_id: UUID | None, key: NewKey | None = None
) -> None:
    """Stores a new payment with its first history row and the jobs, and the response under the key.

    The last statement of its transaction. Raises KeyUsed, KeyInUse.
    """
    columns = _columns(key, payment)
    with _waiting_for_key(key):
        stored = postgres.last_rows(
            ACCEPT,
            **columns,
            payment=postgres.Json(payment.__data__),
            transaction_id=uuid7(),
            actor_id=actor_id,
            jobs=postgres.Json(job_journal.records(jobs)),
        )
    if not stored:
        raise KeyUsed


def _columns(key: NewKey | None, payment: Payment) -> dict[str, Any]:
    """Returns the columns of the key's row, the response included; without a key, nulls."""
    status, body = key.respond(payment) if key else (None, None)
    return {
        "user_id": key.user_id if key else None,
        "key": key and key.key,
        "request_hash": key and key.request_hash,
        "status": status,
        "body": body,
        "payment_id": payment.id,
        "provisional": key and key.provisional,
    }


@contextmanager
def _waiting_for_key(key: NewKey | None) -> Iterator[None]:
    """Raises KeyInUse where a statement that inserts the key waits too long.

    Of several concurrent transactions one inserts the key. The others wait, in the index, until it commits
    (and find its response) or rolls back (and one of them inserts the key).
    """
    try:
        yield
    except peewee.OperationalError as error:
        if key and sqlstate(error) == _LOCK_NOT_AVAILABLE_SQLSTATE:
            raise KeyInUse from None
        raise


def find(user_id: UUID, key: str) -> IdempotencyKey | None:
    """Returns the row of a key; None if the key was not used, or has expired."""
    return IdempotencyKey.get_or_none(_has_key(user_id, key))


def finalize(user_id: UUID, key: str, *, status: int, body: bytes) -> IdempotencyKey | None:
    """Replaces a provisional response by this one; returns the key with the response that must be sent.

    That is another response if another request has replaced the provisional one before.
    """
    provisional = _has_key(user_id, key) & (IdempotencyKey.provisional == True)  # noqa: E712
    IdempotencyKey.update(status=status, body=body, provisional=False).where(provisional).execute()
    return find(user_id, key)


def delete_expired(before: datetime, limit: int) -> int:
    """Deletes keys created before this time whose payment is terminal. Returns their number."""
    deleted = postgres.rows(
        DELETE_EXPIRED,
        first_id=first_at(before),
        last_id=uuid7(),
        before=before,
        ended=sorted(TERMINAL),
        limit=limit,
    )
    return len(deleted)


def _has_key(user_id: UUID, key: str) -> peewee.Expression:
    return (IdempotencyKey.user_id == user_id) & (IdempotencyKey.key == key)
