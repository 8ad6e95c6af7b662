"""Idempotency keys: what was answered to the first request with a key."""

from datetime import datetime
from uuid import UUID

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import postgres
from db.states import TERMINAL

_LOCK_NOT_AVAILABLE = "55P03"


class IdempotencyKey(postgres.Model):
    """A key of one person's, what it stands for, and what was answered."""

    user_id = peewee.UUIDField()
    key = peewee.CharField(255)
    request = peewee.CharField(64)
    status = peewee.IntegerField(null=True)
    body = peewee.BlobField(null=True)
    # Whoever was first waits for another answer, so this one was given to nobody.
    provisional = peewee.BooleanField()
    payment_id = peewee.UUIDField(null=True)
    created_at = DateTimeTZField()

    class Meta:
        schema = "payments"
        table_name = "idempotency_keys"
        primary_key = peewee.CompositeKey("user_id", "key")


class KeyInUse(Exception):
    """Another transaction holds the key, and has for as long as one waits for a lock."""


def claim(user_id: UUID, key: str, request: str) -> IdempotencyKey | None:
    """Takes a key for this transaction; what is kept under it when it was used before. Raises Busy.

    Of many at once one inserts, and the others wait here, in the index, until it commits (and they find its
    answer) or is rolled back (and one of them is the next to try).
    """
    insert = IdempotencyKey.insert(user_id=user_id, key=key, request=request).on_conflict_ignore()
    try:
        if postgres.execute_returning(insert, IdempotencyKey):
            return None
    except peewee.OperationalError as error:
        if postgres.sqlstate(error) == _LOCK_NOT_AVAILABLE:
            raise KeyInUse from None
        raise
    found = find(user_id, key)
    if found is None:
        # It expired between the two statements: whoever tries again is the first.
        raise KeyInUse
    return found


def find(user_id: UUID, key: str) -> IdempotencyKey | None:
    """What is kept under a key."""
    found: IdempotencyKey | None = IdempotencyKey.get_or_none(_this(user_id, key))
    return found


def finalize(user_id: UUID, key: str, *, status: int, body: bytes) -> IdempotencyKey | None:
    """Makes this the answer, if none was given yet; the one that is to be given."""
    this = _this(user_id, key) & (IdempotencyKey.provisional == True)  # noqa: E712
    IdempotencyKey.update(status=status, body=body, provisional=False).where(this).execute()
    return find(user_id, key)


def store_response(
    user_id: UUID, key: str, *, status: int, body: bytes, payment_id: UUID, provisional: bool
) -> None:
    """Keeps the answer under a key that this transaction has claimed; or, `provisional`, what it is for now."""
    update = IdempotencyKey.update(status=status, body=body, payment_id=payment_id, provisional=provisional)
    update.where(_this(user_id, key)).execute()


def delete_expired(before: datetime, limit: int) -> int:
    """Deletes so many keys that are older and whose payment is final; how many."""
    return len(
        postgres.rows(
            "DELETE FROM payments.idempotency_keys WHERE (user_id, key) IN (SELECT k.user_id, k.key"
            " FROM payments.idempotency_keys k JOIN payments.payments p ON p.id = k.payment_id"
            " WHERE k.created_at < %s AND p.status = ANY(%s) LIMIT %s) RETURNING key",
            before,
            sorted(TERMINAL),
            limit,
        )
    )


def _this(user_id: UUID, key: str) -> peewee.Expression:
    return (IdempotencyKey.user_id == user_id) & (IdempotencyKey.key == key)
