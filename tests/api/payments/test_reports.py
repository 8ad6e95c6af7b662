"""GET /payments/reports: totals and series, as JSON or as CSV."""

import csv
import gc
import io
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from db import postgres
from db.core import times
from db.users import Role
from tests import makers
from tests.makers import Visitor, error, visitor, work

# A Thursday; the week began on Monday the 26th, in the month before.
DAY = datetime(2026, 2, 5, tzinfo=UTC)
YEAR = "from=2026-01-01T00:00:00Z&to=2027-01-01T00:00:00Z"
COLUMNS = ["period", "currency", "status", "count", "amount"]
CELLS = (r"\d{4}-\d{2}-\d{2}", r"[A-Z]{3}", r"[a-z]+", r"[1-9]\d*", r"\d+(\.\d\d)?")


@pytest.fixture
def people(client) -> SimpleNamespace:
    """Two vendors, a customer, an administrator."""
    roles = {"vendor": Role.VENDOR, "other": Role.VENDOR, "customer": Role.CUSTOMER, "admin": Role.ADMIN}
    return SimpleNamespace(**{name: visitor(client, role) for name, role in roles.items()})


def id_of(caller: Visitor) -> UUID:
    return UUID(caller.user["id"])


def paid(
    people: SimpleNamespace,
    amount: str,
    currency: str = "USD",
    *,
    to: Visitor | None = None,
    status: str = "completed",
    at: datetime = DAY,
) -> None:
    """A payment of the customer, created at this time, in this status."""
    columns = {"user_id": id_of(people.customer), "payee_id": id_of(to) if to else None}
    makers.payment_row(
        **columns, type="payment", amount=Decimal(amount), currency=currency, status=status, created_at=at
    )


def request_of(vendor: Visitor, status: str, *, at: datetime = DAY) -> None:
    """A payment request of the vendor, created at this time, in this status."""
    columns = {"user_id": id_of(vendor), "payee_id": id_of(vendor)}
    makers.payment_row(**columns, type="initiate", amount=80, status=status, created_at=at)


def report(caller: Visitor, query: str = YEAR) -> dict[str, Any]:
    result = caller.get(f"/payments/reports?{query}")
    assert result.status_code == 200, result.text
    data: dict[str, Any] = result.json["data"]
    return data


