"""What the routes of payments accept: bodies and queries."""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    MISSING,
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
)

from api.http.fields import (
    Amount,
    Currency,
    Email,
    IdInput,
    OneOfBodies,
    PartialUpdate,
    Query,
    RequestBody,
    TimestampInput,
    invalid,
    require_json_size,
)
from api.http.responses import PageQuery
from api.http.text import Text
from db import reviews
from db.core import money
from db.reports import ReportPeriod
from db.shown_payments import PaymentFilter
from db.states import PaymentStatus, PaymentType

_METADATA_MAX_KIB = 8
_SIZED_MEMBER = ("metadata", _METADATA_MAX_KIB)
_DEFAULT_CURRENCY = "USD"


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
        raise invalid("must be a day such as 2026-01-31")
    return value


Metadata = Annotated[
    dict[str, Any], AfterValidator(lambda value: require_json_size(value, _METADATA_MAX_KIB))
]
Description = Annotated[Text, Field(max_length=500)]


def _type(value: Any) -> Any:
    if value not in tuple(PaymentType):
        raise invalid('must be "initiate" or "payment"')
    return value


def _must_be_absent(message: str) -> BeforeValidator:
    """Accepts only null: the field belongs to another kind of payment."""

    def validate(value: Any) -> None:
        if value is not None:
            raise invalid(message)

    return BeforeValidator(validate)


_NoRequestId = Annotated[None, _must_be_absent("a payment request cannot pay another payment request")]
_NoCustomerEmail = Annotated[None, _must_be_absent("only a payment request can name a customer")]


class _NewPayment(RequestBody):
    description: Description | None = None
    metadata: Metadata = {}

    @field_validator("amount", check_fields=False)
    @classmethod
    def _fits_the_currency(cls, amount: Decimal | None, info: ValidationInfo) -> Decimal | None:
        currency = info.data.get("currency")
        if amount and currency and not money.fits(amount, currency):
            raise invalid(f"{currency} has {money.decimals(currency)} decimals")
        return amount

    def columns(self) -> dict[str, Any]:
        """Returns the columns of the payment: the fields of the body, each under its own name."""
        return {name: value for name, value in self if name != "type"}


class _NewPaymentWithAmount(_NewPayment):
    # Declared before the amount, whose validator reads it.
    currency: Annotated[Currency | None, AfterValidator(lambda code: code or _DEFAULT_CURRENCY)] = Field(
        None, validate_default=True, description=f"`{_DEFAULT_CURRENCY}` by default."
    )
    amount: Amount


class NewPaymentRequest(_NewPaymentWithAmount):
    """A payment request of a vendor."""

    type: Annotated[Literal["initiate"], BeforeValidator(_type)]
    customer_email: Email | None = Field(
        None, description="Only the customer with this verified e-mail address can see and pay the request."
    )
    request_id: _NoRequestId = None


# Redocly reports that an optional property such as `requestId` does not distinguish the schemas of a `oneOf`,
# although one of them requires it. It does not report schemas with `minProperties`.
class NewPaymentOnItsOwn(_NewPaymentWithAmount, json_schema_extra={"minProperties": 2}):
    """A payment of a customer that does not pay a payment request."""

    type: Annotated[Literal["payment"], BeforeValidator(_type)]
    request_id: None = None
    customer_email: _NoCustomerEmail = None


class NewPaymentOfRequest(_NewPayment):
    """A payment of a customer that pays a payment request.

    Amount and currency are those of the request. `amount` and `currency` may repeat what the customer saw: if
    the request has changed since, nothing is paid and the response is a 409 `REQUEST_CHANGED`. `If-Match`
    with the request's `ETag` does the same for the whole request.
    """

    type: Annotated[Literal["payment"], BeforeValidator(_type)]
    request_id: IdInput
    # Declared before the amount, whose validator reads it.
    currency: Currency | None = None
    amount: Amount | None = None
    customer_email: _NoCustomerEmail = None


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
    """A payment or a payment request."""

    sized_member = _SIZED_MEMBER


class PaymentUpdate(PartialUpdate):
    """The fields of a payment or payment request to change; the others stay as they are.

    `amount`, `currency` and `customerEmail` can be changed only of a payment request that nobody is paying.
    """

    sized_member = _SIZED_MEMBER

    description: Description | MISSING | None = MISSING
    metadata: Metadata | MISSING = MISSING
    amount: Amount | MISSING = MISSING
    currency: Currency | MISSING = MISSING
    customer_email: Email | MISSING | None = MISSING


class StatusChange(RequestBody):
    """The status that a payment shall get, and why."""

    status: PaymentStatus
    reason: Annotated[Text, Field(max_length=500)] | None = None


class ReviewResolution(RequestBody):
    """How the reviews of a payment were resolved, and the `outcome` if the payment has to be ended by hand.

    `reviewIds` are the reviews to resolve, so that a review that you have not seen stays open. Without them
    every open review of the payment is resolved.
    """

    reason: Annotated[Text, Field(min_length=1, max_length=500)]
    outcome: Literal[PaymentStatus.COMPLETED, PaymentStatus.FAILED] | None = None
    review_ids: Annotated[list[IdInput], Field(min_length=1, max_length=reviews.REVIEWS_LIMIT)] | None = None


class PaymentsQuery(PageQuery):
    """Filters of the list of payments."""

    status: PaymentStatus | None = None
    type: PaymentType | None = None
    currency: Currency | None = None
    from_: TimestampInput | None = Field(None, alias="from")
    to: TimestampInput | None = None
    request_id: IdInput | None = None
    needs_review: bool | None = None

    @property
    def filter(self) -> PaymentFilter:
        """The filter of the database query."""
        return PaymentFilter(
            self.status, self.type, self.currency, self.from_, self.to, self.request_id, self.needs_review
        )


class HistoryQuery(PageQuery):
    """Filters of the list of transactions."""

    payment_id: IdInput | None = None
    from_: TimestampInput | None = Field(None, alias="from")
    to: TimestampInput | None = None


class ReportQuery(Query):
    """The payments that a report counts, by their creation, and how it groups them."""

    from_: TimestampInput | None = Field(None, alias="from")
    to: TimestampInput | None = None
    group_by: ReportPeriod = ReportPeriod.DAY
    format: Literal["json", "csv"] | None = None

    def span(self, now: datetime) -> tuple[datetime, datetime]:
        """Returns the start (included) and the end (excluded) of the report; by default the last 30 days."""
        to = self.to or now
        try:
            return self.from_ or to - timedelta(days=30), to
        except OverflowError:
            return datetime.min.replace(tzinfo=UTC), to


class DifferencesQuery(Query):
    """The day of the statement."""

    day: Annotated[date, BeforeValidator(_day), Field(examples=["2026-01-31"])]
