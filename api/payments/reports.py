"""GET /payments/reports: payments by period, currency and status, as JSON or as CSV."""

import csv
import io
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from threading import BoundedSemaphore
from typing import IO, cast

from falcon import Request

from api.http.admission import seat
from api.http.body import ValidationFailed
from api.http.operation import Download, Operation
from api.middleware import authentication
from api.payments.request_schemas import ReportQuery
from api.payments.response_schemas import CurrencyTotal, PaymentCount, Report, ReportEntry
from api.security.permissions import Permission
from db import reports
from db.core import money, times
from db.reports import ReportRow
from db.states import PaymentStatus
from db.users import Role

_CSV = "text/csv"
_CSV_COLUMNS = ("period", "currency", "status", "count", "amount")
# Reports that one process makes at once.
_seats = BoundedSemaphore(2)
# How much of a CSV file stays in memory before it goes to the disk, in bytes.
_CSV_MEMORY_LIMIT = 1024 * 1024


class Reports:
    """The route of the report."""

    @Operation(Permission.SEE_REPORTS, "Report.", response=Report, downloads=_CSV)
    def get_payment_report(self, req: Request, query: ReportQuery) -> Report | Download:
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
        with seat(_seats):
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
    """Writes the whole CSV file before a byte is sent.

    So a slow client holds no database connection, and a failure becomes an error response.

    Every cell is a day, a code, a status or an unsigned number, so no spreadsheet takes one for a formula.
    """
    file = cast(IO[bytes], tempfile.SpooledTemporaryFile(_CSV_MEMORY_LIMIT))  # noqa: SIM115
    try:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text)
        writer.writerow(_CSV_COLUMNS)
        entries = (ReportEntry.of(row) for row in rows if row.currency)
        writer.writerows([getattr(entry, column) for column in _CSV_COLUMNS] for entry in entries)
        text.detach()
    except BaseException:
        file.close()
        raise
    length = file.tell()
    file.seek(0)
    return Download(file, length, _CSV, name)
