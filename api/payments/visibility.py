"""Which payments a caller may see, and what a caller may do with them now."""

from collections.abc import Sequence
from typing import Literal
from uuid import UUID

from actors import payable, state_machine
from actors.state_machine import Transition
from api.middleware import authentication
from api.security.permissions import Caller, Permission
from db import payments
from db.core.errors import NotFound
from db.payment_lists import Visibility
from db.payments import Payment
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


def get_visible(payment_id: UUID, caller: Caller) -> Payment:
    """Returns a payment that the caller may see: one of the lists, or a request that any customer may pay.

    Raises NotFound.
    """
    payment = payments.get(payment_id)
    if payment is None or not (scope(caller).includes(payment) or _is_offered_to(payment, caller)):
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
        authentication.deny(caller, Permission.CHANGE_PAYMENTS)
    return payment


def _may_change(payment: Payment, caller: Caller) -> bool:
    """An administrator may change every payment, a vendor their own requests but no payments of those."""
    if not caller.may(Permission.CHANGE_PAYMENTS):
        return False
    own_request = payment.type == PaymentType.INITIATE and payment.user_id == caller.user_id
    return caller.role is Role.ADMIN or own_request


def allowed_actions(rows: Sequence[Payment], caller: Caller) -> dict[UUID, list[AllowedAction]]:
    """Returns what the caller may do with these payments now, by their ids.

    The routes check the same; `fail` also depends on what the PSP answers then. One query for the obstacles
    to paying, whatever the number of payments.
    """
    requests = [row for row in rows if _is_offered_to(row, caller)]
    obstacles = payable.obstacles(requests, caller.user_id)
    payable_ids = {request.id for request in requests} - obstacles.keys()
    return {row.id: _allowed_actions(row, caller, pay=row.id in payable_ids) for row in rows}


def _is_offered_to(payment: Payment, caller: Caller) -> bool:
    return caller.may(Permission.PAY) and payable.is_offered_to(payment, caller.user_id)


def _allowed_actions(payment: Payment, caller: Caller, *, pay: bool) -> list[AllowedAction]:
    def allows(transition: Transition) -> bool:
        return state_machine.is_allowed(payment.type, payment.status, transition)

    may_change = _may_change(payment, caller)
    allowed: dict[AllowedAction, bool] = {
        "pay": pay,
        "update": may_change and payment.status not in TERMINAL,
        "cancel": may_change and allows(Transition.CANCEL),
        "fail": caller.may(Permission.SETTLE_BY_HAND) and allows(Transition.FAIL),
    }
    return [action for action, is_allowed in allowed.items() if is_allowed]
