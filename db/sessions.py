"""Sessions and their refresh tokens."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import peewee
from peewee import SQL
from playhouse.postgres_ext import DateTimeTZField

from db import pagination, postgres


class Session(postgres.Model):
    """One sign-in, and the family of refresh tokens that grew from it."""

    id = peewee.UUIDField(primary_key=True)
    user_id = peewee.UUIDField()
    ip_address = peewee.CharField(45, null=True)
    user_agent = peewee.TextField(null=True)
    created_at = DateTimeTZField()
    last_used_at = DateTimeTZField()
    ended_at = DateTimeTZField(null=True)

    class Meta:
        schema = "auth"
        table_name = "sessions"


class RefreshToken(postgres.Model):
    """One refresh token of a session, known by its SHA-256 alone."""

    id = peewee.UUIDField(primary_key=True)
    user_id = peewee.UUIDField()
    session_id = peewee.UUIDField()
    token = peewee.CharField(255)
    expires_at = DateTimeTZField()
    spent_at = DateTimeTZField(null=True)
    created_at = DateTimeTZField()

    class Meta:
        schema = "auth"
        table_name = "refresh_tokens"


def start(user_id: UUID, *, ip_address: str | None, user_agent: str | None) -> Session:
    """A new sign-in."""
    insert = Session.insert(user_id=user_id, ip_address=ip_address, user_agent=user_agent)
    return postgres.execute_returning(insert, Session)[0]


def find_live(session_id: UUID) -> Mapping[str, Any] | None:
    """Who is behind a session now (`user_id, email, role`), and when it began (`created_at`); None once it or
    the account has ended.

    Asked at every request: so a sign-out, a new role or a closed account takes effect at the next one, in
    every process, and no cache can be stale.
    """
    found = postgres.rows(
        "SELECT u.id AS user_id, u.email, u.role, s.created_at"
        " FROM auth.sessions s JOIN auth.users u ON u.id = s.user_id"
        " WHERE s.id = %s AND s.ended_at IS NULL AND u.active",
        session_id,
    )
    return found[0] if found else None


def page(
    user_id: UUID, *, used_since: datetime, begun_since: datetime, limit: int, after: pagination.Cursor | None
) -> pagination.Page[Session]:
    """A person's sessions that go on, newest first."""
    query = Session.select().where(
        Session.user_id == user_id,
        Session.ended_at.is_null(),
        Session.last_used_at > used_since,
        Session.created_at > begun_since,
    )
    return pagination.newest_page(Session, [query], limit=limit, after=after)


def end(session_id: UUID, *, user_id: UUID | None = None) -> bool:
    """Ends a session, only if it is this person's when one is named; whether it was still live."""
    update = Session.update(ended_at=peewee.fn.clock_timestamp())
    whose = Session.user_id == user_id if user_id else SQL("true")
    return bool(update.where(Session.id == session_id, Session.ended_at.is_null(), whose).execute())


def end_all(user_id: UUID, *, keep: UUID | None = None, only: Collection[UUID] | None = None) -> int:
    """Ends the live sessions of a user: all, or all except `keep`, or `only` these; how many there were.

    The rows are locked in the order of their ids: two calls at once must not wait crosswise.
    """
    return len(
        postgres.rows(
            "UPDATE auth.sessions SET ended_at = clock_timestamp() WHERE id = ANY(ARRAY("
            "SELECT id FROM auth.sessions WHERE user_id = %s AND ended_at IS NULL"
            " AND (%s::uuid IS NULL OR id <> %s::uuid) AND (%s::uuid[] IS NULL OR id = ANY(%s::uuid[]))"
            " ORDER BY id FOR NO KEY UPDATE)) RETURNING id",
            user_id,
            keep,
            keep,
            *[None if only is None else list(only)] * 2,
        )
    )


def end_oldest(user_id: UUID, *, keep: int) -> None:
    """Ends the live sessions of a user but the newest ones. The caller holds the user's lock."""
    older = postgres.rows(
        "SELECT id FROM auth.sessions WHERE user_id = %s AND ended_at IS NULL"
        " ORDER BY created_at DESC, id DESC OFFSET %s",
        user_id,
        keep,
    )
    if older:
        end_all(user_id, only=[row["id"] for row in older])


def add_refresh_token(session: Session | RefreshToken, *, token: str, expires_at: datetime) -> None:
    """Stores the SHA-256 (hex) of a new refresh token of this session, or of this token's session."""
    session_id = session.id if isinstance(session, Session) else session.session_id
    RefreshToken.insert(
        user_id=session.user_id, session_id=session_id, token=token, expires_at=expires_at
    ).execute()


def session_of(token: str) -> UUID | None:
    """The session of the refresh token with this SHA-256."""
    found = RefreshToken.get_or_none(RefreshToken.token == token)
    return found.session_id if found else None


def earlier_session(refresh_token: str, user_id: UUID | None) -> UUID | None:
    """The session of the refresh token with this SHA-256, if it is this user's, spent or expired too."""
    found: RefreshToken | None = RefreshToken.get_or_none(
        RefreshToken.token == refresh_token, RefreshToken.user_id == user_id
    )
    return found.session_id if found else None


def locked_refresh_token(token: str) -> RefreshToken | None:
    """The refresh token with this SHA-256, locked after its session: of twenty tabs, one at a time."""
    this = RefreshToken.token == token
    session = RefreshToken.select(RefreshToken.session_id).where(this)
    Session.select(Session.id).where(Session.id.in_(session)).for_update(postgres.NO_KEY_UPDATE).first()
    found: RefreshToken | None = RefreshToken.select().where(this).for_update(postgres.NO_KEY_UPDATE).first()
    return found


def mark_used(token: RefreshToken, now: datetime) -> None:
    """Marks a refresh token as used, and its session as used just now."""
    RefreshToken.update(spent_at=now).where(RefreshToken.id == token.id).execute()
    Session.update(last_used_at=now).where(Session.id == token.session_id).execute()


def delete_expired_refresh_tokens(now: datetime, limit: int) -> int:
    """Deletes so many refresh tokens that have expired, and the sessions they leave with none; how many.

    Sessions are locked before their tokens; one that is in use now is left for the next run.
    """
    some = list(RefreshToken.select().where(RefreshToken.expires_at <= now).limit(limit))
    sessions = Session.select(Session.id).where(Session.id.in_({it.session_id for it in some}))
    locked = [it.id for it in sessions.order_by(Session.id).for_update(postgres.DELETE_UNLOCKED)]
    expired = RefreshToken.id.in_([it.id for it in some]) & RefreshToken.session_id.in_(locked)
    tokens = postgres.execute_returning(postgres.delete(RefreshToken).where(expired), RefreshToken)
    left = RefreshToken.select(SQL("1")).where(RefreshToken.session_id == Session.id)
    postgres.delete(Session).where(Session.id.in_(locked), ~peewee.fn.EXISTS(left)).execute()
    return len(tokens)
