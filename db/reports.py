"""What payments add up to, by period, currency and status: one statement, so one consistent snapshot."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from db import postgres

# How long adding up may take, in seconds: longer than what else is asked at the door.
STATEMENT_TIMEOUT_S = 60


class ReportPeriod(StrEnum):
    """What days are put together; a week begins on Monday."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True)
class ReportRow:
    """The payments of one period (by its first day), currency and status; a request count has no period."""

    period: date | None
    currency: str | None
    status: str
    count: int
    amount: Decimal | None


def report_rows(
    since: datetime, until: datetime, period: ReportPeriod, *, payee_id: UUID | None = None
) -> Iterator[ReportRow]:
    """Every sum of the payments, and then of the requests, that were made from `since` on and before `until`;
    those of one payee, or all. Days are days in UTC. As many in memory as the server sends at a time."""
    theirs = "" if payee_id is None else " AND payee_id = %s"
    span = (since, until, *([] if payee_id is None else [payee_id]))
    made = f"FROM payments.payments WHERE created_at >= %s AND created_at < %s{theirs} AND type ="
    rows = postgres.stream(
        f"SELECT date_trunc(%s, created_at, 'UTC')::date AS period, currency, status,"
        f" count(*) AS count, sum(amount) AS amount {made} 'payment' GROUP BY 1, 2, 3"
        f" UNION ALL SELECT NULL, NULL, status, count(*), NULL {made} 'initiate' GROUP BY 3"
        " ORDER BY 1, 2, 3",
        period,
        *span,
        *span,
        seconds=STATEMENT_TIMEOUT_S,
    )
    return (ReportRow(**row) for row in rows)
