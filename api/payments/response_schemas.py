"""What the routes of payments respond with."""

from datetime import date
from typing import Annotated, Any, Self

from pydantic import Field

from actors import snapshots
from actors.snapshots import Money
from actors.state_machine import Transition
from api.http.fields import Currency
from api.http.responses import ResponsePage
from api.payments import visibility
from api.payments.visibility import AllowedAction
from api.security.permissions import Caller
from db import payments, reports
from db.core import money
from db.core.json_model import Id, JsonModel, Timestamp
from db.psp_attempts import PspOperation, PspResult
from db.reports import ReportPeriod
from db.reviews import ReviewCause
from db.shown_payments import ShownPayment
from db.states import PaymentStatus

# A sum may have more digits than one amount.
MoneySum = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]{2})?$", examples=["150.00"])]


class Payment(snapshots.Payment):
    """A payment or a payment request.

    `version` is its `ETag`. `allowedActions` is what you may do with it now. The configuration and the state
    of the vendor's account can change it without a new version.
    """

    currency: Currency
    allowed_actions: Annotated[list[AllowedAction], Field(examples=[[]])]

    @classmethod
    def for_caller(cls, record: payments.Payment | ShownPayment, caller: Caller) -> Self:
        """The payment, with what this caller may do with it now."""
        return cls.of(record, allowed_actions=visibility.allowed_actions(record, caller))


class PaymentPage(ResponsePage[Payment]):
    """One page of payments, newest first."""


class PaymentTransaction(JsonModel):
    """One change of a payment's status.

    `metadata.from` is the status before the change, null at the creation.
    """

    id: Id
    payment_id: Id
    transaction_type: Annotated[Transition, Field(examples=[Transition.COMPLETE])]
    amount: Money
    currency: Currency
    status: Annotated[PaymentStatus, Field(examples=[PaymentStatus.COMPLETED])]
    metadata: Annotated[dict[str, Any], Field(examples=[{"from": "processing", "reason": None}])]
    created_at: Timestamp

    @classmethod
    def of(cls, record: payments.PaymentTransaction) -> Self:
        """The response for a record."""
        amount = money.text(record.amount, record.currency)
        metadata = {"from": record.from_status, "reason": record.reason}
        return cls.from_record(record, amount=amount, metadata=metadata)


class PaymentTransactionPage(ResponsePage[PaymentTransaction]):
    """One page of transactions, newest first."""


class PaymentCount(JsonModel):
    """How many payments there are, and their total amount."""

    count: Annotated[int, Field(ge=0, examples=[12])]
    amount: MoneySum


class CurrencyTotal(PaymentCount):
    """All payments in one currency.

    `successRate` is the share of the completed among the completed and failed ones; null where there are
    none.
    """

    currency: Currency
    by_status: Annotated[
        dict[PaymentStatus, PaymentCount], Field(examples=[{"completed": {"count": 12, "amount": "150.00"}}])
    ]
    success_rate: Annotated[float | None, Field(ge=0, le=1, examples=[1.0])]


class ReportEntry(PaymentCount):
    """The payments of one period, currency and status. `period` is its first day; weeks begin on Monday."""

    period: Annotated[date, Field(examples=["2026-01-31"])]
    currency: Currency
    status: Annotated[PaymentStatus, Field(examples=[PaymentStatus.COMPLETED])]

    @classmethod
    def of(cls, row: reports.ReportRow) -> Self:
        """The entry of a row that counts payments: it has a period, a currency and an amount."""
        assert row.currency, "a row of payments has a currency"
        assert row.amount is not None, "a row of payments has an amount"
        return cls.from_record(row, amount=money.text(row.amount, row.currency))


class Report(JsonModel):
    """Payments by period, currency and status.

    Each `payment` counts once, by its creation; `requests` counts payment requests. Amounts of different
    currencies are never added together.
    """

    from_: Annotated[Timestamp, Field(serialization_alias="from")]
    to: Timestamp
    group_by: ReportPeriod
    totals: list[CurrencyTotal]
    series: list[ReportEntry]
    requests: Annotated[dict[PaymentStatus, int], Field(examples=[{"initiated": 3}])]


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
