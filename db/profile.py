"""User profiles."""

from typing import Any
from uuid import UUID

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import postgres
from db.prepared import Statement


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


FIND_WITH_USER = Statement(
    "find_profile_with_user",
    """
    SELECT u.id AS user_id, u.email, u.name, p.avatar_url, p.phone, p.address, p.bio, u.created_at,
        greatest(u.updated_at, p.updated_at) AS updated_at
    FROM auth.users u LEFT JOIN profile.user_profiles p ON p.user_id = u.id WHERE u.id = %(user_id)s::uuid
    """,
)


def find(user_id: UUID) -> UserProfile | None:
    """Returns a user's profile; None before the first change."""
    return UserProfile.get_or_none(UserProfile.user_id == user_id)


def with_user(user_id: UUID) -> dict[str, Any]:
    """Returns the fields of a user and of their profile, null before the first change of one."""
    [found] = postgres.rows(FIND_WITH_USER, user_id=user_id)
    return found


def update(user_id: UUID, **columns: Any) -> UserProfile:
    """Changes columns of a user's profile, and creates the profile if there is none."""
    UserProfile.insert(user_id=user_id).on_conflict_ignore().execute()
    columns["updated_at"] = peewee.fn.clock_timestamp()
    query = UserProfile.update(**columns).where(UserProfile.user_id == user_id)
    return postgres.execute_returning(query, UserProfile)[0]


def avatar_name(user_id: UUID) -> str | None:
    """Returns the name of the user's picture in the media store."""
    profile = find(user_id)
    return profile.avatar_url if profile else None
