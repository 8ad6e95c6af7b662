"""What the payments routes give."""

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Field

from actors.state_machine import Transition
from api.http.fields import Currency
from api.http.pages import Pagination
from api.http.responses import ResponseModel
from db.core.json_model import Id, Timestamp
from db.psp_attempts import PspOperation, PspResult
from db.reports import ReportPeriod
from db.reviews import ReviewCause
from db.states import PaymentStatus, PaymentType

Money = Annotated[str, Field(pattern=r"^[0-9]{1,8}(\.[0-9]{2})?$", examples=["12.50"])]
Sum = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]{2})?$", examples=["150.00"])]


class PaymentFailure(ResponseModel):
    """Why the money did not move."""

    code: Annotated[str, Field(examples=["insufficient_funds"])]
    message: Annotated[str, Field(examples=["The payment was declined: insufficient funds."])]


class Payment(ResponseModel):
    """A payment, or a request for one. `version` is its `ETag`.

    `allowedActions` is what this caller may do with it now. The configuration and the state of the vendor's
    account can change it without a new version.
    """

    id: Id
    user_id: Id
    type: Annotated[PaymentType, Field(examples=[PaymentType.PAYMENT])]
    status: PaymentStatus
    amount: Money
    currency: Currency
    description: Annotated[str | None, Field(examples=["Lunch"])]
    metadata: Annotated[dict[str, Any], Field(examples=[{"table": 4}])]
    request_id: Annotated[Id | None, Field(examples=[None])]
    customer_email: Annotated[str | None, Field(examples=[None])]
    failure: Annotated[PaymentFailure | None, Field(examples=[None])]
    allowed_actions: Annotated[list[Literal["pay", "update", "cancel", "fail"]], Field(examples=[[]])]
    version: Annotated[int, Field(ge=1, examples=[1])]
    created_at: Timestamp
    updated_at: Timestamp


class PaymentTransaction(ResponseModel):
    """One change of a payment's status; `metadata.from` is where it came from, null at its creation."""

    id: Id
    payment_id: Id
    transaction_type: Annotated[Transition, Field(examples=[Transition.COMPLETE])]
    amount: Money
    currency: Currency
    status: Annotated[PaymentStatus, Field(examples=[PaymentStatus.COMPLETED])]
    metadata: Annotated[dict[str, Any], Field(examples=[{"from": "processing", "reason": None}])]
    created_at: Timestamp


class PaymentTransactionPage(ResponseModel):
    """One page of changes, newest first."""

    items: list[PaymentTransaction]
    pagination: Pagination


class PaymentCount(ResponseModel):
    """How many payments, and how much money in all of them."""

    count: Annotated[int, Field(ge=0, examples=[12])]
    amount: Sum


class CurrencyTotal(PaymentCount):
    """All payments in one currency. `successRate` is completed of completed and failed; null without any."""

    currency: Currency
    by_status: Annotated[
        dict[PaymentStatus, PaymentCount], Field(examples=[{"completed": {"count": 12, "amount": "150.00"}}])
    ]
    success_rate: Annotated[float | None, Field(ge=0, le=1, examples=[1.0])]


class ReportEntry(PaymentCount):
    """The payments of one period, currency and status; `period` is its first day, weeks begin on Monday."""

    period: Annotated[date, Field(examples=["2026-01-31"])]
    currency: Currency
    status: Annotated[PaymentStatus, Field(examples=[PaymentStatus.COMPLETED])]


class Report(ResponseModel):
    """Each `payment` once, by its creation; `requests` counts payment requests. Currencies are never added
    together."""

    from_: Annotated[Timestamp, Field(serialization_alias="from")]
    to: Timestamp
    group_by: ReportPeriod
    totals: list[CurrencyTotal]
    series: list[ReportEntry]
    requests: Annotated[dict[PaymentStatus, int], Field(examples=[{"initiated": 3}])]


class PaymentAttempt(ResponseModel):
    """One call of the PSP, or a `notice`: what it said unasked. `outcome` is null as long as a call is under
    way, or if the process died over it."""

    id: Id
    operation: Annotated[PspOperation, Field(examples=[PspOperation.CHARGE])]
    reference: Annotated[str, Field(examples=["019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e"])]
    outcome: Annotated[PspResult | None, Field(examples=[PspResult.CHARGED])]
    code: Annotated[str | None, Field(examples=[None])]
    created_at: Timestamp
    ended_at: Annotated[Timestamp | None, Field(examples=["2026-01-31T09:30:00.125Z"])]


class PaymentReview(ResponseModel):
    """Why a person has to look at a payment. Open as long as `resolvedAt` is null; `resolvedBy` is null where
    the cause was disproved and nobody had to look."""

    id: Id
    cause: Annotated[ReviewCause, Field(examples=[ReviewCause.PSP_SILENT])]
    reason: Annotated[str, Field(examples=["the PSP does not answer"])]
    opened_at: Timestamp
    resolved_at: Annotated[Timestamp | None, Field(examples=[None])]
    resolved_by: Annotated[Id | None, Field(examples=[None])]
    resolution: Annotated[str | None, Field(examples=[None])]


class PaymentAttemptPage(ResponseModel):
    """One page of calls, newest first; `review` is why a person has to look at the payment now, `reviews` are
    all its reviews, oldest first."""

    review: Annotated[str | None, Field(examples=["the PSP does not answer"])]
    reviews: Annotated[list[PaymentReview], Field(max_length=100)]
    items: list[PaymentAttempt]
    pagination: Pagination


class StatementDifference(ResponseModel):
    """Where the PSP's statement and the payments disagree."""

    reference: Annotated[str, Field(examples=["019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e"])]
    payment_id: Annotated[Id | None, Field(examples=["019b2c5e-7d4a-7c31-9a56-0f6d0c3a1b2e"])]
    reason: Annotated[str, Field(examples=["charged, but the payment is failed"])]


class StatementDifferences(ResponseModel):
    """A day's statement against the payments as they are now; `matched` is false until it was fetched.
    `items` are the first hundred of `count`."""

    day: Annotated[date, Field(examples=["2026-01-31"])]
    matched: bool
    count: Annotated[int, Field(ge=0, examples=[1])]
    items: Annotated[list[StatementDifference], Field(max_length=100)]


class PaymentPage(ResponseModel):
    """One page of payments, newest first."""

    items: list[Payment]
    pagination: Pagination
