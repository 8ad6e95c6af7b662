"""What an administrator looks at when a payment does not come to its end by itself."""

from typing import Any
from uuid import UUID

from falcon import Request

from actors import payment_endings, payment_reviews, state_machine, transitions
from actors.jobs import transaction
from api.http.operation import operation
from api.http.pages import page_of_items
from api.middleware import authentication
from api.payments import answers, schemas
from api.security.permissions import Permission
from db import payments, psp_attempts, reviews, statements
from db.core.errors import NotFound

# How many differences are shown: a day that has more of them is another matter.
_SHOWN = 100


class Attempts:
    """GET /payments/:id/attempts"""

    @operation(
        Permission.SETTLE_BY_HAND,
        "Attempts.",
        name="listAttempts",
        query=schemas.AttemptsQuery,
        response=answers.PaymentAttemptPage,
    )
    def on_get(self, _req: Request, payment_id: UUID, query: schemas.AttemptsQuery) -> dict[str, Any]:
        """What the PSP was asked about a payment, newest first, and its reviews."""
        payment = payments.get(payment_id)
        if payment is None:
            raise NotFound(thing="payment")
        page = psp_attempts.page(payment.id, limit=query.limit, after=query.after)
        all = reviews.for_payment(payment.id)
        return {
            "review": "; ".join(it.reason for it in all if it.resolved_at is None) or None,
            "reviews": [schemas.review(it) for it in all],
            **page_of_items(page, schemas.attempt),
        }


class Review:
    """POST /payments/:id/review"""

    @operation(
        Permission.SETTLE_BY_HAND,
        "Reviewed.",
        name="reviewPayment",
        body=schemas.ReviewResolution,
        response=answers.Payment,
        errors=(
            payment_reviews.NothingToReview,
            payment_endings.NotReported,
            state_machine.TransitionRefused,
        ),
        examples={
            "looked": {"reason": "Refunded by the PSP"},
            "seen": {
                "reason": "Refunded by the PSP",
                "reviewIds": ["019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e"],
            },
            "ended": {"reason": "Charged 13.50, the difference was refunded", "outcome": "completed"},
        },
    )
    def on_post(self, req: Request, payment_id: UUID, body: schemas.ReviewResolution) -> dict[str, Any]:
        """Resolves what a person had to look at: the reviews in `reviewIds`, or all that are open.

        It comes back if the payment has not ended and its cause is still there. With an `outcome` the payment
        ends by hand: that is for one that is `processing`, and of which the PSP reports a decision that is
        not the one it was asked for.
        """
        with transaction():
            payment = transitions.locked(payment_id)
            if body.outcome:
                payment = payment_endings.end_by_hand(payment, body.outcome, body.reason)
            payment_reviews.resolve(payment, body.reason, outcome=body.outcome, only=body.review_ids)
        return schemas.payment(payment, authentication.caller_of(req))


class Differences:
    """GET /payments/differences"""

    @operation(
        Permission.SETTLE_BY_HAND,
        "Differences.",
        name="listDifferences",
        query=schemas.DifferencesQuery,
        response=answers.StatementDifferences,
    )
    def on_get(self, _req: Request, query: schemas.DifferencesQuery) -> dict[str, Any]:
        """Where a day's statement of the PSP and the payments disagree."""
        matched = statements.is_matched(query.day)
        found = statements.find_differences(query.day) if matched else []
        return {
            "day": query.day.isoformat(),
            "matched": matched,
            "count": len(found),
            "items": [
                {
                    "reference": it.reference,
                    "paymentId": str(it.payment_id) if it.payment_id else None,
                    "reason": it.reason,
                }
                for it in found[:_SHOWN]
            ],
        }
