"""GET /payments/reports: payments by period, currency and status, as JSON or as CSV."""

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from threading import BoundedSemaphore
from typing import Annotated, Literal, Self

from falcon import Request
from pydantic import Field

from api.http.admission import slot
from api.http.body import ValidationFailed
from api.http.fields import Currency, Query, TimestampInput
from api.http.operation import Download, Operation, download_file
from api.middleware import authentication
from api.security.permissions import Permission
from db import reports
from db.core import money, times
from db.core.json_model import JsonModel, Timestamp
from db.reports import ReportPeriod, ReportRow
from db.states import PaymentStatus
from db.users import Role

_CSV = "text/csv"
_CSV_COLUMNS = ("period", "currency", "status", "count", "amount")
# Reports that one process makes at once.
_slots = BoundedSemaphore(2)

# A sum may have more digits than one amount.
MoneySum = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]{2})?$", examples=["150.00"])]


class ReportQuery(Query):
    """The payments that a report counts, by their creation, and how it groups them."""

    from_: TimestampInput | None = Field(None, alias="from")
    to: TimestampInput | None = None
    group_by: ReportPeriod = ReportPeriod.DAY
    format: Literal["json", "csv"] | None = None

    def span(self, now: datetime) -> tuple[datetime, datetime]:
        """Returns the start (included) and the end (excluded) of the report; by default the last 30 days."""
        to = self.to or now
        try:
            return self.from_ or to - timedelta(days=30), to
        except OverflowError:
            return datetime.min.replace(tzinfo=UTC), to


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
    def of(cls, row: ReportRow) -> Self:
        """Returns the entry for a row that counts payments, which has a period, a currency and an amount."""
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


@Operation(Permission.SEE_REPORTS, "Report.", response=Report, downloads=_CSV)
def get_payment_report(req: Request, query: ReportQuery) -> Report | Download:
    """Get a report of payments.

    Counts the payments by period, currency and status; by default those of the last 30 days. Vendors see
    the payments of their own payment requests. `format=csv`, or `Accept: text/csv`, downloads `series` as
    a file.
    """
    caller = authentication.caller_of(req)
    since, until = query.span(times.now())
    if since >= until:
        raise ValidationFailed.of("to", "must be later than `from`")
    payee_id = None if caller.role is Role.ADMIN else caller.user_id
    with slot(_slots):
        rows = reports.report_rows(since, until, query.group_by, payee_id=payee_id)
        if _wants_csv(req, query):
            return _download(rows, f"payments-{since:%Y-%m-%d}-{until:%Y-%m-%d}.csv")
        return _report(rows, query, since, until)


def _wants_csv(req: Request, query: ReportQuery) -> bool:
    if query.format:
        return query.format == "csv"
    return req.client_prefers(("application/json", _CSV)) == _CSV


def _report(rows: Iterator[ReportRow], query: ReportQuery, since: datetime, until: datetime) -> Report:
    payments_by_currency: dict[str, list[ReportRow]] = defaultdict(list)
    series: list[ReportEntry] = []
    requests: dict[PaymentStatus, int] = {}
    for row in rows:
        if row.currency is None:
            requests[PaymentStatus(row.status)] = row.count
        else:
            series.append(ReportEntry.of(row))
            payments_by_currency[row.currency].append(row)
    return Report(
        from_=since,
        to=until,
        group_by=query.group_by,
        totals=[_total(currency, found) for currency, found in sorted(payments_by_currency.items())],
        series=series,
        requests=requests,
    )


def _total(currency: str, rows: list[ReportRow]) -> CurrencyTotal:
    counts: Counter[PaymentStatus] = Counter()
    amounts: dict[PaymentStatus, Decimal] = defaultdict(Decimal)
    for row in rows:
        counts[PaymentStatus(row.status)] += row.count
        amounts[PaymentStatus(row.status)] += row.amount or 0
    completed = counts[PaymentStatus.COMPLETED]
    ended = completed + counts[PaymentStatus.FAILED]
    return CurrencyTotal(
        currency=currency,
        count=counts.total(),
        amount=money.text(sum(amounts.values(), Decimal(0)), currency),
        by_status={
            status: PaymentCount(count=count, amount=money.text(amounts[status], currency))
            for status, count in counts.items()
        },
        success_rate=completed / ended if ended else None,
    )


def _download(rows: Iterator[ReportRow], name: str) -> Download:
    """Writes a CSV file.

    No cell can be taken for a formula: all are days, codes, statuses or unsigned numbers.
    """
    with download_file() as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text)
        writer.writerow(_CSV_COLUMNS)
        entries = (ReportEntry.of(row) for row in rows if row.currency)
        writer.writerows([getattr(entry, column) for column in _CSV_COLUMNS] for entry in entries)
        text.detach()
    return Download(file, _CSV, name)
