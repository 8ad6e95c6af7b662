"""The base models of a JSON body and of a query string, and the types of their fields."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Self, TypeVar
from uuid import UUID

from email_validator import EmailNotValidError, validate_email
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    RootModel,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError
from typing_extensions import TypeAliasType

from db.core import money

T = TypeVar("T")


class BodyLimits:
    """The limits of a body, for both kinds of model."""

    # Whether a request without a body is refused even though no field is required.
    body_required: ClassVar[bool] = False
    # Members of the top object, and values in the whole text.
    max_members: ClassVar[int] = 100
    max_values: ClassVar[int] = 2000
    # A top member that is limited by its size in KiB instead of by `max_values`.
    sized_member: ClassVar[tuple[str, int] | None] = None


class RequestBody(BodyLimits, BaseModel):
    """A JSON body with camelCase names: types are strict, and unknown fields are refused.

    A field that may be left out, where that differs from null, is declared `T | MISSING = MISSING`.
    """

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, alias_generator=to_camel, hide_input_in_errors=True
    )


class PartialUpdate(RequestBody, json_schema_extra={"minProperties": 1}):
    """A body that changes the fields it names, and must name at least one."""

    @model_validator(mode="after")
    def _names_a_field(self) -> Self:
        if not self.model_fields_set:
            raise invalid("names nothing to change")
        return self

    @property
    def named(self) -> dict[str, Any]:
        """The fields that the body names, with their values."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class OneOfBodies(BodyLimits, RootModel[T]):
    """A body in one of several shapes: whole models, so generated clients know the fields of each."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    body_required: ClassVar[bool] = True


class EmptyBody(RequestBody):
    """The body of an operation without one: absent, or `{}`."""


class Query(RequestBody, strict=False):
    """A query string. Every value arrives as text, so values are converted leniently."""


UUID_TEXT = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_ISO = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?(Z|[+-][0-9]{2}:[0-9]{2})"
)
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,31})(\.[0-9]{1,32})?")


def invalid(message: str) -> PydanticCustomError:
    """Returns the error that a validator raises to refuse a field; `message` is shown to the caller."""
    return PydanticCustomError("wrong", message)


def normalize_email(value: str) -> str:
    """Returns the e-mail address in the form that the database compares. Raises `invalid`."""
    try:
        # Whether mail arrives is not checked; a domain reserved for tests (RFC 2606) is valid. The part
        # before the @ is ASCII: few servers accept more (SMTPUTF8), and fewer agree on its case.
        address = validate_email(
            value.strip(),
            check_deliverability=False,
            test_environment=True,
            allow_smtputf8=False,
            strict=True,
        )
    except EmailNotValidError:
        raise invalid("is not an e-mail address") from None
    # The domain as DNS spells it, so that a look-alike in another script is recognisable.
    return address.ascii_email or address.normalized


def _amount(value: Any) -> Any:
    """Returns the amount of a decimal string or a JSON number as a Decimal. Raises `invalid`."""
    # A JSON number arrives as a float: the shortest text of that float is the number that was written.
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number and not (isinstance(value, str) and _DECIMAL.fullmatch(value)):
        raise invalid("must be a decimal string or a number")
    amount = Decimal(repr(value) if number else value)
    if not amount.is_finite() or not money.MIN_AMOUNT <= amount <= money.MAX_AMOUNT:
        raise invalid(f"must be between {money.MIN_AMOUNT} and {money.MAX_AMOUNT}")
    if number:
        # Trailing zeros of a number say nothing: serializers write 500 as 500.0.
        amount = amount.normalize()
    if not money.fits(amount):
        raise invalid(f"must have at most {money.MAX_DECIMALS} decimals")
    return amount


def _currency(value: str) -> str:
    if value not in money.CURRENCIES:
        raise invalid("must be an ISO 4217 code of a currency with at most two decimals")
    return value


def _spelled(pattern: re.Pattern[str], message: str) -> BeforeValidator:
    """Refuses other spellings of a value in text, of which pydantic accepts several."""

    def check(value: Any) -> Any:
        if isinstance(value, str) and not pattern.fullmatch(value):
            raise invalid(message)
        return value

    return BeforeValidator(check)


def _timestamp(value: Any) -> Any:
    if isinstance(value, str) and " " in value and _ISO.fullmatch(value.replace(" ", "+")):
        raise invalid("has a + that a query string turns into a blank: write %2B, or Z for UTC")
    if not (isinstance(value, str) and _ISO.fullmatch(value)):
        raise invalid("must be a timestamp such as 2026-01-31T09:30:00Z")
    return value


def _utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise invalid("must be between the years 1 and 9999 in UTC") from None


# For a whole number in a query, where pydantic also accepts `1.0` and `1_000`.
Digits = _spelled(re.compile("[0-9]+"), "must be a whole number")
# Pydantic also accepts a UUID without hyphens, in braces or as a URN.
IdInput = Annotated[UUID, _spelled(UUID_TEXT, "must be a UUID")]
TimestampInput = Annotated[AwareDatetime, BeforeValidator(_timestamp), AfterValidator(_utc)]

# A named type is defined once in the OpenAPI document. Pydantic derives no JSON schema from a validator in
# Python, so each type states its own.
Email = TypeAliasType(
    "Email",
    Annotated[
        str,
        StringConstraints(max_length=254),
        AfterValidator(normalize_email),
        WithJsonSchema(
            {
                "type": "string",
                "format": "email",
                "maxLength": 254,
                "description": "An e-mail address. It is trimmed, and compared without case.",
                "examples": ["customer@example.com"],
            }
        ),
    ],
)
Amount = TypeAliasType(
    "Amount",
    Annotated[
        Decimal,
        BeforeValidator(_amount),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "string", "pattern": r"^(?!0(\.0+)?$)(0|[1-9][0-9]{0,7})(\.[0-9]{1,2})?$"},
                    {
                        "type": "number",
                        "minimum": float(money.MIN_AMOUNT),
                        "maximum": float(money.MAX_AMOUNT),
                    },
                ],
                "description": "An amount of money from 0.01 to 99999999.99, with no more decimals than its "
                "currency has.",
                "examples": ["12.50"],
            }
        ),
    ],
)
Currency = TypeAliasType(
    "Currency",
    Annotated[
        str,
        AfterValidator(_currency),
        WithJsonSchema(
            {
                "type": "string",
                "enum": sorted(money.CURRENCIES),
                "description": "An ISO 4217 code of a currency with at most two decimals.",
                "examples": ["USD"],
            }
        ),
    ],
)


def require_json_size(value: dict[str, Any], kib: int) -> dict[str, Any]:
    """Returns a JSON object that is stored as it came, if its shortest JSON in UTF-8 has at most `kib` KiB.

    A number counts as PostgreSQL returns it: `1e300` has three hundred digits. Raises `invalid`.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        # A lone surrogate, or a number that is too large for a float.
        raise invalid("holds a value that JSON cannot represent") from None
    left = kib * 1024 - len(text)
    if left < 0 or sum(len(f"{Decimal(repr(one)):f}") - len(repr(one)) for one in _floats(value)) > left:
        raise invalid(f"must not be larger than {kib} KiB")
    return value


def _floats(value: Any) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, dict | list):
        for member in value.values() if isinstance(value, dict) else value:
            yield from _floats(member)
