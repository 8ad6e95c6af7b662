"""The main path of a payment: create, begin, charge, settle.

create    API              -> pending                enqueues begin
begin     payments worker  -> processing             enqueues charge; a request -> initiated, and waits
charge    psp worker       calls the PSP             -> completed | failed, or enqueues settle or resolve
settle    payments worker  -> completed | failed     (a decision that came late, unasked, or by an inquiry)

resolve   payments worker  decides what follows      enqueues charge or inquire, or -> failed
inquire   psp worker       asks for the decision     enqueues settle or resolve

Each job is enqueued in the transaction of the step before it. `payment_reconciliation` finds lost jobs;
`payment_endings` cancels, fails and expires.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

import structlog

from actors import payable, payment_reviews, request_addressees, state_machine, transitions
from actors.batch_jobs import BatchEntry, batch_job
from actors.external_jobs import ExternalBatchJob
from actors.jobs import enqueue, take_enqueued, transaction
from actors.payment_reviews import Disproof, NewReview
from actors.psp import calls, resolution
from actors.psp.calls import Call, Response
from actors.psp.provider import Answer, Outcome
from actors.psp.resolution import Action
from actors.state_machine import Transition
from actors.transitions import Change
from db import idempotency, job_journal, payments, postgres, psp_attempts, users
from db.core import request_context
from db.core.errors import DomainError, ErrorCode
from db.core.ids import uuid7
from db.idempotency import NewKey
from db.payments import Payment
from db.psp_attempts import CallResult, PspOperation
from db.reviews import ReviewCause
from db.states import PaymentStatus, PaymentType

log = structlog.get_logger(__name__)


class NotAVendor(DomainError, code=ErrorCode.FORBIDDEN):
    """Only a vendor with an active account can create a payment request."""


# --- create ---------------------------------------------------------------------------------------------

# `columns`: other columns that the body sets. With a `key`: raises idempotency.KeyUsed, idempotency.KeyInUse.


def create_request(
    *, vendor_id: UUID, customer_email: str | None = None, key: NewKey | None = None, **columns: Any
) -> Payment:
    """Creates a payment request of a vendor. Raises NotAVendor."""
    # The lock delays the end of the account, whose job then sees, and cancels, this request.
    if not users.lock_vendor(vendor_id):
        raise NotAVendor
    request = _create(
        PaymentType.INITIATE,
        vendor_id,
        **columns,
        customer_email=customer_email,
        addressee_id=request_addressees.find(customer_email),
        payee_id=vendor_id,
    )
    return _store(request, key)


def create_payment(
    *, customer_id: UUID, amount: Decimal, currency: str, key: NewKey | None = None, **columns: Any
) -> Payment:
    """Creates a payment of a customer that pays no request. Raises TooManyPayments, EmailNotVerified."""
    customer = payable.lock_customer(customer_id)
    payable.require_within_limits(customer, amount, currency)
    payment = _create(PaymentType.PAYMENT, customer_id, amount=amount, currency=currency, **columns)
    return _store(payment, key)


def pay_request(
    request_id: UUID,
    *,
    customer_id: UUID,
    amount: Decimal | None = None,
    currency: str | None = None,
    key: NewKey | None = None,
    **columns: Any,
) -> Payment:
    """Creates a customer's payment of a request.

    Raises the errors of `payable.lock_payable`, which says what `amount` and `currency` are. The request is
    locked until the payment is stored: of two customers one is refused, and the terms stay as they are.
    """
    request = payable.lock_payable(request_id, customer_id, amount=amount, currency=currency)
    payment = _create(
        PaymentType.PAYMENT,
        customer_id,
        **columns,
        amount=request.amount,
        currency=request.currency,
        request_id=request.id,
        payee_id=request.user_id,
    )
    transitions.apply(request, Transition.ENGAGE, reason=f"payment {payment.id}")
    return _store(payment, key)


def _create(payment_type: PaymentType, user_id: UUID, **columns: Any) -> Payment:
    payment = transitions.create(payment_type, user_id, **columns)
    enqueue(begin_job(payment.id))
    return payment


def _store(payment: Payment, key: NewKey | None) -> Payment:
    idempotency.accept(payment, take_enqueued(), actor_id=request_context.current().user_id, key=key)
    return payment


# --- begin, charge, settle ------------------------------------------------------------------------------


class PaymentEntry(BatchEntry):
    """The arguments of a job about a payment, or about a request."""

    payment_id: UUID


EntryT = TypeVar("EntryT", bound=PaymentEntry)


@batch_job("payments.begin", PaymentEntry, queue="payments")
def begin(entries: Sequence[PaymentEntry]) -> None:
    """Moves new payments to `processing` and enqueues their charges; opens new requests for payment."""
    locked = payments.lock([entry.payment_id for entry in entries])
    beginnings = []
    for entry in _first_of_each_payment(entries):
        payment = locked.get(entry.payment_id)
        with request_context.for_request(entry):
            if payment and state_machine.is_allowed(payment.type, payment.status, Transition.BEGIN):
                beginnings.append(Change(payment, Transition.BEGIN))
            else:
                # The payment was cancelled before, or a job before this one has begun the payment.
                log.info("payment not begun", payment_id=str(entry.payment_id))
    for beginning, payment in zip(beginnings, transitions.apply_all(beginnings), strict=True):
        if payment.type == PaymentType.PAYMENT:
            with request_context.acting_as(beginning.context):
                enqueue(_charge_job(payment))


def begin_job(payment_id: UUID) -> job_journal.Job:
    """Returns the begin job of a payment, with an id by which the reconciler sees whether the job is lost."""
    return begin.job(PaymentEntry(payment_id=payment_id)).unique(str(payment_id))


class Charge(PaymentEntry):
    """A payment to charge, and its customer."""

    customer_id: UUID | None = None


def _charge_job(payment: Payment) -> job_journal.Job:
    # The id is derived from the payment's, so that a payment has at most one waiting charge job.
    return charge.job(Charge(payment_id=payment.id, customer_id=payment.user_id)).unique(str(payment.id))


def _begin_charges(charges: Sequence[Charge]) -> list[Call | None]:
    """Records charge calls that are about to be made, in the transaction that leases their jobs."""
    begun = calls.begin(PspOperation.CHARGE, {uuid7(): charge for charge in charges})
    for charge, call in zip(charges, begun, strict=True):
        if call is None:  # The PSP may have the order of an earlier call, or the payment has ended.
            with request_context.for_request(charge):
                enqueue(_resolve_job(charge.payment_id))
    return begun


def _record(responses: Sequence[tuple[Call, Response]]) -> None:
    """Records the responses to calls, in the transaction that removes their jobs.

    Also settles their decisions if `calls.may_be_settled_at_once`; otherwise a job follows each response.
    """
    at_once = calls.may_be_settled_at_once(responses)
    if not at_once:
        calls.record(responses)
    decisions = []
    # In the order of payment ids: another process may insert jobs with the same unique ids at this moment.
    for call, response in sorted(responses, key=lambda ended: ended[0].order.payment_id):
        id, answer = call.order.payment_id, response.answer
        with request_context.for_request(call.cause):
            if answer and at_once:
                decisions.append(Decision(payment_id=id, answer=answer, attempt_id=call.id))
            else:
                enqueue(settle_job(id, answer, call.id) if answer else _resolve_job(id))
    if at_once:
        locked = payments.lock([decision.payment_id for decision in decisions])
        calls.record(responses, settled=True)
        _settle(decisions, locked)


# Orders the charge from the PSP under the payment's id as idempotency key: a repetition charges nothing.
# `share` bounds the threads of one customer: a burst of slow payments does not delay other customers.
charge = ExternalBatchJob(
    "payments.charge",
    Charge,
    queue="psp",
    share="customer_id",
    prepare=_begin_charges,
    call=calls.make,
    record=_record,
)


class Decision(PaymentEntry):
    """A decision of the PSP, and the call or notice that brought it."""

    answer: Answer
    attempt_id: UUID | None = None


def settle_job(payment_id: UUID, answer: Answer, attempt_id: UUID) -> job_journal.Job:
    """Returns the job that settles a decision of the PSP."""
    job = settle.job(Decision(payment_id=payment_id, answer=answer, attempt_id=attempt_id))
    # One job for each decision, not for each payment: of two different decisions neither is dropped.
    return job.unique(str(attempt_id))


def receive_notice(payment_id: UUID, answer: Answer) -> None:
    """Stores a decision that the PSP sends unasked, again or late, and enqueues its settlement."""
    attempt_id = uuid7()
    with postgres.connection(), transaction():
        psp_attempts.record_notice(payment_id, CallResult(attempt_id, **asdict(answer)))
        enqueue(settle_job(payment_id, answer, attempt_id))


@batch_job("payments.settle", Decision, queue="payments")
def settle(decisions: Sequence[Decision]) -> None:
    """Applies decisions of the PSP; opens a review where a decision contradicts the payment."""
    # One decision about each payment at a time: a second one is compared with what the first one has changed.
    while decisions:
        first = _first_of_each_payment(decisions)
        locked = payments.lock([decision.payment_id for decision in first])
        psp_attempts.mark_settled([decision.attempt_id for decision in first if decision.attempt_id])
        _settle(first, locked)
        settled = {decision.id for decision in first}
        decisions = [decision for decision in decisions if decision.id not in settled]


def _settle(decisions: Sequence[Decision], locked: Mapping[UUID, Payment]) -> None:
    """Settles at most one decision about each of the locked payments, which are given by their ids."""
    changes: list[Change] = []
    contradictions: list[NewReview] = []
    disproofs: list[Disproof] = []
    for decision in decisions:
        payment, answer = locked.get(decision.payment_id), decision.answer
        if payment is None:  # The PSP has sent a notice about a payment that is not ours.
            continue
        with request_context.for_request(decision):
            disproofs.append(Disproof(payment.id, ReviewCause.PSP_SILENT))
            if contradiction := payment_reviews.contradiction(payment, answer):
                contradictions.append(NewReview(payment.id, *contradiction))
            elif payment.status != PaymentStatus.PROCESSING:
                log.info("payment was settled before", payment_id=str(payment.id), status=payment.status)
            elif answer.outcome is Outcome.CHARGED:
                changes.append(Change(payment, Transition.COMPLETE))
                disproofs.append(Disproof(payment.id, ReviewCause.STATEMENT_CHARGED))
            else:
                code = answer.code or "declined"
                message = f"The payment was declined: {code.replace('_', ' ')}."
                changes.append(Change(payment, Transition.FAIL, failure=(code, message)))
                disproofs.append(Disproof(payment.id, ReviewCause.STATEMENT_DECLINED))
    transitions.apply_all(changes)
    payment_reviews.open_reviews(contradictions)
    payment_reviews.disprove(disproofs)


def _first_of_each_payment(entries: Sequence[EntryT]) -> list[EntryT]:
    """Returns the first entry about each payment."""
    return list({entry.payment_id: entry for entry in reversed(entries)}.values())[::-1]


# --- unknown outcome ------------------------------------------------------------------------------------


@batch_job("payments.resolve", PaymentEntry, queue="payments")
def resolve(entries: Sequence[PaymentEntry]) -> None:
    """Decides what follows calls that brought no decision, by the rules of `actors/psp/resolution.py`."""
    entries = _first_of_each_payment(entries)
    locked = payments.lock([entry.payment_id for entry in entries])
    calls_of = psp_attempts.for_payments(locked)
    failures: list[Change] = []
    silences: list[NewReview] = []
    disproofs: list[Disproof] = []
    for entry in entries:
        payment = locked.get(entry.payment_id)
        if payment is None or payment.status != PaymentStatus.PROCESSING:
            continue
        with request_context.for_request(entry):
            plan = resolution.next_action(calls_of[payment.id])
            log.info("outcome unknown", payment_id=str(payment.id), action=plan.action, review=plan.review)
            if plan.review:
                silences.append(NewReview(payment.id, ReviewCause.PSP_SILENT, "the PSP does not answer"))
            else:
                # Only unanswered inquiries keep this review open.
                disproofs.append(Disproof(payment.id, ReviewCause.PSP_SILENT))
            match plan.action:
                case Action.CHARGE:
                    enqueue(_charge_job(payment).delayed(plan.delay_s))
                case Action.INQUIRE:
                    enqueue(inquire_job(payment.id).delayed(plan.delay_s))
                case Action.FAIL:
                    failure = ("provider_unavailable", "The payment provider was not available.")
                    failures.append(Change(payment, Transition.FAIL, failure=failure))
    payment_reviews.open_reviews(silences)
    payment_reviews.disprove(disproofs)
    transitions.apply_all(failures)


def _resolve_job(payment_id: UUID) -> job_journal.Job:
    return resolve.job(PaymentEntry(payment_id=payment_id)).unique(str(payment_id))


class Inquiry(PaymentEntry):
    """A payment to inquire about, and the id of the call (`inquiry`) if a caller waits for its result."""

    inquiry: UUID | None = None


def inquire_job(payment_id: UUID, inquiry: UUID | None = None) -> job_journal.Job:
    """Returns the job of an inquiry. Without the id of a call, at most one such job of a payment waits."""
    job = inquire.job(Inquiry(payment_id=payment_id, inquiry=inquiry))
    return job if inquiry else job.unique(str(payment_id))


def _begin_inquiries(inquiries: Sequence[Inquiry]) -> list[Call | None]:
    """Records inquiries that are about to be made; None in place of one about a payment that has ended."""
    return calls.begin(PspOperation.FIND, {entry.inquiry or uuid7(): entry for entry in inquiries})


# Asks the PSP for its decision about a payment.
inquire = ExternalBatchJob(
    "payments.inquire",
    Inquiry,
    queue="psp-inquiries",
    prepare=_begin_inquiries,
    call=calls.make,
    record=_record,
)
