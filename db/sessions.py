"""Sessions and their refresh tokens."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

import peewee
from peewee import SQL
from playhouse.postgres_ext import DateTimeTZField

from db import live_sessions, pagination, postgres
from db.prepared import Statement


class Session(postgres.Model, table="auth.sessions"):
    """A sign-in, and the family of refresh tokens that was issued for it."""

    id = peewee.UUIDField(primary_key=True)
    user_id = peewee.UUIDField()
    ip_address = peewee.CharField(45, null=True)
    user_agent = peewee.TextField(null=True)
    created_at = DateTimeTZField()
    last_used_at = DateTimeTZField()
    ended_at = DateTimeTZField(null=True)


class RefreshToken(postgres.Model, table="auth.refresh_tokens"):
    """A refresh token of a session, stored as its SHA-256 only."""

    id = peewee.UUIDField(primary_key=True)
    user_id = peewee.UUIDField()
    session_id = peewee.UUIDField()
    token_hash = peewee.CharField(255)
    expires_at = DateTimeTZField()
    spent_at = DateTimeTZField(null=True)
    created_at = DateTimeTZField()


# Locks in the order of the ids: two calls at the same time must not deadlock.
END_SESSIONS = """
    UPDATE auth.sessions SET ended_at = clock_timestamp() WHERE id = ANY(ARRAY(
        SELECT id FROM auth.sessions
        WHERE user_id = %(user_id)s AND ended_at IS NULL
            AND (%(keep)s::uuid IS NULL OR id <> %(keep)s::uuid)
            AND (%(only)s::uuid[] IS NULL OR id = ANY(%(only)s::uuid[]))
        ORDER BY id FOR NO KEY UPDATE
    )) RETURNING id
"""

# `surplus` does not see the new session: all parts of the statement read the tables as they were before.
START = Statement(
    "start_session",
    """
    WITH session AS (
        INSERT INTO auth.sessions (user_id, ip_address, user_agent)
        VALUES (%(user_id)s::uuid, %(ip_address)s::text, %(user_agent)s::text) RETURNING id
    ), token AS (
        INSERT INTO auth.refresh_tokens (user_id, session_id, token_hash, expires_at)
        SELECT %(user_id)s, id, %(token_hash)s::text, %(expires_at)s::timestamptz FROM session
    )
    SELECT id, ARRAY(
        SELECT id FROM auth.sessions WHERE user_id = %(user_id)s AND ended_at IS NULL
        ORDER BY created_at DESC, id DESC OFFSET %(others)s::int) AS surplus
    FROM session
    """,
)


def start(
    user_id: UUID,
    *,
    ip_address: str | None,
    user_agent: str | None,
    token_hash: str,
    expires_at: datetime,
    keep: int,
) -> UUID:
    """Starts a session with the SHA-256 (hex) of its first refresh token; returns the session's id.

    Ends the user's live sessions except the newest `keep`. The caller must have locked the user, or created
    the account.
    """
    [started] = postgres.rows(
        START,
        user_id=user_id,
        ip_address=ip_address,
        user_agent=user_agent,
        token_hash=token_hash,
        expires_at=expires_at,
        others=keep - 1,
    )
    if started["surplus"]:
        end(user_id, only=started["surplus"])
    id: UUID = started["id"]
    return id


def page(
    user_id: UUID, *, used_since: datetime, begun_since: datetime, limit: int, after: pagination.Cursor | None
) -> pagination.Page[Session]:
    """Returns a page of a user's live sessions, newest first."""
    query = Session.select().where(
        Session.user_id == user_id,
        Session.ended_at.is_null(),
        Session.last_used_at > used_since,
        Session.created_at > begun_since,
    )
    return pagination.newest_page(Session, [query], limit=limit, after=after)


def end(user_id: UUID, *, keep: UUID | None = None, only: Collection[UUID] | None = None) -> int:
    """Ends a user's live sessions: all, all except `keep`, or `only` these. Returns their number."""
    only_ids = None if only is None else list(only)
    ended = postgres.rows(END_SESSIONS, user_id=user_id, keep=keep, only=only_ids)
    live_sessions.forget(user_id)
    return len(ended)


def add_refresh_token(spent: RefreshToken, *, token_hash: str, expires_at: datetime) -> None:
    """Stores the SHA-256 (hex) of the token that follows a spent one in its session."""
    RefreshToken.insert(
        user_id=spent.user_id, session_id=spent.session_id, token_hash=token_hash, expires_at=expires_at
    ).execute()


def session_of(token_hash: str, user_id: UUID) -> UUID | None:
    """Returns the session of this user's refresh token with this SHA-256, even a spent or expired one."""
    found: RefreshToken | None = RefreshToken.get_or_none(
        RefreshToken.token_hash == token_hash, RefreshToken.user_id == user_id
    )
    return found.session_id if found else None


def locked_refresh_token(token_hash: str) -> RefreshToken | None:
    """Returns the refresh token with this SHA-256, with its session and then its row locked.

    Of several tabs that refresh at the same time, one continues and the others wait.
    """
    has_hash = RefreshToken.token_hash == token_hash
    session = RefreshToken.select(RefreshToken.session_id).where(has_hash)
    Session.select(Session.id).where(Session.id.in_(session)).for_update(postgres.NO_KEY_UPDATE).first()
    query = RefreshToken.select().where(has_hash)
    found: RefreshToken | None = query.for_update(postgres.NO_KEY_UPDATE).first()
    return found


def mark_used(token: RefreshToken, now: datetime) -> None:
    """Marks a refresh token as spent, and its session as used."""
    RefreshToken.update(spent_at=now).where(RefreshToken.id == token.id).execute()
    Session.update(last_used_at=now).where(Session.id == token.session_id).execute()


def delete_expired_refresh_tokens(now: datetime, limit: int) -> int:
    """Deletes expired refresh tokens, and sessions that have none left. Returns the number of deleted tokens.

    Sessions are locked before their tokens. A session that another transaction has locked is left for the
    next run.
    """
    expired = list(RefreshToken.select().where(RefreshToken.expires_at <= now).limit(limit))
    sessions = Session.select(Session.id).where(Session.id.in_({token.session_id for token in expired}))
    unlocked = sessions.order_by(Session.id).for_update(postgres.DELETE_UNLOCKED)
    session_ids = [session.id for session in unlocked]
    is_expired = RefreshToken.id.in_([token.id for token in expired])
    is_unlocked = RefreshToken.session_id.in_(session_ids)
    deleted = int(postgres.delete(RefreshToken).where(is_expired, is_unlocked).execute())
    remaining = RefreshToken.select(SQL("1")).where(RefreshToken.session_id == Session.id)
    postgres.delete(Session).where(Session.id.in_(session_ids), ~peewee.fn.EXISTS(remaining)).execute()
    return deleted
