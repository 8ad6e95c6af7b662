"""One-time tokens: what a mailed link carries, known by its SHA-256 alone."""

import hashlib
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import postgres

# For how long a letter counts against those that may follow it.
MAIL_LIMIT_WINDOW = timedelta(hours=1)


class Purpose(StrEnum):
    """What a link is good for."""

    VERIFY_EMAIL = "verify-email"
    RESET_PASSWORD = "reset-password"


class OneTimeToken(postgres.Model):
    """A link that was mailed to a person, for one purpose, once."""

    id = peewee.UUIDField(primary_key=True)
    user_id = peewee.UUIDField()
    purpose = peewee.CharField(50)
    token = peewee.CharField(64)
    expires_at = DateTimeTZField()
    used_at = DateTimeTZField(null=True)
    created_at = DateTimeTZField()
    address = peewee.CharField(64, null=True)
    due_at = DateTimeTZField()

    class Meta:
        schema = "auth"
        table_name = "one_time_tokens"


def fingerprint(token: str) -> str:
    """What the database keeps of a token that has entropy enough to need no salt: SHA-256, in hex."""
    return hashlib.sha256(token.encode()).hexdigest()


def add(
    id: UUID,
    user_id: UUID,
    purpose: Purpose,
    *,
    token: str,
    email: str,
    due_at: datetime,
    expires_at: datetime,
) -> None:
    """Remembers a link that will be mailed to this address when it is due."""
    OneTimeToken.insert(
        id=id,
        user_id=user_id,
        purpose=purpose,
        token=fingerprint(token),
        address=fingerprint(email.lower()),
        due_at=due_at,
        expires_at=expires_at,
    ).execute()


def mails_due_since(user_id: UUID, purpose: Purpose, since: datetime) -> list[datetime]:
    """When the letters of a purpose were due to a user since then, or are to come, in their order."""
    rows = postgres.rows(
        "SELECT due_at FROM auth.one_time_tokens"
        " WHERE user_id = %s AND purpose = %s AND due_at > %s ORDER BY due_at",
        user_id,
        purpose,
        since,
    )
    return [row["due_at"] for row in rows]


def is_usable(id: UUID, now: datetime) -> bool:
    """Whether the link of this row still works."""
    found: OneTimeToken | None = OneTimeToken.get_or_none(OneTimeToken.id == id)
    return found is not None and found.used_at is None and found.expires_at > now


def find(token: str, purpose: Purpose) -> OneTimeToken | None:
    """The link with this token, used or not."""
    found: OneTimeToken | None = OneTimeToken.get_or_none(
        OneTimeToken.token == fingerprint(token), OneTimeToken.purpose == purpose
    )
    return found


def was_mailed_to(link: OneTimeToken, email: str) -> bool:
    """Whether a link went to this address."""
    return link.address == fingerprint(email.lower())


def find_user_id(token: str, purpose: Purpose, now: datetime) -> UUID | None:
    """Whom a token belongs to that could be used now; it stays unused."""
    found = OneTimeToken.get_or_none(*_usable(token, purpose, now))
    return found.user_id if found else None


def consume(token: str, purpose: Purpose, now: datetime) -> UUID | None:
    """Uses a token up; whom it belongs to, None when it is unknown, used or expired. One of many wins."""
    update = OneTimeToken.update(used_at=now).where(*_usable(token, purpose, now))
    used = postgres.execute_returning(update, OneTimeToken)
    return used[0].user_id if used else None


def consume_all(user_id: UUID, purpose: Purpose, now: datetime) -> None:
    """Uses up whatever else a person was mailed for this purpose."""
    update = OneTimeToken.update(used_at=now)
    update.where(
        OneTimeToken.user_id == user_id, OneTimeToken.purpose == purpose, OneTimeToken.used_at.is_null()
    ).execute()


def delete_expired(now: datetime) -> int:
    """Deletes what has expired, unless its letter still counts (`due_since`); how many.

    A link that is in use now is left for the next run.
    """
    expired = OneTimeToken.select(OneTimeToken.id).where(
        OneTimeToken.expires_at <= now, OneTimeToken.due_at <= now - MAIL_LIMIT_WINDOW
    )
    some = peewee.fn.ARRAY(expired.for_update(postgres.DELETE_UNLOCKED))
    return int(postgres.delete(OneTimeToken).where(OneTimeToken.id == peewee.fn.ANY(some)).execute())


def _usable(token: str, purpose: Purpose, now: datetime) -> list[peewee.Node]:
    return [
        OneTimeToken.token == fingerprint(token),
        OneTimeToken.purpose == purpose,
        OneTimeToken.used_at.is_null(),
        OneTimeToken.expires_at > now,
    ]
