"""Sign-in failures, counted for each account and client, and the addresses that an account knows."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import postgres

# How many addresses an account knows at most: the ones that signed in last.
KNOWN_ADDRESSES_LIMIT = 20


class PasswordUse(StrEnum):
    """What a password was given for."""

    SIGN_IN = "sign-in"
    CHANGE_PASSWORD = "change-password"


class SignInFailure(postgres.Model):
    """How often one client has failed in a row at one account, and when the next password is looked at."""

    purpose = peewee.CharField(20)
    account = peewee.CharField(64)
    client = peewee.CharField(64)
    failures = peewee.IntegerField()
    failed_at = DateTimeTZField()
    next_at = DateTimeTZField()

    class Meta:
        schema = "auth"
        table_name = "sign_in_failures"
        primary_key = peewee.CompositeKey("purpose", "account", "client")


class KnownAddress(postgres.Model):
    """An address from which a user has signed in."""

    user_id = peewee.UUIDField()
    address = peewee.CharField(45)
    seen_at = DateTimeTZField()

    class Meta:
        schema = "auth"
        table_name = "known_addresses"
        primary_key = peewee.CompositeKey("user_id", "address")


def find(purpose: PasswordUse, account: str, client: str) -> SignInFailure | None:
    """The count of a client; None when it has not failed."""
    return SignInFailure.get_or_none(
        SignInFailure.purpose == purpose, SignInFailure.account == account, SignInFailure.client == client
    )


def reserve(
    purpose: PasswordUse,
    account: str,
    client: str,
    now: datetime,
    *,
    free: int,
    longest_s: int,
    count_since: datetime,
) -> bool:
    """Counts a failure before the password is looked at; False when the wait is not over.

    One statement, so of many at once each finds what the one before it has counted. The first `free` failures
    but one cost no wait, the next 1 s, doubling up to `longest_s`; those before `count_since` no longer count.
    """
    failed = "CASE WHEN f.failed_at < %s THEN 1 ELSE f.failures + 1 END"
    wait = f"CASE WHEN {{0}} < {free:d} THEN 0 ELSE least({longest_s:d}, 2 ^ least({{0}} - {free:d}, 10)) END"
    return bool(
        postgres.rows(
            "INSERT INTO auth.sign_in_failures AS f (purpose, account, client, failures, failed_at, next_at)"
            " VALUES (%s, %s, %s, 1, %s, %s)"
            " ON CONFLICT (purpose, account, client) DO UPDATE SET"
            f" failures = {failed}, failed_at = EXCLUDED.failed_at,"
            f" next_at = EXCLUDED.failed_at + ({wait.format(failed)}) * interval '1 second'"
            " WHERE f.next_at <= EXCLUDED.failed_at RETURNING failures",
            purpose,
            account,
            client,
            now,
            now,
            *[count_since] * 3,
        )
    )


def release(purpose: PasswordUse, account: str, client: str) -> None:
    """Takes back one failure that was counted for what turned out to be right; the wait goes on."""
    postgres.rows(
        "UPDATE auth.sign_in_failures SET failures = greatest(0, failures - 1)"
        " WHERE purpose = %s AND account = %s AND client = %s",
        purpose,
        account,
        client,
    )


def clear(purpose: PasswordUse, account: str, client: str) -> None:
    """Forgets the failures of one client."""
    postgres.rows(
        "DELETE FROM auth.sign_in_failures WHERE purpose = %s AND account = %s AND client = %s",
        purpose,
        account,
        client,
    )


def clear_account(account: str) -> None:
    """Forgets the failures of every client at one account."""
    # Each purpose is named, for the key begins with it: strangers make as many rows as they like.
    postgres.rows(
        "DELETE FROM auth.sign_in_failures WHERE purpose = ANY(%s) AND account = %s",
        list(PasswordUse),
        account,
    )


def delete_before(before: datetime) -> int:
    """Deletes the counts whose last failure was before this moment; how many."""
    return int(postgres.delete(SignInFailure).where(SignInFailure.failed_at < before).execute())


def known_addresses(user_id: UUID | None) -> list[str]:
    """The addresses from which a user has signed in."""
    found = postgres.rows("SELECT address FROM auth.known_addresses WHERE user_id = %s", user_id)
    return [row["address"] for row in found]


def remember_address(user_id: UUID, address: str) -> None:
    """Remembers that a user has signed in from this address; the ones not seen for longest are forgotten."""
    postgres.rows(
        "INSERT INTO auth.known_addresses (user_id, address) VALUES (%s, %s)"
        " ON CONFLICT (user_id, address) DO UPDATE SET seen_at = clock_timestamp()",
        user_id,
        address,
    )
    postgres.rows(
        "DELETE FROM auth.known_addresses WHERE user_id = %s AND address NOT IN (SELECT address"
        " FROM auth.known_addresses WHERE user_id = %s ORDER BY seen_at DESC LIMIT %s)",
        user_id,
        user_id,
        KNOWN_ADDRESSES_LIMIT,
    )


def delete_known_addresses_before(before: datetime) -> int:
    """Deletes the addresses from which nobody has signed in since this moment; how many."""
    return int(postgres.delete(KnownAddress).where(KnownAddress.seen_at < before).execute())
