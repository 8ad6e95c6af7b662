"""Records as the outside sees them: in the door's answers and in the events' data. Never a secret."""

from typing import Any

from db import payments, users
from db.core import money, times


def user(who: users.User) -> dict[str, Any]:
    """A person."""
    return {
        "id": str(who.id),
        "email": who.email,
        "name": who.name,
        "role": who.role,
        "emailVerified": who.email_verified,
        "createdAt": times.iso(who.created_at),
        "updatedAt": times.iso(who.updated_at),
    }


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
