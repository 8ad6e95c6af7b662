"""What all shapes share: strict, closed to unknown fields, camelCase; and the types that several use."""

import re
from collections.abc import Callable
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
    Field,
    RootModel,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError
from typing_extensions import TypeAliasType

from db import pagination
from db.core import money

UUID_TEXT = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_ISO = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?(Z|[+-][0-9]{2}:[0-9]{2})"
)
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,31})(\.[0-9]{1,32})?")


C = TypeVar("C")


class RequestBody(BaseModel):
    """A body: `true` is no number, `"5"` is no integer, and what is not known is refused."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, alias_generator=to_camel, hide_input_in_errors=True
    )

    # Whether there must be a body, though no field of it is required.
    needed: ClassVar[bool] = False
    # How many members it may have at its top, and how many values in all but the `sized` member, which is
    # limited by its size in KiB.
    most_members: ClassVar[int] = 100
    most_values: ClassVar[int] = 2000
    sized: ClassVar[tuple[str, int] | None] = None


class PartialUpdate(RequestBody):
    """A body that changes what it names, and names something."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise invalid("names nothing to change")
        return self

    @property
    def named(self) -> dict[str, Any]:
        """The fields that are named."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class OneOfBodies(RootModel[C]):
    """A body in one of several shapes, each whole, so that generated clients know all fields of each."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    needed: ClassVar[bool] = True
    most_members: ClassVar[int] = RequestBody.most_members
    most_values: ClassVar[int] = RequestBody.most_values
    sized: ClassVar[tuple[str, int] | None] = None


class EmptyBody(RequestBody):
    """The body of what takes none."""


class Query(RequestBody):
    """A query string: everything comes as text there, so it is read leniently."""

    model_config = ConfigDict(strict=False)


def invalid(message: str) -> PydanticCustomError:
    """A fault of one field, with a message for the caller."""
    return PydanticCustomError("wrong", message)


def email(value: str) -> str:
    """An e-mail address as the database knows it. Raises a fault of the field."""
    return _email(value)


def _email(value: str) -> str:
    try:
        # Whether mail arrives is not asked here; a domain reserved for tests (RFC 2606) is as good as any.
        # What stands before the @ is ASCII: few servers take more (SMTPUTF8), and fewer fold it alike.
        address = validate_email(
            value.strip(),
            check_deliverability=False,
            test_environment=True,
            allow_smtputf8=False,
            strict=True,
        )
    except EmailNotValidError:
        raise invalid("is not an e-mail address") from None
    # The domain as DNS writes it: a look-alike in another script is seen to be one.
    return address.ascii_email or address.normalized


def _cursor(value: str) -> str:
    try:
        pagination.Cursor.parse(value)
    except ValueError:
        raise invalid("is not a cursor of this list") from None
    return value


def _amount(value: Any) -> Any:
    # A JSON number arrives as a float: the shortest text of that float is the number that was written.
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number and not (isinstance(value, str) and _DECIMAL.fullmatch(value)):
        raise invalid("must be a decimal string or a number")
    amount = Decimal(repr(value) if number else value)
    if not amount.is_finite() or not money.MIN_AMOUNT <= amount <= money.MAX_AMOUNT:
        raise invalid(f"must be between {money.MIN_AMOUNT} and {money.MAX_AMOUNT}")
    if number:
        # The zeros behind a number are nobody's: serializers write 500 as 500.0.
        amount = amount.normalize()
    if not money.fits(amount):
        raise invalid(f"must have at most {money.MAX_DECIMALS} decimals")
    return amount


def _currency(value: str) -> str:
    if value not in money.CURRENCIES:
        raise invalid("must be an ISO 4217 code of a currency with at most two decimals")
    return value


def _id(value: Any) -> Any:
    if isinstance(value, str) and not UUID_TEXT.fullmatch(value):
        raise invalid("must be a UUID")
    return value


def _moment(value: Any) -> Any:
    if isinstance(value, str) and " " in value and _ISO.fullmatch(value.replace(" ", "+")):
        raise invalid("has a + that a query reads as a blank: write %2B, or Z for UTC")
    if not (isinstance(value, str) and _ISO.fullmatch(value)):
        raise invalid("must be a moment as in 2026-01-31T09:30:00Z")
    return value


def _utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise invalid("must be a moment between the years 1 and 9999 in UTC") from None


def _digits(value: Any) -> Any:
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        raise invalid("must be a whole number")
    return value


def _described(**schema: Any) -> WithJsonSchema:
    return WithJsonSchema(schema)


# Named, so that the document of the API defines each once. What a validator in Python takes, no schema can be
# drawn from: it is said beside it.
Email = TypeAliasType(
    "Email",
    Annotated[
        str,
        StringConstraints(max_length=254),
        AfterValidator(_email),
        _described(
            type="string",
            format="email",
            maxLength=254,
            description="An e-mail address: trimmed, and compared without case.",
            examples=["customer@example.com"],
        ),
    ],
)
Cursor = TypeAliasType(
    "Cursor",
    Annotated[
        str,
        AfterValidator(_cursor),
        _described(
            type="string",
            pattern="^[A-Za-z0-9_-]{32}$",
            description="The `nextCursor` of the page before: opaque.",
            examples=["AAZJtfEiwEgBmyxefUp8MZpWD20MOhsu"],
        ),
    ],
)
Amount = TypeAliasType(
    "Amount",
    Annotated[
        Decimal,
        BeforeValidator(_amount),
        _described(
            anyOf=[
                {"type": "string", "pattern": r"^(?!0(\.0+)?$)(0|[1-9][0-9]{0,7})(\.[0-9]{1,2})?$"},
                {"type": "number", "minimum": float(money.MIN_AMOUNT), "maximum": float(money.MAX_AMOUNT)},
            ],
            description="Money, 0.01 to 99999999.99, with no more decimals than the currency has.",
            examples=["12.50"],
        ),
    ],
)
Currency = TypeAliasType(
    "Currency",
    Annotated[
        str,
        AfterValidator(_currency),
        _described(
            type="string",
            enum=sorted(money.CURRENCIES),
            description="An ISO 4217 code of a currency with at most two decimals.",
            examples=["USD"],
        ),
    ],
)


# A whole number in a query: pydantic would take `1.0` and `1_000`, too.
Digits = BeforeValidator(_digits)
# In its one canonical spelling: a thing has one address.
Id = Annotated[UUID, BeforeValidator(_id)]
Moment = Annotated[AwareDatetime, BeforeValidator(_moment), AfterValidator(_utc)]


T = TypeVar("T")


def page_of_items(it: pagination.Page[T], written: Callable[[T], dict[str, Any]]) -> dict[str, Any]:
    """A page of a list, as every list gives it."""
    items = [written(one) for one in it.items]
    return {"items": items, "pagination": {"limit": it.limit, "nextCursor": it.next_cursor}}


class PageQuery(Query):
    """A page of a list."""

    limit: Annotated[int, BeforeValidator(_digits)] = Field(20, ge=1, le=100)
    cursor: Cursor | None = None

    @property
    def place(self) -> pagination.Cursor | None:
        """Where the page begins."""
        return pagination.Cursor.parse(self.cursor) if self.cursor else None
