"""The signed-in user's profile, preferences and avatar."""

import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from threading import BoundedSemaphore
from typing import Annotated, Any, ClassVar, Literal, Self
from uuid import UUID

import structlog
from falcon import Request, Response
from pydantic import MISSING, AfterValidator, Field, model_validator

from actors import audit, events, media, snapshots
from actors.audit import AuditAction
from actors.events import EventType
from actors.jobs import enqueue, transaction
from actors.media import Media
from api.accounts import Name
from api.http import etag
from api.http.admission import Busy, slot, without_connection
from api.http.body import ValidationFailed
from api.http.fields import PartialUpdate, RequestBody, invalid, require_json_size
from api.http.operation import Operation, RawOperation
from api.http.text import Text
from api.middleware.authentication import caller_of
from api.security.permissions import Permission
from db import users
from db.core.errors import DomainError, ErrorCode, NotFound
from db.core.json_model import Id, JsonModel, Timestamp
from db.users import User

log = structlog.get_logger(__name__)

MAX_PREFERENCES_KIB = 16

# Well-formed by RFC 5646, section 2.1, without the grandfathered tags. Whether the language exists is not
# checked.
_LOCALE = (
    r"^([A-Za-z]{2,3}(-[A-Za-z]{3}){0,3}|[A-Za-z]{4,8})(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?"
    r"(-([A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*(-[0-9A-WYZa-wyz](-[A-Za-z0-9]{2,8})+)*"
    r"(-[Xx](-[A-Za-z0-9]{1,8})+)?$"
)

UPLOAD_TYPES = ("image/png", "image/jpeg", "image/webp")
STORED_TYPE = "image/webp"
_STORED_NAME = re.compile(r"[0-9a-f]{40}\.webp")

# How many images one web process has decoded at once.
MAX_DECODERS = 2
_decoders = BoundedSemaphore(MAX_DECODERS)
# Longer than the decoder's limit of CPU time: on a busy machine the decoder waits for a core.
_DECODER_DEADLINE_S = 15.0
# -I finds the installed packages but no module of ours; the empty environment below holds no secret.
_DECODER = [sys.executable, "-I", str(Path(__file__).with_name("decoding.py"))]
# Repeats `decoding.EXIT_REFUSED`: importing that module would load Pillow into every web process.
_EXIT_REFUSED = 3


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


class NotAnImage(DomainError, code=ErrorCode.UNSUPPORTED_MEDIA_TYPE):
    """The file must be a PNG, JPEG or WebP image by its content, whatever its name."""