def series(data: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [tuple(point[column] for column in COLUMNS) for point in data["series"]]


def table(result) -> list[list[str]]:
    assert result.status_code == 200, result.text
    return list(csv.reader(io.StringIO(result.content.decode(), newline="")))


# --- totals, series ------------------------------------------------------------------------------------


def test_totals_are_by_currency_with_status(people):
    paid(people, "10.50")
    paid(people, "0.01")
    paid(people, "7", status="failed")
    paid(people, "3", status="pending")
    paid(people, "500", "JPY")
    paid(people, "1.10", "EUR", status="cancelled")
    assert report(people.admin)["totals"] == [
        {
            "currency": "EUR",
            "count": 1,
            "amount": "1.10",
            "byStatus": {"cancelled": {"count": 1, "amount": "1.10"}},
            "successRate": None,
        },
        {
            "currency": "JPY",
            "count": 1,
            "amount": "500",
            "byStatus": {"completed": {"count": 1, "amount": "500"}},
            "successRate": 1,
        },
        {
            "currency": "USD",
            "count": 4,
            "amount": "20.51",
            "byStatus": {
                "completed": {"count": 2, "amount": "10.51"},
                "failed": {"count": 1, "amount": "7.00"},
                "pending": {"count": 1, "amount": "3.00"},
            },
            "successRate": pytest.approx(2 / 3),
        },
    ]


def test_payment_requests_are_counted_apart(people):
    request_of(people.vendor, "initiated")
    request_of(people.vendor, "initiated", at=DAY + timedelta(days=3))
    request_of(people.vendor, "completed")
    request_of(people.vendor, "failed", at=DAY.replace(year=2025))
    data = report(people.admin)
    assert data["requests"] == {"initiated": 2, "completed": 1}
    assert data["totals"] == data["series"] == []


def test_a_paid_request_counts_as_one_payment_with_one_request(people):
    request = people.vendor.post("/payments", {"type": "initiate", "amount": "80.00"}).json["data"]["id"]
    work()
    body = {"type": "payment", "requestId": request}
    people.customer.post("/payments", {**body, "metadata": {"simulate": "decline"}})
    work()
    people.customer.post("/payments", body)
    work()
    data = report(people.vendor, "")
    [total] = data["totals"]
    assert (total["count"], total["amount"], total["successRate"]) == (2, "160.00", 0.5)
    assert total["byStatus"]["completed"] == {"count": 1, "amount": "80.00"}
    assert data["requests"] == {"completed": 1}


@pytest.mark.parametrize(
    ("group_by", "periods"),
    [
        ("day", ["2026-01-25", "2026-01-26", "2026-01-31", "2026-02-01", "2026-02-02"]),
        ("week", ["2026-01-19", "2026-01-26", "2026-02-02"]),
        ("month", ["2026-01-01", "2026-02-01"]),
    ],
)
def test_periods_begin_at_midnight_utc(people, group_by, periods):
    postgres.rows("SET LOCAL timezone = 'Pacific/Kiritimati'")
    moments = [
        *("2026-01-25T23:59:59.999999Z", "2026-01-26T00:00:00Z"),  # Sunday, Monday
        *("2026-01-31T23:59:59.999999Z", "2026-02-01T00:00:00Z"),  # Saturday, Sunday
        *("2026-02-01T23:59:59.999999Z", "2026-02-02T00:00:00Z"),  # Sunday, Monday
    ]
    for moment in moments:
        paid(people, "1", at=datetime.fromisoformat(moment))
    data = report(people.admin, f"{YEAR}&groupBy={group_by}")
    assert data["groupBy"] == group_by
    assert [point["period"] for point in data["series"]] == periods
    assert sum(point["count"] for point in data["series"]) == len(moments)


def test_a_series_is_ordered_by_period_currency_status(people):
    # Without hash aggregation the order would be right by chance.
    postgres.rows("SET LOCAL enable_sort = off")
    for at in (DAY + timedelta(days=1), DAY):
        paid(people, "1", at=at)
        paid(people, "2", at=at, status="failed")
        paid(people, "500", "JPY", at=at)
        paid(people, "3", at=at)
    assert series(report(people.admin)) == [
        (day, *rest)
        for day in ("2026-02-05", "2026-02-06")
        for rest in (
            ("JPY", "completed", 1, "500"),
            ("USD", "completed", 2, "4.00"),
            ("USD", "failed", 1, "2.00"),
        )
    ]


def test_a_total_may_exceed_the_maximum_amount(people):
    for _ in range(200):
        paid(people, "99999999.99")
    data = report(people.admin)
    assert series(data) == [("2026-02-05", "USD", "completed", 200, "19999999998.00")]
    assert data["totals"][0]["amount"] == "19999999998.00"


def test_the_totals_equal_the_sum_of_all_payments(people):
    amounts = [Decimal(cents) / 100 for cents in (1, 7, 99, 12_345, 9_999_999_999)]
    statuses = ("completed", "failed", "pending", "processing", "cancelled")
    for day in range(40):
        for amount, status in zip(amounts, statuses, strict=True):
            paid(people, str(amount), status=status, at=DAY + timedelta(days=day))
    for group_by in ("day", "week", "month"):
        data = report(people.admin, f"{YEAR}&groupBy={group_by}")
        assert sum(Decimal(point["amount"]) for point in data["series"]) == 40 * sum(amounts)
        assert Decimal(data["totals"][0]["amount"]) == 40 * sum(amounts)
        for status, total in data["totals"][0]["byStatus"].items():
            points = [point for point in data["series"] if point["status"] == status]
            assert Decimal(total["amount"]) == sum(Decimal(point["amount"]) for point in points)
            assert total["count"] == sum(point["count"] for point in points) == 40


# --- visibility, span -----------------------------------------------------------------------------------


def test_a_report_covers_what_the_role_may_see(people):
    paid(people, "1", to=people.vendor)
    paid(people, "2", to=people.other)
    paid(people, "4")
    request_of(people.vendor, "initiated")
    request_of(people.other, "failed")

    def seen(caller: Visitor) -> tuple[list[str], dict[str, int]]:
        data = report(caller)
        return [total["amount"] for total in data["totals"]], data["requests"]

    assert seen(people.vendor) == (["1.00"], {"initiated": 1})
    assert seen(people.other) == (["2.00"], {"failed": 1})
    assert seen(people.admin) == (["7.00"], {"initiated": 1, "failed": 1})
    for query in ("", "?format=csv"):
        assert error(people.customer.get(f"/payments/reports{query}")) == (403, "FORBIDDEN")
    assert [row[4] for row in table(people.vendor.get(f"/payments/reports?{YEAR}&format=csv"))[1:]] == [
        "1.00"
    ]


def test_a_report_includes_from_excludes_to(people):
    paid(people, "1", at=DAY - timedelta(microseconds=1))
    paid(people, "2", at=DAY)
    paid(people, "4", at=DAY + timedelta(hours=1))
    data = report(people.admin, "from=2026-02-05T00:00:00Z&to=2026-02-05T01:00:00Z")
    assert (data["from"], data["to"]) == ("2026-02-05T00:00:00.000Z", "2026-02-05T01:00:00.000Z")
    assert series(data) == [("2026-02-05", "USD", "completed", 1, "2.00")]
    data = report(people.admin, "from=2026-02-05T02:00:00%2B02:00&to=2026-02-05T00:00:00.000001-01:00")
    assert series(data) == [("2026-02-05", "USD", "completed", 2, "6.00")]


def test_a_report_covers_the_last_thirty_days_by_default(people):
    now = times.now()
    for days, amount in ((0, "1"), (29, "2"), (31, "4")):
        paid(people, amount, at=now - timedelta(days=days))
    data = report(people.admin, "")
    assert data["totals"][0]["amount"] == "3.00"
    assert data["groupBy"] == "day"
    begin, end = (datetime.fromisoformat(data[name]) for name in ("from", "to"))
    assert end - begin == timedelta(days=30)
    assert abs(end - now) < timedelta(minutes=1)


def test_a_missing_end_of_the_span_has_a_default(people):
    paid(people, "1", at=DAY)
    data = report(people.admin, "to=2026-03-07T00:00:00Z")
    assert data["from"] == "2026-02-05T00:00:00.000Z"
    assert data["totals"][0]["count"] == 1
    begin = times.iso(times.now() - timedelta(days=90))
    paid(people, "2", at=times.now() - timedelta(days=60))
    assert report(people.admin, f"from={begin}")["totals"][0]["amount"] == "2.00"


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("from=2026-02-05T00:00:00Z&to=2026-02-05T00:00:00Z", "to"),
        ("from=2026-02-06T00:00:00Z&to=2026-02-05T00:00:00Z", "to"),
        ("from=9999-01-01T00:00:00Z", "to"),
        ("from=2026-02-05", "from"),
        ("from=2026-02-05T00:00:00", "from"),
        ("to=tomorrow", "to"),
        ("to=2026-02-30T00:00:00Z", "to"),
        ("from=0001-01-01T00:00:00%2B01:00", "from"),
        ("groupBy=year", "groupBy"),
        ("groupBy=DAY", "groupBy"),
        ("format=xml", "format"),
        ("format=csv&limit=3", "limit"),
    ],
)
def test_an_invalid_report_query_is_refused(people, query, wrong):
    result = people.admin.get(f"/payments/reports?{query}", headers={"Accept": "text/csv"})
    assert error(result) == (400, "VALIDATION_ERROR")
    assert [fault["field"] for fault in result.json["error"]["details"]["fields"]] == [wrong]


