"""Floors: positions in the journal from which searches for jobs begin, so that they pass over removed rows.

While a long transaction is open, such as a backup, the rows of removed jobs cannot be vacuumed, and a search
for the first job reads them all: 200,000 rows in 50 ms, instead of one in 0.04 ms. When searches are slow, a
process therefore remembers, for a few seconds, the position of the first job that exists.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from db import postgres
from db.prepared import Statement

# A search that took longer may have read removed rows.
SLOW_S = 0.01
# For how long a position is remembered.
REMEMBERED_FOR_S = 2.0
# After which time the first job is searched for from the beginning. Until then, a job whose transaction took
# longer than REMEMBERED_FOR_S to commit is missed.
FROM_BEGINNING_AFTER_S = 10.0

# From the view pg_sequences, not by pg_sequence_last_value: in PostgreSQL 16 this function raises if the role
# has no right to the sequence, and every job of the name would fail. The view then has no value, and searches
# begin at the first position.
FIRST_POSITION = """
    SELECT newest.position AS newest, coalesce((
        SELECT position FROM journal.jobs WHERE name = %s AND dead_at IS NULL AND position >= %s
        ORDER BY position LIMIT 1), newest.position) AS first
    FROM (
        SELECT coalesce(max(last_value), 0) AS position FROM pg_sequences
        WHERE schemaname = 'journal' AND sequencename = 'tasks_position_seq') AS newest
"""


@dataclass
class _Floor:
    """The position from which to search for the jobs of one name. Times are monotonic."""

    position: int = 0
    # The last position that was assigned when the first job was searched for.
    newest: int = 0
    expires_at: float = 0
    from_beginning_at: float = 0


# By the names of jobs whose search was slow.
_floors: dict[str, _Floor] = {}


def search(sql: str | Statement, name: str, **params: Any) -> list[dict[str, Any]]:
    """Runs a statement that searches for jobs of one name from the position `floor` on; returns its rows.

    The floor is 0 if there are `requested` jobs, which may have any position.
    """
    floor = 0 if params.get("requested") else position(name)
    start = time.monotonic()
    found = postgres.rows(sql, name=name, floor=floor, **params)
    if time.monotonic() - start > SLOW_S:
        _floors.setdefault(name, _Floor())
    return found


def positions(names: Collection[str]) -> list[int]:
    """Returns the position from which to search for jobs, for each name."""
    return [position(name) for name in names]


def forget() -> None:
    """Forgets all positions: every search begins at the first one again."""
    _floors.clear()


def position(name: str) -> int:
    """Returns the position from which to search for jobs of a name: 0 unless searches are slow."""
    floor = _floors.get(name)
    if floor is None:
        return 0
    now = time.monotonic()
    if now < floor.expires_at:
        return floor.position
    from_beginning = now >= floor.from_beginning_at
    [found] = postgres.rows(FIRST_POSITION, name, 0 if from_beginning else floor.position)
    if from_beginning:
        floor.from_beginning_at = now + FROM_BEGINNING_AFTER_S
        if time.monotonic() - now <= SLOW_S:
            # The search was quick: there are no removed rows to pass over.
            floor.position, floor.newest, floor.expires_at = 0, 0, floor.from_beginning_at
            return 0
    # A transaction that is still open may commit a job with a lower position than the newest. So the floor is
    # not above the position that was the newest at the last search: the transactions with the positions up to
    # it have ended, unless they are long.
    floor.position = min(found["first"], floor.newest)
    floor.newest, floor.expires_at = found["newest"], now + REMEMBERED_FOR_S
    return floor.position
