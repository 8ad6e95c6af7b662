"""What is left of the personal data of a closed account, and its erasure: so many rows a call.

A call erases so many rows and returns their number, 0 when nothing is left. It keeps no state of its own:
after an interruption the next call goes on.
"""

import json
import re
from collections.abc import Collection, Sequence
from uuid import UUID

import peewee
from psycopg2.extras import Json

from db import payments, postgres
from db.payments import Payment


class FormerAddress(postgres.Model):
    """An address that an account had before, in lower case."""

    user_id = peewee.UUIDField()
    email = peewee.CharField(255)

    class Meta:
        schema = "auth"
        table_name = "former_addresses"
        primary_key = peewee.CompositeKey("user_id", "email")


def remember_address(user_id: UUID) -> None:
    """Keeps the present address of an account, which is about to change."""
    postgres.rows(
        "INSERT INTO auth.former_addresses (user_id, email)"
        " SELECT id, lower(email) FROM auth.users WHERE id = %s ON CONFLICT DO NOTHING",
        user_id,
    )


def former_addresses(user_id: UUID) -> tuple[list[str], list[str]]:
    """The addresses that a closed account had: those that nobody has now, and those that another has."""
    found = postgres.rows(
        "SELECT email, EXISTS (SELECT FROM auth.users u WHERE lower(u.email) = f.email) AS taken"
        " FROM auth.former_addresses f WHERE user_id = %s",
        user_id,
    )
    return (
        [row["email"] for row in found if not row["taken"]],
        [row["email"] for row in found if row["taken"]],
    )


def forget_addresses(user_id: UUID) -> None:
    """Removes the addresses themselves, when nothing else names them."""
    postgres.rows("DELETE FROM auth.former_addresses WHERE user_id = %s", user_id)


def erase_from_requests(
    user_id: UUID, free: Collection[str], *, closed: str, limit: int
) -> Sequence[Payment]:
    """Puts `closed` in the place of the address in requests of this user, and in unbound ones that name one
    of the `free` addresses, one version on; as they are now.

    Their addresses are remembered: events and answers name them, too.
    """
    mine = postgres.rows(
        "(SELECT id FROM payments.payments WHERE addressee_id = %s AND customer_email <> %s LIMIT %s)"
        " UNION ALL (SELECT id FROM payments.payments WHERE lower(customer_email) = ANY(%s::text[])"
        " AND customer_email IS NOT NULL AND addressee_id IS NULL LIMIT %s) LIMIT %s",
        user_id,
        closed,
        limit,
        list(free),
        limit,
        limit,
    )
    ids = [row["id"] for row in mine]
    if not ids:
        return []
    named = postgres.rows(
        "WITH named AS (SELECT DISTINCT lower(customer_email) AS email FROM payments.payments"
        " WHERE id = ANY(%s)),"
        " kept AS (INSERT INTO auth.former_addresses (user_id, email) SELECT %s, email FROM named"
        " ON CONFLICT DO NOTHING) SELECT email FROM named",
        ids,
        user_id,
    )
    _erase_from_responses(ids, [row["email"] for row in named], closed=closed)
    return payments.replace_address(ids, closed)


def has_pending_events(name: str, user_id: UUID, named: Collection[str], *, closed: str) -> bool:
    """Whether events about this user, or that name one of these addresses, wait for their number."""
    found = postgres.rows(
        "SELECT EXISTS (SELECT FROM journal.jobs WHERE name = %s AND dead_at IS NULL AND"
        " (args #>> '{data,id}' = %s AND args #>> '{data,email}' <> %s"
        " OR lower(args #>> '{data,customerEmail}') = ANY(%s::text[]))) AS wait",
        name,
        str(user_id),
        closed,
        list(named),
    )
    return bool(found[0]["wait"])


def erase_from_jobs(free: Collection[str], *, closed: str, limit: int) -> int:
    """Puts `closed` in the place of these addresses in what jobs are given. What is in hand is left out."""
    return sum(
        len(
            postgres.rows(
                "UPDATE journal.jobs SET args = regexp_replace(args::text, %s, %s, 'gi')::jsonb"
                " WHERE id IN (SELECT id FROM journal.jobs WHERE args::text ILIKE %s"
                " ORDER BY position LIMIT %s FOR NO KEY UPDATE SKIP LOCKED) RETURNING id",
                _json_string_pattern(address),
                json.dumps(closed),
                _like_pattern(address),
                limit,
            )
        )
        for address in free
    )


