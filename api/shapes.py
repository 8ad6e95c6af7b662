"""What all shapes share: strict, closed to unknown fields, camelCase; and the types that several use."""

import re
from decimal import Decimal
from typing import Annotated, Any

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from db import money, page

_DECIMAL = re.compile(r"-?[0-9]{1,32}(\.[0-9]{1,32})?")


class Shape(BaseModel):
    """A body: `true` is no number, `"5"` is no integer, and what is not known is refused."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, alias_generator=to_camel, hide_input_in_errors=True
    )


class Query(Shape):
    """A query string: everything comes as text there, so it is read leniently."""

    model_config = ConfigDict(strict=False)


def wrong(message: str) -> PydanticCustomError:
    """A fault of one field, with a message for the caller."""
    return PydanticCustomError("wrong", message)


def _email(value: str) -> str:
    try:
        # Whether mail arrives is not asked here; a domain reserved for tests (RFC 2606) is as good as any.
        address = validate_email(value.strip(), check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        raise wrong("is not an e-mail address") from None
    return address.normalized


def _cursor(value: str) -> str:
    try:
        page.Place.parse(value)
    except ValueError:
        raise wrong("is not a cursor of this list") from None
    return value


def _amount(value: Any) -> Any:
    # A JSON number arrives as a float: the shortest text of that float is the number that was written.
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number and not (isinstance(value, str) and _DECIMAL.fullmatch(value)):
        raise wrong("must be a decimal string or a number")
    amount = Decimal(repr(value) if number else value)
    if not amount.is_finite() or not money.SMALLEST <= amount <= money.LARGEST:
        raise wrong(f"must be between {money.SMALLEST} and {money.LARGEST}")
    return amount


def _currency(value: str) -> str:
    if value not in money.CURRENCIES:
        raise wrong("must be an ISO 4217 code of a currency with at most two decimals")
    return value


Email = Annotated[str, StringConstraints(max_length=254), AfterValidator(_email)]
Cursor = Annotated[str, AfterValidator(_cursor)]
Amount = Annotated[Decimal, BeforeValidator(_amount)]
Currency = Annotated[str, AfterValidator(_currency)]


class PageQuery(Query):
    """A page of a list."""

    limit: int = Field(20, ge=1, le=100)
    cursor: Cursor | None = None

    @property
    def place(self) -> page.Place | None:
        """Where the page begins."""
        return page.Place.parse(self.cursor) if self.cursor else None
