"""Whose payments: what a caller sees, and what of it is theirs to change."""

from uuid import UUID

from actors import payable
from api.middleware import authentication
from api.security.permissions import Caller, Permission
from db import payments
from db.core.errors import NotFound
from db.payment_lists import Visibility
from db.payments import Payment
from db.states import PaymentType
from db.users import Role


def of(who: Caller) -> Visibility:
    """The caller's own set, as lists show it."""
    if who.role is Role.ADMIN:
        return Visibility()
    if who.role is Role.VENDOR:
        return Visibility(payee_id=who.user_id)
    return Visibility(user_id=who.user_id, addressee_id=who.user_id)


def visible(payment_id: UUID, who: Caller) -> Payment:
    """One of the caller's own set, or a request that this customer may pay because they know its id. Raises
    NotFound."""
    payment = payments.get(payment_id)
    if payment is None or not (of(who).includes(payment) or _has_link(payment, who)):
        raise NotFound(thing="payment")
    return payment


def _has_link(payment: Payment, who: Caller) -> bool:
    return who.role is Role.CUSTOMER and payable.is_offered_to(payment, who.user_id)


def changeable(payment_id: UUID, who: Caller) -> Payment:
    """One of the caller's own set that is theirs to change, too. Raises NotFound, Forbidden."""
    payment = payments.get(payment_id)
    if payment is None or not of(who).includes(payment):
        raise NotFound(thing="payment")
    if not may_change(payment, who):
        authentication.deny(who, Permission.CHANGE_PAYMENTS)
    return payment


def may_change(payment: Payment, who: Caller) -> bool:
    """Whether it is theirs to change: an administrator's in any case, a vendor's if they asked for it.
    Payments against it are theirs to see only."""
    if not who.may(Permission.CHANGE_PAYMENTS):
        return False
    return who.role is Role.ADMIN or (payment.type == PaymentType.INITIATE and payment.user_id == who.user_id)