def test_a_report_may_cover_all_of_time(people):
    paid(people, "1")
    span = "from=0001-01-01T00:00:00Z&to=9999-12-31T23:59:59Z"
    assert report(people.admin, span)["totals"][0]["count"] == 1
    assert report(people.admin, "to=0001-01-02T00:00:00Z")["totals"] == []


# --- CSV ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "accept", "media"),
    [
        ("", None, "application/json"),
        ("", "*/*", "application/json"),
        ("", "application/json", "application/json"),
        ("", "text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
        ("", "application/json, text/csv;q=0.5", "application/json"),
        ("", "application/json;q=0.5, text/csv;q=0.9", "text/csv"),
        ("", "text/csv;q=0", "application/json"),
        ("", "nonsense", "application/json"),
        ("", "text/csv", "text/csv"),
        ("", "text/csv, */*;q=0.1", "text/csv"),
        ("&format=csv", None, "text/csv"),
        ("&format=csv", "application/json", "text/csv"),
        ("&format=json", "text/csv", "application/json"),
    ],
)
def test_format_or_accept_selects_csv(people, query, accept, media):
    paid(people, "1")
    headers = {"Accept": accept} if accept else {}
    result = people.admin.get(f"/payments/reports?{YEAR}{query}", headers=headers)
    assert result.status_code == 200
    assert result.headers["Content-Type"].partition(";")[0] == media
    assert result.content.startswith(b"{" if media == "application/json" else b"period,")


