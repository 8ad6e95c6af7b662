"""Leases: who of several processes is alone at something, for a limited time, by the database's clock.

A lease is a row with a generation, and no state of a session. A holder that hangs, or whose machine is gone,
is replaced when its lease has expired, and a replaced holder is known by its old generation.
"""

import os
import socket

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import postgres


class Lease(postgres.Model):
    """One lease: its holder is informative, its generation decides."""

    name = peewee.CharField(100, primary_key=True)
    holder = peewee.CharField(200)
    generation = peewee.BigIntegerField()
    expires_at = DateTimeTZField()

    class Meta:
        schema = "journal"
        table_name = "leases"


def process_name() -> str:
    """This process, as a holder's name shows it to an operator."""
    return f"{socket.gethostname()}:{os.getpid()}"


def acquire(name: str, holder: str, seconds: float) -> int | None:
    """Takes a lease that nobody holds, for so many seconds; its generation. None, without waiting, when it is
    held, or when a transaction of its last holder still relies on it."""
    taken = postgres.rows(
        "WITH taken AS (UPDATE journal.leases SET holder = %s, generation = generation + 1,"
        " expires_at = clock_timestamp() + %s * interval '1 second'"
        # Inside the locked subquery: a row that another takes meanwhile is skipped, not waited for.
        " WHERE name = (SELECT name FROM journal.leases WHERE name = %s"
        " AND expires_at <= clock_timestamp() FOR NO KEY UPDATE SKIP LOCKED) RETURNING generation),"
        " made AS (INSERT INTO journal.leases (name, holder, generation, expires_at)"
        " SELECT %s, %s, 1, clock_timestamp() + %s * interval '1 second'"
        " WHERE NOT EXISTS (SELECT FROM journal.leases WHERE name = %s)"
        " ON CONFLICT DO NOTHING RETURNING generation)"
        " SELECT generation FROM taken UNION ALL SELECT generation FROM made",
        *(holder, seconds, name),
        *(name, holder, seconds, name),
    )
    return int(taken[0]["generation"]) if taken else None


def renew(name: str, generation: int, seconds: float) -> bool:
    """Keeps a lease for so many seconds from now; False when another has taken it.

    Also after it has expired: as long as nobody took it, nobody was there to be alone against.
    """
    return bool(
        postgres.rows(
            "UPDATE journal.leases SET expires_at = clock_timestamp() + %s * interval '1 second'"
            " WHERE name = %s AND generation = %s RETURNING name",
            seconds,
            name,
            generation,
        )
    )


def release(name: str, generation: int) -> None:
    """Lets another take the lease at once; does nothing when another has it."""
    postgres.rows(
        "UPDATE journal.leases SET expires_at = '-infinity' WHERE name = %s AND generation = %s",
        name,
        generation,
    )


def is_held(name: str, generation: int) -> bool:
    """Whether the lease is still of this generation, and keeps it so to the end of the open transaction.

    The row lock keeps `take` off until then: a holder that was replaced writes nothing. Shared: several
    transactions of one holder may rely on it at the same time.
    """
    return bool(
        postgres.rows(
            "SELECT FROM journal.leases WHERE name = %s AND generation = %s FOR SHARE", name, generation
        )
    )


def holder(name: str) -> str | None:
    """Who holds the lease now, for an operator; None when nobody does."""
    found = postgres.rows(
        "SELECT holder FROM journal.leases WHERE name = %s AND expires_at > clock_timestamp()", name
    )
    return str(found[0]["holder"]) if found else None
