"""The profile routes: what somebody says about themselves, and how they like things."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from falcon import Request

from actors import audit, events, snapshots
from actors.media import Media
from actors.verbs import transaction
from api.gateway import caller
from api.gateway.operation import operation
from api.policies import Permission
from api.profile import answers, shapes
from db import auth, profile
from db.auth import User
from db.fault import NotFound


@dataclass
class Profile:
    """GET, PUT /profile"""

    store: Media

    @operation(Permission.SIGNED_IN, "Your profile.", name="getProfile", gives=answers.Profile, one=True)
    def on_get(self, req: Request) -> dict[str, Any]:
        """The caller's profile."""
        user = auth.user(caller.of(req).user_id)
        if user is None:
            raise NotFound(thing="account")
        return written(user, self.store)

    @operation(
        Permission.SIGNED_IN,
        "Profile changed.",
        name="updateProfile",
        takes=shapes.ProfileChanges,
        gives=answers.Profile,
        refuses=(NotFound,),
        examples={"contact": {"phone": "+4930123456", "address": "1 Long Lane, Oxford", "bio": None}},
    )
    def on_put(self, req: Request, wish: shapes.ProfileChanges) -> dict[str, Any]:
        """Changes the fields that are named."""
        changes = wish.named
        with transaction():
            user = locked(caller.of(req).user_id)
            name = changes.pop("name", user.name)
            if name != user.name:
                user = auth.change(user.id, name=name) or user
                events.announce(events.Type.ADMIN_USER_UPDATED, snapshots.user(user))
            if changes:
                profile.change(user.id, **changes)
            note(audit.Action.PROFILE_UPDATED, user, fields=sorted(wish.model_fields_set))
        return written(user, self.store)


class Preferences:
    """GET, PUT /profile/preferences"""

    @operation(
        Permission.SIGNED_IN, "Your preferences.", name="getPreferences", gives=shapes.Preferences, one=True
    )
    def on_get(self, req: Request) -> dict[str, Any]:
        """What the caller prefers, as they said it; no defaults."""
        said = profile.of(caller.of(req).user_id)
        return dict(said.preferences) if said else {}

    @operation(
        Permission.SIGNED_IN,
        "Preferences changed.",
        name="updatePreferences",
        takes=shapes.Preferences,
        gives=shapes.Preferences,
        refuses=(NotFound,),
    )
    def on_put(self, req: Request, wish: shapes.Preferences) -> dict[str, Any]:
        """Replaces the whole object."""
        with transaction():
            user = locked(caller.of(req).user_id)
            changed = profile.change(user.id, preferences=wish.values)
            note(audit.Action.PREFERENCES_UPDATED, user, keys=len(wish.values))
        return dict(changed.preferences)


def locked(user_id: UUID) -> User:
    """The caller, locked: whose account was closed just now says nothing any more. Raises NotFound."""
    user = auth.locked_user(user_id)
    if user is None or not user.active:
        raise NotFound(thing="account")
    return user


def written(user: User, store: Media) -> dict[str, Any]:
    """A person's profile as it is now."""
    said = profile.of(user.id)
    return shapes.profile(user, said, store.address(said.avatar_url if said else None))


def note(action: audit.Action, user: User, **details: Any) -> None:
    """Writes down what was changed, and not to what: it is nobody else's to read."""
    audit.note(action, resource=("user", user.id), details=details)
