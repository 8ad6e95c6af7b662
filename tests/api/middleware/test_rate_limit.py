"""An address may make a limited number of requests, counted by all processes together."""

import math

import httpx
import pytest

from api.middleware.rate_limit import Rate
from api.settings import WebSettings
from db import redis
from db.core.settings import InvalidSetting
from db.rate_counters import KEY_PREFIX
from tests.makers import SECRETS, error
from workers.dev import Failure
from workers.dev.demo.running_stack import RunningStack

STORES = {"DATABASE_URL": "postgresql://", "REDIS_URL": "redis://"}
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture(autouse=True)
def transaction(database):
    """What a test writes is rolled back."""


@pytest.fixture
def redis_client(stores):
    client = redis.connect(stores["REDIS_URL"])
    for key in client.scan_iter(f"{KEY_PREFIX}*"):
        client.delete(key)
    yield client
    client.connection_pool.disconnect()


@pytest.fixture
def proxied_clients(make_client, redis_client):
    """Makes clients that are a trusted proxy, so a test can send from any address."""
    return lambda **more: make_client(TRUSTED_PROXIES="127.0.0.1", **more)


def get(client, path="/api/nothing", address="198.51.100.1", **more):
    return client.simulate_get(path, headers={"X-Forwarded-For": address}, **more)


def post(client, path, address="198.51.100.1"):
    return client.simulate_post(path, json={}, headers={"X-Forwarded-For": address})


def limit(result):
    return tuple(int(result.headers[f"RateLimit-{name}"]) for name in ("Limit", "Remaining", "Reset"))


def test_a_response_lists_every_limit_in_the_fields_of_the_ietf_draft(proxied_clients):
    client = proxied_clients(RATE_LIMIT_API="100/15minutes", RATE_LIMIT_AUTH="2/minute")
    elsewhere = get(client)
    assert elsewhere.headers["RateLimit-Policy"] == '"api";q=100;w=900'
    assert elsewhere.headers["RateLimit"] == '"api";r=99;t=900'
    for left in (1, 0, 0):
        guarded = post(client, "/api/auth/login")
        assert guarded.headers["RateLimit-Policy"] == '"api";q=100;w=900, "auth";q=2;w=60'
        _, _, auth = guarded.headers["RateLimit"].partition(", ")
        assert auth.startswith(f'"auth";r={left};t='), "also when refused, and never negative"
    assert guarded.status_code == 429
    assert "RateLimit-Policy" not in get(client, "/api/health").headers, "no limit applies there"


def test_a_response_says_how_many_requests_are_left(proxied_clients):
    client = proxied_clients(RATE_LIMIT_API="3/15minutes")
    for left in (2, 1, 0):
        result = get(client)
        assert result.status_code == 404
        limit_, remaining, reset = limit(result)
        assert (limit_, remaining) == (3, left)
        assert 895 <= reset <= 900
        assert "Retry-After" not in result.headers


def test_a_request_over_the_limit_is_a_429_with_retry_after(proxied_clients):
    client = proxied_clients(RATE_LIMIT_API="1/minute")
    get(client)
    result = get(client)
    assert error(result) == (429, "RATE_LIMITED")
    assert limit(result)[:2] == (1, 0)
    assert result.headers["Retry-After"] == result.headers["RateLimit-Reset"]
    assert 0 < int(result.headers["Retry-After"]) <= 60


def test_every_address_has_its_own_count(proxied_clients):
    client = proxied_clients(RATE_LIMIT_API="1/minute")
    assert [get(client, address=f"198.51.100.{n}").status_code for n in (1, 2, 1, 2)] == [404, 404, 429, 429]


def test_an_ipv6_network_has_one_count(proxied_clients):
    client = proxied_clients(RATE_LIMIT_API="1/minute")
    addresses = ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1")
    assert [get(client, address=address).status_code for address in addresses] == [404, 429, 404]


def test_all_processes_count_together(proxied_clients):
    one, other = proxied_clients(RATE_LIMIT_API="2/minute"), proxied_clients(RATE_LIMIT_API="2/minute")
    assert [get(client).status_code for client in (one, other, one, other)] == [404, 404, 429, 429]


def test_the_count_restarts_with_its_window(proxied_clients, redis_client):
    client = proxied_clients(RATE_LIMIT_API="1/minute")
    assert [get(client).status_code for _ in range(2)] == [404, 429]
    [key] = redis_client.keys(f"{KEY_PREFIX}*")
    assert 0 < redis_client.ttl(key) <= 60
    redis_client.pexpire(key, 1)
    while redis_client.exists(key):
        pass
    assert get(client).status_code == 404


