"""Whether a customer can pay a payment request: what the request, its vendor and the configuration allow."""

from collections.abc import Sequence
from uuid import UUID

from actors import payment_limits, state_machine, transitions
from actors.state_machine import Transition
from db import config, payments, users
from db.core.errors import DomainError, ErrorCode, NotFound
from db.payments import Payment
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
    if reason := obstacles([request], customer_id).get(request.id):
        raise RequestNotPayable(reason=reason)
    payment_limits.require_within_limits(customer, request.amount, request.currency)
    return request


def is_offered_to(payment: Payment, customer_id: UUID) -> bool:
    """Returns whether the customer may see and pay this request: addressed to them, or to nobody."""
    offered = payment.customer_email is None or payment.addressee_id == customer_id
    return payment.type == PaymentType.INITIATE and offered


def obstacles(requests: Sequence[Payment], customer_id: UUID) -> dict[UUID, str]:
    """Returns why the customer cannot pay these requests now, by request id; a payable request has no entry.

    One query, whatever the number of requests.
    """
    if not requests:
        return {}
    vendors = users.active_vendors({request.user_id for request in requests})
    largest = config.number(config.ConfigKey.PAYMENTS_MAX_AMOUNT)

    def obstacle(request: Payment) -> str | None:
        if not state_machine.is_allowed(request.type, request.status, Transition.ENGAGE):
            return f"its status is {request.status}"
        if request.user_id == customer_id:
            return "it is the payer's own"
        if request.user_id not in vendors:
            return transitions.NO_VENDOR
        if request.amount > largest:
            return f"payments of more than {largest} are not accepted now"
        return None

    found = {request.id: obstacle(request) for request in requests}
    return {id: reason for id, reason in found.items() if reason}
