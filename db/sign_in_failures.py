"""Failed passwords, counted for each account and client, and the addresses known to an account."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from db import postgres
from db.prepared import Statement

# Failures in a row before the first wait. Each further failure doubles the wait, up to MAX_WAIT_S.
FREE_FAILURES = 5
MAX_WAIT_S = 60
# The first wait begins when a check has failed, because the checks of several web processes may all succeed.
# From this count on it begins with the check, so that a burst has no more checks than this.
MAX_BURST = 10
# A failure counts for this long.
FAILURE_LIFE = timedelta(hours=1)
# Addresses known to an account at most: those of the latest sign-ins.
KNOWN_ADDRESSES_LIMIT = 20


class PasswordUse(StrEnum):
    """The purposes for which a password is checked; each has its own count."""

    SIGN_IN = "sign-in"
    CHANGE_PASSWORD = "change-password"


class LastFailure(NamedTuple):
    """The last failure of one client at one account. No password is checked before `next_at`."""

    failed_at: datetime
    next_at: datetime

    def must_wait(self, now: datetime) -> bool:
        """Returns whether the client must wait. After free failures `next_at` is `failed_at`: no wait."""
        return now < self.next_at and self.failed_at < self.next_at


FIND = Statement(
    "find_sign_in_failure",
    """
    SELECT failed_at, next_at FROM auth.sign_in_failures
    WHERE purpose = %(purpose)s::text AND account = %(account)s::text AND client = %(client)s::text
    """,
)

# The wait before the next password: 1 s, doubled with each failure.
_WAIT = f"interval '1 second' * least({MAX_WAIT_S}, 2 ^ least(%s - {FREE_FAILURES}, 10))"

# After a first wait, the next one begins with the check: its end allows one password. A request that came
# later may have reserved first: its later time is kept, and requires no wait by itself.
RESERVE = Statement(
    "reserve_password_check",
    f"""
    INSERT INTO auth.sign_in_failures AS f (purpose, account, client, failures, failed_at, next_at)
    VALUES (%(purpose)s::text, %(account)s::text, %(client)s::text, 1, %(now)s::timestamptz, %(now)s)
    ON CONFLICT (purpose, account, client) DO UPDATE SET (failures, failed_at, next_at) = (
        SELECT counted, latest, latest + CASE
            WHEN counted < CASE WHEN f.next_at > f.failed_at THEN {FREE_FAILURES} ELSE {MAX_BURST} END
            THEN interval '0 seconds'
            ELSE {_WAIT % "counted"}
        END
        FROM (SELECT greatest(f.failed_at, excluded.failed_at),
            CASE WHEN f.failed_at < excluded.failed_at - interval '{FAILURE_LIFE}' THEN 1
            ELSE f.failures + 1 END) AS c (latest, counted)
    )
    WHERE f.next_at <= excluded.failed_at OR f.next_at <= f.failed_at RETURNING failed_at
    """,
)

BEGIN_WAIT = Statement(
    "begin_sign_in_wait",
    f"""
    UPDATE auth.sign_in_failures
    SET failed_at = %(now)s::timestamptz, next_at = %(now)s::timestamptz + {_WAIT % "failures"}
    WHERE purpose = %(purpose)s::text AND account = %(account)s::text AND client = %(client)s::text
        AND failures >= {FREE_FAILURES} AND next_at <= failed_at
    """,
)

# The wait ends only where the reservation began it: a later one may have begun another.
UNDO = """
    UPDATE auth.sign_in_failures
    SET failures = greatest(0, failures - 1),
        next_at = CASE WHEN failed_at = %s THEN failed_at ELSE next_at END
    WHERE purpose = %s AND account = %s AND client = %s