def test_a_refused_request_does_not_extend_the_window(proxied_clients, redis_client):
    client = proxied_clients(RATE_LIMIT_API="1/minute")
    get(client)
    [key] = redis_client.keys(f"{KEY_PREFIX}*")
    redis_client.pexpire(key, 5000)
    assert int(get(client).headers["Retry-After"]) <= 5


def test_a_key_without_an_expiry_gets_one(proxied_clients, redis_client):
    client = proxied_clients(RATE_LIMIT_API="1/minute")
    get(client)
    [key] = redis_client.keys(f"{KEY_PREFIX}*")
    redis_client.persist(key)
    assert get(client).status_code == 429
    assert 0 < redis_client.ttl(key) <= 60


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_every_request_to_the_api_counts(proxied_clients, method):
    client = proxied_clients(RATE_LIMIT_API="100/15minutes")
    result = client.simulate_request(method, "/api/payments", headers={"Content-Length": "9999999"})
    assert limit(result)[:2] == (100, 99)


def test_sign_in_routes_share_a_limit(proxied_clients):
    client = proxied_clients(RATE_LIMIT_AUTH="5/15minutes")
    paths = [
        f"/api/auth/{name}" for name in ("register", "login", "forgot-password", "reset-password", "login")
    ]
    assert [limit(post(client, path))[1] for path in paths] == [4, 3, 2, 1, 0]
    for path in paths:
        result = post(client, path)
        assert error(result) == (429, "RATE_LIMITED")
        assert limit(result)[0] == 5


def test_other_routes_do_not_count_as_sign_in(proxied_clients):
    client = proxied_clients(RATE_LIMIT_AUTH="1/hour")
    for path in ("/api/auth/refresh", "/api/auth/logout"):
        assert "RateLimit-Limit" not in post(client, path).headers
    assert "RateLimit-Limit" not in get(client, "/api/auth/login").headers
    assert limit(post(client, "/api/auth/login"))[:2] == (1, 0)


def test_a_sign_in_counts_in_both_limits_and_names_the_tighter(proxied_clients):
    client = proxied_clients(RATE_LIMIT_API="4/hour", RATE_LIMIT_AUTH="2/minute")
    assert limit(post(client, "/api/auth/login"))[:2] == (2, 1)
    assert limit(get(client))[:2] == (4, 2)
    assert limit(post(client, "/api/auth/login"))[:2] == (2, 0)
    assert limit(post(client, "/api/auth/login"))[:2] == (2, 0)
    # All four requests of the hour are used, the last by a refusal. Both limits refuse now; the hour is longer.
    result = post(client, "/api/auth/login")
    assert (result.status_code, limit(result)[:2]) == (429, (4, 0))
    assert int(result.headers["Retry-After"]) > 60
    assert get(client).status_code == 429


def test_both_limits_cost_one_round_trip(proxied_clients, redis_client):
    client = proxied_clients(RATE_LIMIT_API="9/minute", RATE_LIMIT_AUTH="9/minute")
    post(client, "/api/auth/login")

    def trips():
        return int(redis_client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"])

    before = trips()
    post(client, "/api/auth/login")
    assert trips() - before == 1


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/health",
            "/api/health",
            "/api/docs",
            "/api/docs/x",
            "/api/openapi.json",
            "/api/asyncapi.json",
            "/api/media/a.webp",
        ),
        *("/media/avatars/a.webp", "/metrics", "/x"),
    ],
)
def test_health_documents_and_media_are_exempt(proxied_clients, path):
    client = proxied_clients(RATE_LIMIT_API="1/hour")
    for _ in range(3):
        result = get(client, path)
        assert result.status_code != 429
        assert "RateLimit-Limit" not in result.headers


def test_a_path_that_begins_like_an_exempt_one_is_limited(proxied_clients):
    client = proxied_clients(RATE_LIMIT_API="1/hour")
    assert [get(client, path).status_code for path in ("/api/healthy", "/api/docsx")] == [404, 429]


def test_without_limits_nothing_is_counted(proxied_clients, redis_client):
    client = proxied_clients(RATE_LIMIT_API="", RATE_LIMIT_AUTH=" ")
    for _ in range(10):
        assert "RateLimit-Limit" not in post(client, "/api/auth/login").headers
    assert redis_client.keys(f"{KEY_PREFIX}*") == []


