"""The routes with which an administrator settles what the payment provider left open."""

import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

from falcon import Request
from pydantic import BeforeValidator, Field

from actors import payment_endings, payment_reviews, state_machine, transitions
from actors.jobs import transaction
from api.http.fields import IdInput, Query, RequestBody, invalid
from api.http.operation import Operation
from api.http.pages import PageQuery, ResponsePage
from api.http.text import Text
from api.middleware import authentication
from api.payments.schemas import Payment
from api.security.permissions import Permission
from db import payments, psp_attempts, reviews, statements
from db.core import money
from db.core.errors import NotFound
from db.core.json_model import Id, JsonModel, Timestamp
from db.psp_attempts import PspOperation, PspResult
from db.reviews import ReviewCause
from db.statements import Difference, OurPayment
from db.states import PaymentStatus

_DIFFERENCES_LIMIT = 100


class ReviewResolution(RequestBody):
    """How the reviews of a payment were resolved, and the `outcome` if the payment has to be ended by hand.

    `reviewIds` are the reviews to resolve, so that a review that you have not seen stays open. Without them
    every open review of the payment is resolved.
    """

    reason: Annotated[Text, Field(min_length=1, max_length=500)]
    outcome: Literal[PaymentStatus.COMPLETED, PaymentStatus.FAILED] | None = None
    review_ids: Annotated[list[IdInput], Field(min_length=1, max_length=reviews.REVIEWS_LIMIT)] | None = None


class PaymentAttempt(JsonModel):
    """One call of the payment provider, or a `notice` that the provider sent by itself.

    `outcome` is null while the call is under way, or if the process died during the call.
    """

    id: Id
    operation: Annotated[PspOperation, Field(examples=[PspOperation.CHARGE])]
    reference: Annotated[str, Field(examples=["019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e"])]
    outcome: Annotated[PspResult | None, Field(examples=[PspResult.CHARGED])]
    code: Annotated[str | None, Field(examples=[None])]
    created_at: Timestamp
    ended_at: Annotated[Timestamp | None, Field(examples=["2026-01-31T09:30:00.125Z"])]


class PaymentReview(JsonModel):
    """Why an administrator has to look at a payment.

    The review is open while `resolvedAt` is null. `resolvedBy` is null where the cause was disproved without
    an administrator.
    """

    id: Id
    cause: Annotated[ReviewCause, Field(examples=[ReviewCause.PSP_SILENT])]
    reason: Annotated[str, Field(examples=["the PSP does not answer"])]
    opened_at: Timestamp
    resolved_at: Annotated[Timestamp | None, Field(examples=[None])]
    resolved_by: Annotated[Id | None, Field(examples=[None])]
    resolution: Annotated[str | None, Field(examples=[None])]


class PaymentAttemptPage(ResponsePage[PaymentAttempt]):
    """One page of calls, newest first.

    `review` says why an administrator has to look at the payment now; `reviews` are all its reviews, oldest
    first.
    """

    review: Annotated[str | None, Field(examples=["the PSP does not answer"])]
    reviews: Annotated[list[PaymentReview], Field(max_length=100)]


def _day(value: Any) -> Any:
    if not (isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value)):
        raise invalid("must be a day such as 2026-01-31")
    return value


class DifferencesQuery(Query):
    """The day of the statement."""

    day: Annotated[date, BeforeValidator(_day), Field(examples=["2026-01-31"])]


class StatementLine(JsonModel):
    """A line of a provider's statement. `amount` is as the provider sent it."""

    day: Annotated[date, Field(examples=["2026-01-31"])]
    outcome: Annotated[str, Field(examples=["charged"])]
    amount: Annotated[str, Field(examples=["12.50"])]
    currency: Annotated[str, Field(examples=["EUR"])]
    booked_at: Timestamp


class ComparedPayment(JsonModel):
    """A payment as it is now, beside a provider's statement. `needsReview` tells whether a review is open."""

    status: PaymentStatus
    amount: Annotated[str, Field(examples=["12.50"])]
    currency: Annotated[str, Field(examples=["EUR"])]
    updated_at: Timestamp
    needs_review: bool


class StatementDifference(JsonModel):
    """One disagreement between the provider's statement and the payments.

    `payment` is our side, null if there is no such payment. `lines` are the provider's, from statements of
    any day; without any, the statement does not have the payment.
    """

    reference: Annotated[str, Field(examples=["019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e"])]
    payment_id: Annotated[Id | None, Field(examples=["019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e"])]
    reason: Annotated[str, Field(examples=["charged, but the payment is failed"])]
    payment: ComparedPayment | None
    lines: list[StatementLine]


class StatementDifferences(JsonModel):
    """The differences between a day's statement of the provider and the payments as they are now.

    `matched` is false until the statement has been fetched; `items` are the first hundred of `count`
    differences.
    """

    day: Annotated[date, Field(examples=["2026-01-31"])]
    matched: bool
    count: Annotated[int, Field(ge=0, examples=[1])]
    items: Annotated[list[StatementDifference], Field(max_length=100)]


@Operation(Permission.SETTLE_BY_HAND, "Provider calls.")
def list_payment_attempts(_req: Request, payment_id: UUID, query: PageQuery) -> PaymentAttemptPage:
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
    errors=(payment_reviews.NothingToReview, payment_endings.NotReported, state_machine.TransitionRefused),
    examples={
        "resolveAll": {"reason": "Refunded by the PSP"},
        "resolveNamed": {
            "reason": "Refunded by the PSP",
            "reviewIds": ["019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e"],
        },
        "endPayment": {"reason": "Charged 13.50, the difference was refunded", "outcome": "completed"},
    },
)
def resolve_payment_reviews(req: Request, payment_id: UUID, body: ReviewResolution) -> Payment:
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
def list_statement_differences(_req: Request, query: DifferencesQuery) -> StatementDifferences:
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
