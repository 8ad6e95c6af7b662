"""Whether a customer can pay a payment request: what the request, its vendor and the configuration allow."""

from uuid import UUID

from actors import payment_limits, state_machine, transitions
from actors.state_machine import Transition
from db import config, payments, users
from db.core.errors import DomainError, ErrorCode, NotFound
from db.payments import Payment
from db.shown_payments import ShownPayment
from db.states import PaymentType


class RequestNotPayable(DomainError, code=ErrorCode.REQUEST_NOT_PAYABLE):
    """The payment request cannot be paid: {reason}."""


def lock_payable(request_id: UUID, customer_id: UUID) -> Payment:
    """Locks a request that the customer may pay now, to the end of the transaction.

    Raises NotFound, RequestNotPayable, TooManyPayments, EmailNotVerified.
    """
    customer = payment_limits.lock_customer(customer_id)
    request = payments.lock([request_id]).get(request_id)
    if request is None or not is_offered_to(request, customer_id):
        raise NotFound(thing="payment request")
    is_active = bool(users.active_vendors([request.user_id]))
    if reason := obstacle(request, customer_id, vendor_is_active=is_active):
        raise RequestNotPayable(reason=reason)
    payment_limits.require_within_limits(customer, request.amount, request.currency)
    return request


def is_offered_to(payment: Payment | ShownPayment, customer_id: UUID) -> bool:
    """Returns whether the customer may see and pay this request: addressed to them, or to nobody."""
    offered = payment.customer_email is None or payment.addressee_id == customer_id
    return payment.type == PaymentType.INITIATE and offered


def obstacle(request: Payment | ShownPayment, customer_id: UUID, *, vendor_is_active: bool) -> str | None:
    """Returns why the customer cannot pay a request now; None if they can."""
    if not state_machine.is_allowed(request.type, request.status, Transition.ENGAGE):
        return f"its status is {request.status}"
    if request.user_id == customer_id:
        return "it is the payer's own"
    if not vendor_is_active:
        return transitions.NO_VENDOR
    largest = config.number(config.ConfigKey.PAYMENTS_MAX_AMOUNT)
    if request.amount > largest:
        return f"payments of more than {largest} are not accepted now"
    return None