@dataclass(frozen=True)
class OwnProfile:
    """The routes of the profile, the preferences and the avatar."""

    store: Media

    @Operation(Permission.SIGNED_IN, "Profile.", etag=True)
    def get_profile(self, req: Request) -> Profile:
        """Get the signed-in user's profile."""
        return _profile_of(caller_of(req).user_id, self.store)

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
            user = _lock_user(caller_of(req).user_id)
            name = changes.pop("name", user.name)
            if name != user.name:
                user = users.change(user.id, name=name) or user
                events.emit(EventType.ADMIN_USER_UPDATED, snapshots.user(user))
            if changes:
                users.update_profile(user.id, **changes)
            _record_change(AuditAction.PROFILE_UPDATED, user, fields=sorted(body.model_fields_set))
        return _profile_of(user.id, self.store)

    @Operation(Permission.SIGNED_IN, "Preferences.", response=Preferences, etag=True)
    def get_preferences(self, req: Request) -> dict[str, Any]:
        """Get the signed-in user's preferences.

        Returns the object as it was stored, without defaults; an empty object before the first change.
        """
        stored = users.profile_of(caller_of(req).user_id)
        return dict(stored.preferences) if stored else {}

    @Operation(Permission.SIGNED_IN, "Preferences changed.", response=Preferences, errors=(NotFound,))
    def update_preferences(self, req: Request, body: Preferences) -> dict[str, Any]:
        """Replace the signed-in user's preferences.

        The whole object is replaced: keys that are not sent are removed.
        """
        with transaction():
            user = _lock_user(caller_of(req).user_id)
            changed = users.update_profile(user.id, preferences=body.values)
            _record_change(AuditAction.PREFERENCES_UPDATED, user, keys=len(body.values))
        return dict(changed.preferences)

    @Operation(
        Permission.SIGNED_IN,
        "Avatar changed.",
        file="avatar",
        content_types=UPLOAD_TYPES,
        errors=(NotFound, NotAnImage, Busy, media.MediaUnavailable),
    )
    def upload_avatar(self, req: Request, file: bytes) -> Profile:
        """Upload an avatar.

        Takes a PNG, JPEG or WebP image of at most 5 MiB and 25 megapixels. It is turned upright, reduced to
        at most 512 pixels a side and stripped of metadata; of an animation the first frame is kept.
        """
        user_id = caller_of(req).user_id
        if not _is_image(file):
            fault = {"field": "avatar", "message": "must be a PNG, JPEG or WebP image"}
            raise NotAnImage({"fields": [fault]})
        with without_connection(), slot(_decoders):
            content = _decode(file)
        # The removal is enqueued before the file is stored and withdrawn with the change that refers to it: a
        # crash in between leaves no file behind.
        name, removal = media.new_avatar(user_id)
        with transaction():
            enqueue(removal)
        with without_connection():
            self.store.put(name, content)
        with transaction():
            user = _lock_user(user_id)
            media.cancel_removal(removal)
            media.enqueue_removal(user_id)
            users.update_profile(user_id, avatar_url=name)
            _record_change(AuditAction.AVATAR_CHANGED, user)
        return _profile_of(user.id, self.store)

    @Operation(Permission.SIGNED_IN, "Avatar deleted.", errors=(NotFound,))
    def delete_avatar(self, req: Request) -> Profile:
        """Delete the avatar."""
        with transaction():
            user = _lock_user(caller_of(req).user_id)
            if media.enqueue_removal(user.id):
                users.update_profile(user.id, avatar_url=None)
                _record_change(AuditAction.AVATAR_DELETED, user)
        return _profile_of(user.id, self.store)

    @RawOperation(name="getAvatar", media=STORED_TYPE, etag=True, errors=(NotFound, media.MediaUnavailable))
    def get_avatar(self, req: Request, resp: Response, name: str) -> None:
        """Get an avatar.

        Needs no token. An avatar's address cannot be guessed, and its content never changes.
        """
        content = self.store.get(f"avatars/{name}") if _STORED_NAME.fullmatch(name) else None
        if content is None:
            raise NotFound(thing="avatar")
        # The default, same-origin, would keep frontends of other origins from displaying it.
        resp.set_header("Cross-Origin-Resource-Policy", "cross-origin")
        etag.send(req, resp, content, STORED_TYPE, "public", "max-age=31536000", "immutable")


def _lock_user(user_id: UUID) -> User:
    """Locks the caller's user row. Raises NotFound if the account was closed since the authentication."""
    user = users.locked(user_id)
    if user is None or not user.active:
        raise NotFound(thing="account")
    return user


def _profile_of(user_id: UUID, store: Media) -> Profile:
    """Returns the current profile of a user, empty for a user who has never changed it."""
    found = users.with_profile(user_id)
    return Profile(**{**found, "avatar_url": store.public_url(found["avatar_url"])})


def _record_change(action: AuditAction, user: User, **details: Any) -> None:
    """Audits which fields changed, without their values: these are personal data."""
    audit.record(action, resource=("user", user.id), details=details)


def _is_image(file: bytes) -> bool:
    webp = file[:4] == b"RIFF" and file[8:12] == b"WEBP"
    return webp or file.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"))


def _decode(file: bytes) -> bytes:
    """Returns the avatar that `decoding` makes of a file. Raises ValidationFailed."""
    try:
        decoder = subprocess.run(
            _DECODER, input=file, capture_output=True, timeout=_DECODER_DEADLINE_S, check=False, env={}
        )
    except subprocess.TimeoutExpired:
        raise _invalid("takes too long to decode") from None
    if decoder.returncode == 0:
        return decoder.stdout
    error = decoder.stderr.decode(errors="replace")[-500:]
    log.info("an avatar could not be decoded", status=decoder.returncode, error=error)
    if decoder.returncode == _EXIT_REFUSED:
        raise _invalid(decoder.stdout.decode())
    # A signal: the CPU limit. Any other status: the decoder itself crashed on the file.
    raise _invalid("takes too long to decode" if decoder.returncode < 0 else "is damaged")


def _invalid(message: str) -> ValidationFailed:
    return ValidationFailed.of("avatar", message)
