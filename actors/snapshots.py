"""Records as the outside sees them: in the door's answers and in the events' data. Never a secret."""

from typing import Annotated, Any

from pydantic import Field

from db import payments, users
from db.core import money, times
from db.core.json_model import Id, JsonModel, Timestamp


class User(JsonModel):
    """A user account."""

    id: Id
    email: Annotated[str, Field(examples=["customer@example.com"])]
    name: Annotated[str, Field(examples=["Robin Doe"])]
    role: Annotated[users.Role, Field(examples=[users.Role.CUSTOMER])]
    email_verified: bool
    created_at: Timestamp
    updated_at: Timestamp


def user(row: users.User) -> dict[str, Any]:
    """Returns a user as the data of an event."""
    return User.model_validate(row).model_dump(mode="json")


def payment(it: payments.Payment) -> dict[str, Any]:
    """A payment or a request."""
    failure = {"code": it.failure_code, "message": it.failure_message} if it.failure_code else None
    return {
        "id": str(it.id),
        "userId": str(it.user_id),
        "type": it.type,
        "status": it.status,
        "amount": money.text(it.amount, it.currency),
        "currency": it.currency,
        "description": it.description,
        "metadata": it.metadata,
        "requestId": str(it.request_id) if it.request_id else None,
        "customerEmail": it.customer_email,
        "failure": failure,
        "version": it.version,
        "createdAt": times.iso(it.created_at),
        "updatedAt": times.iso(it.updated_at),
    }
