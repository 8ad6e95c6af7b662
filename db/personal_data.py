"""The personal data of closed accounts, and its erasure in batches.

Each function that erases changes up to `limit` rows and returns their number, 0 when none are left. No state
is kept: after an interruption the next call continues. `closed` is the address that replaces the personal
one.
"""

import json
import re
from collections.abc import Collection, Sequence
from uuid import UUID

from db import payments, postgres
from db.payments import Payment

# The addresses that an account had before, in lower case.
REMEMBER_ADDRESS = """
    INSERT INTO auth.former_addresses (user_id, email)
    SELECT id, lower(email) FROM auth.users WHERE id = %s ON CONFLICT DO NOTHING
"""

FORMER_ADDRESSES = """
    SELECT email, EXISTS (SELECT FROM auth.users u WHERE lower(u.email) = f.email) AS taken
    FROM auth.former_addresses f WHERE user_id = %s
"""

REQUESTS_TO_ERASE = """
    (SELECT id FROM payments.payments
        WHERE addressee_id = %(user_id)s AND customer_email <> %(closed)s LIMIT %(limit)s)
    UNION ALL
    (SELECT id FROM payments.payments
        WHERE lower(customer_email) = ANY(%(emails)s::text[]) AND customer_email IS NOT NULL
            AND addressee_id IS NULL LIMIT %(limit)s)
    LIMIT %(limit)s
"""

# Checks the conditions again on the locked rows: a vendor may have named another customer meanwhile.
LOCK_REQUESTS_TO_ERASE = """
    SELECT id FROM payments.payments
    WHERE id = ANY(%(ids)s::uuid[]) AND (addressee_id = %(user_id)s AND customer_email <> %(closed)s
        OR addressee_id IS NULL AND lower(customer_email) = ANY(%(emails)s::text[]))
    ORDER BY id FOR NO KEY UPDATE
"""

REMEMBER_ADDRESSES_OF_REQUESTS = """
    WITH named AS (
        SELECT DISTINCT lower(customer_email) AS email FROM payments.payments WHERE id = ANY(%s)
    ), kept AS (
        INSERT INTO auth.former_addresses (user_id, email) SELECT %s, email FROM named ON CONFLICT DO NOTHING
    ) SELECT email FROM named
"""

HAS_PENDING_EVENTS = """
    SELECT EXISTS (
        SELECT FROM journal.jobs, jsonb_array_elements(args -> 'events') AS event
        WHERE name = %s AND dead_at IS NULL
            AND (event #>> '{data,id}' = %s AND event #>> '{data,email}' <> %s
                OR lower(event #>> '{data,customerEmail}') = ANY(%s::text[]))
    )
"""

ERASE_FROM_JOBS = """
    UPDATE journal.jobs SET args = regexp_replace(args::text, %(pattern)s, %(closed)s, 'gi')::jsonb
    WHERE id IN (
        SELECT id FROM journal.jobs WHERE args::text ILIKE %(like)s
        ORDER BY position LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
    ) RETURNING id
"""

JOBS_REMAIN = "SELECT EXISTS (SELECT FROM journal.jobs WHERE args::text ILIKE ANY(%s::text[]))"

EVENTS_NAMING = """
    SELECT seq, event.data ->> 'id' AS id FROM admin.event_log AS log JOIN admin.events AS event USING (seq)
    WHERE lower(log.data ->> 'customerEmail') = ANY(%s::text[]) AND log.data ->> 'customerEmail' IS NOT NULL
    LIMIT %s
"""

EVENTS_OF_REQUESTS = """
    SELECT e.seq, p.id FROM payments.payments p
    CROSS JOIN LATERAL admin.events_about(p.id::text) AS about (seq)
    JOIN admin.event_log e ON e.seq = about.seq AND lower(e.data ->> 'customerEmail') = ANY(%s::text[])
    WHERE p.addressee_id = %s LIMIT %s
"""

# Only events about payments are stored in part.
EVENTS_ABOUT = """
    SELECT seq FROM admin.event_log
    WHERE data ->> 'id' = %s AND base IS NULL AND data ->> 'email' <> %s LIMIT %s
"""

UPDATE_EVENTS = """
    UPDATE admin.event_log SET data = data || %s WHERE seq = ANY(ARRAY(
        SELECT seq FROM admin.event_log WHERE seq = ANY(%s::bigint[]) ORDER BY seq FOR NO KEY UPDATE))
"""

DELETE_SESSIONS = """
    DELETE FROM auth.sessions WHERE id = ANY(ARRAY(
        SELECT id FROM auth.sessions WHERE user_id = %s ORDER BY id LIMIT %s FOR UPDATE)) RETURNING id
"""

# A replay must return the stored response byte for byte, except for the address.
ERASE_FROM_RESPONSES = """
    UPDATE payments.idempotency_keys
    SET body = convert_to(regexp_replace(convert_from(body, 'UTF8'), %(pattern)s, %(closed)s, 'gi'), 'UTF8')
    WHERE payment_id = ANY(%(payment_ids)s) AND convert_from(body, 'UTF8') ILIKE %(like)s
"""


