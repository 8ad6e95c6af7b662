"""What the routes of payments accept: bodies and queries."""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    MISSING,
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
)

from api.http.fields import Amount, Currency, Email, IdInput, TimestampInput, invalid, require_json_size
from api.http.pages import PageQuery
from api.http.requests import OneOfBodies, PartialUpdate, Query, RequestBody
from api.http.text import Text
from db import reviews
from db.core import money
from db.payment_lists import PaymentFilter
from db.reports import ReportPeriod
from db.states import PaymentStatus, PaymentType

_METADATA_KIB = 8
_SIZED = ("metadata", _METADATA_KIB)
_DEFAULT_CURRENCY = "USD"


def _metadata(value: dict[str, Any]) -> dict[str, Any]:
    return require_json_size(value, _METADATA_KIB)


NEW_PAYMENT_EXAMPLES: dict[str, dict[str, Any]] = {
    "payment": {
        "type": "payment",
        "amount": "12.50",
        "currency": "EUR",
        "description": "Lunch",
        "metadata": {"table": 4, "simulate": "approve"},
    },
    "paymentRequest": {
        "type": "initiate",
        "amount": 80,
        "description": "Two chairs",
        "customerEmail": "customer@example.com",
    },
    "paymentOfRequest": {"type": "payment", "requestId": "019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e"},
}


def _day(value: Any) -> Any:
    if not (isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value)):
        raise invalid("must be a day as in 2026-01-31")
    return value


Metadata = Annotated[dict[str, Any], AfterValidator(_metadata)]
Description = Annotated[Text, Field(max_length=500)]


def _type(value: Any) -> Any:
    if value not in tuple(PaymentType):
        raise invalid('must be "initiate" or "payment"')
    return value


def _absent(message: str) -> BeforeValidator:
    """Takes null alone: a field of another kind of payment."""

    def refused(value: Any) -> None:
        if value is not None:
            raise invalid(message)

    return BeforeValidator(refused)


_PaysNoOther = Annotated[None, _absent("a payment request pays no other")]
_IsNotAddressed = Annotated[None, _absent("only a payment request is addressed to a customer")]


class _NewPayment(RequestBody):
    description: Description | None = None
    metadata: Metadata = {}

    def columns(self) -> dict[str, Any]:
        """The columns of the payment: the fields of the body under their own names."""
        return {name: value for name, value in self if name != "type"}


class _NewTerms(_NewPayment):
    # Before the amount, which must fit it.
    currency: Annotated[Currency | None, AfterValidator(lambda code: code or _DEFAULT_CURRENCY)] = Field(
        None, validate_default=True, description=f"{_DEFAULT_CURRENCY} where it is left out."
    )
    amount: Amount

    @field_validator("amount")
    @classmethod
    def _fits(cls, amount: Decimal, info: ValidationInfo) -> Decimal:
        return fitting(amount, info.data.get("currency"))


class NewPaymentRequest(_NewTerms):
    """A payment request: money that a vendor asks for."""

    type: Annotated[Literal["initiate"], BeforeValidator(_type)]
    customer_email: Email | None = Field(
        None, description="Only the customer with this verified address sees and pays it."
    )
    request_id: _PaysNoOther = None


class NewPaymentOnItsOwn(_NewTerms):
    """Money that a customer pays, against no request."""

    # Redocly holds that a property that may be left out, as `requestId`, tells no shapes apart, though one of
    # them requires it; a shape that counts its properties it does not judge.
    model_config = ConfigDict(json_schema_extra={"minProperties": 2})

    type: Annotated[Literal["payment"], BeforeValidator(_type)]
    request_id: None = None
    customer_email: _IsNotAddressed = None


class NewPaymentOfRequest(_NewPayment):
    """Money that a customer pays against a request, which says how much.

    `amount` and `currency` may repeat what the payer saw: if the request says otherwise by now, nothing is
    paid, and the answer is a 409 `REQUEST_CHANGED`. `If-Match` with the request's `ETag` binds all of it.
    """

    type: Annotated[Literal["payment"], BeforeValidator(_type)]
    request_id: IdInput
    currency: Currency | None = None
    amount: Amount | None = None
    customer_email: _IsNotAddressed = None

    @field_validator("amount")
    @classmethod
    def _fits(cls, amount: Decimal | None, info: ValidationInfo) -> Decimal | None:
        return amount and fitting(amount, info.data.get("currency"))


