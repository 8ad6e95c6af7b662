"""Snapshots: a record as events and responses show it. A snapshot never contains a secret."""

from typing import Annotated, Any, Self

from pydantic import Field

from db import payments, users
from db.core import money
from db.core.json_model import Id, JsonModel, Timestamp
from db.shown_payments import ShownPayment
from db.states import PaymentStatus, PaymentType

Money = Annotated[str, Field(pattern=r"^[0-9]{1,8}(\.[0-9]{2})?$", examples=["12.50"])]


class User(JsonModel):
    """A user account."""

    id: Id
    email: Annotated[str, Field(examples=["customer@example.com"])]
    name: Annotated[str, Field(examples=["Robin Doe"])]
    role: Annotated[users.Role, Field(examples=[users.Role.CUSTOMER])]
    email_verified: bool
    created_at: Timestamp
    updated_at: Timestamp


class PaymentFailure(JsonModel):
    """Why a payment failed."""

    code: Annotated[str, Field(examples=["insufficient_funds"])]
    message: Annotated[str, Field(examples=["The payment was declined: insufficient funds."])]


class Payment(JsonModel):
    """A payment or a payment request."""

    id: Id
    user_id: Id
    type: Annotated[PaymentType, Field(examples=[PaymentType.PAYMENT])]
    status: PaymentStatus
    amount: Money
    currency: Annotated[str, Field(examples=["EUR"])]
    description: Annotated[str | None, Field(examples=["Lunch"])]
    metadata: Annotated[dict[str, Any], Field(examples=[{"table": 4}])]
    request_id: Annotated[Id | None, Field(examples=[None])]
    customer_email: Annotated[str | None, Field(examples=[None])]
    failure: Annotated[PaymentFailure | None, Field(examples=[None])]
    version: Annotated[int, Field(ge=1, examples=[1])]
    created_at: Timestamp
    updated_at: Timestamp

    @classmethod
    def of(cls, record: payments.Payment | ShownPayment, **more: Any) -> Self:
        """Returns the snapshot of a record; `more` are the fields that a subclass adds."""
        failure = (
            PaymentFailure(code=record.failure_code, message=record.failure_message or "")
            if record.failure_code
            else None
        )
        amount = money.text(record.amount, record.currency)
        return cls.from_record(record, amount=amount, failure=failure, **more)


def user(record: users.User) -> dict[str, Any]:
    """Returns the data of an event about a user."""
    return User.model_validate(record).model_dump(mode="json")


def payment(record: payments.Payment) -> dict[str, Any]:
    """Returns the data of an event about a payment."""
    return Payment.of(record).model_dump(mode="json")
