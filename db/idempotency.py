"""Idempotency keys, and the response to the first request with a key."""

from datetime import datetime
from uuid import UUID

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import postgres
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


def claim(user_id: UUID, key: str, request_hash: str) -> IdempotencyKey | None:
    """Claims a key for this transaction; returns what is stored if the key was used before. Raises KeyInUse.

    Of several concurrent transactions one inserts the key. The others wait here, in the index, until it
    commits (and find its response) or rolls back (and one of them inserts the key).
    """
    insert = IdempotencyKey.insert(user_id=user_id, key=key, request_hash=request_hash).on_conflict_ignore()
    try:
        if postgres.execute_returning(insert, IdempotencyKey):
            return None
    except peewee.OperationalError as error:
        if postgres.sqlstate(error) == _LOCK_NOT_AVAILABLE_SQLSTATE:
            raise KeyInUse from None
        raise
    found = find(user_id, key)
    if found is None:
        # The key was deleted as expired between the two statements: the next attempt inserts it.
        raise KeyInUse
    return found


def find(user_id: UUID, key: str) -> IdempotencyKey | None:
    """Returns what is stored under a key."""
    found: IdempotencyKey | None = IdempotencyKey.get_or_none(_has_key(user_id, key))
    return found


def finalize(user_id: UUID, key: str, *, status: int, body: bytes) -> IdempotencyKey | None:
    """Replaces a provisional response by this one, and returns the response that must be sent."""
    provisional = _has_key(user_id, key) & (IdempotencyKey.provisional == True)  # noqa: E712
    IdempotencyKey.update(status=status, body=body, provisional=False).where(provisional).execute()
    return find(user_id, key)


def store_response(
    user_id: UUID, key: str, *, status: int, body: bytes, payment_id: UUID, provisional: bool
) -> None:
    """Stores the response under a key that this transaction has claimed."""
    update = IdempotencyKey.update(status=status, body=body, payment_id=payment_id, provisional=provisional)
    update.where(_has_key(user_id, key)).execute()


def delete_expired(before: datetime, limit: int) -> int:
    """Deletes keys created before this time whose payment is terminal. Returns their number."""
    return len(postgres.rows(DELETE_EXPIRED, before, sorted(TERMINAL), limit))


def _has_key(user_id: UUID, key: str) -> peewee.Expression:
    return (IdempotencyKey.user_id == user_id) & (IdempotencyKey.key == key)
