"""GET /payments/reports: what payments add up to, as JSON or as a file for a spreadsheet."""

import csv
import io
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import IO, Any, cast

from falcon import Request

from api.http.admission import Seats
from api.http.errors import ValidationFailed
from api.http.operation import Download, operation
from api.middleware import authentication
from api.payments import answers, schemas
from api.security.permissions import Permission
from db import reports
from db.core import money, times
from db.reports import ReportRow
from db.states import PaymentStatus
from db.users import Role

_CSV = "text/csv"
_COLUMNS = ("period", "currency", "status", "count", "amount")
# Reports that one process makes at once.
_seats = Seats(2)
# How much of a file is kept in memory before it goes to the disk, in bytes.
_IN_MEMORY = 1024 * 1024


class Reports:
    """GET /payments/reports"""

    @operation(
        Permission.SEE_REPORTS,
        "Report.",
        name="getReport",
        query=schemas.ReportQuery,
        response=answers.Report,
        downloads=_CSV,
    )
    def on_get(self, req: Request, query: schemas.ReportQuery) -> dict[str, Any] | Download:
        """Payments by period, currency and status, the last thirty days unless told otherwise.

        A vendor's are those against their own requests. `format=csv`, or `Accept: text/csv`, downloads the
        series as a file.
        """
        who = authentication.caller_of(req)
        since, until = query.span(times.now())
        if since >= until:
            raise ValidationFailed({"fields": [{"field": "to", "message": "must be later than `from`"}]})
        payee_id = None if who.role is Role.ADMIN else who.user_id
        with _seats.one(req):
            sums = reports.report_rows(since, until, query.group_by, payee_id=payee_id)
            if _wants_csv(req, query):
                return _download(sums, f"payments-{since:%Y-%m-%d}-{until:%Y-%m-%d}.csv")
            added_up = _added_up(sums)
        return {
            "from": times.iso(since),
            "to": times.iso(until),
            "groupBy": query.group_by,
            **added_up,
        }


def _wants_csv(req: Request, body: schemas.ReportQuery) -> bool:
    if body.format:
        return body.format == "csv"
    return req.client_prefers(("application/json", _CSV)) == _CSV


def _point(it: ReportRow) -> dict[str, Any]:
    assert it.period, "a sum of payments has a period"
    assert it.currency, "and a currency"
    assert it.amount is not None, "and an amount"
    amount = money.text(it.amount, it.currency)
    values = (it.period.isoformat(), it.currency, it.status, it.count, amount)
    return dict(zip(_COLUMNS, values, strict=True))


def _added_up(sums: Iterator[ReportRow]) -> dict[str, Any]:
    series, requests = [], {}
    totals: dict[str, dict[str, tuple[int, Decimal]]] = defaultdict(dict)
    for it in sums:
        if it.currency is None or it.amount is None:
            requests[it.status] = it.count
            continue
        series.append(_point(it))
        count, amount = totals[it.currency].get(it.status, (0, Decimal(0)))
        totals[it.currency][it.status] = (count + it.count, amount + it.amount)
    return {
        "totals": [_total(currency, by_status) for currency, by_status in sorted(totals.items())],
        "series": series,
        "requests": requests,
    }


def _total(currency: str, by_status: dict[str, tuple[int, Decimal]]) -> dict[str, Any]:
    completed, failed = (
        by_status.get(it, (0, 0))[0] for it in (PaymentStatus.COMPLETED, PaymentStatus.FAILED)
    )
    decided = completed + failed
    counts, amounts = zip(*by_status.values(), strict=True)
    return {
        "currency": currency,
        "count": sum(counts),
        "amount": money.text(sum(amounts, Decimal(0)), currency),
        "byStatus": {
            status: {"count": count, "amount": money.text(amount, currency)}
            for status, (count, amount) in by_status.items()
        },
        "successRate": completed / decided if decided else None,
    }


def _download(sums: Iterator[ReportRow], name: str) -> Download:
    """Written to its end before a byte is sent: a slow client holds no connection, and an error is an error.

    Every cell is a day, a code, a word of ours or a number without a sign: a spreadsheet takes none for a
    formula.
    """
    file = cast(IO[bytes], tempfile.SpooledTemporaryFile(_IN_MEMORY))  # noqa: SIM115
    try:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        rows = csv.writer(text)
        rows.writerow(_COLUMNS)
        rows.writerows(_point(it).values() for it in sums if it.currency)
        text.detach()
    except BaseException:
        file.close()
        raise
    length = file.tell()
    file.seek(0)
    return Download(file, length, _CSV, name)
