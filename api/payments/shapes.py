"""What the payments routes take and give."""

import json
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, Field, ValidationInfo, field_validator

from actors import lifecycle, snapshots
from actors.lifecycle import Step
from api.policies import Caller, Permission
from api.shapes import Amount, Currency, Email, PageQuery, Shape, wrong
from db import money
from db.payments import Filter, Payment
from db.states import Status, Type

_METADATA_BYTES = 8 * 1024
_DEFAULT_CURRENCY = "USD"


def _metadata(value: dict[str, Any]) -> dict[str, Any]:
    try:
        size = len(json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode())
    except (ValueError, RecursionError):
        raise wrong("holds a value that JSON cannot carry") from None
    if size > _METADATA_BYTES:
        raise wrong("must not be larger than 8 KiB")
    return value


Metadata = Annotated[dict[str, Any], AfterValidator(_metadata)]
Description = Annotated[str, Field(max_length=500)]


class NewPayment(Shape):
    """A payment, or a request for one. Against a request, amount and currency are the request's."""

    type: Type
    request_id: UUID | None = None
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
    from_: AwareDatetime | None = Field(None, alias="from")
    to: AwareDatetime | None = None
    request_id: UUID | None = None

    @property
    def filter(self) -> Filter:
        """As the database is asked."""
        return Filter(self.status, self.type, self.currency, self.from_, self.to, self.request_id)


def payment(it: Payment, caller: Caller) -> dict[str, Any]:
    """A payment, and what this caller may do with it now."""
    return {**snapshots.payment(it), "allowedActions": allowed_actions(it, caller)}


def allowed_actions(it: Payment, caller: Caller) -> list[str]:
    """What the routes then allow; the law is asked, not repeated."""
    payable = (Type(it.type), Status(it.status), Step.ENGAGE) in lifecycle.LAW
    return ["pay"] if payable and caller.may(Permission.PAY) else []