def remember_address(user_id: UUID) -> None:
    """Records the present address of an account, which is about to change."""
    postgres.rows(REMEMBER_ADDRESS, user_id)


def former_addresses(user_id: UUID) -> tuple[list[str], list[str]]:
    """Returns the former addresses of a closed account: those that are free now, and those that are taken."""
    found = postgres.rows(FORMER_ADDRESSES, user_id)
    return (
        [row["email"] for row in found if not row["taken"]],
        [row["email"] for row in found if row["taken"]],
    )


def forget_addresses(user_id: UUID) -> None:
    """Deletes the former addresses, once no other row has them."""
    postgres.rows("DELETE FROM auth.former_addresses WHERE user_id = %s", user_id)


def erase_from_requests(
    user_id: UUID, free: Collection[str], *, closed: str, limit: int
) -> Sequence[Payment]:
    """Replaces the address in requests to this user, and in requests without addressee to a `free` address.

    Returns the requests with their new version. The addresses are added to the former addresses, because
    events and stored responses have them, too.
    """
    requests = {"user_id": user_id, "closed": closed, "emails": list(free)}
    ids: list[UUID] = []
    while not ids:
        found = [row["id"] for row in postgres.rows(REQUESTS_TO_ERASE, **requests, limit=limit)]
        if not found:
            return []
        ids = [row["id"] for row in postgres.rows(LOCK_REQUESTS_TO_ERASE, **requests, ids=found)]
    named = postgres.rows(REMEMBER_ADDRESSES_OF_REQUESTS, ids, user_id)
    _erase_from_responses(ids, [row["email"] for row in named], closed=closed)
    return payments.replace_address(ids, closed)


def has_pending_events(name: str, user_id: UUID, addresses: Collection[str], *, closed: str) -> bool:
    """Returns whether jobs of this name are to append events about the user, or with one of the addresses."""
    return bool(postgres.value(HAS_PENDING_EVENTS, name, str(user_id), closed, list(addresses)))


def erase_from_jobs(free: Collection[str], *, closed: str, limit: int) -> int:
    """Replaces these addresses in the arguments of jobs, except jobs that another transaction has locked."""
    return sum(
        len(postgres.rows(ERASE_FROM_JOBS, **_replacement(address, closed), limit=limit)) for address in free
    )


def jobs_remain(free: Collection[str]) -> bool:
    """Returns whether jobs with these addresses remain because they were locked."""
    return bool(postgres.value(JOBS_REMAIN, [_like_pattern(address) for address in free]))


def erase_from_events_naming(free: Collection[str], *, closed: str, limit: int) -> int:
    """Replaces these addresses in the event log, and in the stored responses about the same requests."""
    return _erase_from_events(postgres.rows(EVENTS_NAMING, list(free), limit), free, closed=closed)


def erase_from_events_of_requests(user_id: UUID, taken: Collection[str], *, closed: str, limit: int) -> int:
    """Replaces addresses that another user has now, only in the events about this user's requests."""
    found = postgres.rows(EVENTS_OF_REQUESTS, list(taken), user_id, limit)
    return _erase_from_events(found, taken, closed=closed)


def erase_from_events_about(user_id: UUID, *, name: str, closed: str, limit: int) -> int:
    """Replaces name and address in the events about this user."""
    found = postgres.rows(EVENTS_ABOUT, str(user_id), closed, limit)
    _update_events([row["seq"] for row in found], {"email": closed, "name": name})
    return len(found)


def delete_sessions(user_id: UUID, *, limit: int) -> int:
    """Deletes sessions of this user with their refresh tokens, IP addresses and user agents."""
    return len(postgres.rows(DELETE_SESSIONS, user_id, limit))


def _erase_from_events(found: Sequence[dict[str, object]], addresses: Collection[str], *, closed: str) -> int:
    _erase_from_responses(sorted({UUID(str(row["id"])) for row in found}), addresses, closed=closed)
    _update_events([row["seq"] for row in found], {"customerEmail": closed})
    return len(found)


def _update_events(seqs: Sequence[object], fields: dict[str, str]) -> None:
    postgres.rows(UPDATE_EVENTS, postgres.Json(fields), list(seqs))


def _erase_from_responses(payment_ids: Sequence[UUID], addresses: Collection[str], *, closed: str) -> None:
    for address in addresses if payment_ids else ():
        postgres.rows(ERASE_FROM_RESPONSES, **_replacement(address, closed), payment_ids=list(payment_ids))


def _replacement(address: str, closed: str) -> dict[str, str]:
    """Returns the parameters of the statements that replace an address in JSON text."""
    # A whole JSON string: the address may be a part of another one.
    return {
        "pattern": f'"{re.escape(address)}"',
        "closed": json.dumps(closed),
        "like": _like_pattern(address),
    }


def _like_pattern(address: str) -> str:
    """Returns the pattern for LIKE that finds an address as a whole JSON string."""
    return '%"' + re.sub(r"([\\%_])", r"\\\1", address) + '"%'
