"""What people change of a payment without moving it: its words, an open request's terms."""

from typing import Any

from actors import audit, events, request_addressees, snapshots
from actors.state_machine import InvalidTransition
from db import payments
from db.payments import Payment
from db.states import TERMINAL, PaymentStatus, PaymentType


class NotEditable(InvalidTransition):
    """The {fields} of a {thing} that is {status} cannot be changed."""


# By their columns, as the door calls them.
_OF_AN_OPEN_REQUEST = {"amount": "amount", "currency": "currency", "customer_email": "customerEmail"}


def may_be_edited(payment: Payment, changes: dict[str, Any]) -> None:
    """Raises NotEditable where these fields cannot be changed now."""
    open_request = payment.type == PaymentType.INITIATE and payment.status in (
        PaymentStatus.PENDING,
        PaymentStatus.INITIATED,
    )
    fixed = changes if payment.status in TERMINAL else changes.keys() & _OF_AN_OPEN_REQUEST.keys()
    if fixed and not (open_request and payment.status not in TERMINAL):
        names = ", ".join(_OF_AN_OPEN_REQUEST.get(field, field) for field in sorted(fixed))
        raise NotEditable(PaymentType(payment.type), payment.status, fields=names)


def edit(payment: Payment, changes: dict[str, Any]) -> Payment:
    """Changes a locked payment's own words, or an open request's terms, which `may_be_edited`."""
    addressee = (
        {"addressee_id": request_addressees.of(changes["customer_email"])}
        if "customer_email" in changes
        else {}
    )
    edited = payments.edit(payment, **changes, **addressee)
    audit.record(
        audit.AuditAction.PAYMENT_UPDATE,
        resource=("payment", payment.id),
        details={"fields": sorted(changes)},
    )
    events.emit(events.EventType.PAYMENT_UPDATED, snapshots.payment(edited))
    return edited
