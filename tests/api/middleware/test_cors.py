"""Only pages of the configured origins may read responses."""

import pytest

from api.openapi.headers import RESPONSE_HEADERS
from api.settings import WebSettings
from db.core.settings import InvalidSetting
from tests.makers import SECRETS, error

STORES = {"DATABASE_URL": "postgresql://", "REDIS_URL": "redis://"}
SHOP, ADMIN, STRANGER = "https://shop.example", "http://localhost:5173", "https://evil.example"


@pytest.fixture
def client(make_client):
    return make_client(CORS_ORIGINS=f"{SHOP}, {ADMIN}")


@pytest.fixture
def limited(make_client):
    return make_client(CORS_ORIGINS=SHOP, RATE_LIMIT_API="5/hour", TRUSTED_PROXIES="127.0.0.1")


def preflight(client, origin, path="/api/payments", method="POST"):
    requested = {
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,x-evil",
    }
    return client.simulate_options(path, headers={"Origin": origin, **requested})


def cors(result):
    return {name for name in result.headers if name.lower().startswith("access-control-")}


@pytest.mark.parametrize("origin", [SHOP, ADMIN])
def test_a_configured_origin_may_read_and_send_credentials(client, origin):
    result = client.simulate_get("/health", headers={"Origin": origin})
    assert result.headers["Access-Control-Allow-Origin"] == origin
    assert result.headers["Access-Control-Allow-Credentials"] == "true"
    assert result.headers["Vary"] == "Origin"
    exposed = result.headers["Access-Control-Expose-Headers"].split(", ")
    assert {*RESPONSE_HEADERS} <= {*exposed}, "a page can read every documented header"


@pytest.mark.parametrize(
    "origin",
    [
        STRANGER,
        "null",
        "*",
        "",
        "http://shop.example",
        "https://shop.example:8443",
        "https://shop.example.evil.example",
        "https://evil-shop.example",
        "https://SHOP.example",
        "https://shop.example/",
        f"{SHOP}, {ADMIN}",
    ],
)
def test_another_origin_is_served_and_may_not_read(client, origin):
    result = client.simulate_get("/health", headers={"Origin": origin})
    assert result.status_code == 200
    assert cors(result) == set()
    assert result.headers["Vary"] == "Origin"
    assert cors(preflight(client, origin)) == set()


def test_a_preflight_needs_no_token_and_does_not_count_against_the_limit(limited):
    for _ in range(7):
        result = preflight(limited, SHOP)
        assert (result.status_code, result.content) == (204, b"")
        assert result.headers["Access-Control-Allow-Origin"] == SHOP
        assert result.headers["Access-Control-Allow-Credentials"] == "true"
        assert "DELETE" in result.headers["Access-Control-Allow-Methods"]
        assert int(result.headers["Access-Control-Max-Age"]) > 0
        assert result.headers["Vary"] == "Origin"
        assert result.headers["X-Request-ID"]
        assert "RateLimit-Limit" not in result.headers


def test_the_allowed_headers_are_a_fixed_list(client):
    allowed = preflight(client, SHOP).headers["Access-Control-Allow-Headers"]
    assert set(allowed.split(", ")) == {
        *("Authorization", "Content-Type", "If-Match", "If-None-Match", "Idempotency-Key", "Prefer"),
        *("Last-Event-ID", "X-Request-ID", "traceparent", "tracestate"),
    }


def test_a_preflight_is_answered_on_every_path(client):
    for path in ("/api/nothing", "/health", "/api/auth/login"):
        assert preflight(client, SHOP, path).status_code == 204


def test_a_page_can_read_an_error(client):
    for path in ("/api/nothing", "/api/auth/me"):
        result = client.simulate_get(path, headers={"Origin": SHOP})
        assert result.status_code in (401, 404)
        assert result.headers["Access-Control-Allow-Origin"] == SHOP


def test_a_page_can_read_a_429(limited):
    headers = {"Origin": SHOP, "X-Forwarded-For": "198.51.100.200"}
    for _ in range(6):
        result = limited.simulate_get("/api/auth/me", headers=headers)
    assert error(result) == (429, "RATE_LIMITED")
    assert result.headers["Access-Control-Allow-Origin"] == SHOP


def test_options_without_a_preflight_names_the_methods(client):
    for headers in ({}, {"Origin": SHOP}, {"Access-Control-Request-Method": "GET"}):
        result = client.simulate_options("/api/payments", headers=headers)
        assert result.status_code == 200
        assert result.json["success"] is True
        assert set(result.json["data"]["methods"]) == {"GET", "HEAD", "POST"}
        assert set(result.headers["Allow"].split(", ")) == {"GET", "HEAD", "POST", "OPTIONS"}
    assert error(client.simulate_options("/api/nothing")) == (404, "NOT_FOUND")


def test_only_local_frontends_may_read_by_default(make_client):
    result = make_client().simulate_get("/health", headers={"Origin": SHOP})
    assert cors(result) == set()
    local = make_client().simulate_get("/health", headers={"Origin": "http://localhost:4200"})
    assert local.headers["Access-Control-Allow-Origin"] == "http://localhost:4200"


@pytest.mark.parametrize(
    "value",
    [
        *("*", f"{SHOP},*", "shop.example", "ftp://shop.example", "null", "https://", f"{SHOP} {ADMIN}"),
        *(f"{SHOP}/", f"{SHOP}/path", "https://*.example", "https://shop.example:443", "http://a.example:80"),
        *("https://user@shop.example", "https://shop.example?x", "https://sh\u00f6p.example"),
    ],
)
def test_invalid_origins_stop_the_start_with_the_settings_name(value):
    with pytest.raises(InvalidSetting, match=r"^invalid setting: CORS_ORIGINS: [^\n]+$"):
        WebSettings.read({**SECRETS, **STORES, "CORS_ORIGINS": value})


def test_several_origins_are_read():
    read = WebSettings.read({**SECRETS, **STORES, "CORS_ORIGINS": f" {SHOP} ,{ADMIN},http://[::1]:3000,"})
    assert read.cors_origins == {SHOP, ADMIN, "http://[::1]:3000"}
