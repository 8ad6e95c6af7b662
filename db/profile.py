"""What people say about themselves."""

from typing import Any
from uuid import UUID

import peewee
from playhouse.postgres_ext import DateTimeTZField

from db import postgres


class UserProfile(postgres.Model):
    """The profile of one person."""

    id = peewee.UUIDField(primary_key=True)
    user_id = peewee.UUIDField()
    # Where it lies in the media store: where that is reached from outside may change.
    avatar_url = peewee.CharField(500, null=True)
    phone = peewee.CharField(20, null=True)
    address = peewee.TextField(null=True)
    bio = peewee.TextField(null=True)
    preferences = peewee.JSONField()
    created_at = DateTimeTZField()
    updated_at = DateTimeTZField()

    class Meta:
        schema = "profile"
        table_name = "user_profiles"


def wants_notification(user_id: UUID, notification: str) -> bool:
    """Whether a person wants to be told of this, as `paymentCompleted`; who has not said so does."""
    found = postgres.rows(
        "SELECT preferences #> ARRAY['notifications', %s] = 'false' AS no FROM profile.user_profiles"
        " WHERE user_id = %s",
        notification,
        user_id,
    )
    return not (found and found[0]["no"])


def find(user_id: UUID) -> UserProfile | None:
    """A person's profile; None of somebody who never said anything."""
    return UserProfile.get_or_none(UserProfile.user_id == user_id)


def update(user_id: UUID, **columns: Any) -> UserProfile:
    """Changes a person's profile, which begins with the first change."""
    UserProfile.insert(user_id=user_id).on_conflict_ignore().execute()
    columns["updated_at"] = peewee.fn.clock_timestamp()
    update = UserProfile.update(**columns).where(UserProfile.user_id == user_id)
    return postgres.execute_returning(update, UserProfile)[0]


def avatar_name(user_id: UUID) -> str | None:
    """The name of the picture that a person shows, if any."""
    profile = find(user_id)
    return profile.avatar_url if profile else None