"""

CLEAR = Statement(
    "clear_sign_in_failures",
    """
    DELETE FROM auth.sign_in_failures
    WHERE purpose = %(purpose)s::text AND account = %(account)s::text AND client = %(client)s::text
    """,
)

# Names all purposes, because the primary key begins with the purpose: otherwise the statement would read all
# rows, of which strangers can create any number.
CLEAR_ACCOUNT = "DELETE FROM auth.sign_in_failures WHERE purpose = ANY(%s) AND account = %s"

# The DELETE does not see the new address: it reads the table as it was before the statement.
REMEMBER_ADDRESS = Statement(
    "remember_address",
    """
    WITH remembered AS (
        INSERT INTO auth.known_addresses (user_id, address) VALUES (%(user_id)s::uuid, %(address)s::text)
        ON CONFLICT (user_id, address) DO UPDATE SET seen_at = clock_timestamp()
    )
    DELETE FROM auth.known_addresses WHERE user_id = %(user_id)s AND address IN (
        SELECT address FROM auth.known_addresses
        WHERE user_id = %(user_id)s AND address <> %(address)s
        ORDER BY seen_at DESC OFFSET %(others)s::int)
    """,
)

KNOWN_CLIENTS = Statement(
    "known_clients",
    """
    SELECT
        (SELECT session_id FROM auth.refresh_tokens
         WHERE token_hash = %(token_hash)s::text AND user_id = %(user_id)s::uuid) AS session_id,
        ARRAY(SELECT address FROM auth.known_addresses WHERE user_id = %(user_id)s) AS addresses
    """,
)


def find(purpose: PasswordUse, account: str, client: str) -> LastFailure | None:
    """Returns the last failure of a client; None if it has none."""
    return postgres.first(LastFailure, FIND, purpose=purpose, account=account, client=client)


def reserve(purpose: PasswordUse, account: str, client: str, now: datetime) -> datetime | None:
    """Counts a failure before the password is checked, and returns its time; None while the client must wait.

    One statement, so that each of several concurrent requests sees the counts of those before.
    """
    reserved_at: datetime | None = postgres.value(
        RESERVE, purpose=purpose, account=account, client=client, now=now
    )
    return reserved_at


def begin_wait(purpose: PasswordUse, account: str, client: str, now: datetime) -> None:
    """Begins the wait after a check that has failed, where the check itself began none."""
    postgres.rows(BEGIN_WAIT, purpose=purpose, account=account, client=client, now=now)


def undo(purpose: PasswordUse, account: str, client: str, reserved_at: datetime) -> None:
    """Subtracts a failure that was counted in advance, and ends the wait that it began."""
    postgres.rows(UNDO, reserved_at, purpose, account, client)


def clear(purpose: PasswordUse, account: str, client: str) -> None:
    """Deletes the count of one client."""
    postgres.rows(CLEAR, purpose=purpose, account=account, client=client)


def clear_account(account: str) -> None:
    """Deletes the counts of all clients at one account."""
    postgres.rows(CLEAR_ACCOUNT, list(PasswordUse), account)


def delete_expired(*, failed_before: datetime, seen_before: datetime) -> None:
    """Deletes counts whose last failure was before a time, and addresses whose last sign-in was."""
    postgres.rows("DELETE FROM auth.sign_in_failures WHERE failed_at < %s", failed_before)
    postgres.rows("DELETE FROM auth.known_addresses WHERE seen_at < %s", seen_before)


def known_clients(user_id: UUID | None, token_hash: str) -> tuple[UUID | None, list[str]]:
    """Returns the session of a refresh token, and the addresses from which its user has signed in.

    The token, given by its SHA-256, may be spent or expired; the session is None if this user has no such
    token.
    """
    [found] = postgres.rows(KNOWN_CLIENTS, token_hash=token_hash, user_id=user_id)
    return found["session_id"], found["addresses"]


def remember_address(user_id: UUID, address: str) -> None:
    """Records a sign-in from this address, and deletes all but the latest KNOWN_ADDRESSES_LIMIT addresses."""
    postgres.rows(REMEMBER_ADDRESS, user_id=user_id, address=address, others=KNOWN_ADDRESSES_LIMIT - 1)
