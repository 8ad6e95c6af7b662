"""What the profile routes take and give."""

from functools import cache
from importlib import resources
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from api.accounts import Name
from api.http.fields import invalid, require_json_size
from api.http.requests import PartialUpdate, RequestBody
from api.http.text import Text
from db.core import times
from db.profile import UserProfile
from db.users import User

_PREFERENCES_KIB = 16

# Well-formed as RFC 5646, 2.1 has it, but for the tags that are older than it. Whether there is such a
# language is not asked.
_LOCALE = (
    r"^([A-Za-z]{2,3}(-[A-Za-z]{3}){0,3}|[A-Za-z]{4,8})(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?"
    r"(-([A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*(-[0-9A-WYZa-wyz](-[A-Za-z0-9]{2,8})+)*"
    r"(-[Xx](-[A-Za-z0-9]{1,8})+)?$"
)


@cache
def _timezones() -> frozenset[str]:
    """The IANA names, from the package and not from the machine: every machine knows the same ones."""
    return frozenset((resources.files("tzdata") / "zones").read_text().split()) - {"Factory"}


def _timezone(value: str) -> str:
    if value not in _timezones():
        raise invalid("must be an IANA time zone, as Europe/Berlin")
    return value


Phone = Annotated[str, Field(pattern=r"^\+[1-9][0-9]{1,14}$", examples=["+4930123456"])]
Address = Annotated[Text, Field(max_length=500, examples=["1 Long Lane, Oxford"])]
Bio = Annotated[Text, Field(max_length=2000, examples=["Sells chairs."])]
Locale = Annotated[str, Field(max_length=100, pattern=_LOCALE, examples=["de-AT"])]
Timezone = Annotated[str, Field(max_length=64, examples=["Europe/Vienna"]), AfterValidator(_timezone)]
Theme = Literal["light", "dark", "system"]


_EXAMPLE: Any = {
    "locale": "de-AT",
    "timezone": "Europe/Vienna",
    "theme": "dark",
    "notifications": {"paymentCompleted": False, "paymentFailed": True},
    "columns": ["amount", "status"],
}


class ProfileUpdate(PartialUpdate):
    """What may be changed of one's profile: the fields that are named, null where there is nothing to say."""

    # A default that is made is no part of the schema: left out is not null.
    name: Name = Field(default_factory=str)
    phone: Phone | None = Field(default_factory=lambda: None)
    address: Address | None = Field(default_factory=lambda: None)
    bio: Bio | None = Field(default_factory=lambda: None)


class Preferences(RequestBody):
    """A JSON object of at most 16 KiB, kept as it came. These keys are checked, all others are the caller's.

    `notifications` says of what mails are sent: of `paymentCompleted` and `paymentFailed`, unless false.
    """

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [_EXAMPLE]})

    body_required: ClassVar = True
    # Limited by its size: a value takes two bytes at least.
    max_members: ClassVar = _PREFERENCES_KIB * 1024 // 2
    max_values: ClassVar = _PREFERENCES_KIB * 1024 // 2

    locale: Locale = Field(default_factory=str)
    timezone: Timezone = Field(default_factory=str)
    theme: Theme = Field(default_factory=lambda: "system")
    notifications: dict[str, bool] = Field(default_factory=dict, examples=[{"paymentCompleted": False}])

    @model_validator(mode="after")
    def _not_too_large(self) -> Self:
        require_json_size(self.values, _PREFERENCES_KIB)
        return self

    @property
    def values(self) -> dict[str, Any]:
        """The object as it came."""
        return self.model_dump(exclude_unset=True)


def profile(user: User, said: UserProfile | None, avatar_url: str | None) -> dict[str, Any]:
    """A person's profile; of somebody who said nothing about themselves, what the account knows."""
    return {
        "userId": str(user.id),
        "email": user.email,
        "name": user.name,
        "avatarUrl": avatar_url,
        "phone": said.phone if said else None,
        "address": said.address if said else None,
        "bio": said.bio if said else None,
        "createdAt": times.iso(user.created_at),
        "updatedAt": times.iso(max(user.updated_at, said.updated_at) if said else user.updated_at),
    }
