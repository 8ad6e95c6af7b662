"""Reviews: opened by what disagrees, resolved by a person or by the disproof of their cause, both audited."""

from collections.abc import Collection, Sequence
from uuid import UUID

from actors import audit
from actors.state_machine import InvalidTransition
from db import reviews
from db.core import request_context
from db.payments import Payment
from db.reviews import PaymentReview, ReviewCause
from db.states import PaymentStatus, PaymentType

# How many opened at once are audited one by one; what goes wrong on a larger scale is another matter.
_AUDITED = 100
# What disproves a cause.
_DISPROOF = {
    ReviewCause.PSP_SILENT: "the PSP has answered",
    ReviewCause.STATEMENT_CHARGED: "the payment has come to what the statement says",
    ReviewCause.STATEMENT_DECLINED: "the payment has come to what the statement says",
}


class NothingToReview(InvalidTransition):
    """Nobody needs to look at this {thing}."""


def open_review(payment: Payment, cause: ReviewCause, reason: str) -> None:
    """Asks a person to look at a locked payment; nothing, where the same review is open."""
    open_reviews([(payment.id, cause, reason)])


def open_reviews(found: Sequence[tuple[UUID, ReviewCause, str]]) -> None:
    """The same for many payments: id, cause and reason of each."""
    opened = reviews.open_reviews(found)
    for review in opened[:_AUDITED]:
        _audit(audit.AuditAction.REVIEW_OPENED, review)
    if len(opened) > _AUDITED:
        audit.record(audit.AuditAction.REVIEW_OPENED, details={"reviews": len(opened)})


def disprove(payment: Payment, *causes: ReviewCause) -> None:
    """Resolves the open reviews of a locked payment that have one of these causes, which are disproved."""
    for review in reviews.resolve(payment.id, {cause: _DISPROOF[cause] for cause in causes}, by=None):
        _audit(audit.AuditAction.REVIEW_RESOLVED, review, reason=str(review.resolution))


def resolve(
    payment: Payment,
    reason: str,
    *,
    outcome: PaymentStatus | None = None,
    only: Collection[UUID] | None = None,
) -> None:
    """Resolves the open reviews of a locked payment, or `only` those with these ids: the caller has looked at
    it, and may have given it this `outcome`. Raises NothingToReview where none of them is open."""
    by = request_context.current().user_id
    resolved = reviews.resolve(payment.id, dict.fromkeys(ReviewCause, reason), by=by, only=only)
    if not resolved:
        raise NothingToReview(PaymentType(payment.type), payment.status)
    more = {"outcome": outcome} if outcome else {}
    for review in resolved:
        _audit(audit.AuditAction.PAYMENT_REVIEWED, review, reason=reason, **more)


def _audit(action: audit.AuditAction, review: PaymentReview, **more: str) -> None:
    details = {"id": str(review.id), "cause": review.cause, "review": review.reason, **more}
    audit.record(action, resource=("payment", review.payment_id), details=details)
