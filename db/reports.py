"""Reports: sums of payments by period, currency and status, all from one snapshot."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from db import postgres
from db.daily_totals import TOTALS_CTE

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


REPORT = f"""
    {TOTALS_CTE}
    SELECT date_trunc(%(period)s, day)::date AS period, currency, status,
        sum(count)::bigint AS count, sum(amount) AS amount
    FROM totals WHERE type = 'payment' GROUP BY 1, 2, 3
    UNION ALL
    SELECT NULL, NULL, status, sum(count)::bigint, NULL FROM totals WHERE type = 'initiate' GROUP BY status
    ORDER BY 1, 2, 3
"""


def report_rows(
    since: datetime, until: datetime, period: ReportPeriod, *, payee_id: UUID | None = None
) -> Iterator[ReportRow]:
    """Yields the sums of payments, then those of requests, created from `since` on and before `until`.

    With `payee_id`, only those of this payee. Days are days in UTC. Rows are fetched a thousand at a time.
    """
    rows = postgres.stream(
        REPORT, period=period, since=since, until=until, payee_id=payee_id, seconds=STATEMENT_TIMEOUT_S
    )
    return (ReportRow(**row) for row in rows)
