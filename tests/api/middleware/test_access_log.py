"""One line a request says what was asked, by whom and from where; also of what a limit refused."""

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


def test_a_refusal_by_a_limit_names_them_too(make_client, proxied_client, lines):
    limited = make_client(RATE_LIMIT_API="2/minute", TRUSTED_PROXIES="127.0.0.1")
    person = visitor(proxied_client, Role.CUSTOMER)
    tight = Visitor(limited, person.token, person.refresh_token, person.user)
    from_afar = {"X-Forwarded-For": "203.0.113.77"}
    for _ in range(3):
        tight.send("GET", f"/payments/{person.user['id']}/attempts", headers=from_afar)
    line = lines()[-1]
    assert (line["status"], line["method"]) == (429, "GET")
    assert line["route"] == "/api/payments/{payment_id:uuid}/attempts"
    assert (line["address"], line["caller"]) == ("203.0.113.77", person.user["id"])


@pytest.mark.parametrize("token", ["", "Bearer nonsense", "Basic abc"])
def test_a_refusal_of_a_stranger_names_no_caller(make_client, lines, token):
    limited = make_client(RATE_LIMIT_AUTH="1/minute")
    body = {"email": address(), "password": PASSWORD}
    for _ in range(2):
        limited.simulate_post("/api/auth/login", json=body, headers={"Authorization": token})
    line = lines()[-1]
    assert (line["status"], line["route"], line["caller"]) == (429, "/api/auth/login", None)
    assert body["email"] not in str(line)
    assert PASSWORD not in str(line)


def test_what_is_no_address_of_ours_has_one_name(client, lines):
    client.simulate_get("/api/nothing/at/all")
    assert lines()[-1]["route"] == "unknown"
