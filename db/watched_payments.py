"""What changes while requests wait for a payment: its version, and what the caller's session allows."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from db import postgres


class Watched(NamedTuple):
    """A payment that a request waits for, and the session of the caller."""

    payment_id: UUID
    session_id: UUID


class Watch(NamedTuple):
    """The version of a payment, and the role of the caller; None if the session or the account has ended."""

    version: int
    role: str | None


# Not prepared: a plan for a few would read whole tables for many.
FIND = """
    SELECT p.id, watched.session_id, p.version, u.role
    FROM unnest(%s::uuid[], %s::uuid[]) AS watched (payment_id, session_id)
    JOIN payments.payments p ON p.id = watched.payment_id
    LEFT JOIN auth.sessions s ON s.id = watched.session_id AND s.ended_at IS NULL
    LEFT JOIN auth.users u ON u.id = s.user_id AND u.active
"""


def find(watched: Sequence[Watched]) -> dict[Watched, Watch]:
    """Returns the present state of what is watched, in one statement however much it is."""
    found = postgres.rows(FIND, [one.payment_id for one in watched], [one.session_id for one in watched])
    return {Watched(row["id"], row["session_id"]): Watch(row["version"], row["role"]) for row in found}
