"""User accounts and their profiles."""

from collections.abc import Collection
from enum import StrEnum
from typing import Any
from uuid import UUID

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import live_sessions, pagination, personal_data, postgres, sessions
from db.prepared import Statement


class Role(StrEnum):
    """The roles of a user."""

    ADMIN = "ADMIN"
    VENDOR = "VENDOR"
    CUSTOMER = "CUSTOMER"


class User(postgres.Model, table="auth.users"):
    """A user account. The row of a closed account stays, inactive."""

    id = peewee.UUIDField(primary_key=True)
    email = peewee.CharField(255)
    password_hash = peewee.CharField(255)
    name = peewee.CharField(255)
    role = peewee.CharField(50)
    email_verified = peewee.BooleanField()
    # False while the account is suspended, and forever once it is closed.
    active = peewee.BooleanField()
    closed_at = DateTimeTZField(null=True)
    created_at = DateTimeTZField()
    updated_at = DateTimeTZField()


class UserProfile(postgres.Model, table="profile.user_profiles"):
    """The profile of a user. The row exists after the first change."""

    id = peewee.UUIDField(primary_key=True)
    user_id = peewee.UUIDField()
    # The picture's name in the media store. The public URL is not stored: it may change.
    avatar_url = peewee.CharField(500, null=True)
    phone = peewee.CharField(20, null=True)
    address = peewee.TextField(null=True)
    bio = peewee.TextField(null=True)
    preferences = peewee.JSONField()
    created_at = DateTimeTZField()
    updated_at = DateTimeTZField()


_COLUMNS = "id, email, password_hash, name, role, email_verified, active, closed_at, created_at, updated_at"

BY_EMAIL = Statement(
    "user_by_email",
    f"SELECT {_COLUMNS} FROM auth.users WHERE lower(email) = lower(%(email)s::text)",
)

LOCKED = Statement(
    "locked_user",
    f"SELECT {_COLUMNS} FROM auth.users WHERE id = %(id)s::uuid FOR NO KEY UPDATE",
)

WITH_PROFILE = Statement(
    "find_profile_with_user",
    """
    SELECT u.id AS user_id, u.email, u.name, p.avatar_url, p.phone, p.address, p.bio, u.created_at,
        greatest(u.updated_at, p.updated_at) AS updated_at
    FROM auth.users u LEFT JOIN profile.user_profiles p ON p.user_id = u.id WHERE u.id = %(user_id)s::uuid
    """,
)

_IS_ACTIVE = User.active == True  # noqa: E712
_IS_ACTIVE_VENDOR = (User.role == Role.VENDOR) & _IS_ACTIVE


def add(*, email: str, password_hash: str, name: str, role: Role, **more: Any) -> User | None:
    """Inserts a user; None when another user has the address, compared without case."""
    insert = User.insert(email=email, password_hash=password_hash, name=name, role=role, **more)
    return next(iter(postgres.execute_returning(insert.on_conflict_ignore(), User)), None)


def get(id: UUID) -> User | None:
    """Returns the user with this id."""
    return User.get_or_none(User.id == id)


def active_vendors(ids: Collection[UUID]) -> set[UUID]:
    """Returns those of these ids that belong to active vendors: only they can be paid."""
    if not ids:
        return set()
    return {user.id for user in User.select(User.id).where(User.id.in_(ids), _IS_ACTIVE_VENDOR)}


def lock_vendor(id: UUID) -> bool:
    """Returns whether the user is an active vendor, and keeps that so until the end of the transaction."""
    query = User.select(User.id).where(User.id == id, _IS_ACTIVE_VENDOR)
    return query.for_update("FOR SHARE").first() is not None  # type: ignore[arg-type]


def by_email(email: str) -> User | None:
    """Returns the user with this address, compared without case."""
    return postgres.first(User, BY_EMAIL, email=email.strip())


def locked(id: UUID) -> User | None:
    """Returns the user with the row locked until the end of the transaction.

    A concurrent change of the password cannot be missed. This lock precedes every lock of the user's
    sessions, tokens and profile (decision 20).
    """
    return postgres.first(User, LOCKED, id=id)


def change(id: UUID, **columns: Any) -> User | None:
    """Changes columns of a user; None when another user has the new address."""
    try:
        with postgres.database.atomic():
            if "email" in columns:
                personal_data.remember_address(id)
            _update(id, **columns)
    except peewee.IntegrityError:
        return None
    return User.get_by_id(id)


def locked_with_admins(id: UUID) -> tuple[User | None, list[UUID]]:
    """Returns the user and the ids of the active administrators, with all of these rows locked.

    One statement locks the rows in the order of their ids. When two administrators demote each other at the
    same time, the second transaction sees the result of the first.
    """
    admin = (User.role == Role.ADMIN) & _IS_ACTIVE
    query = User.select().where((User.id == id) | admin).order_by(User.id)
    users = list(query.for_update(postgres.NO_KEY_UPDATE))
    admins = [user.id for user in users if user.role == Role.ADMIN and user.active]
    return next((user for user in users if user.id == id), None), admins


def close(id: UUID, *, email: str, name: str) -> User:
    """Ends an account's sessions, deletes its tokens and profile, replaces address and name; returns it."""
    personal_data.remember_address(id)
    sessions.end(id)
    postgres.rows("DELETE FROM auth.one_time_tokens WHERE user_id = %s", id)
    postgres.rows("DELETE FROM auth.known_addresses WHERE user_id = %s", id)
    postgres.rows("DELETE FROM profile.user_profiles WHERE user_id = %s", id)
    closed = {"password_hash": "closed", "email_verified": False, "active": False}
    _update(id, email=email, name=name, **closed, closed_at=peewee.fn.clock_timestamp())
    return User.get_by_id(id)


def page(
    *, role: str | None, q: str | None, active: bool | None, limit: int, after: pagination.Cursor | None
) -> pagination.Page[User]:
    """Returns a page of users, newest first. `q` is a part of the address or the name."""
    conditions = pagination.conditions(
        (role, User.role == role),
        (q, User.email.contains(q or "") | User.name.contains(q or "")),
        (active, User.active == active),
    )
    return pagination.newest_page(User, [User.select().where(*conditions)], limit=limit, after=after)


def profile_of(user_id: UUID) -> UserProfile | None:
    """Returns a user's profile; None before the first change."""
    return UserProfile.get_or_none(UserProfile.user_id == user_id)


def with_profile(user_id: UUID) -> dict[str, Any]:
    """Returns the fields of a user and of their profile, null before the first change of one."""
    [found] = postgres.rows(WITH_PROFILE, user_id=user_id)
    return found


def update_profile(user_id: UUID, **columns: Any) -> UserProfile:
    """Changes columns of a user's profile, which it creates if there is none; returns the profile."""
    UserProfile.insert(user_id=user_id).on_conflict_ignore().execute()
    columns["updated_at"] = peewee.fn.clock_timestamp()
    query = UserProfile.update(**columns).where(UserProfile.user_id == user_id)
    return postgres.execute_returning(query, UserProfile)[0]


def avatar_name(user_id: UUID) -> str | None:
    """Returns the name of the user's picture in the media store."""
    profile = profile_of(user_id)
    return profile.avatar_url if profile else None


def _update(id: UUID, **columns: Any) -> None:
    columns["updated_at"] = peewee.fn.clock_timestamp()
    User.update(**columns).where(User.id == id).execute()
    live_sessions.forget(id)
