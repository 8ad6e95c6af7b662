"""GET /metrics serves the metrics of all processes to Prometheus."""

from itertools import count

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.app import create_app
from api.operations import metrics, request_counts
from db import backlog, redis, shared_counts
from tests import makers
from tests.makers import visitor, work

PAYMENT = "/api/payments/:payment_id"


@pytest.fixture
def application(settings):
    """Its own for each test: what it has collected stands for a second."""
    return create_app(settings)


def samples(client) -> dict[tuple[str, ...], float]:
    """Returns each sample by its name and the values of its labels, sorted by the labels' names."""
    result = client.simulate_get("/metrics")
    assert result.headers["Content-Type"].startswith("text/plain")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(result.text)
        for sample in family.samples
    }


def test_requests_are_counted_by_method_route_and_status(no_requests, client):
    customer = visitor(client)
    id = customer.post("/payments", {"type": "payment", "amount": 1}).json["data"]["id"]
    for _ in range(3):
        customer.get(f"/payments/{id}")
    customer.get("/payments/00000000-0000-4000-8000-000000000000")
    client.simulate_get("/api/nowhere")
    counted = samples(client)
    duration = "http_server_request_duration_seconds"
    assert counted[f"{duration}_count", "GET", "200", PAYMENT] == 3
    assert counted[f"{duration}_count", "GET", "404", PAYMENT] == 1
    assert counted[f"{duration}_count", "GET", "404", "unknown"] == 1
    assert counted[f"{duration}_bucket", "GET", "200", PAYMENT, "+Inf"] == 3
    assert 0 < counted[f"{duration}_sum", "GET", "200", PAYMENT] < 3


def test_a_client_cannot_create_series(no_requests):
    for method in ("FOO", "BAR", "get"):
        request_counts.count(method, None, status=405, duration_s=0.001)
    request_counts.flush(no_requests)
    [(series, histogram)] = shared_counts.requests(no_requests).items()
    assert (series, histogram.count) == (("unknown", "unknown", 405), 3)


def test_counts_are_kept_while_redis_is_away(no_requests):
    away = redis.connect("redis://127.0.0.1:1")
    request_counts.count("GET", "/api/x/{id:uuid}", status=200, duration_s=0.001)
    request_counts.flush(away)
    request_counts.count("GET", "/api/x/{id:uuid}", status=200, duration_s=20)
    request_counts.count("GET", "/api/x/{id:uuid}", status=500, duration_s=20)
    request_counts.flush(no_requests)
    histograms = shared_counts.requests(no_requests)
    histogram = histograms[shared_counts.Series("GET", "/api/x/:id", 200)]
    assert (histogram.count, histogram.sum_s) == (2, 20.001)
    assert (histogram.buckets[0], histogram.buckets[-1]) == (1, 1)
    of_route = shared_counts.by_route(histograms)["GET", "/api/x/:id"]
    assert (of_route.durations.count, of_route.errors) == (3, 1)


@pytest.mark.parametrize(
    ("durations_s", "share", "ms"),
    [
        ([], 0.5, None),
        ([0.001], 0.5, 0.5),
        ([0.015] * 4, 0.5, 15),
        ([0.003, 0.06], 0.95, 95),
        ([20], 0.5, 10_000),
    ],
)
def test_a_quantile_is_interpolated_within_its_bucket(durations_s, share, ms):
    histogram = shared_counts.Histogram()
    for duration_s in durations_s:
        histogram.observe(duration_s)
    assert histogram.quantile_ms(share) == ms


def test_jobs_and_reviews_are_counted(client):
    makers.payment(simulate="blackout")
    work()
    makers.payment()
    counted = samples(client)
    assert counted["paywright_store_up", "database"] == counted["paywright_store_up", "redis"] == 1
    assert counted["paywright_jobs", "payments"] == 1
    assert counted["paywright_payments_in_review",] == 1
    assert counted["paywright_dead_jobs", "payments.begin"] == 0


def test_metrics_are_collected_once_a_second_however_many_ask(client, monkeypatch):
    monkeypatch.setattr(metrics, "CACHED_FOR_S", 60)
    collections, measure = count(), backlog.measure

    def counted(queues: set[str]) -> backlog.Backlog:
        next(collections)
        return measure(queues)

    monkeypatch.setattr(backlog, "measure", counted)
    first = client.simulate_get("/metrics").text
    makers.payment()
    for _ in range(24):
        assert client.simulate_get("/metrics").text == first
    assert next(collections) == 1
