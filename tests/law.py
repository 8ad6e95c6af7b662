"""What holds of payments at every moment, whoever did what to them and in which order."""

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


def holds(edits: Mapping[UUID, int] | None = None) -> list[Payment]:
    """All payments there are, oldest first, after a look at each; `edits` is how often each was edited, if known.

    Raises AssertionError where one stands where no law has led it, or does not agree with the PSP, with its
    request or with its own history.
    """
    all = list(Payment.select().order_by(Payment.created_at, Payment.id))
    moves = PaymentTransaction.select().order_by(PaymentTransaction.created_at, PaymentTransaction.id)
    history = _by("payment_id", moves)
    charges = _by("payment_id", Charge.select())
    against = _by("request_id", all)
    for it in all:
        if edits is not None:
            changes = len(history[it.id]) + edits.get(it.id, 0)
            assert it.version == changes, f"{_said(it)}: version {it.version} after {changes} changes"
        _came_lawfully(it, history[it.id])
        if it.type == PaymentType.PAYMENT:
            _agrees_with_the_psp(it, charges[it.id])
        else:
            _follows(it, against[it.id])
    assert charges.keys() <= {it.id for it in all if it.type == PaymentType.PAYMENT}
    return all


def _came_lawfully(it: Payment, history: Sequence[PaymentTransaction]) -> None:
    stood = None
    for moved in history:
        assert moved.from_status == stood, f"{_said(it)}: {moved.transaction_type} from {moved.from_status}"
        before = PaymentStatus(stood) if stood else None
        led = TRANSITIONS.get((PaymentType(it.type), before, Transition(moved.transaction_type)))
        assert moved.status == led, f"{_said(it)}: {moved.transaction_type} from {stood} to {moved.status}"
        stood = moved.status
    assert it.status == stood, f"{_said(it)}: its history ends in {stood}"


def _agrees_with_the_psp(it: Payment, charges: Sequence[Charge]) -> None:
    assert len(charges) <= 1, f"{_said(it)}: ordered {len(charges)} times"
    charged = any(charge.outcome == "charged" for charge in charges)
    if it.status == PaymentStatus.COMPLETED:
        assert charged, f"{_said(it)}: never charged"
    if it.status not in (PaymentStatus.COMPLETED, PaymentStatus.PROCESSING):
        assert not charged, f"{_said(it)}: charged"
    for charge in charges:
        assert (charge.amount, charge.currency) == (it.amount, it.currency), f"{_said(it)}: {charge.amount}"


def _follows(request: Payment, payments: Sequence[Payment]) -> None:
    live = [it for it in payments if it.status in UNDER_WAY | {PaymentStatus.COMPLETED}]
    stand = [it.status for it in live]
    assert len(live) <= 1, f"{_said(request)}: live payments against it are {stand}"
    engaged, paid = any(status in UNDER_WAY for status in stand), PaymentStatus.COMPLETED in stand
    assert (request.status == PaymentStatus.PROCESSING) == engaged, f"{_said(request)}: live is {stand}"
    assert (request.status == PaymentStatus.COMPLETED) == paid, f"{_said(request)}: live is {stand}"
    for it in live:
        asked = (request.amount, request.currency)
        assert (it.amount, it.currency) == asked, f"{_said(it)}: {it.amount} {it.currency} of {asked}"


def _by(column: str, rows: Iterable[M]) -> defaultdict[Any, list[M]]:
    found: defaultdict[Any, list[M]] = defaultdict(list)
    for row in rows:
        found[getattr(row, column)].append(row)
    return found


def _said(it: Payment) -> str:
    return f"{it.type} {it.id} is {it.status}"
