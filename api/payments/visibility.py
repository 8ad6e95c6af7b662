"""Which payments a caller may see, and what a caller may do with them now."""

from typing import Literal
from uuid import UUID

from actors import payable, payment_endings, state_machine
from actors.state_machine import Transition
from api.middleware import authentication
from api.security.permissions import Caller, Permission
from db import payments, reviews, shown_payments
from db.core.errors import NotFound
from db.payments import Payment
from db.shown_payments import ShownPayment, Visibility
from db.states import TERMINAL, PaymentType
from db.users import Role

AllowedAction = Literal["pay", "update", "cancel", "fail"]


def scope(caller: Caller) -> Visibility:
    """Returns which payments the caller's lists contain: all for an administrator, else the caller's own."""
    if caller.role is Role.ADMIN:
        return Visibility()
    if caller.role is Role.VENDOR:
        return Visibility(payee_id=caller.user_id)
    return Visibility(user_id=caller.user_id, addressee_id=caller.user_id)


def get_visible(payment_id: UUID, caller: Caller) -> ShownPayment:
    """Returns a payment that the caller may see: one of the lists, or a request that any customer may pay.

    Raises NotFound.
    """
    payment = shown_payments.find(payment_id)
    if payment is None or not (scope(caller).includes(payment) or _is_offered_to(payment, caller)):
        raise NotFound(thing="payment")
    return payment


def get_own(payment_id: UUID, caller: Caller) -> ShownPayment:
    """Returns a payment that the caller's lists contain. Raises NotFound."""
    payment = shown_payments.find(payment_id)
    if payment is None or not scope(caller).includes(payment):
        raise NotFound(thing="payment")
    return payment


def get_changeable(payment_id: UUID, caller: Caller) -> Payment:
    """Returns a payment that the caller may change.

    Raises NotFound where the caller may not see the payment, Forbidden where the caller may only see it.
    """
    payment = payments.get(payment_id)
    if payment is None or not scope(caller).includes(payment):
        raise NotFound(thing="payment")
    if not _may_change(payment, caller):
        authentication.deny(caller.role, Permission.CHANGE_PAYMENTS)
    return payment


def _may_change(payment: Payment | ShownPayment, caller: Caller) -> bool:
    """Returns whether the caller may change a payment that the caller may see.

    An administrator may change every payment; a vendor their own payment requests, but not the payments of
    these requests.
    """
    if not caller.may(Permission.CHANGE_PAYMENTS):
        return False
    own_request = payment.type == PaymentType.INITIATE and payment.user_id == caller.user_id
    return caller.role is Role.ADMIN or own_request


def allowed_actions(payment: Payment | ShownPayment, caller: Caller) -> list[AllowedAction]:
    """Returns what the caller may do with a payment now.

    The routes check the same again. Whether a payment can fail also depends on the PSP's answer to an
    inquiry, so `fail` is left out while the PSP does not answer. It is also left out where the PSP has
    decided about another amount: no administrator can fail such a payment but with its review.
    """

    def allows(transition: Transition) -> bool:
        return state_machine.is_allowed(payment.type, payment.status, transition)

    may_change = _may_change(payment, caller)
    allowed: dict[AllowedAction, bool] = {
        "pay": _can_pay(payment, caller),
        "update": may_change and payment.status not in TERMINAL,
        "cancel": may_change and allows(Transition.CANCEL),
        "fail": caller.may(Permission.SETTLE_BY_HAND)
        and allows(Transition.FAIL)
        and not _cannot_fail(payment),
    }
    return [action for action, is_allowed in allowed.items() if is_allowed]


def _cannot_fail(payment: Payment | ShownPayment) -> bool:
    if isinstance(payment, ShownPayment):
        return bool(payment.cannot_fail)
    return payment_endings.is_with_psp(payment) and reviews.is_open(payment.id, reviews.UNFAILABLE_CAUSES)


def _can_pay(payment: Payment | ShownPayment, caller: Caller) -> bool:
    # A route that does not read a ShownPayment never sends a customer a payment request.
    if not isinstance(payment, ShownPayment) or not _is_offered_to(payment, caller):
        return False
    is_active = bool(payment.vendor_is_active)
    return payable.obstacle(payment, caller.user_id, vendor_is_active=is_active) is None


def _is_offered_to(payment: ShownPayment, caller: Caller) -> bool:
    return caller.may(Permission.PAY) and payable.is_offered_to(payment, caller.user_id)
