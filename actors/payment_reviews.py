"""Reviews: opened by what disagrees, resolved by a person or by the disproof of their cause, both audited."""

from collections.abc import Collection, Sequence
from uuid import UUID

from actors import audit
from actors.state_machine import InvalidTransition
from db import reviews
from db.core import request_context
from db.payments import Payment
from db.reviews import Cause, PaymentReview
from db.states import Status, Type

# How many opened at once are audited one by one; what goes wrong on a larger scale is another matter.
_AUDITED = 100
# What disproves a cause.
_DISPROOF = {
    Cause.PSP_SILENT: "the PSP has answered",
    Cause.STATEMENT_CHARGED: "the payment has come to what the statement says",
    Cause.STATEMENT_DECLINED: "the payment has come to what the statement says",
}


class NothingToReview(InvalidTransition):
    """Nobody needs to look at this {thing}."""


def open(payment: Payment, cause: Cause, reason: str) -> None:
    """Asks a person to look at a locked payment; nothing, where the same review is open."""
    open_all([(payment.id, cause, reason)])


def open_all(found: Sequence[tuple[UUID, Cause, str]]) -> None:
    """The same for many payments: id, cause and reason of each."""
    opened = reviews.open(found)
    for review in opened[:_AUDITED]:
        _audit(audit.Action.REVIEW_OPENED, review)
    if len(opened) > _AUDITED:
        audit.note(audit.Action.REVIEW_OPENED, details={"reviews": len(opened)})


def disprove(payment: Payment, *causes: Cause) -> None:
    """Resolves the open reviews of a locked payment that have one of these causes, which are disproved."""
    for review in reviews.resolve(payment.id, {cause: _DISPROOF[cause] for cause in causes}, by=None):
        _audit(audit.Action.REVIEW_RESOLVED, review, reason=str(review.resolution))


def resolve(
    payment: Payment,
    reason: str,
    *,
    outcome: Status | None = None,
    only: Collection[UUID] | None = None,
) -> None:
    """Resolves the open reviews of a locked payment, or `only` those with these ids: the caller has looked at
    it, and may have given it this `outcome`. Raises NothingToReview where none of them is open."""
    by = request_context.current().user_id
    resolved = reviews.resolve(payment.id, dict.fromkeys(Cause, reason), by=by, only=only)
    if not resolved:
        raise NothingToReview(Type(payment.type), payment.status)
    more = {"outcome": outcome} if outcome else {}
    for review in resolved:
        _audit(audit.Action.PAYMENT_REVIEWED, review, reason=reason, **more)


def _audit(action: audit.Action, review: PaymentReview, **more: str) -> None:
    details = {"id": str(review.id), "cause": review.cause, "review": review.reason, **more}
    audit.note(action, resource=("payment", review.payment_id), details=details)
