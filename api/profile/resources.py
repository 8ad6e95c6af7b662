"""GET, PUT /profile; GET, PUT /profile/preferences."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from falcon import Request

from actors import audit, events, snapshots
from actors.audit import AuditAction
from actors.events import EventType
from actors.jobs import transaction
from actors.media import Media
from api.http.operation import Operation
from api.middleware.authentication import caller_of
from api.profile import schemas
from api.security.permissions import Permission
from db import profile, users
from db.core.errors import NotFound
from db.users import User


@dataclass
class Profile:
    """GET, PUT /profile."""

    store: Media

    @Operation(Permission.SIGNED_IN, "Profile.", name="getProfile", etag=True)
    def on_get(self, req: Request) -> schemas.Profile:
        """Get the signed-in user's profile."""
        return profile_of(User.get_by_id(caller_of(req).user_id), self.store)

    @Operation(
        Permission.SIGNED_IN,
        "Profile changed.",
        name="updateProfile",
        errors=(NotFound,),
        examples={"contact": {"phone": "+4930123456", "address": "1 Long Lane, Oxford", "bio": None}},
    )
    def on_put(self, req: Request, body: schemas.ProfileUpdate) -> schemas.Profile:
        """Update the signed-in user's profile.

        Changes the fields that are sent; null empties a field.
        """
        changes = body.named
        with transaction():
            user = lock_user(caller_of(req).user_id)
            name = changes.pop("name", user.name)
            if name != user.name:
                user = users.change(user.id, name=name) or user
                events.emit(EventType.ADMIN_USER_UPDATED, snapshots.user(user))
            if changes:
                profile.update(user.id, **changes)
            record_change(AuditAction.PROFILE_UPDATED, user, fields=sorted(body.model_fields_set))
        return profile_of(user, self.store)


class Preferences:
    """GET, PUT /profile/preferences."""

    @Operation(
        Permission.SIGNED_IN, "Preferences.", name="getPreferences", response=schemas.Preferences, etag=True
    )
    def on_get(self, req: Request) -> dict[str, Any]:
        """Get the signed-in user's preferences.

        Returns the object as it was stored, without defaults; an empty object before the first change.
        """
        stored = profile.find(caller_of(req).user_id)
        return dict(stored.preferences) if stored else {}

    @Operation(
        Permission.SIGNED_IN,
        "Preferences changed.",
        name="updatePreferences",
        response=schemas.Preferences,
        errors=(NotFound,),
    )
    def on_put(self, req: Request, body: schemas.Preferences) -> dict[str, Any]:
        """Replace the signed-in user's preferences.

        The whole object is replaced: keys that are not sent are removed.
        """
        with transaction():
            user = lock_user(caller_of(req).user_id)
            changed = profile.update(user.id, preferences=body.values)
            record_change(AuditAction.PREFERENCES_UPDATED, user, keys=len(body.values))
        return dict(changed.preferences)


def lock_user(user_id: UUID) -> User:
    """Locks the caller's user row. Raises NotFound if the account was closed since the authentication."""
    user = users.locked(user_id)
    if user is None or not user.active:
        raise NotFound(thing="account")
    return user


def profile_of(user: User, store: Media) -> schemas.Profile:
    """Returns the current profile of a user, empty for a user who has never changed it."""
    stored = profile.find(user.id) or profile.UserProfile(updated_at=user.updated_at)
    return schemas.Profile.from_record(
        stored,
        user_id=user.id,
        email=user.email,
        name=user.name,
        avatar_url=store.public_url(stored.avatar_url),
        created_at=user.created_at,
        updated_at=max(user.updated_at, stored.updated_at),
    )


def record_change(action: AuditAction, user: User, **details: Any) -> None:
    """Audits which fields changed, without their values: these are personal data."""
    audit.record(action, resource=("user", user.id), details=details)
