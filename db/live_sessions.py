"""Live sessions with their users, which each process caches for up to a second.

The cache saves a statement at nearly every request. A change by another process of this machine takes effect
at once, a change by another machine within REMEMBERED_S.
"""

import mmap
import os
import threading
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from uuid import UUID

from db import postgres
from db.prepared import Statement

REMEMBERED_S = 1.0
MAX_REMEMBERED = 2_000

FIND_LIVE_SESSION = Statement(
    "find_live_session",
    """
    SELECT s.created_at AS began_at,
        u.id, u.email, u.name, u.role, u.email_verified, u.created_at, u.updated_at
    FROM auth.sessions s JOIN auth.users u ON u.id = s.user_id
    WHERE s.id = %(session_id)s::uuid AND s.ended_at IS NULL AND u.active
    """,
)

ROLES_OF_LIVE_SESSIONS = Statement(
    "roles_of_live_sessions",
    """
    SELECT s.id, u.role FROM auth.sessions s JOIN auth.users u ON u.id = s.user_id
    WHERE s.id = ANY(%(session_ids)s::uuid[]) AND s.ended_at IS NULL AND u.active
    """,
)


@dataclass(frozen=True, slots=True)
class LiveSession:
    """When a session began, and the columns of its user, whose account is active."""

    began_at: datetime
    id: UUID
    email: str
    name: str
    role: str
    email_verified: bool
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class _Remembered:
    """A cached session, the stamp of its user when it was read, and the monotonic time until it is valid."""

    session: LiveSession
    stamp: bytes
    until: float


# A stamp for each group of users, which a change of any of them replaces: a cached session with an older
# stamp is outdated. The web processes of a machine are forked from one that has imported this module, and
# share the stamps.
_STAMP_BYTES, _GROUPS = 8, 4096
_stamps = mmap.mmap(-1, _STAMP_BYTES * _GROUPS)

_lock = threading.Lock()
_remembered: dict[UUID, _Remembered] = {}


def read(session_id: UUID) -> LiveSession | None:
    """Returns a session as the database has it; None when it has ended or the account is not active."""
    return postgres.first(LiveSession, FIND_LIVE_SESSION, session_id=session_id)


def roles(session_ids: Collection[UUID]) -> dict[UUID, str]:
    """Returns the role of the user of each of these sessions, without those that have ended."""
    found = postgres.rows(ROLES_OF_LIVE_SESSIONS, session_ids=list(session_ids))
    return {row["id"]: row["role"] for row in found}


def find(session_id: UUID, user_id: UUID) -> LiveSession | None:
    """Returns what `read` does, or did up to REMEMBERED_S ago. `user_id` is the session's user."""
    stamp, now = _stamp(user_id), monotonic()
    if (known := _remembered.get(session_id)) and known.stamp == stamp and now < known.until:
        return known.session
    session = read(session_id)
    if session is not None:
        # With the stamp from before the statement, so that a change during the statement outdates the
        # session.
        _remember(session_id, _Remembered(session, stamp, now + REMEMBERED_S))
    return session


def forget(user_id: UUID) -> None:
    """Makes every process on this machine read a user's sessions again: now, and after the transaction.

    A change must call this in its transaction. The second time is for what other threads read before the
    commit.
    """
    _renew_stamp(user_id)
    if postgres.database.in_transaction():
        postgres.database.after_commit(lambda: _renew_stamp(user_id))


def _remember(session_id: UUID, session: _Remembered) -> None:
    """Caches a session, in place of the oldest one if the cache is full."""
    with _lock:
        # Removed and inserted: the end of the dict is dropped last.
        _remembered.pop(session_id, None)
        if len(_remembered) >= MAX_REMEMBERED:
            del _remembered[next(iter(_remembered))]
        _remembered[session_id] = session


def _renew_stamp(user_id: UUID) -> None:
    # Random, not a counter: two processes that increment at the same time would write the same number.
    _stamps[_place(user_id)] = os.urandom(_STAMP_BYTES)


def _stamp(user_id: UUID) -> bytes:
    return _stamps[_place(user_id)]


def _place(user_id: UUID) -> slice:
    start = user_id.int % _GROUPS * _STAMP_BYTES
    return slice(start, start + _STAMP_BYTES)
