"""Failed passwords, counted for each account and client, and the addresses known to an account."""

from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import postgres

# Failures in a row before the first wait. Each further failure doubles the wait, up to MAX_WAIT_S.
FREE_FAILURES = 5
MAX_WAIT_S = 60
# A failure counts for this long.
FAILURE_LIFE = timedelta(hours=1)
# Addresses known to an account at most: those of the latest sign-ins.
KNOWN_ADDRESSES_LIMIT = 20


class PasswordUse(StrEnum):
    """The purposes for which a password is checked; each has its own count."""

    SIGN_IN = "sign-in"
    CHANGE_PASSWORD = "change-password"


class SignInFailure(
    postgres.Model,
    table="auth.sign_in_failures",
    primary_key=peewee.CompositeKey("purpose", "account", "client"),
):
    """The consecutive failures of one client at one account. No password is checked before `next_at`."""

    purpose = peewee.CharField(20)
    account = peewee.CharField(64)
    client = peewee.CharField(64)
    failures = peewee.IntegerField()
    failed_at = DateTimeTZField()
    next_at = DateTimeTZField()


class KnownAddress(
    postgres.Model, table="auth.known_addresses", primary_key=peewee.CompositeKey("user_id", "address")
):
    """An address from which a user has signed in."""

    user_id = peewee.UUIDField()
    address = peewee.CharField(45)
    seen_at = DateTimeTZField()


# The wait before the next password: none for the first failures, then 1 s, doubled with each failure.
RESERVE = """
    INSERT INTO auth.sign_in_failures AS f (purpose, account, client, failures, failed_at, next_at)
    VALUES (%(purpose)s, %(account)s, %(client)s, 1, %(now)s, %(now)s)
    ON CONFLICT (purpose, account, client) DO UPDATE SET (failures, failed_at, next_at) = (
        SELECT counted, excluded.failed_at, excluded.failed_at + interval '1 second' * CASE
            WHEN counted < %(free)s THEN 0
            ELSE least(%(longest_s)s, 2 ^ least(counted - %(free)s, 10))
        END
        FROM (SELECT CASE WHEN f.failed_at < %(count_since)s THEN 1 ELSE f.failures + 1 END) AS c (counted)
    )
    WHERE f.next_at <= excluded.failed_at RETURNING failures
"""

RELEASE = """
    UPDATE auth.sign_in_failures SET failures = greatest(0, failures - 1)
    WHERE purpose = %s AND account = %s AND client = %s
"""

CLEAR = "DELETE FROM auth.sign_in_failures WHERE purpose = %s AND account = %s AND client = %s"

# The primary key begins with the purpose. Without it, the statement would read all rows, and strangers can
# create any number of them.
CLEAR_ACCOUNT = "DELETE FROM auth.sign_in_failures WHERE purpose = ANY(%s) AND account = %s"

REMEMBER_ADDRESS = """
    INSERT INTO auth.known_addresses (user_id, address) VALUES (%s, %s)
    ON CONFLICT (user_id, address) DO UPDATE SET seen_at = clock_timestamp()
"""

DELETE_SURPLUS_ADDRESSES = """
    DELETE FROM auth.known_addresses WHERE user_id = %(user_id)s AND address NOT IN (
        SELECT address FROM auth.known_addresses WHERE user_id = %(user_id)s
        ORDER BY seen_at DESC LIMIT %(limit)s)
"""


def find(purpose: PasswordUse, account: str, client: str) -> SignInFailure | None:
    """Returns the count of a client; None if it has no failure."""
    return SignInFailure.get_or_none(
        SignInFailure.purpose == purpose, SignInFailure.account == account, SignInFailure.client == client
    )


def reserve(purpose: PasswordUse, account: str, client: str, now: datetime) -> bool:
    """Counts a failure before the password is checked; False while the client must wait.

    One statement, so that each of several concurrent requests sees the counts of those before.
    """
    counted = postgres.rows(
        RESERVE,
        purpose=purpose,
        account=account,
        client=client,
        now=now,
        free=FREE_FAILURES,
        longest_s=MAX_WAIT_S,
        count_since=now - FAILURE_LIFE,
    )
    return bool(counted)


def release(purpose: PasswordUse, account: str, client: str) -> None:
    """Subtracts a failure that was counted for a password which proved right. The wait stays."""
    postgres.rows(RELEASE, purpose, account, client)


def clear(purpose: PasswordUse, account: str, client: str) -> None:
    """Deletes the count of one client."""
    postgres.rows(CLEAR, purpose, account, client)


def clear_account(account: str) -> None:
    """Deletes the counts of all clients at one account."""
    postgres.rows(CLEAR_ACCOUNT, list(PasswordUse), account)


def delete_expired(*, failed_before: datetime, seen_before: datetime) -> None:
    """Deletes counts whose last failure was before a time, and addresses whose last sign-in was."""
    postgres.delete(SignInFailure).where(SignInFailure.failed_at < failed_before).execute()
    postgres.delete(KnownAddress).where(KnownAddress.seen_at < seen_before).execute()


def known_addresses(user_id: UUID | None) -> list[str]:
    """Returns the addresses from which a user has signed in."""
    found = postgres.rows("SELECT address FROM auth.known_addresses WHERE user_id = %s", user_id)
    return [row["address"] for row in found]


def remember_address(user_id: UUID, address: str) -> None:
    """Records a sign-in from this address, and deletes all but the latest KNOWN_ADDRESSES_LIMIT addresses."""
    postgres.rows(REMEMBER_ADDRESS, user_id, address)
    postgres.rows(DELETE_SURPLUS_ADDRESSES, user_id=user_id, limit=KNOWN_ADDRESSES_LIMIT)
