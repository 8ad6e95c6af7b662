"""The profile routes: what somebody says about themselves, and how they like things."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from falcon import Request

from actors import audit, events, snapshots
from actors.jobs import transaction
from actors.media import Media
from api.http.operation import operation
from api.middleware import authentication
from api.profile import answers, schemas
from api.security.permissions import Permission
from db import profile, users
from db.core.errors import NotFound
from db.users import User


@dataclass
class Profile:
    """GET, PUT /profile"""

    store: Media

    @operation(Permission.SIGNED_IN, "Your profile.", name="getProfile", response=answers.Profile, etag=True)
    def on_get(self, req: Request) -> dict[str, Any]:
        """The caller's profile."""
        user = users.get(authentication.caller_of(req).user_id)
        if user is None:
            raise NotFound(thing="account")
        return written(user, self.store)

    @operation(
        Permission.SIGNED_IN,
        "Profile changed.",
        name="updateProfile",
        body=schemas.ProfileUpdate,
        response=answers.Profile,
        errors=(NotFound,),
        examples={"contact": {"phone": "+4930123456", "address": "1 Long Lane, Oxford", "bio": None}},
    )
    def on_put(self, req: Request, body: schemas.ProfileUpdate) -> dict[str, Any]:
        """Changes the fields that are named."""
        changes = body.named
        with transaction():
            user = locked(authentication.caller_of(req).user_id)
            name = changes.pop("name", user.name)
            if name != user.name:
                user = users.change(user.id, name=name) or user
                events.emit(events.EventType.ADMIN_USER_UPDATED, snapshots.user(user))
            if changes:
                profile.update(user.id, **changes)
            note(audit.AuditAction.PROFILE_UPDATED, user, fields=sorted(body.model_fields_set))
        return written(user, self.store)


class Preferences:
    """GET, PUT /profile/preferences"""

    @operation(
        Permission.SIGNED_IN,
        "Your preferences.",
        name="getPreferences",
        response=schemas.Preferences,
        etag=True,
    )
    def on_get(self, req: Request) -> dict[str, Any]:
        """What the caller prefers, as they said it; no defaults."""
        said = profile.find(authentication.caller_of(req).user_id)
        return dict(said.preferences) if said else {}

    @operation(
        Permission.SIGNED_IN,
        "Preferences changed.",
        name="updatePreferences",
        body=schemas.Preferences,
        response=schemas.Preferences,
        errors=(NotFound,),
    )
    def on_put(self, req: Request, body: schemas.Preferences) -> dict[str, Any]:
        """Replaces the whole object."""
        with transaction():
            user = locked(authentication.caller_of(req).user_id)
            changed = profile.update(user.id, preferences=body.values)
            note(audit.AuditAction.PREFERENCES_UPDATED, user, keys=len(body.values))
        return dict(changed.preferences)


def locked(user_id: UUID) -> User:
    """The caller, locked: whose account was closed just now says nothing any more. Raises NotFound."""
    user = users.locked(user_id)
    if user is None or not user.active:
        raise NotFound(thing="account")
    return user


def written(user: User, store: Media) -> dict[str, Any]:
    """A person's profile as it is now."""
    said = profile.find(user.id)
    return schemas.profile(user, said, store.public_url(said.avatar_url if said else None))


def note(action: audit.AuditAction, user: User, **details: Any) -> None:
    """Writes down what was changed, and not to what: it is nobody else's to read."""
    audit.record(action, resource=("user", user.id), details=details)
