"""Reports: sums of payments by period, currency and status, all from one snapshot."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from db import postgres

# Summing up the payments of a long period takes longer than other requests.
STATEMENT_TIMEOUT_S = 60


class ReportPeriod(StrEnum):
    """The periods of a report; a week begins on Monday."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True)
class ReportRow:
    """The sum of one period (its first day), currency and status. Counts of requests have no period."""

    period: date | None
    currency: str | None
    status: str
    count: int
    amount: Decimal | None


REPORT = """
    SELECT date_trunc(%(period)s, created_at, 'UTC')::date AS period, currency, status,
        count(*) AS count, sum(amount) AS amount
    FROM payments.payments
    WHERE created_at >= %(since)s AND created_at < %(until)s AND type = 'payment'
    GROUP BY 1, 2, 3
    UNION ALL
    SELECT NULL, NULL, status, count(*), NULL
    FROM payments.payments
    WHERE created_at >= %(since)s AND created_at < %(until)s AND type = 'initiate'
    GROUP BY 3
    ORDER BY 1, 2, 3
"""
REPORT_OF_PAYEE = REPORT.replace(" AND type =", " AND payee_id = %(payee_id)s AND type =")


def report_rows(
    since: datetime, until: datetime, period: ReportPeriod, *, payee_id: UUID | None = None
) -> Iterator[ReportRow]:
    """Yields the sums of payments, then those of requests, created from `since` on and before `until`.

    With `payee_id`, only those of this payee. Days are days in UTC. Rows are fetched a thousand at a time.
    """
    rows = postgres.stream(
        REPORT if payee_id is None else REPORT_OF_PAYEE,
        period=period,
        since=since,
        until=until,
        payee_id=payee_id,
        seconds=STATEMENT_TIMEOUT_S,
    )
    return (ReportRow(**row) for row in rows)
