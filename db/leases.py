"""Leases: give one of several processes an exclusive right for a limited time, by the database's clock.

A lease is a row with a generation, not a lock of a session. A holder that hangs, or whose machine is gone, is
replaced after the lease has expired. A holder that was replaced has an older generation. The name of the
holder is for operators.
"""

import os
import socket

from db import postgres

# The lease of the process that enqueues the periodic jobs.
SCHEDULER = "scheduler"


def process_name() -> str:
    """Returns the name of this process for operators: `host:pid`."""
    return f"{socket.gethostname()}:{os.getpid()}"


# The subquery skips a row that another process is taking at this moment.
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
    """Extends a lease to `seconds` from now; returns False if another process has taken the lease.

    An expired lease can be extended while no other process has taken it.
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
    """Returns whether a lease still has this generation; if so, keeps it until the end of the transaction.

    Until then a row lock keeps `acquire` from taking the lease, so that no replaced holder writes anything.
    The lock is shared: several transactions of one holder may rely on the lease at the same time.
    """
    locked = "SELECT FROM journal.leases WHERE name = %s AND generation = %s FOR SHARE"
    return bool(postgres.rows(locked, name, generation))


def holder(name: str) -> str | None:
    """Returns the name of the process that holds the lease; None when it is free."""
    found: str | None = postgres.value(
        "SELECT holder FROM journal.leases WHERE name = %s AND expires_at > clock_timestamp()", name
    )
    return found
