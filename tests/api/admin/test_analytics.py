"""GET /admin/analytics: figures about users, payments and requests."""

import pytest

from api.admin import figures
from db import postgres, shared_counts
from db.shared_counts import Histogram, Series
from db.users import Role
from tests import makers
from tests.makers import Visitor, visitor, work


@pytest.fixture
def admin(no_requests, client) -> Visitor:
    return visitor(client, Role.ADMIN)


def get_analytics(user: Visitor):
    result = user.get("/admin/analytics")
    assert result.status_code == 200
    return result.json["data"]


def test_analytics_of_an_empty_installation(admin):
    data = get_analytics(admin)
    assert data["usersByRole"] == {"ADMIN": 1}
    assert data["activeUsers"] == {"24h": 1, "7d": 1}
    assert (data["paymentsByStatus"], data["volumeByCurrency"], data["successRate"]) == ({}, {}, None)
    assert data["timeToSettleMs"] == {"p50": None, "p95": None}


def test_users_and_payments_are_added_up(client, admin):
    customer, vendor = visitor(client), visitor(client, Role.VENDOR)
    for amount, currency, simulate in (
        (5, "USD", "approve"),
        (7, "USD", "approve"),
        (500, "JPY", "approve"),
        (9, "USD", "decline"),
    ):
        body = {"type": "payment", "amount": amount, "currency": currency, "metadata": {"simulate": simulate}}
        customer.post("/payments", body)
    vendor.post("/payments", {"type": "initiate", "amount": 3})
    work()
    customer.post("/payments", {"type": "payment", "amount": 1})
    postgres.rows(
        "UPDATE payments.payments SET created_at = updated_at - interval '200 milliseconds' WHERE amount <> 9"
    )
    postgres.rows(
        "UPDATE payments.payments SET created_at = updated_at - interval '1000 milliseconds' WHERE amount = 9"
    )
    postgres.rows(
        "UPDATE auth.sessions SET last_used_at = now() - interval '2 days' WHERE user_id = %s",
        vendor.user["id"],
    )

    data = get_analytics(admin)

    assert data["usersByRole"] == {"ADMIN": 1, "CUSTOMER": 1, "VENDOR": 1}
    assert data["activeUsers"] == {"24h": 2, "7d": 3}
    assert data["paymentsByStatus"] == {"completed": 3, "failed": 1, "pending": 1}
    assert data["volumeByCurrency"] == {"USD": "12.00", "JPY": "500"}
    assert data["successRate"] == 0.75
    assert data["timeToSettleMs"] == {"p50": 200, "p95": 880}


def test_requests_are_counted_by_route(client, admin):
    customer = visitor(client)
    for _ in range(3):
        id = customer.post("/payments", {"type": "payment", "amount": 1}).json["data"]["id"]
        customer.get(f"/payments/{id}")
    customer.get("/payments/00000000-0000-4000-8000-000000000000")
    client.simulate_get("/api/nowhere")
    counted = {(row["method"], row["route"]): row for row in get_analytics(admin)["requests"]}
    one = counted["GET", "/api/payments/:payment_id"]
    assert (one["count"], one["errors"]) == (4, 1)
    assert 0 < one["p50Ms"] <= one["p95Ms"]
    assert counted["POST", "/api/payments"]["count"] == 3
    assert counted["GET", "unknown"]["errors"] == 1


def test_requests_of_other_processes_are_counted(no_requests, admin):
    histogram = Histogram()
    histogram.observe(0.03)
    for _ in range(2):
        shared_counts.add_requests(no_requests, {Series("GET", "/api/elsewhere", 404): histogram})
    [counted] = [row for row in get_analytics(admin)["requests"] if row["route"] == "/api/elsewhere"]
    assert (counted["count"], counted["errors"], counted["p50Ms"], counted["p95Ms"]) == (2, 2, 35, 48.5)


def test_only_slow_figures_are_reused(admin):
    assert (figures._reuse_s(0.4), figures._reuse_s(3)) == (0, 30)
    assert get_analytics(admin)["usersByRole"] == {"ADMIN": 1}
    makers.user()
    assert get_analytics(admin)["usersByRole"] == {"ADMIN": 1, "CUSTOMER": 1}
