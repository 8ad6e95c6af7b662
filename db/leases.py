"""Leases: give one of several processes an exclusive right for a limited time, by the database's clock.

A lease is a row with a generation, and no state of a session. A holder that hangs or whose machine is gone is
replaced when the lease has expired; a replaced holder is recognised by its older generation. The name of the
holder is for operators.
"""

import os
import socket

from db import postgres


def process_name() -> str:
    """Returns the name of this process for operators: `host:pid`."""
    return f"{socket.gethostname()}:{os.getpid()}"


# SKIP LOCKED stands inside the subquery: a row that another process takes at this moment is skipped.
ACQUIRE = """
    WITH taken AS (
        UPDATE journal.leases
        SET holder = %(holder)s, generation = generation + 1,
            expires_at = clock_timestamp() + %(seconds)s * interval '1 second'
        WHERE name = (
            SELECT name FROM journal.leases WHERE name = %(name)s AND expires_at <= clock_timestamp()
            FOR NO KEY UPDATE SKIP LOCKED)
        RETURNING generation
    ), created AS (
        INSERT INTO journal.leases (name, holder, generation, expires_at)
        SELECT %(name)s, %(holder)s, 1, clock_timestamp() + %(seconds)s * interval '1 second'
        WHERE NOT EXISTS (SELECT FROM journal.leases WHERE name = %(name)s)
        ON CONFLICT DO NOTHING RETURNING generation
    )
    SELECT generation FROM taken UNION ALL SELECT generation FROM created
"""


def acquire(name: str, holder: str, seconds: float) -> int | None:
    """Takes a free lease and returns its generation; None, without waiting, when it is not free.

    An expired lease is not free as long as an open transaction of its last holder relies on it.
    """
    generation: int | None = postgres.value(ACQUIRE, name=name, holder=holder, seconds=seconds)
    return generation


def renew(name: str, generation: int, seconds: float) -> bool:
    """Extends a lease to this time from now; False when another process has taken it.

    Also an expired lease: as long as no process took it, none was excluded by it.
    """
    renewed = postgres.rows(
        "UPDATE journal.leases SET expires_at = clock_timestamp() + %s * interval '1 second'"
        " WHERE name = %s AND generation = %s RETURNING name",
        seconds,
        name,
        generation,
    )
    return bool(renewed)


def release(name: str, generation: int) -> None:
    """Makes a lease free at once; does nothing when another process has taken it."""
    postgres.rows(
        "UPDATE journal.leases SET expires_at = '-infinity' WHERE name = %s AND generation = %s",
        name,
        generation,
    )


def is_held(name: str, generation: int) -> bool:
    """Whether the lease still has this generation. If so, it keeps it to the end of the open transaction.

    The row lock keeps `acquire` out until then, so that a replaced holder writes nothing. It is shared:
    several transactions of one holder may rely on the lease at the same time.
    """
    locked = "SELECT FROM journal.leases WHERE name = %s AND generation = %s FOR SHARE"
    return bool(postgres.rows(locked, name, generation))


def holder(name: str) -> str | None:
    """Returns the name of the process that holds the lease; None when it is free."""
    found: str | None = postgres.value(
        "SELECT holder FROM journal.leases WHERE name = %s AND expires_at > clock_timestamp()", name
    )
    return found
