"""The life of a payment, in the order in which it is lived: create, begin, charge, settle.

create   at the door       -> pending       promises begin
begin    payments worker   -> processing    promises charge (a request: -> initiated, and waits)
charge   psp worker        asks the PSP     promises settle
settle   payments worker   -> completed | failed
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import structlog

from actors import audit, events, lifecycle, snapshots
from actors.lifecycle import Step
from actors.psp import provider
from actors.psp.provider import Outcome
from actors.verbs import effect, promise, record
from db import journal, payments
from db.fault import Code, Fault, NotFound
from db.payments import Payment
from db.states import Status, Type

log = structlog.get_logger(__name__)


class RequestNotPayable(Fault):
    """The payment request cannot be paid: it is {status}."""

    code = Code.REQUEST_NOT_PAYABLE


@dataclass(frozen=True)
class Wish:
    """A payment or request as its maker wants it. One against a request takes amount and currency from it."""

    amount: Decimal
    currency: str
    description: str | None
    metadata: dict[str, Any]
    customer_email: str | None = None


# --- create ---------------------------------------------------------------------------------------------


def ask(wish: Wish, *, vendor_id: UUID) -> Payment:
    """A vendor asks for money: a payment request."""
    return _create(Type.INITIATE, vendor_id, wish, payee_id=vendor_id)


def pay(wish: Wish, *, customer_id: UUID) -> Payment:
    """A customer pays, against no request."""
    return _create(Type.PAYMENT, customer_id, wish)


def pay_request(
    request_id: UUID,
    *,
    customer_id: UUID,
    customer_email: str,
    description: str | None,
    metadata: dict[str, Any],
) -> Payment:
    """A customer pays a request. Raises NotFound, or RequestNotPayable when it is not open.

    The request's lock is held from the question to the payment's row: of two customers one is refused.
    """
    request = payments.locked(request_id)
    if request is None or not meant_for(request, customer_email):
        raise NotFound(thing="payment request")
    if request.status != Status.INITIATED:
        raise RequestNotPayable(status=request.status)
    wish = Wish(request.amount, request.currency, description, metadata)
    payment = _create(Type.PAYMENT, customer_id, wish, request_id=request.id, payee_id=request.user_id)
    _move(request, Step.ENGAGE, reason=f"payment {payment.id}", actor_id=customer_id)
    return payment


def meant_for(request: Payment, email: str) -> bool:
    """Whether this is a request that a customer with this address may see and pay: theirs, or a link."""
    addressee = request.customer_email
    return request.type == Type.INITIATE and (addressee is None or addressee.lower() == email.lower())


def _create(type: Type, user_id: UUID, wish: Wish, **more: Any) -> Payment:
    payment = payments.add(
        user_id=user_id,
        type=type,
        status=lifecycle.after(type, None, Step.CREATE),
        amount=wish.amount,
        currency=wish.currency,
        description=wish.description,
        metadata=wish.metadata,
        customer_email=wish.customer_email,
        **more,
    )
    _tell(payment, Step.CREATE, None, reason=None, actor_id=user_id)
    events.announce(events.Type.PAYMENT_CREATED, snapshots.payment(payment))
    promise(begin.message(payment.id))
    return payment


# --- begin, charge, settle ------------------------------------------------------------------------------


@record("payments")
def begin(payment_id: UUID) -> None:
    """Takes up what was created: a payment goes to the PSP, a request is open from now on."""
    payment = _move(_locked(payment_id), Step.BEGIN)
    if payment.type == Type.PAYMENT:
        promise(charge.message(payment.id, payment.amount, payment.currency, payment.metadata))


@effect("psp")
def charge(payment_id: UUID, amount: Decimal, currency: str, metadata: dict[str, Any]) -> journal.Task:
    """Asks the PSP for the money. The key is the payment's id: however often it is asked, it charges once."""
    order = provider.Order(str(payment_id), payment_id, amount, currency, metadata)
    answer = provider.chosen().charge(order)
    return settle.message(payment_id, answer.outcome, answer.code)


@record("payments")
def settle(payment_id: UUID, outcome: Outcome, code: str | None) -> None:
    """Writes down what the PSP decided; a request that was paid is completed, else it is open again."""
    payment = _locked(payment_id)
    if outcome == Outcome.CHARGED:
        payment = _move(payment, Step.COMPLETE)
        request_step = Step.COMPLETE
    else:
        failure = (code or "declined", f"The payment was declined: {(code or 'declined').replace('_', ' ')}.")
        payment = _move(payment, Step.FAIL, failure=failure)
        request_step = Step.REOPEN
    if payment.request_id:
        _follow(_locked(payment.request_id), payment, request_step)


def _follow(request: Payment, payment: Payment, step: Step) -> None:
    if lifecycle.allows(Type(request.type), Status(request.status), step):
        _move(request, step, reason=f"payment {payment.id} {payment.status}")
    else:
        # It moved behind our back. That must not undo what the PSP did with the payment.
        log.error(
            "a paid request could not follow", request=str(request.id), status=request.status, step=step
        )


# --- every step -----------------------------------------------------------------------------------------


def _locked(id: UUID) -> Payment:
    payment = payments.locked(id)
    if payment is None:
        raise NotFound(thing="payment")
    return payment


def _move(
    payment: Payment,
    step: Step,
    *,
    reason: str | None = None,
    actor_id: UUID | None = None,
    failure: tuple[str, str] | None = None,
) -> Payment:
    """Takes one step of the law with a locked payment: status, history, audit row and events, or none."""
    before = Status(payment.status)
    to = lifecycle.after(Type(payment.type), before, step)
    payment = payments.change(payment, to, failure=failure)
    _tell(payment, step, before, reason=reason or (failure and failure[0]) or None, actor_id=actor_id)
    snapshot = snapshots.payment(payment)
    events.announce(events.Type.PAYMENT_UPDATED, snapshot)
    if to == Status.COMPLETED:
        events.announce(events.Type.PAYMENT_COMPLETED, snapshot)
    if to == Status.FAILED:
        events.announce(events.Type.PAYMENT_FAILED, snapshot)
    return payment


def _tell(
    payment: Payment, step: Step, before: Status | None, *, reason: str | None, actor_id: UUID | None
) -> None:
    payments.add_transaction(payment, type=step, from_status=before, reason=reason, actor_id=actor_id)
    audit.note(
        audit.Action(f"payments.payment.{step}"),
        resource=("payment", payment.id),
        details={"type": payment.type, "from": before, "to": payment.status, "reason": reason},
    )
