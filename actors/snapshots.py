"""Snapshots: records as events and responses show them, never with a secret; and what each event says."""

from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import MISSING, Field

from actors.events import EventType
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


class EndedSession(JsonModel):
    """Whose session has ended; `everywhere` says that all sessions of the user have."""

    user_id: Id
    everywhere: bool


class Account(User):
    """A user account. `active` (neither suspended nor closed) is there if an administrator changed it."""

    active: bool | MISSING = MISSING


class ConfigChange(JsonModel):
    """The value of a key before a change, and since."""

    from_: Annotated[Any, Field(serialization_alias="from", examples=[1])]
    to: Annotated[Any, Field(examples=[0.9])]


class ConfigChanges(JsonModel):
    """The changed keys of the configuration."""

    changes: Annotated[
        dict[str, ConfigChange], Field(examples=[{"psp.approvalRate": {"from": 1, "to": 0.9}}])
    ]


@dataclass(frozen=True)
class Description:
    """When an event occurs, and the model of its data."""

    summary: str
    data: type[JsonModel]


# What each type of event says: a sentence about it, and the model of its `data`.
EVENT_DATA = {
    EventType.USER_REGISTERED: Description("A user registered.", User),
    EventType.USER_LOGGED_IN: Description("A user signed in.", User),
    EventType.USER_LOGGED_OUT: Description("A session, or all sessions of a user, ended.", EndedSession),
    EventType.PASSWORD_CHANGED: Description("A password was changed or reset.", User),
    EventType.PAYMENT_CREATED: Description("A payment or payment request was created.", Payment),
    EventType.PAYMENT_UPDATED: Description(
        "The status, the description or the terms of a payment changed.", Payment
    ),
    EventType.PAYMENT_COMPLETED: Description("A payment completed.", Payment),
    EventType.PAYMENT_FAILED: Description("A payment failed.", Payment),
    EventType.ADMIN_USER_CREATED: Description("An administrator created an account.", Account),
    EventType.ADMIN_USER_UPDATED: Description("An account, its role or its name was changed.", Account),
    EventType.ADMIN_USER_DELETED: Description("An account was closed.", Account),
    EventType.CONFIG_UPDATED: Description("The configuration was changed.", ConfigChanges),
}


def user(record: users.User) -> dict[str, Any]:
    """Returns the data of an event about a user."""
    return User.model_validate(record).model_dump(mode="json")


def payment(record: payments.Payment) -> dict[str, Any]:
    """Returns the data of an event about a payment."""
    return Payment.of(record).model_dump(mode="json")
