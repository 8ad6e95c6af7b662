"""One-time tokens of mailed links, and tickets of event streams, stored as their SHA-256 only."""

import hashlib
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import postgres

# The expiry of a token that does not expire.
_KEPT_UNTIL = datetime(9999, 1, 1, tzinfo=UTC)

# How long a mail counts towards the limit of mails to its address.
MAIL_LIMIT_WINDOW = timedelta(hours=1)


class Purpose(StrEnum):
    """The purposes of a token."""

    VERIFY_EMAIL = "verify-email"
    RESET_PASSWORD = "reset-password"
    OPEN_STREAM = "open-stream"


class OneTimeToken(postgres.Model, table="auth.one_time_tokens"):
    """A token for one purpose and one use."""

    id = peewee.UUIDField(primary_key=True)
    user_id = peewee.UUIDField()
    purpose = peewee.CharField(50)
    token_hash = peewee.CharField(64)
    expires_at = DateTimeTZField()
    used_at = DateTimeTZField(null=True)
    created_at = DateTimeTZField()
    # Of the address that receives the mail, in lower case.
    address_hash = peewee.CharField(64, null=True)
    due_at = DateTimeTZField()

    def is_usable(self, now: datetime) -> bool:
        """Returns whether the token is neither used nor expired."""
        return self.used_at is None and self.expires_at > now

    def was_mailed_to(self, email: str) -> bool:
        """Returns whether the token was mailed to this address, compared without case."""
        return bool(self.address_hash == fingerprint(email.lower()))


class MailedLink(NamedTuple):
    """When the mail with a link was or will be due, and whether the link works."""

    due_at: datetime
    works: bool


# A mail whose token was used before it was due is never sent.
LINKS_MAILED_SINCE = """
    SELECT due_at, used_at IS NULL AND expires_at > %(now)s AS works FROM auth.one_time_tokens
    WHERE user_id = %(user_id)s AND purpose = %(purpose)s AND address_hash = %(address_hash)s
        AND due_at > %(since)s AND (used_at IS NULL OR used_at >= due_at)
    ORDER BY due_at
"""

WITHDRAW_ALL = """
    UPDATE auth.one_time_tokens SET used_at = coalesce(used_at, %s), expires_at = least(expires_at, %s)
    WHERE user_id = %s
"""

REDEEM = """
    DELETE FROM auth.one_time_tokens
    WHERE token_hash = %s AND purpose = %s AND used_at IS NULL AND expires_at > %s
    RETURNING user_id
"""


def fingerprint(token: str) -> str:
    """Returns the SHA-256 (hex) of a token. The token has enough entropy to need no salt."""
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
    """Stores a token that will be mailed to this address at `due_at`."""
    OneTimeToken.insert(
        id=id,
        user_id=user_id,
        purpose=purpose,
        token_hash=fingerprint(token),
        address_hash=fingerprint(email.lower()),
        due_at=due_at,
        expires_at=expires_at,
    ).execute()


def add_ticket(user_id: UUID, token: str, expires_at: datetime) -> None:
    """Stores a token that its user gets at once, and no mail carries."""
    OneTimeToken.insert(
        user_id=user_id,
        purpose=Purpose.OPEN_STREAM,
        token_hash=fingerprint(token),
        expires_at=expires_at,
    ).execute()


def redeem_ticket(token: str, now: datetime) -> UUID | None:
    """Deletes a usable ticket and returns its user, or None. Of several concurrent requests, one succeeds."""
    user_id: UUID | None = postgres.value(REDEEM, fingerprint(token), Purpose.OPEN_STREAM, now)
    return user_id


def recently_mailed_links(user_id: UUID, purpose: Purpose, email: str, now: datetime) -> list[MailedLink]:
    """Returns the links that were mailed to a user at this address within MAIL_LIMIT_WINDOW, or will be."""
    found = postgres.rows(
        LINKS_MAILED_SINCE,
        user_id=user_id,
        purpose=purpose,
        address_hash=fingerprint(email.lower()),
        since=now - MAIL_LIMIT_WINDOW,
        now=now,
    )
    return [MailedLink(**row) for row in found]


def get(id: UUID) -> OneTimeToken | None:
    """Returns the row with this id."""
    return OneTimeToken.get_or_none(OneTimeToken.id == id)


def find(token: str, purpose: Purpose) -> OneTimeToken | None:
    """Returns the row of a token, whether or not it is used."""
    return OneTimeToken.get_or_none(
        OneTimeToken.token_hash == fingerprint(token), OneTimeToken.purpose == purpose
    )


def consume(id: UUID, now: datetime) -> bool:
    """Marks a usable token as used. Returns True to one of several concurrent requests, False otherwise."""
    update = OneTimeToken.update(used_at=now)
    is_usable = OneTimeToken.used_at.is_null() & (OneTimeToken.expires_at > now)
    return bool(update.where(OneTimeToken.id == id, is_usable).execute())


def consume_all(user_id: UUID, purpose: Purpose, now: datetime) -> None:
    """Marks all tokens of a user for one purpose as used."""
    update = OneTimeToken.update(used_at=now)
    update.where(
        OneTimeToken.user_id == user_id, OneTimeToken.purpose == purpose, OneTimeToken.used_at.is_null()
    ).execute()


def keep(id: UUID) -> None:
    """Keeps a used token until `withdraw_all`, so that its link can be opened again."""
    OneTimeToken.update(expires_at=_KEPT_UNTIL).where(OneTimeToken.id == id).execute()


def withdraw_all(user_id: UUID, now: datetime) -> None:
    """Marks all tokens of a user as used and expired."""
    postgres.rows(WITHDRAW_ALL, now, now, user_id)


def delete_expired(now: datetime) -> int:
    """Deletes expired tokens whose mail no longer counts (`MAIL_LIMIT_WINDOW`). Returns their number.

    A token that another transaction has locked is left for the next run.
    """
    expired = OneTimeToken.select(OneTimeToken.id).where(
        OneTimeToken.expires_at <= now, OneTimeToken.due_at <= now - MAIL_LIMIT_WINDOW
    )
    unlocked = peewee.fn.ARRAY(expired.for_update(postgres.DELETE_UNLOCKED))
    return int(postgres.delete(OneTimeToken).where(OneTimeToken.id == peewee.fn.ANY(unlocked)).execute())
