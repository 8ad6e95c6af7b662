"""Every response carries the security headers."""

import falcon
import pytest
from falcon.testing import TestClient

from api.middleware.security_headers import SecurityHeaders
from db.users import Role
from tests.makers import visitor

POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; script-src 'self'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'self'; object-src 'none'"
)
SHOP = "https://shop.example"


def has_security_headers(result):
    headers = result.headers
    assert headers["Content-Security-Policy"] == POLICY
    assert headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains; preload"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert headers["X-Request-ID"]
    assert "Server" not in headers
    return True


@pytest.fixture
def anyone(database, make_client):
    return make_client(CORS_ORIGINS=SHOP, RATE_LIMIT_AUTH="1/day", TRUSTED_PROXIES="127.0.0.1")


@pytest.mark.parametrize(
    ("status", "method", "path", "more"),
    [
        (200, "GET", "/health", {}),
        (200, "HEAD", "/health", {}),
        (200, "OPTIONS", "/api/payments", {}),
        (204, "OPTIONS", "/api/payments", {"Origin": SHOP, "Access-Control-Request-Method": "POST"}),
        (400, "POST", "/api/auth/refresh", {}),
        (401, "GET", "/api/auth/me", {}),
        (404, "GET", "/api/nothing", {}),
        (404, "HEAD", "/nothing", {}),
        (405, "DELETE", "/api/auth/me", {}),
        (405, "DELETE", "/health", {}),
        (411, "POST", "/api/auth/refresh", {"Transfer-Encoding": "chunked"}),
        (413, "POST", "/api/auth/refresh", {"Content-Length": "9999999"}),
    ],
)
def test_every_response_has_the_security_headers(anyone, status, method, path, more):
    result = anyone.simulate_request(method, path, headers=more)
    assert result.status_code == status
    assert has_security_headers(result)
    assert result.headers["Cache-Control"] == "no-store"


def test_a_304_has_the_security_headers(client):
    me = visitor(client, Role.CUSTOMER)
    first = me.get("/auth/me")
    result = me.get("/auth/me", headers={"If-None-Match": first.headers["ETag"]})
    assert result.status_code == 304
    assert has_security_headers(result)


def test_a_429_has_the_security_headers(anyone):
    for _ in range(2):
        result = anyone.simulate_post(
            "/api/auth/login", json={}, headers={"X-Forwarded-For": "198.51.100.201"}
        )
    assert result.status_code == 429
    assert has_security_headers(result)


def test_a_500_has_the_security_headers(client, monkeypatch):
    me = visitor(client)
    monkeypatch.setattr("db.live_sessions.read", lambda _session: 1 / 0)
    result = me.get("/auth/me")
    assert result.status_code == 500
    assert has_security_headers(result)


def test_a_route_may_set_its_own_headers():
    class PictureResource:
        def on_get(self, _req, resp):
            resp.set_header("Cache-Control", "public, max-age=60")
            resp.set_header("Cross-Origin-Resource-Policy", "cross-origin")

    app = falcon.App(middleware=[SecurityHeaders()])
    app.add_route("/picture", PictureResource())
    headers = TestClient(app).simulate_get("/picture").headers
    assert headers["Cache-Control"] == "public, max-age=60"
    assert headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert headers["X-Frame-Options"] == "DENY"
