"""The routes with which an administrator settles what the payment provider left open."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from falcon import Request

from actors import payment_endings, payment_reviews, state_machine, transitions
from actors.jobs import transaction
from api.http.operation import Operation
from api.http.responses import PageQuery
from api.middleware import authentication
from api.payments.request_schemas import DifferencesQuery, ReviewResolution
from api.payments.response_schemas import (
    ComparedPayment,
    Payment,
    PaymentAttempt,
    PaymentAttemptPage,
    PaymentReview,
    StatementDifference,
    StatementDifferences,
    StatementLine,
)
from api.security.permissions import Permission
from db import payments, psp_attempts, reviews, statements
from db.core import money
from db.core.errors import NotFound
from db.statements import Difference, OurPayment

_DIFFERENCES_LIMIT = 100


class Reviews:
    """The routes of provider calls, reviews and statements."""

    @Operation(Permission.SETTLE_BY_HAND, "Provider calls.")
    def list_payment_attempts(self, _req: Request, payment_id: UUID, query: PageQuery) -> PaymentAttemptPage:
        """List the provider calls of a payment.

        Returns every call of the payment provider about this payment, newest first, and the payment's
        reviews.
        """
        payment = payments.get(payment_id)
        if payment is None:
            raise NotFound(thing="payment")
        page = psp_attempts.page(payment.id, limit=query.limit, after=query.after)
        found = reviews.for_payment(payment.id)
        return PaymentAttemptPage.of(
            page,
            PaymentAttempt.model_validate,
            review="; ".join(review.reason for review in found if review.resolved_at is None) or None,
            reviews=[PaymentReview.model_validate(review) for review in found],
        )

    @Operation(
        Permission.SETTLE_BY_HAND,
        "Reviews resolved.",
        errors=(
            payment_reviews.NothingToReview,
            payment_endings.NotReported,
            state_machine.TransitionRefused,
        ),
        examples={
            "resolveAll": {"reason": "Refunded by the PSP"},
            "resolveNamed": {
                "reason": "Refunded by the PSP",
                "reviewIds": ["019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e"],
            },
            "endPayment": {"reason": "Charged 13.50, the difference was refunded", "outcome": "completed"},
        },
    )
    def resolve_payment_reviews(self, req: Request, payment_id: UUID, body: ReviewResolution) -> Payment:
        """Resolve the reviews of a payment.

        Resolves the reviews in `reviewIds`, or all open ones. A review opens again if its cause persists and
        the payment has not ended. With `outcome` the payment ends with that status. This is possible only for
        a payment that is `processing` while the provider reports a result that does not match the order, such
        as another amount.
        """
        with transaction():
            payment = transitions.locked(payment_id)
            if body.outcome:
                payment = payment_endings.end_by_hand(payment, body.outcome, body.reason)
            payment_reviews.resolve(payment, body.reason, outcome=body.outcome, only=body.review_ids)
        return Payment.for_caller(payment, authentication.caller_of(req))

    @Operation(Permission.SETTLE_BY_HAND, "Statement differences.")
    def list_statement_differences(self, _req: Request, query: DifferencesQuery) -> StatementDifferences:
        """List the differences between a provider statement and the payments."""
        matched = statements.is_matched(query.day)
        found = statements.find_differences(query.day) if matched else []
        listed = found[:_DIFFERENCES_LIMIT]
        ours, lines = statements.payments_of(listed), statements.lines_of(listed)
        return StatementDifferences(
            day=query.day,
            matched=matched,
            count=len(found),
            items=[_side_by_side(one, ours, lines[one.reference]) for one in listed],
        )


def _side_by_side(
    difference: Difference,
    payments_by_id: Mapping[UUID, OurPayment],
    lines: Sequence[statements.StatementLine],
) -> StatementDifference:
    payment = payments_by_id.get(difference.payment_id) if difference.payment_id else None
    ours = payment and ComparedPayment.from_record(
        payment, amount=money.text(payment.amount, payment.currency)
    )
    theirs = [StatementLine.from_record(line, amount=str(line.amount)) for line in lines]
    return StatementDifference.from_record(difference, payment=ours, lines=theirs)
