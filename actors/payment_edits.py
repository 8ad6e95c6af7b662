"""Edits of a payment or request that do not change its status: the maker's texts, an open request's terms."""

from typing import Any

from actors import audit, events, request_addressees, snapshots
from actors.state_machine import InvalidTransition
from db import payments
from db.payments import Payment
from db.states import TERMINAL, PaymentStatus, PaymentType


class NotEditable(InvalidTransition):
    """{subject} does not allow changes of {fields}."""


# The terms of a request, by column: their names in the API.
_REQUEST_TERMS = {"amount": "amount", "currency": "currency", "customer_email": "customerEmail"}


def require_editable(payment: Payment, changes: dict[str, Any]) -> None:
    """Raises NotEditable if one of these columns cannot be changed now."""
    open_request = payment.type == PaymentType.INITIATE and payment.status in (
        PaymentStatus.PENDING,
        PaymentStatus.INITIATED,
    )
    fixed = changes if payment.status in TERMINAL else changes.keys() & _REQUEST_TERMS.keys()
    if fixed and not open_request:
        names = ", ".join(_REQUEST_TERMS.get(column, column) for column in sorted(fixed))
        raise NotEditable(payment.type, payment.status, fields=names)


def edit(payment: Payment, changes: dict[str, Any]) -> Payment:
    """Changes columns of a locked payment, accepted by `require_editable`; returns the changed payment."""
    addressee = {}
    if "customer_email" in changes:
        addressee["addressee_id"] = request_addressees.find(changes["customer_email"])
    edited = payments.edit(payment, **changes, **addressee)
    audit.record(
        audit.AuditAction.PAYMENT_UPDATE,
        resource=("payment", payment.id),
        details={"fields": sorted(changes)},
    )
    events.emit(events.EventType.PAYMENT_UPDATED, snapshots.payment(edited))
    return edited
