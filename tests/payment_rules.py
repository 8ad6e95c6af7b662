"""What holds of payments at every moment, after any operations in any order."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from actors.state_machine import TRANSITIONS, Transition
from db.payments import Payment, PaymentTransaction
from db.psp_ledger import Charge
from db.states import PaymentStatus, PaymentType

M = TypeVar("M")

UNDER_WAY = {PaymentStatus.PENDING, PaymentStatus.PROCESSING}


def check_all(edits: Mapping[UUID, int] | None = None) -> list[Payment]:
    """Check all payments and return them, oldest first; `edits` is the number of edits of each, if known.

    Raises AssertionError for a status that no transition leads to, and for a payment that contradicts the
    PSP's ledger, its request or its own history.
    """
    payments = list(Payment.select().order_by(Payment.created_at, Payment.id))
    rows = PaymentTransaction.select().order_by(PaymentTransaction.created_at, PaymentTransaction.id)
    history = _group_by("payment_id", rows)
    charges = _group_by("payment_id", Charge.select())
    payments_by_request = _group_by("request_id", payments)
    for payment in payments:
        if edits is not None:
            changes = len(history[payment.id]) + edits.get(payment.id, 0)
            assert payment.version == changes, (
                f"{_describe(payment)}: version {payment.version} after {changes} changes"
            )
        _check_history(payment, history[payment.id])
        if payment.type == PaymentType.PAYMENT:
            _check_charges(payment, charges[payment.id])
        else:
            _check_request(payment, payments_by_request[payment.id])
    assert charges.keys() <= {payment.id for payment in payments if payment.type == PaymentType.PAYMENT}
    return payments


def _check_history(payment: Payment, history: Sequence[PaymentTransaction]) -> None:
    status: str | None = None
    for row in history:
        name = f"{_describe(payment)}: {row.transaction_type}"
        assert row.from_status == status, f"{name} from {row.from_status} after {status}"
        before = PaymentStatus(status) if status else None
        to = TRANSITIONS.get((PaymentType(payment.type), before, Transition(row.transaction_type)))
        assert row.status == to, f"{name} from {status} to {row.status}"
        status = row.status
    assert payment.status == status, f"{_describe(payment)}: its history ends in {status}"


def _check_charges(payment: Payment, charges: Sequence[Charge]) -> None:
    assert len(charges) <= 1, f"{_describe(payment)}: ordered {len(charges)} times"
    charged = any(charge.outcome == "charged" for charge in charges)
    if payment.status == PaymentStatus.COMPLETED:
        assert charged, f"{_describe(payment)}: never charged"
    if payment.status not in (PaymentStatus.COMPLETED, PaymentStatus.PROCESSING):
        assert not charged, f"{_describe(payment)}: charged"
    for charge in charges:
        terms = (payment.amount, payment.currency)
        assert (charge.amount, charge.currency) == terms, f"{_describe(payment)}: charged {charge.amount}"


def _check_request(request: Payment, payments: Sequence[Payment]) -> None:
    live = [payment for payment in payments if payment.status in UNDER_WAY | {PaymentStatus.COMPLETED}]
    statuses = [payment.status for payment in live]
    assert len(live) <= 1, f"{_describe(request)}: its live payments are {statuses}"
    engaged, paid = any(status in UNDER_WAY for status in statuses), PaymentStatus.COMPLETED in statuses
    assert (request.status == PaymentStatus.PROCESSING) == engaged, (
        f"{_describe(request)}: live is {statuses}"
    )
    assert (request.status == PaymentStatus.COMPLETED) == paid, f"{_describe(request)}: live is {statuses}"
    for payment in live:
        terms = (request.amount, request.currency)
        assert (payment.amount, payment.currency) == terms, f"{_describe(payment)}: not {terms}"


def _group_by(column: str, rows: Iterable[M]) -> defaultdict[Any, list[M]]:
    groups: defaultdict[Any, list[M]] = defaultdict(list)
    for row in rows:
        groups[getattr(row, column)].append(row)
    return groups


def _describe(payment: Payment) -> str:
    return f"{payment.type} {payment.id} is {payment.status}"