def test_without_redis_each_process_counts_for_itself(proxied_clients):
    one = proxied_clients(RATE_LIMIT_API="2/minute", RATE_LIMIT_AUTH="1/minute", REDIS_URL=NOWHERE)
    other = proxied_clients(RATE_LIMIT_API="2/minute", REDIS_URL=NOWHERE)
    assert [get(one).status_code for _ in range(3)] == [404, 404, 429]
    assert [get(other).status_code for _ in range(3)] == [404, 404, 429]
    assert error(post(one, "/api/auth/login", "198.51.100.9"))[0] == 400
    assert error(post(one, "/api/auth/login", "198.51.100.9")) == (429, "RATE_LIMITED")


def test_without_redis_a_process_continues_from_the_last_count(proxied_clients, redis_client, monkeypatch):
    client = proxied_clients(RATE_LIMIT_API="5/minute")
    assert [limit(get(client))[1] for _ in range(3)] == [4, 3, 2]
    monkeypatch.setattr(redis_client.breaker, "_failing", True)
    monkeypatch.setattr(redis_client.breaker, "_open_until", math.inf)
    assert [limit(get(client))[1] for _ in range(2)] == [1, 0]
    assert error(get(client)) == (429, "RATE_LIMITED")


@pytest.mark.parametrize("refusal", ["maxmemory", "replica"])
def test_a_redis_that_refuses_to_write_is_called_once_a_second(
    proxied_clients, redis_client, refusal, monkeypatch
):
    client = proxied_clients(RATE_LIMIT_API="3/minute")
    # The clock stands still.
    monkeypatch.setattr(redis_client.breaker, "_clock", lambda: 1000.0)
    if refusal == "maxmemory":
        redis_client.config_set("maxmemory", 1)
    else:
        redis_client.replicaof("127.0.0.1", 1)
    try:
        assert [get(client).status_code for _ in range(4)] == [404, 404, 404, 429]
        before = redis_client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]
        get(client)
        assert redis_client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"] == before
        services = client.simulate_get("/health").json["services"]
        assert (services["database"], services["redis"]) == ("ok", "down")
    finally:
        redis_client.config_set("maxmemory", 0)
        redis_client.replicaof("NO", "ONE")
        redis_client.breaker.record_success()


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/15minutes", Rate(100, 900)),
        ("5/minute", Rate(5, 60)),
        ("1/1second", Rate(1, 1)),
        ("10/30seconds", Rate(10, 30)),
        (" 7 / 2 hours ", Rate(7, 7200)),
        ("9/1day", Rate(9, 86400)),
        ("", None),
        ("  ", None),
    ],
)
def test_a_limit_is_a_number_of_requests_in_a_time(text, rate):
    read = WebSettings.read({**SECRETS, **STORES, "RATE_LIMIT_API": text, "RATE_LIMIT_AUTH": text})
    assert (read.rate_limit_api, read.rate_limit_auth) == (rate, rate)


def test_there_are_limits_by_default():
    without_limits = {name: value for name, value in SECRETS.items() if not name.startswith("RATE_")}
    read = WebSettings.read({**without_limits, **STORES})
    assert (read.rate_limit_api, read.rate_limit_auth) == (Rate(100, 900), Rate(5, 900))


@pytest.mark.parametrize(
    "value",
    [
        "0",
        "100",
        "0/minute",
        "-1/minute",
        "5/0minutes",
        "5/fortnight",
        "a/minute",
        "5/minute;",
        "1e3/day",
        "5 per minute",
    ],
)
@pytest.mark.parametrize("name", ["RATE_LIMIT_API", "RATE_LIMIT_AUTH"])
def test_an_invalid_limit_stops_the_start_with_its_name(name, value):
    with pytest.raises(InvalidSetting, match=f"^invalid setting: {name}: [^\n]*100/15minutes[^\n]*$"):
        WebSettings.read({**SECRETS, **STORES, name: value})


def test_the_demo_is_not_stopped_by_used_up_limits_nor_counts_against_them(make_client, redis_client, stores):
    app = make_client(RATE_LIMIT_API="1/hour").app
    with httpx.Client(transport=httpx.WSGITransport(app=app), base_url="http://127.0.0.1") as http:
        assert [http.get("/api/nothing").status_code for _ in range(2)] == [404, 429]
        demo = RunningStack(http, stores["REDIS_URL"])
        with pytest.raises(Failure, match="GET /api/nothing: 404 NOT_FOUND"):
            demo.call("GET", "/nothing")
        assert http.get("/api/nothing").status_code == 404