def jobs_remain(free: Collection[str]) -> bool:
    """Whether there are still jobs that are given one of these addresses: somebody has them in hand."""
    found = postgres.rows(
        "SELECT EXISTS (SELECT FROM journal.jobs WHERE args::text ILIKE ANY(%s::text[])) AS left",
        [_like_pattern(address) for address in free],
    )
    return bool(found[0]["left"])


def erase_from_events_naming(free: Collection[str], *, closed: str, limit: int) -> int:
    """Puts `closed` in the place of these addresses in the event log, and in the stored answers about the
    same requests."""
    found = postgres.rows(
        "SELECT seq, data ->> 'id' AS id FROM admin.events WHERE lower(data ->> 'customerEmail') ="
        " ANY(%s::text[]) AND data ->> 'customerEmail' IS NOT NULL LIMIT %s",
        list(free),
        limit,
    )
    return _erase_from_events(found, free, closed=closed)


def erase_from_events_of_requests(user_id: UUID, taken: Collection[str], *, closed: str, limit: int) -> int:
    """The same for addresses that another has now, in the events about this user's requests."""
    found = postgres.rows(
        "SELECT e.seq, p.id FROM payments.payments p JOIN admin.events e ON e.data ->> 'id' = p.id::text"
        " AND lower(e.data ->> 'customerEmail') = ANY(%s::text[]) WHERE p.addressee_id = %s LIMIT %s",
        list(taken),
        user_id,
        limit,
    )
    return _erase_from_events(found, taken, closed=closed)


def erase_from_events_about(user_id: UUID, *, name: str, closed: str, limit: int) -> int:
    """Takes name and address out of the events about this user."""
    found = postgres.rows(
        "SELECT seq FROM admin.events WHERE data ->> 'id' = %s AND data ->> 'email' <> %s LIMIT %s",
        str(user_id),
        closed,
        limit,
    )
    _rewrite_events([row["seq"] for row in found], {"email": closed, "name": name})
    return len(found)


def delete_sessions(user_id: UUID, *, limit: int) -> int:
    """Deletes sessions of this user, with their refresh tokens, addresses and agents."""
    return len(
        postgres.rows(
            "DELETE FROM auth.sessions WHERE id = ANY(ARRAY("
            "SELECT id FROM auth.sessions WHERE user_id = %s ORDER BY id LIMIT %s FOR UPDATE)) RETURNING id",
            user_id,
            limit,
        )
    )


def _erase_from_events(found: Sequence[dict[str, object]], named: Collection[str], *, closed: str) -> int:
    _erase_from_responses(sorted({UUID(str(row["id"])) for row in found}), named, closed=closed)
    _rewrite_events([row["seq"] for row in found], {"customerEmail": closed})
    return len(found)


def _rewrite_events(seqs: Sequence[object], columns: dict[str, str]) -> None:
    postgres.rows(
        "UPDATE admin.events SET data = data || %s WHERE seq = ANY(ARRAY("
        "SELECT seq FROM admin.events WHERE seq = ANY(%s::bigint[]) ORDER BY seq FOR NO KEY UPDATE))",
        Json(columns),
        list(seqs),
    )


def _erase_from_responses(payment_ids: Sequence[UUID], named: Collection[str], *, closed: str) -> None:
    # What was answered once is answered again, byte for byte, but for the address.
    for address in named if payment_ids else ():
        postgres.rows(
            "UPDATE payments.idempotency_keys SET body ="
            " convert_to(regexp_replace(convert_from(body, 'UTF8'), %s, %s, 'gi'), 'UTF8')"
            " WHERE payment_id = ANY(%s) AND convert_from(body, 'UTF8') ILIKE %s",
            _json_string_pattern(address),
            json.dumps(closed),
            list(payment_ids),
            _like_pattern(address),
        )


def _json_string_pattern(address: str) -> str:
    # A whole JSON string: the address may be a part of another's.
    return f'"{re.escape(address)}"'


def _like_pattern(address: str) -> str:
    return '%"' + re.sub(r"([\\%_])", r"\\\1", address) + '"%'
