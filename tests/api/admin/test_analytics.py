"""GET /admin/analytics: figures about users, payments and requests."""

import pytest

from api.admin import analytics
from api.operations import request_counts
from db import postgres, redis, request_metrics
from db.request_metrics import Histogram, Series
from db.users import Role
from tests import makers
from tests.makers import Visitor, visitor, work


@pytest.fixture
def redis_client(stores) -> redis.Client:
    client = redis.connect(stores["REDIS_URL"])
    client.delete("paywright:http_server_requests")
    request_counts._counted.clear()
    return client


@pytest.fixture
def boss(redis_client, client) -> Visitor:
    return visitor(client, Role.ADMIN)


def figures(who: Visitor):
    result = who.get("/admin/analytics")
    assert result.status_code == 200
    return result.json["data"]


def test_before_anything_happened_there_is_little_to_tell(boss):
    data = figures(boss)
    assert data["usersByRole"] == {"ADMIN": 1}
    assert data["activeUsers"] == {"24h": 1, "7d": 1}
    assert (data["paymentsByStatus"], data["volumeByCurrency"], data["successRate"]) == ({}, {}, None)
    assert data["timeToSettleMs"] == {"p50": None, "p95": None}


def test_people_and_payments_add_up(client, boss):
    customer, vendor = visitor(client), visitor(client, Role.VENDOR)
    for amount, currency, simulate in (
        (5, "USD", "approve"),
        (7, "USD", "approve"),
        (500, "JPY", "approve"),
        (9, "USD", "decline"),
    ):
        wish = {"type": "payment", "amount": amount, "currency": currency, "metadata": {"simulate": simulate}}
        customer.post("/payments", wish)
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

    data = figures(boss)

    assert data["usersByRole"] == {"ADMIN": 1, "CUSTOMER": 1, "VENDOR": 1}
    assert data["activeUsers"] == {"24h": 2, "7d": 3}
    assert data["paymentsByStatus"] == {"completed": 3, "failed": 1, "pending": 1}
    assert data["volumeByCurrency"] == {"USD": "12.00", "JPY": "500"}
    assert data["successRate"] == 0.75
    assert data["timeToSettleMs"] == {"p50": 200, "p95": 880}


def test_requests_are_counted_by_route_and_not_by_address(client, boss):
    customer = visitor(client)
    for _ in range(3):
        id = customer.post("/payments", {"type": "payment", "amount": 1}).json["data"]["id"]
        customer.get(f"/payments/{id}")
    customer.get("/payments/00000000-0000-4000-8000-000000000000")
    client.simulate_get("/api/nowhere")
    told = {(it["method"], it["route"]): it for it in figures(boss)["requests"]}
    one = told["GET", "/api/payments/:payment_id"]
    assert (one["count"], one["errors"]) == (4, 1)
    assert 0 < one["p50Ms"] <= one["p95Ms"]
    assert told["POST", "/api/payments"]["count"] == 3
    assert told["GET", "unknown"]["errors"] == 1


def test_what_other_processes_counted_is_counted_too(redis_client, boss):
    histogram = Histogram()
    histogram.observe(0.03)
    for _ in range(2):
        request_metrics.add(redis_client, {Series("GET", "/api/elsewhere", 404): histogram})
    [told] = [it for it in figures(boss)["requests"] if it["route"] == "/api/elsewhere"]
    assert (told["count"], told["errors"], told["p50Ms"], told["p95Ms"]) == (2, 2, 35, 48.5)


def test_figures_that_take_long_serve_for_ten_times_as_long_and_others_are_those_of_now(boss):
    assert (analytics._reuse_s(0.4), analytics._reuse_s(3)) == (0, 30)
    assert figures(boss)["usersByRole"] == {"ADMIN": 1}
    makers.user()
    assert figures(boss)["usersByRole"] == {"ADMIN": 1, "CUSTOMER": 1}
