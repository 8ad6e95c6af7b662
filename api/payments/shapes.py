"""What the payments routes take and give."""

import json
import math
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, field_validator

from actors import lifecycle, snapshots
from actors.lifecycle import Step
from api.policies import Caller, Permission
from api.shapes import Amount, Currency, Email, Id, Moment, PageQuery, Shape, wrong
from api.text import Text
from db import money
from db.payments import Filter, Payment
from db.states import Status, Type

_METADATA_BYTES = 8 * 1024
_DEFAULT_CURRENCY = "USD"


def _written_out(value: Any) -> Any:
    """As the database gives it back: `1e300` comes as three hundred digits."""
    if isinstance(value, dict):
        return {name: _written_out(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_written_out(one) for one in value]
    # What is too large for a float has become infinite, which json.dumps refuses.
    written_out = isinstance(value, float) and math.isfinite(value)
    return f"{Decimal(repr(value)):f}" if written_out else value


def _metadata(value: dict[str, Any]) -> dict[str, Any]:
    try:
        size = len(json.dumps(_written_out(value), allow_nan=False, ensure_ascii=False).encode())
    except (ValueError, RecursionError):
        raise wrong("holds a value that JSON cannot carry") from None
    if size > _METADATA_BYTES:
        raise wrong("must not be larger than 8 KiB")
    return value


_NOTHING = {"type": "null"}

# Which fields go together: the validators below say it again, in Python.
_KINDS: Any = [
    {
        "title": "a payment request",
        "properties": {"type": {"const": Type.INITIATE}, "requestId": _NOTHING, "amount": {"not": _NOTHING}},
        "required": ["amount"],
    },
    {
        "title": "a payment on its own",
        "properties": {
            "type": {"const": Type.PAYMENT},
            "requestId": _NOTHING,
            "customerEmail": _NOTHING,
            "amount": {"not": _NOTHING},
        },
        "required": ["amount"],
    },
    {
        "title": "a payment against a request",
        "properties": {
            "type": {"const": Type.PAYMENT},
            "requestId": {"not": _NOTHING},
            "customerEmail": _NOTHING,
            "amount": _NOTHING,
            "currency": _NOTHING,
        },
        "required": ["requestId"],
    },
]

NEW_PAYMENTS: dict[str, dict[str, Any]] = {
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

Metadata = Annotated[dict[str, Any], AfterValidator(_metadata)]
Description = Annotated[Text, Field(max_length=500)]


class NewPayment(Shape):
    """A payment, or a request for one. Against a request, amount and currency are the request's."""

    model_config = ConfigDict(json_schema_extra={"anyOf": _KINDS})

    type: Type
    request_id: Id | None = None
    currency: Currency | None = Field(None, validate_default=True)
    amount: Amount | None = Field(None, validate_default=True)
    description: Description | None = None
    metadata: Metadata = {}
    customer_email: Email | None = None

    @field_validator("request_id")
    @classmethod
    def _only_paid(cls, request_id: UUID | None, info: ValidationInfo) -> UUID | None:
        if request_id and info.data.get("type") == Type.INITIATE:
            raise wrong("a payment request pays no other")
        return request_id

    @field_validator("customer_email")
    @classmethod
    def _only_addressed(cls, email: str | None, info: ValidationInfo) -> str | None:
        if email and info.data.get("type") == Type.PAYMENT:
            raise wrong("only a payment request is addressed to a customer")
        return email

    @field_validator("currency")
    @classmethod
    def _chosen(cls, currency: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("request_id"):
            _left_out(currency)
            return None
        return currency or _DEFAULT_CURRENCY

    @field_validator("amount")
    @classmethod
    def _fits(cls, amount: Decimal | None, info: ValidationInfo) -> Decimal | None:
        if info.data.get("request_id"):
            _left_out(amount)
            return None
        if amount is None:
            raise wrong("is required")
        currency = info.data.get("currency")
        if currency and not money.fits(amount, currency):
            raise wrong(f"{currency} has {money.decimals(currency)} decimals")
        return amount


def _left_out(value: Any) -> None:
    if value is not None:
        raise wrong("is the request's own: leave it out")


class PaymentsQuery(PageQuery):
    """Which payments."""

    status: Status | None = None
    type: Type | None = None
    currency: Currency | None = None
    from_: Moment | None = Field(None, alias="from")
    to: Moment | None = None
    request_id: Id | None = None

    @property
    def filter(self) -> Filter:
        """As the database is asked."""
        return Filter(self.status, self.type, self.currency, self.from_, self.to, self.request_id)


def payment(it: Payment, caller: Caller) -> dict[str, Any]:
    """A payment, and what this caller may do with it now."""
    return {**snapshots.payment(it), "allowedActions": allowed_actions(it, caller)}


def allowed_actions(it: Payment, caller: Caller) -> list[str]:
    """What the routes then allow; the law is asked, not repeated."""
    payable = lifecycle.allows(Type(it.type), Status(it.status), Step.ENGAGE)
    return ["pay"] if payable and caller.may(Permission.PAY) else []
