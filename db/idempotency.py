"""Idempotency keys, and the response to the first request with a key."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import postgres
from db.payments import Payment
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


DELETE_EXPIRED = """
    DELETE FROM payments.idempotency_keys WHERE (user_id, key) IN (
        SELECT k.user_id, k.key FROM payments.idempotency_keys k
        JOIN payments.payments p ON p.id = k.payment_id
        WHERE k.created_at < %s AND p.status = ANY(%s) LIMIT %s
    ) RETURNING key
"""


class KeyInUse(Exception):
    """Another transaction has claimed the key and did not end within the lock timeout."""


class KeyUsed(Exception):
    """The key stands for an earlier request."""


@dataclass(frozen=True)
class NewKey:
    """A key that a request uses for the first time, as far as is known before it is stored.

    `respond` makes the response, status and body, that is stored with it.
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
    status, body = key.respond(payment)
    with waiting_for_key(key):
        stored = postgres.rows(
            STORE,
            user_id=key.user_id,
            key=key.key,
            request_hash=key.request_hash,
            status=status,
            body=body,
            payment_id=payment.id,
            provisional=key.provisional,
        )
    if not stored:
        raise KeyUsed


@contextmanager
def waiting_for_key(key: NewKey | None) -> Iterator[None]:
    """Raises KeyInUse where a statement that inserts the key waits too long.

    Of several concurrent transactions one inserts the key. The others wait, in the index, until it commits
    (and find its response) or rolls back (and one of them inserts the key).
    """
    try:
        yield
    except peewee.OperationalError as error:
        if key and postgres.sqlstate(error) == _LOCK_NOT_AVAILABLE_SQLSTATE:
            raise KeyInUse from None
        raise


def find(user_id: UUID, key: str) -> IdempotencyKey | None:
    """Returns what is stored under a key."""
    found: IdempotencyKey | None = IdempotencyKey.get_or_none(_has_key(user_id, key))
    return found


def finalize(user_id: UUID, key: str, *, status: int, body: bytes) -> IdempotencyKey | None:
    """Replaces a provisional response by this one, and returns the response that must be sent."""
    provisional = _has_key(user_id, key) & (IdempotencyKey.provisional == True)  # noqa: E712
    IdempotencyKey.update(status=status, body=body, provisional=False).where(provisional).execute()
    return find(user_id, key)


def delete_expired(before: datetime, limit: int) -> int:
    """Deletes keys created before this time whose payment is terminal. Returns their number."""
    return len(postgres.rows(DELETE_EXPIRED, before, sorted(TERMINAL), limit))


def _has_key(user_id: UUID, key: str) -> peewee.Expression:
    return (IdempotencyKey.user_id == user_id) & (IdempotencyKey.key == key)
