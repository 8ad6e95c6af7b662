"""What an administrator looks at when a payment does not come to its end by itself."""

from typing import Any
from uuid import UUID

from falcon import Request

from actors import lifecycle, reviews, steps
from actors import payments as life
from actors.verbs import transaction
from api.gateway import caller
from api.gateway.operation import operation
from api.payments import answers, shapes
from api.policies import Permission
from api.shapes import listed
from db import payments, psp_attempts, statements
from db import reviews as db_reviews
from db.fault import NotFound

# How many differences are shown: a day that has more of them is another matter.
_SHOWN = 100


class Attempts:
    """GET /payments/:id/attempts"""

    @operation(
        Permission.SETTLE_BY_HAND,
        "Attempts.",
        name="listAttempts",
        asks=shapes.AttemptsQuery,
        gives=answers.Attempts,
    )
    def on_get(self, _req: Request, payment_id: UUID, wish: shapes.AttemptsQuery) -> dict[str, Any]:
        """What the PSP was asked about a payment, newest first, and its reviews."""
        payment = payments.get(payment_id)
        if payment is None:
            raise NotFound(thing="payment")
        page = psp_attempts.page(payment.id, limit=wish.limit, after=wish.place)
        all = db_reviews.of(payment.id)
        return {
            "review": "; ".join(it.reason for it in all if it.resolved_at is None) or None,
            "reviews": [shapes.review(it) for it in all],
            **listed(page, shapes.attempt),
        }


class Review:
    """POST /payments/:id/review"""

    @operation(
        Permission.SETTLE_BY_HAND,
        "Reviewed.",
        name="reviewPayment",
        takes=shapes.Reviewed,
        gives=answers.Payment,
        refuses=(reviews.NothingToReview, life.NotReported, lifecycle.Refused),
        examples={
            "looked": {"reason": "Refunded by the PSP"},
            "seen": {
                "reason": "Refunded by the PSP",
                "reviewIds": ["019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e"],
            },
            "ended": {"reason": "Charged 13.50, the difference was refunded", "outcome": "completed"},
        },
    )
    def on_post(self, req: Request, payment_id: UUID, wish: shapes.Reviewed) -> dict[str, Any]:
        """Resolves what a person had to look at: the reviews in `reviewIds`, or all that are open.

        It comes back if the payment has not ended and its cause is still there. With an `outcome` the payment
        ends by hand: that is for one that is `processing`, and of which the PSP reports a decision that is
        not the one it was asked for.
        """
        with transaction():
            payment = steps.locked(payment_id)
            if wish.outcome:
                payment = life.end(payment, wish.outcome, wish.reason)
            reviews.resolve(payment, wish.reason, outcome=wish.outcome, only=wish.review_ids)
        return shapes.payment(payment, caller.of(req))


class Differences:
    """GET /payments/differences"""

    @operation(
        Permission.SETTLE_BY_HAND,
        "Differences.",
        name="listDifferences",
        asks=shapes.DifferencesQuery,
        gives=answers.Differences,
    )
    def on_get(self, _req: Request, wish: shapes.DifferencesQuery) -> dict[str, Any]:
        """Where a day's statement of the PSP and the payments disagree."""
        matched = statements.matched(wish.day)
        found = statements.differences(wish.day) if matched else []
        return {
            "day": wish.day.isoformat(),
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
