"""GET, PUT /profile; GET, PUT /profile/preferences."""

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Annotated, Any, ClassVar, Literal, Self
from uuid import UUID

from falcon import Request
from pydantic import MISSING, AfterValidator, Field, model_validator

from actors import audit, events, snapshots
from actors.audit import AuditAction
from actors.events import EventType
from actors.jobs import transaction
from actors.media import Media
from api.accounts import Name
from api.http.fields import PartialUpdate, RequestBody, invalid, require_json_size
from api.http.operation import Operation
from api.http.text import Text
from api.middleware.authentication import caller_of
from api.security.permissions import Permission
from db import profile, users
from db.core.errors import NotFound
from db.core.json_model import Id, JsonModel, Timestamp
from db.users import User

MAX_PREFERENCES_KIB = 16

# Well-formed by RFC 5646, section 2.1, without the grandfathered tags. Whether the language exists is not
# checked.
_LOCALE = (
    r"^([A-Za-z]{2,3}(-[A-Za-z]{3}){0,3}|[A-Za-z]{4,8})(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?"
    r"(-([A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*(-[0-9A-WYZa-wyz](-[A-Za-z0-9]{2,8})+)*"
    r"(-[Xx](-[A-Za-z0-9]{1,8})+)?$"
)


@cache
def _timezones() -> frozenset[str]:
    """Returns the IANA names, from the tzdata package: the machines' own lists differ."""
    return frozenset((resources.files("tzdata") / "zones").read_text().split()) - {"Factory"}


def _timezone(value: str) -> str:
    if value not in _timezones():
        raise invalid("must be an IANA time zone, for example Europe/Berlin")
    return value


Phone = Annotated[str, Field(pattern=r"^\+[1-9][0-9]{1,14}$", examples=["+4930123456"])]
Address = Annotated[Text, Field(max_length=500, examples=["1 Long Lane, Oxford"])]
Bio = Annotated[Text, Field(max_length=2000, examples=["Sells chairs."])]
Locale = Annotated[str, Field(max_length=100, pattern=_LOCALE, examples=["de-AT"])]
Timezone = Annotated[str, Field(max_length=64, examples=["Europe/Vienna"]), AfterValidator(_timezone)]
Theme = Literal["light", "dark", "system"]


class ProfileUpdate(PartialUpdate):
    """The fields to change; null empties a field."""

    name: Name | MISSING = MISSING
    phone: Phone | MISSING | None = MISSING
    address: Address | MISSING | None = MISSING
    bio: Bio | MISSING | None = MISSING


class Profile(JsonModel):
    """A user's profile. `avatarUrl` is absolute and changes with every new avatar."""

    user_id: Id
    email: Annotated[str, Field(examples=["customer@example.com"])]
    name: Annotated[str, Field(examples=["Robin Doe"])]
    avatar_url: Annotated[
        str | None, Field(examples=["https://api.shop.example/media/avatars/7c4ab0e5d1f94c2e.webp"])
    ]
    phone: Annotated[str | None, Field(examples=["+4930123456"])]
    address: Annotated[str | None, Field(examples=["1 Long Lane, Oxford"])]
    bio: Annotated[str | None, Field(examples=["Sells chairs."])]
    created_at: Timestamp
    updated_at: Timestamp


_EXAMPLE: Any = {
    "locale": "de-AT",
    "timezone": "Europe/Vienna",
    "theme": "dark",
    "notifications": {"paymentCompleted": False, "paymentFailed": True},
    "columns": ["amount", "status"],
}


class Preferences(RequestBody, extra="allow", json_schema_extra={"examples": [_EXAMPLE]}):
    """A JSON object of at most 16 KiB, stored as sent. The keys below are checked, all others are free.

    `notifications.paymentCompleted` and `notifications.paymentFailed` decide whether those mails are sent;
    both default to true.
    """

    body_required: ClassVar = True
    # The size is the limit: a value takes at least two bytes.
    max_members: ClassVar = MAX_PREFERENCES_KIB * 1024 // 2
    max_values: ClassVar = MAX_PREFERENCES_KIB * 1024 // 2

    locale: Locale | MISSING = MISSING
    timezone: Timezone | MISSING = MISSING
    theme: Theme | MISSING = MISSING
    notifications: Annotated[dict[str, bool], Field(examples=[{"paymentCompleted": False}])] | MISSING = (
        MISSING
    )

    @model_validator(mode="after")
    def _limit_size(self) -> Self:
        require_json_size(self.values, MAX_PREFERENCES_KIB)
        return self

    @property
    def values(self) -> dict[str, Any]:
        """The object as sent."""
        return self.model_dump(exclude_unset=True)


@dataclass(frozen=True)
class OwnProfile:
    """The routes of the signed-in user's profile and preferences."""

    store: Media

    @Operation(Permission.SIGNED_IN, "Profile.", etag=True)
    def get_profile(self, req: Request) -> Profile:
        """Get the signed-in user's profile."""
        return profile_of(caller_of(req).user_id, self.store)

    @Operation(
        Permission.SIGNED_IN,
        "Profile changed.",
        errors=(NotFound,),
        examples={"contact": {"phone": "+4930123456", "address": "1 Long Lane, Oxford", "bio": None}},
    )
    def update_profile(self, req: Request, body: ProfileUpdate) -> Profile:
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
        return profile_of(user.id, self.store)

    @Operation(Permission.SIGNED_IN, "Preferences.", response=Preferences, etag=True)
    def get_preferences(self, req: Request) -> dict[str, Any]:
        """Get the signed-in user's preferences.

        Returns the object as it was stored, without defaults; an empty object before the first change.
        """
        stored = profile.find(caller_of(req).user_id)
        return dict(stored.preferences) if stored else {}

    @Operation(Permission.SIGNED_IN, "Preferences changed.", response=Preferences, errors=(NotFound,))
    def update_preferences(self, req: Request, body: Preferences) -> dict[str, Any]:
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


def profile_of(user_id: UUID, store: Media) -> Profile:
    """Returns the current profile of a user, empty for a user who has never changed it."""
    found = profile.with_user(user_id)
    return Profile(**{**found, "avatar_url": store.public_url(found["avatar_url"])})


def record_change(action: AuditAction, user: User, **details: Any) -> None:
    """Audits which fields changed, without their values: these are personal data."""
    audit.record(action, resource=("user", user.id), details=details)