def fitting(amount: Decimal, currency: str | None) -> Decimal:
    """The amount, if it has no more decimals than the currency. Raises a fault of the field."""
    if currency and not money.fits(amount, currency):
        raise invalid(f"{currency} has {money.decimals(currency)} decimals")
    return amount


def _kind(body: dict[str, Any]) -> str:
    if body.get("type") == PaymentType.INITIATE:
        return "request"
    return "alone" if body.get("requestId") is None else "of request"


AnyNewPayment = NewPaymentRequest | NewPaymentOnItsOwn | NewPaymentOfRequest


class NewPayment(
    OneOfBodies[
        Annotated[
            Annotated[NewPaymentRequest, Tag("request")]
            | Annotated[NewPaymentOnItsOwn, Tag("alone")]
            | Annotated[NewPaymentOfRequest, Tag("of request")],
            Discriminator(_kind),
        ]
    ]
):
    """A payment, or a request for one."""

    sized_member = _SIZED


class PaymentUpdate(PartialUpdate):
    """What may be changed of a payment or request: the fields that are named, and nothing else.

    `amount`, `currency` and `customerEmail` belong to a request that nobody is paying yet.
    """

    sized_member = _SIZED

    description: Description | MISSING | None = MISSING
    metadata: Metadata | MISSING = MISSING
    amount: Amount | MISSING = MISSING
    currency: Currency | MISSING = MISSING
    customer_email: Email | MISSING | None = MISSING


class StatusChange(RequestBody):
    """Where a payment is to be moved by hand, and why."""

    status: PaymentStatus
    reason: Annotated[Text, Field(max_length=500)] | None = None


class ReviewResolution(RequestBody):
    """What somebody found who looked at a payment; and its `outcome`, where it has to be ended by hand.

    `reviewIds` are the reviews that they have seen: one that was opened since then stays open. Without them
    every open review of the payment is resolved.
    """

    reason: Annotated[Text, Field(min_length=1, max_length=500)]
    outcome: Literal[PaymentStatus.COMPLETED, PaymentStatus.FAILED] | None = None
    review_ids: Annotated[list[IdInput], Field(min_length=1, max_length=reviews.REVIEWS_LIMIT)] | None = None


class PaymentsQuery(PageQuery):
    """Which payments."""

    status: PaymentStatus | None = None
    type: PaymentType | None = None
    currency: Currency | None = None
    from_: TimestampInput | None = Field(None, alias="from")
    to: TimestampInput | None = None
    request_id: IdInput | None = None
    needs_review: bool | None = None

    @property
    def filter(self) -> PaymentFilter:
        """As the database is asked."""
        return PaymentFilter(
            self.status, self.type, self.currency, self.from_, self.to, self.request_id, self.needs_review
        )


class HistoryQuery(PageQuery):
    """Which changes."""

    payment_id: IdInput | None = None
    from_: TimestampInput | None = Field(None, alias="from")
    to: TimestampInput | None = None


class AttemptsQuery(PageQuery):
    """Which page."""


class ReportQuery(Query):
    """Which payments are counted, by their creation, and how they are put together."""

    from_: TimestampInput | None = Field(None, alias="from")
    to: TimestampInput | None = None
    group_by: ReportPeriod = ReportPeriod.DAY
    format: Literal["json", "csv"] | None = None

    def span(self, now: datetime) -> tuple[datetime, datetime]:
        """From when (included) to when (not included): the last thirty days, unless they say otherwise."""
        to = self.to or now
        try:
            return self.from_ or to - timedelta(days=30), to
        except OverflowError:
            return datetime.min.replace(tzinfo=UTC), to


class DifferencesQuery(Query):
    """Which day's statement."""

    day: Annotated[date, BeforeValidator(_day), Field(examples=["2026-01-31"])]
