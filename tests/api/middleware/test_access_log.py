"""Each request is logged in one line, with its route, caller and client address."""

import pytest
from structlog.testing import capture_logs

from db.users import Role
from tests.makers import PASSWORD, Visitor, address, visitor


@pytest.fixture
def lines():
    with capture_logs() as logs:
        yield lambda: [line for line in logs if line["event"] == "request"]


def test_a_line_names_the_route_the_caller_and_the_address(client, lines):
    person = visitor(client, Role.CUSTOMER)
    person.get("/payments/00000000-0000-4000-8000-000000000000")
    line = lines()[-1]
    assert line["route"] == "/api/payments/{payment_id:uuid}"
    assert (line["status"], line["caller"], line["address"]) == (404, person.user["id"], "127.0.0.1")
    assert line["ms"] >= 0


def test_a_rate_limited_request_is_logged_with_route_caller_and_address(make_client, proxied_client, lines):
    limited = make_client(RATE_LIMIT_API="2/minute", TRUSTED_PROXIES="127.0.0.1")
    person = visitor(proxied_client, Role.CUSTOMER)
    limited_person = Visitor(limited, person.token, person.refresh_token, person.user)
    forwarded = {"X-Forwarded-For": "203.0.113.77"}
    for _ in range(3):
        limited_person.send("GET", f"/payments/{person.user['id']}/attempts", headers=forwarded)
    line = lines()[-1]
    assert (line["status"], line["method"]) == (429, "GET")
    assert line["route"] == "/api/payments/{payment_id:uuid}/attempts"
    assert (line["address"], line["caller"]) == ("203.0.113.77", person.user["id"])


@pytest.mark.parametrize("token", ["", "Bearer nonsense", "Basic abc"])
def test_a_rate_limited_request_without_a_valid_token_has_no_caller(make_client, lines, token):
    limited = make_client(RATE_LIMIT_AUTH="1/minute")
    body = {"email": address(), "password": PASSWORD}
    for _ in range(2):
        limited.simulate_post("/api/auth/login", json=body, headers={"Authorization": token})
    line = lines()[-1]
    assert (line["status"], line["route"], line["caller"]) == (429, "/api/auth/login", None)
    assert body["email"] not in str(line)
    assert PASSWORD not in str(line)


def test_unknown_paths_share_one_route_name(client, lines):
    client.simulate_get("/api/nothing/at/all")
    assert lines()[-1]["route"] == "unknown"