def test_a_csv_download_has_a_name_with_its_length(people):
    paid(people, "1")
    got = people.admin.get(f"/payments/reports?{YEAR}&format=csv")
    name = 'attachment; filename="payments-2026-01-01-2027-01-01.csv"'
    assert got.headers["Content-Disposition"] == name
    assert got.headers["Content-Length"] == str(len(got.content))
    assert got.headers["Cache-Control"] == "no-store"
    assert got.headers["X-Content-Type-Options"] == "nosniff"


def test_head_has_the_headers_of_the_download(people):
    paid(people, "1")
    got, head = (
        people.admin.send(method, f"/payments/reports?{YEAR}&format=csv") for method in ("GET", "HEAD")
    )
    assert head.content == b""
    for header in ("Content-Type", "Content-Disposition", "Content-Length"):
        assert head.headers[header] == got.headers[header]
    # An unclosed file raises a ResourceWarning when it is collected.
    gc.collect()


def test_the_csv_equals_the_series(people):
    for day in range(70):
        for currency, amount in (("USD", "99999999.99"), ("JPY", "500"), ("EUR", "0.01")):
            paid(people, amount, currency, at=DAY + timedelta(days=day))
    request_of(people.vendor, "initiated")
    for group_by in ("day", "week", "month"):
        query = f"{YEAR}&groupBy={group_by}"
        header, *rows = table(people.admin.get(f"/payments/reports?{query}&format=csv"))
        assert header == COLUMNS
        assert rows == [[str(cell) for cell in point] for point in series(report(people.admin, query))]


def test_no_csv_cell_is_a_formula(people):
    names = {"description": "=HYPERLINK(1)", "customer_email": None, "metadata": {"a": "@SUM(1)"}}
    makers.payment_row(
        **names, user_id=id_of(people.customer), type="payment", status="completed", amount=1, created_at=DAY
    )
    for _ in range(200):
        paid(people, "99999999.99", status="failed")
    paid(people, "500", "JPY", status="processing")
    request_of(people.vendor, "initiated")
    result = people.admin.get(f"/payments/reports?{YEAR}&format=csv")
    rows = table(result)[1:]
    assert len(rows) == 3
    for row in rows:
        for cell, pattern in zip(row, CELLS, strict=True):
            assert re.fullmatch(pattern, cell), cell
    assert result.content.endswith(b"\r\n")
    assert result.content.isascii()


def test_a_csv_without_payments_has_its_header(people):
    assert table(people.vendor.get(f"/payments/reports?{YEAR}&format=csv")) == [COLUMNS]


def test_a_large_csv_is_complete(people, monkeypatch):
    """A file above the memory limit goes through the disk."""
    monkeypatch.setattr("api.http.operation.DOWNLOAD_MEMORY_LIMIT_BYTES", 100)
    for day in range(50):
        paid(people, "1", at=DAY + timedelta(days=day))
    rows = table(people.admin.get(f"/payments/reports?{YEAR}&format=csv"))
    assert [row[3] for row in rows] == ["count"] + ["1"] * 50
