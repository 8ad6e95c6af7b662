"""Whose payments: what a caller sees, and what of it is theirs to change."""

from uuid import UUID

from actors import payments as life
from api.gateway import caller
from api.policies import Caller, Permission
from db import payments
from db.auth import Role
from db.fault import NotFound
from db.payments import Payment, Seen
from db.states import Type


def of(who: Caller) -> Seen:
    """The caller's own set, as lists show it."""
    if who.role is Role.ADMIN:
        return Seen()
    if who.role is Role.VENDOR:
        return Seen(payee_id=who.user_id)
    return Seen(user_id=who.user_id, addressee_id=who.user_id)


def link(payment_id: UUID, who: Caller) -> Payment | None:
    """A request that this customer may pay because they know its id."""
    payment = payments.get(payment_id) if who.role is Role.CUSTOMER else None
    return payment if payment is not None and life.meant_for(payment, who.user_id) else None


def changeable(payment_id: UUID, who: Caller) -> Payment:
    """One of the caller's own set that is theirs to change, too. Raises NotFound, Forbidden."""
    payment = payments.seen(payment_id, of(who))
    if payment is None:
        raise NotFound(thing="payment")
    if not may_change(payment, who):
        caller.refuse(who, Permission.CHANGE_PAYMENTS)
    return payment


def may_change(payment: Payment, who: Caller) -> bool:
    """Whether it is theirs to change: an administrator's in any case, a vendor's if they asked for it.
    Payments against it are theirs to see only."""
    if not who.may(Permission.CHANGE_PAYMENTS):
        return False
    return who.role is Role.ADMIN or (payment.type == Type.INITIATE and payment.user_id == who.user_id)
