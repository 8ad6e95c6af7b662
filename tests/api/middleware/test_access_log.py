"""Each request is logged in one line, with its route, caller and client address."""

import json
import os
import subprocess
import sys

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


@pytest.fixture
def json_lines(root):
    """What a process writes of these requests, in JSON."""
    code = """
import os, sys, falcon, falcon.testing
from types import SimpleNamespace
from api.middleware import access_log
from api.middleware.access_log import AccessLog
from api.middleware.request_context import BindRequestContext, Proxies
from db.core import logs
logs.configure(sys.argv[1], "json")
app = falcon.App(middleware=[BindRequestContext(Proxies(), spans=False), AccessLog(lambda _path: None, None)])
if sys.argv[2] == "together":
    access_log.start()
for number in range(2):
    falcon.testing.TestClient(app).simulate_get("/nothing", headers={"X-Request-ID": f"r-{number}"})
access_log.flush()
"""

    def written(level: str, how: str) -> list[dict[str, object]]:
        environment = os.environ | {"PROCESS_NAME": "web.1"}
        output = subprocess.check_output(
            [sys.executable, "-c", code, level, how], cwd=root, env=environment, text=True
        )
        return [json.loads(line) for line in output.splitlines()]

    return written


def test_lines_that_are_written_together_are_the_same_lines(json_lines):
    together, alone = json_lines("INFO", "together"), json_lines("INFO", "alone")
    assert [line["request_id"] for line in together] == ["r-0", "r-1"]
    for ours, theirs in zip(together, alone, strict=True):
        assert ours.keys() == theirs.keys()
        changing = ("timestamp", "ms")
        assert {name: ours[name] for name in ours if name not in changing} == {
            name: theirs[name] for name in theirs if name not in changing
        }


def test_a_level_above_info_writes_none(json_lines):
    assert json_lines("WARNING", "together") == []
