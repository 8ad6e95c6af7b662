"""Reports and analytics are exact at any moment, whichever days are stored."""

from datetime import UTC, datetime, timedelta

import pytest

from db import postgres, reports
from db.core import times
from db.reports import ReportPeriod, ReportRow
from db.states import PaymentStatus
from db.users import Role
from tests import makers

DAY = datetime(2026, 2, 5, tzinfo=UTC)
YEARS = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC))
PARTS_OF_DAYS = (DAY + timedelta(hours=7), DAY + timedelta(days=2, hours=9))


@pytest.fixture
def vendor(database):
    return makers.user(Role.VENDOR).id


def add(vendor, *, hours: int, status: PaymentStatus, type: str = "payment", currency: str = "USD"):
    at = {"created_at": DAY + timedelta(hours=hours), "updated_at": DAY + timedelta(hours=hours)}
    columns = {"amount": hours + 1, "status": status, "type": type, "currency": currency}
    payer = vendor if type == "initiate" else makers.user().id
    return makers.payment_row(user_id=payer, payee_id=None if hours % 5 == 4 else vendor, **columns, **at)


def all_figures(vendor) -> list[list[ReportRow]]:
    return [
        list(reports.report_rows(*span, period, payee_id=payee))
        for span in (YEARS, PARTS_OF_DAYS)
        for period in ReportPeriod
        for payee in (None, vendor)
    ]


def test_stored_days_change_no_report(vendor):
    ends = (PaymentStatus.COMPLETED, PaymentStatus.FAILED, PaymentStatus.CANCELLED)
    for hours in range(0, 72, 3):
        add(vendor, hours=hours, status=ends[hours % 2], currency=("USD", "EUR")[hours % 4 == 0])
        add(vendor, hours=hours, status=ends[hours % 3], type="initiate")
    before, totals = all_figures(vendor), reports.analytics(times.now())
    assert reports.close_days(4) == 4
    assert all_figures(vendor) == before
    while reports.close_days(100):
        pass
    assert all_figures(vendor) == before
    assert reports.analytics(times.now()) == totals
    add(vendor, hours=24 * 40_000, status=PaymentStatus.COMPLETED)
    assert all_figures(vendor) == before


@pytest.mark.parametrize(
    ("type", "status"),
    [("payment", "pending"), ("payment", "processing"), ("initiate", "pending"), ("initiate", "initiated")],
)
def test_a_day_is_stored_when_its_last_payment_has_ended(vendor, type, status):
    opened = add(vendor, hours=1, status=PaymentStatus(status), type=type)
    add(vendor, hours=2, status=PaymentStatus.COMPLETED, type=type)
    reports.close_days(1000)

    def stored() -> set[str]:
        return {
            row["type"] for row in postgres.rows("SELECT type FROM payments.closed_days WHERE day = %s", DAY)
        }

    assert stored() == {"payment", "initiate"} - {type}
    with makers.triggers_disabled():
        postgres.rows("UPDATE payments.payments SET status = 'cancelled' WHERE id = %s", opened.id)
    before = all_figures(vendor)
    assert reports.close_days(1000) == 1
    assert stored() == {"payment", "initiate"}
    assert all_figures(vendor) == before


def test_today_is_not_stored(vendor):
    add(vendor, hours=0, status=PaymentStatus.COMPLETED)
    postgres.rows("UPDATE payments.payments SET created_at = now()")
    assert reports.close_days(10) == 0
