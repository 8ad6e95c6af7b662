"""Reviews of payments: opened for a contradiction, resolved by a person or by a fact that disproves it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID

from actors import audit
from actors.psp.provider import Answer, Outcome
from actors.state_machine import InvalidTransition
from db import reviews
from db.core import request_context
from db.core.request_context import RequestContext
from db.payments import Payment
from db.reviews import PaymentReview, ReviewCause
from db.states import PaymentStatus

# How many reviews of one transaction get audit entries of their own. If there are more, one further entry has
# the number of all.
_AUDITED_ONE_BY_ONE = 100
# The resolution of a review whose cause was disproved.
_DISPROOF = {
    ReviewCause.PSP_SILENT: "the PSP has answered",
    ReviewCause.STATEMENT_CHARGED: "the payment has come to what the statement says",
    ReviewCause.STATEMENT_DECLINED: "the payment has come to what the statement says",
}


class NothingToReview(InvalidTransition):
    """This {thing} has no open review."""


@dataclass(frozen=True)
class NewReview:
    """A review to open, and what caused it."""

    payment_id: UUID
    cause: ReviewCause
    reason: str
    context: RequestContext = field(default_factory=request_context.current)


@dataclass(frozen=True)
class Disproof:
    """The fact that a cause no longer holds for a payment, and the request that has shown it."""

    payment_id: UUID
    cause: ReviewCause
    context: RequestContext = field(default_factory=request_context.current)


def names_another_amount(payment: Payment, amount: Decimal | None, currency: str | None) -> bool:
    """Returns whether a decision with this amount and currency is about another amount than was ordered."""
    return amount is not None and (amount, currency) != (payment.amount, payment.currency)


def contradiction(payment: Payment, answer: Answer) -> tuple[ReviewCause, str] | None:
    """Returns why a person has to look at a decision; None if the decision can be applied or repeats another.

    The texts are compared with those of earlier reviews, so they must not change.
    """
    outcome, amount, currency = answer.outcome, answer.amount, answer.currency
    if names_another_amount(payment, amount, currency):
        return ReviewCause.AMOUNT_DIFFERS, f"the PSP says: {outcome} {amount} {currency}"
    if outcome is Outcome.CHARGED and payment.status not in (
        PaymentStatus.PROCESSING,
        PaymentStatus.COMPLETED,
    ):
        # The charge is never ignored, and never refunded without a person's decision.
        return ReviewCause.CHARGED_AFTER_END, f"the PSP charged it, but it is {payment.status}"
    if outcome is Outcome.DECLINED and payment.status == PaymentStatus.COMPLETED:
        return ReviewCause.DECLINED_AFTER_COMPLETION, "the PSP declined it, but it is completed"
    return None


def open_reviews(wanted: Sequence[NewReview]) -> None:
    """Opens reviews of locked payments, except those that are open."""
    if not wanted:
        return
    contexts = {(review.payment_id, review.cause): review.context for review in wanted}
    opened = reviews.open_reviews([(review.payment_id, review.cause, review.reason) for review in wanted])
    for review in opened[:_AUDITED_ONE_BY_ONE]:
        with request_context.acting_as(contexts[review.payment_id, ReviewCause(review.cause)]):
            _audit(audit.AuditAction.REVIEW_OPENED, review)
    if len(opened) > _AUDITED_ONE_BY_ONE:
        audit.record(audit.AuditAction.REVIEW_OPENED, details={"reviews": len(opened)})


def disprove(disproofs: Sequence[Disproof]) -> None:
    """Resolves the open reviews of locked payments whose causes are disproved."""
    if not disproofs:
        return
    contexts = {(found.payment_id, found.cause): found.context for found in disproofs}
    for review in reviews.disprove([(id, cause, _DISPROOF[cause]) for id, cause in contexts]):
        with request_context.acting_as(contexts[review.payment_id, ReviewCause(review.cause)]):
            _audit(audit.AuditAction.REVIEW_RESOLVED, review, reason=str(review.resolution))


def resolve(
    payment: Payment,
    reason: str,
    *,
    outcome: PaymentStatus | None = None,
    only: Collection[UUID] | None = None,
) -> None:
    """Resolves the open reviews of a locked payment, or `only` those with these ids, for the acting user.

    `outcome` is the status that the user has set. Raises NothingToReview if none of the reviews is open.
    """
    by = request_context.current().user_id
    resolved = reviews.resolve(payment.id, reason, by=by, only=only)
    if not resolved:
        raise NothingToReview(payment.type, payment.status)
    more = {"outcome": outcome} if outcome else {}
    for review in resolved:
        _audit(audit.AuditAction.PAYMENT_REVIEWED, review, reason=reason, **more)


def _audit(action: audit.AuditAction, review: PaymentReview, **more: str) -> None:
    details = {"id": str(review.id), "cause": review.cause, "review": review.reason, **more}
    audit.record(action, resource=("payment", review.payment_id), details=details)
