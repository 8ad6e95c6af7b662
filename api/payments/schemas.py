"""What the routes of payments accept and respond with."""

from decimal import Decimal
from typing import Annotated, Any, Literal, Self

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

from actors import snapshots
from actors.snapshots import Money
from actors.state_machine import Transition
from api.http.fields import (
    Amount,
    Currency,
    Email,
    IdInput,
    OneOfBodies,
    PartialUpdate,
    RequestBody,
    TimestampInput,
    invalid,
    require_json_size,
)
from api.http.pages import PageQuery, ResponsePage
from api.http.text import Text
from api.payments import visibility
from api.payments.visibility import AllowedAction
from api.security.permissions import Caller
from db import payments
from db.core import money
from db.core.json_model import Id, JsonModel, Timestamp
from db.shown_payments import PaymentFilter, ShownPayment
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


class Payment(snapshots.Payment):
    """A payment or a payment request.

    `version` is its `ETag`. `allowedActions` is what you may do with it now. The configuration, the state of
    the vendor's account and a review can change it without a new version.
    """

    currency: Currency
    allowed_actions: Annotated[list[AllowedAction], Field(examples=[[]])]

    @classmethod
    def for_caller(cls, record: payments.Payment | ShownPayment, caller: Caller) -> Self:
        """Returns the response for a record, with what this caller may do with the payment now."""
        return cls.of(record, allowed_actions=visibility.allowed_actions(record, caller))


class PaymentPage(ResponsePage[Payment]):
    """One page of payments, newest first."""


class PaymentTransaction(JsonModel):
    """One change of a payment's status.

    `metadata.from` is the status before the change, null at the creation.
    """

    id: Id
    payment_id: Id
    transaction_type: Annotated[Transition, Field(examples=[Transition.COMPLETE])]
    amount: Money
    currency: Currency
    status: Annotated[PaymentStatus, Field(examples=[PaymentStatus.COMPLETED])]
    metadata: Annotated[dict[str, Any], Field(examples=[{"from": "processing", "reason": None}])]
    created_at: Timestamp

    @classmethod
    def of(cls, record: payments.PaymentTransaction) -> Self:
        """Returns the response for a record."""
        amount = money.text(record.amount, record.currency)
        metadata = {"from": record.from_status, "reason": record.reason}
        return cls.from_record(record, amount=amount, metadata=metadata)


class PaymentTransactionPage(ResponsePage[PaymentTransaction]):
    """One page of transactions, newest first."""
