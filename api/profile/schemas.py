"""Request and response models of the profile routes."""

from functools import cache
from importlib import resources
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import MISSING, AfterValidator, Field, model_validator

from api.accounts import Name
from api.http.fields import PartialUpdate, RequestBody, invalid, require_json_size
from api.http.text import Text
from db.core.json_model import Id, JsonModel, Timestamp

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
