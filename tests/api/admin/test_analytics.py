"""What goes on, in figures: for an administrator, and for Prometheus."""

from itertools import count

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.admin import analytics
from api.operations import metrics, request_counts
from db import backlog, postgres, redis, request_metrics
from db.request_metrics import RouteCounts
from db.users import Role
from tests import makers
from tests.makers import Visitor, visitor, work


@pytest.fixture
def redis_client(stores) -> redis.Client:
    client = redis.connect(stores["REDIS_URL"])
    client.delete("paywright:requests")
    request_counts._counted.clear()
    return client


@pytest.fixture
def boss(redis_client, client) -> Visitor:
    return visitor(client, Role.ADMIN)


def figures(who: Visitor):
    result = who.get("/admin/analytics")
    assert result.status_code == 200
    return result.json["data"]


def samples(who: Visitor) -> dict[tuple[str, ...], float]:
    result = who.client.simulate_get("/metrics")
    assert result.headers["Content-Type"].startswith("text/plain")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(result.text)
        for sample in family.samples
    }


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
    measured = samples(boss)
    assert measured["paywright_request_seconds_count", "GET", "/api/payments/:payment_id"] == 4
    assert measured["paywright_request_seconds_bucket", "+Inf", "GET", "/api/payments/:payment_id"] == 4
    assert measured["paywright_request_errors_total", "GET", "/api/payments/:payment_id"] == 1


def test_a_caller_cannot_make_up_what_is_counted(redis_client):
    for method in ("FOO", "BAR", "get"):
        request_counts.count(method, None, status=405, ms=1)
    request_counts.hand_on(redis_client)
    assert {route: it.count for route, it in request_metrics.read(redis_client).items()} == {
        ("unknown", "unknown"): 3
    }


def test_what_other_processes_counted_is_counted_too(redis_client, boss):
    counts = RouteCounts()
    counts.add(error=True, ms=30)
    request_metrics.add(redis_client, {("GET", "/api/elsewhere"): counts})
    request_metrics.add(redis_client, {("GET", "/api/elsewhere"): counts})
    [told] = [it for it in figures(boss)["requests"] if it["route"] == "/api/elsewhere"]
    assert (told["count"], told["errors"], told["p50Ms"], told["p95Ms"]) == (2, 2, 35, 48.5)


def test_while_redis_is_away_they_are_kept(redis_client):
    away = redis.connect("redis://127.0.0.1:1")
    request_counts.count("GET", "/api/x/{id:uuid}", status=200, ms=1)
    request_counts.hand_on(away)
    request_counts.count("GET", "/api/x/{id:uuid}", status=500, ms=20_000)
    request_counts.hand_on(redis_client)
    counts = request_metrics.read(redis_client)["GET", "/api/x/:id"]
    assert (counts.count, counts.errors, counts.ms) == (2, 1, 20_001)
    assert (counts.buckets[0], counts.buckets[-1]) == (1, 1)


@pytest.mark.parametrize(
    ("durations", "share", "ms"),
    [([], 0.5, None), ([1], 0.5, 0.5), ([15] * 4, 0.5, 15), ([3, 60], 0.95, 95), ([20_000], 0.5, 10_000)],
)
def test_a_quantile_is_as_good_as_its_bucket(durations, share, ms):
    counts = RouteCounts()
    for duration in durations:
        counts.add(error=False, ms=duration)
    assert counts.quantile(share) == ms


def test_prometheus_reads_what_waits_and_what_is_broken(boss):
    makers.payment(simulate="blackout")
    work()
    makers.payment()
    measured = samples(boss)
    assert measured["paywright_up", "database"] == measured["paywright_up", "redis"] == 1
    assert measured["paywright_jobs", "payments"] == 1
    assert measured["paywright_needs_review",] == 1
    assert measured["paywright_dead_jobs", "payments.begin"] == 0


def test_the_figures_for_prometheus_are_put_together_once_a_second_however_many_ask(boss, monkeypatch):
    monkeypatch.setattr(metrics, "FRESH_S", 60)
    looks, measure = count(), backlog.measure

    def counted(queues: set[str]) -> backlog.Backlog:
        next(looks)
        return measure(queues)

    monkeypatch.setattr(backlog, "measure", counted)
    first = boss.client.simulate_get("/metrics").text
    makers.payment()
    for _ in range(24):
        assert boss.client.simulate_get("/metrics").text == first
    assert next(looks) == 1


def test_figures_that_take_long_serve_for_ten_times_as_long_and_others_are_those_of_now(boss):
    assert (analytics._reuse_s(0.4), analytics._reuse_s(3)) == (0, 30)
    assert figures(boss)["usersByRole"] == {"ADMIN": 1}
    makers.user()
    assert figures(boss)["usersByRole"] == {"ADMIN": 1, "CUSTOMER": 1}
