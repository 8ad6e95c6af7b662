"""Reports are one statement, and need memory for one batch of rows."""

import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from db import postgres, reports
from db.core import money
from db.reports import ReportPeriod, ReportRow
from db.users import Role
from tests import makers

DAY = datetime(2026, 2, 5, tzinfo=UTC)
YEARS = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC))
MIB = 1024 * 1024


@pytest.mark.usefixtures("database")
def test_a_long_report_needs_little_memory():
    days, currencies = 140, sorted(money.CURRENCIES)[:150]
    postgres.set_statement_timeout(60)
    payer = makers.user().id
    with makers.triggers_disabled():
        postgres.rows(
            "INSERT INTO payments.payments (user_id, type, status, amount, currency, created_at)"
            " SELECT %s, 'payment', 'completed', 2, currency, %s + day * interval '1 day'"
            " FROM generate_series(0, %s - 1) AS day, unnest(%s::text[]) AS currency",
            payer,
            DAY - timedelta(days=days),
            days,
            currencies,
        )
    count, amount = 0, Decimal(0)
    tracemalloc.start()
    try:
        for row in reports.report_rows(*YEARS, ReportPeriod.DAY):
            count += 1
            amount += row.amount or 0
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == days * len(currencies) > 20_000
    assert amount == count * 2
    assert peak < 4 * MIB


@pytest.mark.usefixtures("database")
def test_a_report_is_one_snapshot():
    customer, vendor = makers.user(), makers.user(Role.VENDOR)

    def add() -> None:
        columns = {"amount": 1, "status": "completed", "created_at": DAY}
        makers.payment_row(user_id=customer.id, payee_id=vendor.id, type="payment", **columns)
        makers.payment_row(user_id=vendor.id, payee_id=vendor.id, type="initiate", **columns)

    def counts(rows: Iterator[ReportRow]) -> Iterator[tuple[str, int]]:
        return (("request" if row.period is None else "payment", row.count) for row in rows)

    add()
    for payee_id in (None, vendor.id):
        before = list(counts(reports.report_rows(*YEARS, ReportPeriod.DAY, payee_id=payee_id)))
        reading = counts(reports.report_rows(*YEARS, ReportPeriod.DAY, payee_id=payee_id))
        first = next(reading)
        add()
        assert [first, *reading] == before
    assert list(counts(reports.report_rows(*YEARS, ReportPeriod.DAY))) == [("payment", 3), ("request", 3)]


def test_a_report_has_a_longer_statement_timeout_than_other_queries(stores):
    def timeout() -> str:
        return str(postgres.rows("SHOW statement_timeout")[0]["statement_timeout"])

    with postgres.connection():
        default = timeout()
        rows = postgres.stream("SELECT 1 AS one", seconds=60)
        assert next(rows) == {"one": 1}
        assert (default, timeout()) == ("5s", "1min")
        assert list(rows) == []
        assert timeout() == default
